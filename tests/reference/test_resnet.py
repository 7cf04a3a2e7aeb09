"""The ResNet for small images against one built of torchvision's ResNet and BasicBlock."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from tests.reference.compare import normal
from tests.reference.twins import assert_twins, copy_weights, count, settled
from vit_edu import models


def torchvisions(depths=(3, 3, 3), width=16, in_chans=3, num_classes=10):
    """torchvision's ResNet with the stem and the stages of section 4.2, and its own forward."""
    net = ResNet(BasicBlock, [1, 1, 1, 1])
    net.conv1, net.bn1 = nn.Conv2d(in_chans, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
    net.maxpool = net.layer4 = nn.Identity()
    net.inplanes = width
    for i, depth in enumerate(depths):
        setattr(net, f"layer{i + 1}", net._make_layer(BasicBlock, width * 2**i, depth, stride=min(i + 1, 2)))
    net.fc = nn.Linear(width * 2 ** (len(depths) - 1), num_classes) if num_classes else nn.Identity()
    return net


CASES = {  # what -> (words, image size, batch)
    "native": ({}, (32, 32), 3),
    "one image": ({"depths": (1, 2, 1)}, (32, 32), 1),
    "wide and odd": ({"depths": (2, 1, 1), "width": 5}, (17, 29), 3),
    "one pixel left": ({"depths": (1, 1, 1), "width": 4}, (3, 4), 3),
    "one channel, features": ({"depths": (1, 1, 1), "width": 4, "in_chans": 1, "num_classes": 0}, (12, 8), 2),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("case", CASES)
def test_resnet_is_built_of_torchvisions_blocks(case, mode):
    words, size, batch = CASES[case]
    images = normal(batch, words.get("in_chans", 3), *size, grad=False)
    theirs = settled(torchvisions(**words), images)
    ours = models.ResNet(**words)
    copy_weights(ours, theirs)
    ours.train(mode == "train"), theirs.train(mode == "train")
    assert_twins(ours, theirs, images)


def test_float32():
    images = normal(2, 3, 32, 32, grad=False)
    theirs = settled(torchvisions(), images).float().eval()
    ours = models.create_model("resnet20")
    copy_weights(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images.float()), theirs(images.float()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters"),  # the paper's 0.27, 0.46, 0.66 and 0.85 million, and 2,752 in projections
    [("resnet20", 272_474), ("resnet32", 466_906), ("resnet44", 661_338), ("resnet56", 855_770)],
)
def test_parameters_are_the_papers_with_projections(name, parameters):
    with torch.device("meta"):
        ours = models.create_model(name)
        depth = models.resnet.MODELS[name]["depths"][0]
        assert count(ours) == count(torchvisions((depth,) * 3)) == parameters
    assert round((parameters - 2752) / 1e6, 2) in (0.27, 0.46, 0.66, 0.85)


@pytest.mark.parametrize(
    ("transformer", "words", "width"), [("cct_7_3x1_32", {}, 60), ("vit_tiny_patch16_224", {"patch_size": 4}, 71)]
)
def test_a_width_makes_it_equal_in_size_to_a_transformer(transformer, words, width):
    with torch.device("meta"):
        size = count(models.create_model(transformer, img_size=32, num_classes=10, **words))
        assert abs(count(models.create_model("resnet20", width=width)) / size - 1) < 0.02


def test_intermediates_are_the_stages_maps():
    model, images = models.ResNet(depths=(1, 2, 1), width=4).eval(), torch.rand(2, 3, 16, 20)
    logits, seen = model(images, return_intermediates=True)
    shapes = {name: tuple(x.shape) for name, x in seen.items()}
    assert shapes == {"layer1": (2, 4, 16, 20), "layer2": (2, 8, 8, 10), "layer3": (2, 16, 4, 5)}
    assert torch.equal(logits, model(images))
    torch.testing.assert_close(model.fc(seen["layer3"].mean((2, 3))), logits)
    torch.testing.assert_close(model.layer2(seen["layer1"]), seen["layer2"])  # nothing overwrote what was seen


def test_weights_start_as_hes():
    weight = models.ResNet(width=64).layer3[0].conv1.weight  # (256, 128, 3, 3)
    assert abs(weight.std() / (2 / (9 * 256)) ** 0.5 - 1) < 0.01
