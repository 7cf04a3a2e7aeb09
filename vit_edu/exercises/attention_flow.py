"""Exercises of lesson 05, second half: what flows. Abnar & Zuidema 2020, section 3; Kobayashi et al. 2020."""

from functools import reduce

import torch
from torch import Tensor

from vit_edu import explain
from vit_edu.exercises.core import Draw, Exercise
from vit_edu.exercises.seeing_attention import shares


def layer_cases(draw: Draw):
    """Weights of one, two and more layers, more than the lesson's models have; never as many as pictures or heads."""
    yield ([shares(draw, 1, 1, 2)],)
    yield ([shares(draw, 1, 2, 3) for _ in range(2)],)
    yield ([shares(draw, 1, 3, 2) for _ in range(2)],)
    yield ([shares(draw, 2, 3, 4) for _ in range(4)],)
    yield ([shares(draw, 3, 2, 5, 4.0) for _ in range(draw.integer(5, 7))],)


flow = Exercise(
    "rollout",
    lesson="05",
    points=3,
    reference=explain.rollout,
    cases=layer_cases,
    returns="rollout",
    observed=("rollout",),
    hints=(
        'Turn each layer into one table: the mean of its heads, mixed half and half with a table that says "everyone '
        'keeps their own". Then chain the tables by matrix products. Which of two layers touches the picture first?',
        "each layer: (B, h, N, N) → mean of heads (B, N, N) → half of it plus half of the identity (N, N). The result "
        "starts with the first layer's table; every later one is multiplied to it: (B, N, N) @ (B, N, N).",
        "flow = torch.eye(N)                              # of the right dtype\n"
        "for layer in weights:\n"
        "    mixed = 0.5 * layer.mean(dim=...) + ...\n"
        "    flow = ... @ ...                              # from which side does a later layer come?",
    ),
)


def chain(layers: list[Tensor]) -> Tensor:
    """The last layer's table stands at the left."""
    return reduce(lambda flow, layer: layer @ flow, layers)


def own(mixed: Tensor) -> Tensor:
    return torch.eye(mixed.shape[-1]).to(mixed)


@flow.recipe
def rollout_in_steps(
    weights,
    *,
    fuse=lambda layer: layer.mean(dim=1),
    skip=lambda mixed: 0.5 * mixed + 0.5 * own(mixed),
    norm=lambda mixed: mixed / mixed.sum(dim=-1, keepdim=True),
    follow=chain,
):
    return follow([norm(skip(fuse(layer))) for layer in weights])


flow.mistake(
    "no skip connection",
    "You chain the bare weights. In a block x = x + attention(x): what has a token that attention brings it nothing?",
    skip=lambda mixed: mixed,
)
flow.mistake(
    "the first layer at the left",
    "You multiply A_1 A_2 ... A_L. Row i of the result must say what output i is made of: the last layer asks first, "
    "so where does its table stand?",
    follow=lambda layers: reduce(lambda flow, layer: flow @ layer, layers),
)
flow.mistake(
    "rows that sum to 2",
    "You add the identity and do not halve: with every layer your numbers double. What must each row sum to?",
    skip=lambda mixed: mixed + own(mixed),
    norm=lambda mixed: mixed,
)
flow.mistake(
    "the strongest head only",
    "You take the largest of the heads at each place. Some people do; the paper takes their mean.",
    fuse=lambda layer: layer.amax(dim=1),
)
flow.mistake(
    "the weakest head only",
    "You take the smallest of the heads at each place. Some people do; the paper takes their mean.",
    fuse=lambda layer: layer.amin(dim=1),
)
flow.mistake(
    "heads summed",
    "You add the heads up, so that many heads drown the skip connection. Which operation keeps rows summing to 1?",
    fuse=lambda layer: layer.sum(dim=1),
)
flow.mistake(
    "heads summed, rows left as they are",
    "You add the heads up, and your rows sum to more than 1. Which operation keeps them at 1?",
    fuse=lambda layer: layer.sum(dim=1),
    norm=lambda mixed: mixed,
)
flow.mistake(
    "the first head only",
    "You follow head 0 and forget the others.",
    fuse=lambda layer: layer[:, 0],
)
flow.mistake(
    "pictures averaged, not heads",
    "You average over axis 0, the batch. Which axis of (B, h, N, N) counts the heads?",
    fuse=lambda layer: layer.mean(dim=0),
)
flow.mistake(
    "everyone gets a share of everyone",
    "The skip connection is no table of ones: a token keeps *itself*. Which matrix changes nothing?",
    skip=lambda mixed: 0.5 * mixed + 0.5 * torch.ones_like(mixed),
)
flow.mistake(
    "columns sum to 1",
    "Your columns sum to 1, your rows do not. Whose attention is shared out?",
    norm=lambda mixed: mixed / mixed.sum(dim=-2, keepdim=True),
)
flow.mistake(
    "softmax over the mixture",
    "These are shares already: a softmax makes them nearly flat, and no place is empty any more.",
    norm=lambda mixed: mixed.softmax(dim=-1),
)
flow.mistake(
    "rows and columns exchanged",
    "Your tables say who is looked at by whom. Does a row belong to the token that asks?",
    fuse=lambda layer: layer.mean(dim=1).transpose(-2, -1),
)
flow.mistake(
    "number by number in place of a matrix product",
    "You multiply each number with its counterpart. From i by way of *any* j to k: which product sums over j?",
    follow=lambda layers: reduce(lambda flow, layer: layer * flow, layers),
)
flow.mistake(
    "layers averaged",
    "You take the mean of the layers' tables. A later layer looks at what an earlier one has mixed: which operation "
    "chains them?",
    follow=lambda layers: torch.stack(layers).mean(dim=0),
)
flow.mistake(
    "the last layer only",
    "Your result knows only the last layer. What had been mixed before it?",
    follow=lambda layers: layers[-1],
)
flow.mistake(
    "the first layer is missing",
    "Your product begins with the second layer.",
    follow=lambda layers: chain(layers[1:] or [own(layers[0]).expand_as(layers[0])]),
)
flow.mistake(
    "the last layer is missing",
    "Your product ends one layer too early.",
    follow=lambda layers: chain(layers[:-1] or [own(layers[0]).expand_as(layers[0])]),
)
flow.mistake(
    "the class token's row only",
    "You return one row. Wanted is the whole table, (B, N, N): every token's.",
    follow=lambda layers: chain(layers)[:, 0],
)


def once(flow: Tensor) -> Tensor:
    return 0.5 * flow + 0.5 * own(flow)


flow.mistake(
    "the skip connection once, at the end",
    "You mix the identity in once, after the product. How many blocks have a skip connection?",
    lambda weights: once(chain([layer.mean(dim=1) for layer in weights])),
)
flow.mistake(
    "every head followed by itself",
    "You chain head 0 with head 0, and average at the end. Between two layers proj mixes the heads: average first.",
    lambda weights: reduce(
        lambda flow, layer: (0.5 * layer + 0.5 * own(layer)) @ flow, [own(weights[0]), *weights]
    ).mean(1),
)


@flow.invariance("each row sums to 1")
def whole_rows(mine, draw):
    found = mine([shares(draw, 2, 3, 5) for _ in range(4)])
    return torch.allclose(found.sum(dim=-1), torch.ones(2, 5).double())


def contribution_cases(draw: Draw):
    for batch, heads, tokens, d, dim in (
        (1, 1, 2, 1, 1),
        (1, 2, 2, 1, 2),
        (1, 2, 3, 2, 4),
        (2, 3, 5, 4, 12),
        (3, 2, 4, 5, 10),
    ):
        yield shares(draw, batch, heads, tokens), draw.normal(batch, heads, tokens, d), draw.normal(dim, heads * d)


def contributions(weights: Tensor, v: Tensor, proj_weight: Tensor) -> Tensor:
    """How long is what token j hands to token i through each head: (B, h, N, N), Kobayashi et al. 2020."""
    parts = proj_weight.unflatten(1, v.shape[1::2]).transpose(0, 1)  # (C, h*d) -> (h, C, d)
    handed = torch.einsum("bhnd,hcd->bhnc", v, parts)  # (B, h, N, C)
    return weights * handed.norm(dim=-1)[:, :, None, :]  # (B, h, N, N) * (B, h, 1, N)


handed = Exercise(
    "contributions",
    lesson="05",
    points=4,
    reference=contributions,
    cases=contribution_cases,
    returns="table",
    observed=("table",),
    hints=(
        "First ask what a head would hand over for a weight of 1: its value, sent through its own part of proj. How "
        "long is that vector? Then multiply by the weight.",
        "proj_weight (C, h·d): the columns of head 0 come first. Its part is (C, d). Handed over: (B, h, N, d) times "
        "(d, C) → (B, h, N, C) → lengths (B, h, N), one for each token that is *asked* → (B, h, 1, N).",
        "parts = proj_weight.unflatten(1, (h, d))            # (C, h, d)\n"
        'handed = torch.einsum("bhnd,chd->bhnc", v, parts)   # what each token hands over\n'
        "lengths = handed.norm(dim=...)                       # (B, h, N)\n"
        "return weights * ...                                 # to which axis of the weights do they belong?",
    ),
)


def of_heads(proj: Tensor, v: Tensor) -> Tensor:
    """(C, h*d) -> (h, C, d)"""
    return proj.unflatten(1, v.shape[1::2]).transpose(0, 1)


@handed.recipe
def contributions_in_steps(
    weights,
    v,
    proj_weight,
    *,
    cut=of_heads,
    length=lambda x: x.norm(dim=-1),
    weigh=lambda weights, lengths: weights * lengths[:, :, None, :],
):
    return weigh(weights, length(torch.einsum("bhnd,hcd->bhnc", v, cut(proj_weight, v))))


handed.mistake(
    "proj left out",
    "You measure the values themselves. Before it reaches the token, what a head has found goes through its part of "
    "proj, which may lengthen it or put it out.",
    cut=lambda proj, v: torch.eye(v.shape[-1]).to(v).expand(v.shape[1], -1, -1),
)
handed.mistake(
    "channels of a head taken apart",
    "You take every h-th column of proj for a head. In merge_heads the channels of one head lie side by side.",
    cut=lambda proj, v: proj.unflatten(1, (v.shape[-1], v.shape[1])).permute(2, 0, 1),
)
handed.mistake(
    "rows of proj in place of columns",
    "You cut the rows of proj_weight into heads. A linear layer computes x @ weight.T: which axis of weight meets x?",
    cut=lambda proj, v: of_heads(proj.T, v),
)
handed.mistake(
    "every head through the first part",
    "You send all heads through the first d columns of proj. Each head has columns of its own.",
    cut=lambda proj, v: proj[:, : v.shape[-1]].expand(v.shape[1], -1, -1),
)
handed.mistake(
    "lengths squared",
    "You have forgotten the root: long values count too much.",
    length=lambda x: x.square().sum(dim=-1),
)
handed.mistake(
    "absolute values summed",
    "You add up absolute values. The length of a vector is the root of a sum of squares.",
    length=lambda x: x.abs().sum(dim=-1),
)
handed.mistake(
    "the mean in place of the length",
    "You divide by the number of channels under the root. A length is not a mean.",
    length=lambda x: x.square().mean(dim=-1).sqrt(),
)
handed.mistake(
    "the numbers summed",
    "You add up the channels, signs and all: a long vector may sum to nothing.",
    length=lambda x: x.sum(dim=-1),
)
handed.mistake(
    "lengths of those who ask",
    "You multiply row i by the length of token i. Whose value does token i receive?",
    weigh=lambda weights, lengths: weights * lengths[:, :, :, None],
)
handed.mistake(
    "the weights are not used",
    "Your rows are all the same: what each token *could* hand over. How much of it is asked for?",
    weigh=lambda weights, lengths: lengths[:, :, None, :].expand_as(weights).clone(),
)
handed.mistake(
    "rows made to sum to 1",
    "You divide each row by its sum. Then nobody sees any more that a whole head may hand over next to nothing.",
    weigh=lambda weights, lengths: (
        (weights * lengths[:, :, None]) / (weights * lengths[:, :, None]).sum(-1, keepdim=True)
    ),
)
handed.mistake(
    "summed over the tokens that are asked",
    "You add up what a token receives. Keep one number for each pair.",
    weigh=lambda weights, lengths: (weights * lengths[:, :, None]).sum(dim=-1),
)
handed.mistake(
    "heads summed",
    "You add the heads up. Keep an axis for them: one of them may be silent.",
    weigh=lambda weights, lengths: (weights * lengths[:, :, None]).sum(dim=1),
)
handed.mistake(
    "heads averaged",
    "You average the heads. Keep an axis for them: one of them may be silent.",
    weigh=lambda weights, lengths: (weights * lengths[:, :, None]).mean(dim=1),
)


@handed.invariance("a token whose value is zero hands over nothing, whatever its weight")
def silent(mine, draw):
    v = draw.normal(1, 2, 4, 3)
    v[:, :, 2] = 0
    found = mine(shares(draw, 1, 2, 4), v, draw.normal(6, 6))
    return not found[..., 2].any() and bool(found[..., [0, 1, 3]].all())
