"""The bench's arithmetic on made-up clocks, and a run of it on models of one block."""

import json
from functools import partial

import pytest
import timm
import torch
from torch import nn

from bench import cases, models, report, timing
from bench.cases import OURS, Case
from vit_edu.models import VisionTransformer

WORDS = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2, "num_classes": 5}
TINY = Case(
    "tiny",
    16,
    {"cpu": 2},
    {OURS: partial(VisionTransformer, **WORDS), "timm": partial(timm.models.VisionTransformer, **WORDS)},
    num_classes=5,
    quick=True,
)


class Clock:
    """Stands still but for `work`; from `slow_from` on everything takes three times as long."""

    def __init__(self, slow_from=float("inf")):
        self.now, self.slow_from, self.calls = 0.0, slow_from, []

    def work(self, name, seconds):
        self.calls.append(name)
        self.now += seconds * (3 if self.now > self.slow_from else 1)

    def contestants(self, **seconds):
        return {name: partial(self.work, name, s) for name, s in seconds.items()}


def test_a_peer_that_takes_twice_as_long_has_ratio_2_also_where_the_machine_slows_down():
    clock = Clock(slow_from=20)
    times = timing.take_turns(clock.contestants(ours=1.0, peer=2.0), rounds=11, clock=lambda: clock.now)
    assert set(times["ours"]) == {1.0, 3.0}
    assert timing.ratios(times["peer"], times["ours"]).median == 2.0
    assert timing.ratios(times["ours"], times["ours"]) == (1, 1, 1)


def test_everyone_has_a_turn_in_every_round_and_warms_up_before():
    clock = Clock()
    times = timing.take_turns(clock.contestants(a=1.0, b=1.0, c=1.0), rounds=8, clock=lambda: clock.now)
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 8, "b": 8, "c": 8}
    warm_up, rest = clock.calls[:6], clock.calls[6:]
    assert warm_up == ["a", "a", "b", "b", "c", "c"]
    rounds = [tuple(rest[i : i + 3]) for i in range(0, 24, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds) and len(set(rounds)) > 2


def test_a_turn_is_as_many_calls_as_fill_it():
    clock = Clock()
    times = timing.take_turns(clock.contestants(a=0.25, b=4.0), rounds=1, turn=1.0, clock=lambda: clock.now)
    assert (clock.calls.count("a"), clock.calls.count("b")) == (2 + 4, 2 + 1)
    assert times == {"a": [0.25], "b": [4.0]}


def test_spread_is_the_middle_half():
    assert timing.spread([4, 1, 5, 3, 2]) == (2, 3, 4)
    assert timing.spread([7]) == (7, 7, 7)
    assert timing.ratios([2, 6, 4], [1, 2, 4]) == (1.5, 2, 2.5)


def test_a_run_writes_table_plot_and_numbers(tmp_path, capsys):
    assert models.main(["--rounds", "2", "--no-compile", "--device", "cpu", "--out", str(tmp_path)], [TINY]) == 0
    results = json.loads((tmp_path / "models-cpu.json").read_text(encoding="utf-8"))
    assert [(row["step"], row["compiled"]) for row in results["rows"]] == [("forward", False), ("training", False)]
    assert results["versions"]["torch"] in torch.__version__ and results["dtype"] == "float32"
    for row in results["rows"]:
        low, median, high = row["ratio"]["timm"]
        assert 0 < low <= median <= high and list(row["ratio"]) == ["timm"]
        assert 0 < row["share_of_ceiling"][OURS][1] < 1 and row["images_per_second"][OURS] > 0
    table = (tmp_path / "models-cpu.md").read_text(encoding="utf-8")
    assert table.count("| tiny, 16 px | 2 |") == 2 and "](models-cpu.png)" in table
    assert (tmp_path / "models-cpu.png").read_bytes().startswith(b"\x89PNG")
    assert "tiny, training: " in capsys.readouterr().out


def test_a_compiled_row(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    row = models.measure(TINY, "training", True, "cpu", 2, [OURS, "timm"])
    assert row["compiled"] and report.title(row) == "tiny, training, compiled"


def test_what_is_measured_on_which_device():
    for device in ("cpu", "cuda"):
        rows = models.rows_of(cases.CASES, device, compiled=True)
        assert {case.name for case, *_ in rows} == {case.name for case in cases.CASES if device in case.batch}
        assert all(names[0] == OURS and len(names) > 1 for *_, names in rows)
        compiled = {(case.name, step) for case, step, compiled, _ in rows if compiled}
        assert ("Swin-T", "forward") in compiled and (("ViT-B/16", "training") in compiled) == (device == "cuda")
    assert not [row for row in models.rows_of(cases.CASES, "cpu", compiled=False) if row[2]]


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_every_library_has_the_same_model_and_drops_nothing(case):
    built = {}
    for name, maker in case.makers.items():
        with torch.device("cpu" if name == "vit-pytorch" else "meta"):
            built[name] = maker()
    models.check_equal_work(built)


def test_unequal_work_is_an_error():
    ours = VisionTransformer(**WORDS)
    with pytest.raises(RuntimeError, match="not the same model"):
        models.check_equal_work({OURS: ours, "timm": VisionTransformer(**WORDS | {"depth": 2})})
    words = WORDS | {"depth": 2}
    for drops in ({"pos_drop_rate": 0.1}, {"drop_path_rate": 0.1}):
        with pytest.raises(RuntimeError, match="timm drops something in"):
            theirs = timm.models.VisionTransformer(**words, **drops)
            models.check_equal_work({OURS: VisionTransformer(**words), "timm": theirs})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_do_what_they_say(dtype):
    images, labels = torch.randn(2, 3, 16, 16), torch.tensor([0, 1])
    model = VisionTransformer(**WORDS)
    before = model.head.weight.clone()
    loss = models.training(model, images, labels, dtype)()
    assert model.training and loss.dtype == model.head.weight.dtype == torch.float32
    assert not torch.equal(model.head.weight, before) and model.head.weight.grad is None
    answer = models.forward(model, images, labels, dtype)()
    assert not model.training and answer.is_inference() and answer.dtype == dtype


def test_flops_are_those_of_a_count_by_hand():
    case = next(case for case in cases.CASES if case.name == "ViT-Ti/16")
    N, C, depth = 197, 192, 12
    block = N * C * 3 * C + 2 * N * N * C + N * C * C + 2 * N * C * 4 * C  # qkv, scores and mixing, proj, MLP
    embed, head = 196 * 3 * 16 * 16 * C, C * 1000
    assert models.flops_of(case) == 2 * (depth * block + embed + head)


def row(model="a", **ratio):
    return {"model": model, "step": "forward", "compiled": False, "ratio": ratio}


def test_the_summary_counts_what_the_quartiles_tell():
    faster, level = row(timm=(1.1, 1.2, 1.3)), row(timm=(0.9, 0.99, 1.1))
    assert report.summary([faster, level]).endswith(
        "ours is faster in 1 (both quartiles above 1), level in 1, slower in 0."
    )
    slower = row("b", timm=(0.8, 0.85, 0.9))
    assert report.summary([faster, slower]).endswith("slower in 1: 0.85 against timm (b, forward).")
    assert "0.85 (timm in b, forward) to 1.20 (timm in a, forward)" in report.alt_text([faster, slower])


def test_an_unknown_model_is_told_what_there_is(capsys):
    with pytest.raises(SystemExit):
        models.main(["--only", "resnext", "--device", "cpu"])
    assert "no model holds 'resnext'; there are ViT-Ti/16" in capsys.readouterr().err


def test_every_peer_has_a_colour():
    assert {name for case in cases.CASES for name in case.makers} == {OURS, *report.PEERS}
    assert all(isinstance(maker(), nn.Module) for maker in TINY.makers.values())
