"""Exercises of lesson 03: LayerNorm and DropPath. Sources: Ba et al. 2016, equation 3; Huang et al. 2016."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu import layers
from vit_edu.exercises.core import Draw, Exercise


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    """Each token by itself: mean 0 and variance 1 over its channels, then a weight and a bias for each channel."""
    mean = x.mean(dim=-1, keepdim=True)  # (..., 1)
    variance = x.var(dim=-1, correction=0, keepdim=True)  # (..., 1), divided by C and not by C - 1
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def tokens_and_weights(draw: Draw):
    """One token, several, a batch, a map; an eps large enough to see; a spread as small as eps, else a wide one, so
    that what is normed in float32 always passes."""
    yield torch.tensor([1.0, 5.0], dtype=torch.float64) + draw.integer(0, 3), draw.small(2), draw.small(2), 1e-6
    yield draw.distinct(1, 2), draw.small(2), draw.small(2), 0.5
    yield from ((2 * draw.distinct(3, C), draw.small(C) + 0.5, draw.small(C), 1e-6) for C in (2, 3))
    yield draw.normal(2, 3, 8) + 1, draw.normal(8), draw.normal(8), 1e-6
    yield draw.normal(8, 8, 8), draw.normal(8), draw.normal(8), 1e-6
    yield 1e-3 * draw.normal(3, 5, 6), draw.normal(6), draw.normal(6), 1e-6
    yield 1e-3 * draw.normal(2, 6, 5), draw.normal(5), draw.normal(5), 1e-4
    yield 20 * draw.normal(2, 3, 4, 7) - 9, draw.normal(7), draw.normal(7), 0.1


norm = Exercise(
    "layer_norm",
    lesson="03",
    points=2,
    reference=layer_norm,
    cases=tokens_and_weights,
    hints=(
        "A token is a row of C numbers. Take its mean away, divide by its spread, and only then stretch and shift each "
        "channel. No other token has a say.",
        "x (..., C): mean and variance are (..., 1), one a token (keepdim=True); weight and bias are (C,), one a "
        "channel, and broadcast by themselves. eps stands inside the root.",
        "mean = x.mean(dim=..., keepdim=True)\n"
        "variance = ((x - mean) ** 2).mean(...)      # divided by C\n"
        "return (x - mean) / (variance + ...).sqrt() * ... + ...",
    ),
    ready_made=(
        *(F.layer_norm, nn.LayerNorm, torch.layer_norm, torch.native_layer_norm),
        *(F.group_norm, F.instance_norm, F.batch_norm, torch.batch_norm, F.rms_norm, torch.rms_norm),
    ),
)


@norm.recipe
def layer_norm_in_steps(
    x,
    weight,
    bias,
    eps=1e-6,
    *,
    over=lambda x: (-1,),
    centre=lambda x, mean: x - mean,
    spread=lambda x, mean, dims: ((x - mean) ** 2).mean(dim=dims, keepdim=True),
    divide=lambda x, variance, eps: x / (variance + eps).sqrt(),
    stretch=lambda x, weight, bias: x * weight + bias,
):
    dims = over(x)
    mean = x.mean(dim=dims, keepdim=True)
    return stretch(divide(centre(x, mean), spread(x, mean, dims), eps), weight, bias)


norm.mistake(
    "divided by C - 1",
    "Your variance is the unbiased one, which torch.var and torch.std give unless told otherwise. Nothing is estimated "
    "here: by how many is the sum of C squares divided to be their mean?",
    spread=lambda x, mean, dims: x.var(dim=dims, keepdim=True),
)
norm.mistake(
    "eps outside the root",
    "You add eps to the standard deviation. √(variance + eps) and √variance + eps differ most where the variance is "
    "small: which of the two do published weights know?",
    divide=lambda x, variance, eps: x / (variance.sqrt() + eps),
)
norm.mistake(
    "no eps",
    "Right for most tokens; but one whose channels are all alike has variance 0, and you divide by it. What is eps "
    "for?",
    divide=lambda x, variance, eps: x / variance.sqrt(),
)
norm.mistake(
    "the eps of nn.LayerNorm",
    "Your eps is 1e-5 whatever you are given. It is PyTorch's default, and not that of ViT.",
    divide=lambda x, variance, eps: x / (variance + 1e-5).sqrt(),
)
norm.mistake(
    "always an eps of 1e-6",
    "Your eps is 1e-6 whatever you are given. Which argument have you not used?",
    divide=lambda x, variance, eps: x / (variance + 1e-6).sqrt(),
)
norm.mistake(
    "divided by the variance",
    "A token ten times as large has a variance a hundred times as large. What must you divide by, so that both become "
    "the same?",
    divide=lambda x, variance, eps: x / (variance + eps),
)
norm.mistake(
    "not divided at all",
    "Your tokens have mean 0, and still any size. What makes their variance 1?",
    divide=lambda x, variance, eps: x,
)
norm.mistake(
    "the mean is left in",
    "You divide by the spread around the mean, but the mean itself is still in your numbers. What comes before the "
    "division?",
    centre=lambda x, mean: x,
)
norm.mistake(
    "over the tokens",
    "You take mean and variance of one channel over all tokens of a picture. Each token is to be normed by itself: "
    "which axis of (..., C) is that?",
    over=lambda x: (-2,) if x.ndim > 1 else (-1,),
)
norm.mistake(
    "over tokens and channels together",
    "All tokens of a picture share one mean and one variance in yours. Each token has its own: over how many axes does "
    "it go?",
    over=lambda x: (-2, -1) if x.ndim > 1 else (-1,),
)
norm.mistake(
    "over the batch, as BatchNorm does",
    "You take mean and variance of each channel over everything else: that is BatchNorm. Should the answer for one "
    "picture depend on those beside it?",
    over=lambda x: tuple(range(x.ndim - 1)) or (-1,),
)
norm.mistake(
    "over everything",
    "One mean and one variance for the whole tensor. How many tokens does x hold, and how many means are wanted?",
    over=lambda x: tuple(range(x.ndim)),
)
norm.mistake(
    "axis 1, counted from the front",
    "Right for a plain matrix, wrong as soon as a batch stands in front. How do you name an axis from the end?",
    over=lambda x: (1,),
)
norm.mistake(
    "axis 2, counted from the front",
    "Right for a batch of sequences, wrong for a single one and for a map. How do you name an axis from the end?",
    over=lambda x: (2,),
)
norm.mistake(
    "no weight and no bias",
    "Your tokens have mean 0 and variance 1, and that is all. What are the other two arguments for?",
    stretch=lambda x, weight, bias: x,
)
norm.mistake(
    "no bias",
    "You stretch each channel and do not shift it. Which argument have you not used?",
    stretch=lambda x, weight, bias: x * weight,
)
norm.mistake(
    "no weight",
    "You shift each channel and do not stretch it. Which argument have you not used?",
    stretch=lambda x, weight, bias: x + bias,
)
norm.mistake(
    "bias before weight",
    "You add the bias and stretch both. A linear layer does it in the other order, and so does this.",
    stretch=lambda x, weight, bias: (x + bias) * weight,
)
norm.mistake(
    "RMSNorm",
    "You divide by the root of the mean square and leave the mean where it is. That is RMSNorm, of many language "
    "models. What does LayerNorm do first?",
    lambda x, weight, bias, eps=1e-6: x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight + bias,
)
norm.mistake(
    "every token of length 1",
    "Your tokens have length 1 before the weight. With variance 1 and C channels, which length do they have?",
    lambda x, weight, bias, eps=1e-6: F.normalize(x - x.mean(dim=-1, keepdim=True), dim=-1) * weight + bias,
)


@norm.invariance("a token twice as large, with the same number added to all its channels, gives the same (eps 1e-12)")
def size_does_not_matter(mine, draw):
    x, weight, bias = draw.normal(2, 5, 8), draw.normal(8), draw.normal(8)
    one, other = mine(x, weight, bias, 1e-12), mine(2 * x + 3, weight, bias, 1e-12)
    return torch.allclose(one, other, atol=1e-5)  # normed in float32 is right, too


@norm.invariance("a token whose channels are all alike gives the bias, and not NaN")
def without_spread(mine, draw):
    bias = draw.normal(8)
    return torch.allclose(mine(torch.full((2, 8), 3.0).to(bias), draw.normal(8), bias, 1e-5)[0], bias)


@norm.invariance("one token does not see another")
def tokens_apart(mine, draw):
    x, weight, bias = draw.normal(2, 5, 8), draw.normal(8), draw.normal(8)
    return torch.allclose(mine(x, weight, bias, 1e-6)[:, 1:3], mine(x[:, 1:3], weight, bias, 1e-6))


def drop_path(x: Tensor, rate: float, noise: Tensor) -> Tensor:
    """x (B, ...), noise (B,) uniform in 0..1: 0 for each sample whose noise is below the rate, else x / (1 - rate)."""
    keep = (noise >= rate).to(x.dtype).view(-1, *[1] * (x.ndim - 1))  # (B, 1, ..., 1)
    return x * keep / (1 - rate)


def branches(draw: Draw):
    """The noise is spread evenly and then shuffled, so that every batch has samples to keep and samples to drop."""
    for shape, rate in (
        ((2, 1), 0.4),
        ((3, 2), 0.4),
        ((3, 3), 0.25),
        ((4, 2), 0.0),
        ((4, 2, 3), 0.375),  # one of the four has a noise of just that
        ((4, 4, 4), 0.45),
        ((5, 3, 2, 4), 0.35),
        ((10, 3, 4), 0.2),
        ((10, 6, 2), 0.8),
    ):
        yield draw.normal(*shape), rate, (draw.distinct(shape[0]) - 0.5) / shape[0]


drops = Exercise(
    "drop_path",
    lesson="03",
    points=3,
    reference=drop_path,
    cases=branches,
    hints=(
        "There is one noise number a picture, and so one decision: keep it or drop it. Write the decisions as a row of "
        "ones and zeros first. What is the mean over many draws, and what should it be?",
        "noise (B,) -> keep (B,), 1 where noise >= rate, else 0. x is (B, ...) with any number of axes behind: keep "
        "must become (B, 1, ..., 1) before they are multiplied. Then divide by what share is kept on average.",
        "keep = (noise >= rate).to(x.dtype)\n"
        "keep = keep.view(-1, *[1] * (...))         # as many axes as x has\n"
        "return x * keep / ...",
    ),
    ready_made=(layers.drop_path, layers.DropPath),
)


def rows(keep, x):
    return keep.view(-1, *[1] * (x.ndim - 1))


@drops.recipe
def drop_path_in_steps(
    x,
    rate,
    noise,
    *,
    decide=lambda noise, rate: noise >= rate,
    spread=rows,
    scale=lambda x, keep, rate: x / (1 - rate),
    dropped=lambda x, keep, branch: branch * keep,
):
    keep = decide(noise, rate).to(x.dtype)
    return dropped(x, spread(keep, x), scale(x, keep, rate))


drops.mistake(
    "not divided by the keep rate",
    "What you keep is as large as before, so on average the branch shrinks to 1 - rate of its size while training, and "
    "is whole again afterwards. What must the kept ones be multiplied by, so that the mean is x?",
    scale=lambda x, keep, rate: x,
)
drops.mistake(
    "multiplied by the keep rate",
    "You shrink what you keep, although part is missing already. In which direction must it be corrected?",
    scale=lambda x, keep, rate: x * (1 - rate),
)
drops.mistake(
    "divided by the drop rate",
    "You divide by the rate at which samples are dropped. What share is left on average?",
    scale=lambda x, keep, rate: x / rate,
)
drops.mistake(
    "divided by the share kept this time",
    "You divide by the share that happened to be kept in this batch. Then a picture's size depends on its neighbours' "
    "luck, and where all are dropped you divide by 0. Which share is known before the draw?",
    scale=lambda x, keep, rate: x / keep.mean(),
)
drops.mistake(
    "kept and dropped exchanged",
    "You drop where the noise is above the rate: at a rate of 0.1 nine in ten would go. How often is a number that is "
    "uniform in 0..1 below the rate?",
    decide=lambda noise, rate: noise < rate,
)
drops.mistake(
    "the rate taken for the keep rate",
    "You keep a share of `rate` and divide by it. Here the rate says how many are dropped, as in timm and PyTorch.",
    lambda x, rate, noise: x * rows((noise < rate).to(x.dtype), x) / rate,
)
drops.mistake(
    "dropped where noise is above the keep rate",
    "You keep a right share, but other samples than asked for: dropped are those whose noise is *below* the rate.",
    decide=lambda noise, rate: noise < 1 - rate,
)
drops.mistake(
    "dropped where the noise is the rate, too",
    "You keep where noise > rate, so a noise of just the rate is dropped as well: even at a rate of 0, if the noise is "
    "0. Which of the two signs, > and >=, is the opposite of <?",
    decide=lambda noise, rate: noise > rate,
)
drops.mistake(
    "one decision for the whole batch",
    "All pictures of your batch share the fate of the first one. How many numbers does noise hold?",
    decide=lambda noise, rate: (noise >= rate)[:1].expand(len(noise)),
)
drops.mistake(
    "the decisions lie along the last axis",
    "keep is (B,), and (B,) meets the *last* axis of x: an error, or where the sizes happen to agree, channels dropped "
    "in the place of pictures. Which shape broadcasts along axis 0?",
    spread=lambda keep, x: keep,
)
drops.mistake(
    "one axis too few",
    "keep[:, None] is right where x has two axes. With tokens in between it meets them in the place of the pictures. "
    "How many axes must keep have for any x?",
    spread=lambda keep, x: keep[:, None],
)
drops.mistake(
    "made for three axes only",
    "keep[:, None, None] is right for (B, N, C) and for nothing else. Swin's maps have four axes: ask x how many it "
    "has.",
    spread=lambda keep, x: keep[:, None, None],
)
drops.mistake(
    "a dropped branch gives its input back",
    "Where you drop, x comes out unchanged. x is what the branch would add to the stream: to skip the branch, what "
    "must be added?",
    dropped=lambda x, keep, branch: torch.where(keep.bool(), branch, x),
)
drops.mistake(
    "nothing is dropped",
    "Your result does not depend on the noise. What happens to a picture whose noise is below the rate?",
    dropped=lambda x, keep, branch: branch,
)


@drops.invariance("with a rate of 0 nothing changes, whatever the noise")
def rate_zero(mine, draw):
    x = draw.normal(4, 3, 5)
    return torch.equal(mine(x, 0.0, torch.zeros(4, dtype=x.dtype)), x)


@drops.invariance("over evenly spread noise the mean is x")
def mean_is_kept(mine, draw):
    x, noise = draw.normal(1, 3, 5), (torch.arange(20, dtype=torch.float64) + 0.5) / 20
    return torch.allclose(mine(x.expand(20, 3, 5), 0.3, noise).mean(dim=0), x[0])
