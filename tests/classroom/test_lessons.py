"""Every lesson through the grader: with its solutions all points, as it is handed out none."""

from pathlib import Path

import nbformat
import pytest

from vit_edu.classroom import build, editions, release
from vit_edu.classroom.grading.mark import answers_of
from vit_edu.exercises import ALL

LESSONS = build.sources(Path(__file__).resolve().parents[2])


@pytest.mark.parametrize("source", LESSONS, ids=lambda source: source.stem)
def test_solved_earns_everything_and_unsolved_nothing(source, graded):
    answers = answers_of(source)
    solved = graded(nbformat.writes(editions.edition(source, solved=True)).encode(), answers)
    assert [(m["status"], m["reason"], m["points"]) for m in solved.values()] == [
        ("passed", "Right.", ALL[name].points) for name in answers
    ]
    for unsolved in editions.edition(source), release.release_edition(release.source_edition(source)):
        marks = graded(nbformat.writes(unsolved).encode(), answers)
        assert [(m["status"], m["points"]) for m in marks.values()] == [("not started", 0)] * len(answers)
