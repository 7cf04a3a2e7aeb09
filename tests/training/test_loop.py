"""The loop: it learns, loses nothing, gives the same figures after an interruption and with two processes."""

import dataclasses
import json
import math
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training.tiny import PLAN, model, pictures, run
from vit_edu.training import Plan, Supervised, fit, labelled, state

ROOT = Path(__file__).resolve().parents[2]


def program(folder, *words, processes=1, name="tiny"):
    folder.mkdir(exist_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    start = torchrun if processes > 1 else []
    return [sys.executable, *start, "-m", f"tests.training.{name}", str(folder), *words]


def outcome(folder):
    return torch.load(folder / "weights.pt", weights_only=True), json.loads((folder / "history.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(program(folder), cwd=ROOT, check=True, capture_output=True)
    return outcome(folder)


def test_it_learns(undisturbed):
    _, history = undisturbed
    assert history["rows"][-1]["loss"] < 0.9 * history["rows"][0]["loss"]
    assert history["evaluations"][-1]["score"] > 0.9
    assert history["rows"][-1]["step"] == 24


def test_killed_at_any_moment_it_ends_with_the_same_figures(undisturbed, tmp_path):
    """SIGKILL, again and again, after the first checkpoint and at a random moment behind it."""
    chance, kills = random.Random(0), 0
    for _ in range(20):
        process = subprocess.Popen(program(tmp_path, "--slow"), cwd=ROOT, stderr=subprocess.DEVNULL)
        before = (tmp_path / "run.pt").stat().st_mtime_ns if (tmp_path / "run.pt").exists() else 0
        while process.poll() is None:
            if (tmp_path / "run.pt").exists() and (tmp_path / "run.pt").stat().st_mtime_ns > before and kills < 3:
                time.sleep(chance.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
            time.sleep(0.005)
        if process.returncode == 0:
            break
    assert kills == 3
    weights, history = outcome(tmp_path)
    assert history == undisturbed[1]
    assert all(torch.equal(x, undisturbed[0][name]) for name, x in weights.items())


def finish(command):
    """Runs a program to its end; where it fails, its own words are the test's."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]


def test_two_processes_give_the_result_of_one(undisturbed, tmp_path):
    finish(program(tmp_path, processes=2))
    assert (tmp_path / "processes").read_text() == "2"
    weights, history = outcome(tmp_path)
    for mine, theirs in zip(history["rows"], undisturbed[1]["rows"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    for name, x in weights.items():
        wanted = undisturbed[0][name]
        if name.endswith("qkv.bias"):  # a key's has no gradient but rounding, of which Adam makes steps of its own
            x, wanted = (torch.cat([bias[:16], bias[32:]]) for bias in (x, wanted))
        torch.testing.assert_close(x, wanted, rtol=1e-3, atol=1e-5)


def test_two_processes_pretrain_as_one(tmp_path):
    """MAE, DINO with its centre, CLIP whose pictures meet the texts of both: losses, and weights after four steps."""
    results = []
    for processes in (1, 2):
        finish(program(tmp_path, processes=processes, name="pretraining"))
        results.append(torch.load(tmp_path / "results.pt", weights_only=True))
    one, two = results
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    for name, run_of_one in one.items():
        assert two[name]["loss"] == pytest.approx(run_of_one["loss"], rel=1e-5), name
        for parameter, wanted in run_of_one["weights"].items():
            if parameter.endswith("qkv.bias"):  # as above
                continue
            torch.testing.assert_close(two[name]["weights"][parameter], wanted, rtol=1e-3, atol=1e-4, msg=parameter)


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
    (tmp_path / "run.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"run\.pt, broken, found, wanted a checkpoint of this run; delete"):
        run(tmp_path)


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
IMPOSSIBLE |= {"warmup": (1.0,), "ema": (1.0,), "weight_decay": (-0.1,), "seed": (-1, 0.5)}


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


def test_precision_is_a_word():
    trained, _ = run(plan=dataclasses.replace(PLAN, precision="bf16-mixed"))
    assert trained.head.weight.dtype == torch.float32


def test_plan_says_what_it_is():
    assert Plan().precision is None and Plan.__doc__
