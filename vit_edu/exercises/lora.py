"""Exercise of lesson 08: a frozen layer with two thin ones beside it. Source: Hu et al. 2022, section 4.1."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu.exercises.core import Draw, Exercise
from vit_edu.exercises.trial import AnswerError


class LoRALinear(nn.Module):
    """W x + b + (alpha / rank) up down x; W and b are frozen. The kit's own is in vit_edu.training."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        super().__init__()
        self.linear, self.scale = linear.requires_grad_(False), alpha / rank
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        self.linear.weight += self.scale * self.up @ self.down
        return self.linear


def layers_and_tokens(draw: Draw):
    """weight (out, in), bias, down (rank, in), up (out, rank), alpha, x (..., in)."""
    for wide, out, rank, alpha, shape in (
        (2, 3, 1, 3.0, ()),
        (4, 3, 2, 3.0, (2,)),
        (5, 7, 3, 8.0, (2, 3)),
        (6, 6, 4, 1.0, (3,)),
        (7, 4, 2, 2.0, (2, 5)),
    ):
        layer = draw.normal(out, wide), draw.normal(out), draw.normal(rank, wide), draw.normal(out, rank)
        yield *layer, alpha, draw.normal(*shape, wide)


RESULTS = ("beginning", "who learns", "output", "output when merged")


def beginning(first: Tensor, second: Tensor) -> str:
    """How a parameter begins, seen in two layers made one after the other."""
    if not first.any():
        return "zero"
    if not first.isfinite().all():
        return "not finite"
    return "the same every time" if torch.equal(first, second) else "random"


def at_work(mine, weight, bias, down, up, alpha, x):
    """Builds the answer around a linear layer, looks at how it begins, gives it `down` and `up`, runs and merges it."""
    if isinstance(mine, nn.Module):
        raise AnswerError("Hand over the class itself, not an object made from it.")
    linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    with torch.no_grad():
        linear.weight.copy_(weight), linear.bias.copy_(bias)
    layer = mine(linear, down.shape[0], alpha)
    if not isinstance(layer, nn.Module):
        raise AnswerError(f"A class derived from torch.nn.Module is wanted; yours gave a {type(layer).__name__}.")
    own = dict(layer.named_parameters())
    for name, value in (("down", down), ("up", up)):
        if name not in own or own[name].shape != value.shape:
            found = f"of shape {tuple(own[name].shape)}" if name in own else "missing"
            raise AnswerError(f"self.{name}, an nn.Parameter of shape {tuple(value.shape)}, is wanted; it is {found}.")
    other = dict(mine(copy.deepcopy(linear), down.shape[0], alpha).named_parameters())
    begins = ", ".join(f"{name} {beginning(own[name], other[name])}" for name in ("down", "up"))
    learns = ", ".join(sorted(name for name, parameter in own.items() if parameter.requires_grad))
    with torch.no_grad():
        own["down"].copy_(down), own["up"].copy_(up)
    layer.to(weight.dtype)  # what an answer makes is float32
    layer.train(down.shape[0] % 2 == 0)  # in either mode the same
    output = torch.func.functional_call(layer, {"down": down, "up": up}, (x,))
    merged = copy.deepcopy(layer).merged()  # which may write into the layer that `output` still needs
    if type(merged) is not nn.Linear:
        raise AnswerError(f"merged() must give a plain nn.Linear; yours gave a {type(merged).__name__}.")
    return begins, learns, output, merged(x)


lora = Exercise(
    "lora",
    lesson="08",
    points=3,
    reference=LoRALinear,
    cases=layers_and_tokens,
    returns=RESULTS,
    observed=("output when merged",),
    call=at_work,
    hints=(
        "Two paths side by side: the old layer as it was, and a detour that is narrow in the middle. What must the "
        "detour add at the very beginning, so that nothing is lost before the first step?",
        "down (rank, in_features), random; up (out_features, rank), zeros. F.linear(x, down) is (..., rank), "
        "F.linear of "
        "that with up is (..., out_features). The detour counts alpha / rank. Merged: up @ down has linear.weight's "
        "shape.",
        "self.linear, self.scale = linear.requires_grad_(False), ...\nself.down = nn.Parameter(torch.randn(...) / "
        "in_features**0.5)\nself.up = nn.Parameter(torch.zeros(...))\n\nreturn self.linear(x) + self.scale * ...\n\n"
        "merged.weight = linear.weight + self.scale * self.up @ self.down",
    ),
)


class Adapter(nn.Module):
    """The recipe's steps at work as a module."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, steps: dict):
        super().__init__()
        self.linear, self.scale, self.steps = linear, steps["scale"](alpha, rank), steps
        steps["freeze"](linear)
        self.down = nn.Parameter(steps["begin_down"](torch.randn(rank, linear.in_features)))
        self.up = nn.Parameter(steps["begin_up"](torch.zeros(linear.out_features, rank)))

    def forward(self, x: Tensor) -> Tensor:
        detour = F.linear(self.steps["between"](F.linear(x, self.down)), self.up)
        return self.steps["join"](self.linear, x, self.scale * detour)

    def merged(self) -> nn.Linear:
        with torch.no_grad():
            return self.steps["merge"](self.linear, self.scale, self.up, self.down)


def added(linear, scale, up, down):
    linear.weight += scale * up @ down
    return linear


def without_bias(linear, scale, up, down):
    plain = nn.Linear(linear.in_features, linear.out_features, bias=False, dtype=linear.weight.dtype)
    plain.weight.copy_(linear.weight + scale * up @ down)
    return plain


def detour_alone(linear, scale, up, down):
    linear.weight.copy_(scale * up @ down)
    return linear


@lora.recipe
def lora_in_steps(
    weight,
    bias,
    down,
    up=None,
    alpha=None,
    x=None,
    *,
    begin_down=lambda random: random,
    begin_up=lambda zeros: zeros,
    freeze=lambda linear: linear.requires_grad_(False),
    scale=lambda alpha, rank: alpha / rank,
    between=lambda narrow: narrow,
    join=lambda linear, x, detour: linear(x) + detour,
    merge=added,
):
    steps = {"begin_down": begin_down, "begin_up": begin_up, "freeze": freeze, "scale": scale}
    steps |= {"between": between, "join": join, "merge": merge}
    if isinstance(weight, nn.Linear):  # built as a learner's class is: (linear, rank, alpha)
        return Adapter(weight, bias, down, steps)
    return at_work(lambda *words: Adapter(*words, steps), weight, bias, down, up, alpha, x)


lora.mistake(
    "up begins at random",
    "With both at random the detour adds noise from the first step on, and what was learned before is spoilt. Which of "
    "the two must begin at nought?",
    begin_up=torch.randn_like,
)
lora.mistake(
    "both begin at nought",
    "The gradient of up has down as a factor, and that of down has up. With both at nought neither will ever move.",
    begin_down=torch.zeros_like,
)
lora.mistake(
    "down begins at nought and up at random",
    "The product is nought as well, so it would learn. But the paper, and every adapter that others publish, begins "
    "with down at random and up at nought.",
    begin_down=torch.zeros_like,
    begin_up=torch.randn_like,
)
lora.mistake(
    "down is the same every time",
    "Every layer that you wrap begins with the same down. All its rows alike learn the same and count as one: the rank "
    "is 1, whatever you ask for. Draw it.",
    begin_down=torch.ones_like,
)
lora.mistake(
    "alpha and rank are forgotten",
    "Your detour counts once, whatever alpha and rank are. Then with every other rank you need another learning rate. "
    "What is it multiplied by?",
    scale=lambda alpha, rank: 1.0,
)
lora.mistake(
    "not divided by the rank",
    "Your detour counts alpha times. With twice the rank twice as many terms are added up: what keeps its size?",
    scale=lambda alpha, rank: alpha,
)
lora.mistake(
    "divided by the rank only",
    "Your detour counts 1 / rank. Which argument have you not used?",
    scale=lambda alpha, rank: 1 / rank,
)
lora.mistake(
    "rank over alpha",
    "You divide the rank by alpha. Which of them makes the detour stronger?",
    scale=lambda alpha, rank: rank / alpha,
)
lora.mistake(
    "divided by the root of the rank",
    "You divide by √rank. A later paper argues for that (rank-stabilised LoRA); asked for is the first one's alpha "
    "/ rank.",
    scale=lambda alpha, rank: alpha / rank**0.5,
)
lora.mistake(
    "the old layer still learns",
    "linear.weight and linear.bias ask for a gradient, so all the parameters that LoRA should save are trained.",
    freeze=lambda linear: None,
)
lora.mistake(
    "the old layer's bias still learns",
    "You freeze linear.weight and forget linear.bias. One call freezes a whole module.",
    freeze=lambda linear: linear.weight.requires_grad_(False),
)
lora.mistake(
    "the old layer is replaced",
    "Your output is the detour alone. What of the layer that knew everything?",
    join=lambda linear, x, detour: detour,
)
lora.mistake(
    "the old layer's bias is lost",
    "You multiply by linear.weight and leave its bias out.",
    join=lambda linear, x, detour: F.linear(x, linear.weight) + detour,
)
lora.mistake(
    "something bends in between",
    "There is an activation between down and up. Then no single matrix can do the same, and nothing can be merged. "
    "Adapters of Houlsby et al. are built so; LoRA is not.",
    between=F.relu,
)
lora.mistake(
    "merged without the scale",
    "Your merged layer has up @ down, but not its factor. What does forward multiply by?",
    merge=lambda linear, scale, up, down: added(linear, 1.0, up, down),
)
lora.mistake(
    "nothing is merged",
    "merged() gives the old layer back as it was: all that was learned is lost.",
    merge=lambda linear, scale, up, down: linear,
)
lora.mistake(
    "merged without the bias",
    "Your merged layer has lost the old layer's bias.",
    merge=without_bias,
)
lora.mistake(
    "only the detour is merged",
    "Your merged layer is the detour alone. To what is it added?",
    merge=detour_alone,
)
