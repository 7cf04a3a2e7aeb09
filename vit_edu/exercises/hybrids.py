"""Exercises of lesson 07: what one output sees, and tokens from convolutions (Hassani et al. 2021)."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange

from vit_edu.exercises.core import Exercise
from vit_edu.models.cct import ConvTokenizer


def receptive_field(layers: list[tuple[int, int]]) -> int:
    """Pixels a side that reach one output of convolutions (kernel, stride), first to last: Araujo et al. 2019."""
    side, step = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * step  # neighbours here lie `step` pixels of the image apart
        step *= stride
    return side


def stacks(draw):
    yield ([(3, 1)],)
    yield ([(4, 4)],)
    yield ([(3, 1), (3, 1)],)
    yield ([(3, 2), (3, 1)],)
    yield ([(3, 1), (5, 2)],)
    yield ([(3, 2), (3, 2), (3, 2)],)
    yield ([(7, 2), (3, 2), (3, 1), (3, 1)],)
    yield ([(3, 2), (3, 1), (1, 2)],)  # a ResNet's shortcut: the stride is larger than the kernel
    for _ in range(4):
        strides = [draw.integer(1, 3) for _ in range(draw.integer(3, 6))]
        yield ([(draw.integer(stride, 7), stride) for stride in [*strides, 2]],)


field = Exercise(
    "receptive_field",
    lesson="07",
    points=2,
    reference=receptive_field,
    cases=stacks,
    returns="pixels",
    hints=(
        "Without any layer an output is one pixel. How many more does a first 3 × 3 kernel bring in? And a second one "
        "behind it?",
        "Two numbers go through the loop: how many pixels are seen so far, and how many pixels of the image lie "
        "between two neighbours of the map that the layer reads. Before the first layer both are 1.",
        "side, step = 1, 1\nfor kernel, stride in layers:\n    side += ... * step    # the kernel's first cell is "
        "there already\n    step *= ...           # for the layers behind this one\nreturn side",
    ),
)


@field.recipe
def receptive_field_in_steps(
    layers,
    *,
    order=lambda layers: layers,
    start=1,
    grows=lambda kernel: kernel - 1,
    steps=lambda strides: [math.prod(strides[:i]) for i in range(len(strides))],
    result=lambda side: side,
):
    layers = order(layers)
    step = steps([stride for _, stride in layers])
    return result(start + sum(grows(kernel) * step[i] for i, (kernel, _) in enumerate(layers)))


field.mistake(
    "the kernels are added up",
    "Two kernels of 3 one behind the other see 5 pixels, not 6: each new one has a pixel in common with what was seen "
    "before. And what does a stride do to the layers behind it?",
    lambda layers: sum(kernel for kernel, _ in layers),
)
field.mistake(
    "the kernels are multiplied",
    "Two kernels of 3 one behind the other see 5 pixels, not 9: their neighbours overlap. How many pixels are new?",
    lambda layers: math.prod(kernel for kernel, _ in layers),
)
field.mistake(
    "strides are forgotten",
    "Right as long as every stride is 1. Behind a stride of 2, how many pixels of the image lie between two "
    "neighbours?",
    steps=lambda strides: [1] * len(strides),
)
field.mistake(
    "a layer's own stride is counted",
    "You lengthen the step before you use it. Does a layer's stride change what one of its outputs sees, or only where "
    "the next output looks?",
    steps=lambda strides: [math.prod(strides[: i + 1]) for i in range(len(strides))],
)
field.mistake(
    "only the stride of the layer before",
    "Right for two layers. Behind two strides of 2, how far apart do two neighbours lie in the image?",
    steps=lambda strides: [1, *strides][: len(strides)],
)
field.mistake(
    "strides are added",
    "Behind two strides of 3 neighbours lie 9 pixels apart, not 6 or 7. What does a step of steps do?",
    steps=lambda strides: [1 + sum(strides[:i]) for i in range(len(strides))],
)
field.mistake(
    "every layer is given the step of the whole",
    "You use the product of all strides everywhere. The first layer reads the image itself: how far apart are pixels?",
    steps=lambda strides: [math.prod(strides)] * len(strides),
)
field.mistake(
    "grows by the whole kernel",
    "A kernel of 1 × 1 sees nothing new, and yours grows by 1. How many cells of a kernel are new?",
    grows=lambda kernel: kernel,
)
field.mistake(
    "grows by half the kernel",
    "A kernel reaches out to both sides. You count one of them.",
    grows=lambda kernel: kernel // 2,
)
field.mistake(
    "begins at nought",
    "You are off by one. How many pixels does an output see before there is any layer?",
    start=0,
)
field.mistake(
    "layers are read from the last to the first",
    "Your loop goes backwards with the rule that goes forwards. Which layer touches the image? There is a rule for the "
    "way back, but it is another one: can you find it?",
    order=lambda layers: layers[::-1],
)
field.mistake(
    "the area is given",
    "You give the pixels of the whole square. Asked for is one side of it.",
    result=lambda side: side**2,
)
field.mistake(
    "the step is given",
    "You give how far apart two outputs look (the product of the strides). How much does each of them see?",
    lambda layers: math.prod(stride for _, stride in layers),
)


@field.invariance("a kernel of 1 × 1 with stride 1 changes nothing, wherever it stands")
def one_by_one(mine, draw):
    layers = [(3, 2), (draw.integer(2, 6), 2), (5, 1)]
    place = draw.integer(0, 3)
    return mine([*layers[:place], (1, 1), *layers[place:]]) == mine(layers)


def conv_tokenizer(images, weights):
    """CCT's tokens: convolution, ReLU, max pooling for each weight, (B, C, H, W) -> (B, N, C of the last weight)."""
    x = images
    for weight in weights:
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)  # as many rows and columns as before
        x = F.max_pool2d(x.relu(), kernel_size=3, stride=2, padding=1)  # half as many, rounded up
    return x.flatten(2).transpose(1, 2)  # (B, C, rows, columns) -> (B, C, N) -> (B, N, C)


def pictures(draw):
    for (batch, chans, height, width), sizes in (
        ((1, 1, 3, 4), [(2, 3)]),
        ((1, 2, 4, 6), [(3, 1)]),
        ((2, 1, 5, 8), [(3, 5)]),
        ((2, 3, 7, 10), [(4, 3), (5, 3)]),
        ((1, 2, 9, 13), [(3, 5), (4, 3)]),
        ((2, 1, 6, 17), [(2, 3), (3, 1), (2, 5)]),
    ):
        weights = []
        for out, kernel in sizes:
            weights.append(draw.normal(out, chans, kernel, kernel))
            chans = out
        yield draw.normal(batch, weights[0].shape[1], height, width), weights


tokenizer = Exercise(
    "conv_tokenizer",
    lesson="07",
    points=3,
    reference=conv_tokenizer,
    cases=pictures,
    returns="tokens",
    hints=(
        "One round for each weight, and each round has three parts. Only at the very end does the map become a "
        "sequence.",
        "conv2d with padding k // 2 keeps (H, W); max pooling with kernel_size=3, stride=2, padding=1 halves both, "
        "rounded up. At the end (B, C, rows, columns) → (B, rows·columns, C): which axis must move?",
        "x = images\nfor weight in weights:\n    x = F.conv2d(x, weight, padding=...)\n    x = F.max_pool2d(..., "
        "kernel_size=3, stride=..., padding=...)\nreturn x.flatten(2)...",
    ),
    ready_made=(ConvTokenizer,),
)


@tokenizer.recipe
def conv_tokenizer_in_steps(
    images,
    weights,
    *,
    conv=lambda x, w: F.conv2d(x, w, padding=w.shape[-1] // 2),
    act=lambda x: x.relu(),
    pool=lambda x: F.max_pool2d(x, kernel_size=3, stride=2, padding=1),
    sequence=lambda x: rearrange(x, "B C rows columns -> B (rows columns) C"),
):
    x = images
    for weight in weights:
        x = pool(act(conv(x, weight)))
    return sequence(x)


tokenizer.mistake(
    "no padding in the convolution",
    "Your map loses a rim in every convolution. How many zeros must stand around a map for a kernel of k to keep "
    "its size?",
    conv=F.conv2d,
)
tokenizer.mistake(
    "a padding of one for every kernel",
    "Right for kernels of 3. How many cells of a kernel of 5 stick out when its middle lies on the first pixel?",
    conv=lambda x, w: F.conv2d(x, w, padding=1),
)
tokenizer.mistake(
    "the convolution takes steps of two",
    "Your tokens are too few: both the convolution and the pooling halve the map. Which of them should?",
    conv=lambda x, w: F.conv2d(x, w, padding=w.shape[-1] // 2, stride=2),
)
tokenizer.mistake(
    "kernels are turned round",
    "You turn each kernel upside down and back to front: the convolution of mathematics and of scipy. What networks "
    "call a convolution leaves it as it lies.",
    conv=lambda x, w: F.conv2d(x, w.flip(-1, -2), padding=w.shape[-1] // 2),
)
tokenizer.mistake(
    "no ReLU",
    "Some of your tokens are negative. What stands between the convolution and the pooling?",
    act=lambda x: x,
)
tokenizer.mistake(
    "GELU for ReLU",
    "Small negative numbers come through. The transformer's MLP has GELU; which function has the tokenizer?",
    act=F.gelu,
)
tokenizer.mistake(
    "average pooling",
    "You take the mean of nine numbers. Is a detector that fires once in its window to be heard, or drowned?",
    pool=lambda x: F.avg_pool2d(x, kernel_size=3, stride=2, padding=1),
)
tokenizer.mistake(
    "pooling windows of 2 × 2",
    "Your windows lie side by side. CCT's are 3 wide and move by 2, so that neighbours share a rim.",
    pool=lambda x: F.max_pool2d(x, kernel_size=2),
)
tokenizer.mistake(
    "pooling moves on by its whole window",
    "Your map shrinks to a third. In PyTorch the stride of a pooling is its kernel size unless you say otherwise.",
    pool=lambda x: F.max_pool2d(x, kernel_size=3, padding=1),
)
tokenizer.mistake(
    "pooling without padding",
    "Your map has a row and a column too few. What must lie around it so that a window can be centred on its corner?",
    pool=lambda x: F.max_pool2d(x, kernel_size=3, stride=2),
)
tokenizer.mistake(
    "pooling with steps of one",
    "Your map is as large as the image. Who makes the sequence short?",
    pool=lambda x: F.max_pool2d(x, kernel_size=3, stride=1, padding=1),
)
tokenizer.mistake(
    "steps of two in the place of pooling",
    "Every second place is kept, whatever it says, and the others are dropped. A maximum asks a whole window.",
    pool=lambda x: x[:, :, ::2, ::2],
)
tokenizer.mistake(
    "no pooling",
    "Your sequence has a token for every pixel. What makes it shorter?",
    pool=lambda x: x,
)


def each_round(images, weights, between, at_the_end):
    for weight in weights[:-1]:
        images = between(F.conv2d(images, weight, padding=weight.shape[-1] // 2))
    images = at_the_end(F.conv2d(images, weights[-1], padding=weights[-1].shape[-1] // 2))
    return rearrange(images, "B C rows columns -> B (rows columns) C")


def halved(x):
    return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


tokenizer.mistake(
    "pooled once, at the end",
    "With two weights your sequence is four times too long. Does the pooling belong into the loop or behind it?",
    lambda images, weights: each_round(images, weights, F.relu, lambda x: halved(x.relu())),
)
tokenizer.mistake(
    "ReLU once, at the end",
    "Between two convolutions nothing bends, so that both together are hardly more than one. Does ReLU belong into the "
    "loop or behind it?",
    lambda images, weights: each_round(images, weights, halved, lambda x: halved(x.relu())),
)
tokenizer.mistake(
    "no ReLU in the last round",
    "Heads of networks often end without an activation. This is no head: every round of the tokenizer is the same.",
    lambda images, weights: each_round(images, weights, lambda x: halved(x.relu()), halved),
)
tokenizer.mistake(
    "only the first weight is used",
    "Right for one convolution. Where does the second one go?",
    lambda images, weights: conv_tokenizer(images, weights[:1]),
)
tokenizer.mistake(
    "the map is left as a map",
    "The numbers are right, but a transformer wants a sequence, one row a token. Which axes does it have?",
    sequence=lambda x: x,
)
tokenizer.mistake(
    "tokens and channels exchanged",
    "Your result is (B, C, N): flatten joins axes and moves none. Which two must change places?",
    sequence=lambda x: x.flatten(2),
)
tokenizer.mistake(
    "a plain reshape",
    "You have read (B, C, rows, columns) in order and called it (B, N, C), so that a token holds many places of one "
    "channel. reshape never moves a number: which call moves an axis?",
    sequence=lambda x: x.reshape(len(x), -1, x.shape[1]),
)
tokenizer.mistake(
    "column by column",
    "Your tokens are right, their order is not: your sequence goes down first. In which order do you read a page?",
    sequence=lambda x: rearrange(x, "B C rows columns -> B (columns rows) C"),
)
tokenizer.mistake(
    "the map is pooled away",
    "You give one vector for an image. The mean over all places comes at the end of a CNN; here a transformer follows.",
    sequence=lambda x: x.mean(dim=(2, 3)),
)


@tokenizer.invariance("an image moved by two pixels gives tokens moved by one place (away from its rim)")
def moved(mine, draw):
    images, weights = draw.normal(1, 2, 6, 12), [draw.normal(3, 2, 3, 3)]
    before, after = (
        mine(x, weights).unflatten(1, (3, 6)) for x in (images, torch.roll(images, 2, dims=-1))
    )  # (B, rows, columns, C)
    return torch.allclose(before[:, :, 1:4], after[:, :, 2:5])
