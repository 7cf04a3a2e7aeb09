"""From numbers to a table, a plot and a file for machines."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator

OURS = "vit-edu"
PEERS = {  # colour-blind safe (Okabe and Ito), and a shape of its own
    "timm": ("#0072B2", "o"),
    "torchvision": ("#D55E00", "s"),
    "transformers": ("#009E73", "D"),
    "vit-pytorch": ("#CC79A7", "^"),
}
TICKS = [0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16]  # of ratios, so their axis is logarithmic


def title(row: dict) -> str:
    return f"{row['model']}, {row['step']}{', compiled' if row['compiled'] else ''}"


def line(row: dict) -> str:
    """A row as it is printed while the others are still measured."""
    peers = ", ".join(f"{name} {low:.2f} {median:.2f} {high:.2f}" for name, (low, median, high) in row["ratio"].items())
    rate, share = row["images_per_second"][OURS], row["share_of_ceiling"][OURS][1]
    return f"{title(row)}: {rate:.1f} images/s, {share:.0%} of a matrix product's FLOP/s; their time over ours: {peers}"


def write(results: dict, folder: Path) -> list[Path]:
    """models-cpu.md, .png and .json, or models-gpu; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = "models-" + ("gpu" if results["kind"] == "cuda" else "cpu")
    paths = [folder / f"{stem}{suffix}" for suffix in (".md", ".png", ".json")]
    paths[0].write_text(markdown(results, paths[1].name), encoding="utf-8")
    plot(results, paths[1])
    paths[2].write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return paths


def summary(rows: list[dict]) -> str:
    """How often ours is faster (both quartiles above 1), level or slower (both below), and where it is slower."""
    all_ratios = [(*ratio, name, title(row)) for row in rows for name, ratio in row["ratio"].items()]
    faster = sum(low > 1 for low, *_ in all_ratios)
    slower = sorted((median, name, where) for _, median, high, name, where in all_ratios if high < 1)
    level = len(all_ratios) - faster - len(slower)
    told = ": " + ", ".join(f"{ratio:.2f} against {name} ({where})" for ratio, name, where in slower) if slower else ""
    return (
        f"Of {len(all_ratios)} comparisons ours is faster in {faster} (both quartiles above 1), level in {level}, "
        f"slower in {len(slower)}{told}."
    )


def markdown(results: dict, picture: str) -> str:
    rows = results["rows"]
    peers = [name for name in PEERS if any(name in row["ratio"] for row in rows)]
    memory = any(row["peak_memory_mb"] for row in rows)
    head = ["model", "batch", "step", "images/s", "of the ceiling", *peers, *(["peak memory, MB"] if memory else [])]
    lines = [
        f"# Ours beside the others: {results['device']}",
        "",
        "A library's number is its time over ours: above 1 ours is faster. Median of the rounds, quartiles behind it.",
        "",
        summary(rows),
        "",
        f"![{alt_text(rows)}]({picture})",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for row in rows:
        ratios = [row["ratio"].get(name) for name in peers]
        cells = [
            f"{row['model']}, {row['img_size']} px",
            str(row["batch"]),
            row["step"] + (", compiled" if row["compiled"] else ""),
            f"{row['images_per_second'][OURS]:.1f}",
            f"{row['share_of_ceiling'][OURS][1]:.0%}",
            *(f"**{ratio[1]:.2f}** ({ratio[0]:.2f}–{ratio[2]:.2f})" if ratio else "–" for ratio in ratios),
        ]
        if memory:
            cells.append(", ".join(f"{name} {mb:.0f}" for name, mb in row["peak_memory_mb"].items()))
        lines.append("| " + " | ".join(cells) + " |")
    ceilings = [row["ceiling_gflops"][1] for row in rows]
    setting = f"{results['dtype']}, {results['threads']} threads" if results["kind"] == "cpu" else results["dtype"]
    lines += [
        "",
        f"- {results['date']}, commit {results['commit']}, `{results['command']}`; {setting}; "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        + ".",
        f"- {results['rounds']} rounds in one process, in each of them everyone once in random order, after a warm-up. "
        "Same batch, dtype and sizes, nothing dropped; each library's own default attention.",
        "- Forward: eval and inference mode"
        + (", weights in bfloat16" if results["kind"] == "cuda" else "")
        + ". Training: forward, cross entropy (MAE: its own loss), backward, fused AdamW"
        + (", autocast to bfloat16" if results["kind"] == "cuda" else "")
        + ". Compiled: `torch.compile` with its defaults, for everyone.",
        f"- The ceiling is a square matrix product measured in the same rounds: {min(ceilings):.0f} to "
        f"{max(ceilings):.0f} GFLOP/s, medians of the rows. A training step counts as three forwards.",
    ]
    if results["without_compile"]:
        lines.append(f"- Nothing compiled: {results['without_compile']}.")
    return "\n".join(lines) + "\n"


def alt_text(rows: list[dict]) -> str:
    medians = [(ratio[1], f"{name} in {title(row)}") for row in rows for name, ratio in row["ratio"].items()]
    ends = " to ".join(f"{ratio:.2f} ({where})" for ratio, where in (min(medians), max(medians)))
    return f"The table as a plot: a dot for each library's time over ours, a bar for the quartiles, from {ends}"


def plot(results: dict, path: Path) -> None:
    """A line for each row, a dot with a quartile bar for each peer, and the line at 1 where both are equally fast."""
    rows = results["rows"]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.42 * len(rows)), layout="constrained")
    shown = [name for name in PEERS if any(name in row["ratio"] for row in rows)]
    for y, row in enumerate(rows):
        for name, (low, median, high) in row["ratio"].items():
            colour, shape = PEERS[name]
            place = y + (shown.index(name) - (len(shown) - 1) / 2) * 0.17
            axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot(median, place, shape, color=colour, markersize=6)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [title(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("their time / ours: right of 1 ours is faster")
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    for name in shown:
        axes.plot([], [], PEERS[name][1], color=PEERS[name][0], label=name)
    figure.legend(loc="outside upper right", ncols=len(shown), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
