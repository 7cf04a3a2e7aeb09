"""CCT against vit_pytorch's, which loads its authors' weights: names, outputs, gradients, attention."""

import re

import pytest
import torch
from torch import nn
from vit_pytorch import cct as vit_pytorch

from tests.reference.compare import assert_equal, normal
from tests.reference.twins import assert_twins, copy_weights, count, randomised
from vit_edu import models
from vit_edu.layers import resize_positions
from vit_edu.models import CCT

NAMES = {  # vit_pytorch's -> ours
    r"tokenizer\.conv_layers\.(\d+)\.0": r"patch_embed.conv_layers.\1",
    r"classifier\.": "",
    "positional_emb": "pos_embed",
    r"\.norm1": ".norm2",
    "pre_norm": "norm1",
    "self_attn": "attn",
    r"linear(\d)": r"mlp.fc\1",
    r"^fc": "head",
}
WORDS = {"embed_dim": "embedding_dim", "depth": "num_layers", "in_chans": "n_input_channels"}
SMALL = {"img_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0, "num_classes": 5}


def rename(name):
    for theirs, ours in NAMES.items():
        name = re.sub(theirs, ours, name)
    return name


def theirs_of(pos_embed="learn", **words):
    """vit_pytorch's CCT with no drops; strides and padding as in its authors' cct_7 and the others."""
    words = {WORDS.get(name, name): value for name, value in words.items()}
    kernel_size = words.setdefault("kernel_size", 3)
    words |= {"stride": max(1, kernel_size // 2 - 1), "padding": max(1, kernel_size // 2)}
    words |= {"stochastic_depth_rate": 0.0, "attention_dropout": 0.0, "dropout_rate": 0.0}
    kind = {"learn": "learnable", "none": "none"}[pos_embed]
    return vit_pytorch.CCT(**words, positional_embedding=kind)


CASES = {  # what -> (words, batch)
    "3x1": ({}, 3),
    "one image": ({}, 1),
    "3x2": ({"n_conv_layers": 2}, 2),
    "3x3, not square": ({"n_conv_layers": 3, "img_size": (24, 40)}, 1),
    "7x2, not square": ({"kernel_size": 7, "n_conv_layers": 2, "img_size": (56, 40)}, 2),
    "7x1, odd": ({"kernel_size": 7, "img_size": (31, 17)}, 3),
    "5x2, odd": ({"kernel_size": 5, "n_conv_layers": 2, "img_size": (13, 22)}, 1),
    "1x1, even kernel": ({"kernel_size": 4, "img_size": (9, 14)}, 1),
    "kernel 1": ({"kernel_size": 1, "img_size": (9, 6)}, 2),
    "one token": ({"img_size": (1, 2)}, 2),
    "no positions": ({"pos_embed": "none"}, 2),
    "one channel": ({"in_chans": 1, "n_conv_layers": 2}, 2),
    "wider": ({"num_heads": 3, "embed_dim": 24, "mlp_ratio": 3.0, "depth": 3}, 2),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("case", CASES)
def test_cct_is_vit_pytorchs(case, mode):
    words, batch = CASES[case]
    words = SMALL | words
    theirs, ours = randomised(theirs_of(**words)), CCT(**words)
    copy_weights(ours, theirs, rename)
    ours.train(mode == "train"), theirs.train(mode == "train")
    size = words["img_size"] if isinstance(words["img_size"], tuple) else (words["img_size"],) * 2
    assert_twins(ours, theirs, normal(batch, words.get("in_chans", 3), *size, grad=False), rename)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cct_2_3x2_32", 283_723),
        ("cct_4_3x2_32", 482_123),
        ("cct_6_3x1_32", 3_233_803),
        ("cct_7_3x1_32", 3_760_139),
        ("cct_7_3x2_32", 3_853_259),
        ("cct_7_7x2_224", 4_573_735),
        ("cct_14_7x2_224", 22_367_273),
    ],
)
def test_published_configurations(name, parameters):
    depth, kernel_size, layers, size = map(int, re.fullmatch(r"cct_(\d+)_(\d)x(\d)_(\d+)", name).groups())
    with torch.device("meta"):
        ours = models.create_model(name)
    builder = getattr(vit_pytorch, f"cct_{depth}")
    words = {"img_size": size, "kernel_size": kernel_size, "n_conv_layers": layers, "num_classes": ours.num_classes}
    theirs = builder(positional_embedding="learnable", **words)
    shapes = {rename(name): value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == shapes
    assert count(ours) == parameters
    assert [block.attn.num_heads for block in ours.blocks] == [
        block.self_attn.heads for block in theirs.classifier.blocks
    ]
    convs = [(conv[0].kernel_size, conv[0].stride, conv[0].padding) for conv in theirs.tokenizer.conv_layers]
    assert [(conv.kernel_size, conv.stride, conv.padding) for conv in ours.patch_embed.conv_layers] == convs


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_published_cct_7_3x1_32(dtype, tolerance):
    theirs = vit_pytorch.cct_7(img_size=32, kernel_size=3, n_conv_layers=1, num_classes=10)  # with its sine positions
    ours = models.create_model("cct_7_3x1_32")
    copy_weights(ours, randomised(theirs).to(dtype), rename)
    images = normal(2, 3, 32, 32, grad=False).to(dtype)
    with torch.no_grad():
        assert_equal(ours.eval()(images), theirs.eval()(images), tolerance=tolerance)


def test_intermediates():
    theirs, ours = randomised(theirs_of(**SMALL)).eval(), CCT(**SMALL)
    copy_weights(ours, theirs, rename)
    weights, tokens = [], []
    for block in theirs.classifier.blocks:
        block.self_attn.attn_drop.register_forward_hook(lambda module, args, out: weights.append(out))
        block.register_forward_hook(lambda module, args, out: tokens.append(out))
    images = normal(2, 3, 16, 16)
    logits, seen = ours.eval()(images, return_intermediates=True)
    assert_equal(logits, theirs(images * 1), tolerance=1e-10)
    assert_equal(logits, ours(images), "with and without intermediates")
    names = ["patch_embed", "blocks.0.attn", "blocks.0", "blocks.1.attn", "blocks.1", "norm"]
    assert list(seen) == names
    assert_equal(seen["patch_embed"], theirs.tokenizer(images), "tokens")
    for i in range(2):
        assert_equal(seen[f"blocks.{i}.attn"], weights[i], "attention", 1e-10)  # (B, h, N, N)
        assert_equal(seen[f"blocks.{i}"], tokens[i], "blocks", 1e-10)
    share = ours.attention_pool(seen["norm"]).softmax(dim=1)
    assert_equal(share.sum(1), torch.ones(2, 1).double(), "shares")
    assert_equal(ours.head((share * seen["norm"]).sum(1)), logits, "pooled by hand", 1e-10)


def test_another_size_resizes_the_positions():
    model = randomised(CCT(**SMALL, dynamic_img_size=True)).eval()
    other = CCT(**SMALL | {"img_size": (24, 11)}).double().eval()
    positions = resize_positions(model.pos_embed.detach(), (8, 8), (12, 6))
    other.load_state_dict(model.state_dict() | {"pos_embed": positions})
    images = normal(2, 3, 24, 11, grad=False)
    assert_equal(model(images), other(images))


def test_features_are_what_the_head_reads():
    model = randomised(CCT(**SMALL)).eval()
    features = CCT(**SMALL | {"num_classes": 0}).double().eval()
    features.load_state_dict({name: value for name, value in model.state_dict().items() if "head" not in name})
    images = normal(2, 3, 16, 16, grad=False)
    assert features(images).shape == (2, model.embed_dim)
    assert_equal(model.head(features(images)), model(images))


def test_weights_start_as_its_authors():
    ours, theirs = (
        models.create_model("cct_7_3x1_32"),
        theirs_of(img_size=32, embed_dim=256, num_heads=4, num_classes=10),
    )
    for module, reference in [
        (ours.patch_embed.conv_layers[0], theirs.tokenizer.conv_layers[0][0]),
        (ours.blocks[0].attn.qkv, theirs.classifier.blocks[0].self_attn.qkv),
        (ours.attention_pool, theirs.classifier.attention_pool),
    ]:
        assert abs(module.weight.std() / reference.weight.std() - 1) < 0.2
    assert ours.attention_pool.bias == 0 and isinstance(ours.norm, nn.LayerNorm)
