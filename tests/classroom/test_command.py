"""The command over a class: taken up again where it was killed, nothing lost, nothing twice, harmless reports."""

import csv
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from tests.classroom import pool
from tests.classroom.notebook import NAMES, RIGHT, SHORT, body, lesson
from vit_edu import cli
from vit_edu.classroom.grading import command, queue, similar
from vit_edu.classroom.grading import sandbox as sandboxes
from vit_edu.exercises import ALL

POINTS = {name: ALL[name].points for name in NAMES}


@pytest.fixture
def here(sandbox, monkeypatch):
    """The command with one grader, in this process, and a lesson of two exercises."""
    sandbox.start()  # here: bubblewrap ends with the thread that started it
    monkeypatch.setattr(command, "answers_of", lambda _: SHORT)
    monkeypatch.setattr(queue, "sandbox", lambda: sandbox)
    monkeypatch.setattr(queue, "_executor", lambda *_: ThreadPoolExecutor(1))
    monkeypatch.setattr(command, "walls", lambda: sandbox.walls)


@pytest.fixture
def hand_in(tmp_path):
    """hand_in(name, content) puts a notebook into the class's folder."""
    folder = tmp_path / "class"

    def put(name: str, content: bytes) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return put


def grade(tmp_path: Path, *words: str) -> int:
    return cli.main(["grade", str(tmp_path / "class"), "--lesson", "02", "--out", str(tmp_path / "out"), *words])


def marks(tmp_path: Path) -> dict[str, dict]:
    """learner -> a row of marks.csv."""
    with open(tmp_path / "out" / "marks.csv", encoding="utf-8", newline="") as file:
        return {row["learner"]: row for row in csv.DictReader(file)}


def count_calls(monkeypatch) -> list[str]:
    """The exercises that are graded from here on."""
    called, real = [], queue.grade

    def counted(content, answers, mine, only):
        result = real(content, answers, mine, only)
        called.extend(mark["exercise"] for mark in result["marks"])
        return result

    monkeypatch.setattr(queue, "grade", counted)
    return called


def test_what_is_graded_is_not_graded_again(here, hand_in, tmp_path, monkeypatch, capsys):
    right = lesson(answers=SHORT)
    hand_in("ada.ipynb", right)
    hand_in("bob.ipynb", lesson(answers=SHORT, attention_cost="def attention_cost(*_): return 3"))
    called = count_calls(monkeypatch)
    assert grade(tmp_path) == 0 and called == [*SHORT, *SHORT]
    first = marks(tmp_path)
    assert {name: int(row["points"]) for name, row in first.items()} == {"ada": 5, "bob": 3}
    called.clear()
    assert grade(tmp_path) == 0 and called == [] and marks(tmp_path) == first
    assert "2 notebooks, 2 of them graded before." in capsys.readouterr().out

    hand_in("bob.ipynb", right)  # handed in again
    assert grade(tmp_path) == 0 and called == [*SHORT] and marks(tmp_path)["bob"]["points"] == "5"
    called.clear()
    assert grade(tmp_path, "--only", "attention_cost") == 0 and called == ["attention_cost", "attention_cost"]
    assert {row["points"] for row in marks(tmp_path).values()} == {"5"}
    called.clear()
    hand_in("ada.ipynb", lesson(answers=SHORT, attention="attention = None"))
    assert grade(tmp_path, "--only", "attention_cost") == 0 and called == [*SHORT, "attention_cost"]  # all of the new
    assert marks(tmp_path)["ada"]["points"] == "2"


def test_a_file_that_cannot_be_read_costs_nobody_else(here, hand_in, tmp_path):
    hand_in("ada.ipynb", lesson(answers=SHORT))
    (tmp_path / "class" / "bob.ipynb").symlink_to("/proc/self/mem")  # to root, too, reading it is an error
    assert grade(tmp_path) == 0
    assert marks(tmp_path)["ada"]["points"] == "5" and marks(tmp_path)["bob"]["points"] == "0"
    assert "The file is empty, or it cannot be read" in next((tmp_path / "out" / "learners").glob("bob*")).read_text()


def test_half_a_file_and_another_lessons_marks_do_not_count(tmp_path, hand_in):
    content, kept = lesson(), tmp_path / "marks"
    kept.mkdir()
    found = [("ada", hand_in("ada.ipynb", content))]
    [work] = queue.waiting(found, kept, NAMES, ())
    result = {"sha256": sha256(content).hexdigest(), "marks": [{"exercise": name} for name in NAMES]}
    queue.keep(work, result)
    assert queue.waiting(found, kept, NAMES, ()) == []
    assert queue.waiting(found, kept, ["patchify"], ()) == [work]
    work.target.write_text(work.target.read_text()[:99])  # a full disk
    assert queue.waiting(found, kept, NAMES, ()) == [work] and queue.results(found, kept) == []


def test_names_and_texts_are_shown_and_never_run(here, hand_in, tmp_path):
    wild = "raise ValueError('</p><script>alert(1)</script>')"
    names = ["=cmd|' /C calc'!A0.ipynb", "<script>alert(2)</script>.ipynb", "a b.c.ipynb", "\N{SNOWMAN}.ipynb"]
    for name in names:
        hand_in(name.replace("/", "∕"), lesson(answers=SHORT, attention=body(wild)))
    hand_in(".ipynb_checkpoints/hidden-checkpoint.ipynb", lesson())
    hand_in("notes.txt", b"no notebook")
    hand_in("B.IPYNB", lesson(answers=SHORT))
    hand_in("B.ipynb", lesson(answers=SHORT, attention="attention = 3"))
    os.symlink("/nowhere", tmp_path / "class" / "dangling.ipynb")
    os.symlink("/etc/passwd", tmp_path / "class" / "link.ipynb")
    os.mkdir(tmp_path / "class" / "folder.ipynb")
    with open(os.fsencode(tmp_path / "class") + b"/\xff.ipynb", "wb") as file:
        file.write(b"")
    assert grade(tmp_path) == 0
    found = marks(tmp_path)
    assert "'=cmd|' ∕C calc'!A0" in found and "\\udcff" in found and "hidden-checkpoint" not in str(found)
    assert (found["B.IPYNB"]["points"], found["B"]["points"]) == ("5", "2")
    assert found["link"]["points"] == "0" and not [name for name in found if name.startswith(("=", "+", "@"))]
    pages = [tmp_path / "out" / "index.html", *(tmp_path / "out" / "learners").iterdir()]
    assert len(pages) == 1 + len(found)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text and "root:" not in text and "default-src 'none'" in text


def test_alike():
    odd = RIGHT["split_heads"].replace("return", "sizes = {n: n + 1 for n in range(3) if n}\n    return")
    cost = RIGHT["attention_cost"].replace("return", "a = [dim for _ in range(3) if num_heads]\n    return")
    usual = (RIGHT["split_heads"], RIGHT["attention_cost"])
    written = dict.fromkeys(("ann", "eve", "zoe"), usual) | {
        "ada": (odd, cost),
        "bob": (odd.replace("qkv", "packed").replace("sizes", "_"), "# mine\n" + cost.replace("dim", "width")),
        "dan": ("not Python", ""),
    }
    exercises = "split_heads", "attention_cost"
    results = [
        {"learner": name, "marks": [{"exercise": e, "code": c} for e, c in zip(exercises, codes)]}
        for name, codes in written.items()
    ]
    assert similar.pairs(results) == [("ada", "bob", ["attention_cost", "split_heads"])]


def test_nothing_to_grade(tmp_path, capsys):
    (tmp_path / "class").mkdir()
    assert grade(tmp_path) == 2 and "No notebook" in capsys.readouterr().err
    assert grade(tmp_path, "--only", "attentoin") == 2
    assert cli.main(["grade", str(tmp_path / "class"), "--lesson", "77"]) == 2


def test_a_sandbox_that_cannot_start_is_no_learners_fault(here, hand_in, tmp_path, monkeypatch, capsys):
    hand_in("ada.ipynb", lesson())
    broken = sandboxes.Sandbox(["false"])
    monkeypatch.setattr(queue, "sandbox", lambda: broken)
    assert grade(tmp_path) == 2 and "The sandbox does not start" in capsys.readouterr().err
    assert not list((tmp_path / "out" / "marks").iterdir())


def test_a_sandbox_that_is_killed_starts_again(here, hand_in, tmp_path, sandbox, monkeypatch):
    hand_in("ada.ipynb", lesson(answers={"attention_cost": "attention_cost"}))
    real, killed = sandboxes.Sandbox.answer, []

    def answer(self):
        found = real(self)
        if not killed:
            killed.append(self.process.pid)
            self.process.kill()
            self.process.wait()
        return found

    monkeypatch.setattr(sandboxes.Sandbox, "answer", answer)
    assert grade(tmp_path) == 0 and killed and marks(tmp_path)["ada"]["attention_cost"] == "2"


def test_a_grader_that_dies_costs_nothing(hand_in, tmp_path, monkeypatch):
    for name in ("ada", "bob", "eve"):
        hand_in(f"{name}.ipynb", name.encode())
    monkeypatch.setattr(queue, "graded", pool.graded)
    kept = tmp_path / "out" / "marks"
    kept.mkdir(parents=True)
    works = queue.waiting(queue.find([tmp_path / "class"]), kept, NAMES, ())
    queue.run(works, {"marker": str(tmp_path / "dead")}, 1, None)
    assert (tmp_path / "dead").exists() and len(list(kept.iterdir())) == 3
    with pytest.raises(RuntimeError, match="died 3 times; 1 notebooks are left"):
        queue.run(works[:1], {"marker": ""}, 1, None)


def test_killed_half_way_it_goes_on_and_leaves_nobody_behind(here, hand_in, tmp_path, monkeypatch):
    names = ("ada", "bob", "eve")
    for name in names:
        hand_in(f"{name}.ipynb", lesson(attention=body("pass", first=f"x = '{name}'")))
    words = ["grade", str(tmp_path / "class"), "--lesson", "02", "--out", str(tmp_path / "out"), "--workers", "1"]
    run = subprocess.Popen(
        [sys.executable, "-m", "vit_edu.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 900
    while not list((tmp_path / "out" / "marks").glob("*.json")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGSTOP)  # it keeps no more marks while its family is looked for
    family = descendants(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    assert len(family) >= 2  # a grader, and its sandbox
    while [pid for pid in family if alive(pid)] and time.monotonic() < deadline:
        time.sleep(0.05)
    done = len(list((tmp_path / "out" / "marks").glob("*.json")))
    assert 0 < done < len(names)
    monkeypatch.setattr(command, "answers_of", lambda _: NAMES)
    called = count_calls(monkeypatch)
    assert grade(tmp_path) == 0 and len(called) == (len(names) - done) * len(NAMES)
    assert {row["points"] for row in marks(tmp_path).values()} == {str(sum(POINTS.values()))}


def descendants(pid: int) -> list[int]:
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, wanted = [], [pid]
    while wanted:
        more = children.get(wanted.pop(), [])
        found += more
        wanted += more
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
