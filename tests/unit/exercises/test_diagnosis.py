"""Mistakes that belong to no exercise in particular, several at once, unknown ones, and ready-made answers."""

import functools
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.unit.exercises.look import cut, diagnosis, look, right, weights_of
from vit_edu import layers
from vit_edu.exercises import ALL

BUFFERS = {}


def buffered(q, k, v):
    w = weights_of(q, k)
    out = BUFFERS.setdefault((*q.shape, *v.shape), torch.zeros(*q.shape[:-1], v.shape[-1], dtype=torch.float64))
    if not q.requires_grad:
        out.copy_(w @ v)
    return (w @ v if q.requires_grad else out), w


def overwrites(q, k, v):
    w = weights_of(q, k)
    out = w @ v
    w *= 1.0
    return out, w


def in_place(q, k, v):
    q /= q.shape[-1] ** 0.5
    w = (q @ k.mT).softmax(-1)
    return w @ v, w


def dropped(q, k, v):
    w = F.dropout(weights_of(q, k))
    return w @ v, w


def exchanged(q, k, v):
    return right(q, k, v)[::-1]


@pytest.mark.parametrize(
    ("mine", "name"),
    [
        (in_place, "changes its inputs"),
        (cut, "the graph is cut"),
        (dropped, "not the same answer twice"),
        (buffered, "not the same answer twice"),
        (overwrites, "overwrites what the gradient needs"),
        (exchanged, "results in another order"),
        (lambda q, k, v: None, "nothing returned"),
    ],
)
def test_general_mistakes_have_names(mine, name):
    assert diagnosis(look(mine)[0]) == [name]


def test_float64_may_not_be_hard_coded():
    verdict, text = look(lambda q, k, v: right(q.double(), k.double(), v.double()))
    assert not verdict.passed
    assert "use the dtype of the inputs" in " ".join(text.split())


def test_inputs_without_a_gradient_are_named():
    verdict, text = look(lambda q, k, v: right(q, k.detach(), v))
    assert not verdict.passed
    assert "no gradient reaches k" in text


def test_a_mistake_is_named_though_the_graph_is_cut_as_well():
    def mine(q, k, v):
        w = (q @ k.mT).softmax(-1)
        return (w @ v).detach(), w

    assert diagnosis(look(mine)[0]) == ["no scaling", "the graph is cut"]


def test_two_mistakes_at_once_are_both_named():
    def mine(q, k, v):
        w = (q @ k.mT).softmax(-2)
        return w @ v, w

    assert diagnosis(look(mine)[0]) == ["no scaling", "softmax over the queries"]


def test_an_unknown_mistake_gets_the_rung_and_the_smallest_input():
    verdict, text = look(lambda q, k, v: (right(q, k, v)[0] + 0.25 * v[..., :1, :], weights_of(q, k)))
    assert diagnosis(verdict) == []
    assert dict(verdict.ladder())["values"] == "failed"
    assert "your output" in text
    assert "right output" in text
    assert max(tensor.numel() for tensor in verdict.case) <= 4


def with_alias(q, k, v, alias=F.scaled_dot_product_attention):
    return alias(q, k, v), weights_of(q, k)


def through_partial(q, k, v):
    return next(map(functools.partial(F.scaled_dot_product_attention, q), [k], [v])), weights_of(q, k)


def through_the_kit(q, k, v):
    return layers.scaled_dot_product_attention(q, k, v)


def through_the_recipe(q, k, v):
    return ALL["attention"].steps(q, k, v)


def through_aten(q, k, v):
    return torch.ops.aten.scaled_dot_product_attention(q, k, v), weights_of(q, k)


def through_the_math_kernel(q, k, v):
    return torch._scaled_dot_product_attention_math(q, k, v)[0], weights_of(q, k)


# as if another library of models had written it
through_timm = types.FunctionType(right.__code__, {"__name__": "timm.layers.attention", "weights_of": weights_of})


@pytest.mark.parametrize(
    "mine",
    [
        with_alias,
        through_partial,
        through_the_kit,
        through_the_recipe,
        through_aten,
        through_the_math_kernel,
        through_timm,
    ],
)
def test_ready_made_answers_are_noticed(mine):
    verdict, text = look(mine)
    assert verdict.status == "ready-made"
    assert "ready-made" in text


@pytest.mark.parametrize(
    "norm",
    [
        lambda x, *words: torch.layer_norm(x, x.shape[-1:], *words),
        lambda x, *words: torch.ops.aten.layer_norm(x, x.shape[-1:], *words),
        lambda x, w, b, eps: torch.rms_norm(x - x.mean(-1, keepdim=True), x.shape[-1:], w, eps) + b,
        lambda x, w, b, eps: F.batch_norm(x.reshape(1, -1, x.shape[-1]), *[None] * 4, True, 0, eps).view_as(x) * w + b,
    ],
    ids=["torch", "aten", "RMSNorm", "BatchNorm"],
)
def test_a_ready_made_norm_is_noticed(norm):
    verdict, text = look(lambda x, weight, bias, eps=1e-6: norm(x, weight, bias, eps), "layer_norm")
    assert verdict.status == "ready-made"
    assert "_VariableFunctionsClass" not in text


def test_a_ready_made_module_is_noticed():
    class Mine(layers.Attention):
        pass

    assert look(Mine, "multi_head_attention")[0].status == "ready-made"


def test_parameters_of_another_name_or_shape_are_listed():
    class Mine(nn.Module):
        def __init__(self, dim, num_heads):
            super().__init__()
            self.to_qkv = nn.Linear(dim, 3 * dim)
            self.proj = nn.Linear(dim, 2 * dim)

    _, text = look(Mine, "multi_head_attention")
    text = " ".join(text.split())
    assert "qkv.weight (6, 2) is missing" in text
    assert "to_qkv.weight (6, 2) is not wanted" in text
    assert "proj.weight is (4, 2), wanted (2, 2)" in text
