"""Exercise of lesson 06: who may attend to whom after the shift. Liu et al. 2021, section 3.2 and figure 4."""

import torch
from einops import rearrange

from vit_edu import layers
from vit_edu.exercises.core import Exercise


def shifts(draw):
    """(grid, window, shift); shifts that are not half of a window show on which side the border is drawn."""
    yield (2, 4), (2, 2), (0, 1)
    yield (4, 2), (2, 2), (1, 0)
    yield (2, 4), (2, 2), (1, 0)  # one window high, one wide: the shift says what is hidden
    yield (4, 2), (2, 2), (0, 1)
    yield (4, 4), (2, 2), (1, 1)
    yield (4, 6), (2, 3), (1, 1)
    yield (4, 6), (2, 3), (0, 0)
    yield (6, 6), (3, 2), (2, 1)
    yield (8, 12), (4, 4), (draw.integer(1, 3), 3)
    yield (9, 6), (3, 3), (2, draw.integer(1, 2))
    yield (14, 7), (7, 7), (3, 3)


def in_float32(mine, *sizes):
    """Any dtype that can be added to scores is right: nothing here has one that it could follow."""
    mask = mine(*sizes)
    return mask.float() if isinstance(mask, torch.Tensor) and mask.dtype != torch.bool else mask


mask = Exercise(
    "shift_mask",
    lesson="06",
    points=4,
    reference=layers.shift_mask,
    cases=shifts,
    returns="mask",
    call=in_float32,
    hints=(
        "After the shift the last rows of the map are those that were first: in the last row of windows they meet rows "
        "that were never beside them. Number the regions: two tokens with different numbers are strangers.",
        "regions (H, W): each side is cut `shift` tokens before its end, which makes four regions (nine, if the "
        "windows before the last are counted apart)\nwindow_partition wants (1, H, W, 1) and gives (1, nW, n, 1)\n"
        "then compare every token of a window with every other: (nW, n, n)",
        "row = (torch.arange(H) >= H - shift_size[0]).long()      # 0 … 0 1 … 1\ncolumn = ...\n"
        "regions = 2.0 * row[:, None] + column                     # (H, W)\n"
        "regions = window_partition(regions[None, :, :, None], window_size)[0, :, :, 0]\n"
        "return -100.0 * (regions[:, :, None] != ...)",
    ),
)


def bands(side, window, shift):
    """0 where every window is whole; 1 and 2, the two parts of the last one."""
    place = torch.arange(side)
    return (place >= side - window).long() + (place >= side - shift)


def first_bands(side, window, shift):
    return bands(side, window, shift).flip(0)


def late_bands(side, window, shift):
    place = torch.arange(side)
    return (place >= side - window).long() + (place >= side - window + shift)


def one_off(side, window, shift):
    place = torch.arange(side)
    return (place >= side - window).long() + (place > side - shift)


def no_bands(side, window, shift):
    return torch.zeros(side, dtype=torch.long)


def cut(regions, window_size):
    return rearrange(regions, "(r a) (c b) -> (r c) (a b)", a=window_size[0], b=window_size[1])


@mask.recipe
def mask_in_steps(
    grid_size,
    window_size,
    shift_size,
    *,
    rows=bands,
    columns=bands,
    number=lambda row, column: 3 * row[:, None] + column,
    windows=cut,
    strangers=lambda regions: regions[:, :, None] != regions[:, None],
    fill=lambda apart: torch.zeros(apart.shape).masked_fill(apart, -100.0),
    last=lambda mask: mask,
):
    (H, W), (Wh, Ww), (down, right) = grid_size, window_size, shift_size
    regions = number(rows(H, Wh, down), columns(W, Ww, right))
    return last(fill(strangers(windows(regions, window_size))))


mask.mistake(
    "no mask",
    "Your mask is 0 everywhere (if you slice: are some of your slices empty?). After the shift the left edge of the "
    "image stands beside the right one: may they talk?",
    alone=True,
    fill=lambda apart: torch.zeros(apart.shape),
)
mask.mistake(
    "the mask is inverted",
    "Your −100 stands between neighbours, and strangers are free to talk. Where must 0 stand, which changes nothing?",
    strangers=lambda regions: regions[:, :, None] == regions[:, None],
)
mask.mistake(
    "rows only",
    "You tell apart what came from the top and what from the bottom. The map was shifted to the left as well.",
    columns=no_bands,
)
mask.mistake(
    "columns only",
    "You tell apart what came from the left and what from the right. The map was shifted upwards as well.",
    rows=no_bands,
)
mask.mistake(
    "shifted in the other direction",
    "Your regions cut the first windows. The map moves up and to the left, and what leaves there comes in at the other "
    "side: at which end do strangers meet?",
    alone=True,
    rows=first_bands,
    columns=first_bands,
)
mask.mistake(
    "the border on the wrong side of the last window",
    "You cut the last window `shift` tokens after its beginning. With half a window nobody would notice, but a "
    "window of 7 is shifted by 3. How many tokens have come in from the other side?",
    alone=True,
    rows=late_bands,
    columns=late_bands,
)
mask.mistake(
    "one token too late",
    "Your border lies one token too far: as many rows have come in from the other side as the shift says. > or >=?",
    alone=True,
    rows=one_off,
    columns=one_off,
)
mask.mistake(
    "regions that share a number",
    "You add the numbers of row and column, so that the regions (1, 2) and (2, 1) are both 3, and two regions of the "
    "last window take each other for one. How do you give each pair a number of its own?",
    number=lambda row, column: row[:, None] + column,
)


def old_windows(grid_size, window_size, shift_size):
    (H, W), (Wh, Ww), (down, right) = grid_size, window_size, shift_size
    number = torch.arange(H)[:, None] // Wh * W + torch.arange(W) // Ww  # of the window before the shift
    regions = cut(number.roll((-down, -right), (0, 1)), window_size)
    return torch.zeros(1).masked_fill(regions[:, :, None] != regions[:, None], -100.0)


mask.mistake(
    "the old windows keep their borders",
    "You let tokens attend to those of their window before the shift alone. Then the shift is for nothing: who is to "
    "meet through it? Strangers are those with an edge of the image between them.",
    old_windows,
)
mask.mistake(
    "the last window only",
    "Only the window in the corner has a mask of yours. The other windows of the last row and of the last column hold "
    "strangers too.",
    last=lambda mask: torch.cat([torch.zeros_like(mask[:-1]), mask[-1:]]),
)
mask.mistake(
    "rows and columns exchanged",
    "You take the height for the width. On a square map with square windows nobody would notice. (H, W) and (Wh, Ww) "
    "are rows first.",
    lambda grid_size, window_size, shift_size: mask_in_steps(grid_size[::-1], window_size[::-1], shift_size[::-1]),
)
mask.mistake(
    "rows and columns of the shift exchanged",
    "You cut the height by the shift of the columns. With one shift for both nobody would notice. Which of the pair "
    "comes first?",
    lambda grid_size, window_size, shift_size: mask_in_steps(grid_size, window_size, shift_size[::-1]),
)
mask.mistake(
    "windows column by column",
    "Your masks are right, their order is not: the second window is the one to the right of the first. Have you used "
    "window_partition?",
    windows=lambda regions, size: rearrange(regions, "(r a) (c b) -> (c r) (a b)", a=size[0], b=size[1]),
)
mask.mistake(
    "tokens of a window column by column",
    "Inside a window your tokens run down first. Have you used window_partition?",
    windows=lambda regions, size: rearrange(regions, "(r a) (c b) -> (r c) (b a)", a=size[0], b=size[1]),
)
mask.mistake(
    "a plain reshape into windows",
    "You reshape the regions straight to (nW, n). reshape keeps the order of memory: which function cuts windows?",
    windows=lambda regions, size: regions.reshape(-1, size[0] * size[1]),
)
mask.mistake(
    "−inf for −100",
    "Softmax would give the same shares, as long as a row has one place that is not −inf. The published models add "
    "−100, which can never make NaN. Which number is asked for?",
    fill=lambda apart: torch.zeros(apart.shape).masked_fill(apart, float("-inf")),
)
mask.mistake(
    "the sign is lost",
    "You add +100 to the scores of strangers, and they get all the attention. Which sign makes exp small?",
    fill=lambda apart: torch.zeros(apart.shape).masked_fill(apart, 100.0),
)
mask.mistake(
    "True for strangers",
    "Your mask holds True and False. This one is added to the scores: which numbers are added?",
    fill=lambda apart: apart,
)
mask.mistake(
    "True for those who may attend",
    "Your mask holds True and False, as torch's own attention takes it. This one is added to scores: which numbers?",
    fill=lambda apart: ~apart,
)
mask.mistake(
    "1 for strangers",
    "Your mask is 1 and 0. It is added to the scores: would 1 stop anybody?",
    fill=lambda apart: apart.float(),
)


def among_all(grid_size, window_size, shift_size):
    regions = 3 * bands(grid_size[0], window_size[0], shift_size[0])[:, None]
    regions = (regions + bands(grid_size[1], window_size[1], shift_size[1])).flatten()
    return torch.zeros(1).masked_fill(regions[:, None] != regions, -100.0)


mask.mistake(
    "a mask for the whole map",
    "Your mask is (N, N), for all pairs of the map. Attention runs inside windows: one mask (n, n) for each of them.",
    among_all,
)


@mask.invariance("every token may attend to itself")
def to_itself(mine, draw):
    found = mine((8, 6), (4, 3), (2, 1))
    return bool((found.diagonal(dim1=1, dim2=2) == 0).all())


@mask.invariance("who may attend to me, to him I may attend")
def both_ways(mine, draw):
    found = mine((8, 6), (4, 3), (3, 2))
    return torch.equal(found, found.transpose(1, 2))
