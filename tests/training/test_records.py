"""The page of the records says what the records say, of enough seeds, all made by the recipes as they are."""

import json
import runpy

import pytest

from vit_edu import resources
from vit_edu.training import records
from vit_edu.training.recipes import RECIPES, laboratory, recipe

FOLDER = resources.folder("data") / "records"


def test_the_page_is_made_from_the_records():
    page = runpy.run_path(str(FOLDER / "build.py"))["page"]()
    assert page == (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RECIPES)
def test_three_seeds_each_with_every_figure(name):
    runs = records.read(name)
    assert [run["seed"] for run in runs] == [0, 1, 2]
    assert len({tuple(run["figures"]) for run in runs}) == 1
    assert all(run["commit"] and not run["commit"].endswith("changes") for run in runs)
    assert all(run["seconds_training"] < 3600 for run in runs)
    size = recipe(name).SIZES["laptop"]
    if name == "laboratory":
        assert set(runs[0]["figures"]) == {f"{model}/{n}" for model in laboratory.MODELS for n in size.pictures}
    else:
        steps = [run["loss"][-1][0] for run in runs]
        assert steps == [round(size.plan.epochs * (5622 // size.plan.batch_size))] * 3


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_reaches_in_how_long(name):
    said, runs = " ".join(recipe(name).__doc__.split()), records.read(name)
    told = {
        "supervised": ["emoji/new_style/own head", "emoji/new_style/probe", "fashion/test/probe"],
        "clip": ["emoji/new_style/zero-shot", "emoji/new_style/probe", "fashion/test/probe"],
        "laboratory": ["ViT/9000", "Swin/9000", "CCT/9000", "CNN/9000"],
    }.get(name, ["emoji/new_style/probe", "fashion/test/probe"])
    places = [said.index(records.spread(records.values(name, figure))) for figure in told]
    assert places == sorted(places)
    minutes = [run["seconds_training"] / 60 for run in runs]
    assert f"{min(minutes):.0f} to {max(minutes):.0f} minutes of training on one core of a Xeon at 2.8 GHz" in said
    assert all(run["threads"] == 1 and "Xeon" in run["device"] and "2.80GHz" in run["device"] for run in runs)


def test_an_equal_size_for_every_inductive_bias():
    parameters = records.read("laboratory")[0]["parameters"].values()
    assert max(parameters) < 1.15 * min(parameters)


def test_instructors_read_what_grading_took():
    classes = json.loads((FOLDER / "grading.json").read_text(encoding="utf-8"))["classes"]
    assert not any(one["marks_not_true"] for one in classes)
    sizes, seconds = (", ".join(f"{one[key]:.0f}" for one in classes) for key in ("notebooks", "seconds"))
    most = max(one["peak_mb"] for one in classes) / 1000
    page = " ".join((FOLDER.parents[1] / "docs" / "instructors.md").read_text(encoding="utf-8").split())
    assert f"{sizes} notebooks" in page
    assert f"take {seconds} s and at most {most:.1f} GB, every mark the true one" in page


def test_a_spread_in_percent():
    assert records.spread([0.5, 0.257, 0.4]) == "40.0 (25.7–50.0)"
