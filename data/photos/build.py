"""Four photographs out of scikit-image's package, cropped to a square and reduced to 224 pixels."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

SIZE = 224
# name: the file in skimage/data and the square that is kept (left, top, right, bottom)
PHOTOS = {
    "cat": ("chelsea.png", (75, 0, 375, 300)),
    "astronaut": ("astronaut.png", (48, 0, 432, 384)),
    "coffee": ("coffee.png", (85, 0, 485, 400)),
    "rocket": ("rocket.jpg", (150, 0, 577, 427)),
}
SHA256 = {
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
}


def build(out: Path) -> list[Path]:
    """Write the photos into `out`; returns the files. Raises ValueError when scikit-image ships another original."""
    from PIL import Image

    package = find_spec("skimage")  # only its files are read, so nothing of it is imported
    if package is None:
        raise ModuleNotFoundError('scikit-image holds the originals: pip install -e ".[data]"')
    files = []
    for name, (original, square) in PHOTOS.items():
        path = Path(package.origin).parent / "data" / original
        if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[original]:
            raise ValueError(f"{path} is not what the photo {name!r} is made of: its SHA-256 is not {SHA256[original]}")
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=square)
        files.append(out / f"{name}.png")
        small.save(files[-1], optimize=True)
    return files
