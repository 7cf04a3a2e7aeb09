"""The check: climb the ladder, find the smallest input that fails, and name the mistake behind it."""

import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vit_edu.exercises.core import Draw, Exercise
from vit_edu.exercises.trial import (
    TIME_LIMIT,
    AnswerError,
    Outcome,
    Stopped,
    Trial,
    alike,
    attempt,
    close,
    guarded,
    learners_line,
    message,
    results_of,
    try_answer,
)

RUNGS = ("runs", "shape", "values", "gradient", "invariance")

CUT = ("the graph is cut", "No gradient comes back through your results. Which of .detach(), .item(), "
       ".numpy(), .data or torch.tensor(...) have you used?")  # fmt: skip
CHANGES_INPUTS = ("changes its inputs", "After your function ran, the tensors it was given hold other numbers. "
                  "Which line writes into one of them (+=, x[...] = ..., or a method that ends in _)?")  # fmt: skip
NOT_STEADY = ("not the same answer twice", "The same input gave two different answers. What in your code remembers, or "
              "draws random numbers?")  # fmt: skip
EXCHANGED = ("results in another order", "You return the right things in another order than the exercise asks for.")
TOO_LONG = f"Your code did not return within {TIME_LIMIT:.0f} s and was stopped."
LEFT_RUNNING = " It waits for something that cannot be interrupted; restart the kernel if the machine is slow."
OURS = (
    "This is the kit's own answer, which the check puts in the place of an unsolved one. Run the cell with your code "
    "again, then this one."
)
NOTHING = ("nothing returned", "Your function returned None. Does its last line say return?")


@dataclass
class Failure:
    """Where one case fails: the rung and a sentence."""

    rung: str
    sentence: str


@dataclass
class Verdict:
    """What the check found. `status`: passed, not started, wrong, error, timeout or ready-made."""

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
    """Tiny tensors: on a busy machine waiting for a second thread costs more than all the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
@torch.enable_grad()  # also in a notebook that has switched gradients off
def examine(exercise: Exercise, mine: Callable) -> Verdict:
    """Checks one answer against fresh random inputs and says what is wrong with it, smallest input first."""
    if mine is exercise.reference:
        return Verdict(exercise, "ready-made", OURS)
    if not callable(mine):
        return Verdict(exercise, "error", f"A function or class is wanted; this is {describe(mine)}.", {"runs"})
    cases = list(exercise.cases(Draw()))
    trial = try_answer(exercise, mine, cases)
    if any(not_started(mine, outcome.error) for outcome in trial.outcomes):
        return Verdict(exercise, "not started", "Your turn: nothing is written here yet.", printed=trial.printed)
    wanted = [attempt(exercise, exercise.reference, case, exercise.call) for case in cases]
    failures = [failure(exercise, got, want) for got, want in zip(trial.outcomes, wanted, strict=False)]
    if trial.timed_out or any(failures):
        return wrong(exercise, trial, cases, wanted, failures)
    return last_rung(exercise, mine, trial)


def not_started(mine: Callable, error: BaseException | None) -> bool:
    """Whether the stub of this very answer ran, and not that of another function which it calls."""
    if not (isinstance(error, NotImplementedError) and message(error).startswith("NotImplementedError: your turn")):
        return False
    functions = vars(mine).values() if isinstance(mine, type) else [mine]
    return [*traceback.walk_tb(error.__traceback__)][-1][0].f_code in [getattr(f, "__code__", None) for f in functions]


def last_rung(exercise: Exercise, mine: Callable, trial: Trial) -> Verdict:
    """Everything is equal so far; what remains is what must hold of any right answer."""
    broken: list[str] = []

    def work():
        for sentence, holds in exercise.invariances:
            try:
                if not holds(lambda *inputs: exercise.call(mine, *inputs), Draw()):
                    broken.append(f"This must hold and does not: {sentence}.")
            except Stopped:
                raise
            except BaseException as error:
                broken.append(f"While looking whether {sentence}: {message(error)} ({learners_line(error)})")

    later = Trial()
    guarded(work, exercise.ready_made, later)
    verdict = Verdict(exercise, "passed", printed=trial.printed)
    if later.timed_out:
        verdict.status, verdict.sentence = "timeout", TOO_LONG
    elif broken:
        verdict.status, verdict.sentence = "wrong", broken[0]
    if not verdict.passed:
        verdict.failed = {"invariance"}
    elif names := sorted(trial.ready_made | later.ready_made):
        verdict.status = "ready-made"
        verdict.sentence = (
            f"The numbers are right, but they come from the ready-made {', '.join(names)}. Build it yourself."
        )
    return verdict


def wrong(exercise: Exercise, trial: Trial, cases: list, wanted: list[Outcome], failures: list) -> Verdict:
    """The verdict on a wrong answer: the smallest input that fails, and the mistake's name where it has one."""
    verdict = Verdict(exercise, "wrong", printed=trial.printed, failed={f.rung for f in failures if f})
    if trial.timed_out:
        verdict.status, verdict.failed, verdict.case = "timeout", {"runs"}, cases[len(trial.outcomes)]
        verdict.sentence = TOO_LONG + (LEFT_RUNNING if trial.left_running else " Which loop has no end?")
    else:
        # The lowest rung first, since what fails there makes the others fail; on it the smallest input.
        first = min((i for i, f in enumerate(failures) if f), key=lambda i: RUNGS.index(failures[i].rung))
        verdict.case, verdict.got, verdict.want = cases[first], trial.outcomes[first], wanted[first]
        verdict.sentence = failures[first].sentence
        if failures[first].rung == "values":
            verdict.sentence += constant_factor(exercise, trial.outcomes[-1], wanted[-1])
        verdict.status = "error" if failures[first].rung == "runs" and verdict.got.error else "wrong"
    verdict.diagnosis = diagnose(exercise, trial.outcomes, cases, wanted) + general(trial.outcomes, wanted)
    if trial.ready_made:
        verdict.sentence += f" It also calls the ready-made {', '.join(sorted(trial.ready_made))}."
    return verdict


def failure(exercise: Exercise, got: Outcome, want: Outcome) -> Failure | None:
    """The first rung on which one case fails, or None."""
    if got.error and not got.results:
        sentence = str(got.error) if isinstance(got.error, AnswerError) else ""
        return Failure("runs", sentence or message(got.error))
    if len(got.results) != len(exercise.returns):
        wanted = ", ".join(exercise.returns)
        found = describe(got.results[0]) if len(got.results) == 1 else f"{len(got.results)} results"
        return Failure("runs", f"Your code returned {found}; {len(exercise.returns)} results are wanted: {wanted}.")
    problems = [difference(*trio) for trio in zip(exercise.returns, got.results, want.results, strict=True)]
    found = sorted((p for p in problems if p), key=lambda p: RUNGS.index(p.rung))
    if found:
        right = [name for name, p in zip(exercise.returns, problems, strict=True) if not p]
        note = f" {', '.join(right)}: right." if right else ""
        return Failure(found[0].rung, found[0].sentence + note)
    if not got.same_twice:
        return Failure("values", "The same input gave two different answers.")
    if got.error and want.gradients is None:
        return Failure("runs", f"Called a second time with the same input: {message(got.error)}")
    if want.gradients is not None:
        if got.error:
            return Failure("gradient", f"With inputs that ask for a gradient: {message(got.error)}")
        if got.gradients is None:
            return Failure("gradient", "The values are right, but no gradient flows back to the inputs.")
        if not alike(got.gradients, want.gradients):
            return Failure("gradient", "The values are right, but the gradient is not that of the right answer.")
    if got.changed_inputs:
        return Failure("invariance", "The results are right, but your code changes the tensors that it is given.")
    return None


def difference(name: str, got, want) -> Failure | None:
    """The first way in which one result differs from the right one."""
    if not isinstance(want, Tensor):
        if type(got) is not type(want):
            return Failure("runs", f"{name} is {describe(got)}; {describe(want)} is wanted.")
        return None if alike(got, want) else Failure("values", f"{name} is {got!r}, wanted {want!r}.")
    if not isinstance(got, Tensor):
        return Failure("runs", f"{name} is {describe(got)}; a torch.Tensor is wanted.")
    if got.shape != want.shape:
        order = " The sizes are right, their order is not." if sorted(got.shape) == sorted(want.shape) else ""
        return Failure("shape", f"{name} has shape {tuple(got.shape)}, wanted {tuple(want.shape)}.{order}")
    if got.device != want.device:
        return Failure("shape", f"{name} is on {got.device}, its inputs are on {want.device}.")
    if got.dtype != want.dtype:
        return Failure(
            "shape", f"{name} is {got.dtype}, wanted {want.dtype}: make new tensors with the dtype of the inputs."
        )
    if alike(got, want):
        return None
    largest = (got.double() - want.double()).abs().max().item()
    share = 1 - close(got.double(), want.double()).double().mean().item()
    numbers = f"{share:.0%} of its numbers are wrong, the largest difference is {largest:.3g}"
    return Failure("values", f"{name} has the right shape; {numbers}.")


def constant_factor(exercise: Exercise, got: Outcome, want: Outcome) -> str:
    """A sentence when a result is the right one times a number."""
    for name, mine, right in zip(exercise.returns, got.results, want.results):
        if isinstance(right, Tensor) and difference(name, mine, right) and mine.shape == right.shape:
            factor = ((mine * right).sum() / (right * right).sum()).item()
            if abs(factor) > 1e-6 and alike(mine, factor * right):
                return f" On large inputs {name} is the right one times {factor:.4g}."
    return ""


def describe(value) -> str:
    """A value in words: its type and shape or number."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, (int, float)):
        return f"the {type(value).__name__} {value!r}"
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"a {value.__name__}"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")


def diagnose(exercise: Exercise, got: list[Outcome], cases: list, wanted: list[Outcome]) -> list[tuple[str, str]]:
    """The mistakes, one or a pair, that give the learner's own numbers on every case that was run."""
    if not any(outcome.results for outcome in got):
        return []
    last = max(i for i, outcome in enumerate(got) if outcome.results)  # the richest input tells most apart
    for mistakes, answer in exercise.wrong_answers():
        if alike(got[last].results, results_of(exercise, answer, cases[last])) and matches(
            exercise, answer, got, cases, wanted
        ):
            return [(mistake.name, mistake.thought) for mistake in mistakes]
    return []


def matches(exercise: Exercise, answer: Callable, got: list[Outcome], cases: list, wanted: list[Outcome]) -> bool:
    """Whether a known wrong answer does what the learner's did, case after case."""
    seen = False  # one case must show the mistake: agreeing where the right answer agrees too proves nothing
    for outcome, case, want in zip(got, cases, wanted, strict=False):
        other = attempt(exercise, answer, case, lambda function, *inputs: function(*inputs))
        if bool(outcome.results) != bool(other.results):
            return False
        if not outcome.results:
            if type(outcome.error) is not type(other.error):
                return False
            seen = True
            continue
        if not same_outcome(outcome, other):
            return False
        seen = seen or not same_outcome(outcome, want)
    return seen


def same_outcome(mine: Outcome, other: Outcome) -> bool:
    """Whether two answers gave the same results and gradients; where `mine` has no gradient the results decide."""
    if not alike(mine.results, other.results):
        return False
    return mine.gradients is None or (other.gradients is not None and alike(mine.gradients, other.gradients))


def of_a_kind(mine: tuple, right: tuple) -> bool:
    """Whether results have the shapes and dtypes of the right ones."""
    if not all(isinstance(x, Tensor) for x in mine):
        return False
    return [(x.shape, x.dtype) for x in mine] == [(x.shape, x.dtype) for x in right]


def general(got: list[Outcome], wanted: list[Outcome]) -> list[tuple[str, str]]:
    """Mistakes that belong to no exercise in particular."""
    cut = any(
        g.gradients is None and w.gradients is not None and of_a_kind(g.results, w.results)
        for g, w in zip(got, wanted, strict=False)
    )
    found = {
        NOTHING: any(len(outcome.results) == 1 and outcome.results[0] is None for outcome in got),
        NOT_STEADY: any(not outcome.same_twice for outcome in got),
        CHANGES_INPUTS: any(outcome.changed_inputs for outcome in got),
        EXCHANGED: len(wanted[0].results) > 1
        and bool(got)
        and all(alike(g.results[::-1], w.results) for g, w in zip(got, wanted, strict=False)),
    }
    named = [mistake for mistake, made in found.items() if made]
    return named or ([CUT] if cut else [])
