"""A balanced part of Fashion-MNIST as two sheets: the first 900 (test: 200) pictures of each class, class by class."""

import gzip
import hashlib
import subprocess
import tempfile
from pathlib import Path

PACKAGE = "dataset-fashion-mnist"  # Debian's
SIZE, CLASSES = 28, 10
# file: SHA-256 of what is inside the .gz (Debian packs the same bytes anew)
CONTENTS = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
# sheet: the files' prefix, rows of the sheet for each class, columns
SHEETS = {"train": ("train", 10, 90), "test": ("t10k", 4, 50)}


def build(out: Path, source: Path | None = None) -> list[Path]:
    """Write the sheets into `out`; returns the files. `source` holds the four .gz files, else Debian's package does."""
    if source is not None:
        return sheets(source, out)
    with tempfile.TemporaryDirectory() as scratch:
        fetch = [
            "apt-get",
            "-o",
            "APT::Sandbox::User=root",
            "download",
            PACKAGE,
        ]  # without the option root gets a warning
        subprocess.run(fetch, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        (package,) = Path(scratch).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, scratch], check=True)
        return sheets(Path(scratch) / "usr/share/datasets/fashion-mnist", out)


def sheets(source: Path, out: Path) -> list[Path]:
    import numpy as np
    from PIL import Image

    files = []
    for name, (prefix, rows, columns) in SHEETS.items():
        images = np.frombuffer(unpacked(source / f"{prefix}-images-idx3-ubyte.gz"), np.uint8, offset=16)
        labels = np.frombuffer(unpacked(source / f"{prefix}-labels-idx1-ubyte.gz"), np.uint8, offset=8)
        chosen = np.concatenate([np.flatnonzero(labels == c)[: rows * columns] for c in range(CLASSES)])
        images = images.reshape(-1, SIZE, SIZE)[chosen]
        sheet = images.reshape(CLASSES * rows, columns, SIZE, SIZE).swapaxes(1, 2)  # row, y, column, x
        files.append(out / f"{name}.png")
        Image.fromarray(sheet.reshape(CLASSES * rows * SIZE, columns * SIZE)).save(files[-1], optimize=True)
    return files


def unpacked(path: Path) -> bytes:
    content = gzip.decompress(path.read_bytes())
    if hashlib.sha256(content).hexdigest() != CONTENTS[path.name]:
        raise ValueError(f"{path} is not the published file: the SHA-256 of its content is not {CONTENTS[path.name]}")
    return content
