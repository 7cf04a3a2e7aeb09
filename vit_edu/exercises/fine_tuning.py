"""Exercises of lesson 08: who learns, and how fast. Layer-wise rates: Bao et al. 2022 (BEiT), Clark et al. 2020."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu.exercises.core import Draw, Exercise


class Small(nn.Module):
    """A body with batch norm, and a head: pictures (B, C) -> logits (B, classes)."""

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        (width, chans), (classes, _) = state["body.0.weight"].shape, state["head.weight"].shape
        self.body = nn.Sequential(nn.Linear(chans, width), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, classes)
        self.to(state["head.weight"].dtype)
        self.load_state_dict(state | {"body.1.num_batches_tracked": torch.tensor(0)})
        for parameter in self.parameters():  # as a model that has been used before
            parameter.grad = torch.full_like(parameter, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def small_models(draw: Draw):
    for batch, chans, width, classes in ((3, 2, 2, 2), (4, 3, 5, 2), (6, 4, 7, 3)):
        state = {
            "body.0.weight": draw.normal(width, chans),
            "body.0.bias": draw.normal(width),
            "body.1.weight": draw.normal(width).abs() + 0.5,
            "body.1.bias": draw.normal(width).abs(),
            "body.1.running_mean": draw.normal(width),
            "body.1.running_var": draw.normal(width).abs() + 0.5,
            "head.weight": draw.normal(classes, width),
            "head.bias": draw.normal(classes),
        }
        labels = torch.tensor([draw.integer(0, classes - 1) for _ in range(batch)])
        yield state, draw.normal(batch, chans), labels, 0.1 * draw.integer(2, 9)


RESULTS = ("head weight", "head bias", "body weights", "body statistics", "who learns")


def on_a_model(mine, state, images, labels, lr):
    """Builds the model, lets the answer take its step, and says what became of the model."""
    model = Small({name: x.detach().clone() for name, x in state.items()})
    mine(model, images, labels, lr)
    learns = ", ".join(name for name, parameter in model.named_parameters() if parameter.requires_grad)

    def values(tensors) -> Tensor:
        return torch.cat([x.detach().flatten().to(images.dtype) for x in tensors])

    body = values(model.body.parameters()), values(model.body.buffers())
    return model.head.weight.detach().clone(), model.head.bias.detach().clone(), *body, learns


def head_step(model: nn.Module, images: Tensor, labels: Tensor, lr: float) -> None:
    """One step of SGD on model.head alone; the body is frozen, its batch norm's statistics too."""
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    model.eval()  # or the batch norm counts on
    optimizer = torch.optim.SGD(model.head.parameters(), lr=lr)
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()


stepping = Exercise(
    "head_step",
    lesson="08",
    points=2,
    reference=head_step,
    cases=small_models,
    returns=RESULTS,
    observed=RESULTS[:4],
    call=on_a_model,
    hints=(
        "There are three switches: which parameters ask for a gradient, which of them the optimizer has, and which "
        "mode the batch norm is in. All three are to say: the head alone.",
        "model.requires_grad_(False) freezes all, model.head.requires_grad_(True) thaws the head. The optimizer gets "
        "model.head.parameters(). Which of .train() and .eval() keeps running_mean where it is? And what may still lie "
        "in .grad from before?",
        "model.requires_grad_(False)\nmodel.head.requires_grad_(...)\nmodel....()\n"
        "optimizer = torch.optim.SGD(..., lr=lr)\noptimizer.zero_grad()\nF.cross_entropy(...).backward()\n"
        "optimizer.step()",
    ),
)


@stepping.recipe
def head_step_in_steps(
    model,
    images,
    labels,
    lr,
    *,
    freeze=lambda model: (model.requires_grad_(False), model.head.requires_grad_(True)),
    mode=lambda model: model.eval(),
    given=lambda model: model.head.parameters(),
    forget=lambda model: model.zero_grad(),
    loss=lambda logits, labels: F.cross_entropy(logits, labels),
    step=lambda optimizer: optimizer.step(),
):
    if isinstance(model, dict):  # a case: what the check shall see
        words = {"freeze": freeze, "mode": mode, "given": given, "forget": forget, "loss": loss, "step": step}
        return on_a_model(partial(head_step_in_steps, **words), model, images, labels, lr)
    freeze(model), mode(model)
    optimizer = torch.optim.SGD(given(model), lr=lr)
    forget(model)
    loss(model(images), labels).backward()
    return step(optimizer)


def everything(model):
    return model.requires_grad_(True)


stepping.mistake(
    "batch norm left in train mode",
    "No parameter of the body has moved, but its running_mean has: in train mode a batch norm norms by this batch and "
    "counts along, frozen or not. Which mode stops it?",
    mode=lambda model: model.train(),
)
stepping.mistake(
    "nothing is frozen",
    "Every parameter of the model asks for a gradient when you are done. Which of them should, and which should the "
    "optimizer have?",
    freeze=everything,
    given=lambda model: model.parameters(),
)
stepping.mistake(
    "frozen for the optimizer only",
    "The optimizer has the head alone, so nothing else moves; but a gradient is computed for every weight of the body, "
    "and thrown away. Which switch saves you that?",
    freeze=everything,
)
stepping.mistake(
    "frozen, and moved by an old gradient",
    "Your body asks for no gradient and has moved all the same: one lay in .grad from before, and the optimizer was "
    "given every parameter. Whom should it be given?",
    given=lambda model: model.parameters(),
    forget=lambda model: model.head.zero_grad(),
)
stepping.mistake(
    "old gradients are not forgotten",
    "backward() adds to what lies in .grad already. What clears it?",
    forget=lambda model: None,
)
stepping.mistake(
    "the body learns and the head is frozen",
    "It is the other way round: the new head knows nothing yet. Which of the two must learn?",
    freeze=lambda model: (everything(model), model.head.requires_grad_(False)),
    given=lambda model: model.body.parameters(),
)
stepping.mistake(
    "the head's bias stays behind",
    "Only head.weight has learned. A head has two parameters.",
    freeze=lambda model: (model.requires_grad_(False), model.head.weight.requires_grad_(True)),
    given=lambda model: [model.head.weight],
)
stepping.mistake(
    "softmax before the loss",
    "cross_entropy wants logits: it has a softmax inside.",
    loss=lambda logits, labels: F.cross_entropy(logits.softmax(dim=1), labels),
)
stepping.mistake(
    "the loss is summed",
    "Your step is as many times too large as there are pictures. cross_entropy takes the mean unless told otherwise.",
    loss=lambda logits, labels: F.cross_entropy(logits, labels, reduction="sum"),
)
stepping.mistake(
    "no step is taken",
    "Nothing has moved. backward() only fills .grad; who walks?",
    step=lambda optimizer: None,
)

TOKENS = ("cls_token", "pos_embed")


def layer_rate(
    name: str, shape: tuple[int, ...], depth: int, layer_decay: float, weight_decay: float
) -> tuple[float, float]:
    """The factor of the learning rate, and the weight decay, of one parameter of a ViT of `depth` blocks."""
    if name.startswith("blocks."):
        layer = int(name.split(".")[1]) + 1
    else:
        layer = 0 if name in TOKENS or name.startswith("patch_embed.") else depth + 1
    return layer_decay ** (depth + 1 - layer), weight_decay if len(shape) > 1 and name not in TOKENS else 0.0


def parameters_of_a_vit(draw: Draw):
    # never 0.7 and 0.05, the lesson's own, so that an answer with these in it is found out
    layer_decay, weight_decay = 0.52 + 0.04 * draw.integer(0, 9), 0.013 + 0.01 * draw.integer(0, 9)
    for depth, C in ((2, 3), (12, 4)):
        named = {"head.weight": (5, C), "head.bias": (5,)}
        named |= {f"{norm}.{part}": (C,) for norm in ("norm", "fc_norm") for part in ("weight", "bias")}
        named |= {"cls_token": (1, 1, C), "pos_embed": (1, 7, C)}
        named |= {"patch_embed.proj.weight": (C, 3, 2, 2), "patch_embed.proj.bias": (C,)}
        for i in {0, 1, depth - 2, depth - 1}:
            named |= {f"blocks.{i}.attn.qkv.weight": (3 * C, C), f"blocks.{i}.attn.proj.weight": (C, C)}
            named |= {f"blocks.{i}.mlp.fc1.weight": (4 * C, C), f"blocks.{i}.mlp.fc2.bias": (C,)}
            named |= {f"blocks.{i}.norm1.weight": (C,), f"blocks.{i}.norm2.bias": (C,)}
        for name, shape in named.items():
            yield name, shape, depth, layer_decay, weight_decay


def as_floats(mine, *inputs):
    """An int 0 or 1 is as good as a float."""
    found = mine(*inputs)
    pair = isinstance(found, (tuple, list)) and all(isinstance(x, (int, float)) for x in found)
    return tuple(map(float, found)) if pair else found


rates = Exercise(
    "layer_rate",
    lesson="08",
    points=3,
    reference=layer_rate,
    cases=parameters_of_a_vit,
    returns=("lr_scale", "weight_decay"),
    call=as_floats,
    hints=(
        "Number the layers from the image to the answer: what makes the tokens is 0, the first block 1, …, and what "
        "stands behind the last block has the highest number. How many steps is each below the top?",
        "blocks.I.… is layer I + 1, with I between the first two dots (it may have two digits). patch_embed.…, "
        "cls_token and pos_embed are layer 0, all else (norm, fc_norm, head) depth + 1. len(shape) is 1 for biases and "
        "norms.",
        'if name.startswith("blocks."):\n    layer = int(name.split(".")[...]) + 1\nelif ...:\n    layer = 0\nelse:\n'
        "    layer = depth + 1\nlr_scale = layer_decay ** (...)\ndecays = len(shape) > 1 and ...\n"
        "return lr_scale, weight_decay if decays else 0.0",
    ),
)


@rates.recipe
def layer_rate_in_steps(
    name,
    shape,
    depth,
    layer_decay,
    weight_decay,
    *,
    number=lambda name: int(name.split(".")[1]),
    of_block=lambda i: i + 1,
    first=lambda name: name in TOKENS or name.startswith("patch_embed."),
    top=lambda name, depth: depth + 1,
    scale=lambda decay, layer, depth: decay ** (depth + 1 - layer),
    decays=lambda name, shape: len(shape) > 1 and name not in TOKENS,
):
    block = name.startswith("blocks.")
    layer = of_block(number(name)) if block else 0 if first(name) else top(name, depth)
    return scale(layer_decay, layer, depth), weight_decay if decays(name, shape) else 0.0


rates.mistake(
    "the rates are the wrong way round",
    "Your first layers learn fastest and your head slowest. Which of them is new and has all to learn?",
    scale=lambda decay, layer, depth: decay**layer,
)
rates.mistake(
    "all layers learn alike",
    "Your factor is 1 everywhere. What is layer_decay for?",
    scale=lambda decay, layer, depth: 1.0,
)
rates.mistake(
    "the rates fall along a line",
    "You subtract the same from layer to layer, so that the first ones may learn backwards. Multiply.",
    scale=lambda decay, layer, depth: 1 - (1 - decay) * (depth + 1 - layer),
)
rates.mistake(
    "the head is slowed down as well",
    "All your factors are one power too small. By what does the head's rate, which is the plan's, have to be "
    "multiplied?",
    scale=lambda decay, layer, depth: decay ** (depth + 2 - layer),
)
rates.mistake(
    "the first block counts as the embedding",
    "Your blocks are one layer too low: block 0 and the patch embedding share a number. Blocks count from 0, and "
    "layer 0 is taken.",
    of_block=lambda i: i,
)
rates.mistake(
    "the head counts as the last block",
    "Head and last block have the same factor, 1 layer below the top. What stands above what?",
    top=lambda name, depth: depth,
)
rates.mistake(
    "the last norm is an embedding to you",
    "norm and fc_norm stand behind the last block, next to the head. Yours get the slowest rate of all.",
    top=lambda name, depth: depth + 1 if name.startswith("head") else 0,
)
rates.mistake(
    "tokens and positions learn as fast as the head",
    "cls_token and pos_embed are added before the first block. Which layer's rate do they get?",
    first=lambda name: name.startswith("patch_embed."),
)
rates.mistake(
    "the patch embedding learns as fast as the head",
    "What stands nearest to the image was nearest to right before you came. Which layer is patch_embed?",
    first=lambda name: name in TOKENS,
)
rates.mistake(
    "block 10 is read as block 1",
    "Right up to block 9. How do you read a number of two digits between two dots?",
    number=lambda name: int(name[7]),
)
rates.mistake(
    "everything decays",
    "Weight decay draws numbers to nought. A norm's weight belongs near 1, and a bias has no reason to be small. Which "
    "parameters are matrices or kernels?",
    decays=lambda name, shape: True,
)
rates.mistake(
    "norms decay",
    "You leave out the biases, by name. A norm's weight is not called bias, and should not be drawn to nought either: "
    "what do the two have in common in their shape?",
    decays=lambda name, shape: not name.endswith("bias") and name not in TOKENS,
)
rates.mistake(
    "class token and positions decay",
    "cls_token and pos_embed have more than one axis and are no matrices: they are added, not multiplied. Name them.",
    decays=lambda name, shape: len(shape) > 1,
)
rates.mistake(
    "kernels do not decay",
    "The patch embedding is a matrix too, written as a convolution with four axes: more than one, not exactly two.",
    decays=lambda name, shape: len(shape) == 2,
)
rates.mistake(
    "nothing decays",
    "Your weight decay is 0 everywhere. Matrices and kernels shall decay.",
    decays=lambda name, shape: False,
)
rates.mistake(
    "the head does not decay",
    "The head is a matrix like any other, new or not.",
    decays=lambda name, shape: len(shape) > 1 and name not in TOKENS and not name.startswith("head"),
)
rates.mistake(
    "what decays and what does not exchanged",
    "You let biases and norms decay, and nothing else. It is the other way round.",
    decays=lambda name, shape: not (len(shape) > 1 and name not in TOKENS),
)
