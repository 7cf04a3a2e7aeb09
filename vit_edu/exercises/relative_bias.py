"""Exercise of lesson 03: positions as a bias on the scores. Sources: Shaw et al. 2018; Liu et al. 2021, equation 4."""

import torch
from torch import Tensor

from vit_edu.exercises.core import Draw, Exercise


def relative_bias(table: Tensor, num_tokens: int) -> Tensor:
    """table (2N-1, h), one row a distance from -(N-1) to N-1 -> bias (h, N, N); query i and key j have row i - j."""
    place = torch.arange(num_tokens)
    distance = place[:, None] - place[None, :]  # (N, N): query minus key
    return table[distance + num_tokens - 1].permute(2, 0, 1)  # (N, N, h) -> (h, N, N)


def tables(draw: Draw):
    yield draw.distinct(3, 1), 2
    yield draw.distinct(3, 2), 2
    yield draw.distinct(5, 2), 3
    yield draw.distinct(1, 3), 1
    yield draw.normal(7, 4), 4
    yield draw.normal(11, 3), 6
    yield draw.normal(17, 5), 9


bias = Exercise(
    "relative_bias",
    lesson="03",
    points=2,
    reference=relative_bias,
    cases=tables,
    returns="bias",
    hints=(
        "Write down, for three tokens, the distance i - j of every query i from every key j, as a matrix of three "
        "rows. Which is the smallest number in it, and which row of the table should that one find?",
        "places (N, 1) minus places (1, N) -> distances (N, N), from -(N - 1) to N - 1; shifted, they count rows of "
        "the table (2N - 1, h); table[...] of an (N, N) index is (N, N, h); wanted is (h, N, N).",
        "place = torch.arange(num_tokens)\n"
        "distance = place[:, None] - ...            # which of the two is the query?\n"
        "return table[distance + ...].permute(...)",
    ),
)


@bias.recipe
def relative_bias_in_steps(
    table,
    num_tokens,
    *,
    distance=lambda i, j: i - j,
    shift=lambda distance, N: distance + N - 1,
    order=lambda found: found.permute(2, 0, 1),
):
    place = torch.arange(num_tokens)
    return order(table[shift(distance(place[:, None], place[None, :]), num_tokens)])


bias.mistake(
    "key minus query",
    "Each of your matrices is turned over, so that left and right are exchanged. Row i belongs to the query: is it "
    "i - j or j - i? Or has .T turned more axes than you meant?",
    distance=lambda i, j: j - i,
)
bias.mistake(
    "how far, and not in which direction",
    "You take |i - j|, so that the neighbour on the left and the one on the right look alike. What has the table 2N - "
    "1 rows for?",
    distance=lambda i, j: (i - j).abs(),
)
bias.mistake(
    "places added",
    "You add the two places. Which two pairs of tokens should share a number: those with the same sum, or those with "
    "the same distance?",
    distance=lambda i, j: i + j,
    shift=lambda distance, N: distance,
)
bias.mistake(
    "negative rows of the table",
    "table[-1] is no error in Python: it is the last row. So your negative distances are found at the end of the "
    "table. Which row belongs to the smallest distance?",
    shift=lambda distance, N: distance,
)
bias.mistake(
    "one row too early",
    "Your smallest distance becomes row -1, which is the last one. What is the smallest distance of N tokens?",
    shift=lambda distance, N: distance + N - 2,
)
bias.mistake(
    "all keys behind the query are one",
    "You cut the distances off at 0, so that half of the table is never read. May a distance be negative?",
    shift=lambda distance, N: distance.clamp(min=0) + N - 1,
)
bias.mistake(
    "heads left behind the tokens",
    "Your bias is (N, N, h). It is to be added to scores (B, h, N, N): where must the heads stand?",
    order=lambda found: found,
)
bias.mistake(
    "heads cut out by a plain reshape",
    "reshape only re-reads the numbers in order; the heads must change places with the tokens. Which call moves axes?",
    order=lambda found: found.reshape(found.shape[2], found.shape[0], found.shape[1]),
)
bias.mistake(
    "one bias for all heads",
    "You average the heads. Each head has a column of the table for itself: how many matrices are wanted?",
    order=lambda found: found.mean(dim=-1),
)
bias.mistake(
    "the places in the place of the distance",
    "Your bias depends on the key alone: every query gets the same row. What does it need to know beside j?",
    distance=lambda i, j: j.expand(i.shape[0], -1),
)


@bias.invariance("every diagonal holds one number a head")
def the_same_along_a_diagonal(mine, draw):
    found = mine(draw.normal(9, 3), 5)
    return torch.equal(found[:, 1:, 1:], found[:, :-1, :-1])
