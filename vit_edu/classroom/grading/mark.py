"""The marks of one submission: each exercise in a process of its own, compared where no learner's code ever ran."""

import contextlib
import copy
import hashlib
import itertools
import json
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vit_edu.classroom.editions import read as read_lesson
from vit_edu.classroom.grading import submission as notebooks
from vit_edu.classroom.grading.sandbox import Answer, Gone, Sandbox
from vit_edu.exercises import ALL, ladder
from vit_edu.exercises.core import AnswerError, Draw, Exercise

PATIENCE = 30.0  # seconds by the clock, for each step; computing has its own limit, which no busy machine shortens
REASONS = {
    "passed": "Right.",
    "not started": "Nothing is written here yet.",
    "timeout": f"Your code did not return within {PATIENCE:.0f} s.",
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
    others = {own: other for other, own in answers.items() if other != name and other not in passed}
    result = Mark(name, 0, ALL[name].points, "missing", "")
    try:
        for code in notebooks.answers(found, name, answers[name], others):
            result = Mark(name, 0, ALL[name].points, "wrong", "", code="\n".join(code))
            task = {"exercise": name, "name": answers[name], "code": code, "references": others}
            if try_out(result, task, sandbox):
                try_out(result, task, sandbox)  # it took the sandbox along, or something else did: once more
            if result.status != "not started":
                break
    except notebooks.SubmissionError as error:
        result.reason = str(error)
    return result


def try_out(result: Mark, task: dict, sandbox: Sandbox) -> bool:
    """Runs one answer, and puts into `result` what it earns. Returns whether the sandbox was lost meanwhile."""
    exercise = ALL[task["exercise"]]
    seed = int(hashlib.sha256(json.dumps(task).encode()).hexdigest()[:15], 16)
    with contextlib.closing(sandbox.answer()) as answer:
        try:
            answer.ask(task, PATIENCE)
            judge(result, ladder.examine(remote(exercise, seed), answer))
        except Gone:
            pass
        except BaseException as error:
            if hasattr(error, "learners_line"):
                result.status, result.reason = "error", said(error)
            elif isinstance(error, Exception):  # a value that the grader's own code cannot deal with
                result.status, result.reason = "error", f"What it returns cannot be judged ({type(error).__name__})."
            else:
                raise
    if answer.dead:
        result.status, result.reason = "timeout" if answer.endless else "ended", answer.dead
        result.points, result.diagnosis = 0, []
    if result.points == 0 and answer.ready_made:
        result.status = "ready-made"
        result.reason = (
            f"It calls the ready-made {', '.join(sorted(answer.ready_made))}. If that is the answer, build it "
            "yourself; if you only compare with it, take the comparison out."
        )
    return answer.lost


def judge(result: Mark, verdict: ladder.Verdict) -> None:
    """The verdict of the check, as marks."""
    result.status, result.diagnosis = verdict.status, list(verdict.diagnosis)
    result.reason = REASONS.get(verdict.status, verdict.sentence)
    if verdict.status == "error":
        where = verdict.got.where if verdict.got else ""
        result.reason = f"{result.reason.rstrip('.')}{where and f' ({where})'}."
    if verdict.passed:
        result.points = result.of


def said(error: BaseException) -> str:
    """An exception from the learner's definitions, in a sentence."""
    if isinstance(error, AnswerError):
        return str(error)
    line = f" ({error.learners_line})" if error.learners_line else ""
    return f"The code stops before it is called: {type(error).__name__}: {error}{line}."


def remote(exercise: Exercise, seed: int) -> Exercise:
    """The same exercise for an answer that runs elsewhere: there it is called as the exercise wants it.

    Its random inputs come from `seed`, since the same notebook must get the same marks, also tomorrow.
    """
    here, seeds = copy.copy(exercise), itertools.count(seed)
    here.seconds = PATIENCE
    here.call = lambda mine, *inputs: mine(*inputs) if isinstance(mine, Answer) else exercise.call(mine, *inputs)
    here.cases = lambda _: exercise.cases(Draw(next(seeds)))
    here.invariances = [
        (sentence, lambda mine, _, holds=holds: holds(mine, Draw(next(seeds))))
        for sentence, holds in exercise.invariances
    ]
    return here
