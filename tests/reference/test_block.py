"""The encoder block against torch's TransformerEncoderLayer, and timm's names."""

import pytest
import torch
from torch import nn

from tests.reference.compare import assert_equal, gradients, normal, randomise
from vit_edu.layers import Block, PatchEmbed

NAMES = {  # timm's -> torch's; the order is timm's
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "attn.qkv.weight": "self_attn.in_proj_weight",
    "attn.qkv.bias": "self_attn.in_proj_bias",
    "attn.proj.weight": "self_attn.out_proj.weight",
    "attn.proj.bias": "self_attn.out_proj.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "mlp.fc1.weight": "linear1.weight",
    "mlp.fc1.bias": "linear1.bias",
    "mlp.fc2.weight": "linear2.weight",
    "mlp.fc2.bias": "linear2.bias",
}


def test_names_are_timms():
    assert list(Block(8, 2).state_dict()) == list(NAMES)
    without = [name for name in NAMES if name != "attn.qkv.bias"]
    assert list(Block(8, 2, qkv_bias=False).state_dict()) == without
    assert list(PatchEmbed(8, 4, embed_dim=8).state_dict()) == ["proj.weight", "proj.bias"]


def test_parameters_add_up_to_the_published_vit_tiny():
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    dim, positions, norm, head = 192, 1 + 14 * 14, 2 * 192, 1000 * 192 + 1000
    total = count(PatchEmbed(224, 16, 3, dim)) + dim + positions * dim + 12 * count(Block(dim, 3)) + norm + head
    assert total == 5_717_416


def layer(dim, num_heads, hidden_dim):
    return nn.TransformerEncoderLayer(
        dim,
        num_heads,
        hidden_dim,
        dropout=0,
        activation="gelu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dim, num_heads, mlp_ratio", [(12, 3, 4.0), (8, 1, 2.0), (16, 8, 1.5)])
def test_block_is_transformer_encoder_layer(mode, batch, dim, num_heads, mlp_ratio):
    theirs = randomise(layer(dim, num_heads, int(dim * mlp_ratio)))
    ours = Block(dim, num_heads, mlp_ratio).double()
    ours.load_state_dict({name: theirs.state_dict()[name_there] for name, name_there in NAMES.items()})
    ours.train(mode == "train"), theirs.train(mode == "train")
    x = normal(batch, 5, dim)
    mine, reference = ours(x), theirs(x)
    assert_equal(mine, reference)
    my_parameters = [ours.get_parameter(name) for name in NAMES]
    their_parameters = [theirs.get_parameter(name) for name in NAMES.values()]
    assert_equal(gradients(mine, [x, *my_parameters]), gradients(reference, [x, *their_parameters]), "gradients")
    with torch.no_grad():
        assert_equal(ours(x), theirs(x), "torch's fast path")
    with_weights, weights = ours(x, return_weights=True)
    assert_equal(with_weights, reference, "with weights")
    normed = theirs.norm1(x)
    assert_equal(weights, theirs.self_attn(normed, normed, normed, average_attn_weights=False)[1], "weights")


def test_block_does_not_know_the_order_of_tokens():
    block, x = randomise(Block(12, 3)), normal(2, 6, 12)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_equal(block(x[:, order]), block(x)[:, order])
    assert (block(x[:, order]) - block(x)).abs().max() > 0.1
