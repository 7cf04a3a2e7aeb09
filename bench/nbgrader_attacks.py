"""Attacks on marks: the same submissions of lesson 02 to nbgrader's autograde and to `vit-edu grade`.

    python bench/nbgrader_attacks.py

Writes bench/results/nbgrader-attacks.json and the table in docs/instructors.md. Every submission but the first has a
wrong answer to one exercise, worth 3 of 11 points, and hostile code beside it; its other answers are right. It all runs
in a folder of its own, with limits on memory and time; where the sandbox needs bubblewrap, the record says whether it
was there.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from vit_edu.classroom import build, release
from vit_edu.training.records import surroundings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "nbgrader-attacks.json"
PAGE = ROOT / "docs" / "instructors.md"
MARKS = "<!-- attacks, made by bench/nbgrader_attacks.py -->", "<!-- end of attacks -->"
LESSON, EXERCISE = "02_self_attention", "attention"
MEMORY = 4_000_000_000  # bytes a process, for nbgrader, which sets no limit itself
PATIENCE = 240  # seconds for one submission in nbgrader
CELL = 20  # seconds that nbgrader gives a cell here

WRONG = """\
def attention(q, k, v):
    {first}
    weights = (q @ k.transpose(-2, -1)).softmax(dim=-1)
    return weights @ v, weights
"""

ATTACKS = {
    "right": ("nothing: all answers are right", None),
    "wrong": ("nothing: the answer is wrong", WRONG.format(first="pass")),
    "exit": ("ends the process: `os._exit`", WRONG.format(first="import os; os._exit(0)")),
    "rebind": (
        "puts functions of its own in place of the check and of the hidden test's helper",
        WRONG.format(first="pass") + "\nimport vit_edu.classroom.release as helper\n\n"
        "helper.fault = lambda name, answer: ''\nvit_edu.check = lambda name, answer: answer\n",
    ),
    "equal": (
        "returns an object that equals everything",
        "class Equal:\n    def __eq__(self, other): return True\n    def __getattr__(self, name): return self\n"
        "    def __call__(self, *_): return self\n\n\ndef attention(q, k, v):\n    return Equal(), Equal()\n",
    ),
    "asserts": (
        "takes every `assert` out of the cells that follow",
        WRONG.format(first="pass") + "\nimport ast\n\n\nclass NoAsserts(ast.NodeTransformer):\n"
        "    def visit_Assert(self, node):\n        return ast.copy_location(ast.Pass(), node)\n\n\n"
        "get_ipython().ast_transformers.append(NoAsserts())\n",
    ),
    "loop": (
        "loops without end, and lets nothing interrupt it",
        "def forever():\n    while True:\n        try:\n            while True:\n                pass\n"
        "        except BaseException:\n            pass\n\n\nattention = forever()\n",
    ),
    "memory": (
        "takes all memory that it gets, and keeps it",
        WRONG.format(first="fill()") + "\n\nhog = []\n\n\ndef fill():\n    size = 2**30\n    while size > 2**16:\n"
        "        try:\n            hog.append(bytearray(size))\n        except MemoryError:\n            size //= 2\n",
    ),
    "gradebook": (  # the last, since it changes the others' marks
        "reads the hidden tests, and writes marks into the gradebook",
        WRONG.format(first="write()") + "\n\ndef write():\n    import pathlib\n    import sqlite3\n\n"
        '    for book in [folder / "gradebook.db" for folder in pathlib.Path.cwd().parents]:\n'
        "        if book.exists():\n            with sqlite3.connect(book) as data:\n"
        '                data.execute("UPDATE grade SET manual_score = 100")\n'
        '                tests = data.execute("SELECT source FROM source_cell").fetchall()\n'
        '            pathlib.Path("stolen.txt").write_text(str(tests))\n',
    ),
}


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def nbgrader(folder: Path, *words: str) -> str:
    """Runs it in `folder`. Returns why it gave up, "" where it did not."""
    with open(folder / "nbgrader.log", "a", encoding="utf-8") as log:
        command = [sys.executable, "-m", "nbgrader", *words]
        run = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, preexec_fn=limited, start_new_session=True)
        try:
            failed = run.wait(PATIENCE) != 0
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)  # its kernel sees that it is alone, and ends
            run.wait()
            return f"stopped by hand after {PATIENCE} s"
    return "autograde fails" if failed else ""


def submit(folder: Path, name: str, code: str | None) -> None:
    """The solved lesson as learner `name` returns it, with `code` for the one exercise."""
    notebook = nbformat.read(folder / "source" / LESSON / f"{LESSON}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.metadata.nbgrader.grade_id == EXERCISE and code is not None:
            cell.source = code
        cell.source = release.HIDDEN.sub("", cell.source).strip("\n")
    target = folder / "submitted" / name / LESSON / f"{LESSON}.ipynb"
    target.parent.mkdir(parents=True)
    nbformat.write(notebook, target)


def nbgraders(folder: Path, name: str) -> dict[str, float | None]:
    """exercise -> points of a learner, by the gradebook; None where there is no mark."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{folder}/gradebook.db") as book:
        grades = book.find_submission_notebook(LESSON, LESSON, name).grades
        return {g.name: None if g.auto_score is None and g.manual_score is None else g.score for g in grades}


def split(points: dict[str, float | None], key: str) -> tuple[float | None, float | None]:
    """(of the attacked exercise, of the others together)"""
    others = [value for name, value in points.items() if name != key and value is not None]
    return points.get(key), sum(others) if others else None


def measure(folder: Path) -> dict:
    release.write(release.course(ROOT, build.sources(ROOT, [LESSON])), folder)
    if trouble := nbgrader(folder, "generate_assignment", LESSON):
        raise SystemExit(f"{trouble}; see {folder}/nbgrader.log")
    rows, before = {}, {}
    for name, (does, code) in ATTACKS.items():
        submit(folder, name, code)
        note = nbgrader(folder, "autograde", LESSON, "--student", name, f"--Execute.timeout={CELL}")
        before[name] = nbgraders(folder, name)
        rows[name] = {"does": does, "nbgrader": split(before[name], f"test_{EXERCISE}"), "note": note}
        print(name, rows[name], flush=True)
    changed = sum(before[name] != nbgraders(folder, name) for name in ATTACKS if name != "gradebook")
    stolen = [p for p in folder.rglob("stolen.txt") if "BEGIN HIDDEN TESTS" in p.read_text(encoding="utf-8")]
    rows["gradebook"]["note"] += f"marks of {changed} other learners changed" + ", hidden tests read" * bool(stolen)

    command = [sys.executable, "-m", "vit_edu.cli", "grade", "submitted", "--lesson", LESSON, "--workers", "1"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    for path in (folder / "report" / "marks").glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        rows[result["learner"]]["vit_edu"] = split({m["exercise"]: m["points"] for m in result["marks"]}, EXERCISE)
    if sum(rows["right"]["vit_edu"]) != sum(rows["right"]["nbgrader"]):
        raise SystemExit(
            "The right submission has not all its points from vit-edu grade: the sandbox does not work here."
        )
    protection = re.search(r"Protection: (.*)\.", run.stdout)[1]
    return {"command": "python bench/nbgrader_attacks.py"} | surroundings() | {"protection": protection, "rows": rows}


def table(record: dict) -> str:
    """The record as Markdown."""

    def points(pair) -> str:
        return " + ".join("no mark" if value is None else f"{value:g}" for value in pair)

    lines = ["| what the submission does | nbgrader 0.9.6 | | `vit-edu grade` |", "|---|---|---|---|"]
    for row in record["rows"].values():
        lines.append(f"| {row['does']} | {points(row['nbgrader'])} | {row['note']} | {points(row['vit_edu'])} |")
    return "\n".join([*lines, "", f"What `vit-edu grade` had there: {record['protection']}."])


def page(record: dict) -> str:
    """docs/instructors.md with the record's table."""
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    return f"{before}{MARKS[0]}\n{table(record)}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        record = measure(Path(folder))
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
