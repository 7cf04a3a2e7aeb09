"""Receptive fields: by brute force, by the arithmetic of convolutions and windows, and what is refused."""

import pytest
import torch
from torch import nn

from vit_edu import create_model
from vit_edu.explain.receptive_field import effective_receptive_field, effective_receptive_fields, layers_of

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 4}
SWIN = {"img_size": 32, "patch_size": 2, "embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}
WORDS = {
    "vit_tiny_patch16_224": VIT,
    "deit_tiny_distilled_patch16_224": VIT,
    "swin_tiny_patch4_window7_224": SWIN,
    "cct_2_3x2_32": {"embed_dim": 24, "num_heads": 2},
    "resnet20": {"depths": (1, 1, 1), "width": 16},
    "vit_tiny_resnet18_224": {"img_size": 64, "depth": 1, "embed_dim": 24, "num_heads": 2},
    "mobilevit_xxs": {"img_size": 64},
}
LAYERS = {
    "vit_tiny_patch16_224": {"patch_embed": (4, 4), "blocks.0": (4, 4), "blocks.1": (4, 4)},
    "deit_tiny_distilled_patch16_224": {"patch_embed": (4, 4), "blocks.0": (4, 4), "blocks.1": (4, 4)},
    "swin_tiny_patch4_window7_224": {
        "patch_embed": (16, 16),
        **{f"layers.0.blocks.{i}": (16, 16) for i in range(2)},
        **{f"layers.1.blocks.{i}": (8, 8) for i in range(2)},
    },
    "cct_2_3x2_32": {"patch_embed": (8, 8), "blocks.0": (8, 8), "blocks.1": (8, 8)},
    "resnet20": {"layer1": (32, 32), "layer2": (16, 16), "layer3": (8, 8)},
    "vit_tiny_resnet18_224": {
        **{"layer1": (16, 16), "layer2": (8, 8), "layer3": (4, 4)},
        **{"patch_embed": (4, 4), "blocks.0": (4, 4)},
    },
    "mobilevit_xxs": {
        "stem": (32, 32),
        **{f"stages.{i}": (side, side) for i, side in enumerate((32, 16, 8, 4, 2))},
    },
}


def build(name, **words):
    torch.manual_seed(0)
    return create_model(name, **WORDS[name] | words).eval()


def images(side=32, count=1):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def box(field):
    """(top, bottom, left, right) of the pixels that reach the output."""
    rows, columns = field.nonzero().unbind(1)
    return [int(side) for side in (rows.min(), rows.max(), columns.min(), columns.max())]


class Convolutions(nn.Module):
    """Linear, so that a finite difference is the gradient."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 5, kernel_size=3, padding=1)
        self.second = nn.Conv2d(5, 4, kernel_size=3, stride=2, padding=1)

    def forward(self, x, return_intermediates=False):
        first = self.first(x)
        seen = {"first": first, "second": self.second(first)}
        return seen["second"].mean((2, 3)), seen


def test_a_stack_of_convolutions_by_brute_force():
    torch.manual_seed(0)
    model, image = Convolutions().double(), images(9).double()
    field = effective_receptive_field(model, image, "second", (1, 3))
    direction = torch.randn(4, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        before = direction @ model(image)[1]["second"][0, :, 1, 3]
        change = torch.zeros(3, 9, 9, dtype=torch.double)
        for place in torch.cartesian_prod(*map(torch.arange, (3, 9, 9))).tolist():
            nudged = image.clone()
            nudged[0][tuple(place)] += 1
            change[tuple(place)] = direction @ model(nudged)[1]["second"][0, :, 1, 3] - before
    wanted = change.abs().sum(0)
    torch.testing.assert_close(field, wanted / wanted.sum())
    assert box(field) == [0, 4, 4, 8]  # 3 + 2 * 1 pixels a side, about (2, 6)
    assert box(effective_receptive_field(model, image, "first", (0, 8))) == [0, 1, 7, 8]


@pytest.mark.parametrize("name", WORDS)
def test_every_model_says_its_layers_and_has_a_field_in_each(name):
    model, image = build(name), images(WORDS[name].get("img_size", 32))
    layers = layers_of(model, image[0])
    assert layers == LAYERS[name] and list(layers) == list(LAYERS[name])
    fields = effective_receptive_fields(model, image, {layer: [(0, 0), (1, 1)] for layer in layers})
    for layer, field in fields.items():
        assert field.shape == (2, *image.shape[-2:])
        torch.testing.assert_close(field.sum((1, 2)), torch.ones(2))
        torch.testing.assert_close(field[1], effective_receptive_field(model, image, layer, (1, 1)))


def test_the_last_norm_and_the_stages_of_swin_can_be_asked_too():
    model = build("swin_tiny_patch4_window7_224")
    stage = effective_receptive_field(model, images(), "layers.0", (3, 9))
    assert torch.equal(stage, effective_receptive_field(model, images(), "layers.0.blocks.1", (3, 9)))
    assert effective_receptive_field(model, images(), "norm", (0, 0)).sum() > 0.99  # no constant


def test_a_patch_reaches_itself_and_after_one_block_all():
    model = build("vit_tiny_patch16_224", reg_tokens=3)  # four tokens stand before the patches
    assert box(effective_receptive_field(model, images(), "patch_embed", (1, 2))) == [8, 15, 16, 23]
    field = effective_receptive_field(model, images(), "blocks.0", (1, 2))
    assert (field > 0).all()
    patches = field.view(4, 8, 4, 8).sum((1, 3))
    assert patches.argmax() == 1 * 4 + 2  # most by the way past the attention: no prefix token taken for a patch


def test_swins_first_block_reaches_its_window_and_the_shifted_one_the_windows_around():
    model = build("swin_tiny_patch4_window7_224")
    field = effective_receptive_field(model, images(), "layers.0.blocks.0", (5, 9))
    assert box(field) == [8, 15, 16, 23] and int((field > 0).sum()) == 64  # 4 × 4 tokens of 2 × 2 pixels
    field = effective_receptive_field(model, images(), "layers.0.blocks.1", (5, 9))
    assert box(field) == [0, 15, 8, 23] and int((field > 0).sum()) == 256  # a window over four windows' corners
    corner = effective_receptive_field(model, images(), "layers.0.blocks.1", (0, 0))
    assert box(corner) == [0, 7, 0, 7]  # the mask parts what the cyclic shift has brought together


def test_the_box_of_a_cnn_grows_as_the_arithmetic_says():
    model, many = build("resnet20"), images(count=8)  # together, since ReLU switches paths off
    reached, jump = 3, 1  # pixels a side after the first convolution, pixels from one output to the next
    for layer, stride, middle in (("layer1", 1, 16), ("layer2", 2, 8), ("layer3", 2, 4)):
        reached += 2 * jump  # the first convolution of the block
        jump *= stride
        reached += 2 * jump  # the second
        top, bottom, left, right = box(effective_receptive_field(model, many, layer, (middle, middle)))
        assert (top + bottom, left + right) == (32, 32)
        assert bottom - top + 1 == right - left + 1 == reached


def test_images_add_up():
    model, two = build("cct_2_3x2_32"), images(count=2)
    both = effective_receptive_field(model, two, "blocks.1", (2, 2))
    assert not torch.equal(both, effective_receptive_field(model, two[0], "blocks.1", (2, 2)))
    twice = effective_receptive_field(model, two[[0, 0]], "blocks.1", (2, 2))
    torch.testing.assert_close(twice, effective_receptive_field(model, two[0], "blocks.1", (2, 2)))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_model_and_the_image_come_back_as_they_were(mode):
    model, image = build("resnet20").train(), images()
    model.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with mode():
        first = effective_receptive_field(model, image, "layer2", (3, 3))
    assert torch.equal(first, effective_receptive_field(model.eval(), image, "layer2", (3, 3)))  # no statistics moved
    model.train().layer1.eval()
    layers_of(model, image)
    assert model.training and model.fc.training and not model.layer1.training and not model.layer1[0].bn1.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not image.requires_grad and image.grad is None


def test_the_mode_comes_back_after_an_error_too():
    model = build("resnet20").train()
    with pytest.raises(ValueError):
        effective_receptive_field(model, images(), "layer9", (0, 0))
    assert model.training and model.layer1.training


@pytest.mark.parametrize(
    "layer, position, words",
    [
        ("blocks.9", (0, 0), r"The layer is 'blocks.9'; this model has patch_embed, blocks.0, blocks.1, norm"),
        ("blocks.0.attn", (0, 0), r"The layer is 'blocks.0.attn'; this model has"),
        ("blocks.0", (4, 0), r"The position is \(4, 0\); 'blocks.0' goes from \(0, 0\) to \(3, 3\)"),
        ("blocks.0", (0, -1), r"The position is \(0, -1\)"),
    ],
)
def test_what_is_not_there_is_refused(layer, position, words):
    with pytest.raises(ValueError, match=words):
        effective_receptive_field(build("vit_tiny_patch16_224"), images(), layer, position)


def test_weights_that_are_no_numbers_are_refused():
    model = build("vit_tiny_patch16_224")
    nn.init.constant_(model.blocks[1].mlp.fc1.weight, float("nan"))
    assert effective_receptive_field(model, images(), "blocks.0", (0, 0)).sum() > 0.99
    with pytest.raises(ValueError, match=r"gradients of 'blocks.1' are not all finite"):
        effective_receptive_field(model, images(), "blocks.1", (0, 0))


def test_what_has_died_has_no_field():
    model = build("resnet20")
    nn.init.constant_(model.layer1[0].bn2.bias, -1e6)  # ReLU lets nothing through
    assert not effective_receptive_field(model, images(), "layer1", (3, 3)).any()


@pytest.mark.parametrize("model", [nn.Conv2d(3, 4, 3), nn.Sequential(nn.Flatten())])
def test_a_model_without_intermediates_is_refused(model):
    with pytest.raises(TypeError, match="wanted one that answers"):
        layers_of(model, images())


def test_a_model_that_masks_is_refused():
    from vit_edu.models.mae import MAE

    model = MAE(build("vit_tiny_patch16_224"), decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=1)
    with pytest.raises(ValueError, match=r"A MAE shows no map of the whole image.*model.encoder"):
        layers_of(model, images())
