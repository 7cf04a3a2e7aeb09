"""torchvision's sets, read from tiny archives that are laid out as the real ones and served on the loopback."""

import errno
import functools
import gzip
import hashlib
import http.server
import io
import struct
import tarfile
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import FashionMNIST, Flowers102, OxfordIIITPet

from vit_edu import downloads, load_dataset

RNG = np.random.default_rng(0)
SQUARE = 48


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path.strip("/"))
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A server of the files in `site.folder`; `site.asked` keeps their names, `site.cache` is where they come to."""
    monkeypatch.setenv("VIT_EDU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "site").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "site"))
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.folder, running.cache, running.asked = tmp_path / "site", tmp_path / "cache", []
    running.url = f"http://127.0.0.1:{running.server_port}/"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def noise(width, height, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8).squeeze()


def plain(colour, width, height):
    return np.full((height, width, 3), colour, dtype=np.uint8)


def encoded(picture, kind="PNG", **options):
    """The bytes of an array or a Pillow image; Pillow goes by content, so a PNG may be called .jpg."""
    file = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(file, kind, **options)
    return file.getvalue()


def pack(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            told = tarfile.TarInfo(name)
            told.size = len(content)
            archive.addfile(told, io.BytesIO(content))


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def flowers(site, monkeypatch):
    """Puts pictures, {number: bytes}, with labels from 1 and the splits on the site."""

    def put(pictures, labels, train, val, test):
        pack(site.folder / "102flowers.tgz", {f"jpg/image_{i:05d}.jpg": content for i, content in pictures.items()})
        savemat(site.folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
        ids = {"trnid": train, "valid": val, "tstid": test}
        savemat(site.folder / "setid.mat", {key: np.array([value], dtype=np.uint16) for key, value in ids.items()})
        names = {"image": "102flowers.tgz", "label": "imagelabels.mat", "setid": "setid.mat"}
        monkeypatch.setattr(Flowers102, "_file_dict", {k: (name, md5(site.folder / name)) for k, name in names.items()})

    monkeypatch.setattr(Flowers102, "_download_url_prefix", site.url)
    monkeypatch.setattr(downloads, "PADDLE", site.url + "mirror")
    return put


@pytest.fixture
def pets(site, monkeypatch):
    """Puts two splits, {name of a picture: (label from 1, bytes)}, on the site."""

    def put(trainval, test):
        everything = (trainval | test).items()
        pack(site.folder / "images.tar.gz", {f"images/{name}.jpg": content for name, (_, content) in everything})
        lists = {"trainval": trainval, "test": test}
        texts = {k: "".join(f"{name} {label} 1 1\n" for name, (label, _) in v.items()) for k, v in lists.items()}
        pack(site.folder / "annotations.tar.gz", {f"annotations/{k}.txt": text.encode() for k, text in texts.items()})
        files = [site.folder / name for name in ("images.tar.gz", "annotations.tar.gz")]
        monkeypatch.setattr(OxfordIIITPet, "_RESOURCES", tuple((site.url + file.name, md5(file)) for file in files))

    return put


@pytest.fixture
def fashion(site, monkeypatch):
    """Puts the four idx files on the site; returns {split: (pictures, labels)}."""
    made = {"train": (noise(28, 28, 5), [9, 0, 3, 3, 1]), "test": (noise(28, 28, 3), [4, 8, 0])}
    made = {split: (pictures.transpose(2, 0, 1), labels) for split, (pictures, labels) in made.items()}
    files = []
    for start, split in {"train": "train", "t10k": "test"}.items():
        pictures, labels = made[split]
        images = struct.pack(">IIII", 2051, len(pictures), 28, 28) + pictures.tobytes()
        for name, content in {
            f"{start}-images-idx3-ubyte.gz": images,
            f"{start}-labels-idx1-ubyte.gz": struct.pack(">II", 2049, len(labels)) + bytes(labels),
        }.items():
            (site.folder / name).write_bytes(gzip.compress(content))
            files.append((name, md5(site.folder / name)))
    monkeypatch.setattr(FashionMNIST, "resources", files)
    monkeypatch.setattr(FashionMNIST, "mirrors", [site.url])
    return made


def same(images, pictures):
    """Whether the dataset's images are these arrays (H, W, 3), value for value."""
    return np.array_equal(images.numpy(), np.stack(pictures).transpose(0, 3, 1, 2))


def test_flowers_have_the_labels_and_pixels_of_their_files(site, flowers):
    pictures = {i: noise(SQUARE, SQUARE) for i in range(1, 8)}
    labels = [102, 1, 7, 3, 50, 2, 1]  # of pictures 1 to 7, counted from 1
    splits = {"train": [5, 1], "val": [2, 6], "test": [7, 3, 4]}
    flowers({i: encoded(picture) for i, picture in pictures.items()}, labels, **splits)
    for split, ids in splits.items():
        ds = load_dataset("flowers102", split, SQUARE)
        assert same(ds.images, [pictures[i] for i in ids])
        assert ds.images.dtype == torch.uint8 and ds.labels.dtype == torch.int64 and ds.alpha is None
        assert ds.labels.tolist() == [labels[i - 1] - 1 for i in ids]
        assert ds.classes == list(Flowers102.classes) and len(ds.classes) == 102
    assert load_dataset("flowers102", "val", SQUARE).names == ["pink primrose", "hard-leaved pocket orchid"]
    assert load_dataset("flowers102", "train", SQUARE).names[1] == "blackberry lily"
    assert sorted(site.asked) == ["102flowers.tgz", "imagelabels.mat", "setid.mat"]  # once for the three splits


def test_pets_have_the_labels_and_pixels_of_their_files(site, pets):
    names = {"Abyssinian": 1, "american_pit_bull_terrier": 2, "shiba_inu": 3}
    pictures = {f"{name}_{i}": (label, noise(SQUARE, SQUARE)) for i in (9, 10) for name, label in names.items()}
    parts = {  # the second has no order by label
        "train": ["Abyssinian_10", "american_pit_bull_terrier_9", "shiba_inu_10"],
        "test": ["shiba_inu_9", "Abyssinian_9", "american_pit_bull_terrier_10"],
    }
    pets(*({n: (pictures[n][0], encoded(pictures[n][1])) for n in part} for part in parts.values()))
    for split, labels in {"train": [0, 1, 2], "test": [2, 0, 1]}.items():
        ds = load_dataset("pets", split, SQUARE)
        assert same(ds.images, [pictures[n][1] for n in parts[split]])
        assert ds.labels.tolist() == labels and ds.alpha is None
        assert ds.classes == ["Abyssinian", "American Pit Bull Terrier", "Shiba Inu"]
        assert ds.names == [ds.classes[label] for label in labels]
    assert sorted(site.asked) == ["annotations.tar.gz", "images.tar.gz"]


def test_fashion_is_grey_and_has_the_labels_of_its_files(site, fashion):
    for split, (pictures, labels) in fashion.items():
        ds = load_dataset("fashion-full", split)
        assert ds.images.shape == (len(labels), 1, 28, 28) and ds.images.dtype == torch.uint8
        assert np.array_equal(ds.images[:, 0].numpy(), pictures) and ds.labels.tolist() == labels
        assert ds.classes == load_dataset("fashion", split).classes
        assert ds.names == [ds.classes[label] for label in labels]
    assert sorted(site.asked) == sorted(name for name, _ in FashionMNIST.resources)


@pytest.mark.parametrize("name", ["flowers102", "pets"])
def test_pictures_are_224_large_unless_asked_otherwise(name, flowers, pets):
    colours = [(200, 10, 30), (0, 90, 255)]
    contents = [encoded(plain(colours[0], 30, 20)), encoded(plain(colours[1], 300, 500))]
    flowers(dict(enumerate(contents, 1)), [1, 2], [1, 2], [1, 2], [1, 2])
    pets({"Abyssinian_1": (1, contents[0]), "beagle_1": (2, contents[1])}, {})
    for size, asked in {224: None, 32: 32}.items():
        ds = load_dataset(name, "train", asked)
        assert same(ds.images, [plain(colour, size, size) for colour in colours])


def test_pictures_that_are_not_square_keep_their_middle(pets):
    wide, high, large = noise(SQUARE * 2, SQUARE), noise(SQUARE, SQUARE + 10), noise(SQUARE * 4, SQUARE * 2)
    large[:, : SQUARE - 8], large[:, SQUARE - 8 : -SQUARE + 8], large[:, -SQUARE + 8 :] = 0, 120, 255
    pets({f"pug_{i}": (1, encoded(picture)) for i, picture in enumerate([wide, high, large])}, {})
    images = load_dataset("pets", img_size=SQUARE).images
    assert same(images[:2], [wide[:, SQUARE // 2 : -SQUARE // 2], high[5:-5]])
    assert (images[2] == 120).all()  # halved, it is as high as asked; its middle is all grey


MODES = [("RGB", "PNG"), ("L", "PNG"), ("P", "GIF"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("1", "PNG")]
MODES += [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG")]


@pytest.mark.parametrize("modes", [MODES, MODES[::-1], MODES[1:]], ids=["colour first", "cmyk first", "grey first"])
@pytest.mark.parametrize("name", ["flowers102", "pets"])
def test_pictures_of_every_mode_become_rgb(name, modes, flowers, pets):
    ramp = np.linspace(0, 255, SQUARE).astype(np.uint8)  # smooth, so that JPEG keeps it
    colour = Image.fromarray(np.dstack(np.broadcast_arrays(ramp[None], ramp[:, None], np.uint8(90))))
    pictures = [colour.convert(mode) for mode, _ in modes]
    for picture in pictures:
        if picture.mode in ("RGBA", "LA"):
            picture.putalpha(colour.getchannel("G"))
    contents = {i: encoded(picture, kind) for i, (picture, (_, kind)) in enumerate(zip(pictures, modes), 1)}
    flowers(contents, list(contents), *[list(contents)] * 3)
    pets({f"pug_{i}": (1, content) for i, content in contents.items()}, {})  # .jpg by name, as in Oxford's archive
    images = load_dataset(name, "train", SQUARE).images
    assert images.shape == (len(modes), 3, SQUARE, SQUARE)
    for image, picture, mode in zip(images, pictures, modes):
        off = np.abs(image.permute(1, 2, 0).numpy() - np.asarray(picture.convert("RGB"), dtype=int))
        assert off.mean() < 4 if mode[1] == "JPEG" else off.max() == 0, mode


def test_the_second_load_reads_the_cache_alone(site, fashion, monkeypatch):
    first = load_dataset("fashion-full", "test")
    assert sorted(path.name for path in site.cache.iterdir() if path.suffix != ".lock") == [
        "FashionMNIST",
        "fashion-full-test-28.json",
        "fashion-full-test-28.npy",
    ]
    for path in (site.cache / "FashionMNIST/raw").iterdir():
        path.unlink()
    monkeypatch.setattr(downloads, "_prepare", lambda *_: pytest.fail("unpacked again"))
    second = load_dataset("fashion-full", "test")
    assert len(site.asked) == 4
    assert torch.equal(second.images, first.images) and torch.equal(second.labels, first.labels)
    assert (second.names, second.classes) == (first.names, first.classes)


def test_without_its_array_a_set_is_unpacked_again(site, fashion):
    load_dataset("fashion-full", "test")
    (site.cache / "fashion-full-test-28.npy").unlink()
    assert np.array_equal(load_dataset("fashion-full", "test").images[:, 0].numpy(), fashion["test"][0])
    assert len(site.asked) == 4


def test_scipy_is_needed_for_flowers_only_while_they_are_unpacked(site, flowers, monkeypatch, capsys):
    flowers({i: encoded(noise(SQUARE, SQUARE)) for i in (1, 2)}, [3, 4], [1, 2], [1, 2], [1, 2])
    with monkeypatch.context() as patched:
        patched.setattr(downloads, "find_spec", lambda _: None)
        assert load_dataset("flowers102", "val", 32).alpha is not None  # emoji
        assert "pip install scipy" in capsys.readouterr().out and not site.asked
    load_dataset("flowers102", "val", 32)
    monkeypatch.setattr(downloads, "find_spec", lambda _: None)
    assert load_dataset("flowers102", "val", 32).labels.tolist() == [2, 3]


def test_a_full_disk_costs_one_sentence_and_leaves_no_half(site, fashion, monkeypatch, capsys):
    def full(self, index):
        if index == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return Image.fromarray(noise(28, 28, 1)), 0

    monkeypatch.setattr(FashionMNIST, "__getitem__", full)
    ds = load_dataset("fashion-full", "test")
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "No space left" in printed and "'fashion'" in printed
    assert ds.images.shape == load_dataset("fashion", "test").images.shape
    assert [path.name for path in site.cache.iterdir() if path.suffix != ".lock"] == ["FashionMNIST"]


@pytest.mark.parametrize("name, split", [("pets", "val"), ("pets", "trainval"), ("fashion-full", "val")])
def test_a_split_that_does_not_exist_is_named_before_anything_is_fetched(name, split, monkeypatch):
    monkeypatch.setattr(downloads, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(ValueError, match=f"'{name}' has no split '{split}'"):
        load_dataset(name, split)
