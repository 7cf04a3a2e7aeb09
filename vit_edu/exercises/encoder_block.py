"""Exercises of lesson 03: the MLP and the whole block. Source: Dosovitskiy et al. 2021, equations 2 and 3."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from vit_edu import layers
from vit_edu.exercises.core import Draw, Exercise, call_module


def quick(x):
    return x * torch.sigmoid(1.702 * x)


def weights(draw: Draw, name: str, rows: int, columns: int) -> dict:
    """Random, non-zero weights and biases of one linear layer."""
    return {f"{name}.weight": draw.normal(rows, columns) / columns**0.5, f"{name}.bias": draw.normal(rows)}


def linear(state: dict, name: str, x):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def mlp_cases(draw: Draw):
    for batch, tokens, dim, hidden in ((1, 1, 1, 2), (1, 2, 2, 3), (2, 3, 4, 6), (2, 5, 6, 24), (3, 4, 8, 8)):
        state = weights(draw, "fc1", hidden, dim) | weights(draw, "fc2", dim, hidden)
        yield {"dim": dim, "hidden_dim": hidden}, state, draw.normal(batch, tokens, dim)
    state = weights(draw, "fc1", 7, 3) | weights(draw, "fc2", 3, 7)
    yield {"dim": 3, "hidden_dim": 7}, state, draw.normal(2, 4, 5, 3)


mlp = Exercise(
    "mlp",
    lesson="03",
    points=1,
    reference=layers.Mlp,
    cases=mlp_cases,
    returns="output",
    call=call_module,
    hints=(
        "Two linear layers, the first one out to hidden_dim, the second one back to dim. What stands between them, so "
        "that the two are not one linear layer in disguise?",
        "(..., dim) → fc1 → (..., hidden_dim) → GELU, number by number → fc2 → (..., dim).",
        "self.fc1 = nn.Linear(dim, hidden_dim)\nself.fc2 = ...\n\nx = self.fc1(x)\nx = ...      # x · Φ(x)\nreturn ...",
    ),
)


@mlp.recipe
def mlp_in_steps(
    config,
    state,
    x,
    *,
    before=lambda x: x,
    act=F.gelu,
    after=lambda x: x,
    last=lambda output, x: output,
):
    hidden = act(linear(state, "fc1", before(x)))
    return last(after(linear(state, "fc2", hidden)), x)


ACTIVATIONS = {  # name: (thought, function)
    "GELU by tanh": (
        "You use the approximation by tanh, as GPT-2's code has it. It is off by less than a thousandth and "
        "still gives other numbers. What is nn.GELU's default?",
        partial(F.gelu, approximate="tanh"),
    ),
    "QuickGELU": (
        "x σ(1.702 x) is the GELU of OpenAI's CLIP. ViT has the exact one: x Φ(x).",
        quick,
    ),
    "ReLU": ("You use the activation of Vaswani et al. Which one did ViT take in its place?", F.relu),
    "SiLU": ("x σ(x) is SiLU, or Swish. The Φ of GELU is the normal distribution's, not a sigmoid.", F.silu),
    "no activation": (
        "Nothing stands between your two layers, and two linear layers in a row are one. What bends the line?",
        lambda x: x,
    ),
}
for name, (thought, function) in ACTIVATIONS.items():
    mlp.mistake(name, thought, act=function)
mlp.mistake(
    "Φ without x",
    "You return the gate Φ(x) alone, a number from 0 to 1. What does the gate let through?",
    act=lambda x: 0.5 * (1 + torch.erf(x / math.sqrt(2))),
)
mlp.mistake(
    "erf without √2",
    "Φ(x) is half of 1 + erf(x / √2). Without the √2 your bell is too narrow.",
    act=lambda x: 0.5 * x * (1 + torch.erf(x)),
)
mlp.mistake(
    "GELU without its half",
    "1 + erf goes from 0 to 2. How far does a probability go?",
    act=lambda x: x * (1 + torch.erf(x / math.sqrt(2))),
)
mlp.mistake(
    "the activation before fc1",
    "You bend the narrow token, and the wide one not at all. Where are there more numbers to bend?",
    lambda config, state, x: mlp_in_steps(config, state, x, before=F.gelu, act=lambda x: x),
)
mlp.mistake(
    "the activation behind fc2",
    "Your two linear layers stand side by side, so they are one; and what comes out can hardly be negative, though it "
    "is to be added to a stream. Between which two does GELU belong?",
    lambda config, state, x: mlp_in_steps(config, state, x, act=lambda x: x, after=F.gelu),
)
mlp.mistake(
    "a second activation behind fc2",
    "Your result can hardly be negative: you bend it once more at the end. It is to be added to the stream as it is.",
    after=F.gelu,
)
mlp.mistake(
    "residual inside the layer",
    "You add the input to the output. That is the block's work; here it would happen twice.",
    last=lambda output, x: output + x,
)


def block_cases(draw: Draw):
    """Wide and narrow MLPs; tokens of size 0.01, where eps shows; norms and biases that are not at their start."""
    many = draw.integer(3, 6)
    for batch, tokens, dim, heads, ratio, size in (
        (1, 1, 2, 1, 2.0, 1),
        (1, 2, 2, 1, 4.0, 1),
        (1, 3, 4, 2, 2.5, 1),
        (2, 5, 6, 3, 3.0, 0.01),
        (3, 4, many * draw.integer(2, 4), many, 4.0, 2),  # no answer can know these
    ):
        state = {}
        for name in ("norm1", "norm2"):
            state |= {f"{name}.weight": 1 + 0.5 * draw.normal(dim), f"{name}.bias": 0.5 * draw.normal(dim)}
        hidden = int(dim * ratio)
        state |= weights(draw, "attn.qkv", 3 * dim, dim) | weights(draw, "attn.proj", dim, dim)
        state |= weights(draw, "mlp.fc1", hidden, dim) | weights(draw, "mlp.fc2", dim, hidden)
        yield {"dim": dim, "num_heads": heads, "mlp_ratio": ratio}, state, size * draw.normal(batch, tokens, dim)


block = Exercise(
    "encoder_block",
    lesson="03",
    points=5,
    reference=layers.Block,
    cases=block_cases,
    returns="output",
    call=call_module,
    hints=(
        "There is one stream, and twice something is added to it. What is added is computed from a normed copy; the "
        "stream itself is never normed inside the block.",
        "Everything is (B, N, C). norm1 → attn → add; norm2 → mlp → add. norm2 reads the stream after the first "
        "addition. The MLP is int(dim * mlp_ratio) wide inside.",
        "self.norm1, self.attn = LayerNorm(dim), MultiHeadAttention(dim, num_heads)\nself.norm2, self.mlp = ...\n\n"
        "x = x + self.attn(...)     # of what?\nreturn ...",
    ),
    ready_made=(nn.TransformerEncoderLayer,),
)


@block.recipe
def block_in_steps(
    config,
    state,
    x,
    *,
    eps=lambda: 1e-6,
    act=F.gelu,
    heads=lambda config: config["num_heads"],
    first=lambda x, norm, attend: x + attend(norm(x)),
    second=lambda x, start, norm, other_norm, mlp: x + mlp(norm(x)),
):
    def norm(name):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return lambda x: F.layer_norm(x, weight.shape, weight, bias, eps())

    def attend(x):
        q, k, v = layers.split_heads(linear(state, "attn.qkv", x), heads(config))
        return linear(state, "attn.proj", layers.merge_heads(F.scaled_dot_product_attention(q, k, v)))

    def mlp(x):
        return linear(state, "mlp.fc2", act(linear(state, "mlp.fc1", x)))

    middle = first(x, norm("norm1"), attend)
    return second(middle, x, norm("norm2"), norm("norm1"), mlp)


block.mistake(
    "post-norm",
    "You norm the stream after each addition, as Vaswani et al. do. ViT norms what goes *into* attention and MLP, and "
    "leaves the stream alone. What reaches the end of twelve such blocks unchanged?",
    alone=True,
    first=lambda x, norm, attend: norm(x + attend(x)),
    second=lambda x, start, norm, other_norm, mlp: norm(x + mlp(x)),
)
block.mistake(
    "no residual around attention",
    "After your attention the token itself is gone: only what it has heard from others is left. What is attention's "
    "output to be added to?",
    first=lambda x, norm, attend: attend(norm(x)),
)
block.mistake(
    "no residual around the MLP",
    "Your MLP's output takes the place of the stream. What is it to be added to?",
    second=lambda x, start, norm, other_norm, mlp: mlp(norm(x)),
)
block.mistake(
    "attention is added to the normed stream",
    "x = norm1(x) and then x + attn(x): the stream itself has been normed on the way. Give the normed copy another "
    "name: which of the two is to be added to?",
    first=lambda x, norm, attend: norm(x) + attend(norm(x)),
)
block.mistake(
    "the MLP is added to the normed stream",
    "x = norm2(x) and then x + mlp(x): the stream itself has been normed on the way. Give the normed copy another "
    "name: which of the two is to be added to?",
    second=lambda x, start, norm, other_norm, mlp: norm(x) + mlp(norm(x)),
)
block.mistake(
    "no norm before attention",
    "Your attention reads the stream as it is. However large the stream has grown, which layer should bring it to one "
    "size first?",
    first=lambda x, norm, attend: x + attend(x),
)
block.mistake(
    "no norm before the MLP",
    "Your MLP reads the stream as it is. However large the stream has grown, which layer should bring it to one size "
    "first?",
    second=lambda x, start, norm, other_norm, mlp: x + mlp(x),
)
block.mistake(
    "norm1 used twice",
    "Your MLP reads through norm1. Each branch has a norm with weights of its own: which one have you not used?",
    second=lambda x, start, norm, other_norm, mlp: x + mlp(other_norm(x)),
)
block.mistake(
    "the MLP reads the block's input",
    "Your attention and your MLP work side by side, on the same input. In ViT one comes after the other: what should "
    "norm2 read? Some language models do it your way, with weights of their own.",
    second=lambda x, start, norm, other_norm, mlp: x + mlp(norm(start)),
)
block.mistake(
    "both branches read through norm1",
    "Attention and MLP both read norm1(x), side by side. What should the MLP read, and through which norm?",
    alone=True,
    second=lambda x, start, norm, other_norm, mlp: x + mlp(other_norm(start)),
)
block.mistake(
    "the MLP is added to the block's input",
    "What attention added is lost: your last line adds the MLP's output to the x from the very beginning. Which stream "
    "is the present one?",
    second=lambda x, start, norm, other_norm, mlp: start + mlp(norm(x)),
)
block.mistake(
    "the MLP reads attention's output alone",
    "Your MLP does not see the token itself, only what attention fetched for it. Which of your tensors is the stream "
    "after the first addition?",
    second=lambda x, start, norm, other_norm, mlp: x + mlp(norm(x - start)),
)
block.mistake(
    "the stream is added twice",
    "You add x once more at the end, though it is part of the sum already. Follow one number: how often does it "
    "arrive?",
    second=lambda x, start, norm, other_norm, mlp: start + x + mlp(norm(x)),
)
block.mistake(
    "attention's norm stands behind it",
    "You norm what attention gives, not what it gets. That is Swin V2's block; in ViT the norm comes first.",
    first=lambda x, norm, attend: x + norm(attend(x)),
)
block.mistake(
    "the MLP's norm stands behind it",
    "You norm what the MLP gives, not what it gets. That is Swin V2's block; in ViT the norm comes first.",
    second=lambda x, start, norm, other_norm, mlp: x + norm(mlp(x)),
)
block.mistake(
    "eps 1e-5",
    "Your norms have an eps of 1e-5, the default of nn.LayerNorm. ViT's is 1e-6, and small tokens feel it.",
    eps=lambda: 1e-5,
)
block.mistake(
    "no eps to speak of",
    "Your norms have a much smaller eps than ViT's 1e-6. Transformers' ViT has 1e-12 by default: whose "
    "weights are these?",
    eps=lambda: 1e-12,
)
for name, (thought, function) in ACTIVATIONS.items():
    block.mistake(name, thought, act=function)
block.mistake(
    "one head",
    "Your numbers do not change with num_heads. To whom have you to hand it on?",
    alone=True,
    heads=lambda config: 1,
)


def mlp_first(config, state, x):
    x = block_in_steps(config, state, x, first=lambda x, norm, attend: x)
    return block_in_steps(config, state, x, second=lambda x, *_: x)


block.mistake(
    "the MLP comes first",
    "Your MLP runs before attention. Which of the two does equation 2 of the ViT paper name?",
    mlp_first,
)
block.mistake(
    "the norms are exchanged",
    "Attention reads through norm2 and the MLP through norm1. With fresh weights nobody would notice.",
    lambda config, state, x: block_in_steps(
        config, state | {f"norm{a}.{w}": state[f"norm{3 - a}.{w}"] for a in (1, 2) for w in ("weight", "bias")}, x
    ),
)


@block.invariance("where proj and fc2 are zero the block changes nothing: the stream flows past")
def nothing_added(mine, draw):
    config, state, x = list(block_cases(draw))[-1]
    zeros = {name: value * 0 if ".proj." in name or ".fc2." in name else value for name, value in state.items()}
    return torch.equal(mine(config, zeros, x), x)


@block.invariance("shuffled tokens give shuffled outputs, and nothing else changes")
def equivariant(mine, draw):
    config, state, x = list(block_cases(draw))[-1]
    order = torch.randperm(x.shape[1], generator=draw.generator)
    return torch.allclose(mine(config, state, x)[:, order], mine(config, state, x[:, order]))
