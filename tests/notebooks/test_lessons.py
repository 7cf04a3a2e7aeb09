"""Every lesson: solved, every check passes; unsolved, every check says so. Facts are nbval's, in notebooks/."""

from pathlib import Path

import pytest

from vit_edu.classroom import build, editions
from vit_edu.exercises import ALL
from vit_edu.exercises.report import MIME

ROOT = Path(__file__).resolve().parents[2]
each_lesson = pytest.mark.parametrize("source", build.sources(ROOT), ids=lambda source: source.stem)


def reports(notebook):
    """exercise -> status, as the checks of an executed notebook displayed them."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    found = (output.get("data", {}).get(MIME) for output in outputs)
    return {facts["exercise"]: facts["status"] for facts in found if facts}


def exercises(source):
    return {name for name, exercise in ALL.items() if exercise.lesson == source.stem[:2]}


@each_lesson
def test_solved_edition_passes_every_check(source):
    notebook = editions.edition(source, solved=True)
    again = [cell.copy() for cell in notebook.cells if cell.metadata.get("tags") == ["setup"]]
    again[0].id += "-again"
    notebook.cells.insert(2, again[0])  # the first cell can run twice
    assert reports(editions.execute(notebook)) == dict.fromkeys(exercises(source), "passed")


@each_lesson
def test_learners_edition_starts_with_nothing_solved(source):
    assert reports(build.committed(ROOT, source)) == dict.fromkeys(exercises(source), "not started")
