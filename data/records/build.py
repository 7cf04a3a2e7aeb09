"""The records as tables and pictures: `python data/records/build.py` writes README.md and the pictures here."""

import json
from pathlib import Path

from vit_edu.plots import Picture, plot_curves
from vit_edu.training.recipes import laboratory
from vit_edu.training.records import read, spread, values

HERE = Path(__file__).resolve().parent
FROZEN = ("supervised", "mae", "dino", "clip")
SHARES = ("0.01", "0.1", "1")
ASKED = {
    "emoji/new_style": "a style it has not seen",
    "emoji/new_concepts": "concepts it has not seen",
    "emoji/new_both": "both new",
    "fashion/test": "Fashion-MNIST",
}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def frozen() -> str:
    """k-NN and linear probe on frozen features, by recipe."""
    rows = []
    for name in FROZEN:
        for kind in ("knn", "probe"):
            cells = (spread(values(name, f"{asked}/{kind}")) for asked in ASKED)
            rows.append([name, "k-NN" if kind == "knn" else "linear probe", *cells])
    return table(["pre-trained by", "", *ASKED.values()], rows)


def zero_shot() -> str:
    """CLIP: the right name among all of the split's."""
    splits = {asked: words for asked, words in ASKED.items() if asked.startswith("emoji")}
    kinds = {"zero-shot": "the nearest", "zero-shot in 5": "among the nearest five", "zero-shot by chance": "by chance"}
    rows = [[words, *(spread(values("clip", f"{asked}/{kind}")) for kind in kinds)] for asked, words in splits.items()]
    return table(["asked of", *kinds.values()], rows)


def tuned(recipe: str, asked: str, share: str) -> list[float]:
    """Accuracies after fine-tuning, or from scratch: recipe "scratch" is supervised's mark, the same model at 32 px."""
    scratch = recipe.startswith("scratch")
    source = {"scratch": "supervised", "scratch, 64 px": "dino"}.get(recipe, recipe)
    return values(source, f"{asked}/{'scratch' if scratch else 'fine-tuned'}/{share}")


STARTS = ("supervised", "mae", "clip", "scratch", "dino", "scratch, 64 px")


def fine_tuned() -> str:
    """Every start, task and share of the labels."""
    rows = []
    for asked, words in ASKED.items():
        for start in STARTS:
            known = start == "supervised" and asked.startswith("emoji")  # it has seen all of these labels before
            shares = [None if known and share != "1" else share for share in SHARES]
            rows.append([words, start, *(spread(tuned(start, asked, share)) if share else "–" for share in shares)])
    return table(["asked of", "start", "1 % of the labels", "10 %", "all"], rows)


def grid() -> dict[str, list[list[float]]]:
    """The laboratory: name -> (sizes, runs)."""
    sizes = laboratory.SIZES["laptop"].pictures
    return {name: [values("laboratory", f"{name}/{size}") for size in sizes] for name in laboratory.MODELS}


def bias() -> str:
    sizes = laboratory.SIZES["laptop"].pictures
    parameters = read("laboratory")[0]["parameters"]
    rows = [[name, f"{parameters[name]:,}", *map(spread, runs)] for name, runs in grid().items()]
    return table(["model", "parameters", *(f"{size:,} pictures" for size in sizes)], rows)


def minute() -> str:
    """Accuracy after a minute, on the bundled and on the full set."""
    record = json.loads((HERE / "minute.json").read_text(encoding="utf-8"))
    rows = []
    for name in record["fashion"]["median"]:
        runs = [[row["accuracy"] for row in record[key]["rows"] if row["model"] == name] for key in record]
        rows.append([name, *map(spread, runs)])
    return table(["", *(f"{record[key]['pictures']:,} pictures" for key in record)], rows)


def time_of(recipe: str) -> str:
    """Minutes of training, from the shortest to the longest run."""
    minutes = [run["seconds_training"] / 60 for run in read(recipe)]
    return f"{recipe} {min(minutes):.0f} to {max(minutes):.0f}"


def pictures() -> dict[str, Picture]:
    shares, sizes = [100 * float(share) for share in SHARES], laboratory.SIZES["laptop"].pictures
    curves = {start: [tuned(start, "fashion/test", share) for share in SHARES] for start in STARTS}
    shown = {
        "transfer.png": (shares, curves, "labels of Fashion-MNIST that are used (%)"),
        "bias.png": (sizes, grid(), "pictures of Fashion-MNIST"),
    }
    return {
        name: plot_curves(
            x,
            {label: [[100 * figure for figure in runs] for runs in line] for label, line in lines.items()},
            xlabel,
            "accuracy on its test pictures (%)",
            log=True,
        )
        for name, (x, lines, xlabel) in shown.items()
    }


def page() -> str:
    """README.md of this folder."""
    shown = {name: f"![{picture.alt}]({name})" for name, picture in pictures().items()}
    times, lab = ", ".join(map(time_of, (*FROZEN, "laboratory"))), laboratory.SIZES["laptop"]
    return f"""# records

What runs gave: `vit-edu train NAME` and the benchmarks write here, one file each, with command, seed, commit, device,
versions and figures. Lessons and README quote nothing that does not stand here. This page is made from the files by
`python data/records/build.py`. The others: `equality.json` (ours beside the published models, in
README), `grading.json` (what a class costs, in `docs/instructors.md`), `lessons.json` (what a lesson costs) and
`paint.json` (what the explorers take to paint).

Figures are accuracies in percent: the median of {len(read("mae"))} seeds, and in brackets the lowest and the highest.
Small models on one core, so they show how methods differ, not how far they go.
Minutes of training on one core of two, both busy: {times}.

## Frozen features

A linear probe (or the 20 nearest neighbours) says which of eight groups an emoji is in, or which of ten kinds of
clothing a picture of Fashion-MNIST shows. Nothing of the held-out style, of the held-out concepts, or of Fashion-MNIST
was seen in pre-training; DINO sees 64 px, the others 32. The largest of the eight groups has 22 to 23 % of the
pictures.

{frozen()}

## Zero-shot

How often the right name is the nearest to a picture for CLIP, of all names in the split, and among the nearest five.

{zero_shot()}

## Fine-tuned, with few labels and with all

Every weight learns, for 50, 150 or 400 steps of 64 pictures; the new head begins as the linear probe. Scratch is the
same model with the same steps from random weights, once at the size of the first three and once at DINO's, without
layer-wise decay. Learning rate and layer-wise decay were chosen on parts of the training sets, with two of the
encoders.

{shown["transfer.png"]}

{fine_tuned()}

## Size of data × inductive bias

A ViT, a Swin, a hybrid (CCT) and a CNN of about equal size, from scratch on Fashion-MNIST, the same {lab.steps:,} steps
of {lab.plan.batch_size} pictures, optimiser, schedule and augmentation for all; learning rates were not tuned for
any of them.

{shown["bias.png"]}

{bias()}

## A minute

Accuracy on Fashion-MNIST's test pictures after 60 seconds of training on two cores, `python -m bench.minute`: a CCT and
a ResNet of the kit in the kit's loop, with words chosen in some forty runs on these test pictures; the others as their
users would begin.

{minute()}
"""


def main() -> None:
    (HERE / "README.md").write_text(page(), encoding="utf-8")
    for name, picture in pictures().items():
        picture.save(HERE / name)


if __name__ == "__main__":
    main()
