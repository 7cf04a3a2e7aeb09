"""Positions: MAE's table against loops and against numbers by hand."""

import math

import pytest
import torch

from tests.reference.compare import assert_equal, gradients, normal
from vit_edu.layers import embed_positions, sincos_position


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("rows, columns, dim", [(3, 3, 16), (2, 5, 12), (14, 7, 8), (1, 1, 4)])
def test_sincos_is_maes_table(rows, columns, dim, float64):
    wanted = torch.zeros(rows * columns, dim)
    quarter = dim // 4
    for n in range(rows * columns):
        row, column = divmod(n, columns)
        for half, place in enumerate((column, row)):  # the first half encodes x: in MAE's meshgrid "w goes first"
            for i in range(quarter):
                angle = place / 10000 ** (i / quarter)
                wanted[n, half * 2 * quarter + i] = math.sin(angle)
                wanted[n, half * 2 * quarter + quarter + i] = math.cos(angle)
    assert_equal(sincos_position((rows, columns), dim), wanted)


def test_sincos_by_hand():
    table = sincos_position((2, 3), dim=8)
    assert table.shape == (6, 8) and table.dtype == torch.float32
    origin = [0, 0, 1, 1, 0, 0, 1, 1]
    # x = 2, y = 1, frequencies 1 and 1/100: sin 2, sin 0.02, cos 2, cos 0.02, sin 1, sin 0.01, cos 1, cos 0.01
    last = [0.909297, 0.019999, -0.416147, 0.999800, 0.841471, 0.010000, 0.540302, 0.999950]
    torch.testing.assert_close(table[0], torch.tensor(origin, dtype=torch.float32))
    torch.testing.assert_close(table[5], torch.tensor(last), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
def test_class_token_first_and_a_position_for_every_token(batch):
    tokens, cls_token, pos_embed = normal(batch, 4, 6), normal(1, 1, 6, seed=2), normal(1, 5, 6, seed=3)
    embedded = embed_positions(tokens, cls_token, pos_embed)
    assert embedded.shape == (batch, 5, 6)
    for b in range(batch):
        assert_equal(embedded[b, 0], cls_token[0, 0] + pos_embed[0, 0], "class token")
        assert_equal(embedded[b, 1:], tokens[b] + pos_embed[0, 1:], "patches")
    projection = normal(batch, 5, 6, seed=7, grad=False)
    wanted = projection[:, 1:], projection[:, :1].sum(0, keepdim=True), projection.sum(0, keepdim=True)
    assert_equal(gradients(embedded, [tokens, cls_token, pos_embed]), wanted, "gradients")
