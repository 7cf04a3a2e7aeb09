"""ResNet + ViT against timm's ViT with its HybridEmbed over torchvision's ResNet: outputs, gradients, statistics."""

from functools import partial

import pytest
import torch
import torchvision
from timm.layers import HybridEmbed
from timm.models.vision_transformer import VisionTransformer
from torchvision.models.feature_extraction import create_feature_extractor

from tests.reference.compare import assert_equal, normal
from tests.reference.twins import assert_twins, copy_weights, count, randomised, settled
from vit_edu import models
from vit_edu.layers import resize_positions
from vit_edu.models import HybridViT

SMALL = {"img_size": 32, "stages": 1, "embed_dim": 24, "depth": 1, "num_heads": 3, "num_classes": 5}


def cut(name, stages, in_chans):
    """torchvision's ResNet as it is, but for what follows its stage, and for one channel."""
    net = getattr(torchvision.models, name)(weights=None)
    layers = [net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4][: 4 + stages]
    for unused in [*["layer1", "layer2", "layer3", "layer4"][stages:], "avgpool", "fc"]:
        delattr(net, unused)
    if in_chans != 3:
        layers[0] = net.conv1 = torch.nn.Conv2d(in_chans, 64, 7, 2, 3, bias=False)
    net.forward = torch.nn.Sequential(*layers).forward
    return net


def timms(backbone="resnet18", stages=3, **words):
    embed_layer = partial(HybridEmbed, cut(backbone, stages, words.get("in_chans", 3)))
    return VisionTransformer(**{"patch_size": 1} | words, embed_layer=embed_layer)


CASES = {  # what -> (words, image size, batch)
    "one stage": ({}, (32, 32), 3),
    "one image": ({}, (32, 32), 1),
    "not square": ({"stages": 2, "img_size": (24, 40)}, (24, 40), 2),
    "rounded up": ({"stages": 3, "img_size": (33, 47)}, (33, 47), 2),
    "four stages": ({"stages": 4, "img_size": (65, 32)}, (65, 32), 2),
    "resnet34": ({"stages": 2, "backbone": "resnet34", "img_size": (17, 24)}, (17, 24), 2),
    "resnet50": ({"stages": 2, "backbone": "resnet50", "img_size": 24}, (24, 24), 2),
    "patches of the map": ({"patch_size": 2, "img_size": (16, 29)}, (16, 29), 2),
    "one channel": ({"in_chans": 1, "img_size": 28}, (28, 28), 2),
    "average": ({"img_size": 16, "global_pool": "avg", "class_token": False}, (16, 16), 2),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("case", CASES)
def test_hybrid_is_timms_over_torchvisions(case, mode):
    words, size, batch = CASES[case]
    words = SMALL | words
    images = normal(batch, words.get("in_chans", 3), *size, grad=False)
    theirs, ours = settled(timms(**words), images), HybridViT(**words)
    copy_weights(ours, theirs)
    ours.train(mode == "train"), theirs.train(mode == "train")
    assert_twins(ours, theirs, images)


@pytest.mark.parametrize(
    ("name", "backbone", "dim", "parameters"),
    [
        ("vit_tiny_resnet18_224", "resnet18", 192, 8_401_896),
        ("vit_small_resnet50_224", "resnet50", 384, 30_692_264),
    ],
)
def test_named_models(name, backbone, dim, parameters):
    with torch.device("meta"):
        ours = models.create_model(name)
        theirs = timms(backbone, embed_dim=dim, num_heads=dim // 64)
    assert ours.patch_embed.grid_size == theirs.patch_embed.grid_size == (14, 14)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    assert count(ours) == count(theirs) == parameters


def test_vit_tiny_resnet18_in_float32():
    words = {"img_size": 64, "num_classes": 10, "depth": 3}
    images = normal(2, 3, 64, 64, grad=False).float()
    theirs = settled(timms(embed_dim=192, num_heads=3, **words), images).float().eval()
    ours = models.create_model("vit_tiny_resnet18_224", **words).eval()
    copy_weights(ours, theirs)
    with torch.no_grad():
        assert_equal(ours(images), theirs(images), tolerance=1e-5)


@pytest.mark.parametrize(("backbone", "stages"), [("resnet18", 3), ("resnet50", 4)])
def test_torchvisions_weights_fit_the_backbone(backbone, stages):
    published = getattr(torchvision.models, backbone)(weights=None).double().eval()
    model = HybridViT(**SMALL | {"backbone": backbone, "stages": stages}).double()
    names = model.patch_embed.backbone.state_dict()
    unused = [name for name in published.state_dict() if name not in names]
    assert all(name.startswith(("layer4", "fc") if stages == 3 else "fc") for name in unused)
    model.patch_embed.backbone.load_state_dict({name: published.state_dict()[name] for name in names})
    layers = [f"layer{i + 1}" for i in range(stages)]
    images = normal(2, 3, 32, 32, grad=False)
    _, seen = model.eval()(images, return_intermediates=True)
    for name, expected in create_feature_extractor(published, layers)(images).items():
        assert_equal(seen[name], expected, name)


def test_intermediates():
    images = normal(2, 3, 32, 32, grad=False)
    model = settled(HybridViT(**SMALL | {"stages": 2}), images).eval()
    logits, seen = model(images, return_intermediates=True)
    assert {name: tuple(x.shape) for name, x in seen.items()} == {
        "layer1": (2, 64, 8, 8),
        "layer2": (2, 128, 4, 4),
        "patch_embed": (2, 16, 24),
        "blocks.0.attn": (2, 3, 17, 17),
        "blocks.0": (2, 17, 24),
        "norm": (2, 17, 24),
    }
    assert_equal(logits, model(images), "with and without intermediates")
    assert_equal(model.patch_embed.proj(seen["layer2"]).flatten(2).mT, seen["patch_embed"], "nothing overwrote the map")


def test_another_size_resizes_the_positions():
    model = randomised(HybridViT(**SMALL, dynamic_img_size=True)).eval()
    other = HybridViT(**SMALL | {"img_size": (30, 41)}).double().eval()
    positions = resize_positions(model.pos_embed.detach(), (8, 8), (8, 11))
    other.load_state_dict(model.state_dict() | {"pos_embed": positions})
    images = normal(2, 3, 30, 41, grad=False)
    assert_equal(model(images), other(images))


def test_the_backbone_starts_as_torchvisions():
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    torch.manual_seed(0)
    ours = HybridViT(**SMALL | {"stages": 4}).patch_embed.backbone.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    one_channel = HybridViT(**SMALL, in_chans=1).patch_embed.backbone.conv1.weight
    assert abs(one_channel.std() / theirs["conv1.weight"].std() - 1) < 0.05
