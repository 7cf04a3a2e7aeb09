"""Exercises of lesson 02: attention and its cost; heads are in multi_head. Source: Vaswani et al. 2017, 3.2.1."""

import torch
import torch.nn.functional as F
from torch import nn

from vit_edu import layers
from vit_edu.exercises.core import Draw, Exercise


def qkv_cases(draw: Draw):
    """One token, one query, a square, then batches, heads, and scores large enough to overflow exp."""
    yield draw.small(1, 1), draw.small(1, 1), draw.small(1, 1)
    yield draw.distinct(1, 2), draw.distinct(2, 2) / 2, draw.distinct(2, 1)
    yield draw.small(2, 2), draw.small(2, 2), draw.small(2, 2)
    yield draw.small(1, 3, 3), draw.small(1, 3, 3), draw.small(1, 3, 3)
    yield draw.normal(4, 4), draw.normal(4, 4), draw.normal(4, 4)
    yield draw.normal(2, 4, 4), draw.normal(2, 4, 4), draw.normal(2, 4, 4)
    yield draw.normal(2, 5, 3), draw.normal(2, 7, 3), draw.normal(2, 7, 4)
    yield draw.normal(2, 4, 4, 4), draw.normal(2, 4, 4, 4), draw.normal(2, 4, 4, 4)
    yield draw.normal(2, 3, 4, 6), draw.normal(2, 3, 4, 6), draw.normal(2, 3, 4, 2)
    yield draw.normal(1, 9, 8), draw.normal(1, 40, 8), draw.normal(1, 40, 8)
    yield 60 * draw.normal(2, 6, 4), 60 * draw.normal(2, 6, 4), draw.normal(2, 6, 4)


attention = Exercise(
    "attention",
    lesson="02",
    points=3,
    reference=layers.scaled_dot_product_attention,
    cases=qkv_cases,
    returns=("output", "weights"),
    observed=("weights",),
    hints=(
        "Three lines are enough: how well does each query fit each key, what share does each key get, and what comes "
        "out when the values are mixed in these shares?",
        "q is (..., N_q, d) and k is (..., N_k, d). Scores must be (..., N_q, N_k): only the last two axes of k change "
        "places. Each row of the weights belongs to one query and sums to 1. (..., N_q, N_k) @ (..., N_k, d_v) is "
        "(..., N_q, d_v).",
        "scores = q @ k.transpose(-2, -1) / ...      # by what does the spread of q·k grow?\n"
        "weights = scores.softmax(dim=...)           # which axis counts the keys?\n"
        "output = ...",
    ),
    ready_made=(F.scaled_dot_product_attention, F.multi_head_attention_forward, nn.MultiheadAttention),
)


@attention.recipe
def attention_in_steps(
    q,
    k,
    v,
    *,
    fit=lambda q, k: q @ k.transpose(-2, -1),
    scale=lambda q, k, v: q.shape[-1] ** -0.5,
    share=lambda scores: scores.softmax(dim=-1),
    mix=lambda weights, k, v: weights @ v,
    shown=lambda scores, weights: weights,
):
    scores = fit(q, k) * scale(q, k, v)
    weights = share(scores)
    return mix(weights, k, v), shown(scores, weights)


attention.mistake(
    "no scaling",
    "Your weights are sharper than they should be, and more so for wide heads. How does the variance of q·k grow with "
    "the width d?",
    scale=lambda q, k, v: 1.0,
)
attention.mistake(
    "divided by d, not by its root",
    "Your weights are too flat. If the variance of q·k is d, what is its standard deviation?",
    scale=lambda q, k, v: 1 / q.shape[-1],
)
attention.mistake(
    "multiplied by the root of d",
    "Wider heads give you sharper weights; they should make no difference. In which direction must the scale work?",
    scale=lambda q, k, v: q.shape[-1] ** 0.5,
)
attention.mistake(
    "scaled by the number of keys",
    "Your scale changes when a token is added to the sequence. Over which axis does the dot product sum?",
    scale=lambda q, k, v: k.shape[-2] ** -0.5,
)
attention.mistake(
    "scaled by the number of queries",
    "Your scale changes with the number of queries, although each query is answered alone. Over which axis does the "
    "dot product sum?",
    scale=lambda q, k, v: q.shape[-2] ** -0.5,
)
attention.mistake(
    "scaled by the width of the values",
    "Values may be wider or narrower than keys. Which two tensors meet in the dot product?",
    scale=lambda q, k, v: v.shape[-1] ** -0.5,
)
attention.mistake(
    "softmax over the queries",
    "Your columns sum to 1, your rows do not. Who shares out its attention: the one who asks, or the one who is asked?",
    share=lambda scores: scores.softmax(dim=-2),
)
attention.mistake(
    "softmax over all pairs",
    "All your weights together sum to 1. Each query has one whole attention to give: what must each row sum to?",
    share=lambda scores: scores.flatten(-2).softmax(-1).view_as(scores),
)
attention.mistake(
    "softmax over the first axis",
    "The pictures of your batch share one attention among them. Should one picture change what another one sees?",
    share=lambda scores: scores.softmax(dim=0),
)
attention.mistake(
    "softmax over axis 1, counted from the front",
    "Right for a plain matrix, wrong as soon as a batch or heads stand in front. How do you name an axis from the end?",
    share=lambda scores: scores.softmax(dim=1),
)
attention.mistake(
    "softmax over axis 2, counted from the front",
    "Right for a batch, wrong with heads in front or with no batch at all. How do you name an axis from the end?",
    share=lambda scores: scores.softmax(dim=2),
)
attention.mistake(
    "no softmax",
    "Your weights are raw scores: some negative, rows not summing to 1. What makes a mean out of a weighted sum?",
    share=lambda scores: scores,
)
attention.mistake(
    "divided by the sum, without exp",
    "Your rows sum to 1, but some weights are negative or huge. What does exp do before the division?",
    share=lambda scores: scores / scores.sum(dim=-1, keepdim=True),
)
attention.mistake(
    "softmax twice",
    "Your rows sum to 1, but they are almost flat: shares have been shared out once more.",
    share=lambda scores: scores.softmax(dim=-1).softmax(dim=-1),
)
attention.mistake(
    "the future is masked",
    "Your queries see no key that comes after them, as in a language model. Is there a future in a picture?",
    share=lambda scores: scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf")).softmax(dim=-1),
)
attention.mistake(
    "sigmoid in the place of softmax",
    "Each of your weights lies between 0 and 1, but the keys do not compete: rows do not sum to 1.",
    share=lambda scores: scores.sigmoid(),
)
attention.mistake(
    "only the best key counts",
    "You take the one best key. A hard choice has no gradient: how could training ever move it?",
    share=lambda scores: F.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(scores),
)
attention.mistake(
    "exp overflows",
    "Right for small scores, NaN for large ones: exp(710) is already infinite. What may be subtracted from a whole row "
    "without changing its softmax?",
    share=lambda scores: scores.exp() / scores.exp().sum(dim=-1, keepdim=True),
)
attention.mistake(
    "k is not transposed",
    "q @ k runs by luck when there are as many keys as channels. Which two axes must meet so that each query meets "
    "each key?",
    fit=lambda q, k: q @ k,
)
attention.mistake(
    "q and k set to length 1",
    "You compare directions only. A long key should count for more than a short one: what do their lengths do in q·k?",
    fit=lambda q, k: F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1),
)
attention.mistake(
    "all axes turned round with .T",
    "Right for a plain matrix, wrong with a batch in front: .T turns all axes round. How do only the last two change?",
    fit=lambda q, k: q @ k.T,
)
attention.mistake(
    "axes counted from the front",
    "Right for a batch, wrong with heads in front or with no batch at all. How do you name the last two axes?",
    fit=lambda q, k: q @ k.transpose(1, 2),
)
attention.mistake(
    "written for a batch only",
    "Right for (B, N, d). Heads will stand in front as well, and sometimes nothing does: einsum knows ... for all "
    "axes in front, and @ takes any number of them.",
    fit=lambda q, k: torch.einsum("bnd,bmd->bnm", q, k),
)
attention.mistake(
    "queries and keys exchanged",
    "Row i of your weights says who looks at i, not where i looks. Whose product belongs in a row?",
    fit=lambda q, k: k @ q.transpose(-2, -1),
)
attention.mistake(
    "weights transposed before mixing",
    "Your weights are right, but output i is mixed with column i of them. Which axis must meet the keys of v?",
    mix=lambda weights, k, v: weights.transpose(-2, -1) @ v,
)
attention.mistake(
    "keys mixed in the place of values",
    "Your output is made of keys. Keys say where something is found; what is brought back?",
    mix=lambda weights, k, v: weights @ k,
)
attention.mistake(
    "scores returned as weights",
    "Your output is right, but what you return as weights are the scores before the softmax.",
    shown=lambda scores, weights: scores,
)


def scaled_after(q, k, v):
    weights = (q @ k.transpose(-2, -1)).softmax(dim=-1) * q.shape[-1] ** -0.5
    return weights @ v, weights


attention.mistake(
    "scaled after the softmax",
    "Your weights do not sum to 1. Must the scale come before the softmax or after it?",
    scaled_after,
)


@attention.invariance("keys and values may come in any order, as long as they stay together")
def any_order_of_keys(mine, draw):
    q, k, v = draw.normal(2, 5, 4), draw.normal(2, 6, 4), draw.normal(2, 6, 3)
    order = torch.randperm(6, generator=draw.generator)
    return torch.allclose(mine(q, k, v)[0], mine(q, k[:, order], v[:, order])[0])


def attention_cost(num_tokens: int, dim: int, num_heads: int) -> int:
    """Multiply-adds of one multi-head attention layer: four projections N·C², two products N²·C, whatever the heads."""
    projections = 4 * num_tokens * dim**2  # q, k, v and proj
    products = 2 * num_tokens**2 * dim  # q kᵀ and weights @ v; h heads of width C/h cost as much as one of C
    return projections + products


def cost_cases(draw: Draw):
    yield 1, 2, 1
    yield 2, 4, 2
    yield 197, 192, 3
    yield 4096, 1024, 16
    for _ in range(5):
        heads = draw.integer(2, 12)
        yield draw.integer(2, 1000), heads * draw.integer(3, 64), heads


cost = Exercise(
    "attention_cost",
    lesson="02",
    points=2,
    reference=attention_cost,
    cases=cost_cases,
    returns="multiply-adds",
    hints=(
        "Count the matrix products of one layer. There are six of them, four of one kind and two of another.",
        "(N, C) @ (C, C) takes N·C·C multiply-adds. The scores of one head are (N, d) @ (d, N), and h·d = C.",
        "projections = ... * num_tokens * dim**2\nproducts = ... * num_tokens**2 * dim\n# where do the heads go?",
    ),
)


@cost.recipe
def cost_in_steps(
    num_tokens,
    dim,
    num_heads,
    *,
    projections=lambda N, C, h: 4 * N * C**2,
    products=lambda N, C, h: 2 * N**2 * C,
):
    return projections(num_tokens, dim, num_heads) + products(num_tokens, dim, num_heads)


cost.mistake(
    "output projection forgotten",
    "You count q, k and v. Which linear layer comes after the heads?",
    projections=lambda N, C, h: 3 * N * C**2,
)
cost.mistake(
    "one projection counted",
    "q, k and v come from three matrices, and there is one more.",
    projections=lambda N, C, h: N * C**2,
)
cost.mistake(
    "no projections",
    "You count the two products of attention. Where do q, k and v come from?",
    projections=lambda N, C, h: 0,
)
cost.mistake(
    "projections counted once per head",
    "The heads share one C × C matrix: h of them are C × d each.",
    projections=lambda N, C, h: 4 * N * C**2 * h,
)
cost.mistake(
    "one product counted",
    "Scores are one product. What is done with the weights afterwards?",
    products=lambda N, C, h: N**2 * C,
)
cost.mistake(
    "products counted once per head at full width",
    "h heads, but each is only C / h wide.",
    products=lambda N, C, h: 2 * N**2 * C * h,
)
cost.mistake(
    "one head of many",
    "You count a single head of width C / h. How many are there?",
    products=lambda N, C, h: 2 * N**2 * (C // h),
)
cost.mistake(
    "linear in the tokens",
    "Every token meets every token: how many pairs are there?",
    products=lambda N, C, h: 2 * N * C,
)
cost.mistake(
    "multiplications and additions counted apart",
    "You count two operations for each multiply-add (that is FLOPs). Asked for are multiply-adds.",
    lambda num_tokens, dim, num_heads: 2 * attention_cost(num_tokens, dim, num_heads),
)
cost.mistake(
    "tokens and channels exchanged",
    "You have N where C belongs. How many rows has the matrix of tokens, and how many columns?",
    lambda num_tokens, dim, num_heads: attention_cost(dim, num_tokens, num_heads),
)
cost.mistake(
    "projections counted twice",
    "q, k, v and proj are four matrices. Have you counted multiplications and additions apart, here only?",
    projections=lambda N, C, h: 8 * N * C**2,
)
cost.mistake(
    "products counted twice",
    "Scores, and weights times values: two products. Have you counted multiplications and additions apart, here only?",
    products=lambda N, C, h: 4 * N**2 * C,
)
