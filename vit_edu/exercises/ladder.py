"""The check: climb the ladder, find the smallest input that fails, and name the mistake behind it."""

import traceback
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vit_edu.exercises.core import Draw, Exercise
from vit_edu.exercises.diagnosis import diagnose, general
from vit_edu.exercises.guard import TIME_LIMIT, WAITING, Stopped, guarded
from vit_edu.exercises.rungs import RUNGS, constant_factor, describe, failure
from vit_edu.exercises.trial import (
    Outcome,
    Trial,
    attempt,
    float_tensors,
    learners_line,
    map_tensors,
    message,
    try_answer,
)

AGAIN = "Your last answer was checked already. Change the cell above, run it, then run this one."


@dataclass
class Verdict:
    """What the check found. `status` is one of report.HEADLINES: passed, not started, wrong, error, timeout, …"""

    exercise: Exercise
    status: str
    sentence: str = ""
    failed: set[str] = field(default_factory=set)  # rungs
    diagnosis: list[tuple[str, str]] = field(default_factory=list)  # (name of the mistake, the thought)
    case: tuple | None = None  # the smallest input that fails
    got: Outcome | None = None
    want: Outcome | None = None
    printed: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    def ladder(self) -> list[tuple[str, str]]:
        """Each rung with "passed", "failed" or "not reached"."""
        lowest = min((RUNGS.index(rung) for rung in self.failed), default=len(RUNGS) if self.passed else 0)
        marks = [
            "failed" if r in self.failed else "passed" if i < lowest else "not reached" for i, r in enumerate(RUNGS)
        ]
        return list(zip(RUNGS, marks, strict=True))


@contextmanager
def one_thread():
    """Tiny tensors: on a busy machine waiting for a second thread costs more than all the work. No warnings either."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
@torch.enable_grad()  # also in a notebook that has switched gradients off
def examine(exercise: Exercise, mine: Callable) -> Verdict:
    """Checks one answer against fresh random inputs and says what is wrong with it, smallest input first."""
    if mine is exercise.reference:
        return Verdict(exercise, "nothing new", AGAIN)
    if not callable(mine):
        return Verdict(exercise, "error", f"A function or class is wanted; this is {describe(mine)}.", {"runs"})
    cases = inputs(exercise)
    wanted = [attempt(exercise, exercise.reference, case, exercise.call) for case in cases]
    trial = try_answer(exercise, mine, cases)
    if any(not_started(mine, outcome.error) for outcome in trial.outcomes):
        return Verdict(exercise, "not started", "Your turn: nothing is written here yet.", printed=trial.printed)
    failures = [failure(exercise, *trio) for trio in zip(cases, trial.outcomes, wanted)]
    if len(failures) < len(cases):
        return cut_short(exercise, trial, cases)
    return wrong(exercise, trial, cases, wanted, failures) if any(failures) else last_rung(exercise, mine, trial)


def inputs(exercise: Exercise) -> list[tuple]:
    """Fresh cases; then the richest once more with other numbers, and in float32, in which models run."""
    cases = list(exercise.cases(Draw()))
    richest = max(range(len(cases)), key=lambda i: sum(tensor.numel() for tensor in float_tensors(cases[i])))
    again = list(exercise.cases(Draw()))[richest]
    return [*cases, again, map_tensors(Tensor.float, again)] if float_tensors(again) else cases


def not_started(mine: Callable, error: BaseException | None) -> bool:
    """Whether the stub of this very answer ran, and not that of another function which it calls."""
    if hasattr(mine, "not_started"):  # an answer in another process knows it from there
        return error is not None and mine.not_started(error)
    if not (isinstance(error, NotImplementedError) and message(error).startswith("NotImplementedError: your turn")):
        return False
    functions = vars(mine).values() if isinstance(mine, type) else [mine]
    functions = [getattr(f, "__func__", f) for f in functions]  # those of an autograd.Function are static
    return [*traceback.walk_tb(error.__traceback__)][-1][0].f_code in [getattr(f, "__code__", None) for f in functions]


def last_rung(exercise: Exercise, mine: Callable, trial: Trial) -> Verdict:
    """Everything is equal so far; what remains is what must hold of any right answer."""
    held: list[str | None] = []  # one entry an invariance: None, or how it is broken

    def work(_):
        for sentence, holds in exercise.invariances:
            try:
                right = holds(lambda *inputs: exercise.call(mine, *inputs), Draw())
                held.append(None if right else f"This must hold and does not: {sentence}.")
            except Stopped:
                raise
            except BaseException as error:
                held.append(f"While looking whether {sentence}: {message(error)} ({learners_line(error)})")

    run = guarded(work, exercise.ready_made, exercise.seconds)
    verdict = Verdict(exercise, "passed", printed=trial.printed)
    if run.timed_out or len(held) < len(exercise.invariances):
        verdict.status, verdict.sentence = "timeout", too_long(exercise)
    elif any(held):
        verdict.status, verdict.sentence = "wrong", next(filter(None, held))
    if not verdict.passed:
        verdict.failed = {"invariance"}
    elif names := sorted(trial.run.ready_made | run.ready_made):
        verdict.status = "ready-made"
        verdict.sentence = (
            f"The numbers are right, but your code calls the ready-made {', '.join(names)}. If that is your answer, "
            "build it yourself; if you only compare with it, take the comparison out and check again."
        )
    return verdict


def too_long(exercise: Exercise) -> str:
    """How long the guard has waited for an answer to this exercise, in a sentence."""
    own = f"{TIME_LIMIT:.0f} s of work, or {TIME_LIMIT * WAITING:.0f} s by the clock,"
    waited = f"{exercise.seconds:.0f} s" if exercise.seconds else own
    return f"Your code did not return within {waited} and was stopped."


def cut_short(exercise: Exercise, trial: Trial, cases: list[tuple]) -> Verdict:
    """The verdict on an answer that did not come through all cases."""
    done = len(trial.outcomes)
    verdict = Verdict(exercise, "timeout", too_long(exercise), {"runs"}, case=cases[done], printed=trial.printed)
    if trial.run.left_running:
        verdict.sentence += " It waits for something that cannot be interrupted; restart the kernel if it is slow."
    elif not trial.run.timed_out:
        verdict.status = "error"
        verdict.sentence = (
            "Your code ended the check" + (f": {message(trial.run.crash)}" if trial.run.crash else "") + "."
        )
    elif done:
        verdict.sentence += f" It had done {done} of {len(cases)} inputs: is it slow, or is there an endless loop?"
    else:
        verdict.sentence += " Which loop has no end?"
    return verdict


def wrong(exercise: Exercise, trial: Trial, cases: list, wanted: list[Outcome], failures: list) -> Verdict:
    """The verdict on a wrong answer: the smallest input that fails, and the mistake's name where it has one."""
    verdict = Verdict(exercise, "wrong", printed=trial.printed, failed={f.rung for f in failures if f})
    # The lowest rung first, since what fails there makes the others fail; on it the smallest input.
    first = min((i for i, f in enumerate(failures) if f), key=lambda i: RUNGS.index(failures[i].rung))
    verdict.case, verdict.got, verdict.want = cases[first], trial.outcomes[first], wanted[first]
    verdict.sentence = failures[first].sentence
    if failures[first].rung == "values":
        verdict.sentence += constant_factor(exercise, trial.outcomes[-2], wanted[-2]) if len(wanted) > 1 else ""
    verdict.status = "error" if failures[first].rung == "runs" and verdict.got.error else "wrong"
    verdict.diagnosis = diagnose(exercise, trial.outcomes, cases, wanted) + general(trial.outcomes, wanted)
    if trial.run.ready_made:
        verdict.sentence += f" It also calls the ready-made {', '.join(sorted(trial.run.ready_made))}."
    return verdict
