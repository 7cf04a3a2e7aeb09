"""Run an answer on one case after another and keep what it did: results, gradients, changes of its inputs."""

import contextlib
import linecache
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vit_edu.exercises.guard import Run, Stopped, guarded

LONGEST = 10_000  # items of a list, bits of a number: more is no answer to anything here
OWN_FILES = str(Path(__file__).resolve().parent)


class AnswerError(Exception):
    """An answer that cannot be run as the exercise asks; the message is a sentence for the learner."""


@dataclass
class Outcome:
    """What one answer did on one case."""

    results: tuple = ()
    gradients: tuple[Tensor, ...] | None = None  # None: no result depends on the inputs
    error: BaseException | None = None
    where: str = ""  # the learner's line that raised
    changed_inputs: bool = False
    same_twice: bool = True


class Trial(NamedTuple):
    """What an answer did on all cases, as far as it came."""

    run: Run
    outcomes: list[Outcome]
    printed: str


def map_tensors(function: Callable[[Tensor], object], tree, integers: bool = False):
    """`tree` (nested tuples, lists, dicts) with `function` applied to each floating-point tensor, or to all."""
    if isinstance(tree, Tensor):
        return function(tree) if integers or tree.is_floating_point() else tree
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_tensors(function, item, integers) for item in tree)
    if isinstance(tree, dict):
        return {key: map_tensors(function, value, integers) for key, value in tree.items()}
    return tree


def float_tensors(tree) -> list[Tensor]:
    """All floating-point tensors of a nested structure, in order."""
    found: list[Tensor] = []
    map_tensors(found.append, tree)
    return found


def attempt(exercise, answer: Callable, case: tuple, call: Callable) -> Outcome:
    """One answer on one case: results, gradients of a fixed random projection, and what it did to its inputs."""
    outcome, leaves = Outcome(), []

    def watched(tensor: Tensor) -> Tensor:
        leaves.append(tensor.clone().requires_grad_(exercise.differentiable))
        return leaves[-1].clone()  # not a leaf, so that a change in place reaches our comparison and not autograd's

    try:
        given = map_tensors(Tensor.clone, case, integers=True)  # a write into labels is found out too
        outcome.results = as_results(call(answer, *given), exercise)
        outcome.changed_inputs = not alike(given, case)
        again = map_tensors(watched, map_tensors(Tensor.clone, case, integers=True))
        again = as_results(call(answer, *again), exercise)
        outcome.same_twice = alike(outcome.results, detached(again))
        outcome.gradients = project(again, exercise, leaves)
    except Stopped:
        raise
    except BaseException as error:  # SystemExit too: nothing that an answer raises may end the notebook
        outcome.error, outcome.where = error, learners_line(error)
    return outcome


def results_of(exercise, answer: Callable, case: tuple) -> tuple:
    """Only the results of one of our own answers; none where it does not run."""
    with contextlib.suppress(Exception):
        return as_results(answer(*case), exercise)
    return ()


def as_results(value, exercise) -> tuple:
    """The results of an answer as a tuple, whether it has one or several; a wrong number of them is kept as it is."""
    if exercise.single:
        return (plain(value),)
    if type(value) is Tensor and value.ndim and len(value) == len(exercise.returns) > 2:
        return value.unbind(0)  # stacked results unpack as a tuple does
    return tuple(map(plain, value if isinstance(value, (tuple, list)) else [value]))


def plain(value):
    """A value of our own kinds as it is; of anything else, which may answer any comparison, only the type."""
    if type(value) in (tuple, list) and len(value) <= LONGEST:
        return type(value)(map(plain, value))
    if type(value) in (Tensor, nn.Parameter):
        ours = value.layout == torch.strided and not value.is_nested and not value.is_quantized
        return value if ours else type(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value) if int(value).bit_length() < LONGEST else int
    if isinstance(value, np.floating):
        return float(value)
    return value if type(value) in (float, bool, str, type(None)) else type(value)


def project(results: tuple, exercise, leaves: list[Tensor]) -> tuple[Tensor, ...] | None:
    """Gradients of a random projection of the results; the same projection whenever the shapes are the same."""
    total, generator = 0.0, torch.Generator().manual_seed(0)
    for i, result in enumerate(results):
        observed = i < len(exercise.returns) and exercise.returns[i] in exercise.observed
        if isinstance(result, Tensor) and result.requires_grad and not (observed or result.is_meta):
            weight = torch.randn(result.shape, generator=generator, dtype=torch.float64)
            total = total + (result * weight.to(result)).sum()
    if not leaves or not isinstance(total, Tensor):
        return None
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return tuple(torch.zeros_like(x) if g is None else g.detach() for g, x in zip(found, leaves, strict=True))


def detached(tree):
    """The same structure without autograd's graph."""
    return map_tensors(Tensor.detach, tree)


def alike(a, b) -> bool:
    """Whether two results are the same in type, shape and value (NaN equals NaN).

    Tensors to 1e-6 of the largest value in float64, so that a √d rounded to float32 passes; to 1e-4 in less.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.device != b.device or a.is_floating_point() != b.is_floating_point():
            return False
        if not a.is_floating_point():
            return torch.equal(a, b)
        if a.is_meta:
            return True  # shapes without numbers
        low = torch.promote_types(a.dtype, b.dtype) != torch.float64 or a.dtype != b.dtype
        a, b = a.detach().double(), b.detach().double()
        return bool(close(a, b, 1e-4 if low else 1e-6).all())
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b, strict=True))
    if type(a) is float and type(b) is float:
        return abs(a - b) <= 1e-9 * max(1.0, abs(b)) or (a != a and b != b)
    return type(a) is type(b) and not isinstance(a, Tensor) and bool(a == b)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Element by element whether float64 `a` is `b` to `tolerance` of b's largest value; NaN equals NaN."""
    finite = b[b.isfinite()]
    scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    return torch.isclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True)


def message(error: BaseException) -> str:
    """Type and text of an exception, whatever its own __str__ does."""
    try:
        text = str(error).encode("utf-8", "replace").decode()
        return f"{type(error).__name__}: {text[:500]}{' …' * (len(text) > 500)}"
    except BaseException:
        return f"{type(error).__name__} (it has no text that can be shown)"


def learners_line(error: BaseException) -> str:
    """The last line of the learner's own code in the traceback."""
    if hasattr(error, "learners_line"):  # it came from another process
        return error.learners_line
    frames = traceback.extract_tb(error.__traceback__)
    packages = str(Path(torch.__file__).parent.parent)
    for frame in reversed(frames):
        if not frame.filename.startswith((OWN_FILES, packages)):
            return f"line {frame.lineno}: {frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()}"
    return ""


def try_answer(exercise, mine: Callable, cases: list[tuple]) -> Trial:
    """The learner's answer on every case, under guard."""
    outcomes: list[Outcome] = []
    first_prints: list[str] = []

    def work(printed):
        kept = []
        for case in cases:
            outcomes.append(attempt(exercise, mine, case, exercise.call))
            kept.append(map_tensors(Tensor.clone, outcomes[-1].results))
            first_prints.append(printed.text)
        for outcome, results in zip(outcomes, kept):
            outcome.same_twice &= alike(outcome.results, results)  # a buffer that is used again changes earlier results

    run = guarded(work, exercise.ready_made, exercise.seconds)
    said = first_prints[0] if first_prints else run.printed
    half = said[: len(said) // 2]  # a case runs twice
    return Trial(run, outcomes, half if half + half == said else said)
