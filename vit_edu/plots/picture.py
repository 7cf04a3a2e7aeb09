"""What every plot is made with: a picture that says in words what it shows, and the ways there."""

import base64
import io
import math
from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from vit_edu.images import image_bytes

LARGEST = 120_000  # bytes of a PNG


class Picture:
    """A figure and the sentence that stands for it. The last line of a cell shows it; `save` writes the PNG."""

    def __init__(self, figure: Figure, alt: str):
        self.figure, self.alt = figure, alt

    @cached_property
    def png(self) -> bytes:
        from PIL import Image

        for dpi in (100, 80, 64):  # notebooks stay small: coarser only where 256 colours are not enough
            drawn, small = io.BytesIO(), io.BytesIO()
            self.figure.savefig(drawn, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.08)
            Image.open(drawn).convert("RGB").quantize(256).save(small, "png", optimize=True)
            if small.tell() <= LARGEST:
                break
        return small.getvalue()

    def save(self, path: str | Path) -> None:
        Path(path).write_bytes(self.png)

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include=None, exclude=None):
        # An <img> of its own: neither JupyterLab 4.6 nor nbconvert's page reads the alt text of an image/png output.
        source = base64.b64encode(self.png).decode()
        html = f'<img alt="{escape(self.alt)}" src="data:image/png;base64,{source}">'
        return {"text/html": html, "image/png": source, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def new_figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), facecolor="white", layout="constrained")


def array(values) -> np.ndarray:
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)


def table_of(values, what: str) -> np.ndarray:
    table = array(values).astype(float)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"{what} has two dimensions, (rows, columns); this has shape {table.shape}.")
    return table


def pixels(image) -> np.ndarray:
    """(C, H, W) or (H, W) -> float (H, W, 3) in 0..1."""
    pixels = image_bytes(image).numpy() / 255
    return np.repeat(pixels, 3 // len(pixels), axis=0).transpose(1, 2, 0)


def all_pixels(images, what: str) -> list[np.ndarray]:
    if not len(images):
        raise ValueError(f"There are no {what} to show; give at least one.")
    return [pixels(image) for image in images]


def mosaic(tiles: Sequence[np.ndarray], columns: int, gap: int, blank: float = 1.0) -> np.ndarray:
    """Tiles (h, w, ...) -> one array with gaps between them: much faster than one axes per tile."""
    height, width, *rest = tiles[0].shape
    rows = math.ceil(len(tiles) / columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *rest), blank)
    for number, tile in enumerate(tiles):
        y, x = number // columns * (height + gap), number % columns * (width + gap)
        canvas[y : y + height, x : x + width] = tile
    return canvas


def draw_image(axes, picture: np.ndarray, title: str | None = None) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=10)


def sizes(pictures: Sequence[np.ndarray]) -> str:
    sizes = sorted({picture.shape[:2] for picture in pictures})
    return " and ".join(f"{height} by {width}" for height, width in sizes) + " pixels"
