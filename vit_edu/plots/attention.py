"""Where attention looks, and what position embeddings are like."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from .picture import Picture, draw_image, mosaic, new_figure, pixels, table_of


def plot_attention(image, weights, grid_size: tuple[int, int], queries: Sequence[int]) -> Picture:
    """image (C, H, W), weights (N, N), N = rows * columns -> for each query patch the image, lit where the patch looks.

    Brightness is the weight over the query's largest weight; the frame is the query itself.
    """
    picture, table = pixels(image), table_of(weights, "Attention weights")
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
    figure = new_figure(across * side, down * (side * picture.shape[0] / picture.shape[1] + 0.4))
    facts = []
    for number, query in enumerate(queries):
        axes = figure.add_subplot(down, across, number + 1)
        target, (y, x) = int(table[query].argmax()), divmod(query, columns)
        light = (table[query] / table[query].max()).reshape(rows, columns)[ys][:, xs, None]
        draw_image(axes, picture * (0.12 + 0.88 * light), f"asks: patch {query}")
        corner = (x * width - 0.5, y * height - 0.5)
        frame = Rectangle(corner, width, height, fill=False, edgecolor="white", linewidth=1.8, clip_on=False)
        frame.set_path_effects([withStroke(linewidth=4, foreground="black")])  # white on black shows on any colour
        axes.add_patch(frame)
        facts.append(f"patch {query} looks most at patch {target} (weight {table[query, target]:.2f})")
    return Picture(figure, f"Where {len(queries)} of {size} patches look: {'; '.join(facts)}.")


def plot_positions(pos_embed, grid_size: tuple[int, int]) -> Picture:
    """pos_embed: (N, D) or (1, N, D), N = rows * columns -> for each place a map: its cosine similarity to every place.

    The picture in the middle of ViT's figure 7.
    """
    table = table_of(pos_embed[0] if np.ndim(pos_embed) == 3 else pos_embed, "A table of position embeddings")
    rows, columns = grid_size
    if len(table) != rows * columns:
        raise ValueError(
            f"A grid of {rows} x {columns} has {rows * columns} places and the table has {len(table)} rows; "
            "leave the class token's row out."
        )
    unit = table / np.linalg.norm(table, axis=1, keepdims=True).clip(1e-12)
    maps = (unit @ unit.T).reshape(-1, rows, columns)
    figure = new_figure(6.2, 5.4 * rows / columns)
    axes = figure.add_subplot()
    shown = axes.imshow(mosaic(maps, columns, 1, np.nan), cmap="cividis", interpolation="nearest")
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
