"""What an exercise is: inputs, the right answer in exchangeable steps, the classic mistakes by name, hints."""

import inspect
import itertools
import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vit_edu.exercises.guard import unheard
from vit_edu.exercises.trial import AnswerError, map_tensors


class Draw:
    """Fresh random inputs in float64. `seed` repeats them."""

    def __init__(self, seed: int | None = None):
        self.seed = secrets.randbits(62) if seed is None else seed
        self.generator = torch.Generator().manual_seed(self.seed)

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1), float64."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def small(self, *shape: int) -> Tensor:
        """Whole numbers from -2 to 2 as float64, easy to read in a report."""
        return torch.randint(-2, 3, shape, generator=self.generator).double()

    def distinct(self, *shape: int) -> Tensor:
        """The numbers 1, 2, 3, … in random places as float64: no two are the same."""
        return (torch.randperm(math.prod(shape), generator=self.generator) + 1).double().view(shape)

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))


def call_module(mine: type[nn.Module], config: dict, state: dict[str, Tensor], *inputs: Tensor):
    """Builds `mine(**config)`, puts the parameters `state` in by name, runs it. Gradients reach `state`.

    Where they are asked for it runs as in training, and not for the first time; else as in evaluation, fresh. A right
    answer gives the same both times, so that one which remembers, or is wrong in one of the modes, is not steady.

    Raises AnswerError, with a sentence for the learner, where names or shapes of parameters differ.
    """
    if isinstance(mine, nn.Module):
        raise AnswerError("Hand over the class itself, not an object made from it.")
    module = mine(**config)
    if not isinstance(module, nn.Module):
        raise AnswerError(
            f"A class derived from torch.nn.Module is wanted; calling yours gave a {type(module).__name__}."
        )
    found = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    wanted = {name: tuple(value.shape) for name, value in state.items()}
    if found != wanted:
        lines = [f"{name} {wanted[name]} is missing" for name in wanted.keys() - found.keys()]
        lines += [f"{name} {found[name]} is not wanted" for name in found.keys() - wanted.keys()]
        both = found.keys() & wanted.keys()
        lines += [f"{n} is {found[n]}, wanted {wanted[n]}" for n in both if found[n] != wanted[n]]
        raise AnswerError(
            f"The parameters of your module differ from the published ones: {'; '.join(sorted(lines))}. "
            "(A tensor that is no parameter: register_buffer(..., persistent=False).)"
        )
    owners = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if (first := owners.setdefault(parameter, name)) != name:
            hint = "[layer] * 2 holds one layer twice"
            raise AnswerError(f"{first} and {name} are one and the same tensor; each needs its own ({hint}).")
    learned = {name for parameter, name in owners.items() if parameter.requires_grad}
    if fixed := sorted(wanted.keys() - learned):
        raise AnswerError(f"Training would not change {', '.join(fixed)}: no nn.Parameter with requires_grad=True.")
    if any(value.requires_grad for value in state.values()):
        with torch.no_grad(), unheard():
            put(module, map_tensors(Tensor.neg, state))(*map_tensors(Tensor.clone, inputs))
    else:
        module.eval()
    return put(module, state)(*inputs)


def put(module: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """`module` with the tensors of `state` as its parameters, for good: a block may run again on the way back."""
    for name, value in state.items():
        owner, _, leaf = name.rpartition(".")
        module.get_submodule(owner)._parameters[leaf] = value
    return module


@dataclass(frozen=True)
class Mistake:
    """A classic mistake: its name, the thought that leads out of it, and the steps (or the whole) it gets wrong."""

    name: str
    thought: str
    whole: Callable | None
    steps: dict[str, Callable]


class Exercise:
    """One exercise with everything its check needs.

    Args:
        name: as in `vit_edu.check(name, mine)`.
        lesson: the lesson's number, "02".
        points: what it is worth.
        reference: the right answer; the lesson goes on with it until the learner's passes.
        cases: generator function `draw -> inputs`, each a tuple, the smallest first.
        hints: nudge, shapes, part of the code; the source of the reference follows as the last.
        returns: names of the results, when there is more than one; else one name.
        observed: those of `returns` that are for looking at: no gradient need flow through them.
        ready_made: torch functions, Python functions and module classes that are the answer already.
        call: how a case runs an answer, `call(mine, *inputs)`.
    """

    def __init__(
        self,
        name: str,
        *,
        lesson: str,
        points: int,
        reference: Callable,
        cases: Callable[[Draw], Iterator[tuple]],
        hints: tuple[str, ...],
        returns: tuple[str, ...] | str = "result",
        observed: tuple[str, ...] = (),
        ready_made: tuple = (),
        call: Callable = lambda mine, *inputs: mine(*inputs),
    ):
        self.name, self.lesson, self.points = name, lesson, points
        self.reference, self.cases, self.hints = reference, cases, hints
        self.single = isinstance(returns, str)
        self.returns = (returns,) if self.single else returns
        self.observed, self.call = observed, call
        self.ready_made = (reference, *ready_made)
        self.seconds: float | None = None  # of patience with an answer, where it is not the guard's own
        self.mistakes: list[Mistake] = []
        self.invariances: list[tuple[str, Callable]] = []
        self.steps: Callable | None = None

    def recipe(self, function: Callable) -> Callable:
        """Decorator: the right answer, its steps as keyword-only functions that mistakes replace."""
        self.steps = function
        self.ready_made += (function,)
        return function

    def mistake(
        self, name: str, thought: str, whole: Callable | None = None, *, alone: bool = False, **steps: Callable
    ) -> None:
        """Adds a classic mistake: the steps of the recipe that it gets wrong, or the whole wrong answer.

        One that is rare is `alone`: it is not looked for together with another one, which keeps the check quick.
        """
        unknown = steps.keys() - inspect.signature(self.steps).parameters.keys()
        if unknown or (whole is None) == (not steps):
            raise ValueError(
                f"Mistake {name!r} of {self.name!r}: give the whole answer or steps of the recipe; unknown: {unknown}."
            )
        if alone:
            whole, steps = partial(self.steps, **steps), {}
        self.mistakes.append(Mistake(name, thought, whole, steps))

    def invariance(self, sentence: str) -> Callable:
        """Decorator: a property `holds(mine, draw) -> bool` that every right answer has."""

        def register(function):
            self.invariances.append((sentence, function))
            return function

        return register

    @property
    def differentiable(self) -> bool:
        """Whether a gradient is asked of any result."""
        return not set(self.returns) <= set(self.observed)

    @property
    def input_names(self) -> list[str]:
        """The inputs' names, as the recipe calls them."""
        parameters = inspect.signature(self.steps).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    def wrong(self, mistake: Mistake) -> Callable:
        """The answer that has this mistake and no other."""
        return mistake.whole or partial(self.steps, **mistake.steps)

    def wrong_answers(self) -> Iterator[tuple[tuple[Mistake, ...], Callable]]:
        """Every mistake, then every pair of mistakes of different steps, with what it computes."""
        for mistake in self.mistakes:
            yield (mistake,), self.wrong(mistake)
        for first, second in itertools.combinations(self.mistakes, 2):
            if first.steps and second.steps and not first.steps.keys() & second.steps.keys():
                yield (first, second), partial(self.steps, **first.steps, **second.steps)
