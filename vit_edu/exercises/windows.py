"""Exercises of lesson 06, windows: cut a map into them, and number their relative positions. Liu et al. 2021, 3.2."""

import torch
from einops import rearrange

from vit_edu import layers
from vit_edu.exercises.core import Exercise


def maps_to_cut(draw):
    """A number of its own for every token, so that every exchange of places shows."""
    yield torch.arange(8.0, dtype=torch.float64).view(1, 2, 4, 1), (2, 2)
    yield torch.arange(16.0, dtype=torch.float64).view(1, 4, 4, 1), (2, 2)
    yield draw.distinct(1, 4, 6, 1), (2, 3)
    yield draw.distinct(2, 4, 4, 3), (2, 2)
    yield draw.normal(3, 6, 12, 2), (2, 3)
    yield draw.normal(2, 6, 6, 4), (3, 2)
    yield draw.normal(2, 3, 10, 4), (1, 5)
    yield draw.normal(1, 14, 7, 5), (7, 7)


cutting = Exercise(
    "window_partition",
    lesson="06",
    points=2,
    reference=layers.window_partition,
    cases=maps_to_cut,
    returns="windows",
    hints=(
        "It is patchify once more, with tokens in the place of pixels: split both sides, bring together what belongs "
        "together, join. Which of the three steps moves a number?",
        "(B, H, W, C)\n  -> (B, rows, Wh, columns, Ww, C)    split H and W, nothing moves\n"
        "  -> (B, rows, columns, Wh, Ww, C)    now two axes change places\n  -> (B, rows * columns, Wh * Ww, C)",
        "B, H, W, C = x.shape\nWh, Ww = window_size\nx = x.reshape(B, H // Wh, Wh, W // Ww, Ww, C)\n"
        "x = x.permute(0, 1, ..., 5)\nreturn x.reshape(B, -1, ..., C)",
    ),
)


@cutting.recipe
def partition_in_steps(
    x,
    window_size,
    *,
    split=lambda x, Wh, Ww: rearrange(x, "B (rows Wh) (columns Ww) C -> B rows Wh columns Ww C", Wh=Wh, Ww=Ww),
    group=lambda x: rearrange(x, "B rows Wh columns Ww C -> B (rows columns) Wh Ww C"),
    inside=lambda x: rearrange(x, "B windows Wh Ww C -> B windows (Wh Ww) C"),
    last=lambda x: x,
):
    return last(inside(group(split(x, *window_size))))


cutting.mistake(
    "a plain reshape",
    "reshape keeps the numbers in the order of memory: a whole row of the map comes before the next row. Is your first "
    "window a block of the map, or a strip?",
    lambda x, window_size: x.reshape(len(x), -1, window_size[0] * window_size[1], x.shape[-1]),
)


def wrong_axes(x, window_size):
    (B, H, W, C), (Wh, Ww) = x.shape, window_size
    x = x.reshape(B, H // Wh, W // Ww, Wh, Ww, C).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(B, -1, Wh * Ww, C)


cutting.mistake(
    "the axes are split the wrong way round",
    "You cut the sides into (rows, columns, Wh, Ww) at once. H must become (rows, Wh) and W become (columns, Ww): in "
    "which order do these four stand before anything has moved?",
    wrong_axes,
)
cutting.mistake(
    "every window takes tokens from all over the map",
    "Your windows are coarse copies of the whole map: you take every second, third, … token. In (rows Wh) the second "
    "factor moves fastest: which of the two should be the neighbours?",
    split=lambda x, Wh, Ww: rearrange(x, "B (Wh rows) (Ww columns) C -> B rows Wh columns Ww C", Wh=Wh, Ww=Ww),
)
cutting.mistake(
    "height and width of a window are exchanged",
    "Your windows are Ww high and Wh wide. With square windows nobody would notice. Which of the pair comes first?",
    split=lambda x, Wh, Ww: rearrange(x, "B (rows Wh) (columns Ww) C -> B rows Wh columns Ww C", Wh=Ww, Ww=Wh),
)
cutting.mistake(
    "windows column by column",
    "Your windows are right, their order is not: the second one is the one below the first. In which order do you read "
    "a page?",
    group=lambda x: rearrange(x, "B rows Wh columns Ww C -> B (columns rows) Wh Ww C"),
)
cutting.mistake(
    "tokens of a window column by column",
    "Inside your windows the second token is the one below the first. Row by row, as in the sequence of patches: in "
    "which order do Wh and Ww stand in your last reshape?",
    inside=lambda x: rearrange(x, "B windows Wh Ww C -> B windows (Ww Wh) C"),
)
cutting.mistake(
    "the two sides of a window left apart",
    "Your result is (B, nW, Wh, Ww, C). Attention wants one axis of tokens: which two belong together?",
    inside=lambda x: x,
)
cutting.mistake(
    "windows folded into the batch",
    "Your result is (B·nW, n, C), as in the published code. Here the batch keeps its own axis, so that a mask for each "
    "window can be added to all images at once.",
    last=lambda x: x.flatten(0, 1),
)
cutting.mistake(
    "windows before the batch",
    "Your result is (nW, B, n, C). The batch stays in front: what is axis 0 of everything else?",
    last=lambda x: x.transpose(0, 1),
)
cutting.mistake(
    "tokens and channels exchanged",
    "Your result is (B, nW, C, n). Attention wants one row a token.",
    last=lambda x: x.transpose(2, 3),
)


@cutting.invariance("window_reverse puts the map together again")
def there_and_back(mine, draw):
    x = draw.normal(2, 4, 9, 3)
    return torch.equal(layers.window_reverse(mine(x, (2, 3)), (2, 3), (4, 9)), x)


def windows(draw):
    yield ((1, 2),)
    yield ((2, 1),)
    yield ((2, 2),)
    yield ((2, 3),)
    yield ((3, 2),)
    yield ((draw.integer(4, 6), draw.integer(2, 3)),)
    yield ((7, 7),)


def as_int64(mine, window_size):
    """Of the whole numbers those with which torch indexes; uint8 would be a mask to it, int8 and int16 an error."""
    index = mine(window_size)
    return index.long() if isinstance(index, torch.Tensor) and index.dtype == torch.int32 else index


numbering = Exercise(
    "relative_position_index",
    lesson="06",
    points=3,
    reference=layers.relative_position_index,
    cases=windows,
    returns="index",
    call=as_int64,
    hints=(
        "First write down row and column of each of the n tokens. Then dy and dx of all pairs; then make one number of "
        "the two, as a place in a table of rows and columns has one.",
        "y, x: (n,) each; in a window of 2 × 3 y is 0 0 0 1 1 1 and x is 0 1 2 0 1 2\n"
        "dy, dx: (n, n) each, from −(Wh − 1) to Wh − 1 and from −(Ww − 1) to Ww − 1\n"
        "the table has 2·Wh − 1 rows of 2·Ww − 1 places: row · (length of a row) + column, both counted from 0",
        "y = torch.arange(Wh).repeat_interleave(Ww)\nx = torch.arange(Ww).repeat(...)\n"
        "dy = y[:, None] - y[None, :]\ndx = ...\nreturn (dy + ...) * (...) + (dx + ...)",
    ),
)


def row_by_row(Wh, Ww):
    return torch.arange(Wh).repeat_interleave(Ww), torch.arange(Ww).repeat(Wh)


def column_by_column(Wh, Ww):
    return torch.arange(Wh).repeat(Ww), torch.arange(Ww).repeat_interleave(Wh)


def query_minus_key(place):
    return place[:, None] - place


@numbering.recipe
def index_in_steps(
    window_size,
    *,
    coordinates=row_by_row,
    offset=query_minus_key,
    start=lambda Wh, Ww: (Wh - 1, Ww - 1),
    length=lambda Wh, Ww: 2 * Ww - 1,
    join=lambda dy, dx, length: dy * length + dx,
):
    y, x = coordinates(*window_size)
    down, right = start(*window_size)
    return join(offset(y) + down, offset(x) + right, length(*window_size))


numbering.mistake(
    "a row as long as the table is high",
    "You multiply by 2·Wh − 1. In a square window nobody would notice. How many values can dx take? That is the length "
    "of a row.",
    length=lambda Wh, Ww: 2 * Wh - 1,
)
numbering.mistake(
    "a row as long as the window is wide",
    "You multiply by Ww, or subtract running numbers, which comes to the same: the end of a row and the beginning of "
    "the next count as neighbours. How many values can dx take?",
    length=lambda Wh, Ww: Ww,
)
numbering.mistake(
    "a row too long",
    "You multiply by 2·Ww. Count the values from −(Ww − 1) to Ww − 1: zero is there once only.",
    length=lambda Wh, Ww: 2 * Ww,
)
numbering.mistake(
    "counting does not start at 0",
    "Some of your numbers are negative. No error comes of it: table[-1] is the last row. What must be added to dy and "
    "to dx, so that their smallest value is 0?",
    start=lambda Wh, Ww: (0, 0),
)
numbering.mistake(
    "dx still negative",
    "You move dy, but not dx. The smallest of both must become 0 before they are joined.",
    start=lambda Wh, Ww: (Wh - 1, 0),
)
numbering.mistake(
    "counting starts at 1 in both",
    "You add Wh and Ww. The smallest dy is −(Wh − 1): what brings it to 0? Your last number lies outside the table.",
    start=lambda Wh, Ww: (Wh, Ww),
)
numbering.mistake(
    "the two starts are exchanged",
    "You add Ww − 1 to dy and Wh − 1 to dx. Which of the two sides does dy run along?",
    start=lambda Wh, Ww: (Ww - 1, Wh - 1),
)
numbering.mistake(
    "dx counts the rows",
    "You have exchanged dy and dx in the sum. A row of the table holds all dx of one dy: which of them is multiplied?",
    lambda window_size: index_in_steps(window_size[::-1], coordinates=lambda Ww, Wh: row_by_row(Wh, Ww)[::-1]),
)
numbering.mistake(
    "height and width of the window are exchanged",
    "Your window is Ww high and Wh wide. With square windows nobody would notice. Which of the pair comes first?",
    lambda window_size: index_in_steps(window_size[::-1]),
)
numbering.mistake(
    "query and key exchanged",
    "Your numbers are those of the key's view: dy = y of the key − y of the query. A row of the result is a query: who "
    "is subtracted from whom?",
    offset=lambda place: place - place[:, None],
)
numbering.mistake(
    "distances without a sign",
    "You take the absolute value, so that left and right are the same. The table has a place for each.",
    offset=lambda place: (place[:, None] - place).abs(),
)
numbering.mistake(
    "dy and dx only added",
    "You add dy and dx without giving dy rows of its own: (0, 1) and (1, 0) share a number. How do you number the "
    "places of a table?",
    alone=True,
    join=lambda dy, dx, length: dy + dx,
)
numbering.mistake(
    "tokens column by column",
    "Your second token is the one below the first. window_partition lays a window out row by row.",
    coordinates=column_by_column,
)


def four_axes(window_size):
    return layers.relative_position_index(window_size).view(*window_size, *window_size)


numbering.mistake(
    "rows and columns left apart",
    "Your result has four axes (Wh, Ww, Wh, Ww). Scores are (n, n): one axis for the query, one for the key.",
    four_axes,
)


@numbering.invariance("(2·Wh − 1)·(2·Ww − 1) different numbers, from 0 on, all of them in use")
def every_row_in_use(mine, draw):
    index = mine((4, 3))
    return torch.equal(index.unique(), torch.arange(7 * 5))


@numbering.invariance("a token's number with itself is the middle of the table")
def the_middle(mine, draw):
    return bool((mine((3, 5)).diagonal() == 5 * 9 // 2).all())
