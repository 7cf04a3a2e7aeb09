"""Matrices and curves."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps

from .picture import Picture, array, new_figure, table_of


def plot_matrix(
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
    table = table_of(matrix, "A matrix to draw")
    cell = min(0.5 if numbers else 0.35, 7 / max(table.shape))
    figure = new_figure(max(2.5, table.shape[1] * cell) + 1.2, max(1.2, table.shape[0] * cell) + (0.4 if title else 0))
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
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
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


def plot_curves(
    x, curves: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, log: bool = False, alt: str | None = None
) -> Picture:
    """x: (n,), curves: name -> (n,) numbers -> lines over one axis.

    Several runs, name -> (n, runs), become a line through their medians, with bars from the lowest to the highest.
    `log`: x is logarithmic, with a tick at each point, and y begins at 0 or below.
    """
    x = array(x).astype(float)
    figure = new_figure(6.4, 3.6)
    axes = figure.add_subplot()
    facts, runs = [], 1
    for number, (name, y) in enumerate(curves.items()):
        y = array(y).astype(float)
        if y.shape[:1] != x.shape or y.ndim > 2:
            raise ValueError(f"The curve {name!r} has shape {y.shape} and x has {x.size} points; give one each.")
        y = y.reshape(x.size, -1)  # (n, runs)
        middle, runs = np.median(y, axis=1), max(runs, y.shape[1])
        colour = colormaps["viridis"](0.85 * number / max(1, len(curves) - 1))
        marker = "osD^v"[number % 5] if x.size <= 30 else None
        axes.plot(x, middle, label=name, color=colour, linewidth=2, marker=marker, markersize=5)
        if y.shape[1] > 1:
            spread = [middle - y.min(axis=1), y.max(axis=1) - middle]
            axes.errorbar(x, middle, spread, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3)
        facts.append(f"{name} from {middle[0]:.3g} to {middle[-1]:.3g}")
    if log:
        axes.set_xscale("log")
        if x.size <= 12:  # the points that were measured, not powers of ten
            axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.minorticks_off()
        axes.set_ylim(bottom=min(0, axes.dataLim.y0))
    elif x.size <= 12 and (x == x.round()).all() and np.ptp(np.diff(x)) == 0:  # layers, blocks: nothing is between them
        axes.set_xticks(x)
    axes.set_xlabel(xlabel, fontsize=10)
    axes.set_ylabel(ylabel, fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)
    span = f"{xlabel} from {x[0]:g} to {x[-1]:g}{' (logarithmic)' if log else ''}"
    of_runs = f", medians of {runs} runs" if runs > 1 else ""
    return Picture(figure, alt or f"{ylabel} over {span}{of_runs}: {'; '.join(facts)}.")


def live_curve(every: float = 2.0) -> Callable:
    """For training.fit(..., on_report=plots.live_curve()): the loss so far, drawn again in its place while training.

    At most once in `every` seconds, and at the end.
    """
    shown, last = None, 0.0

    def draw(history) -> None:
        nonlocal shown, last
        over = history.finished or history.interrupted
        if len(history.rows) < 2 or (time.monotonic() - last < every and not over):
            return
        from IPython.display import display

        last = time.monotonic()
        steps, losses = zip(*((row["step"], row["loss"]) for row in history.rows))
        picture = plot_curves(steps, {"loss": losses}, xlabel="step", ylabel="loss")
        if shown is None:
            shown = display(picture, display_id=True)
        else:
            shown.update(picture)

    return draw
