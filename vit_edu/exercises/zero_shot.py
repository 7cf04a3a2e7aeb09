"""Exercises of lesson 10, second half: classes from prompts (Radford et al. 2021, section 3.1), and retrieval."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vit_edu.exercises.core import Draw, Exercise
from vit_edu.exercises.images_and_words import features, unit


def zero_shot(image_features: Tensor, prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Pictures (B, D), the prompts of each class [(P, D), ...] -> weights (K, D) of length 1, classes (B,) int64."""
    means = [F.normalize(texts, dim=-1).mean(dim=0) for texts in prompts]  # every prompt has one voice
    weights = F.normalize(torch.stack(means), dim=-1)  # (K, D)
    return weights, (image_features @ weights.T).argmax(dim=1)  # a picture's own length changes no order


def classes(draw: Draw):
    for batch, dim, prompts in (
        (1, 3, (1, 1)),
        (3, 4, (1, 1)),
        (4, 3, (2, 2)),
        (5, 4, (3, 1, 2)),
        (9, 3, (2, 5, 1, 4)),
        (60, 2, (4, 3, 6, 1, 2)),
    ):
        yield features(draw, batch, dim), [features(draw, n, dim) for n in prompts]


shot = Exercise(
    "zero_shot",
    lesson="10",
    points=3,
    reference=zero_shot,
    cases=classes,
    returns=("weights", "predicted"),
    hints=(
        "A linear classifier has one vector for each class, and the largest product wins. Here nobody trains it: a "
        "class's vector is the mean of what its prompts say. Each prompt should have the same say.",
        "For each class: texts (P, D), each row brought to length 1 → mean over the P prompts (D,). Stacked: (K, D), "
        "each row brought to length 1 again. Pictures (B, D) @ (D, K) → (B, K) → the best class of each, (B,).",
        "means = [F.normalize(texts, dim=-1).mean(dim=...) for texts in prompts]\nweights = F.normalize("
        "torch.stack(means), ...)\npredicted = (image_features @ ...).argmax(dim=...)\nreturn weights, predicted",
    ),
)


@shot.recipe
def zero_shot_in_steps(
    image_features,
    prompts,
    *,
    each=unit,
    join=lambda texts: texts.mean(dim=0),
    again=unit,
    choose=lambda scores: scores.argmax(dim=1),
):
    weights = again(torch.stack([join(each(texts)) for texts in prompts]))
    return weights, choose(image_features @ weights.mT)


shot.mistake(
    "averaged before they are normalised",
    "You average vectors of different lengths, so that the longest prompt speaks for its class. What gives each the "
    "same say?",
    each=lambda x: x,
)
shot.mistake(
    "the mean is not normalised again",
    "The mean of vectors of length 1 is shorter than 1, and the shorter the more they disagree: a class with varied "
    "prompts would score less everywhere.",
    again=lambda x: x,
)
shot.mistake(
    "only the first prompt",
    "Right for one prompt a class. What do the others say?",
    join=lambda texts: texts[0],
)
shot.mistake(
    "the largest number of each channel",
    "You take a maximum over the prompts, channel by channel: a vector that none of them has meant.",
    join=lambda texts: texts.amax(dim=0),
)
shot.mistake(
    "prompts normalised over each other",
    "You bring each channel to length 1 over a class's prompts. One prompt alone would become a row of ±1. Which axis "
    "belongs to one prompt?",
    each=lambda x: F.normalize(x, dim=0),
)
shot.mistake(
    "classes normalised over each other",
    "Your second norm runs over the classes: add a class, and all others change. Which axis belongs to one class?",
    again=lambda x: F.normalize(x, dim=0),
)
shot.mistake(
    "layer norm in the place of the L2 norm",
    "You take a mean away and make the deviation 1. A cosine wants length 1, and nothing taken away.",
    each=lambda x: F.layer_norm(x, x.shape[-1:]),
)
shot.mistake(
    "each class picks a picture",
    "You return one picture for each class. Who chooses here, and which axis holds what it chooses from?",
    choose=lambda scores: scores.argmax(dim=0),
)
shot.mistake(
    "the worst class wins",
    "You take the smallest. That would be right for distances; a product is large where two vectors agree.",
    choose=lambda scores: scores.argmin(dim=1),
)
shot.mistake(
    "scores returned, not classes",
    "Your second result has a number for each class. Wanted is which class has the largest.",
    choose=lambda scores: scores,
)
shot.mistake(
    "the best score, not its place",
    "You return how large the best score is. Wanted is where it stands: max gives a value, argmax a place.",
    choose=lambda scores: scores.amax(dim=1),
)
shot.mistake(
    "the nearest single prompt decides",
    "Your weights are right, but the picture goes to the class of its nearest prompt. Then a class with many prompts "
    "wins by their number. What are the weights for?",
    lambda images, prompts: (
        zero_shot(images, prompts)[0],
        torch.stack([(images @ unit(texts).mT).amax(dim=1) for texts in prompts], dim=1).argmax(dim=1),
    ),
)
shot.mistake(
    "predicted before the second norm",
    "Your weights are right, but you predict with the means as they were before: a class whose prompts disagree has a "
    "short one, and loses.",
    lambda images, prompts: (
        zero_shot(images, prompts)[0],
        (images @ torch.stack([unit(texts).mean(dim=0) for texts in prompts]).mT).argmax(dim=1),
    ),
)
shot.mistake(
    "the prompt's number for the class's",
    "You have put all prompts into one list, and return which of them is nearest. To which class does it belong?",
    lambda images, prompts: (zero_shot(images, prompts)[0], (images @ unit(torch.cat(prompts)).mT).argmax(dim=1)),
)


@shot.invariance("a prompt that says the same with a vector ten times as long changes nothing")
def loud(mine, draw):
    images, prompts = draw.normal(4, 3), [draw.normal(3, 3), draw.normal(2, 3)]
    louder = [prompts[0] * torch.tensor([[10.0], [1.0], [1.0]], dtype=torch.float64), prompts[1]]
    return torch.allclose(mine(images, louder)[0], mine(images, prompts)[0])


def recall_at_k(scores: Tensor, wanted: Tensor, k: int) -> float:
    """The share of queries (rows of scores (Q, N)) that have what is wanted (Q,) among the k of largest score."""
    found = scores.topk(k, dim=1).indices == wanted[:, None]  # (Q, k)
    return found.any(dim=1).double().mean().item()


def searches(draw: Draw):
    """No two scores are the same, and what is wanted stands high: some are found, some are not. Half of the scores are
    negative, or all, as cosines may be.

    As many queries as a power of two: their share is the same number in float32 and float64.
    """
    for queries, things, k, down in (
        *((1, 2, 1, 0.5), (2, 3, 1, 0.5), (4, 7, 2, 2), (8, 5, 2, 0.5), (16, 9, 3, 2), (64, 11, 4, 0.5)),
    ):
        wanted = torch.tensor([draw.integer(0, things - 1) for _ in range(queries)])
        lift = queries * things / 4 + 0.25  # no whole number, so that there are no ties
        scores = draw.distinct(queries, things) - down * queries * things
        yield scores + lift * F.one_hot(wanted, things), wanted, k


recall = Exercise(
    "recall_at_k",
    lesson="10",
    points=2,
    reference=recall_at_k,
    cases=searches,
    returns="recall",
    call=lambda mine, scores, wanted, k: mine(scores.detach(), wanted, k),  # a share has no gradient
    hints=(
        "For each query there is one right thing. Is it among the k best? Then count the queries for which it is.",
        "scores (Q, N) → the places of the k largest of each row, (Q, k). wanted (Q,) → (Q, 1), to be compared with "
        "all k of them. (Q, k) of True and False → (Q,) → one share, a float.",
        "best = scores.topk(k, dim=...).indices\nfound = (best == wanted[:, None]).any(dim=...)\nreturn found..."
        ".mean().item()",
    ),
)


@recall.recipe
def recall_in_steps(
    scores,
    wanted,
    k,
    *,
    best=lambda scores, k: scores.topk(k, dim=1).indices,
    right=lambda best, wanted: (best == wanted[:, None]).any(dim=1),
    share=lambda found: found.double().mean().item(),
):
    return share(right(best(scores, k), wanted))


recall.mistake(
    "only the k-th counts",
    "You ask whether the right one stands exactly at place k. *Among* the k best means at any of these places.",
    right=lambda best, wanted: best[:, -1] == wanted,
)
recall.mistake(
    "k is ignored",
    "You look at the best one only. What is k for?",
    best=lambda scores, k: scores.argmax(dim=1, keepdim=True),
)
recall.mistake(
    "one place too many",
    "You look at k + 1 places. Counting from nought, which is the last of the k best?",
    best=lambda scores, k: scores.argsort(dim=1, descending=True)[:, : k + 1],
)
recall.mistake(
    "one place too few",
    "You look at k - 1 places, none at all for k = 1. Is the best one at rank 0 or 1?",
    best=lambda scores, k: scores.argsort(dim=1, descending=True)[:, : k - 1],
)
recall.mistake(
    "the k smallest",
    "You take the other end. Sorting begins with the smallest unless told otherwise; for a distance it would be right.",
    best=lambda scores, k: scores.topk(k, dim=1, largest=False).indices,
)
recall.mistake(
    "argsort taken for ranks",
    "argsort says which thing stands at each place. You read it as the place of each thing, which is the other way "
    "round. How do you turn an order around?",
    lambda scores, wanted, k: (
        (scores.argsort(dim=1, descending=True).gather(1, wanted[:, None]) < k).double().mean().item()
    ),
)
recall.mistake(
    "the right ones stand on the diagonal",
    "You take query i to want thing i. That holds in CLIP's loss; here `wanted` says it.",
    right=lambda best, wanted: (best == torch.arange(len(best))[:, None]).any(dim=1),
)
recall.mistake(
    "divided by k as well",
    "You take the mean over queries and places (precision). Only one of the k places can be right: what does any() do?",
    right=lambda best, wanted: best == wanted[:, None],
)
recall.mistake(
    "counted, not shared",
    "You return how many queries are right. Divide by how many there are.",
    share=lambda found: found.double().sum().item(),
)
recall.mistake(
    "in percent",
    "Yours is a hundred times too large: wanted is a share from 0 to 1.",
    share=lambda found: 100 * found.double().mean().item(),
)
recall.mistake(
    "the share that is missed",
    "Yours is one minus the right share: == or !=?",
    share=lambda found: 1 - found.double().mean().item(),
)


@recall.invariance("with k as large as the number of things everything is found")
def all_found(mine, draw):
    return mine(draw.distinct(5, 3), torch.tensor([0, 2, 1, 1, 0]), 3) == 1.0
