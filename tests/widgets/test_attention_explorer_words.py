"""AttentionExplorer without a browser: what it refuses, its words, its picture, and what Python may choose."""

import pytest
import torch
import traitlets
from torch import nn

from tests.widgets.test_attention_explorer import IMAGE, MAPS, VIT, swin, vit
from vit_edu.explain import AttentionMap, attention_distance, attention_entropy, attention_maps, rollout
from vit_edu.models import create_model
from vit_edu.widgets import AttentionExplorer, attention_explorer


def broken():
    model = vit()
    with torch.no_grad():
        model.blocks[1].attn.qkv.weight[0, 0] = torch.nan
    return model


def one_map(*shape, grid_size=(3, 5), prefix=0):
    return AttentionMap("mine", torch.rand(*shape), grid_size, prefix)


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: AttentionExplorer("dino", IMAGE), TypeError, "model is a str; wanted a model with weights"),
        (
            lambda: AttentionExplorer(create_model("resnet20"), IMAGE),
            ValueError,
            "a ResNet, which has no attention, found",
        ),
        (lambda: AttentionExplorer(nn.ReLU(), IMAGE), TypeError, "model is a ReLU; wanted a model with weights"),
        (lambda: AttentionExplorer(VIT, IMAGE[None]), ValueError, r"batch: pass one picture of it, images\[0\]"),
        (lambda: AttentionExplorer(VIT, IMAGE / 0.0), ValueError, "image holds NaN or infinity"),
        (lambda: AttentionExplorer(VIT, torch.zeros(3, 16, 2048)), ValueError, "wanted at most 1024 a side"),
        (lambda: AttentionExplorer(VIT, IMAGE[:, :16]), ValueError, r"\(24, 40\)"),
        (lambda: AttentionExplorer(nn.Linear(2, 2), IMAGE), TypeError, "is a Linear; wanted one that answers"),
        (lambda: AttentionExplorer(VIT, IMAGE, IMAGE), TypeError, "inputs of torch.uint8 found, wanted a float dtype"),
        (lambda: AttentionExplorer(VIT, IMAGE, [1]), TypeError, "inputs is a list; wanted a float tensor"),
        (lambda: AttentionExplorer(VIT, IMAGE, IMAGE[None] / 255), ValueError, r"inputs has .* pass one image"),
        (lambda: AttentionExplorer(VIT, IMAGE[:, :, :24], IMAGE / 255), ValueError, "the same proportions"),
        (lambda: AttentionExplorer(VIT, IMAGE, IMAGE / 0.0), ValueError, "of blocks.0 are not finite"),
        (lambda: AttentionExplorer(broken(), IMAGE), ValueError, "of blocks.1 are not finite; wanted numbers"),
        (lambda: AttentionExplorer([], IMAGE), TypeError, "holds nothing; wanted a model, or an AttentionMap for each"),
        (lambda: AttentionExplorer([torch.ones(2, 2)], IMAGE), TypeError, "holds Tensor; wanted a model, or an Atten"),
        (lambda: AttentionExplorer([one_map(1, 2, 15, 15)], IMAGE, IMAGE / 255), TypeError, "leave inputs out"),
        (lambda: AttentionExplorer([one_map(15, 15)], IMAGE), ValueError, r"\(15, 15\).* wanted \(1, h, 15, 15\)"),
        (lambda: AttentionExplorer([one_map(1, 2, 16, 16)], IMAGE), ValueError, r"16\); for 3 × 5 .* \(1, h, 15, 15\)"),
        (
            lambda: AttentionExplorer([one_map(1, 2, 15, 15), one_map(1, 2, 16, 16, prefix=1)], IMAGE),
            ValueError,
            "prefix 1, mine 0; wanted the same",
        ),
    ],
)
def test_what_it_cannot_show_gets_a_sentence(build, error, words):
    with pytest.raises(error, match=words) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_too_many_weights_get_a_sentence(monkeypatch):
    monkeypatch.setattr(attention_explorer, "MOST_NUMBERS", 2000)
    with pytest.raises(ValueError, match=r"are 2,304 attention weights for this image; wanted at most 2,000: take"):
        AttentionExplorer(VIT, IMAGE)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"layer": 3}, "layer is 3; wanted a number from 0 to 2"),
        ({"head": 3}, r"head is 3; wanted a number from 0 to 2 \(layer 2\)"),
        ({"query": 15}, r"query is 15; wanted a number from -1 to 14 \(layer 2\)"),
        ({"query": -2}, "query is -2; wanted a number from -1"),
        ({"shown": "all"}, "all"),
    ],
)
def test_a_choice_that_is_none_is_refused(values, words):
    explorer = AttentionExplorer(VIT, IMAGE)
    for name, value in values.items():
        with pytest.raises(traitlets.TraitError, match=words):
            setattr(explorer, name, value)


def test_words_and_picture_follow():
    explorer = AttentionExplorer(VIT, IMAGE)
    explorer.layer, explorer.head, explorer.query = 1, 2, 3
    weights = MAPS[1].weights[:, 2:3]
    best = int(weights[0, 0, 4, 1:].argmax())
    distance = attention_distance(weights, (3, 5), 8, prefix=1).item()
    assert explorer.sentence() == (
        f"Attention, layer 1, head 2: patch 3 (row 0, column 3) looks most at patch {best} (row {best // 5}, column "
        f"{best % 5}), weight {weights[0, 0, 4, 1 + best].half():.4f}. This head's mean distance is {distance:.1f} "
        f"pixels, its entropy {attention_entropy(weights).item():.2f} bits."
    )
    before = explorer.picture()
    row, column = divmod(best, 5)
    height, width = before.height / 3, before.width / 5
    brightest = before.getpixel((int((column + 0.5) * width), int((row + 0.5) * height)))
    assert brightest[0] > 120 and brightest[1] > 120 > brightest[2]  # yellow over grey
    explorer.shown, explorer.query = "rollout", -1
    assert explorer.sentence().startswith("Attention, rollout of layers 0 to 1: the class token comes most from patch")
    torch.testing.assert_close(explorer.row(), rollout(MAPS[:2])[0, 0], atol=1e-3, rtol=1e-2)
    assert explorer.picture().tobytes() != before.tobytes()


def test_another_layer_keeps_head_and_query_inside():
    explorer = AttentionExplorer(swin(), IMAGE)
    explorer.layer, explorer.query = 0, 59
    explorer.layer, explorer.head = 3, 3
    assert (explorer.layer, explorer.head, explorer.query) == (3, 3, 14)
    explorer.layer = 1
    assert explorer.head == 1 and explorer.sentence() and explorer.row().shape == (60,)


def test_inputs_may_be_of_another_size_than_the_picture():
    inputs = torch.rand(3, 24, 40)
    explorer = AttentionExplorer(VIT, IMAGE.repeat_interleave(2, 1).repeat_interleave(2, 2), inputs)
    assert explorer.shape == (3, 48, 80) and explorer.size == (24, 40)
    torch.testing.assert_close(
        explorer.row(), attention_maps(VIT, inputs[None])[2].weights[0, 0, 8], atol=1e-3, rtol=1e-3
    )


def test_attention_of_ones_own_is_shown_like_a_models():
    theirs, mine = AttentionExplorer(VIT, IMAGE), AttentionExplorer(MAPS, IMAGE)
    for name in ("weights", "layers", "prefix", "size", "query", "layer"):
        assert getattr(mine, name) == getattr(theirs, name)
    patches = torch.rand(1, 1, 15, 15, dtype=torch.float64, requires_grad=True).softmax(dim=-1)
    alone = AttentionExplorer([AttentionMap("mine", patches, (3, 5))], IMAGE)
    alone.query = 14
    torch.testing.assert_close(alone.row(), patches[0, 0, 14].float().detach(), atol=1e-3, rtol=1e-3)
    assert alone.prefix == () or alone.prefix == []
