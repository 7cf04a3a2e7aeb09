"""The rungs of the ladder: how one case fails, in a sentence."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from vit_edu.exercises.core import Exercise
from vit_edu.exercises.trial import AnswerError, Outcome, alike, close, float_tensors, message

RUNGS = ("runs", "shape", "values", "gradient", "invariance")


@dataclass
class Failure:
    """Where one case fails: the rung and a sentence."""

    rung: str
    sentence: str


def failure(exercise: Exercise, case: tuple, got: Outcome, want: Outcome) -> Failure | None:
    """The first rung on which one case fails, or None."""
    if got.error and not got.results:
        sentence = str(got.error) if isinstance(got.error, AnswerError) else ""
        return Failure("runs", sentence or message(got.error))
    if len(got.results) != len(exercise.returns):
        wanted = ", ".join(exercise.returns)
        found = describe(got.results[0]) if len(got.results) == 1 else f"{len(got.results)} results"
        return Failure("runs", f"Your code returned {found}; {len(exercise.returns)} results are wanted: {wanted}.")
    given = {tensor.dtype for tensor in float_tensors(case)}
    trios = zip(exercise.returns, got.results, want.results, strict=True)
    problems = [difference(*trio, given) for trio in trios]
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
            names = ", ".join(unreached(exercise, case, got, want))
            which = f"no gradient reaches {names}" if names else "the gradient is not that of the right answer"
            return Failure("gradient", f"The values are right, but {which}.")
    if got.changed_inputs:
        return Failure("invariance", "The results are right, but your code changes what it is given.")
    return None


def unreached(exercise: Exercise, case: tuple, got: Outcome, want: Outcome) -> list[str]:
    """The inputs whose gradient is zero throughout, and should not be."""
    pairs = zip(tensor_names(exercise.input_names, case), got.gradients, want.gradients)
    return [name for name, mine, right in pairs if not mine.any() and right.abs().max() > 1e-6]


def tensor_names(names: list[str], case: tuple) -> Iterator[str]:
    """The names of a case's floating-point tensors, in order; those in a dict have their own."""
    for name, value in zip(names, case):
        if isinstance(value, dict):
            yield from tensor_names(list(value), tuple(value.values()))
        elif isinstance(value, Tensor) and value.is_floating_point():
            yield name


def difference(name: str, got, want, given: set = frozenset()) -> Failure | None:
    """The first way in which one result differs from the right one; `given` are the dtypes of the inputs."""
    if not isinstance(want, Tensor):
        if type(got) is not type(want):
            return Failure("runs", f"Your {name}: {describe(got)} found, {describe(want)} wanted.")
        return None if alike(got, want) else Failure("values", f"Your {name}: {got!r} found, {want!r} wanted.")
    if not isinstance(got, Tensor):
        return Failure("runs", f"Your {name}: {describe(got)} found, a torch.Tensor wanted.")
    if got.shape != want.shape:
        order = " The sizes are right, their order is not." if sorted(got.shape) == sorted(want.shape) else ""
        return Failure("shape", f"The shape of your {name} is {tuple(got.shape)}, wanted {tuple(want.shape)}.{order}")
    if got.device != want.device:
        return Failure("shape", f"The device of your {name} is {got.device}, that of the inputs {want.device}.")
    if got.dtype != want.dtype:
        remedy = ": where you make a new tensor, use the dtype of the inputs, as in x.new_zeros(...)"
        remedy = remedy if given == {want.dtype} else ""  # else the exercise changes the dtype, and says so
        return Failure("shape", f"The dtype of your {name} is {got.dtype}, wanted {want.dtype}{remedy}.")
    if alike(got, want):
        return None
    if got.isnan().any() and not want.isnan().any():
        return Failure("values", f"The shape of your {name} is right, but the tensor holds NaN (not a number).")
    largest = (got.double() - want.double()).abs().max().item()
    share = 1 - close(got.double(), want.double()).double().mean().item()
    numbers = f"{share:.0%} of its numbers are wrong, the largest difference is {largest:.3g}"
    return Failure("values", f"The shape of your {name} is right; {numbers}.")


def constant_factor(exercise: Exercise, got: Outcome, want: Outcome) -> str:
    """A sentence when a result is the right one times a number."""
    for name, mine, right in zip(exercise.returns, got.results, want.results):
        if isinstance(right, Tensor) and difference(name, mine, right) and mine.shape == right.shape:
            factor = ((mine * right).sum() / (right * right).sum()).item()
            if 1e-6 < abs(factor) < 1e6 and abs(factor - 1) > 1e-3 and alike(mine, factor * right):
                return f" On the largest input yours is the right {name} times {factor:.4g}."
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
