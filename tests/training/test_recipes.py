"""`vit-edu train`: every recipe runs, leaves weights and a record; wrong words get a sentence."""

import json

import pytest

from vit_edu import cli
from vit_edu.datasets import DatasetError
from vit_edu.training import History, command, records
from vit_edu.training.recipes import RECIPES, judge, recipe
from vit_edu.weights.bundled import load


@pytest.fixture
def printed(monkeypatch):
    """What the command says, whoever else writes to this worker's stdout meanwhile."""
    lines = []
    monkeypatch.setattr(command, "print", lambda *words: lines.append(" ".join(map(str, words))), raising=False)
    return lines


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_and_leaves_its_record(name, tmp_path, printed):
    words = ["--size", "smoke", "--seed", "3", "--out", str(tmp_path / "out"), "--records", str(tmp_path), "--cpu"]
    assert cli.main(["train", name, *words]) == 0
    [run] = json.loads((tmp_path / f"{name}.json").read_text())["runs"]
    assert run["command"] == f"vit-edu train {name} --size smoke --seed 3" and run["seconds"] > 0
    assert run["date"] and run["device"] and run["versions"]["torch"]
    assert run["figures"] and all(0 <= value <= 3 for value in run["figures"].values())
    assert [line.split("  ")[0] for line in printed[:-1]] == list(run["figures"]) and "the record is in" in printed[-1]
    if name != "laboratory":
        model = load(tmp_path / "out" / f"{name}.safetensors")
        assert type(model).__name__ == {"mae": "MAE", "clip": "CLIP"}.get(name, "VisionTransformer")
        assert not model.training


def test_a_run_takes_the_place_of_the_same_one(tmp_path):
    for seed, figure in ((1, 0.1), (0, 0.2), (1, 0.3)):
        records.add("mae", {"size": "laptop", "seed": seed, "figures": {"a": figure}}, tmp_path)
    runs = json.loads((tmp_path / "mae.json").read_text())["runs"]
    assert [(run["seed"], run["figures"]["a"]) for run in runs] == [(0, 0.2), (1, 0.3)]


def test_half_a_run_is_not_recorded(tmp_path, printed, monkeypatch):
    """Ctrl-C in pre-training; then the same in fine-tuning."""
    words = ["train", "mae", "--size", "smoke", "--out", str(tmp_path), "--records", str(tmp_path / "records"), "--cpu"]
    for part in (recipe("mae"), judge):
        with monkeypatch.context() as patch:
            patch.setattr(part, "fit", lambda *words, **named: History(interrupted=True))
            assert cli.main(words) == 130
    assert printed == ["Stopped, and nothing was recorded; the same command goes on where it was."] * 2
    assert not (tmp_path / "records").exists()


def test_a_record_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = records.add("mae", {"size": "laptop", "seed": 0, "figures": {"a": 0.5}}, tmp_path)
    before = path.read_text()

    def full(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        records.add("mae", {"size": "laptop", "seed": 1, "figures": {"a": 0.6}}, tmp_path)
    assert path.read_text() == before and not list(tmp_path.glob("*.new"))


def test_wrong_words_get_a_sentence(printed):
    assert cli.main(["train", "bert"]) == 2
    assert printed.pop().startswith("the recipe 'bert' found, wanted one of supervised, mae")
    assert cli.main(["train", "mae", "--size", "huge"]) == 2
    assert printed.pop() == "--size huge found, wanted one of smoke, laptop, gpu."


def test_what_stops_a_run_is_one_sentence(tmp_path, printed, monkeypatch):
    """An altered file of the data, weights for which there is no room; no traceback after an hour."""
    words = ["train", "mae", "--size", "smoke", "--out", str(tmp_path), "--records", str(tmp_path / "records"), "--cpu"]
    for error in (DatasetError("data/emoji/noto.webp is incomplete"), OSError("mae.safetensors cannot be written")):

        def run(*words, error=error):
            raise error

        monkeypatch.setattr(recipe("mae"), "run", run)
        assert cli.main(words) == 2
        assert str(printed.pop()) == str(error)
    assert not (tmp_path / "records").exists()


def test_without_a_name_they_are_listed(printed):
    assert cli.main(["train"]) == 0
    assert [line.split()[0] for line in printed] == list(RECIPES)


def test_every_recipe_says_what_it_is():
    for name in RECIPES:
        module = recipe(name)
        assert f"data/records/{name}.json" in module.__doc__ and {"smoke", "laptop", "gpu"} <= set(module.SIZES)
