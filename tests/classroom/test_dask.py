"""The same queue on the workers of a Dask scheduler: a worker killed half way costs nothing but its time."""

import os
import signal

import pytest
from distributed import LocalCluster

from tests.classroom.notebook import SHORT, body, lesson
from vit_edu import cli
from vit_edu.classroom.grading import command, queue
from vit_edu.exercises import ALL

NAMES = ("ada", "bob", "cyd", "dee", "eve", "fay")
WRONG = body("q = q * 2")


@pytest.fixture
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=None
    ) as found:
        yield found


@pytest.fixture
def words(tmp_path, monkeypatch):
    """The command's words for a class in which every second answer is wrong."""
    monkeypatch.setattr(command, "answers_of", lambda _: SHORT)
    for i, name in enumerate(NAMES):
        answer = WRONG if i % 2 else body(f"'{name}'")
        (tmp_path / f"{name}.ipynb").write_bytes(lesson(answers=SHORT, attention=answer))
    return ["grade", str(tmp_path), "--lesson", "02", "--out", str(tmp_path / "out")]


def test_a_worker_killed_half_way_costs_no_mark(words, tmp_path, cluster, monkeypatch):
    keep, killed = queue.keep, []

    def kill_one(work, result):
        keep(work, result)
        if not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(queue, "keep", kill_one)
    assert cli.main([*words, "--dask", cluster.scheduler_address]) == 0 and killed
    marks = {
        r["learner"]: [m["points"] for m in r["marks"]] for r in queue.results(found(tmp_path), tmp_path / "out/marks")
    }
    full = [ALL[name].points for name in SHORT]
    assert marks == {
        name: [0 if i % 2 and n == "attention" else p for n, p in zip(SHORT, full)] for i, name in enumerate(NAMES)
    }


def found(folder):
    return [(name, folder / f"{name}.ipynb") for name in NAMES]


def test_no_scheduler_is_one_sentence(words, capsys):
    assert cli.main([*words, "--dask", "tcp://127.0.0.1:1"]) == 2
    assert "127.0.0.1:1" in capsys.readouterr().err
