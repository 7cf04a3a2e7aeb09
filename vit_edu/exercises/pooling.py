"""Exercises of lesson 07: sequence pooling (Hassani et al. 2021), MobileViT's unfold (Mehta & Rastegari 2022)."""

import torch
import torch.nn.functional as F
from einops import rearrange

from vit_edu import layers
from vit_edu.exercises.core import Exercise
from vit_edu.models.mobilevit import join_offsets, split_offsets


def sequence_pooling(x, weight, bias):
    """CCT's: tokens (B, N, C), a linear score (1, C), (1,) -> their weighted mean (B, C) and the weights (B, N)."""
    weights = F.linear(x, weight, bias).squeeze(-1).softmax(dim=1)  # (B, N, 1) -> (B, N)
    return torch.einsum("bn,bnc->bc", weights, x), weights


def tokens(draw):
    yield draw.small(1, 1, 2), draw.small(1, 2), draw.small(1)
    yield draw.small(1, 2, 3), draw.small(1, 3), draw.small(1)
    yield draw.small(2, 3, 2), draw.small(1, 2), draw.small(1)
    yield draw.normal(3, 3, 3), draw.normal(1, 3), draw.normal(1)
    yield draw.normal(2, 7, 5), draw.normal(1, 5), draw.normal(1)
    yield draw.normal(4, 3, 6), draw.normal(1, 6), draw.normal(1)
    x, weight = 900 * draw.normal(2, 5, 4), draw.normal(1, 4)
    x[1] -= 9000 * F.normalize(weight[0], dim=0)  # one image's scores far below the other's
    yield x, weight / weight.norm(), 2000 + draw.normal(1)  # exp overflows


pooling = Exercise(
    "sequence_pooling",
    lesson="07",
    points=2,
    reference=sequence_pooling,
    cases=tokens,
    returns=("pooled", "weights"),
    observed=("weights",),
    hints=(
        "It is attention with a single query that never changes: how good is each token, what share does each get, "
        "what comes out when tokens are mixed in these shares?",
        "x (B, N, C) and weight (1, C) give scores (B, N, 1). The shares of one image's N tokens sum to 1, so softmax "
        "runs over the axis of length N. Then (B, 1, N) @ (B, N, C) → (B, 1, C) → (B, C).",
        "scores = F.linear(x, weight, bias).squeeze(-1)   # (B, N)\nweights = scores.softmax(dim=...)\n"
        "pooled = ...                                     # (B, C)\nreturn pooled, weights",
    ),
    ready_made=(F.scaled_dot_product_attention,),
)


@pooling.recipe
def sequence_pooling_in_steps(
    x,
    weight,
    bias,
    *,
    share=lambda scores: scores.softmax(dim=1),
    mix=lambda weights, x: (weights[:, None] @ x)[:, 0],
    shown=lambda weights, scores: weights,
):
    scores = x @ weight[0] + bias  # (B, N)
    weights = share(scores)
    return mix(weights, x), shown(weights, scores)


pooling.mistake(
    "softmax over the images of the batch",
    "Your images share one attention among them, so that an image's answer changes with its neighbours. Which axis "
    "counts the tokens?",
    share=lambda scores: scores.softmax(dim=0),
)
pooling.mistake(
    "softmax over the whole batch",
    "All weights of a batch together sum to 1. What must those of one image sum to?",
    share=lambda scores: scores.flatten().softmax(dim=0).view_as(scores),
)
pooling.mistake(
    "softmax over an axis of length one",
    "All your weights are 1: the scores are (B, N, 1), and the softmax of a single number is 1. Which axis has the "
    "length N?",
    share=lambda scores: torch.ones_like(scores),
)
pooling.mistake(
    "sigmoid in the place of softmax",
    "Each weight lies between 0 and 1, but they do not sum to 1: more tokens make a longer vector.",
    share=lambda scores: scores.sigmoid(),
)
pooling.mistake(
    "no softmax",
    "Your weights are raw scores, some of them negative. What makes a mean out of a weighted sum?",
    share=lambda scores: scores,
)
pooling.mistake(
    "divided by the sum, without exp",
    "Your weights sum to 1, but some are negative or huge. What does exp do before the division?",
    share=lambda scores: scores / scores.sum(dim=1, keepdim=True),
)
pooling.mistake(
    "exp overflows",
    "Right for small scores, NaN for large ones: exp(710) is already infinite. What may be taken off all scores of an "
    "image without changing their softmax?",
    share=lambda scores: scores.exp() / scores.exp().sum(dim=1, keepdim=True),
)
pooling.mistake(
    "only the best token counts",
    "You take the one best token. A hard choice has no gradient: how could the score ever learn?",
    share=lambda scores: F.one_hot(scores.argmax(dim=1), scores.shape[1]).to(scores),
)
pooling.mistake(
    "all tokens count alike",
    "You take the plain mean, as a ViT with global_pool='avg' does. What is the score for?",
    share=lambda scores: torch.full_like(scores, 1 / scores.shape[1]),
)
pooling.mistake(
    "scaled as in attention",
    "You divide the scores by the root of C. Attention needs it since its keys are not learned numbers but products; "
    "a learned score finds its own scale, and published ones have found it without.",
    lambda x, weight, bias: sequence_pooling(x, weight / x.shape[-1] ** 0.5, bias),
)
pooling.mistake(
    "the bias is added behind the pooling",
    "You add the bias to the pooled vector. It belongs to the score (where, by the way, it changes nothing: why?).",
    lambda x, weight, bias: tuple(y + b for y, b in zip(sequence_pooling(x, weight, bias), (bias, 0), strict=True)),
)
pooling.mistake(
    "the mean of the weighted tokens",
    "Your pooled vector is N times too small: weights that sum to 1 have done the division already.",
    mix=lambda weights, x: (weights[..., None] * x).mean(dim=1),
)
pooling.mistake(
    "the weights are not used",
    "Your weights are right, but your pooled vector is the plain mean. Where do the shares come in?",
    mix=lambda weights, x: x.mean(dim=1),
)
pooling.mistake(
    "weighted, but not summed",
    "You still have N vectors for an image, each times its weight. What makes one of them?",
    mix=lambda weights, x: weights[..., None] * x,
)
pooling.mistake(
    "an axis of length one is left",
    "Your pooled vector is (B, 1, C). Which axis has done its work?",
    mix=lambda weights, x: weights[:, None] @ x,
)
pooling.mistake(
    "the first token is taken",
    "You take the first token, as a ViT takes its class token. CCT has none: its first token is the upper left corner.",
    mix=lambda weights, x: x[:, 0],
)
pooling.mistake(
    "scores returned as weights",
    "Your pooled vector is right, but what you return as weights are the scores before the softmax.",
    shown=lambda weights, scores: scores,
)
pooling.mistake(
    "weights with an axis too many",
    "The numbers are right, but your weights are (B, N, 1). Which axis has done its work?",
    shown=lambda weights, scores: weights[..., None],
)


def squeezed(x, weight, bias):
    weights = F.linear(x, weight, bias).squeeze().softmax(dim=-1)
    return torch.einsum("bn,bnc->bc", weights, x), weights


pooling.mistake(
    "squeeze takes the batch as well",
    "Right for a batch, wrong for a single image: squeeze() drops *every* axis of length one. Which one did you mean?",
    squeezed,
)


@pooling.invariance("the order of the tokens does not matter")
def any_order(mine, draw):
    x, weight, bias = draw.normal(2, 6, 4), draw.normal(1, 4), draw.normal(1)
    order = torch.randperm(6, generator=draw.generator)
    return torch.allclose(mine(x, weight, bias)[0], mine(x[:, order], weight, bias)[0])


@pooling.invariance("one image of the batch does not see another")
def images_apart(mine, draw):
    x, weight, bias = draw.normal(3, 4, 5), draw.normal(1, 5), draw.normal(1)
    return torch.allclose(mine(x, weight, bias)[0][:1], mine(x[:1], weight, bias)[0])


def mobile_unfold(x, patch_size):
    """MobileViT's unfold, figure 1: a map (B, C, H, W) -> p*p sequences of N = H/p * W/p pixels, (B, p*p, N, C)."""
    B, C, H, W = x.shape
    p = patch_size
    x = x.reshape(B, C, H // p, p, W // p, p)  # (B, C, rows, p, columns, p)
    x = x.permute(0, 3, 5, 2, 4, 1)  # (B, p, p, rows, columns, C)
    return x.reshape(B, p * p, (H // p) * (W // p), C)


def maps(draw):
    yield torch.arange(16.0, dtype=torch.float64).view(1, 1, 4, 4), 2
    yield torch.arange(16.0, dtype=torch.float64).view(1, 2, 2, 4), 2
    yield torch.arange(24.0, dtype=torch.float64).view(1, 1, 4, 6), 2
    yield draw.normal(2, 3, 6, 9), 3
    yield draw.normal(3, 2, 8, 4), 2
    yield draw.normal(2, 3, 2, 3), 1
    yield draw.normal(2, 5, 6, 4), 2


unfolding = Exercise(
    "mobile_unfold",
    lesson="07",
    points=3,
    reference=mobile_unfold,
    cases=maps,
    returns="sequences",
    hints=(
        "Begin as patchify does: split H and W, so that nothing has moved yet. Then ask of each axis: does it say "
        "*which patch*, or *where inside*?",
        "(B, C, H, W)\n  -> (B, C, rows, p, columns, p)    split, nothing moves\n  -> (B, p, p, rows, columns, C)    "
        "where inside first, which patch after it\n  -> (B, p * p, rows * columns, C)",
        "B, C, H, W = x.shape\np = patch_size\nx = x.reshape(B, C, H // p, p, W // p, p)\nx = x.permute(0, 3, ..., 1)\n"
        "return x.reshape(B, p * p, ..., C)",
    ),
    ready_made=(split_offsets,),
)


@unfolding.recipe
def mobile_unfold_in_steps(
    x,
    patch_size,
    *,
    split=lambda x, p: rearrange(x, "b c (y p) (x q) -> b c y p x q", p=p, q=p),
    sequences=lambda x: rearrange(x, "b c y p x q -> b (p q) (y x) c"),
    last=lambda x, p: x,
):
    return last(sequences(split(x, patch_size)), patch_size)


unfolding.mistake(
    "the pixels of a patch make a sequence",
    "In yours a pixel would attend to the others of its own patch: that is Swin's window. MobileViT's attends to those "
    "at its own place in the *other* patches. Which pair of axes counts the tokens?",
    sequences=lambda x: rearrange(x, "b c y p x q -> b (y x) (p q) c"),
)
unfolding.mistake(
    "flattened as patches",
    "You have cut patches as ViT does, all p·p pixels in one token. Here every pixel is a token of its own.",
    lambda x, p: layers.patchify(x, p),
)
unfolding.mistake(
    "a plain reshape",
    "reshape reads the numbers in the order in which they lie in memory, one channel after the other. Follow pixel 1 "
    "of the smallest case: does it stand beside pixel 0 in its patch? Then it is in another sequence.",
    lambda x, p: x.reshape(len(x), p * p, -1, x.shape[1]),
)
unfolding.mistake(
    "channels moved, then a plain reshape",
    "The channels stand right, but the pixels are read row by row. H and W must each be split before axes change "
    "places.",
    lambda x, p: x.permute(0, 2, 3, 1).reshape(len(x), p * p, -1, x.shape[1]),
)
unfolding.mistake(
    "the sides are split the wrong way round",
    "Your sequences are blocks of neighbours. Row 5 with patches of 2 is row 1 of patch row 2: in (rows, p) the second "
    "factor moves fastest.",
    split=lambda x, p: rearrange(x, "b c (p y) (q x) -> b c y p x q", p=p, q=p),
)
unfolding.mistake(
    "height and width are mixed up",
    "You split the height into as many parts as the width has patches. On a square map nobody would notice.",
    split=lambda x, p: x.reshape(*x.shape[:2], x.shape[3] // p, p, x.shape[2] // p, p),
)
unfolding.mistake(
    "places inside the patch go down first",
    "Your sequences are right, their order is not: the second one should begin with the pixel on the right of the "
    "first. Which p belongs to the height?",
    sequences=lambda x: rearrange(x, "b c y p x q -> b (q p) (y x) c"),
)
unfolding.mistake(
    "patches go column by column",
    "Within a sequence your patches go down first. In which order do you read a page?",
    sequences=lambda x: rearrange(x, "b c y p x q -> b (p q) (x y) c"),
)
unfolding.mistake(
    "channels before tokens",
    "Your result is (B, p·p, C, N). A transformer wants one row a token.",
    sequences=lambda x: rearrange(x, "b c y p x q -> b (p q) c (y x)"),
)
unfolding.mistake(
    "channels are left in front",
    "Your result is (B, C, p·p, N). The channels are what a token is made of: which axis is the last?",
    sequences=lambda x: rearrange(x, "b c y p x q -> b c (p q) (y x)"),
)
unfolding.mistake(
    "places folded into the batch",
    "The numbers are right, as (B·p·p, N, C), which is how they go through the transformer. Here keep an axis for the "
    "p·p places.",
    sequences=lambda x: rearrange(x, "b c y p x q -> (b p q) (y x) c"),
)
unfolding.mistake(
    "places before the batch",
    "Your result is (p·p, B, N, C). What is axis 0 of everything else?",
    sequences=lambda x: rearrange(x, "b c y p x q -> (p q) b (y x) c"),
)
unfolding.mistake(
    "the places are not joined",
    "The numbers are right, but where inside the patch takes two axes. Join them to p·p.",
    sequences=lambda x: rearrange(x, "b c y p x q -> b p q (y x) c"),
)
unfolding.mistake(
    "the order of torch's unfold",
    "unfold gives (B, C·p·p, N), the channel slowest. You have read it as (p·p, C), which scrambles both: split it as "
    "(C, p·p) before any axis moves.",
    lambda x, p: F.unfold(x, p, stride=p).reshape(len(x), p * p, x.shape[1], -1).transpose(2, 3),
)
unfolding.mistake(
    "unfold, then a plain reshape",
    "unfold gives (B, C·p·p, N), and reshape moves no number: N is still the fastest axis. Split it as (C, p·p) and "
    "let the axes change places.",
    lambda x, p: F.unfold(x, p, stride=p).reshape(len(x), p * p, -1, x.shape[1]),
)
unfolding.mistake(
    "all places in one sequence",
    "Your p·p sequences have become one of H·W pixels: all would attend to all. torch.cat makes an axis longer, "
    "torch.stack makes a new one.",
    sequences=lambda x: rearrange(x, "b c y p x q -> b (p q y x) c"),
)
unfolding.mistake(
    "one place of each patch only",
    "You take the first pixel of each patch and drop the others. There are p·p places: one sequence each.",
    last=lambda x, p: x[:, :1],
)


@unfolding.invariance("a sequence is the map with every p-th pixel of each side")
def every_pth_pixel(mine, draw):
    x = draw.normal(2, 3, 4, 6)
    return torch.equal(mine(x, 2)[:, 1], x[:, :, ::2, 1::2].flatten(2).mT)


@unfolding.invariance("folding brings the map back")
def folded_again(mine, draw):
    x = draw.normal(2, 3, 6, 4)
    return torch.equal(join_offsets(mine(x, 2).flatten(0, 1), 2, rows=3), x)
