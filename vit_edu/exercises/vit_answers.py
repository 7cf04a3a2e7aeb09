"""Exercise of lesson 04: from logits to an answer that people can read."""

import torch

from vit_edu.exercises.core import Draw, Exercise


def predict(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k most probable classes of each picture, the best first: logits (B, classes) -> probabilities and classes,
    (B, k) each."""
    best = logits.softmax(dim=-1).topk(k, dim=-1)
    return best.values, best.indices


def logits_and_numbers(draw: Draw):
    def spread(*shape):  # no two alike, whatever is drawn
        return draw.distinct(*shape) / 4 - 2 + 0.1 * draw.normal(*shape).sigmoid()

    yield spread(1, 3), 2
    yield spread(2, 3), 1
    yield spread(2, 4), 3
    yield spread(3, 5), 5
    yield 40 * spread(3, 8) + 700, 4  # exp overflows here
    yield draw.normal(5, 7), 2


answers = Exercise(
    "predict",
    lesson="04",
    points=2,
    reference=predict,
    cases=logits_and_numbers,
    returns=("probabilities", "classes"),
    observed=("probabilities", "classes"),  # nobody trains through an answer
    hints=(
        "Two things: logits become probabilities, and of these the k largest are looked up. Which comes first, if the "
        "probabilities are to count all the classes?",
        "logits (B, classes) -> probabilities (B, classes), each row sums to 1 -> the k largest of each row and their "
        "places, (B, k) each, the largest first.",
        "probabilities = logits.softmax(dim=...)\nvalues, indices = probabilities.topk(...)\nreturn ..., ...",
    ),
)


@answers.recipe
def predict_in_steps(
    logits,
    k,
    *,
    share=lambda logits: logits.softmax(dim=-1),
    pick=lambda shares, k: shares.topk(k, dim=-1),
    shown=lambda values, indices: (values, indices),
):
    return shown(*pick(share(logits), k))


answers.mistake(
    "softmax over the pictures",
    "Your columns sum to 1: the pictures compete for a class. Who should compete, and along which axis do they lie?",
    share=lambda logits: logits.softmax(dim=0),
)
answers.mistake(
    "no softmax",
    "You return the logits themselves. Do the numbers of a row lie between 0 and 1, and what do they sum to?",
    share=lambda logits: logits,
)
answers.mistake(
    "a sigmoid for each class",
    "You look at each class by itself, so a row may sum to more than 1. A picture here has one class: which function "
    "makes the classes share?",
    share=torch.sigmoid,
)
answers.mistake(
    "logarithms of probabilities",
    "Your numbers are negative: you have log_softmax, which losses work with. What undoes a logarithm?",
    share=lambda logits: logits.log_softmax(dim=-1),
)
answers.mistake(
    "exp overflows",
    "Right for small logits, NaN for large ones: exp(710) is already infinite. What does softmax subtract first?",
    share=lambda logits: logits.exp() / logits.exp().sum(dim=-1, keepdim=True),
)
answers.mistake(
    "divided by the sum",
    "You divide by the sum of the row. Logits may be negative: which function makes them positive before?",
    share=lambda logits: logits / logits.sum(dim=-1, keepdim=True),
)


def best_then_softmax(logits, k):
    best = logits.topk(k, dim=-1)
    return best.values.softmax(dim=-1), best.indices


answers.mistake(
    "softmax after the choice",
    "Your k probabilities sum to 1, as if there were no other classes. What is a model's 0.9 worth if it was asked "
    "about two classes of a thousand? Softmax first, then choose.",
    best_then_softmax,
)


answers.mistake(
    "the least probable first",
    "You return the k smallest. Which way does your sorting go?",
    pick=lambda shares, k: shares.topk(k, dim=-1, largest=False),
)
answers.mistake(
    "in rising order",
    "You have the right k, the best of them last. Who should stand first?",
    pick=lambda shares, k: [x.flip(-1) for x in shares.topk(k, dim=-1)],
)
answers.mistake(
    "all classes returned",
    "You return every class, in order. How many were asked for?",
    pick=lambda shares, k: shares.sort(dim=-1, descending=True),
)
answers.mistake(
    "the first k classes",
    "You cut the first k columns off, whatever is in them. Which k are wanted?",
    pick=lambda shares, k: (shares[:, :k], torch.arange(k).expand(len(shares), k)),
)
answers.mistake(
    "the best one only",
    "You return one class a picture, as argmax does. How many were asked for?",
    pick=lambda shares, k: shares.max(dim=-1),
)


def with_ranks(shares, k):
    order = shares.argsort(dim=-1, descending=True)
    return shares.gather(-1, order)[:, :k], order.argsort(dim=-1)[:, :k]


answers.mistake(
    "ranks for classes",
    "You return at which rank each class stands, where the class at each rank is wanted. One argsort too many?",
    pick=with_ranks,
)
answers.mistake(
    "in per cent",
    "Your numbers are a hundred times too large. Probabilities sum to 1; per cent are for printing.",
    shown=lambda values, indices: (100 * values, indices),
)


@answers.invariance("the same number added to all logits of a picture changes nothing")
def shifted(mine, draw):
    logits = draw.normal(3, 6)
    one, other = mine(logits, 2), mine(logits + draw.normal(3, 1), 2)
    return torch.allclose(one[0], other[0]) and torch.equal(one[1], other[1])
