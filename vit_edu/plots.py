"""Pictures for the lessons: tensors in, a `Picture` with alt text out. The only file that imports matplotlib.

Images are tensors (C, H, W) with C = 1 or 3, uint8 or float in 0..1; vit_edu/images.py refuses others. Colour maps are
viridis and cividis, which keep their order in grey and for colour-blind eyes; the ground is white, so that a picture
reads the same on a dark page.
"""

import base64
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

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


def show_images(images, titles: Sequence[str] | None = None, columns: int = 8, alt: str | None = None) -> Picture:
    """images: (N, C, H, W), (C, H, W), or a list of (C, H, W) in any sizes -> the pictures in rows of `columns`."""
    if torch.is_tensor(images) and images.dim() == 3:
        images = images[None]
    pictures = _all_pixels(images, "images")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"There are {len(pictures)} images and {len(titles)} titles; give one title per image.")
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    side = min(2.6, 9 / columns)
    figure = _figure(columns * side, rows * (side + (0.3 if titles else 0)))
    for number, picture in enumerate(pictures):
        axes = figure.add_subplot(rows, columns, number + 1)
        _draw(axes, picture, titles[number] if titles else None)
    if alt is None:
        named = ": " + ", ".join(titles) if titles else ""
        alt = f"{len(pictures)} picture{'s' * (len(pictures) > 1)} of {_sizes(pictures)}{named}."
    return Picture(figure, alt)


def show_patch_grid(image, patch_size: int) -> Picture:
    """image: (C, H, W) -> the picture, and beside it its patches laid apart, numbered in the order of the sequence."""
    picture = _pixels(image)
    height, width = picture.shape[:2]
    if height % patch_size or width % patch_size:
        raise ValueError(f"Patches of {patch_size} do not fill {height} x {width}; choose a size that divides both.")
    rows, columns = height // patch_size, width // patch_size
    corners = [(y, x) for y in range(0, height, patch_size) for x in range(0, width, patch_size)]
    tiles = [picture[y : y + patch_size, x : x + patch_size] for y, x in corners]
    gap = max(1, patch_size // 6)
    figure = _figure(8.6, 4.3 * rows / columns + 0.3)
    whole, apart = figure.subplots(1, 2)
    _draw(whole, picture, f"{height} × {width} pixels")
    _draw(apart, _mosaic(tiles, columns, gap), f"{rows} × {columns} = {rows * columns} patches")
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


def show_sequence(patches, columns: int = 14, names: Sequence[str] | None = None, alt: str | None = None) -> Picture:
    """patches: (N, C, p, p), small images -> a row of tokens, wrapped after `columns`, each with its place or name."""
    tiles = _all_pixels(patches, "patches")
    if len({tile.shape for tile in tiles}) != 1:
        raise ValueError(f"The patches of a sequence have one size; these have {_sizes(tiles)}.")
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles[0].shape[:2]
    gap = max(1, width // 5)
    labels = [str(place) for place in range(len(tiles))] if names is None else list(names)
    cell = min(0.8, 9 / columns)
    figure = _figure(columns * cell, rows * (cell + 0.2))
    for row in range(rows):
        axes = figure.add_subplot(rows, 1, row + 1)
        part = tiles[row * columns : (row + 1) * columns]
        blank = [np.ones_like(tiles[0])] * (columns - len(part))
        _draw(axes, _mosaic(part + blank, columns, gap))
        for place, label in enumerate(labels[row * columns : (row + 1) * columns]):
            axes.text(place * (width + gap) + width / 2, height * 1.08, label, fontsize=8, ha="center", va="top")
    return Picture(figure, alt or f"A sequence of {len(tiles)} patches of {height} by {width} pixels, numbered from 0.")


def show_matrix(
    matrix,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    title: str | None = None,
    alt: str | None = None,
    numbers: bool = False,
) -> Picture:
    """matrix: (R, C) -> one coloured cell per number, with a colour bar; `rows` and `columns` name them.

    `numbers` writes each number into its cell, in place of the colour bar.
    """
    table = _table(matrix, "A matrix to draw")
    cell = min(0.5 if numbers else 0.35, 7 / max(table.shape))
    figure = _figure(max(2.5, table.shape[1] * cell) + 1.2, max(1.2, table.shape[0] * cell) + (0.4 if title else 0))
    axes = figure.add_subplot()
    aspect = "auto" if table.shape[0] * 4 < table.shape[1] else "equal"
    shown = axes.imshow(table, cmap="viridis", interpolation="nearest", aspect=aspect)
    if not numbers:
        figure.colorbar(shown, ax=axes, fraction=0.04, pad=0.03).ax.tick_params(labelsize=8)
    for names, size, word, axis in zip((rows, columns), table.shape, ("rows", "columns"), (axes.yaxis, axes.xaxis)):
        if names is not None and len(names) != size:
            raise ValueError(f"The matrix has {size} {word} and {len(names)} names for them; give one name each.")
        if names is not None:
            axis.set_ticks(range(size), names)
    if columns is not None and max(map(len, map(str, columns))) > 4:
        axes.tick_params(axis="x", rotation=40)
    axes.tick_params(labelsize=9)
    if title:
        axes.set_title(title, fontsize=11)
    if numbers:
        for (row, column), value in np.ndenumerate(table):
            colour = "black" if shown.norm(value) > 0.6 else "white"
            axes.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=8, color=colour)
    if alt is None:
        low, high = (np.unravel_index(pick(table), table.shape) for pick in (np.argmin, np.argmax))
        alt = (
            f"{title + ': ' if title else ''}a matrix of {table.shape[0]} rows and {table.shape[1]} columns; "
            f"the smallest number is {table[low]:.3g} (row {low[0]}, column {low[1]}), "
            f"the largest {table[high]:.3g} (row {high[0]}, column {high[1]})."
        )
    return Picture(figure, alt)


def show_attention(image, weights, grid_size: tuple[int, int], queries: Sequence[int]) -> Picture:
    """image (C, H, W), weights (N, N), N = rows * columns -> for each query patch the image, lit where the patch looks.

    Brightness is the weight over the query's largest weight; the frame is the query itself.
    """
    picture, table = _pixels(image), _table(weights, "Attention weights")
    rows, columns = grid_size
    size = rows * columns
    if table.shape != (size, size):
        raise ValueError(
            f"A grid of {rows} x {columns} has {size} patches, so its weights are ({size}, {size}); these are "
            f"{table.shape}. Leave the class token's row and column out, and give one head at a time."
        )
    if unknown := [query for query in queries if not 0 <= query < size]:
        raise ValueError(f"The patches are 0 to {size - 1}; the queries ask for {unknown}.")
    if not len(queries):
        raise ValueError("There are no queries; name the patches to look from, queries=[0] for the first.")
    if dark := [query for query in queries if not table[query].max() > 0]:
        raise ValueError(f"The weights of patches {dark} are nowhere above 0; a row of attention weights sums to 1.")
    height, width = picture.shape[0] / rows, picture.shape[1] / columns
    ys, xs = (
        np.arange(n) * parts // n for n, parts in zip(picture.shape, grid_size)
    )  # pixel -> row, column of its patch
    across = min(4, len(queries))
    down = math.ceil(len(queries) / across)
    side = min(3.0, 9 / across)
    figure = _figure(across * side, down * (side * picture.shape[0] / picture.shape[1] + 0.4))
    facts = []
    for number, query in enumerate(queries):
        axes = figure.add_subplot(down, across, number + 1)
        target, (y, x) = int(table[query].argmax()), divmod(query, columns)
        light = (table[query] / table[query].max()).reshape(rows, columns)[ys][:, xs, None]
        _draw(axes, picture * (0.12 + 0.88 * light), f"asks: patch {query}")
        corner = (x * width - 0.5, y * height - 0.5)
        frame = Rectangle(corner, width, height, fill=False, edgecolor="white", linewidth=1.8, clip_on=False)
        frame.set_path_effects([withStroke(linewidth=4, foreground="black")])  # white on black shows on any colour
        axes.add_patch(frame)
        facts.append(f"patch {query} looks most at patch {target} (weight {table[query, target]:.2f})")
    return Picture(figure, f"Where {len(queries)} of {size} patches look: {'; '.join(facts)}.")


def show_curves(
    x, curves: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, log: bool = False, alt: str | None = None
) -> Picture:
    """x: (n,), curves: name -> (n,) numbers -> lines over one axis.

    `log`: x is logarithmic, with a tick at each point, and y begins at 0.
    """
    x = _array(x).astype(float)
    figure = _figure(6.4, 3.6)
    axes = figure.add_subplot()
    facts = []
    for number, (name, y) in enumerate(curves.items()):
        y = _array(y).astype(float)
        if y.shape != x.shape:
            raise ValueError(f"The curve {name!r} has {y.size} points and x has {x.size}; give one each.")
        colour = colormaps["viridis"](0.85 * number / max(1, len(curves) - 1))
        marker = "osD^v"[number % 5] if x.size <= 30 else None
        axes.plot(x, y, label=name, color=colour, linewidth=2, marker=marker, markersize=5)
        facts.append(f"{name} from {y[0]:.3g} to {y[-1]:.3g}")
    if log:
        axes.set_xscale("log")
        if x.size <= 12:  # the points that were measured, not powers of ten
            axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.minorticks_off()
        axes.set_ylim(bottom=min(0, axes.dataLim.y0))
    axes.set_xlabel(xlabel, fontsize=10)
    axes.set_ylabel(ylabel, fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)
    span = f"{xlabel} from {x[0]:g} to {x[-1]:g}{' (logarithmic)' if log else ''}"
    return Picture(figure, alt or f"{ylabel} over {span}: {'; '.join(facts)}.")


def live_curve(every: float = 2.0) -> Callable:
    """For training.fit(..., on_report=plots.live_curve()): the loss so far, drawn again in its place while training.

    At most once in `every` seconds, and at the end.
    """
    shown, last = None, 0.0

    def draw(history) -> None:
        nonlocal shown, last
        if len(history.rows) < 2 or (time.monotonic() - last < every and not history.finished):
            return
        from IPython.display import display

        last = time.monotonic()
        steps, losses = zip(*((row["step"], row["loss"]) for row in history.rows))
        picture = show_curves(steps, {"loss": losses}, xlabel="step", ylabel="loss")
        if shown is None:
            shown = display(picture, display_id=True)
        else:
            shown.update(picture)

    return draw


def show_positions(pos_embed, grid_size: tuple[int, int]) -> Picture:
    """pos_embed: (N, D) or (1, N, D), N = rows * columns -> for each place a map: its cosine similarity to every place.

    The picture in the middle of ViT's figure 7.
    """
    table = _table(pos_embed[0] if np.ndim(pos_embed) == 3 else pos_embed, "A table of position embeddings")
    rows, columns = grid_size
    if len(table) != rows * columns:
        raise ValueError(
            f"A grid of {rows} x {columns} has {rows * columns} places and the table has {len(table)} rows; "
            "leave the class token's row out."
        )
    unit = table / np.linalg.norm(table, axis=1, keepdims=True).clip(1e-12)
    maps = (unit @ unit.T).reshape(-1, rows, columns)
    figure = _figure(6.2, 5.4 * rows / columns)
    axes = figure.add_subplot()
    shown = axes.imshow(_mosaic(maps, columns, 1, np.nan), cmap="cividis", interpolation="nearest")
    axes.set(xlabel="column of the place", ylabel="row of the place")
    axes.set_xticks((columns + 1) * np.arange(columns) + (columns - 1) / 2, range(columns), fontsize=7)
    axes.set_yticks((rows + 1) * np.arange(rows) + (rows - 1) / 2, range(rows), fontsize=7)
    axes.spines[:].set_visible(False)
    figure.colorbar(shown, ax=axes, fraction=0.04, pad=0.03).set_label("cosine similarity", fontsize=9)
    alt = (
        f"{rows} by {columns} small maps, one for each place of the grid: the similarity of its position embedding to "
        f"that of every place. The top left place: {maps[0, 0, 0]:.2f} with itself, {maps[0, 0, -1]:.2f} with the top "
        f"right, {maps[0, -1, 0]:.2f} with the bottom left, {maps[0, -1, -1]:.2f} with the bottom right."
    )
    return Picture(figure, alt)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), facecolor="white", layout="constrained")


def _array(values) -> np.ndarray:
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)


def _table(values, what: str) -> np.ndarray:
    table = _array(values).astype(float)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"{what} has two dimensions, (rows, columns); this has shape {table.shape}.")
    return table


def _pixels(image) -> np.ndarray:
    """(C, H, W) or (H, W) -> float (H, W, 3) in 0..1."""
    pixels = image_bytes(image).numpy() / 255
    return np.repeat(pixels, 3 // len(pixels), axis=0).transpose(1, 2, 0)


def _all_pixels(images, what: str) -> list[np.ndarray]:
    if not len(images):
        raise ValueError(f"There are no {what} to show; give at least one.")
    return [_pixels(image) for image in images]


def _mosaic(tiles: Sequence[np.ndarray], columns: int, gap: int, blank: float = 1.0) -> np.ndarray:
    """Tiles (h, w, ...) -> one array with gaps between them: much faster than one axes per tile."""
    height, width, *rest = tiles[0].shape
    rows = math.ceil(len(tiles) / columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *rest), blank)
    for number, tile in enumerate(tiles):
        y, x = number // columns * (height + gap), number % columns * (width + gap)
        canvas[y : y + height, x : x + width] = tile
    return canvas


def _draw(axes, picture: np.ndarray, title: str | None = None) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=10)


def _sizes(pictures: Sequence[np.ndarray]) -> str:
    sizes = sorted({picture.shape[:2] for picture in pictures})
    return " and ".join(f"{height} by {width}" for height, width in sizes) + " pixels"
