"""Exercises of lesson 11: a block that is run twice to save memory, and weights that must stay in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vit_edu.exercises.core import Draw, Exercise
from vit_edu.exercises.memory_targets import PeakBytes
from vit_edu.exercises.trial import AnswerError


class Recompute(torch.autograd.Function):
    """function(*tensors), of which nothing but the tensors is kept: Chen et al. 2016. Recompute.apply(function, ...)"""

    @staticmethod
    def forward(ctx, function, *tensors):
        ctx.function = function
        ctx.save_for_backward(*tensors)
        return function(*tensors)  # inside a Function's forward nothing is recorded

    @staticmethod
    def backward(ctx, gradient):
        tensors = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        with torch.enable_grad():
            result = ctx.function(*tensors)
        return None, *torch.autograd.grad(result, tensors, gradient)


class Mlp:
    """What is run twice, as a report shows it."""

    def __call__(self, x: Tensor, W: Tensor, V: Tensor) -> Tensor:
        return x + F.gelu(x @ W) @ V

    def __repr__(self):
        return "x + gelu(x @ W) @ V"


def count_kept(mine, function, *tensors):
    """A Function is applied, and to other tensors, to count what is kept beside them: by a graph, or by being alive.
    Our own wrong answers, functions, give both already.

    `function` is made anew: to a learner's process that grades, only plain values and tensors come.
    """
    if isinstance(mine, type) and not issubclass(mine, torch.autograd.Function):
        raise AnswerError(f"A class derived from torch.autograd.Function is wanted; {mine.__name__} is not.")
    function, run = Mlp(), mine.apply if isinstance(mine, type) else mine
    result = run(function, *tensors)
    if isinstance(result, tuple):
        return result
    others = [(tensor.detach() + 1).requires_grad_() for tensor in tensors]
    given, kept = {tensor.data_ptr() for tensor in others}, {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with PeakBytes() as new, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer = run(function, *others)
    given.add(answer.untyped_storage().data_ptr())  # the caller's; if it was put aside as well, it is counted above
    alive = [found for storage in new.known.values() if (found := storage()) is not None]
    for storage in alive:  # also what hooks of the answer's own have taken
        if storage.data_ptr() not in given:
            kept[storage.data_ptr()] = storage.nbytes()
    return result, sum(kept.values()) // answer.element_size()


def functions(draw: Draw):
    for N, D, wide in ((1, 1, 2), (2, 3, 4), (3, 2, 5), (draw.integer(4, 6), 7, 9)):
        yield Mlp(), draw.normal(N, D), draw.normal(D, wide), draw.normal(wide, D)


again = Exercise(
    "recompute",
    lesson="11",
    points=4,
    reference=Recompute,
    cases=functions,
    returns=("result", "count of numbers kept"),
    call=count_kept,
    ready_made=(checkpoint,),
    hints=(
        "Going forward: keep what goes in, run the function, forget everything between. Going back: run the function "
        "again, this time with a graph, and ask that graph for the gradients.",
        "backward gets the gradient of the result and returns one thing for each argument of forward behind ctx: None "
        "for `function`, then a gradient for each tensor. Give `gradient` to torch.autograd.grad as grad_outputs.",
        "tensors = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]\nwith torch.enable_grad():\n"
        "    result = ...\nreturn None, *torch.autograd.grad(result, tensors, ...)",
    ),
)


def gradients(function, tensors, gradient):
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    with torch.enable_grad():
        return torch.autograd.grad(function(*tensors), tensors, gradient)


class InSteps(torch.autograd.Function):
    """Recompute with exchangeable steps."""

    @staticmethod
    def forward(ctx, function, back, keep, *tensors):
        result = function(*tensors)
        ctx.function, ctx.back = function, back
        ctx.save_for_backward(*keep(tensors, result))
        return result

    @staticmethod
    def backward(ctx, gradient):
        return None, None, None, *ctx.back(ctx.function, ctx.saved_tensors[:3], gradient)


class Shared(InSteps):
    """The same with all that it keeps on the class."""

    @staticmethod
    def forward(ctx, function, back, keep, *tensors):
        Shared.kept = function, back, tensors
        return function(*tensors)

    @staticmethod
    def backward(ctx, gradient):
        function, back, tensors = Shared.kept
        return None, None, None, *back(function, tensors, gradient)


again.seconds = 20.0  # the first checkpoint of a session imports much


@again.recipe
def recompute_in_steps(
    function,
    x,
    W,
    V,
    *,
    back=gradients,
    keep=lambda tensors, result: tensors,
    run=InSteps.apply,
):
    return count_kept(lambda function, *tensors: run(function, back, keep, *tensors), function, x, W, V)


again.mistake(
    "everything is kept",
    "The gradients are right, but what lies between was kept as well, by a graph or by you. Inside the forward of an "
    "autograd.Function nothing is recorded: call the function there, and keep only what came in.",
    run=lambda function, back, keep, *tensors: function(*tensors),
)
again.mistake(
    "the result is kept too",
    "You keep the result beside the tensors that came in. Nobody needs it: it is computed again.",
    keep=lambda tensors, result: (*tensors, result),
)
again.mistake(
    "one place for all calls",
    "You keep things where all calls share them, and a model has many blocks: the second call overwrites what the "
    "first has kept. What is each call's own?",
    run=Shared.apply,
)
again.mistake(
    "the gradient from above is forgotten",
    "Your gradients are those of the sum of the result. The result is not the loss: what does backward get as its "
    "argument?",
    back=lambda function, tensors, gradient: gradients(function, tensors, torch.ones_like(gradient)),
)
again.mistake(
    "only x gets a gradient",
    "The matrices learn too, and they get nothing from you. backward returns one gradient for every tensor.",
    back=lambda function, tensors, gradient: (gradients(function, tensors, gradient)[0], None, None),
)
again.mistake(
    "only the matrices get a gradient",
    "x comes from the layers below, and they wait for its gradient. backward returns one for every tensor.",
    back=lambda function, tensors, gradient: (None, *gradients(function, tensors, gradient)[1:]),
)
again.mistake(
    "recomputed from the result",
    "You kept the result in the place of x and ran the function on it. Which tensors did forward get?",
    keep=lambda tensors, result: (result, *tensors[1:]),
)
again.mistake(
    "the gradient goes straight through",
    "x gets the gradient of the result as it is, as if the function were the identity. What has to run again?",
    back=lambda function, tensors, gradient: (gradient, None, None),
)
again.mistake(
    "the gradient from above is multiplied on at the end",
    "You take the gradient of the sum and multiply it with the one from above, number by number. That is right where "
    "each result hangs on one input only. torch.autograd.grad takes grad_outputs.",
    back=lambda function, tensors, gradient: (
        gradients(function, tensors, torch.ones_like(gradient))[0] * gradient,
        *gradients(function, tensors, gradient)[1:],
    ),
)


def master_steps(weight: Tensor, gradients: list[Tensor], lr: float) -> tuple[Tensor, Tensor]:
    """Steps of SGD on a float32 copy of a bfloat16 weight: rounded, and as it is (Micikevicius et al. 2018)."""
    master = weight.float()
    for gradient in gradients:
        master = master - lr * gradient.float()
    return master.bfloat16(), master


def in_sixteen_bits(mine, weight, gradients, lr):
    """The check also hands over float32, as models run in: here it means nothing."""
    return mine(weight.bfloat16(), [gradient.bfloat16() for gradient in gradients], lr)


def small_steps(draw: Draw):
    """Steps of which one is lost in bfloat16, and many make a difference."""
    for n, steps in ((1, 1), (2, 3), (5, 40), (9, draw.integer(50, 60))):
        weight = (1 + draw.normal(n).abs()).bfloat16()
        yield weight, [(1.3 + 0.2 * draw.normal(n)).bfloat16() for _ in range(steps)], 2**-10


master = Exercise(
    "master_steps",
    lesson="11",
    points=2,
    reference=master_steps,
    cases=small_steps,
    returns=("weight", "master"),
    observed=("weight", "master"),
    call=in_sixteen_bits,
    hints=(
        "Between 1 and 2 the numbers of bfloat16 are 1/128 apart. What becomes of 1 - 0.001? In which type must the "
        "small steps be added up?",
        "weight bfloat16 (n,), each gradient bfloat16 (n,) -> the rounded weight bfloat16 (n,), the master float32 "
        "(n,)",
        "master = weight.float()\nfor gradient in gradients:\n    master = ...           # all in float32\n"
        "return master.bfloat16(), master",
    ),
)
master.seconds = 20.0  # the first optimizer of a session imports much


@master.recipe
def master_in_steps(
    weight,
    gradients,
    lr,
    *,
    first=lambda weight: weight.float(),
    step=lambda master, gradient, lr: master - lr * gradient.float(),
    rounded=lambda history: history[-1].bfloat16(),
    wide=lambda history: history[-1].float(),
):
    history = [first(weight.bfloat16())]
    for gradient in gradients:
        history.append(step(history[-1], gradient.bfloat16(), lr))
    return rounded(history), wide(history)


master.mistake(
    "the steps are lost",
    "You round to bfloat16 after every step, and a small step from a large weight rounds back to where it began. "
    "Round a copy, and take the next step from what was not rounded.",
    first=lambda weight: weight.bfloat16(),
    step=lambda master, gradient, lr: master - lr * gradient.bfloat16(),
)
master.mistake(
    "the master stays where it was",
    "The master that you return is the one you began with.",
    wide=lambda history: history[0].float(),
)
master.mistake(
    "the weight stays where it was",
    "The weight that you return is where it began: untouched, or it took its small steps in bfloat16, where they are "
    "lost. The model runs with it: it must follow the master.",
    rounded=lambda history: history[0].bfloat16(),
)
master.mistake(
    "the weight is one step behind",
    "You round the master before its last step is done.",
    rounded=lambda history: history[-2].bfloat16(),
)
master.mistake(
    "the last gradient only",
    "Only the last gradient has an effect. From where does each step begin?",
    rounded=lambda history: (history[0] + history[-1] - history[-2]).bfloat16(),
    wide=lambda history: (history[0] + history[-1] - history[-2]).float(),
)
master.mistake(
    "steps uphill",
    "Your weights grow where the gradient is positive. Which way makes the loss smaller?",
    step=lambda master, gradient, lr: master + lr * gradient.float(),
)
master.mistake(
    "no learning rate",
    "You take away the whole gradient. How long is a step?",
    step=lambda master, gradient, lr: master - gradient.float(),
)
master.mistake(
    "the mean of the gradients",
    "You take one step, along the mean. Each gradient is a step of its own.",
    lambda weight, gradients, lr: master_in_steps(
        weight, [torch.stack([gradient.bfloat16().float() for gradient in gradients]).mean(dim=0)], lr
    ),
)
master.mistake(
    "the master in bfloat16",
    "Your steps are right and your last line rounds the master away. It must come back in float32, for the next steps.",
    wide=lambda history: history[-1].bfloat16(),
)
