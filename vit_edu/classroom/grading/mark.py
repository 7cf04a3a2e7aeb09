"""The marks of one submission: each exercise in a process of its own, compared where no learner's code ever ran."""

import copy
import hashlib
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vit_edu.classroom.editions import read as read_lesson
from vit_edu.classroom.grading import submission as notebooks
from vit_edu.classroom.grading.sandbox import Answer, Gone, Sandbox
from vit_edu.exercises import ALL, guard, ladder
from vit_edu.exercises.core import Exercise

guard.TIME_LIMIT = ladder.TIME_LIMIT = 25.0  # seconds; a sandbox on a busy machine is slower than a learner's kernel
REASONS = {
    "passed": "Right.",
    "not started": "Nothing is written here yet.",
    "timeout": "The code does not come to an end.",
}


@dataclass
class Mark:
    """What one exercise got, and why, in words for the learner. No hidden input is in it."""

    exercise: str
    points: int
    of: int
    status: str
    reason: str
    diagnosis: list[tuple[str, str]] = field(default_factory=list)
    code: str = ""


def answers_of(lesson: Path) -> dict[str, str]:
    """exercise -> the name that its answer has in a lesson's source, in order."""
    found = {}
    for cell in read_lesson(lesson).cells:
        for exercise, name in re.findall(r'vit_edu\.check\("(\w+)", (\w+)\)', cell.source):
            found[exercise] = name
    return found


def grade(content: bytes, answers: dict[str, str], sandbox: Sandbox, only: tuple[str, ...] = ()) -> dict:
    """The marks of one notebook, as plain values: of all its exercises, or of `only` some."""
    started, marks, passed, found = time.monotonic(), [], set(), None
    try:
        found = notebooks.read(content)
    except notebooks.SubmissionError as error:
        marks = [Mark(name, 0, ALL[name].points, "unreadable", f"{error}.") for name in answers]
    for name in answers if found else ():
        marks.append(mark(found, name, answers, passed, sandbox))
        passed |= {name} if marks[-1].status == "passed" else set()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "minutes": found and found.minutes,
        "seconds": round(time.monotonic() - started, 2),
        "marks": [asdict(one) for one in marks if not only or one.exercise in only],
    }


def mark(found, name: str, answers: dict[str, str], passed: set[str], sandbox: Sandbox) -> Mark:
    """One exercise. As in a lesson, its other answers are the learner's own where they passed, else the kit's."""
    exercise, result = ALL[name], Mark(name, 0, ALL[name].points, "wrong", "")
    others = {own: other for other, own in answers.items() if other != name and other not in passed}
    answer = None
    try:
        code = notebooks.answer(found, name, answers[name])
        result.code = "\n".join(code)
        task = {"exercise": name, "name": answers[name], "code": code, "references": others}
        answer = sandbox.answer(task)
        verdict = ladder.examine(remote(exercise), answer)
        judge(result, verdict, answer)
    except notebooks.SubmissionError as error:
        result.status, result.reason = "missing", str(error)
    except Gone as error:
        result.status, result.reason = "ended", f"{error}."
    except BaseException as error:
        if not hasattr(error, "learners_line"):
            raise
        result.status, result.reason = "error", said(error)
    finally:
        if answer is not None:
            answer.close()
    return result


def judge(result: Mark, verdict: ladder.Verdict, answer: Answer) -> None:
    """The verdict of the check, as marks."""
    result.status, result.diagnosis = verdict.status, list(verdict.diagnosis)
    result.reason = REASONS.get(verdict.status, verdict.sentence)
    if answer.dead and verdict.status != "passed":
        result.status, result.reason = "ended", f"{answer.dead}."
    elif verdict.passed and answer.ready_made:
        result.status, result.reason = "ready-made", f"It calls the ready-made {', '.join(sorted(answer.ready_made))}."
    elif verdict.passed:
        result.points = result.of


def said(error: BaseException) -> str:
    """An exception from the learner's definitions, in a sentence."""
    line = f" ({error.learners_line})" if error.learners_line else ""
    return f"The code stops before it is called: {type(error).__name__}: {error}{line}."


def remote(exercise: Exercise) -> Exercise:
    """The same exercise for an answer that runs elsewhere: there it is called as the exercise wants it."""
    here = copy.copy(exercise)
    here.call = lambda mine, *inputs: mine(*inputs) if isinstance(mine, Answer) else exercise.call(mine, *inputs)
    return here
