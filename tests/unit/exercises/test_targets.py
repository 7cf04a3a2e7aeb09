"""Targets: the reference reaches its figure on the small stage, every mistake is named, nothing is lost on the way."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import vit_edu
from vit_edu import exercises
from vit_edu.exercises import speed_targets
from vit_edu.exercises.targets import Stage, Target, run

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def no_download(device):
    raise OSError("no network")


def new_target():
    toy = Target(
        "count_far",
        lesson="08",
        unit="steps",
        reference=lambda steps: steps,
        measure=lambda mine, steps: {"figure": mine(steps), "asked": steps},
        small=Stage("Counting to 3", 3, lambda device: {"steps": 3}),
        large=Stage("Counting to 9", 9, lambda device: {"steps": 9}),
    )

    @toy.mistake("off by one", "Where do you begin to count?", example=lambda steps: steps - 1)
    def off_by_one(facts):
        return facts["figure"] == facts["asked"] - 1

    return toy


def stub(steps):
    raise NotImplementedError("your turn: write count_far here")


@pytest.mark.parametrize(
    "answer, status, words",
    [
        (lambda steps: steps, "reached", ["No GPU here, so: Counting to 3.", "3 steps, wanted are 3"]),
        (lambda steps: steps - 1, "not reached", ["Mistake: off by one. Where do you begin to count?"]),
        (lambda steps: 0, "not reached", ["0 steps, wanted are 3"]),
        (stub, "not started", ["your turn"]),
        (lambda steps: steps / 0, "error", ["ZeroDivisionError", "line"]),
    ],
)
def test_an_answer_hears_what_it_reached(answer, status, words):
    result = run(new_target(), answer, CPU)
    assert result.status == status
    text, html = str(result), result._repr_mimebundle_()["text/html"]
    assert all(word in text and word in html for word in words), text


def test_a_gpu_gets_the_large_task():
    result = run(new_target(), lambda steps: steps, GPU)
    assert result.status == "reached" and "Counting to 9" in str(result) and "No GPU" not in str(result)


def test_a_large_task_that_cannot_be_had_gives_way_to_the_small_one():
    toy = new_target()
    toy.large = Stage("Counting to 9", 9, no_download)
    result = run(toy, lambda steps: steps, GPU)
    assert result.status == "reached" and "can't be had (no network), so: Counting to 3." in str(result)


def test_a_mistake_is_not_passed_over_where_the_figure_is_reached():
    toy = new_target()
    toy.small = Stage("Counting to 3", 2, toy.small.given)
    assert run(toy, lambda steps: 2, CPU).status == "not reached"


def test_the_stop_button_ends_it():
    def stopped(steps):
        raise KeyboardInterrupt

    assert run(new_target(), stopped, CPU).status == "stopped"


def test_the_lesson_goes_on_with_what_reached_the_figure(monkeypatch, capsys):
    toy = new_target()
    monkeypatch.setitem(exercises.TARGETS, toy.name, toy)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def mine(steps):
        return steps

    assert vit_edu.target("count_far", mine) is mine
    assert vit_edu.target("count_far", stub) is toy.reference
    assert "Not started" in capsys.readouterr().out
    with pytest.raises(KeyError, match="do you mean 'count_far'"):
        vit_edu.target("count_fat", mine)


class Written(TorchDispatchMode):
    """Counts the numbers that operations write."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        self.numbers += sum(leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor))
        return found


def numbers_written(function, *inputs):
    with Written() as mode:
        function(*inputs)
    return max(1, mode.numbers)


@pytest.fixture
def no_clock(monkeypatch):
    """What an answer writes, in place of how long it takes: the same on every machine, however busy."""
    monkeypatch.setattr(speed_targets, "seconds", numbers_written)


@pytest.mark.usefixtures("no_clock")
@pytest.mark.parametrize("target", exercises.TARGETS.values(), ids=list(exercises.TARGETS))
def test_the_reference_reaches_the_small_figure_and_mistakes_are_named(target):
    result = run(target, target.reference, CPU)
    assert result.status == "reached", str(result)
    assert len(target.signs) >= 3
    for sign in target.signs:
        result = run(target, sign.example, CPU)
        assert result.status == "not reached" and result.diagnosis[:1] == [sign], str(result)
