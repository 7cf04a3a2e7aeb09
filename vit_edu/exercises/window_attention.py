"""Exercise of lesson 06: attention in windows, shifted or not. Liu et al. 2021, section 3.2, equation 4, figure 4."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vit_edu import layers
from vit_edu.exercises.core import Draw, Exercise, call_module


def windows_cases(draw: Draw):
    """Random, non-zero weights in every parameter: a bias table of zeros would let most mistakes pass."""
    many = draw.integer(2, 4)
    for batch, grid, window, shift, dim, heads in (
        (1, (2, 4), (2, 2), (0, 0), 2, 1),
        (1, (2, 4), (2, 2), (0, 1), 2, 1),
        (1, (4, 4), (2, 2), (1, 1), 4, 2),
        (2, (4, 6), (2, 3), (1, 1), 6, 3),
        (2, (3, 6), (3, 3), (1, 1), 4, 2),  # one window covers the height, then the width, then both
        (1, (6, 3), (2, 3), (1, 2), 4, 2),
        (1, (2, 3), (2, 3), (1, 1), 4, 1),
        (3, (6, 4), (3, 2), (2, 1), 6, 2),
        (2, (6, 9), (3, 3), (1, 1), many * draw.integer(1, 2), many),  # no answer can know these
    ):
        state = {
            "relative_position_bias_table": draw.normal((2 * window[0] - 1) * (2 * window[1] - 1), heads),
            "qkv.weight": draw.normal(3 * dim, dim) / dim**0.5,  # beside larger scores −100 is no −inf
            "qkv.bias": draw.normal(3 * dim),
            "proj.weight": draw.normal(dim, dim),
            "proj.bias": draw.normal(dim),
        }
        config = {"dim": dim, "num_heads": heads, "window_size": window, "shift_size": shift}
        yield config, state, draw.normal(batch, *grid, dim)


in_windows = Exercise(
    "window_attention",
    lesson="06",
    points=5,
    reference=layers.WindowAttention,
    cases=windows_cases,
    returns="output",
    call=call_module,
    hints=(
        "Seven steps, and you have a function for nearly each: shift, cut windows, q k v, scores, weights, put the "
        "windows together, shift back. The bias and the mask both go to one of them.",
        "x (B, H, W, C) → shifted, the same shape → windows (B, nW, n, C) → qkv (B, nW, n, 3·C) → q, k, v "
        "(B, nW, h, n, d) → scores (B, nW, h, n, n)\ntable[index] is (n, n, h), wanted is (h, n, n); the mask is "
        "(nW, n, n), wanted is (nW, 1, n, n)\nmixed (B, nW, h, n, d) → (B, nW, n, C) → map (B, H, W, C) → shifted back",
        "windows = window_partition(x.roll((-shift[0], -shift[1]), dims=(1, 2)), self.window_size)\n"
        "parts = split_heads(self.qkv(windows).flatten(0, 1), self.num_heads)\n"
        "q, k, v = (part.unflatten(0, windows.shape[:2]) for part in parts)\n"
        "bias = self.relative_position_bias_table[relative_position_index(self.window_size)].permute(...)\n"
        "scores = q @ k.transpose(-2, -1) / ... + bias + shift_mask((H, W), self.window_size, shift).to(x)[:, None]\n"
        "mixed = (scores.softmax(dim=-1) @ v).transpose(2, 3).flatten(3)\n"
        "x = layers.window_reverse(self.proj(mixed), self.window_size, (H, W))\n"
        "return ...                                    # where does the shift end?",
    ),
    ready_made=(
        layers.window_attention,
        layers.fused_window_attention,
        F.scaled_dot_product_attention,
        nn.MultiheadAttention,
        F.multi_head_attention_forward,
    ),
)


def up_and_left(x, shift):
    return x.roll((-shift[0], -shift[1]), dims=(1, 2))


def down_and_right(x, shift):
    return x.roll(shift, dims=(1, 2))


def three_parts(qkv, heads):
    return rearrange(qkv, "B w n (three h d) -> three B w h n d", three=3, h=heads).unbind(0)


def look_up(table, index):
    return table[index].permute(2, 0, 1)  # (h, n, n)


@in_windows.recipe
def windows_in_steps(
    config,
    state,
    x,
    *,
    size=lambda config, grid: [
        s if g > w else 0 for s, g, w in zip(config["shift_size"], grid, config["window_size"], strict=True)
    ],
    shift=up_and_left,
    split=three_parts,
    scale=lambda d, heads: d**-0.5,
    bias=look_up,
    score=lambda q, k, scale, bias: q @ k.transpose(-2, -1) * scale + bias,
    hide=lambda scores, mask: scores + mask[:, None],
    share=lambda scores, bias, mask: scores.softmax(dim=-1),
    merge=lambda mixed: rearrange(mixed, "B w h n d -> B w n (h d)"),
    project=F.linear,
    back=down_and_right,
):
    window, heads, grid = config["window_size"], config["num_heads"], tuple(x.shape[1:3])
    by = size(config, grid)
    windows = layers.window_partition(shift(x, by), window)
    q, k, v = split(F.linear(windows, state["qkv.weight"], state["qkv.bias"]), heads)
    added = bias(state["relative_position_bias_table"], layers.relative_position_index(window))
    mask = layers.shift_mask(grid, window, by, x.dtype)
    scores = hide(score(q, k, scale(q.shape[-1], heads), added), mask)
    mixed = merge(share(scores, added, mask) @ v)
    mixed = project(mixed, state["proj.weight"], state["proj.bias"])
    return back(layers.window_reverse(mixed, window, grid), by)


def stay(x, shift):
    return x


in_windows.mistake(
    "the shift is not undone",
    "Your map comes out shifted, and the next block, or the residual beside it, takes every token for another one.",
    back=stay,
)
in_windows.mistake(
    "shifted twice in the same direction",
    "At the end you shift once more up and to the left. What undoes a roll by −s?",
    alone=True,
    back=up_and_left,
)
in_windows.mistake(
    "shifted the other way",
    "You shift down and to the right. The mask was made for a map that moves up and to the left: which sign has roll?",
    shift=down_and_right,
    back=up_and_left,
)
in_windows.mistake(
    "shifted along one axis",
    "You shift to the left only. Windows above each other never meet that way.",
    alone=True,
    shift=lambda x, by: x.roll(-by[1], dims=2),
    back=lambda x, by: x.roll(by[1], dims=2),
)
in_windows.mistake(
    "rows and columns of the shift are exchanged",
    "You roll the rows by the shift of the columns. With square windows nobody would notice. Which axis is dims=1?",
    alone=True,
    shift=lambda x, by: up_and_left(x, by[::-1]),
    back=lambda x, by: down_and_right(x, by[::-1]),
)
in_windows.mistake(
    "never shifted",
    "Your answer is right for shift_size (0, 0) and the same for every other. Where do you use shift?",
    alone=True,
    size=lambda config, grid: [0, 0],
)
in_windows.mistake(
    "one window, and still shifted",
    "Right, except where one window covers a whole side: there the published models do not shift at all, since nobody "
    "is left to meet. Do you use `shift`, or self.shift_size?",
    alone=True,
    size=lambda config, grid: config["shift_size"],
)
in_windows.mistake(
    "one side covered, and neither shifted",
    "Where one window covers the height, you do not shift along the width either. Each side is looked at by itself.",
    alone=True,
    size=lambda config, grid: (
        config["shift_size"] if all(g > w for g, w in zip(grid, config["window_size"], strict=True)) else [0, 0]
    ),
)
in_windows.mistake(
    "no mask",
    "Your first window agrees, the last ones do not: there the edges of the image see each other. What did shift_mask "
    "make?",
    hide=lambda scores, mask: scores,
)
in_windows.mistake(
    "every window has the last one's mask",
    "You add one window's mask to all of them. Which axis of the scores counts the windows?",
    alone=True,
    hide=lambda scores, mask: scores + mask[-1],
)
in_windows.mistake(
    "the mask comes after the softmax",
    "You set the weights of strangers to 0 when the shares are dealt out already: your rows do not sum to 1. Before or "
    "after?",
    alone=True,
    hide=lambda scores, mask: scores,
    share=lambda scores, bias, mask: scores.softmax(dim=-1) * (mask == 0)[:, None],
)
in_windows.mistake(
    "masks dealt out in the wrong order",
    "With one image you are right, with several the windows get each other's masks. repeat and repeat_interleave "
    "differ in this. Keep (B, nW, …) apart, and the mask fits by itself: which axis of it is new?",
    alone=True,
    hide=lambda scores, mask: (scores.flatten(0, 1) + mask.repeat_interleave(len(scores), 0)[:, None]).view_as(scores),
)
in_windows.mistake(
    "the mask is multiplied",
    "You set the scores of strangers to 0. A score of 0 is a score like any other: what is added so that exp gives 0?",
    alone=True,
    hide=lambda scores, mask: scores * (mask == 0)[:, None],
)
in_windows.mistake(
    "no bias",
    "Your windows are bags: nobody knows who stands where. Which parameter have you not used?",
    bias=lambda table, index: torch.zeros(1),
)
in_windows.mistake(
    "the bias comes after the softmax",
    "You add the bias to the weights, which then do not sum to 1. Equation 4: what stands inside the brackets?",
    score=lambda q, k, scale, bias: q @ k.transpose(-2, -1) * scale,
    share=lambda scores, bias, mask: scores.softmax(dim=-1) + bias,
)
in_windows.mistake(
    "the bias is scaled as well",
    "You divide scores and bias by √d. Equation 4: which of them stands under the fraction bar?",
    score=lambda q, k, scale, bias: (q @ k.transpose(-2, -1) + bias) * scale,
)
in_windows.mistake(
    "query and key exchanged in the bias",
    "The bias of (i, j) goes to (j, i): right and left, above and below are exchanged. Has a permute moved too much?",
    bias=lambda table, index: table[index].permute(2, 1, 0),
)
in_windows.mistake(
    "the bias's heads cut out by a reshape",
    "table[index] is (n, n, h). view or reshape to (h, n, n) does not move a number. Which call moves axes?",
    alone=True,
    bias=lambda table, index: table[index].reshape(-1, *index.shape),
)
in_windows.mistake(
    "all heads share one bias",
    "You average the table over the heads, or take one head of it. Each head has a bias of its own.",
    alone=True,
    bias=lambda table, index: table[index].mean(dim=-1),
)
in_windows.mistake(
    "no scaling", "Scores grow with the width of a head. What did attention divide by?", scale=lambda d, heads: 1.0
)
in_windows.mistake(
    "scaled by the width of all heads",
    "You divide by the root of the whole width C. Over how many channels does a head take its dot product?",
    scale=lambda d, heads: (d * heads) ** -0.5,
)
in_windows.mistake(
    "softmax over the queries",
    "Your columns sum to 1, your rows do not. Over which axis does each query share out its attention?",
    alone=True,
    share=lambda scores, bias, mask: scores.softmax(dim=-2),
)
in_windows.mistake(
    "heads before q, k, v",
    "You read the channels as (heads, 3, d); published weights lie as (3, heads, d).",
    alone=True,
    split=lambda qkv, heads: rearrange(qkv, "B w n (h three d) -> three B w h n d", three=3, h=heads).unbind(0),
)
in_windows.mistake(
    "heads merged by a plain reshape",
    "You reshape (B, nW, h, n, d) straight to (B, nW, n, C), so each token gets pieces of others. Which axes must "
    "change places first?",
    alone=True,
    merge=lambda mixed: mixed.reshape(*mixed.shape[:2], mixed.shape[3], -1),
)
in_windows.mistake(
    "no output projection",
    "Your heads lie side by side and never meet. Which layer is left over?",
    alone=True,
    project=lambda mixed, weight, bias: mixed,
)
in_windows.mistake(
    "residual inside the layer",
    "You add the input to the output. That is the block's work, and must not happen twice.",
    lambda config, state, x: windows_in_steps(config, state, x) + x,
)


@in_windows.invariance("one picture of the batch does not see another")
def pictures_apart(mine, draw):
    config, state, x = list(windows_cases(draw))[3]
    return torch.allclose(mine(config, state, x)[:1], mine(config, state, x[:1]))


@in_windows.invariance("without a shift no window sees another")
def windows_apart(mine, draw):
    config, state, x = list(windows_cases(draw))[-1]
    config, changed = config | {"shift_size": (0, 0)}, x.clone()
    changed[:, 3:, 3:] = draw.normal(*changed[:, 3:, 3:].shape)
    return torch.allclose(mine(config, state, x)[:, :3], mine(config, state, changed)[:, :3])
