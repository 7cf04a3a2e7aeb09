"""The bundled data: as the cards say, verified, and found in a checkout and in an installed wheel alike."""

import csv
import hashlib
import re
import runpy
import shutil
from importlib.util import find_spec
from pathlib import Path

import PIL
import pytest
import torch

from vit_edu import datasets, resources
from vit_edu.datasets import DatasetError, load_dataset

ROOT = Path(__file__).resolve().parents[2]
EMOJI_SPLITS = ("train", "new_style", "new_concepts", "new_both")


@pytest.fixture(scope="module")
def emoji():
    return {split: load_dataset("emoji", split) for split in EMOJI_SPLITS}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A checkout with its own data folder, to damage."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    (tmp_path / ".git").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "vit_edu")
    return tmp_path / "data"


def test_photos():
    photos = load_dataset("photos")
    assert photos.images.shape == (4, 3, 224, 224) and photos.images.dtype == torch.uint8
    assert photos.names == ["cat", "astronaut", "coffee", "rocket"] and photos.alpha is None
    cat = photos.images[photos.names.index("cat")].float()
    assert cat[0].mean() > cat[2].mean()  # ginger: a swap of the channels would turn it
    assert load_dataset("photos", img_size=96).images.shape == (4, 3, 96, 96)


def test_some_of_the_pictures_and_another_device():
    whole = load_dataset("emoji", "new_both", img_size=16)
    part = whole.take(torch.tensor([5, 0, 5]))
    assert part.names == [whole.names[i] for i in (5, 0, 5)] and part.styles == [whole.styles[i] for i in (5, 0, 5)]
    assert torch.equal(part.images, whole.images[[5, 0, 5]]) and torch.equal(part.alpha, whole.alpha[[5, 0, 5]])
    assert torch.equal(part.labels, whole.labels[[5, 0, 5]]) and part.classes == whole.classes
    mask = whole.labels == 3
    assert whole.take(mask).names == [name for name, taken in zip(whole.names, mask) if taken]
    away = part.to("meta")
    assert {x.device.type for x in (away.images, away.labels, away.alpha)} == {"meta"} and away.names == part.names
    grey = load_dataset("fashion", "test").take(torch.tensor([3])).to("cpu")
    assert grey.alpha is None and grey.styles is None and len(grey) == 1


def test_fashion_is_balanced_in_every_slice():
    for split, size in (("train", 9000), ("test", 2000)):
        fashion = load_dataset("fashion", split)
        assert fashion.images.shape == (size, 1, 28, 28) and fashion.labels.dtype == torch.int64
        assert fashion.labels[:100].bincount().tolist() == [10] * 10
        assert fashion.names[1] == "Trouser" and len(fashion.classes) == 10
        assert len({image.numpy().tobytes() for image in fashion.images}) > 0.99 * size
    sneakers, trousers = (fashion.images[fashion.labels == c].float() for c in (7, 1))
    assert sneakers[:, :, :7].mean() < 5 < sneakers[:, :, 14:21].mean()  # nothing above a sneaker
    assert trousers[..., :5].mean() < 5 < trousers[..., 10:18].mean()  # nothing left of trousers


def test_emoji_splits_share_no_family_and_no_style(emoji):
    with open(ROOT / "data/emoji/concepts.csv", encoding="utf-8") as file:
        family = {row["name"]: (row["group"], row["family"]) for row in csv.DictReader(file)}
    assert len({label for ds in emoji.values() for label in ds.labels.tolist()}) == 8
    families = {split: {family[name] for name in ds.names} for split, ds in emoji.items()}
    styles = {split: set(ds.styles) for split, ds in emoji.items()}
    assert families["train"] == families["new_style"] and families["new_concepts"] == families["new_both"]
    assert not families["train"] & families["new_concepts"]
    assert styles["train"] == styles["new_concepts"] and styles["new_style"] == styles["new_both"] == {"twemoji"}
    assert not styles["train"] & styles["new_style"]


def test_emoji_pictures_are_drawn_and_belong_to_their_names(emoji):
    for ds in emoji.values():
        assert ds.images.shape[1:] == (3, 32, 32) and ds.alpha.shape[1:] == (1, 32, 32)
        assert ds.images.dtype == ds.alpha.dtype == torch.uint8
        assert len(ds.names) == len(ds.styles) == len(ds.labels) == len(ds)
        assert (ds.alpha.flatten(1).float().mean(1) > 5).all()  # none is blank
        assert (ds.images[(ds.alpha == 0).expand_as(ds.images)] == 255).all()
    hearts = {name: i for i, name in enumerate(emoji["train"].names + emoji["new_concepts"].names) if "heart" in name}
    pictures = torch.cat([emoji["train"].images, emoji["new_concepts"].images])
    middle = {
        colour: pictures[hearts[f"{colour} heart"], :, 12:20, 12:20].float().mean((1, 2)) for colour in ("red", "blue")
    }
    assert middle["red"].argmax() == 0 and middle["blue"].argmax() == 2


def test_emoji_over_a_background(emoji):
    ds = emoji["new_both"]
    assert torch.equal(ds.over((255, 255, 255)), ds.images)
    black = ds.over(torch.zeros(len(ds), 3, 1, 1))
    opacity = ds.alpha / 255
    blended = black + 255 * (1 - opacity)  # the black version put over white is the white version
    assert (blended - ds.images).abs().max() <= 1
    assert (ds.over((0, 128, 255))[(ds.alpha == 0).expand_as(ds.images)].unique() == torch.tensor([0, 128, 255])).all()
    with pytest.raises(ValueError, match=r"0\.\.255"):
        ds.over((0, 0, 300))
    with pytest.raises(ValueError, match="no alpha"):
        load_dataset("photos").over((0, 0, 0))


def test_small_emoji_are_means_of_the_large_ones(emoji):
    large = load_dataset("emoji", "new_both", img_size=64)
    mean = torch.nn.functional.avg_pool2d(large.images.float(), 2)
    assert (mean - emoji["new_both"].images).abs().max() <= 0.5
    assert large.names == emoji["new_both"].names


def test_a_dataset_is_what_a_dataloader_wants(emoji):
    loader = torch.utils.data.DataLoader(emoji["new_both"], batch_size=5)
    images, labels = next(iter(loader))
    assert images.shape == (5, 3, 32, 32) and labels.dtype == torch.int64


def test_the_cards_tell_the_sizes(emoji):
    card = (ROOT / "data/emoji/README.md").read_text()
    for split, ds in emoji.items():
        row = re.search(rf"\| `{split}` \|.*\| ([\d,]+) \| ([\d,]+) \|", card)
        assert [int(n.replace(",", "")) for n in row.groups()] == [len(set(ds.names)), len(ds)], split
    card = (ROOT / "data/fashion/README.md").read_text()
    for split in ("train", "test"):
        row = re.search(rf"\| `{split}` \| ([\d,]+) \|", card)
        assert int(row.group(1).replace(",", "")) == len(load_dataset("fashion", split)), split


def test_every_data_file_has_its_checksum_and_stays_small():
    listed = dict(reversed(line.split("  ", 1)) for line in (ROOT / "data/SHA256SUMS").read_text().splitlines())
    sets = [file for name in ("photos", "emoji", "fashion") for file in (ROOT / "data" / name).iterdir()]
    files = [file for file in sets if file.suffix in {".png", ".webp", ".csv"}]
    assert {f"{file.parent.name}/{file.name}" for file in files} <= set(listed)
    for file in files:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == listed[f"{file.parent.name}/{file.name}"], file
    assert sum(file.stat().st_size for file in files) < 14.5e6
    assert datasets.checksum_problems() == []


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_a_damaged_file_gives_one_clear_error(copy, damage):
    file = copy / "fashion/test.png"
    content = bytearray(file.read_bytes())
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[:1000])
    elif damage == "altered":
        content[5000] ^= 1
        file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"data/fashion/test\.png") as error:
        load_dataset("fashion", "test")
    assert "git checkout -- data/fashion/test.png" in str(error.value)
    assert [problem for problem in datasets.checksum_problems() if "fashion/test.png" in problem] == [str(error.value)]
    assert len(load_dataset("photos")) == 4


def test_a_file_that_changes_later_is_noticed(copy):
    load_dataset("photos")
    (copy / "photos/cat.png").write_bytes(b"not a cat")
    with pytest.raises(DatasetError, match=r"photos/cat\.png"):
        load_dataset("photos")


def test_a_wheel_has_its_data_inside_the_package(copy, tmp_path):
    (tmp_path / "vit_edu").mkdir()
    shutil.move(copy, tmp_path / "vit_edu/data")
    assert len(load_dataset("photos")) == 4
    (tmp_path / "vit_edu/data/photos/cat.png").unlink()
    with pytest.raises(DatasetError, match="pip install --force-reinstall"):
        load_dataset("photos")
    (tmp_path / "vit_edu/data/SHA256SUMS").unlink()
    assert "SHA256SUMS is missing" in datasets.checksum_problems()[0]


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("emojis",), "photos, emoji, fashion, cifar10"),
        (("emoji", "test"), "train, new_style, new_concepts, new_both"),
        (("emoji", "train", 48), "16 or 32 or 64, not 48"),
        (("fashion", "train", 32), "28, not 32"),
        (("photos", "train", 0), "at least 1, not 0"),
    ],
)
def test_an_unknown_name_split_or_size_is_told_the_known_ones(arguments, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        load_dataset(*arguments)


def test_photos_are_rebuilt_bit_for_bit(tmp_path):
    if find_spec("skimage") is None:
        pytest.skip("no scikit-image, which holds the photos' originals: make data ARGS=--check installs and compares")
    same_pixels = runpy.run_path(str(ROOT / "data/build.py"))["same_pixels"]
    pinned = f'"pillow=={PIL.__version__}"' in (ROOT / "pyproject.toml").read_text()  # another one packs otherwise
    for file in runpy.run_path(str(ROOT / "data/photos/build.py"))["build"](tmp_path):
        committed = ROOT / "data/photos" / file.name
        assert same_pixels(committed, file), file.name
        assert file.read_bytes() == committed.read_bytes() or not pinned, file.name


def test_twins_are_one_family():
    family = runpy.run_path(str(ROOT / "data/emoji/build.py"))["family"]
    assert family("man red hair") == family("woman white hair") == "hair"
    assert family("twelve o’clock") == family("one-thirty")
    assert family("waxing gibbous moon") == family("full moon") == "moon"
    assert family("kissing face with closed eyes") == family("kissing face")
    assert family("face with monocle") != family("face with medical mask")
    assert family("mermaid") == family("merman")
