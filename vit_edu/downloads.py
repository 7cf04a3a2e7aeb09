"""Fetch a published file once, whatever the host does; and torchvision's sets made of such files.

pooch and torchvision verify what they download, but neither resumes: a connection lost at 160 of CIFAR-10's 170 MB
starts again at zero, from a host that gives 50 kB/s on its bad days. Hence `fetch`.
"""

import hashlib
import http.client
import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vit_edu import resources

TIMEOUT = 20.0  # seconds for a connection, and for a silence in the middle
CHUNK = 1 << 16


class DownloadError(OSError):
    """No mirror gave the file; the message is one sentence for the learner."""


def fetch(urls: list[str], filename: str, checksum: str, timeout: float = TIMEOUT) -> Path:
    """The file `filename` in the cache folder, downloaded from the first of `urls` that gives it.

    `checksum` is "md5:…" or "sha256:…" in hex, or its first digits, at least 8; a file that does not match is never
    returned. A partial download is kept and resumed, by the next call as well; a lock lets one process at a time write
    it. `timeout` is for a connection and for a silence in the middle, in seconds. Raises DownloadError when no mirror
    helps.
    """
    from filelock import FileLock

    target = resources.cache_dir() / filename
    part = target.with_name(target.name + ".part")
    reasons = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if matches(target, checksum):
                return target
            for url in urls:
                reason = _fetch_from(url, part, checksum, timeout)
                if reason is None:
                    os.replace(part, target)
                    return target
                reasons.append(f"{url.split('/')[2]} {reason}")
    except OSError as error:  # no space, no permission: another mirror would not help
        reasons.append(f"{error.filename or target}: {error.strerror or error}")
    raise DownloadError(f"{filename} could not be fetched ({'; '.join(reasons)})")


def matches(path: Path, checksum: str) -> bool:
    """Whether the file exists and has the checksum "algorithm:hex", or one that begins so."""
    algorithm, wanted = checksum.split(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return len(wanted) >= 8 and digest.hexdigest().startswith(wanted)


def _fetch_from(url: str, part: Path, checksum: str, timeout: float) -> str | None:
    """Fill `part` from one mirror. None once its checksum is right, else why this mirror is given up."""
    best, restarted = _size(part), False
    while True:
        had = _size(part)
        try:
            whole = _continue(url, part, timeout)
            reason = "sent a wrong file" if whole else "broke off"
        except urllib.error.HTTPError as error:
            whole = error.code == 416  # nothing follows what we have
            reason = f"answered {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            timed_out = isinstance(cause, TimeoutError)
            reason = "did not answer in time" if timed_out else getattr(cause, "strerror", None) or str(cause)
            whole = False
        if matches(part, checksum):
            return None
        if whole:
            part.unlink(missing_ok=True)
            if had == 0 or restarted:
                return reason
            best, restarted = 0, True  # what we had may not have been its beginning: once more from the start
        elif _size(part) <= best:
            return reason  # a mirror is asked again only as long as each time brings something
        else:
            best = _size(part)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continue(url: str, part: Path, timeout: float) -> bool:
    """Append to `part` what it lacks, or start again where the server does not continue. True at its end."""
    from tqdm.auto import tqdm

    have = _size(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": "vit-edu"} | ({"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
        if not (answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")):
            have = 0
        total = None if answer.length is None else have + answer.length
        bar = tqdm(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, leave=False)
        with bar, open(part, "ab" if have else "wb") as file:
            while block := answer.read1(CHUNK):  # read1: what has arrived is kept, even if the connection is lost next
                file.write(block)
                bar.update(len(block))
            return total is None or file.tell() >= total


class OnRequest(NamedTuple):
    """One of torchvision's sets: how it is called, which splits and size it has, how to get it and how to open it."""

    title: str
    splits: tuple[str, ...]
    img_size: int
    bundled: str  # what a lesson goes on with when the set cannot be had
    files: Callable[[], list[tuple[list[str], str, str]]]  # urls, filename, checksum
    open: Callable[[Path, str], object]  # folder with the unpacked files, split -> torchvision dataset


# Mirrors hold the same files; addresses and checksums of the originals stand in torchvision.
BAIDU, PADDLE = "https://dataset.bj.bcebos.com", "https://paddlemodels.bj.bcebos.com"


def _cifar10_files():
    from torchvision.datasets import CIFAR10

    name = CIFAR10.filename
    return [([CIFAR10.url, f"{BAIDU}/cifar/{name}"], f"cifar10/{name}", f"md5:{CIFAR10.tgz_md5}")]


def _flowers_files():
    from torchvision.datasets import Flowers102

    prefix = Flowers102._download_url_prefix
    files = Flowers102._file_dict.values()
    return [([prefix + name, f"{PADDLE}/flowers/{name}"], f"flowers-102/{name}", f"md5:{md5}") for name, md5 in files]


def _pets_files():
    from torchvision.datasets import OxfordIIITPet

    return [([url], f"oxford-iiit-pet/{url.rsplit('/', 1)[1]}", f"md5:{md5}") for url, md5 in OxfordIIITPet._RESOURCES]


def _fashion_files():
    from torchvision.datasets import FashionMNIST

    files, hosts = FashionMNIST.resources, FashionMNIST.mirrors
    return [([host + name for host in hosts], f"FashionMNIST/raw/{name}", f"md5:{md5}") for name, md5 in files]


def _open_cifar10(folder, split):
    from torchvision.datasets import CIFAR10

    return CIFAR10(folder / "cifar10", train=split == "train")


def _open_flowers(folder, split):
    from torchvision.datasets import Flowers102

    return Flowers102(folder, split=split)


def _open_pets(folder, split):
    from torchvision.datasets import OxfordIIITPet

    return OxfordIIITPet(folder, split="trainval" if split == "train" else "test")


def _open_fashion(folder, split):
    from torchvision.datasets import FashionMNIST

    return FashionMNIST(folder, train=split == "train")


SETS = {
    "cifar10": OnRequest("CIFAR-10", ("train", "test"), 32, "emoji", _cifar10_files, _open_cifar10),
    "flowers102": OnRequest("Flowers-102", ("train", "val", "test"), 224, "emoji", _flowers_files, _open_flowers),
    "pets": OnRequest("Oxford-IIIT Pet", ("train", "test"), 224, "emoji", _pets_files, _open_pets),
    "fashion-full": OnRequest("Fashion-MNIST", ("train", "test"), 28, "fashion", _fashion_files, _open_fashion),
}


def read(name: str, split: str, img_size: int) -> tuple[np.ndarray, list[int], list[str]]:
    """Images uint8 (N, C, img_size, img_size), labels and classes of a set on request.

    The images lie in one file in the cache and are mapped, not read: a batch costs what it holds. The first call
    downloads, decodes, resizes (shorter side, then centre) and writes that file. Raises DownloadError.
    """
    from filelock import FileLock

    stem = resources.cache_dir() / f"{name}-{split}-{img_size}"
    array, facts = Path(f"{stem}.npy"), Path(f"{stem}.json")
    if not (facts.exists() and array.exists()):  # facts are written last
        if name == "flowers102" and find_spec("scipy") is None:  # before 340 MB are fetched
            raise DownloadError("its labels are read with scipy, which is not installed (pip install scipy)")
        paths = [fetch(*file) for file in SETS[name].files()]
        with FileLock(f"{stem}.lock"):
            if not (facts.exists() and array.exists()):
                try:
                    _prepare(SETS[name], split, img_size, paths, array, facts)
                except OSError as error:  # most often no space
                    raise DownloadError(f"it could not be unpacked into {stem.parent} ({error})") from error
    told = json.loads(facts.read_text())
    return np.load(array, mmap_mode="c"), told["labels"], told["classes"]


def _prepare(which: OnRequest, split: str, img_size: int, paths: list[Path], array: Path, facts: Path) -> None:
    from PIL import ImageOps
    from torchvision.datasets.utils import extract_archive
    from tqdm.auto import tqdm

    cache = resources.cache_dir()
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        for path in paths:  # unpacked beside the array and thrown away, so that no half-unpacked folder is ever read
            folder = Path(scratch) / path.relative_to(cache).parent
            folder.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".mat":
                (folder / path.name).write_bytes(path.read_bytes())
            else:
                extract_archive(str(path), str(folder))
        pictures = which.open(Path(scratch), split)
        channels = len(pictures[0][0].getbands())
        draft, labels, size = Path(scratch) / "images.npy", [], (img_size, img_size)
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(pictures), channels, *size)}
        bar = tqdm(pictures, desc=f"{which.title}, decoded once", leave=False, total=len(pictures))
        with open(draft, "wb") as file:  # written, not mapped: on a full disk a map kills the process
            np.lib.format.write_array_header_1_0(file, header)
            for picture, label in bar:
                square = picture if picture.size == size else ImageOps.fit(picture, size)
                file.write(np.asarray(square).reshape(*size, channels).transpose(2, 0, 1).tobytes())
                labels.append(int(label))
        os.replace(draft, array)
        (Path(scratch) / "facts.json").write_text(json.dumps({"labels": labels, "classes": list(pictures.classes)}))
        os.replace(Path(scratch) / "facts.json", facts)
