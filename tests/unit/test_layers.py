"""What a reference cannot tell: bad input, drop path's chances, dtypes, another attention in the block."""

import pytest
import torch
from torch import nn

from tests.sentences import assert_sentence
from vit_edu import layers
from vit_edu.layers import Attention, Block, DropPath, Mlp, PatchEmbed

images = torch.rand(2, 3, 32, 32)
tokens = torch.rand(2, 4, 8)
q = torch.rand(2, 4, 8)

BAD_INPUT = {  # what -> (call, error, what the sentence must hold: found, wanted, remedy)
    "heads": (lambda: Attention(10, 4), ValueError, "dim=10 num_heads=4 divides change"),
    "no heads": (lambda: Attention(8, 0), ValueError, "num_heads=0 divides"),
    "block's heads": (lambda: Block(10, 4), ValueError, "dim=10 num_heads=4"),
    "split_heads": (lambda: layers.split_heads(torch.rand(1, 2, 30), 4), ValueError, "dim=10 num_heads=4"),
    "split_heads width": (lambda: layers.split_heads(torch.rand(1, 2, 31), 1), ValueError, "(1,·2,·31) 3*C linear"),
    "split_heads rank": (lambda: layers.split_heads(q[0, :, :6], 1), ValueError, "(4,·6) (B,·N,·3*C) qkv[None]"),
    "q and k": (lambda: layers.scaled_dot_product_attention(q, q[..., :6], q), ValueError, "(2,·4,·6) one·width"),
    "k and v": (lambda: layers.scaled_dot_product_attention(q, q, q[:, :3]), ValueError, "(2,·3,·8) N_k"),
    "integer v": (lambda: layers.scaled_dot_product_attention(q, q, q.long()), TypeError, "v int64 float v.float()"),
    "one dtype": (lambda: layers.scaled_dot_product_attention(q, q, q.double()), TypeError, "float64 one·dtype v.to"),
    "leading sizes": (lambda: layers.scaled_dot_product_attention(q, q[:1], q), ValueError, "(1,·4,·8) leading"),
    "mask": (lambda: layers.scaled_dot_product_attention(q, q, q, q @ q.mT), TypeError, "float32 bool mask.bool()"),
    "token rank": (lambda: Attention(8, 2)(tokens[0]), ValueError, "(4,·8) (B,·N,·8) tokens[None]"),
    "token width": (lambda: Block(16, 2)(tokens), ValueError, "(2,·4,·8) (B,·N,·16) (B,·H,·W,·16) dim"),
    "token dtype": (lambda: Block(8, 2)(tokens.long()), TypeError, "int64 float tokens.float()"),
    "size": (lambda: PatchEmbed(225, 16), ValueError, "(225,·225) patch_size=16 divides resize"),
    "width only": (lambda: PatchEmbed((224, 225), 16), ValueError, "(224,·225) 16"),
    "three sizes": (lambda: PatchEmbed((16, 224, 224), 16), ValueError, "(16,·224,·224) (H,·W)"),
    "no patch": (lambda: PatchEmbed(224, 0), ValueError, "patch_size=0"),
    "image size": (lambda: PatchEmbed(64, 8)(images), ValueError, "(32,·32) (64,·64) img_size"),
    "sides swapped": (lambda: PatchEmbed((32, 64), 8)(torch.rand(1, 3, 64, 32)), ValueError, "(64,·32) (32,·64)"),
    "channels": (lambda: PatchEmbed(32, 8, in_chans=1)(images), ValueError, "(2,·3,·32,·32) (B,·1,·H,·W) in_chans=3"),
    "channels last": (lambda: PatchEmbed(32, 8)(images.permute(0, 2, 3, 1)), ValueError, "(2,·32,·32,·3) second"),
    "uint8": (lambda: PatchEmbed(32, 8)((images * 255).byte()), TypeError, "uint8 float 255"),
    "no batch": (lambda: PatchEmbed(32, 8)(images[0]), ValueError, "(3,·32,·32) (B,·C,·H,·W) image[None]"),
    "uint8, linear": (lambda: layers.embed_patches(images.byte(), torch.rand(4, 3, 8, 8), None), TypeError, "uint8"),
    "2-D kernel": (lambda: layers.embed_patches(images, torch.rand(4, 192), None), ValueError, "(4,·192) p,·p view"),
    "oblong kernel": (lambda: layers.embed_patches(images, torch.rand(4, 3, 8, 4), None), ValueError, "(4,·3,·8,·4)"),
    "patchify size": (lambda: layers.patchify(images, 5), ValueError, "(32,·32) patch_size=5 divides"),
    "patchify rank": (lambda: layers.patchify(images[0], 8), ValueError, "(3,·32,·32) image[None]"),
    "unpatchify": (lambda: layers.unpatchify(torch.rand(1, 17, 48), 4, (4, 4)), ValueError, "(1,·17,·48) 4*4 class"),
    "patch width": (lambda: layers.unpatchify(torch.rand(1, 16, 50), 4, (4, 4)), ValueError, "(1,·16,·50) C*4*4"),
    "no patch size": (lambda: layers.unpatchify(torch.rand(1, 16, 48), 0, (4, 4)), ValueError, "(1,·16,·48) C*0*0"),
    "sincos": (lambda: layers.sincos_position((4, 4), 10), ValueError, "dim=10 4 change"),
    "empty grid": (lambda: layers.sincos_position((4, 0), 8), ValueError, "(4,·0) one"),
    "positions": (
        lambda: layers.embed_positions(tokens, q[:1, :1], q[:1]),
        ValueError,
        "(1,·4,·8) (1,·1+N,·C) position",
    ),
    "one position": (lambda: layers.embed_positions(tokens, q[:1, :1], q[:1, :1]), ValueError, "(1,·1,·8) position"),
    "1-D tokens": (lambda: layers.embed_positions(q[0, 0], q[:1, :1], q[:1]), ValueError, "tokens·(8,) (B,·N,·C)"),
    "drop rate": (lambda: DropPath(1.0), ValueError, "1.0 0·<=·rate·<·1"),
    "negative rate": (lambda: layers.drop_path(tokens, -0.1, True), ValueError, "-0.1"),
    "block's rate": (lambda: Block(8, 2, drop_path_rate=10), ValueError, "10"),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_one_clear_sentence(what):
    assert_sentence(*BAD_INPUT[what])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drop_path_drops_whole_samples_and_keeps_the_mean(rate):
    torch.manual_seed(0)
    x = torch.rand(4000, 3, 2) + 0.5
    dropped = DropPath(rate).train()(x)
    ratio = (dropped / x).flatten(1)
    assert torch.equal(ratio.eq(0).all(1), ratio.eq(0).any(1))  # a sample goes or stays as a whole
    kept = ratio[ratio[:, 0] > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)))
    assert abs(len(kept) / len(x) - (1 - rate)) < 0.04  # five standard deviations at rate 0.5


def test_drop_path_is_the_identity_in_eval_mode_and_at_rate_0():
    assert DropPath(0.5).eval()(tokens) is tokens
    assert DropPath(0.0).train()(tokens) is tokens
    block = Block(8, 2, drop_path_rate=0.5).eval()
    assert torch.equal(block(tokens), block(tokens))


def test_drop_path_in_a_block_drops_both_branches():
    torch.manual_seed(0)
    block, x = Block(8, 2, drop_path_rate=0.5).train(), tokens[:1].repeat(100, 1, 1)
    seen, one = block(x), x[:1]
    for attention in (0, 2):  # dropped, or kept and divided by the keep rate
        stream = one + attention * block.attn(block.norm1(one))
        for mlp in (0, 2):
            outcome = stream + mlp * block.mlp(block.norm2(stream))
            share = (seen - outcome).abs().amax((1, 2)).lt(1e-5).float().mean()
            assert 0.05 < share < 0.45, (attention, mlp)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtypes_go_through(dtype):
    embed, block = PatchEmbed(32, 8, embed_dim=8).to(dtype), Block(8, 2, drop_path_rate=0.2).to(dtype)
    x = embed(images.to(dtype))
    x, weights = block(x, return_weights=True)
    assert x.dtype == weights.dtype == block(x).dtype == dtype
    block(x).sum().backward()
    assert {p.grad.dtype for p in block.parameters()} == {dtype}


def test_autocast_and_an_empty_batch_go_through():
    model = nn.Sequential(PatchEmbed(32, 8, embed_dim=8), Block(8, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert model(images).shape == (2, 16, 8)
    assert model(images[:0]).shape == (0, 16, 8)


def test_another_attention_takes_its_place():
    class MyAttention(nn.Module):
        def __init__(self, dim, num_heads, qkv_bias=True):
            super().__init__()
            self.words = dim, num_heads, qkv_bias

        def forward(self, x):
            return torch.zeros_like(x)

    block = Block(8, 2, qkv_bias=False, attention=MyAttention)
    assert block.attn.words == (8, 2, False)
    torch.testing.assert_close(block(tokens), tokens + block.mlp(block.norm2(tokens)))


class MultiHeadAttention(nn.Module):
    """As the learner writes it in lesson 02."""

    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = layers.split_heads(self.qkv(x), self.num_heads)
        mixed, _ = layers.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(B, N, C))


def test_a_learners_attention_takes_its_place():
    kits, learners = Block(8, 2).double(), Block(8, 2, attention=MultiHeadAttention).double()
    learners.load_state_dict(kits.state_dict())
    torch.testing.assert_close(learners(tokens.double()), kits(tokens.double()), rtol=0, atol=1e-12)


def test_mlp_keeps_leading_dimensions():
    mlp = Mlp(8, 20)
    assert mlp.fc1.weight.shape == (20, 8) and mlp(torch.rand(2, 3, 5, 8)).shape == (2, 3, 5, 8)
    approximation = nn.functional.gelu(torch.tensor(1.0), approximate="tanh")
    assert mlp.act(torch.tensor(1.0)) != approximation


def test_every_public_name_is_there_and_documented():
    for name in layers.__all__:
        assert getattr(layers, name).__doc__, name
