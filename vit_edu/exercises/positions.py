"""Exercise of lesson 01: the fixed table of positions. Source: He et al. 2022 (MAE), after Vaswani et al. 2017, 3.5."""

import torch

from vit_edu import layers
from vit_edu.exercises.core import Exercise


def grids(draw):
    yield (1, 2), 4
    yield (2, 1), 4
    yield (2, 3), 4
    yield (1, 3), 8
    yield (2, 3), 8
    yield (4, 3), 24
    yield (draw.integer(5, 7), draw.integer(2, 4)), 16
    yield (14, 13), 192


def in_float32(mine, grid_size, dim):
    """float32 and float64 are both right: a table has no inputs whose dtype it could follow."""
    table = mine(grid_size, dim)
    return table.float() if isinstance(table, torch.Tensor) and table.is_floating_point() else table


waves = Exercise(
    "sincos_position",
    lesson="01",
    points=3,
    reference=layers.sincos_position,
    cases=grids,
    returns="table",
    call=in_float32,
    hints=(
        "Each place has two numbers, its column x and its row y. Write down x and y for the six places of a grid of "
        "2 × 3, row by row. Then turn each number into dim/2 waves.",
        "frequencies: dim/4 numbers, 10000^(−k / (dim/4)) for k = 0, 1, …\nx, y: (rows * columns,) each\n"
        "angles: outer product with the frequencies, (rows * columns, dim/4) for x and the same for y\n"
        "table: [sin x | cos x | sin y | cos y], (rows * columns, dim)",
        "frequencies = 10000 ** -(torch.arange(dim // 4) / (dim // 4))\nx = torch.arange(columns).repeat(rows)\n"
        "y = torch.arange(rows).repeat_interleave(...)\nangles_x = torch.outer(x, frequencies)\n"
        "return torch.cat([angles_x.sin(), ...], dim=1)",
    ),
)


def places(rows, columns):
    """x and y of each place, row by row, (rows * columns,) each."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()]).double()


def places_down_first(rows, columns):
    return places(columns, rows).flip(0)


def fractions(rows, columns):
    return places(rows, columns) / torch.tensor([[columns], [rows]])


def from_0_to_1(rows, columns):
    return places(rows, columns) / torch.tensor([[max(1, columns - 1)], [max(1, rows - 1)]])


def of_a_sentence(grid_size, dim):
    place = torch.arange(grid_size[0] * grid_size[1])
    angle = torch.outer(place, 10000.0 ** (-torch.arange(0, dim, 2) / dim))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def quarters(dim):
    """k / (dim/4) for k = 0, 1, ... dim/4 - 1."""
    return torch.arange(dim // 4, dtype=torch.float64) / (dim // 4)


@waves.recipe
def sincos_position_in_steps(
    grid_size,
    dim,
    *,
    coordinates=places,
    frequencies=lambda dim: 10000.0 ** -quarters(dim),
    wave=lambda angle: torch.cat([angle.sin(), angle.cos()], dim=1),
    halves=lambda x, y: torch.cat([x, y], dim=1),
):
    x, y = coordinates(*grid_size)
    omega = frequencies(dim)
    return halves(wave(torch.outer(x, omega)), wave(torch.outer(y, omega)))


waves.mistake(
    "y comes first",
    "Your halves are exchanged: rows first, columns after. It would train as well, but MAE's weights were trained "
    "with x in the first half. Which of x and y runs along a row of the image?",
    halves=lambda x, y: torch.cat([y, x], dim=1),
)
waves.mistake(
    "the halves are added",
    "Your table is dim/2 wide: x and y share their channels. Can the model still tell (1, 2) from (2, 1)?",
    alone=True,
    halves=lambda x, y: x + y,
)
waves.mistake(
    "x and y take turns",
    "You alternate the channels of x and of y. In this table all channels of x stand before all of y: cat or stack?",
    alone=True,
    halves=lambda x, y: torch.stack([x, y], dim=-1).flatten(1),
)
waves.mistake(
    "all sines before all cosines",
    "You have [sin x | sin y | cos x | cos y]. Here everything about x stands in the first half: which two blocks "
    "change places?",
    halves=lambda x, y: torch.cat([part for pair in zip(x.chunk(2, 1), y.chunk(2, 1)) for part in pair], dim=1),
)
waves.mistake(
    "frequency by frequency",
    "You put the four waves of one frequency side by side. The numbers are right; here the four blocks follow each "
    "other, each with all its frequencies: cat or stack?",
    alone=True,
    halves=lambda x, y: torch.stack([*x.chunk(2, 1), *y.chunk(2, 1)], dim=-1).flatten(1),
)
waves.mistake(
    "sine and cosine take turns",
    "You put sine and cosine side by side for each frequency, as Vaswani et al. write it. Here all sines come before "
    "all cosines. The numbers are the same, in another order: would weights trained on one table understand the "
    "other?",
    wave=lambda angle: torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1),
)
waves.mistake(
    "cosine before sine",
    "The cosines come first in yours. What should the row of the place (0, 0) begin with: zeros or ones?",
    wave=lambda angle: torch.cat([angle.cos(), angle.sin()], dim=1),
)
waves.mistake(
    "sines alone",
    "You use the sine twice and the cosine never. sin x = sin(π − x): which two places would look the same?",
    alone=True,
    wave=lambda angle: torch.cat([angle.sin(), angle.sin()], dim=1),
)
waves.mistake(
    "column by column",
    "Your second row of the table is the place below the first. In which order did patchify lay out the patches?",
    coordinates=places_down_first,
)
waves.mistake(
    "one running number for both",
    "You number the places 0, 1, 2, … and use this number for x and for y. Which places touch place 4 in a grid of 3 "
    "columns?",
    alone=True,
    coordinates=lambda rows, columns: [torch.arange(rows * columns).double()] * 2,
)
waves.mistake(
    "counting from one",
    "Your first place is (1, 1). Which x and y has the top left patch, if its row is to be sin 0 and cos 0?",
    coordinates=lambda rows, columns: places(rows, columns) + 1,
)
waves.mistake(
    "places as fractions",
    "You divide x and y by the size of the grid. Then the step between neighbours depends on the image's size. "
    "What is the step in MAE's table?",
    alone=True,
    coordinates=fractions,
)
waves.mistake(
    "places from 0 to 1",
    "Your last column is at 1, however many there are. Then the step between neighbours depends on the image's size. "
    "What is the step in MAE's table?",
    alone=True,
    coordinates=from_0_to_1,
)
waves.mistake(
    "height and width are mixed up",
    "x runs as far as there are rows, y as far as there are columns; on a square grid nobody would notice. grid_size "
    "is (rows, columns): which of them counts x?",
    coordinates=lambda rows, columns: places(columns, rows),
)
waves.mistake(
    "the frequencies fall twice as fast",
    "You have 2k in the exponent and divide by dim/4. In Vaswani's 10000^(2k/d) the d counts sines and cosines: how "
    "many frequencies share 10000 here?",
    frequencies=lambda dim: 10000.0 ** (-2 * quarters(dim)),
)
waves.mistake(
    "the frequencies fall too slowly",
    "Your slowest wave is too fast: you divide k by dim/2, or your base is 100, which comes to the same. x has dim/2 "
    "channels, half of them cosines of the same frequencies: how many different ones are there?",
    frequencies=lambda dim: 10000.0 ** (-quarters(dim) / 2),
)
waves.mistake(
    "the frequencies are those of one axis",
    "You divide k by dim. Here x and y share the channels, and sine and cosine share each half: how many frequencies "
    "are left for one of them?",
    alone=True,
    frequencies=lambda dim: 10000.0 ** (-quarters(dim) / 4),
)
waves.mistake(
    "the last frequency is 1/10000",
    "Your frequencies end exactly at 1/10000, because you divide k by dim/4 − 1. That is the table of SimpleViT; "
    "MAE's stops one step before. By what does it divide k?",
    frequencies=lambda dim: 10000.0 ** -torch.linspace(0, 1, dim // 4, dtype=torch.float64),
)
waves.mistake(
    "the frequencies start too late",
    "Your k begins with 1, so that the fastest wave is missing. What is 10000 to the power 0?",
    alone=True,
    frequencies=lambda dim: 10000.0 ** -(quarters(dim) + 4 / dim),
)
waves.mistake(
    "all frequencies are 1",
    "All your waves are the same one. k // (dim // 4) is 0 for every k: which division keeps fractions?",
    alone=True,
    frequencies=lambda dim: torch.ones(dim // 4, dtype=torch.float64),
)
waves.mistake(
    "the frequencies grow",
    "Your exponent has the wrong sign: frequencies go from 1 up to thousands. How many waves would then lie between "
    "two neighbours?",
    frequencies=lambda dim: 10000.0 ** quarters(dim),
)
waves.mistake(
    "the table of a sentence",
    "This is the table of Vaswani et al. for words: one running number, all of dim for it. A patch has a column and "
    "a row. How do you share the channels between the two?",
    of_a_sentence,
)
waves.mistake(
    "a row for the class token",
    "Your table has one row more than the grid has places. MAE puts a row of zeros for its class token in front, but "
    "afterwards. What is the table asked for here?",
    lambda grid_size, dim: torch.cat([torch.zeros(1, dim), layers.sincos_position(grid_size, dim)]),
)


@waves.invariance("every place has the same length, √(dim/2)")
def same_length(mine, draw):
    table = mine((draw.integer(2, 5), draw.integer(2, 5)), 16)
    return torch.allclose(table.norm(dim=1), torch.tensor(8.0).sqrt().to(table), atol=1e-4)
