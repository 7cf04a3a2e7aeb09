"""The records as tables and pictures: `python data/records/build.py` writes README.md and the pictures here."""

import json
from pathlib import Path

from vit_edu.plots import Picture, show_curves
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
            rows.append([words, start, *(spread(tuned(start, asked, share)) for share in SHARES)])
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
    return table(["", *(f"{len_of[key]} pictures" for key in record)], rows)


len_of = {"fashion": "9,000", "fashion-full": "60,000"}


def time_of(recipe: str) -> str:
    runs = read(recipe)
    minutes = [run["seconds_training"] / 60 for run in runs]
    return f"{recipe} {min(minutes):.0f} to {max(minutes):.0f}"


def pictures() -> dict[str, Picture]:
    x = [100 * float(share) for share in SHARES]
    curves = {start: [tuned(start, "fashion/test", share) for share in SHARES] for start in STARTS}
    words = "labels of Fashion-MNIST that are used, %", "accuracy on its test pictures"
    return {
        "transfer.png": show_curves(x, curves, *words, log=True),
        "bias.png": show_curves(
            laboratory.SIZES["laptop"].pictures, grid(), "pictures of Fashion-MNIST", "accuracy", log=True
        ),
    }


def page() -> str:
    """README.md of this folder."""
    alts = {name: picture.alt for name, picture in pictures().items()}
    text = (HERE / "README.in.md").read_text(encoding="utf-8")
    made = {"frozen": frozen(), "fine_tuned": fine_tuned(), "bias": bias(), "minute": minute()}
    made |= {f"alt {name}": alt for name, alt in alts.items()} | {"times": ", ".join(map(time_of, FROZEN))}
    for name, value in made.items():
        text = text.replace("{" + name + "}", value)
    return text


def main() -> None:
    (HERE / "README.md").write_text(page(), encoding="utf-8")
    for name, picture in pictures().items():
        picture.save(HERE / name)


if __name__ == "__main__":
    main()
