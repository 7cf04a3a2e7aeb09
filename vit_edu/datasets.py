"""One function gives images and labels as tensors: `load_dataset`. What is bundled is told in data/*/README.md."""

import csv
import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from vit_edu import downloads, resources

BUNDLED = {  # name: (splits, img_size)
    "photos": (("train",), 224),
    "emoji": (("train", "new_style", "new_concepts", "new_both"), 32),
    "fashion": (("train", "test"), 28),
}
FASHION_CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
FASHION_CLASSES += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
EMOJI_SIZE, EMOJI_COLUMNS = 64, 40  # of a picture in a sheet, and of a sheet


class DatasetError(RuntimeError):
    """A bundled file is missing, incomplete or altered; the message names it and says what to do."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures with their labels, all in memory; `len(ds)`, `ds[i] -> (image, label)`, as a DataLoader wants it.

    images: uint8 (N, C, H, W). labels: int64 (N,), indices into `classes`. names: one a picture.
    alpha: uint8 (N, 1, H, W), 255 where a picture covers its background; `images` is then over white. Emoji only.
    styles: one a picture, who drew it. Emoji only.
    """

    images: torch.Tensor
    labels: torch.Tensor
    names: list[str]
    classes: list[str]
    alpha: torch.Tensor | None = None
    styles: list[str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], int(self.labels[index])

    def to(self, device: torch.device | str) -> "Dataset":
        """The same set with its tensors on a device, such as a GPU where it is trained on."""
        alpha = None if self.alpha is None else self.alpha.to(device)
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), alpha=alpha)

    def take(self, indices: torch.Tensor) -> "Dataset":
        """Some of the pictures, by their places (n,) int64, or by a mask (N,) bool."""
        indices = torch.arange(len(self), device=self.images.device)[indices]
        chosen = {"images": self.images[indices], "labels": self.labels[indices]}
        chosen["names"] = [self.names[i] for i in indices.tolist()]
        if self.alpha is not None:
            chosen["alpha"] = self.alpha[indices]
        if self.styles is not None:
            chosen["styles"] = [self.styles[i] for i in indices.tolist()]
        return replace(self, **chosen)

    def over(self, background) -> torch.Tensor:
        """The images over another colour than white: uint8 (N, C, H, W).

        `background` is one colour, (red, green, blue) in 0..255, or a tensor that broadcasts to the images, such as
        one colour each, (N, 3, 1, 1). Over white a pixel is c·a + 255·(1 - a), so over B it is (255 - B)·(1 - a) less.
        """
        if self.alpha is None:
            raise ValueError("These pictures have no alpha, so nothing of a background would be seen; emoji have one.")
        colour = torch.as_tensor(background, dtype=torch.float32)
        colour = colour.view(-1, 1, 1) if colour.dim() == 1 else colour
        if colour.amin() < 0 or colour.amax() > 255:
            raise ValueError(
                f"A background's values lie in 0..255; these reach from {colour.amin():g} to {colour.amax():g}."
            )
        taken = (255 - colour) * ((255 - self.alpha) / 255)
        return (self.images - taken).round_().clamp_(0, 255).to(torch.uint8)


def load_dataset(name: str, split: str = "train", img_size: int | None = None) -> Dataset:
    """The set `name` as tensors.

    Bundled: "photos" (4 photographs, 3 x 224 x 224), "emoji" (3 x 32 x 32, 64 or 16 by `img_size`; splits train,
    new_style, new_concepts, new_both), "fashion" (1 x 28 x 28; train, test).
    Downloaded on request and cached: "cifar10" (32; train, test), "flowers102" (224, or any `img_size`; train, val,
    test), "pets" (the same; train, test), "fashion-full" (28; train, test); where that fails, a sentence is printed and
    a bundled set comes instead.
    Raises ValueError for an unknown name, split or size, DatasetError for a bundled file that is missing or altered.
    """
    known = BUNDLED | {key: (which.splits, which.img_size) for key, which in downloads.SETS.items()}
    if name not in known:
        raise ValueError(f"There is no dataset {name!r}; the known ones are {', '.join(known)}.")
    splits, default = known[name]
    if split not in splits:
        raise ValueError(f"{name!r} has no split {split!r}; it has {', '.join(splits)}.")
    sizes = {"emoji": (16, 32, 64), "fashion": (28,), "fashion-full": (28,), "cifar10": (32,)}.get(name)
    img_size = default if img_size is None else img_size
    if sizes and img_size not in sizes:
        raise ValueError(f"{name!r} comes at img_size {' or '.join(map(str, sizes))}, not {img_size}.")
    if img_size < 1:
        raise ValueError(f"img_size is a number of pixels, at least 1, not {img_size}.")
    if name in BUNDLED:
        return {"photos": _photos, "emoji": _emoji, "fashion": _fashion}[name](split, img_size)
    return _on_request(name, split, img_size)


def checksum_problems() -> list[str]:
    """One sentence for each bundled file that is missing or not as published; empty when all is well."""
    problems = []
    try:
        for item in _checksums():
            try:
                verified(item)
            except DatasetError as error:
                problems.append(str(error))
    except DatasetError as error:
        return [str(error)]
    return problems


def verified(item: str) -> Path:
    """The path of the bundled file `item` ("emoji/noto.webp") once its checksum is right. Raises DatasetError."""
    path, sums = _data() / item, _checksums()
    if item not in sums:
        raise DatasetError(f"data/SHA256SUMS does not list {item}. {_remedy('SHA256SUMS')}")
    if not path.is_file():
        raise DatasetError(f"data/{item} is missing. {_remedy(item)}")
    facts = path.stat()
    if _sha256(path, facts.st_size, facts.st_mtime_ns) != sums[item]:
        raise DatasetError(
            f"data/{item} is incomplete or altered: its checksum is not the published one. " + _remedy(item)
        )
    return path


@cache  # once a process, unless the file changes
def _sha256(path: Path, size: int, mtime: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _data() -> Path:
    try:
        return resources.folder("data")
    except FileNotFoundError as error:
        raise DatasetError(str(error)) from None


def _checksums() -> dict[str, str]:
    path = _data() / "SHA256SUMS"
    if not path.is_file():
        raise DatasetError(f"data/SHA256SUMS is missing. {_remedy('SHA256SUMS')}")
    lines = (line.split("  ", 1) for line in path.read_text().splitlines())
    return {line[1]: line[0] for line in lines if len(line) == 2}


def _remedy(item: str) -> str:
    if (_data().parent / ".git").exists():
        return f"To get it back: git checkout -- data/{item}"
    return "To get it back: pip install --force-reinstall --no-deps vit-edu"


def _picture(item: str, mode: str) -> np.ndarray:
    from PIL import Image

    with Image.open(verified(item)) as image:
        return np.asarray(image.convert(mode))


def _photos(split: str, img_size: int) -> Dataset:
    from PIL import Image

    names = ["cat", "astronaut", "coffee", "rocket"]
    pictures = [_picture(f"photos/{name}.png", "RGB") for name in names]
    if img_size != BUNDLED["photos"][1]:
        size = (img_size, img_size)
        pictures = [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BICUBIC)) for p in pictures]
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return Dataset(images, torch.arange(len(names)), names, list(names))


def _fashion(split: str, img_size: int) -> Dataset:
    sheet = _picture(f"fashion/{split}.png", "L")  # each class fills an equal number of rows
    grid = sheet.reshape(sheet.shape[0] // 28, 28, sheet.shape[1] // 28, 28).swapaxes(1, 2)  # row, column, y, x
    by_class = grid.reshape(len(FASHION_CLASSES), -1, 1, 28, 28)
    images = torch.from_numpy(
        by_class.swapaxes(0, 1).reshape(-1, 1, 28, 28)
    )  # dealt out in turn, so any slice is balanced
    labels = torch.arange(len(images)) % len(FASHION_CLASSES)
    return Dataset(images, labels, [FASHION_CLASSES[label] for label in labels], list(FASHION_CLASSES))


def _emoji(split: str, img_size: int) -> Dataset:
    concepts, styles = _table("emoji/concepts.csv"), _table("emoji/styles.csv")
    classes = list(dict.fromkeys(row["group"] for row in concepts))
    concept_away, style_away = {
        "train": ("0", "0"),
        "new_style": ("0", "1"),
        "new_concepts": ("1", "0"),
        "new_both": ("1", "1"),
    }[split]
    chosen = [row["style"] for row in styles if row["held_out"] == style_away]
    found = []  # (place in the sheet, style, picture), sorted: the drawings of one concept stand side by side
    for style in chosen:
        here = [row["held_out"] == concept_away and style not in row["missing"].split() for row in concepts]
        places = [place for place, drawn in enumerate(here) if drawn]
        found += zip(places, [style] * len(places), *_cut(style, places, img_size), strict=True)
    found.sort(key=lambda entry: entry[0])
    return Dataset(
        images=torch.from_numpy(np.stack([entry[2] for entry in found])),
        alpha=torch.from_numpy(np.stack([entry[3] for entry in found])),
        labels=torch.tensor([classes.index(concepts[entry[0]]["group"]) for entry in found]),
        names=[concepts[entry[0]]["name"] for entry in found],
        classes=classes,
        styles=[entry[1] for entry in found],
    )


def _table(item: str) -> list[dict[str, str]]:
    with open(verified(item), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _cut(style: str, places: list[int], img_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The pictures at `places` of a style's sheet, over white (N, 3, s, s), and their alpha (N, 1, s, s), both uint8.

    Smaller sizes are means over squares of pixels, taken over white: a pixel that is half covered counts half.
    """
    from PIL import Image

    with Image.open(verified(f"emoji/{style}.webp")) as image:
        sheet = image.convert("RGBA")
    white = Image.alpha_composite(Image.new("RGBA", sheet.size, "white"), sheet)
    white.putalpha(sheet.getchannel("A"))
    # Means of each channel by itself; on RGBA Pillow would weigh the colours by alpha once more.
    channels = [np.asarray(channel.reduce(EMOJI_SIZE // img_size)) for channel in white.split()]
    tiles = np.stack(channels).reshape(4, -1, img_size, EMOJI_COLUMNS, img_size)  # rgba, row, y, column, x
    tiles = tiles.transpose(1, 3, 0, 2, 4).reshape(-1, 4, img_size, img_size)[places]
    return tiles[:, :3], tiles[:, 3:]


def _on_request(name: str, split: str, img_size: int) -> Dataset:
    which = downloads.SETS[name]
    try:
        images, labels, classes = downloads.read(name, split, img_size)
    except downloads.DownloadError as error:
        stand_in = _stand_in(which.bundled, split, img_size)
        size = " x ".join(map(str, stand_in.images.shape[1:]))
        instead = f"the bundled {which.bundled!r} ({len(stand_in)} pictures, {size})"
        print(f"{which.title} is not at hand: {error}; the lesson goes on with {instead} instead.")
        return stand_in
    return Dataset(torch.from_numpy(images), torch.tensor(labels), [classes[label] for label in labels], classes)


def _stand_in(name: str, split: str, img_size: int) -> Dataset:
    """The bundled set at the size that was asked for, so that the same model takes it; at most 1,000 large pictures."""
    if name == "fashion":
        return load_dataset(name, split)
    split = "train" if split == "train" else "new_concepts"
    if img_size in (16, 32, 64):
        return load_dataset(name, split, img_size)
    whole = load_dataset(name, split, EMOJI_SIZE)
    kept = range(0, len(whole), -(-len(whole) // 1000))

    def resized(pictures: torch.Tensor) -> torch.Tensor:
        size = (img_size, img_size)
        new = torch.nn.functional.interpolate(pictures[list(kept)].float(), size, mode="bilinear", antialias=True)
        return new.round_().to(torch.uint8)

    return Dataset(
        images=resized(whole.images),
        alpha=resized(whole.alpha),
        labels=whole.labels[list(kept)],
        names=[whole.names[i] for i in kept],
        classes=whole.classes,
        styles=[whole.styles[i] for i in kept],
    )
