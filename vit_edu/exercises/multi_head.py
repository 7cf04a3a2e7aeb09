"""Exercises of lesson 02, second half: heads. Sources: Vaswani et al. 2017, 3.2.2; ViT, equations 5 to 8."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vit_edu import layers
from vit_edu.exercises.core import Draw, Exercise, call_module


def heads_cases(draw: Draw):
    """Distinct numbers, so that every exchange of places shows."""
    yield draw.distinct(1, 2, 6), 2
    yield draw.distinct(1, 2, 12), 2
    yield draw.distinct(1, 3, 18), 3
    yield draw.distinct(2, 4, 24), 2
    yield draw.normal(2, 5, 36), 4
    yield draw.normal(3, 4, 30), 1
    yield draw.normal(2, 3, 54), 6


split_heads = Exercise(
    "split_heads",
    lesson="02",
    points=2,
    reference=layers.split_heads,
    cases=heads_cases,
    returns=("q", "k", "v"),
    hints=(
        "The last axis holds three things inside one another. Write it as three axes first; move axes only after that.",
        "(B, N, 3·C) is (B, N, 3, h, d) to the published models: first q, k and v, inside each of them the heads, "
        "inside each head its d channels. Wanted: three tensors (B, h, N, d).",
        'rearrange(qkv, "B N (three h d) -> three B h N d", three=..., h=...)\n'
        "# or: qkv.reshape(B, N, 3, num_heads, d) and then permute",
    ),
)


@split_heads.recipe
def split_in_steps(
    qkv,
    num_heads,
    *,
    group=lambda qkv, h: rearrange(qkv, "B N (three h d) -> three B N h d", three=3, h=h),
    move=lambda x: x.transpose(-3, -2),
    order=lambda q, k, v: (q, k, v),
):
    return order(*(move(x) for x in group(qkv, num_heads)))


split_heads.mistake(
    "heads before q, k, v",
    "You read the channels as (heads, 3, d). The shapes fit, the numbers do not: published weights keep all of q "
    "together, then all of k, then all of v.",
    group=lambda qkv, h: rearrange(qkv, "B N (h three d) -> three B N h d", three=3, h=h),
)
split_heads.mistake(
    "channels of a head lie apart",
    "You read the channels as (3, d, heads), so each head takes every h-th channel. Which should run fastest?",
    group=lambda qkv, h: rearrange(qkv, "B N (three d h) -> three B N h d", three=3, h=h),
)
split_heads.mistake(
    "q, k, v lie apart",
    "You take every third channel for q. Published weights keep q, k and v in one piece each.",
    group=lambda qkv, h: rearrange(qkv, "B N (h d three) -> three B N h d", three=3, h=h),
)


def reshaped(x):
    B, N, h, d = x.shape
    return x.reshape(B, h, N, d)


split_heads.mistake(
    "cut along the tokens' axis order: reshape straight to (B, h, N, d)",
    "reshape never moves a number: it only re-reads them in order. Tokens and heads must change places. Which call "
    "moves axes?",
    move=reshaped,
)
split_heads.mistake(
    "heads left behind the tokens",
    "Your tensors are (B, N, h, d). Attention multiplies the last two axes: which two must they be?",
    move=lambda x: x,
)
split_heads.mistake(
    "tokens and channels exchanged",
    "Your tensors are (B, h, d, N). Attention wants one row a token.",
    move=lambda x: x.permute(0, 2, 3, 1),
)
split_heads.mistake(
    "heads folded into the batch",
    "Your tensors are (B·h, N, d): the heads of one picture have become pictures. Keep an axis for each.",
    move=lambda x: rearrange(x, "B N h d -> (B h) N d"),
)
split_heads.mistake(
    "heads before the batch",
    "Your tensors are (h, B, N, d). The batch stays in front: what is axis 0 of everything else?",
    move=lambda x: rearrange(x, "B N h d -> h B N d"),
)
split_heads.mistake(
    "one plain reshape",
    "You reshape (B, N, 3·C) straight to (3, B, h, N, d). reshape only re-reads the numbers in order: which axes move?",
    lambda qkv, num_heads: tuple(qkv.reshape(3, qkv.shape[0], num_heads, qkv.shape[1], -1)),
)
split_heads.mistake(
    "q and k exchanged",
    "Your k is q, and your q is k. Which comes first in the weights?",
    order=lambda q, k, v: (k, q, v),
)
split_heads.mistake(
    "v comes first",
    "You return v, q, k or read them in that order. Which comes first?",
    order=lambda q, k, v: (v, q, k),
)


@split_heads.invariance("with one head, q, k and v are the three thirds of the channels")
def one_head(mine, draw):
    qkv = draw.normal(2, 3, 15)
    thirds = qkv.split(5, dim=-1)
    return all(torch.equal(x[:, 0], third) for x, third in zip(mine(qkv, 1), thirds, strict=True))


def module_cases(draw: Draw):
    """Random, non-zero weights in every parameter: at zero biases wrong code would pass."""
    many = draw.integer(3, 6)
    for batch, tokens, dim, heads in (
        (1, 1, 2, 1),
        (1, 2, 2, 2),
        (1, 3, 4, 2),
        (2, 5, 12, 3),
        (3, 4, many * draw.integer(2, 5), many),  # no answer can know these
        (2, 8, 8, 2),
        (2, 9, 6, 2),
    ):
        state = {
            "qkv.weight": draw.normal(3 * dim, dim),
            "qkv.bias": draw.normal(3 * dim),
            "proj.weight": draw.normal(dim, dim),
            "proj.bias": draw.normal(dim),
        }
        large = 30 if tokens == 9 else 1  # scores that overflow exp
        yield {"dim": dim, "num_heads": heads}, state, large * draw.normal(batch, tokens, dim)


multi_head = Exercise(
    "multi_head_attention",
    lesson="02",
    points=4,
    reference=layers.Attention,
    cases=module_cases,
    returns="output",
    call=call_module,
    hints=(
        "Everything you need is already there: one linear layer makes q, k and v, split_heads cuts them up, attention "
        "mixes the values in each head. What must happen to the heads before the last linear layer?",
        "(B, N, C) → qkv (B, N, 3·C) → three times (B, h, N, d) → attention (B, h, N, d) → heads side by side "
        "(B, N, h·d) → proj (B, N, C).",
        "q, k, v = split_heads(self.qkv(x), self.num_heads)\n"
        "mixed, _ = attention(q, k, v)                 # (B, h, N, d)\n"
        "mixed = ...                                   # (B, N, C): which axes move before the reshape?\n"
        "return self.proj(mixed)",
    ),
    ready_made=(F.multi_head_attention_forward, nn.MultiheadAttention, F.scaled_dot_product_attention),
)


@multi_head.recipe
def multi_head_in_steps(
    config,
    state,
    x,
    *,
    split=layers.split_heads,
    scale=lambda d, heads: d**-0.5,
    share=lambda scores: scores.softmax(dim=-1),
    values=lambda v, x: v,
    merge=lambda mixed: rearrange(mixed, "B h N d -> B N (h d)"),
    project=F.linear,
    last=lambda output, x: output,
):
    heads = config["num_heads"]
    q, k, v = split(F.linear(x, state["qkv.weight"], state["qkv.bias"]), heads)
    weights = share(q @ k.transpose(-2, -1) * scale(q.shape[-1], heads))
    mixed = merge(weights @ values(v, x))
    return last(project(mixed, state["proj.weight"], state["proj.bias"]), x)


multi_head.mistake(
    "scaled by the width of all heads",
    "You divide by the root of the whole width C. Each head takes its own dot product: over how many channels?",
    scale=lambda d, heads: (d * heads) ** -0.5,
)
multi_head.mistake(
    "no scaling", "Each head's scores grow with its width d. What did attention divide by?", scale=lambda d, heads: 1.0
)
multi_head.mistake(
    "heads before q, k, v",
    "You read the channels as (heads, 3, d); published weights lie as (3, heads, d).",
    split=lambda qkv, heads: rearrange(qkv, "B N (h three d) -> three B h N d", three=3, h=heads).unbind(0),
)
multi_head.mistake(
    "heads never split",
    "You run one head as wide as the whole token. Do your numbers change with num_heads at all?",
    split=lambda qkv, heads: rearrange(qkv, "B N (three d) -> three B 1 N d", three=3).unbind(0),
)


def split_by_reshape(qkv, heads):
    B, N, _ = qkv.shape
    return [x.reshape(B, heads, N, -1) for x in qkv.chunk(3, dim=-1)]


multi_head.mistake(
    "heads cut out by a plain reshape",
    "You reshape (B, N, C) straight to (B, h, N, d), which tears tokens apart. Which call moves axes?",
    split=split_by_reshape,
)


def keys_ask(qkv, heads):
    q, k, v = layers.split_heads(qkv, heads)
    return k, q, v


multi_head.mistake(
    "q and k exchanged",
    "Token i is answered as if it were the one asked. Which third of the channels is q?",
    split=keys_ask,
)
multi_head.mistake(
    "queries meet queries",
    "Every token looks for what it asks itself. Which third of the channels have you not used?",
    split=lambda qkv, heads: [layers.split_heads(qkv, heads)[i] for i in (0, 0, 2)],
)
multi_head.mistake(
    "keys mixed in the place of values",
    "Keys say where something is found; what is brought back? One third of the channels is unused.",
    split=lambda qkv, heads: [layers.split_heads(qkv, heads)[i] for i in (0, 1, 1)],
)
multi_head.mistake(
    "softmax over the queries",
    "Your columns sum to 1, your rows do not. Over which axis does each query share out its attention?",
    share=lambda scores: scores.softmax(dim=-2),
)
multi_head.mistake(
    "softmax over the heads",
    "Your heads compete with one another. Each head shares out an attention of its own: over which axis?",
    share=lambda scores: scores.softmax(dim=1),
)
multi_head.mistake(
    "exp overflows",
    "Right for small scores, NaN for large ones: exp(710) is already infinite. What does softmax do first?",
    share=lambda scores: scores.exp() / scores.exp().sum(dim=-1, keepdim=True),
)
multi_head.mistake(
    "divided by d, not by its root",
    "Your weights are too flat. If the variance of q·k is d, what is its standard deviation?",
    scale=lambda d, heads: 1 / d,
)
multi_head.mistake(
    "channels of a head lie apart",
    "You read the channels as (3, d, heads); published weights lie as (3, heads, d).",
    split=lambda qkv, heads: rearrange(qkv, "B N (three d h) -> three B h N d", three=3, h=heads).unbind(0),
)
multi_head.mistake(
    "values not projected",
    "You mix the tokens themselves. Which third of qkv have you not used?",
    values=lambda v, x: rearrange(x, "B N (h d) -> B h N d", h=v.shape[1]) if v.shape[1] > 1 else x[:, None],
)


def merged_by_reshape(mixed):
    B, h, N, d = mixed.shape
    return mixed.reshape(B, N, h * d)


multi_head.mistake(
    "heads merged by a plain reshape",
    "You reshape (B, h, N, d) straight to (B, N, C), so each token gets pieces of other tokens. Which axes must change "
    "places first?",
    merge=merged_by_reshape,
)
multi_head.mistake(
    "channels of the heads shuffled together",
    "You merge as (d, heads). Published weights want all channels of head 1, then all of head 2.",
    merge=lambda mixed: rearrange(mixed, "B h N d -> B N (d h)"),
)
multi_head.mistake(
    "heads averaged",
    "You take the mean of the heads, which leaves d channels and mixes their answers. How do h answers of d make C?",
    merge=lambda mixed: mixed.mean(dim=1),
)
multi_head.mistake(
    "no output projection",
    "Your heads lie side by side and never meet. Which layer is left over?",
    project=lambda mixed, weight, bias: mixed,
)
multi_head.mistake(
    "residual inside the layer",
    "You add the input to the output. That is the block's work, in lesson 03; here it must not happen twice.",
    last=lambda output, x: output + x,
)


@multi_head.invariance("shuffled tokens give shuffled outputs, and nothing else changes")
def equivariant(mine, draw):
    config, state, x = list(module_cases(draw))[-1]
    order = torch.randperm(x.shape[1], generator=draw.generator)
    return torch.allclose(mine(config, state, x)[:, order], mine(config, state, x[:, order]))


@multi_head.invariance("one picture of the batch does not see another")
def pictures_apart(mine, draw):
    config, state, x = list(module_cases(draw))[3]
    return torch.allclose(mine(config, state, x)[:1], mine(config, state, x[:1]))
