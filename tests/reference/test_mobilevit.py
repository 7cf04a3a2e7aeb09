"""MobileViT against timm's and transformers': names, outputs, gradients, statistics, attention; offsets by hand."""

import re

import pytest
import timm
import torch
from timm.models.byobnet import ByobNet, ByoModelCfg
from timm.models.mobilevit import _inverted_residual_block, _mobilevit_block
from transformers import MobileViTConfig, MobileViTForImageClassification

from tests.reference.compare import assert_equal, normal
from tests.reference.twins import assert_twins, copy_weights, count, settled
from vit_edu import models
from vit_edu.models import MobileViT
from vit_edu.models.mobilevit import MobileViTBlock, join_offsets, split_offsets

SMALL = {"widths": (8, 8, 16, 24, 16), "dims": (8, 12, 16), "num_classes": 5}


def timms(widths, dims, num_classes, expand_ratio=2, patch_size=2, in_chans=3):
    """timm's network of other widths: its depths and strides, as in mobilevit_xxs."""
    words = {"patch_size": patch_size, "br": expand_ratio}
    blocks = [
        _inverted_residual_block(d=1, c=widths[0], s=1, br=expand_ratio),
        _inverted_residual_block(d=3, c=widths[1], s=2, br=expand_ratio),
    ]
    for width, dim, depth in zip(widths[2:], dims, (2, 4, 3)):
        blocks.append(_mobilevit_block(d=1, c=width, s=2, transformer_dim=dim, transformer_depth=depth, **words))
    stem = {"stem_chs": 16, "stem_type": "3x3", "stem_pool": ""}
    config = ByoModelCfg(tuple(blocks), **stem, downsample="", act_layer="silu", num_features=4 * widths[-1])
    return ByobNet(config, num_classes=num_classes, in_chans=in_chans)


CASES = {  # what -> (words, image size, batch)
    "native": ({}, (64, 64), 3),
    "one image": ({}, (64, 64), 1),
    "not square": ({}, (64, 128), 2),
    "odd": ({}, (70, 99), 2),
    "smaller than a patch": ({}, (33, 31), 3),
    "one pixel left": ({"patch_size": 3}, (20, 50), 3),
    "patches of three": ({"patch_size": 3}, (96, 70), 2),
    "single pixels": ({"patch_size": 1}, (50, 64), 2),
    "one channel, expanded more": ({"in_chans": 1, "expand_ratio": 4}, (64, 40), 2),
    "features": ({"num_classes": 0}, (64, 64), 2),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("case", CASES)
def test_mobilevit_is_timms(case, mode):
    words, size, batch = CASES[case]
    words = SMALL | words
    images = normal(batch, words.get("in_chans", 3), *size, grad=False)
    theirs, ours = settled(timms(**words), images), MobileViT(**words)
    copy_weights(ours, theirs)
    ours.train(mode == "train"), theirs.train(mode == "train")
    assert_twins(ours, theirs, images, tolerance=1e-9 if size == (33, 31) else 1e-10)


@pytest.mark.parametrize(
    ("name", "parameters"), [("mobilevit_xxs", 1_272_024), ("mobilevit_xs", 2_317_848), ("mobilevit_s", 5_578_632)]
)
def test_published_configurations(name, parameters):
    with torch.device("meta"):
        ours, theirs = models.create_model(name), timm.create_model(name)
    assert [(n, value.shape) for n, value in ours.state_dict().items()] == [
        (n, value.shape) for n, value in theirs.state_dict().items()
    ]
    assert count(ours) == parameters
    assert [block.residual for block in ours.modules() if hasattr(block, "residual")] == [
        block.shortcut is not None for block in theirs.modules() if hasattr(block, "shortcut")
    ]
    heads = [module.num_heads for n, module in theirs.named_modules() if n.endswith(".attn") and "transformer" in n]
    assert [block.attn.num_heads for block in ours.modules() if hasattr(block, "attn")] == heads


@pytest.mark.parametrize(
    ("size", "dtype", "tolerance"), [((256, 256), torch.float32, 1e-5), ((96, 72), torch.float64, 1e-10)]
)
def test_published_mobilevit_xxs(size, dtype, tolerance):
    images = normal(1, 3, *size, grad=False)
    theirs = settled(timm.create_model("mobilevit_xxs"), images[:, :, :64, :64]).eval().to(dtype)
    ours = models.create_model("mobilevit_xxs").eval()
    copy_weights(ours, theirs)
    with torch.no_grad():
        assert_equal(ours(images.to(dtype)), theirs(images.to(dtype)), tolerance=tolerance)


NAMES = {  # transformers' -> ours
    r"^mobilevit\.conv_stem": "stem",
    r"^mobilevit\.conv_1x1_exp": "final_conv",
    r"^classifier": "head.fc",
    r"^mobilevit\.encoder\.layer\.(\d)\.layer\.(\d)": r"stages.\1.\2",
    r"^mobilevit\.encoder\.layer\.(\d)\.downsampling_layer": r"stages.\1.0",
    r"^mobilevit\.encoder\.layer\.(\d)": r"stages.\1.1",
    r"conv_1x1\.convolution": "conv_1x1",
    "convolution": "conv",
    "normalization": "bn",
    "expand_1x1": "conv1_1x1",
    "conv_3x3": "conv2_kxk",
    "reduce_1x1": "conv3_1x1",
    r"\.layernorm\.": ".norm.",
    "conv_projection": "conv_proj",
    "fusion": "conv_fusion",
    r"transformer\.layer": "transformer",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    r"attention\.attention": "attn",
    r"attention\.output\.dense": "attn.proj",
    r"intermediate\.dense": "mlp.fc1",
    r"output\.dense": "mlp.fc2",
}


@pytest.mark.parametrize("size", [(64, 64), (50, 70)])
def test_mobilevit_is_transformers(size):
    images = normal(2, 3, *size, grad=False)
    neck, drops = [16, *SMALL["widths"], 64], {"hidden_dropout_prob": 0.0, "classifier_dropout_prob": 0.0}
    words = {"hidden_sizes": list(SMALL["dims"]), "neck_hidden_sizes": neck, "expand_ratio": 2.0, "num_labels": 5}
    theirs = MobileViTForImageClassification(MobileViTConfig(**words, **drops))
    theirs = settled(theirs, images).eval()
    state = {}
    for name, value in theirs.state_dict().items():
        for pattern, replacement in NAMES.items():
            name = re.sub(pattern, replacement, name)
        state[name] = value
    for name in [name for name in state if "attn.query" in name]:
        parts = [state.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        state[name.replace("query", "qkv")] = torch.cat(parts)
    ours = MobileViT(**SMALL).double().eval()
    ours.load_state_dict(state)
    with torch.no_grad():
        assert_equal(ours(images), theirs(images).logits, tolerance=1e-10)


def test_intermediates():
    images = normal(2, 3, 64, 96, grad=False)
    theirs, ours = settled(timms(**SMALL), images).eval(), MobileViT(**SMALL).eval()
    copy_weights(ours, theirs)
    weights, tokens, maps = {}, {}, {}
    for name, module in theirs.named_modules():
        if name.endswith("attn_drop"):
            module.register_forward_hook(lambda module, args, out, name=name: weights.update({name[:-10]: out}))
        elif re.fullmatch(r"stages.\d.1.transformer.\d", name):
            module.register_forward_hook(lambda module, args, out, name=name: tokens.update({name: out}))
        elif re.fullmatch(r"stages.\d|stem", name):
            module.register_forward_hook(lambda module, args, out, name=name: maps.update({name: out}))
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    theirs(images)
    logits, seen = ours(images, return_intermediates=True)
    assert_equal(logits, ours(images), "with and without intermediates")
    blocks = [f"stages.{i}.1.transformer.{k}" for i, depth in ((2, 2), (3, 4), (4, 3)) for k in range(depth)]
    assert set(seen) == {*maps, *tokens, *(f"{name}.attn" for name in blocks)} and set(tokens) == set(blocks)
    for name, expected in maps.items():
        assert_equal(seen[name], expected, name)
    for name in blocks:
        assert_equal(seen[f"{name}.attn"].flatten(0, 1), weights[f"{name}.attn"], f"{name}.attn", 1e-10)
        assert_equal(seen[name].flatten(0, 1), tokens[name], name, 1e-10)
    assert seen["stages.2.1.transformer.0.attn"].shape == (2, 4, 4, 24, 24)  # (B, P, h, N, N): 8 x 12 pixels
    assert seen["stages.2.1.transformer.0"].shape == (2, 4, 24, 8)  # (B, P, N, C)


@pytest.mark.parametrize(("p", "rows", "columns"), [(2, 3, 5), (3, 2, 1), (1, 4, 3)])
def test_a_sequence_holds_the_pixels_at_one_offset(p, rows, columns):
    x = normal(2, 4, rows * p, columns * p, grad=False)
    sequences = split_offsets(x, p)
    for y in range(p):
        for z in range(p):
            at_offset = sequences.unflatten(0, (2, p * p))[:, y * p + z]  # (B, N, C)
            assert torch.equal(at_offset, x[:, :, y::p, z::p].flatten(2).mT)
    assert torch.equal(join_offsets(sequences, p, rows), x)


def test_a_pixel_hears_of_its_offset_and_of_its_neighbourhood():
    """With convolutions that look at one pixel only, what a pixel depends on is its own offset: every other pixel."""
    block = MobileViTBlock(4, 8, depth=1, num_heads=2, patch_size=2, attention=models.mobilevit.Attention)
    block = settled(block, normal(2, 4, 6, 8, grad=False)).eval()
    for conv in (block.conv_kxk.conv, block.conv_fusion.conv):
        centre = torch.zeros(3, 3, dtype=torch.float64)
        centre[1, 1] = 1
        conv.weight.data *= centre
    x = normal(1, 4, 6, 8)
    (gradient,) = torch.autograd.grad(block(x)[0, :, 3, 4].square().sum(), x)
    heard = torch.zeros(6, 8, dtype=torch.bool)
    heard[1::2, 0::2] = True
    assert torch.equal(gradient[0].abs().sum(0) > 0, heard)
