"""README's code runs, its files exist, and its numbers are those of the records."""

import json
import re
from pathlib import Path

import pytest

from vit_edu import list_models, widgets

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_code_runs():
    assert CODE
    for code in CODE:
        exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http|#)([^)]+)\)", README))))
def test_what_it_links_to_exists(path):
    assert (ROOT / path).exists()


def test_every_model_it_names_exists():
    table = README.split("| family | names")[1].split("\n\n")[0]
    names = [name for name in re.findall(r"`([a-z0-9_]+)`", table) if "_" in name or name.startswith("resnet")]
    assert len(names) > 10 and set(names) <= set(list_models())


def test_every_explorer_is_pictured():
    for name in widgets.__all__:
        file = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        assert name in README and re.search(rf"!\[[^\]]+\]\(docs/{file}\.png\)", README), name


def test_equality_is_what_was_measured():
    rows = json.loads((ROOT / "data/records/equality.json").read_text(encoding="utf-8"))["rows"]
    sentence = re.search(
        r"outputs differ by at most (\S+) and gradients by (\S+) in float64.* float32 by (\S+) ", README
    )
    said = dict(zip(("outputs", "gradients", "outputs_float32"), map(float, sentence.groups())))
    for name, value in said.items():
        worst = max(row[name] for row in rows)
        assert worst <= value <= 1.1 * worst, name


def test_speed_is_what_was_measured():
    rows = json.loads((ROOT / "bench/results/models-cpu.json").read_text(encoding="utf-8"))["rows"]
    spreads = [ratio for row in rows for ratio in row["ratio"].values()]
    faster, slower = sum(low > 1 for low, _, _ in spreads), sum(high < 1 for _, _, high in spreads)
    said = re.search(r"Of (\d+) comparisons .* faster in (\d+), level in (\d+), slower in (\d+)", README)
    assert tuple(map(int, said.groups())) == (len(spreads), faster, len(spreads) - faster - slower, slower)
    swin = {row["step"]: row["ratio"] for row in rows if row["model"] == "Swin-T" and not row["compiled"]}
    said = re.search(r"Swin-T's forward takes timm (\S+) and torchvision (\S+) times as long", README)
    assert said.groups() == tuple(f"{swin['forward'][name][1]:.2f}" for name in ("timm", "torchvision"))
