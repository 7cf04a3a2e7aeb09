"""Exercises of lesson 05, first half: one layer on the picture, and how far it looks. Source: ViT, appendix D.7."""

from functools import partial

import torch
from torch import Tensor

from vit_edu import explain
from vit_edu.exercises.core import Draw, Exercise


def shares(draw: Draw, batch: int, heads: int, tokens: int, sharpness: float = 2.0) -> Tensor:
    """Attention weights (B, h, N, N) as a model gives them: positive, every row sums to 1.

    Everybody keeps a twentieth of an equal share: no sum is so small that an epsilon of 1e-8 beside it would show.
    """
    weights = (sharpness * draw.normal(batch, heads, tokens, tokens)).softmax(dim=-1)
    return 0.95 * weights + 0.05 / tokens


def grid_cases(draw: Draw):
    """Grids with more columns than rows and the other way round; the class token takes much of some rows."""
    yield shares(draw, 1, 1, 3), (1, 2)
    yield shares(draw, 1, 2, 3), (2, 1)
    yield shares(draw, 1, 2, 7), (2, 3)
    yield shares(draw, 2, 3, 13), (4, 3)
    yield shares(draw, 3, 2, 16, 3.0), (3, 5)
    yield shares(draw, 2, 4, 9, 8.0), (2, 4)


def class_attention_map(weights: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """What the class token gives to each patch, (B, h, N, N) -> (B, h, rows, columns); each map sums to 1."""
    patches = weights[:, :, 0, 1:]  # (B, h, N-1)
    patches = patches / patches.sum(dim=-1, keepdim=True)
    return patches.unflatten(-1, grid_size)  # (B, h, rows, columns)


maps = Exercise(
    "class_attention_map",
    lesson="05",
    points=2,
    reference=class_attention_map,
    cases=grid_cases,
    returns="map",
    observed=("map",),
    hints=(
        "Of each (N, N) you need a single row, and of this row all but one number. What must be done to the rest so "
        "that it sums to 1, and in which order did patchify lay out the patches?",
        "weights (B, h, 1 + rows·columns, 1 + rows·columns) → the class token's row (B, h, 1 + rows·columns) → its "
        "patches (B, h, rows·columns) → shares that sum to 1 → (B, h, rows, columns).",
        "row = weights[:, :, ..., ...]               # who asks stands in axis 2, who is asked in axis 3\n"
        "row = row / row.sum(dim=..., keepdim=True)\n"
        "return row.unflatten(-1, grid_size)",
    ),
)


@maps.recipe
def map_in_steps(
    weights,
    grid_size,
    *,
    choose=lambda weights: weights[:, :, 0, 1:],
    norm=lambda row: row / row.sum(dim=-1, keepdim=True),
    lay=lambda row, grid: row.unflatten(-1, grid),
    heads=lambda maps: maps,
):
    return heads(lay(norm(choose(weights)), grid_size))


maps.mistake(
    "the column in place of the row",
    "You show who looks at the class token. Which axis counts the tokens that ask: the last but one, or the last?",
    choose=lambda weights: weights[:, :, 1:, 0],
)
maps.mistake(
    "shifted by one",
    "Your first number is what the class token keeps for itself, and every patch stands one place too late. Which "
    "place in the row has the first patch?",
    choose=lambda weights: weights[:, :, 0, :-1],
)
maps.mistake(
    "the class token taken for the last",
    "You read the row of the last patch. Where did embed_positions put the class token: in front or behind?",
    choose=lambda weights: weights[:, :, -1, :-1],
)
maps.mistake(
    "the row of the first patch",
    "You show where patch 0 looks. Which row is the class token's?",
    choose=lambda weights: weights[:, :, 1, 1:],
)
maps.mistake(
    "the mean of all rows",
    "You average over everybody who asks. That is how much attention a patch gets from all; asked for is one row.",
    choose=lambda weights: weights[:, :, :, 1:].mean(dim=2),
)
maps.mistake(
    "the mean of the patches' rows",
    "You average over the patches that ask, and leave out the row that is asked for.",
    choose=lambda weights: weights[:, :, 1:, 1:].mean(dim=2),
)
maps.mistake(
    "not made to sum to 1",
    "Your maps sum to less than 1: what the class token keeps for itself is missing from them. A head that keeps much "
    "would look weak beside one that keeps little.",
    norm=lambda row: row,
)
maps.mistake(
    "divided by the largest",
    "Your brightest patch is 1, which is right for painting. Shares of one attention must sum to 1.",
    norm=lambda row: row / row.amax(dim=-1, keepdim=True),
)
maps.mistake(
    "stretched from 0 to 1",
    "Your darkest patch is 0 and your brightest 1. So even a head that looks at all alike gets a bright spot. What "
    "keeps the proportions?",
    norm=lambda row: (row - row.amin(-1, keepdim=True)) / (row.amax(-1, keepdim=True) - row.amin(-1, keepdim=True)),
)
maps.mistake(
    "softmax once more",
    "These are shares already: a softmax over shares makes them nearly flat. What brings a sum of 0.8 to 1?",
    norm=lambda row: row.softmax(dim=-1),
)
maps.mistake(
    "all heads share one 1",
    "All maps of a picture together sum to 1. Over which axis must the sum go so that each head has its own?",
    norm=lambda row: row / row.sum(dim=(1, 2), keepdim=True),
)
maps.mistake(
    "divided by the sum over the heads",
    "At each patch your heads sum to 1. Which axis counts the patches?",
    norm=lambda row: row / row.sum(dim=1, keepdim=True),
)
maps.mistake(
    "column by column",
    "You fill the grid downwards. In which order did patchify lay out the patches?",
    lay=lambda row, grid: row.unflatten(-1, (grid[1], grid[0])).transpose(-2, -1),
)
maps.mistake(
    "columns and rows exchanged",
    "Your maps are (columns, rows). grid_size is (rows, columns); on a square grid nobody would notice.",
    lay=lambda row, grid: row.unflatten(-1, (grid[1], grid[0])),
)
maps.mistake(
    "still a row",
    "Your result is (B, h, rows·columns). One call gives its last axis the shape of the grid.",
    lay=lambda row, grid: row,
)
maps.mistake(
    "heads averaged",
    "You return the mean of the heads. Heads do different work: keep an axis for them.",
    heads=lambda maps: maps.mean(dim=1),
)


@maps.invariance("a class token that looks at all tokens alike gives each patch the same share")
def flat(mine, draw):
    rows, columns = draw.integer(2, 4), draw.integer(5, 6)
    tokens = 1 + rows * columns
    weights = shares(draw, 1, 2, tokens)
    weights[:, :, 0] = 1 / tokens
    return torch.allclose(
        mine(weights, (rows, columns)), torch.full((1, 2, rows, columns), 1.0).double() / (tokens - 1)
    )


def distance_cases(draw: Draw):
    yield shares(draw, 1, 1, 3), (1, 2), 4
    yield shares(draw, 1, 2, 3), (2, 1), 16
    yield shares(draw, 1, 2, 7), (2, 3), 8
    yield shares(draw, 2, 3, 13), (4, 3), 5
    yield shares(draw, 3, 2, 16, 4.0), (3, 5), 14
    yield shares(draw, 2, 3, 21, 1.0), (5, 4), draw.integer(17, 40)


def attention_distance(weights: Tensor, grid_size: tuple[int, int], patch_size: int) -> Tensor:
    """vit_edu.explain's, for one class token in front."""
    return explain.attention_distance(weights, grid_size, patch_size, prefix=1)


distance = Exercise(
    "attention_distance",
    lesson="05",
    points=4,
    reference=attention_distance,
    cases=distance_cases,
    returns="distance",
    observed=("distance",),
    ready_made=(explain.attention_distance,),
    hints=(
        "Make two tables of the same shape: how far each patch is from each other one, and how much of its attention "
        "each patch gives to each other one. Then take a weighted mean along the rows, and a plain mean over them.",
        "y and x of each patch, (rows·columns,) each → distances (rows·columns, rows·columns), the same for all. "
        "weights without the class token's row and column: (B, h, rows·columns, rows·columns), each row made to sum to "
        "1 again. Sum over the last axis, mean over the one before: (B, h).",
        "place = torch.arange(rows * columns)\n"
        "y, x = place // columns * patch_size, ...\n"
        "distance = ((y[:, None] - y[None, :]) ** 2 + ...) ** 0.5\n"
        "patches = weights[:, :, 1:, 1:]\n"
        "patches = patches / ...                       # each row sums to 1 again\n"
        "return (patches * distance).sum(dim=...).mean(dim=...)",
    ),
)


def places(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    place = torch.arange(rows * columns, dtype=torch.float64)
    return place.div(columns, rounding_mode="floor"), place % columns


def euclid(y: Tensor, x: Tensor) -> Tensor:
    return torch.hypot(y[:, None] - y, x[:, None] - x)


def each_row(weights: Tensor, far: Tensor) -> Tensor:
    return (weights * far).sum(dim=-1) / weights.sum(dim=-1)


@distance.recipe
def distance_in_steps(
    weights,
    grid_size,
    patch_size,
    *,
    choose=lambda weights: weights[:, :, 1:, 1:],
    coordinates=places,
    measure=euclid,
    unit=lambda far, patch_size: far * patch_size,
    rows=each_row,
    over=lambda found: found.mean(dim=-1),
):
    far = unit(measure(*coordinates(*grid_size)), patch_size)
    return over(rows(choose(weights), far.to(weights)))


distance.mistake(
    "rows that no longer sum to 1",
    "Without the class token's column your rows sum to less than 1, so patches that look at it much seem to look near. "
    "What makes a mean out of a weighted sum?",
    rows=lambda weights, far: (weights * far).sum(dim=-1),
)
distance.mistake(
    "the class token stays, at distance 0",
    "You count what goes to the class token as looking at distance 0. It has no place in the picture: leave its row "
    "and column out.",
    lambda weights, grid_size, patch_size: (
        (weights * torch.nn.functional.pad(euclid(*places(*grid_size)) * patch_size, (1, 0, 1, 0)).to(weights))
        .sum(dim=-1)
        .mean(dim=-1)
    ),
)
distance.mistake(
    "the last token left out, not the first",
    "You leave out the last patch and keep the class token. Where did embed_positions put it?",
    choose=lambda weights: weights[:, :, :-1, :-1],
)
distance.mistake(
    "one weighted mean over all pairs",
    "You divide one sum by another for the whole picture, so patches that give much to the class token count less. "
    "Each patch has one voice: a mean for each row first.",
    rows=lambda weights, far: (weights * far).sum(dim=-1) / weights.sum(dim=(-2, -1))[..., None] * weights.shape[-1],
)
distance.mistake(
    "the columns are averaged, not the rows",
    "You weigh by who looks at a patch. Asked for is where a patch looks: along which axis do its shares lie?",
    rows=lambda weights, far: (weights * far).sum(dim=-2) / weights.sum(dim=-2),
)
distance.mistake(
    "the weights are not used",
    "Your result is the same for every head: the mean of all distances. Which distances should count more?",
    rows=lambda weights, far: far.expand_as(weights).mean(dim=-1),
)
distance.mistake(
    "only the strongest key",
    "You measure to the one patch that gets most. A head that looks at many has a mean over all of them.",
    rows=lambda weights, far: far.expand_as(weights).gather(-1, weights.argmax(-1, keepdim=True))[..., 0],
)
distance.mistake(
    "a mean over keys where a sum belongs",
    "You sum the weighted distances and divide by the number of keys as well. The weights have done that already.",
    partial(distance_in_steps, rows=lambda weights, far: each_row(weights, far) / weights.shape[-1]),
)
distance.mistake(
    "summed over those who ask",
    "Your result grows with the number of patches. What is done with the patches' distances at the end?",
    over=lambda found: found.sum(dim=-1),
)
distance.mistake(
    "one number for each patch",
    "You return a distance for each patch that asks; wanted is one for each head.",
    over=lambda found: found,
)
distance.mistake(
    "heads averaged",
    "You average the heads away. Heads that look near and heads that look far are the point of the picture.",
    over=lambda found: found.mean(dim=(-2, -1)),
)
distance.mistake(
    "pictures averaged",
    "You average over the batch as well. Keep an axis for it; whoever wants the mean of the pictures takes it later.",
    over=lambda found: found.mean(dim=(0, -1)),
)
distance.mistake(
    "squared distances",
    "Your distances are squares: far patches count too much, and the unit is square pixels. What does Pythagoras do "
    "last?",
    measure=lambda y, x: euclid(y, x) ** 2,
)
distance.mistake(
    "along rows and columns (Manhattan)",
    "You add the steps down and the steps across. A straight line is shorter.",
    measure=lambda y, x: (y[:, None] - y).abs() + (x[:, None] - x).abs(),
)
distance.mistake(
    "the larger of the two steps",
    "You take the larger one of steps down and steps across. What does Pythagoras do with both?",
    measure=lambda y, x: torch.maximum((y[:, None] - y).abs(), (x[:, None] - x).abs()),
)
distance.mistake(
    "steps across only",
    "You measure along the columns alone: a patch just below has distance 0.",
    measure=lambda y, x: (x[:, None] - x).abs(),
)
distance.mistake(
    "along the sequence",
    "You subtract running numbers: the last patch of a row and the first of the next seem neighbours. Which row and "
    "which column has patch i?",
    coordinates=lambda rows, columns: (torch.zeros(rows * columns).double(), torch.arange(rows * columns).double()),
)
distance.mistake(
    "columns and rows exchanged",
    "You divide the running number by the number of rows; on a square grid nobody would notice. How many patches lie "
    "in one row?",
    coordinates=lambda rows, columns: places(columns, rows),
)
distance.mistake(
    "in patches, not in pixels",
    "Your neighbours are at distance 1. How many pixels lie between the centres of two neighbours?",
    unit=lambda far, patch_size: far,
)
distance.mistake(
    "pixels squared",
    "You multiply by the patch's area. By how much does its side stretch a distance?",
    unit=lambda far, patch_size: far * patch_size**2,
)


@distance.invariance("a head in which every patch looks at itself alone has distance 0")
def at_home(mine, draw):
    return torch.allclose(mine(torch.eye(7).double().expand(1, 2, 7, 7), (2, 3), 8), torch.zeros(1, 2).double())
