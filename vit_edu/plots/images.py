"""Images, patches and sequences of patches."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from .picture import Picture, all_pixels, draw_image, mosaic, new_figure, pixels, sizes


def plot_images(images, titles: Sequence[str] | None = None, columns: int = 8, alt: str | None = None) -> Picture:
    """images: (N, C, H, W), (C, H, W), or a list of (C, H, W) in any sizes -> the pictures in rows of `columns`."""
    if torch.is_tensor(images) and images.dim() == 3:
        images = images[None]
    pictures = all_pixels(images, "images")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"There are {len(pictures)} images and {len(titles)} titles; give one title per image.")
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    side = min(2.6, 9 / columns)
    figure = new_figure(columns * side, rows * (side + (0.3 if titles else 0)))
    for number, picture in enumerate(pictures):
        axes = figure.add_subplot(rows, columns, number + 1)
        draw_image(axes, picture, titles[number] if titles else None)
    if alt is None:
        named = ": " + ", ".join(titles) if titles else ""
        alt = f"{len(pictures)} picture{'s' * (len(pictures) > 1)} of {sizes(pictures)}{named}."
    return Picture(figure, alt)


def plot_patch_grid(image, patch_size: int) -> Picture:
    """image: (C, H, W) -> the picture, and beside it its patches laid apart, numbered in the order of the sequence."""
    picture = pixels(image)
    height, width = picture.shape[:2]
    if height % patch_size or width % patch_size:
        raise ValueError(f"Patches of {patch_size} do not fill {height} x {width}; choose a size that divides both.")
    rows, columns = height // patch_size, width // patch_size
    corners = [(y, x) for y in range(0, height, patch_size) for x in range(0, width, patch_size)]
    tiles = [picture[y : y + patch_size, x : x + patch_size] for y, x in corners]
    gap = max(1, patch_size // 6)
    figure = new_figure(8.6, 4.3 * rows / columns + 0.3)
    whole, apart = figure.subplots(1, 2)
    draw_image(whole, picture, f"{height} × {width} pixels")
    draw_image(apart, mosaic(tiles, columns, gap), f"{rows} × {columns} = {rows * columns} patches")
    if len(tiles) <= 64:
        box = {"facecolor": "black", "pad": 1, "lw": 0}
        for number in range(len(tiles)):
            y, x = (place * (patch_size + gap) + patch_size * 0.08 for place in divmod(number, columns))
            apart.text(x, y, number, fontsize=7, va="top", color="white", bbox=box)
    alt = (
        f"A picture of {height} by {width} pixels; beside it the same cut into {rows} rows of {columns} patches of "
        f"{patch_size} by {patch_size} pixels: {rows * columns} patches, numbered from the top left, row by row."
    )
    return Picture(figure, alt)


def plot_sequence(patches, columns: int = 14, names: Sequence[str] | None = None, alt: str | None = None) -> Picture:
    """patches: (N, C, p, p), small images -> a row of tokens, wrapped after `columns`, each with its place or name."""
    tiles = all_pixels(patches, "patches")
    if len({tile.shape for tile in tiles}) != 1:
        raise ValueError(f"The patches of a sequence have one size; these have {sizes(tiles)}.")
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles[0].shape[:2]
    gap = max(1, width // 5)
    labels = [str(place) for place in range(len(tiles))] if names is None else list(names)
    cell = min(0.8, 9 / columns)
    figure = new_figure(columns * cell, rows * (cell + 0.2))
    for row in range(rows):
        axes = figure.add_subplot(rows, 1, row + 1)
        part = tiles[row * columns : (row + 1) * columns]
        blank = [np.ones_like(tiles[0])] * (columns - len(part))
        draw_image(axes, mosaic(part + blank, columns, gap))
        for place, label in enumerate(labels[row * columns : (row + 1) * columns]):
            axes.text(place * (width + gap) + width / 2, height * 1.08, label, fontsize=8, ha="center", va="top")
    return Picture(figure, alt or f"A sequence of {len(tiles)} patches of {height} by {width} pixels, numbered from 0.")
