"""One sandbox for all attacks of a test process; an attack that brings it down would show in those that follow."""

import pytest

from tests.classroom.notebook import SHORT, lesson
from vit_edu.classroom.grading import mark
from vit_edu.classroom.grading.sandbox import Sandbox, walls


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """However busy the machine is, only the limit of computing counts; a test of the other one sets it back."""
    monkeypatch.setattr(mark, "PATIENCE", 600.0)


@pytest.fixture(scope="session")
def sandbox():
    found = Sandbox(walls(), seconds=2)
    yield found
    found.stop()


@pytest.fixture
def graded(sandbox):
    """grade(content, answers) -> {exercise: mark}; the sandbox must outlive it."""

    def grade(content: bytes, answers: dict[str, str] = SHORT) -> dict[str, dict]:
        sandbox.start()
        process = sandbox.process
        marks = {found["exercise"]: found for found in mark.grade(content, answers, sandbox)["marks"]}
        assert sandbox.process is process, "the sandbox went down"
        return marks

    return grade


@pytest.fixture
def attack(graded):
    """attack(code, status): what `attention` gets for its code, while the other exercise keeps its points."""

    def holds(code: str, status: str, *, before: tuple[str, ...] = ()) -> str:
        marks = graded(lesson(*before, answers=SHORT, attention=code))
        found = marks["attention"]
        assert (found["status"], marks["attention_cost"]["status"]) == (status, "passed"), found["reason"]
        assert found["points"] == (3 if status == "passed" else 0)
        assert found["reason"].strip().endswith((".", "?")) and found["reason"].isprintable()
        return found["reason"]

    return holds
