"""Attention against torch's own, and against four loops and math.exp."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.reference.compare import assert_equal, gradients, normal, randomise
from vit_edu.layers import Attention, merge_heads, scaled_dot_product_attention, split_heads

SHAPES = {  # leading dimensions, N_q, N_k, d, d_v
    "one sequence": ((), 4, 4, 3, 3),
    "batch": ((3,), 5, 5, 4, 4),
    "heads": ((2, 3), 4, 4, 8, 8),
    "cross": ((3, 2), 3, 7, 4, 4),
    "other width of v": ((2, 1), 6, 4, 2, 5),
    "one token": ((1, 1), 1, 1, 2, 2),
}


def masks(n_q, n_k):
    scattered = normal(n_q, n_k, seed=3, grad=False) > 0
    yield "none", None
    yield "scattered", scattered | (torch.arange(n_k) == 0)  # the first key is for all
    yield "causal", torch.ones(n_q, n_k, dtype=torch.bool).tril()
    yield "keys, broadcast", (torch.arange(n_k) < max(1, n_k - 1))[None]
    yield "a query that sees nothing", scattered & (torch.arange(n_q) > 0)[:, None]


@pytest.mark.parametrize("shape", SHAPES)
def test_scaled_dot_product_attention_is_torchs(shape):
    leading, n_q, n_k, d, d_v = SHAPES[shape]
    q, k, v = normal(*leading, n_q, d, seed=1), normal(*leading, n_k, d, seed=2), normal(*leading, n_k, d_v, seed=3)
    for name, mask in masks(n_q, n_k):
        output, weights = scaled_dot_product_attention(q, k, v, mask)
        theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        assert_equal(output, theirs, name)
        assert_equal(gradients(output, [q, k, v]), gradients(theirs, [q, k, v]), f"{name}: gradients")
        assert_equal(weights @ v, output, f"{name}: weights @ v")
        seeing = torch.ones(n_q, 1) if mask is None else mask.any(-1, keepdim=True)
        assert_equal(weights.sum(-1, keepdim=True), seeing.double().expand(*leading, n_q, 1), f"{name}: rows sum to 1")


def test_scaled_dot_product_attention_is_equation_1_by_hand():
    q, k, v = normal(2, 3, grad=False), normal(4, 3, seed=2, grad=False), normal(4, 2, seed=3, grad=False)
    mask = torch.tensor([[True, True, False, True], [False, True, True, True]])
    wanted = torch.zeros(2, 4, dtype=torch.float64)
    for i in range(2):
        for j in range(4):
            if mask[i, j]:
                wanted[i, j] = math.exp(sum(q[i, c].item() * k[j, c].item() for c in range(3)) / math.sqrt(3))
        wanted[i] /= wanted[i].sum().item()
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    assert_equal(weights, wanted, "weights")
    assert_equal(output, torch.stack([sum(wanted[i, j] * v[j] for j in range(4)) for i in range(2)]))


def pair(dim, num_heads, bias=True):
    """Torch's MultiheadAttention with random weights, and ours with the same."""
    theirs = randomise(nn.MultiheadAttention(dim, num_heads, bias=bias, batch_first=True))
    ours = Attention(dim, num_heads, qkv_bias=bias).double()
    state = {"qkv.weight": theirs.in_proj_weight, "qkv.bias": theirs.in_proj_bias}
    state |= {"proj.weight": theirs.out_proj.weight, "proj.bias": theirs.out_proj.bias}
    if not bias:  # torch's `bias` means both projections, ours the first, as in timm
        del state["qkv.bias"]
        state["proj.bias"] = torch.zeros(dim)
    ours.load_state_dict(state)
    return ours, theirs


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dim, num_heads, bias", [(12, 3, True), (8, 1, True), (8, 8, True), (12, 4, False)])
@pytest.mark.parametrize("return_weights", [False, True], ids=["fused", "explicit"])
def test_attention_is_multihead_attention(batch, dim, num_heads, bias, return_weights):
    ours, theirs = pair(dim, num_heads, bias)
    x = normal(batch, 5, dim)
    mine = ours(x, return_weights=return_weights)
    reference = theirs(x, x, x, need_weights=return_weights, average_attn_weights=False)
    mine, reference = (mine, reference) if return_weights else ((mine,), reference[:1])
    assert_equal(mine, reference)
    my_parameters = [p for name, p in ours.named_parameters() if bias or name != "proj.bias"]
    their_parameters = list(theirs.parameters())  # in_proj weight and bias, out_proj weight and bias, in our order
    assert_equal(gradients(mine, [x, *my_parameters]), gradients(reference, [x, *their_parameters]), "gradients")


@pytest.mark.parametrize("batch", [1, 3])
def test_the_pure_functions_with_a_mask_are_multihead_attention(batch):
    ours, theirs = pair(12, 3)
    x = normal(batch, 5, 12)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    output, weights = scaled_dot_product_attention(*split_heads(ours.qkv(x), 3), mask)
    mine = ours.proj(merge_heads(output)), weights
    reference = theirs(x, x, x, attn_mask=~mask, average_attn_weights=False)  # torch's True = may not attend
    assert_equal(mine, reference)
    assert_equal(gradients(mine, [x, *ours.parameters()]), gradients(reference, [x, *theirs.parameters()]), "gradients")


@pytest.mark.parametrize("batch", [1, 3])
def test_the_explicit_path_is_the_fused_path(batch):
    attention, x = randomise(Attention(12, 3)), normal(batch, 7, 12)
    fused, (explicit, weights) = attention(x), attention(x, return_weights=True)
    assert weights.shape == (batch, 3, 7, 7)
    assert_equal(explicit, fused)
    tensors = [x, *attention.parameters()]
    assert_equal(gradients(explicit, tensors), gradients(fused, tensors), "gradients")


def test_the_fused_kernel_runs_only_where_no_weights_are_asked_for(monkeypatch):
    calls = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *qkv, **words: calls.append("fused") or fused(*qkv, **words)
    )
    attention, x = randomise(Attention(12, 3)), normal(1, 7, 12)
    attention(x, return_weights=True)
    assert calls == []
    attention(x)
    assert calls == ["fused"]


def test_heads_are_split_as_three_then_head_then_channel():
    qkv = torch.arange(2 * 3 * 12).reshape(2, 3, 12)  # C = 4, two heads of two channels
    q, k, v = split_heads(qkv, num_heads=2)
    assert q[0, :, 0].tolist() == [[0, 1], [2, 3]]
    assert k[0, :, 0].tolist() == [[4, 5], [6, 7]]
    assert v[0, :, 0].tolist() == [[8, 9], [10, 11]]
    assert torch.equal(torch.cat([merge_heads(x) for x in (q, k, v)], dim=-1), qkv)
