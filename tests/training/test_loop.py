"""The loop: it learns, loses nothing, gives the same figures after an interruption and with two processes."""

import dataclasses
import io
import json
import math
import multiprocessing
import pickle
import random
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import pretraining, tiny
from tests.training.tiny import PLAN, model, pictures, run
from vit_edu.training import Supervised, fit, labelled, loop, new_fabric, state

ROOT = Path(__file__).resolve().parents[2]
SERVER = multiprocessing.get_context("forkserver")  # a process of its own for each run, imports once for all


def begin(main, *words):
    SERVER.set_forkserver_preload(["tests.training.pretraining"])
    process = SERVER.Process(target=main, args=words)
    process.start()
    return process


def outcome(folder):
    return torch.load(folder / "weights.pt", weights_only=True), json.loads((folder / "history.json").read_text())


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process leaves, undisturbed."""
    folder = tmp_path_factory.mktemp("one")
    process = begin(pretraining.main, folder)
    process.join(300)
    assert process.exitcode == 0
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The same by torchrun with two; where it fails, its own words are the test's."""
    folder = tmp_path_factory.mktemp("two")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "tests.training.pretraining", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_it_learns(one):
    _, history = outcome(one)
    assert history["rows"][-1]["loss"] < 0.9 * history["rows"][0]["loss"]
    assert history["evaluations"][-1]["score"] > 0.9
    assert history["rows"][-1]["step"] == 24


def test_killed_at_any_moment_it_ends_with_the_same_figures(one, tmp_path):
    """SIGKILL, again and again, after the first checkpoint, at a random moment behind it, also while one is written."""
    chance, kills, checkpoint = random.Random(0), 0, tmp_path / "run.pt"
    for _ in range(20):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = begin(tiny.main, tmp_path, 0.02)
        while process.is_alive():
            if kills < 5 and checkpoint.exists() and checkpoint.stat().st_mtime_ns > before:
                time.sleep(chance.uniform(0, 0.08))
                process.kill()
                process.join()
                kills += process.exitcode == -signal.SIGKILL
            time.sleep(0.002)
        if process.exitcode == 0:
            break
    assert kills == 5
    (weights, history), (wanted, undisturbed) = outcome(tmp_path), outcome(one)
    assert history == undisturbed
    assert all(torch.equal(x, wanted[name]) for name, x in weights.items())


def test_two_processes_give_the_result_of_one(one, two):
    (weights, history), (wanted, history_of_one) = outcome(two), outcome(one)
    for mine, theirs in zip(history["rows"], history_of_one["rows"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    for name, x in weights.items():
        theirs = wanted[name]
        if name.endswith("qkv.bias"):  # a key's has no gradient but rounding, of which Adam makes steps of its own
            x, theirs = (torch.cat([bias[:16], bias[32:]]) for bias in (x, theirs))
        torch.testing.assert_close(x, theirs, rtol=1e-3, atol=1e-5)


def test_two_processes_pretrain_as_one(one, two):
    """MAE, DINO with its centre, CLIP whose pictures meet the texts of both: losses, and weights after four steps."""
    of_one, of_two = (torch.load(folder / "results.pt", weights_only=True) for folder in (one, two))
    assert (of_one.pop("processes"), of_two.pop("processes")) == (1, 2)
    for name, run_of_one in of_one.items():
        assert of_two[name]["loss"] == pytest.approx(run_of_one["loss"], rel=1e-5), name
        for parameter, wanted in run_of_one["weights"].items():
            if parameter.endswith("qkv.bias"):  # as above
                continue
            found = of_two[name]["weights"][parameter]
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4, msg=parameter)


def test_one_seed_one_result():
    (first, _), (again, _), (other, _) = run(), run(), run(plan=dataclasses.replace(PLAN, seed=1))
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in first.state_dict().items())
    assert not torch.equal(first.head.weight, other.head.weight)


def test_the_best_weights_are_kept():
    """Scores that fall: the first evaluation's weights come back."""
    seen, scores = [], iter([0.9, 0.8, 0.7])

    def evaluate(objective):
        seen.append(objective.model.head.weight.detach().clone())
        return {"score": next(scores)}

    data, objective = pictures(), Supervised(model())
    history = fit(objective, len(data), labelled(data), PLAN, evaluate=evaluate)
    assert torch.equal(objective.model.head.weight, seen[0]) and history.best["score"] == 0.9
    assert not torch.equal(seen[0], seen[2])


def test_an_interrupt_ends_in_good_order(tmp_path):
    def stop(history):
        if history.evaluations and not history.interrupted:
            raise KeyboardInterrupt

    trained, history = run(tmp_path, on_report=stop, checkpoint_every=0.0)
    assert history.interrupted and history.steps == 16 and history.best is not None
    assert not trained.training
    _, finished = run(tmp_path)  # and may go on
    assert finished.steps == 24 and finished.rows[-1]["step"] == 24


def test_no_number_stops_with_a_sentence():
    with pytest.raises(
        FloatingPointError, match=r"a loss of nan with .* found at step \d+, wanted numbers; use a lower lr"
    ):
        run(plan=dataclasses.replace(PLAN, lr=1e30, clip_grad=1e30))


def test_a_checkpoint_of_another_plan_or_a_broken_one(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"another run \(its plan\) found, wanted this run's own; delete"):
        run(tmp_path, plan=dataclasses.replace(PLAN, lr=1e-4))
    whole = (tmp_path / "run.pt").read_bytes()
    foreign = io.BytesIO()
    torch.save(model().state_dict(), foreign)
    for other in (whole[: len(whole) // 2], b"", foreign.getvalue(), pickle.dumps({"run": {}})):
        (tmp_path / "run.pt").write_bytes(other)
        with pytest.raises(ValueError, match=r"run\.pt, broken, found, wanted a checkpoint of this run; delete"):
            run(tmp_path)


def test_not_a_bit_of_a_checkpoint_may_flip(tmp_path):
    """What torch.load would pass over is found, or is between the parts where it means nothing."""
    trained, _ = run(tmp_path)
    whole, chance, found = (tmp_path / "run.pt").read_bytes(), random.Random(0), 0
    for _ in range(20):
        place, bit = chance.randrange(len(whole)), 1 << chance.randrange(8)
        (tmp_path / "run.pt").write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            again, _ = run(tmp_path)
        except ValueError as error:
            assert "broken" in str(error)
            found += 1
        else:
            assert all(torch.equal(x, again.state_dict()[name]) for name, x in trained.state_dict().items())
    assert found > 10


def test_a_finished_run_is_there_again(tmp_path):
    trained, history = run(tmp_path)
    shown = []
    again, same = run(tmp_path, on_report=shown.append)
    assert same == history and shown == [same]  # the curve is drawn, nothing trained
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in trained.state_dict().items())


def test_a_plan_of_numpys_numbers_is_resumed(tmp_path):
    for lr in 2 * [np.logspace(-3, -2, 2)[0]]:
        words = {"lr": lr, "seed": np.int64(3), "betas": np.array([0.9, 0.95]), "ema": np.float32(0.5)}
        plan = dataclasses.replace(PLAN, **words)
        assert run(tmp_path, plan)[1].finished


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OSError, match=r"where nothing can be written \(.*\), found, wanted a folder"):
            run(folder)


def test_a_full_disk_costs_the_checkpoint_only(tmp_path, monkeypatch):
    printed = []
    monkeypatch.setattr(state, "print", printed.append, raising=False)

    def full(content, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    reference, _ = run()
    monkeypatch.setattr(torch, "save", full)
    trained, _ = run(tmp_path, checkpoint_every=0.0)
    assert printed and all("could not be written" in line for line in printed)
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]
    assert torch.equal(trained.head.weight, reference.head.weight)


IMPOSSIBLE = {"batch_size": (65, 0), "epochs": (0,), "lr": (0.0,), "evaluations": (0,), "seconds": (0.0,)}
IMPOSSIBLE |= {"warmup": (1.0, "long"), "ema": (1.0,), "weight_decay": (-0.1,), "seed": (-1, 0.5)}
IMPOSSIBLE |= {"betas": (0.9, (0.9,), (0.9, 1.0)), "precision": ("16-mixed", "half")}


@pytest.mark.parametrize("words", [{name: value} for name, values in IMPOSSIBLE.items() for value in values])
def test_plans_that_cannot_be(words):
    with pytest.raises(ValueError, match=next(iter(words))):
        run(plan=dataclasses.replace(PLAN, **words))


def test_a_budget_of_seconds():
    start = time.monotonic()
    _, history = run(plan=dataclasses.replace(PLAN, epochs=10_000, seconds=1.0))
    assert 1.0 <= history.seconds < 2.0 and time.monotonic() - start < 10
    assert math.isfinite(history.rows[-1]["loss"]) and history.best is not None
    assert history.rows[-1]["step"] == history.steps
    _, short = run(plan=dataclasses.replace(PLAN, seconds=1e-6))
    assert short.steps == 1 and len(short.rows) == len(short.evaluations) == 1


def test_evaluations_share_the_seconds_and_do_not_count(monkeypatch):
    """By a clock that goes on by a hundredth whenever it is asked, and by a minute while something is evaluated."""
    now = 0.0

    def tick(seconds=0.01):
        nonlocal now
        now += seconds
        return now

    monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=tick))
    plan = dataclasses.replace(PLAN, epochs=10_000, seconds=1.0, evaluations=4)
    evaluate = lambda objective: {"score": tick(60.0)}  # noqa: E731
    history = fit(Supervised(model()), 64, labelled(pictures()), plan, evaluate=evaluate)
    steps = [figures["step"] for figures in history.evaluations]
    assert len(steps) == 4 and steps[-1] == history.steps and 1.0 <= history.seconds < 1.1
    assert steps == pytest.approx([history.steps * share for share in (0.25, 0.5, 0.75, 1)], abs=4)


def test_precision_is_a_word():
    trained, _ = run(plan=dataclasses.replace(PLAN, precision="bf16-mixed"))
    assert trained.head.weight.dtype == torch.float32


def test_bf16_is_for_gpus_that_compute_in_it(monkeypatch):
    """A T4 would say that it can, and emulate it."""
    made = []

    class Recorder:
        def __init__(self, **words):
            made.append(words["precision"])

        def launch(self):
            pass

    monkeypatch.setattr(loop, "Fabric", Recorder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for native in (True, False):
        answer = lambda including_emulation=True, native=native: native or including_emulation  # noqa: E731
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", answer)
        for accelerator in ("auto", "cpu"):
            new_fabric(accelerator)
    assert made == ["bf16-mixed", "32-true", "32-true", "32-true"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes for 1 GPU found, wanted a GPU for each"):
        new_fabric()
    new_fabric("cpu")


def test_an_evaluation_has_a_score_and_a_loss_is_one_number():
    data, words = pictures(), {"n": 64, "plan": PLAN}
    with pytest.raises(ValueError, match='an evaluation that gives right found, wanted "score" among it'):
        fit(Supervised(model()), make_batch=labelled(data), evaluate=lambda objective: {"right": 1.0}, **words)
    with pytest.raises(ValueError, match=r"a loss of shape \(16, 2\) found, wanted one number"):
        fit(torch.nn.Linear(3, 2), make_batch=lambda indices, draws: (torch.rand(16, 3),), **words)
