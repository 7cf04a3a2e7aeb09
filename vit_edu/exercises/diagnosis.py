"""Which mistake is it? The known wrong answers run on the learner's inputs; the one with the same numbers is named."""

from collections.abc import Callable

from torch import Tensor

from vit_edu.exercises.core import Exercise
from vit_edu.exercises.trial import Outcome, alike, attempt, message, results_of

CUT = ("the graph is cut", "No gradient comes back through your results. Which of .detach(), .item(), "
       ".numpy(), .data or torch.tensor(...) have you used?")  # fmt: skip
CHANGES_INPUTS = ("changes its inputs", "After your function ran, what it was given is no longer as it was. "
                  "Which line writes into it (+=, x[...] = ..., pop, or a method that ends in _)?")  # fmt: skip
NOT_STEADY = ("not the same answer twice", "The same input gave two different answers. What in your code remembers, "
              "draws random numbers, or is another in training than in evaluation?")  # fmt: skip
OVERWRITTEN = ("overwrites what the gradient needs", "A line changes a tensor in place (+=, *=, exp_()) that "
               "the way back still needs. Make a new one instead.")  # fmt: skip
EXCHANGED = ("results in another order", "You return the right things in another order than the exercise asks for.")
NOTHING = ("nothing returned", "Your function returned None. Does its last line say return?")


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
            if not same_error(outcome.error, other.error):
                return False
            seen = True
            continue
        if not same_outcome(outcome, other):
            return False
        seen = seen or not same_outcome(outcome, want)
    return seen


def same_error(mine: BaseException, other: BaseException) -> bool:
    """Whether two errors tell of the same: of one type, or both from a library that was given wrong shapes."""
    shapes = (RuntimeError, ValueError, IndexError)
    return type(mine) is type(other) or (isinstance(mine, shapes) and isinstance(other, shapes))


def same_outcome(mine: Outcome, other: Outcome) -> bool:
    """Whether two answers gave the same results and gradients; where `mine` has no gradient the results decide."""
    if not alike(mine.results, other.results):
        return False
    return mine.gradients is None or (other.gradients is not None and alike(mine.gradients, other.gradients))


def of_a_kind(mine: tuple, right: tuple) -> bool:
    """Whether results have the shapes and dtypes of the right ones."""
    if not all(isinstance(x, Tensor) for x in (*mine, *right)):
        return False
    return [(x.shape, x.dtype, x.device) for x in mine] == [(x.shape, x.dtype, x.device) for x in right]


def no_graph(error: BaseException | None) -> bool:
    """Whether the missing graph is all that is wrong: no error, or that of .numpy() on a tensor with a graph."""
    return error is None or "requires grad" in message(error)


def general(got: list[Outcome], wanted: list[Outcome]) -> list[tuple[str, str]]:
    """Mistakes that belong to no exercise in particular."""
    cut = any(
        g.gradients is None and w.gradients is not None and of_a_kind(g.results, w.results) and no_graph(g.error)
        for g, w in zip(got, wanted, strict=False)
    )
    found = {
        NOTHING: any(len(outcome.results) == 1 and outcome.results[0] is None for outcome in got),
        NOT_STEADY: any(not outcome.same_twice for outcome in got),
        CHANGES_INPUTS: any(outcome.changed_inputs for outcome in got),
        OVERWRITTEN: any("modified by an inplace operation" in message(o.error) for o in got if o.error),
        EXCHANGED: len(wanted[0].results) > 1
        and bool(got)
        and all(alike(g.results[::-1], w.results) for g, w in zip(got, wanted, strict=False)),
    }
    named = [mistake for mistake, made in found.items() if made]
    return named or ([CUT] if cut else [])
