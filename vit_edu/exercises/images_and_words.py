"""Exercises of lesson 10, first half: all pictures with all texts, and CLIP's loss. Radford et al. 2021, figure 3."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vit_edu import models
from vit_edu.exercises.core import Draw, Exercise


def similarity_logits(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
    """exp(logit_scale) times the cosine of every picture with every text: (B, D), (T, D), () -> (B, T)."""
    images, texts = F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1)
    return logit_scale.exp() * images @ texts.T  # (B, D) @ (D, T) -> (B, T)


def lengths(draw: Draw, n: int) -> Tensor:
    """(n, 1): from 1 to 6, so that features which are not normalised show, and an eps of 1e-8 beside them does not."""
    return (0.9 * draw.normal(n, 1)).abs().clamp(max=1.8).exp()


def features(draw: Draw, n: int, dim: int) -> Tensor:
    return lengths(draw, n) * unit(draw.normal(n, dim))


def tables(draw: Draw):
    """Factors above and below 1, none of them 1, one near the largest, 100."""
    for pictures, texts, dim in ((1, 2, 3), (2, 1, 4), (3, 3, 5), (4, 6, 3), (5, 3, 7)):
        scale = torch.tensor(4.5 if texts == 6 else draw.integer(3, 9) / 4, dtype=torch.float64)
        yield features(draw, pictures, dim), features(draw, texts, dim), -scale if texts == 2 else scale


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


logits = Exercise(
    "similarity_logits",
    lesson="10",
    points=2,
    reference=similarity_logits,
    cases=tables,
    returns="logits",
    hints=(
        "The cosine of two vectors is their dot product once both have length 1. All pairs at once are one matrix "
        "product. What is learned as a logarithm must become a factor again.",
        "image_features (B, D) and text_features (T, D), each *row* brought to length 1 → (B, D) @ (D, T) → (B, T).",
        "images = F.normalize(image_features, dim=...)\ntexts = ...\nreturn logit_scale.exp() * (images @ ...)",
    ),
    ready_made=(models.clip_logits,),
)


@logits.recipe
def logits_in_steps(
    image_features, text_features, logit_scale, *, images=unit, texts=unit, scale=torch.exp, result=lambda x: x
):
    return result(scale(logit_scale) * (images(image_features) @ texts(text_features).mT))


def both(norm) -> dict:
    """The same wrong norm on both sides."""
    return {"images": norm, "texts": norm}


logits.mistake(
    "no L2 norm",
    "Your numbers are dot products, so that a long vector fits everything. What must every row's length be?",
    **both(lambda x: x),
)
logits.mistake(
    "only the texts are normalised",
    "A picture's whole row grows with the length of its vector. Which side has kept its length?",
    images=lambda x: x,
)
logits.mistake(
    "only the pictures are normalised",
    "A text's whole column grows with the length of its vector, so that some texts win always. Which side has kept "
    "its length?",
    texts=lambda x: x,
)
logits.mistake(
    "normalised over the batch",
    "Each *channel* of yours has length 1 over the batch, so a picture's features change with its company. Which axis "
    "belongs to one picture?",
    **both(lambda x: F.normalize(x, dim=0)),
)
logits.mistake(
    "one length for the whole batch",
    "You divide by the norm of the whole matrix. norm() without an axis is one number for all; each row needs its own.",
    **both(lambda x: x / x.norm()),
)
logits.mistake(
    "layer norm in the place of the L2 norm",
    "Your rows have mean 0 and deviation 1, which gives them length √D. CLIP takes no mean away and wants length 1.",
    **both(lambda x: F.layer_norm(x, x.shape[-1:])),
)
logits.mistake(
    "divided by the squared length",
    "Longer vectors come out shorter than short ones: x·x is the square of the length. What is missing?",
    **both(lambda x: x / (x * x).sum(dim=-1, keepdim=True)),
)
logits.mistake(
    "divided by the sum of the numbers",
    "Your rows' absolute numbers sum to 1 (L1). A cosine wants their squares to (L2).",
    **both(lambda x: F.normalize(x, p=1, dim=-1)),
)
logits.mistake(
    "exp forgotten",
    "What is learned is the *logarithm* of the factor: at its start, 2.66 for 14.3. Yours could even become negative, "
    "and the best text the worst.",
    scale=lambda s: s,
)
logits.mistake(
    "divided where it is multiplied",
    "A temperature divides, a scale multiplies, and logit_scale is a scale: as it grows the softmax must get sharper.",
    scale=lambda s: (-s).exp(),
)
logits.mistake(
    "divided by the logarithm",
    "You divide by logit_scale itself. Two things: it is a logarithm, and it is a scale, not a temperature.",
    scale=lambda s: 1 / s,
)
logits.mistake(
    "the scale is left out",
    "Your numbers are cosines, from -1 to 1. Where does logit_scale come in? If you scale features before you "
    "normalise them, the norm takes it out again.",
    scale=torch.ones_like,
)
logits.mistake(
    "the scale counted on both sides",
    "Each side is multiplied by the scale, so that it comes in squared.",
    scale=lambda s: (2 * s).exp(),
)
logits.mistake(
    "divided by √D, as in attention",
    "Cosines do not grow with D: both vectors have length 1. Here the scale is learned instead.",
    lambda x, y, s: similarity_logits(x, y, s) / x.shape[-1] ** 0.5,
)
logits.mistake(
    "softmax taken already",
    "Your rows sum to 1. These are probabilities; logits are what goes into the softmax, and the loss has its own.",
    result=lambda x: x.softmax(dim=-1),
)
logits.mistake(
    "texts in the rows",
    "Your table is (T, B). Pictures are asked for in the rows; for as many texts as pictures nobody would notice.",
    result=lambda x: x.mT,
)


@logits.invariance("a picture's vector three times as long gives the same logits")
def length_is_nothing(mine, draw):
    x, y, scale = draw.normal(2, 5), draw.normal(3, 5), torch.tensor(0.7, dtype=torch.float64)
    return torch.allclose(mine(3 * x, y, scale), mine(x, y, scale))


def clip_loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
    """The mean of two cross entropies: each picture picks its text, each text its picture. (B, D), (B, D), () -> ()."""
    table = similarity_logits(image_features, text_features, logit_scale)  # (B, B)
    labels = torch.arange(len(table), device=table.device)  # the pairs stand on the diagonal
    return (F.cross_entropy(table, labels) + F.cross_entropy(table.T, labels)) / 2


def pairs(draw: Draw):
    """The last at a factor near 100, the largest that CLIP allows. There float32 is too small for exp() of the logit of
    a pair that fits, and for the share of a pair that points in opposite directions."""
    for batch, dim in ((2, 3), (3, 2), (4, 6), (6, 5)):
        scale = torch.tensor(draw.integer(3, 9) / 4, dtype=torch.float64)
        yield features(draw, batch, dim), features(draw, batch, dim), scale
    pictures, texts = features(draw, 9, 4), features(draw, 9, 4)
    texts[0], texts[1] = 2 * pictures[0], -pictures[1]
    yield pictures, texts, torch.tensor(4.5, dtype=torch.float64)


loss = Exercise(
    "clip_loss",
    lesson="10",
    points=3,
    reference=clip_loss,
    cases=pairs,
    returns="loss",
    hints=(
        "Read a row of the table as a classification: this picture, B texts to choose from. Which is the right one? "
        "Then read a column in the same way.",
        "table (B, B) of logits; the right class of row i is i, so the labels are 0, 1, …, B-1. cross_entropy takes "
        "logits (B, classes) and labels (B,), and averages over the B rows by itself. Transposed, columns are rows.",
        "table = similarity_logits(...)\nlabels = torch.arange(...)\npictures = F.cross_entropy(table, labels)\n"
        "texts = F.cross_entropy(..., labels)\nreturn ...",
    ),
    ready_made=(models.clip_loss,),
)


def diagonal(table: Tensor) -> Tensor:
    return torch.arange(len(table))


@loss.recipe
def loss_in_steps(
    image_features,
    text_features,
    logit_scale,
    *,
    logits=logits_in_steps,
    labels=diagonal,
    side=F.cross_entropy,
    join=lambda pictures, texts: (pictures + texts) / 2,
):
    table = logits(image_features, text_features, logit_scale)
    return join(side(table, labels(table)), side(table.mT, labels(table)))


loss.mistake(
    "one-sided: only the pictures choose",
    "Each picture picks its text, and no text ever picks its picture. What does the other half of figure 3 do?",
    join=lambda pictures, texts: pictures,
)
loss.mistake(
    "one-sided: only the texts choose",
    "Each text picks its picture, and no picture ever picks its text. Did you transpose the table once too often?",
    join=lambda pictures, texts: texts,
)
loss.mistake(
    "both sides added, not averaged",
    "Your loss is twice the right one. The best answer is the same, but the gradient is twice as long, and a guess no "
    "longer has the loss log B.",
    join=lambda pictures, texts: pictures + texts,
)
loss.mistake(
    "the sum of the batch, not its mean",
    "Your loss grows with the batch. What does reduction='sum' do to a learning rate that was found for another batch?",
    side=lambda table, labels: F.cross_entropy(table, labels, reduction="sum"),
)
loss.mistake(
    "divided by the batch once more",
    "cross_entropy is a mean over the rows already.",
    side=lambda table, labels: F.cross_entropy(table, labels) / len(table),
)
loss.mistake(
    "all labels are nought",
    "You tell every picture that text 0 is its own. Where in the table do the pairs stand?",
    labels=lambda table: torch.zeros(len(table), dtype=torch.long),
)
loss.mistake(
    "the pairs on the other diagonal",
    "Your labels count backwards. Which text belongs to picture 0?",
    labels=lambda table: torch.arange(len(table)).flip(0),
)
loss.mistake(
    "softmax twice",
    "cross_entropy wants logits and takes the softmax itself. With yours in front of it no loss can come near nought.",
    side=lambda table, labels: F.cross_entropy(table.softmax(dim=-1), labels),
)
loss.mistake(
    "softmax over the whole table",
    "All B·B pairs share one softmax. Each row must sum to 1 by itself, and for the other half each column.",
    side=lambda table, labels: -table.flatten().log_softmax(dim=0).view_as(table).diagonal().mean(),
)
loss.mistake(
    "no L2 norm",
    "Your table holds dot products: the loss can fall just by making vectors longer. Did you go through "
    "similarity_logits?",
    logits=partial(logits_in_steps, **both(lambda x: x)),
)
loss.mistake(
    "normalised over the batch",
    "Each channel of yours has length 1 over the batch. Which axis belongs to one picture?",
    logits=partial(logits_in_steps, **both(lambda x: F.normalize(x, dim=0))),
)
loss.mistake(
    "exp forgotten",
    "What is learned is the logarithm of the factor.",
    logits=partial(logits_in_steps, scale=lambda s: s),
)
loss.mistake(
    "divided where it is multiplied",
    "logit_scale is a scale: as it grows, the softmax must get sharper.",
    logits=partial(logits_in_steps, scale=lambda s: (-s).exp()),
)
loss.mistake(
    "the scale is left out",
    "Your logits are cosines, which differ by 2 at most: no softmax over them can be sure of anything.",
    logits=partial(logits_in_steps, scale=torch.ones_like),
)
loss.mistake(
    "only the right pairs count",
    "You pull the pairs together and push nothing apart. All vectors alike would be perfect: what stands against it?",
    side=lambda table, labels: -table.diagonal().mean(),
)
loss.mistake(
    "the right one is missing from its softmax",
    "Below the fraction you add up the wrong pairs only. A softmax is a share of all, the right one included.",
    side=lambda table, labels: (
        table.masked_fill(torch.eye(len(table), dtype=torch.bool), -torch.inf).logsumexp(dim=1) - table.diagonal()
    ).mean(),
)
loss.mistake(
    "the sign is missing",
    "Yours is the log-likelihood: it grows as the model gets better, and an optimiser goes down.",
    join=lambda pictures, texts: -(pictures + texts) / 2,
)
loss.mistake(
    "exp() of a large logit",
    "Right while the factor is small. It may reach 100, and exp(100) is infinite in float32: a share becomes NaN. "
    "cross_entropy and logsumexp take care of that.",
    side=lambda table, labels: -(table.exp().diagonal() / table.exp().sum(dim=1)).log().mean(),
)
loss.mistake(
    "the sum of exp() of large logits",
    "Right while the factor is small. It may reach 100, and exp(100) is infinite in float32. logsumexp and "
    "cross_entropy take the largest off first.",
    side=lambda table, labels: (table.exp().sum(dim=1).log() - table.diagonal()).mean(),
)
loss.mistake(
    "the logarithm of a share that is nought",
    "Right while the factor is small. It may reach 100: then a share can be 0, and its logarithm infinite. Which "
    "function takes softmax and logarithm at once?",
    side=lambda table, labels: -table.softmax(dim=1).diagonal().log().mean(),
)
loss.mistake(
    "every cell judged by itself",
    "Yours is a yes or no for each cell of the table. That is nearly SigLIP; in CLIP the cells of a row compete.",
    lambda x, y, s: F.binary_cross_entropy_with_logits(similarity_logits(x, y, s), torch.eye(len(x), dtype=x.dtype)),
)


@loss.invariance("pictures and texts may change places")
def symmetric(mine, draw):
    x, y, scale = draw.normal(5, 3), draw.normal(5, 3), torch.tensor(1.3, dtype=torch.float64)
    return torch.allclose(mine(x, y, scale), mine(y, x, scale))
