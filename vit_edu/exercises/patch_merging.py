"""Exercise of lesson 06: four tokens become one. Liu et al. 2021, section 3.1, in the published order."""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange

from vit_edu import layers
from vit_edu.exercises.core import Draw, Exercise, call_module


def maps_to_merge(draw: Draw):
    """Random, non-zero weights in every parameter; odd sides, one and both; small numbers, which show eps."""
    for batch, height, width, dim, size in (
        (1, 2, 2, 1, 1),
        (1, 2, 4, 1, 1),
        (1, 3, 2, 1, 1),
        (1, 2, 3, 2, 1),
        (2, 4, 6, 3, 1),
        (3, 5, 7, 2, 1),
        (2, 6, 5, 4, 1),
        (2, 8, 4, 3, 0.01),
        (2, 9, 6, 3, 1),
    ):
        state = {
            "norm.weight": draw.normal(4 * dim),
            "norm.bias": draw.normal(4 * dim),
            "reduction.weight": draw.normal(2 * dim, 4 * dim),
        }
        yield {"dim": dim}, state, size * draw.normal(batch, height, width, dim)


merging = Exercise(
    "patch_merging",
    lesson="06",
    points=3,
    reference=layers.PatchMerging,
    cases=maps_to_merge,
    returns="output",
    call=call_module,
    ready_made=(layers.merge_patches,),
    hints=(
        "x[:, 0::2, 0::2] takes the upper left of every block of four. Three more slices, side by side along the "
        "channels; then what __init__ has made ready, in its order.",
        "(B, H, W, C) -> four times (B, H/2, W/2, C) -> side by side (B, H/2, W/2, 4·C) -> norm -> reduction "
        "(B, H/2, W/2, 2·C)\nthe order of the four: upper left, lower left, upper right, lower right\n"
        "odd sides first get a row of zeros at the bottom, or a column at the right: F.pad counts axes from the last",
        "x = F.pad(x, (0, 0, 0, W % 2, 0, ...))\n"
        "parts = [x[:, p::2, q::2] for q in (0, 1) for p in ...]\n"
        "return self.reduction(self.norm(torch.cat(parts, dim=...)))",
    ),
)


def side_by_side(pattern):
    return lambda x: rearrange(x, f"B (H p) (W q) C -> B H W {pattern}", p=2, q=2)


four_in_order = side_by_side("(q p C)")


def edges_away(x):
    return x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]


def padded(x, before=False, **words):
    odd = x.shape[2] % 2, x.shape[1] % 2
    x = x.permute(0, 3, 1, 2)
    x = F.pad(x, (odd[0], 0, odd[1], 0) if before else (0, odd[0], 0, odd[1]), **words)
    return x.permute(0, 2, 3, 1)


def norm(x, state, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], state["norm.weight"], state["norm.bias"], eps)


@merging.recipe
def merging_in_steps(
    config,
    state,
    x,
    *,
    pad=padded,
    join=four_in_order,
    norm=norm,
    reduce=lambda x, state: x @ state["reduction.weight"].T,
    last=lambda x: x,
):
    return last(reduce(norm(join(pad(x)), state), state))


merging.mistake(
    "across before down",
    "Your four go upper left, upper right, lower left, lower right. Any order would train, "
    "but the published weights were trained with the left column first.",
    join=side_by_side("(p q C)"),
)
merging.mistake(
    "clockwise",
    "Your four go round in a circle. The published weights take the left column, then the right one, both downwards.",
    alone=True,
    join=lambda x: torch.cat([x[:, 0::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2], x[:, 1::2, 0::2]], dim=-1),
)
merging.mistake(
    "the four pixels vary fastest",
    "You put the four values of channel 0 together, then those of channel 1, as F.unfold and PixelUnshuffle do. The "
    "published weights take all channels of one token, then all of the next.",
    join=side_by_side("(C p q)"),
)
merging.mistake(
    "the four pixels vary fastest, down first",
    "The order of the four is right, but you put the four values of one channel together. The published weights take "
    "all channels of one token, then all of the next.",
    join=side_by_side("(C q p)"),
)
merging.mistake(
    "tokens far apart are merged",
    "You merge tokens that lie half a map apart. x[:, p::2] takes every second row, x[:, :H // 2] half of the map: "
    "which of them parts neighbours?",
    join=lambda x: rearrange(x, "B (p H) (q W) C -> B H W (q p C)", p=2, q=2),
)


def by_reshape(x):
    B, H, W, C = x.shape
    return x.reshape(B, H // 2, W // 2, 4 * C)


merging.mistake(
    "a plain reshape",
    "reshape straight to (B, H/2, W/2, 4·C) joins four tokens of one row. Are they a block of the map?",
    join=by_reshape,
)
merging.mistake(
    "one token twice",
    "One of your four slices is there twice, and one of the four tokens is lost. Look at the four starts again.",
    alone=True,
    join=lambda x: torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 1::2, 0::2], x[:, 1::2, 1::2]], dim=-1),
)
merging.mistake(
    "the odd row is cut off",
    "On an odd side you drop the last row or column: there the model is blind. What could stand beside it?",
    pad=edges_away,
)
merging.mistake(
    "padded at the top and left",
    "Your zeros come first, and every block of four is moved by one. At which end do the published models pad?",
    pad=partial(padded, before=True),
)
merging.mistake(
    "the edge is repeated",
    "You repeat the last row on odd sides. The published models put zeros there.",
    pad=lambda x: padded(x, mode="replicate"),
)
merging.mistake(
    "height and width of the padding are exchanged",
    "Your map gets a row where only a column is missing, or the other way round: each side has a rest of its own. "
    "F.pad counts from the last axis: channels, then width, then height.",
    pad=lambda x: F.pad(x, (0, 0, 0, x.shape[1] % 2, 0, x.shape[2] % 2)),
)
merging.mistake(
    "padded although even",
    "You add a row and a column to every map. How do you find out whether a side is odd?",
    pad=lambda x: F.pad(x, (0, 0, 0, 2 - x.shape[2] % 2, 0, 2 - x.shape[1] % 2)),
)
merging.mistake(
    "no norm",
    "You never use the norm. It comes when the four lie side by side, and before there are half as many numbers.",
    norm=lambda x, state: x,
)
merging.mistake(
    "the norm's weight and bias are not used",
    "You take mean and spread away, but not with the layer of __init__: its weight and bias are lost.",
    norm=lambda x, state: F.layer_norm(x, x.shape[-1:]),
)


def four_norms(x, state):
    C = x.shape[-1] // 4
    return F.layer_norm(x.unflatten(-1, (4, C)), (C,)).flatten(-2) * state["norm.weight"] + state["norm.bias"]


merging.mistake(
    "each of the four normed by itself",
    "You norm the four tokens one by one. The norm goes over all 4·C numbers at once: what is its weight's length?",
    alone=True,
    norm=four_norms,
)
merging.mistake(
    "eps of ViT",
    "Your eps is 1e-6. Swin's norms have 1e-5, which is PyTorch's own default.",
    norm=partial(norm, eps=1e-6),
)
merging.mistake(
    "the map is flattened",
    "Your result is a sequence (B, N, 2·C). The next windows are cut from a map: keep (B, H/2, W/2, 2·C).",
    last=lambda x: x.flatten(1, 2),
)


@merging.invariance("far from an odd edge a token depends on its own four only")
def its_own_four(mine, draw):
    config, state, x = list(maps_to_merge(draw))[4]
    changed = x.clone()
    changed[:, 2:] = draw.normal(*changed[:, 2:].shape)
    return torch.allclose(mine(config, state, x)[:, :1], mine(config, state, changed)[:, :1])
