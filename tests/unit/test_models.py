"""Every model's face: names, words, intermediates, dtypes, copies, compile."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import vit_edu
from tests.unit.small import SMALL, VIT, sides, small
from tests.unit.test_layers import MultiHeadAttention
from vit_edu import layers, models
from vit_edu.layers.window import _kept
from vit_edu.models import VisionTransformer, create_model, list_models

SEEN = {  # what every family shows, beside the class tokens: a name and how many of its kind a small model has
    "VisionTransformer": {"patch_embed": 1, ".attn": 2, "norm": 1},
    "DistilledVisionTransformer": {"patch_embed": 1, ".attn": 2, "norm": 1},
    "SwinTransformer": {"patch_embed": 1, ".attn": 4, "norm": 1},
    "CCT": {"patch_embed": 1, ".attn": 2, "norm": 1},
    "HybridViT": {"layer": 2, "patch_embed": 1, ".attn": 2, "norm": 1},
    "MobileViT": {"stem": 1, ".attn": 9},
    "ResNet": {"layer": 3},
}


def width(model):
    """Of the features that the head reads."""
    return getattr(model, "num_features", model.embed_dim)


def on_meta(name, **words):
    with torch.device("meta"):
        model = create_model(name, **words)
        return model, torch.empty(2, words.get("in_chans", 3), *sides(model))


def test_a_small_model_of_every_family_is_tested_here():
    assert {type(small(name)[0]).__name__ for name in SMALL} == {family.__name__ for family in models._FAMILIES}


def test_the_names():
    assert list_models() == sorted(set(list_models())) == vit_edu.list_models()
    assert list_models("vit_tiny") == [name for name in list_models() if "vit_tiny" in name]
    assert list_models("no such") == []
    assert {"vit_base_patch16_224", "swin_tiny_patch4_window7_224", "cct_7_3x1_32", "mobilevit_xxs"} <= set(
        list_models()
    )
    for name in models.__all__:
        assert getattr(models, name).__doc__, name


@pytest.mark.parametrize("name", list_models())
def test_every_name_builds_and_answers(name):
    model, images = on_meta(name)
    assert model(images).shape == (2, model.num_classes)
    for words in ({"num_classes": 0}, {"num_classes": 3, "in_chans": 1, "img_size": (96, 160)}):
        model, images = on_meta(name, **words)
        assert images.shape[1:] == ((1, 96, 160) if "in_chans" in words else (3, *sides(model)))
        out = model(images)
        assert out.shape == (2, model.num_classes or width(model))
        logits, seen = model(images, return_intermediates=True)
        assert logits.shape == out.shape
        assert all(isinstance(value, torch.Tensor) and len(value) == 2 for value in seen.values()), name


@pytest.mark.parametrize("name", list_models())
def test_nothing_is_saved_but_parameters_and_running_statistics(name):
    model, _ = on_meta(name)
    statistics = {
        f"{path}.{buffer}"
        for path, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for buffer in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()} | statistics


@pytest.mark.parametrize("name", SMALL)
def test_intermediates_change_nothing(name):
    model, images = small(name)
    model, images = model.double(), images.double()
    logits, seen = model(images, return_intermediates=True)
    torch.testing.assert_close(logits, model(images), rtol=0, atol=1e-12)
    for part, count in SEEN[type(model).__name__].items():
        assert sum(part in key for key in seen) == count, (part, list(seen))
    for key, value in seen.items():
        assert value.dtype == torch.float64 and value.requires_grad, key
        if key.endswith(".attn"):
            torch.testing.assert_close(value.sum(-1), torch.ones_like(value[..., 0]))
            assert key.removesuffix(".attn") in seen
    features = create_model(name, **SMALL[name], num_classes=0).double().eval()
    features.load_state_dict({key: value for key, value in model.state_dict().items() if key in features.state_dict()})
    assert features(images).shape == (2, width(model)) == (2, width(features))


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name):
    model, images = small(name)
    nn.functional.cross_entropy(model.train()(images), torch.tensor([0, 1])).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.ne(0).any(), path


@pytest.mark.parametrize("name", SMALL)
def test_dtypes_devices_and_sizes_of_batch(name):
    model, images = small(name)
    reference = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = model(images, return_intermediates=True)
        torch.testing.assert_close(model(images).float(), reference, rtol=0.1, atol=0.1)
    torch.testing.assert_close(out.float(), reference, rtol=0.1, atol=0.1)
    torch.testing.assert_close(model(images[1:]), reference[1:], rtol=1e-4, atol=1e-5)
    assert model(images[:0]).shape == (0, 5)
    half = copy.deepcopy(model).bfloat16()
    assert half(images.bfloat16()).dtype == torch.bfloat16
    strided = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(strided), reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_copies_give_the_same_answer(name):
    model, images = small(name)
    reference = model(images)  # what is cached by now is copied as well
    again, _ = small(name)
    again.load_state_dict(model.state_dict())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), again):
        assert torch.equal(twin(images), reference)
        assert list(twin.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("name", SMALL)
def test_one_graph_for_compile(name):
    model, images = small(name)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))
    logits, seen = compiled(images, return_intermediates=True)
    reference, expected = model(images, return_intermediates=True)
    torch.testing.assert_close(logits, reference)
    assert list(seen) == list(expected)
    nn.functional.cross_entropy(compiled(images), torch.tensor([0, 1])).backward()


def test_exported_it_takes_any_batch():
    model, images = small("vit_tiny_patch16_224")
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("B")},)).module()
    more = torch.cat([images, images.flip(0), images])
    torch.testing.assert_close(program(more), model(more))


def test_what_only_looks_like_a_tensor_leaves_nothing_behind():
    model, images = small("swin_tiny_patch4_window7_224")
    _kept.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert model(mode.from_tensor(images)).shape == (2, 5)
    assert type(model(images)) is torch.Tensor


OVERRIDES = [  # words, tokens that stand in seen["norm"], and what is checked of the model
    ({"img_size": (96, 160)}, 61, lambda m: m.patch_embed.grid_size == (6, 10)),
    ({"img_size": 32, "patch_size": 4}, 65, lambda m: m.patch_embed.proj.weight.shape == (192, 3, 4, 4)),
    ({"depth": 2}, 197, lambda m: len(m.blocks) == 2),
    ({"embed_dim": 48, "num_heads": 6}, 197, lambda m: m.head.in_features == 48 and m.blocks[0].attn.num_heads == 6),
    ({"global_pool": "avg"}, 197, lambda m: isinstance(m.norm, nn.Identity) and m.fc_norm.eps == 1e-6),
    ({"global_pool": "avg", "class_token": False}, 196, lambda m: m.cls_token is None and m.num_prefix_tokens == 0),
    ({"reg_tokens": 4}, 201, lambda m: m.num_prefix_tokens == 5 and m.pos_embed.shape[1] == 201),
    ({"pos_embed": "none"}, 197, lambda m: m.pos_embed is None),
    ({"pos_embed": "sincos"}, 197, lambda m: not m.pos_embed.requires_grad),
    ({"in_chans": 1}, 197, lambda m: m.patch_embed.proj.in_channels == 1),
    ({"num_classes": 10}, 197, lambda m: m.num_classes == 10 and m.head.out_features == 10),
    ({"num_classes": 0}, 197, lambda m: isinstance(m.head, nn.Identity)),
    ({"mlp_ratio": 2.0}, 197, lambda m: m.blocks[0].mlp.fc1.out_features == 384),
    ({"qkv_bias": False}, 197, lambda m: m.blocks[0].attn.qkv.bias is None),
    ({"drop_path_rate": 0.2}, 197, lambda m: m.blocks[-1].drop_path1.rate == pytest.approx(0.2)),
    ({"pre_norm": True}, 197, lambda m: m.norm_pre.eps == 1e-6 and m.patch_embed.proj.bias is None),
    ({"norm_eps": 1e-5}, 197, lambda m: m.norm.eps == m.blocks[0].norm1.eps == 1e-5),
    ({"act_layer": layers.QuickGELU}, 197, lambda m: isinstance(m.blocks[0].mlp.act, layers.QuickGELU)),
    ({"dynamic_img_size": True}, 197, lambda m: m(torch.empty(1, 3, 64, 96, device="meta")).shape == (1, 1000)),
    ({"attention": MultiHeadAttention}, None, lambda m: isinstance(m.blocks[0].attn, MultiHeadAttention)),
]


def test_every_word_is_tried():
    tried = {word for words, *_ in OVERRIDES for word in words}
    words = set(inspect.signature(VisionTransformer).parameters)
    assert tried == words - {"block", "embed_layer"}  # these two run timm's weights in tests/reference/test_vit.py


@pytest.mark.parametrize("words, tokens, holds", OVERRIDES, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_words_override(words, tokens, holds):
    model, images = on_meta("vit_tiny_patch16_224", **words)
    assert holds(model)
    assert model(images).shape == (2, words.get("num_classes", 1000) or model.embed_dim)
    if tokens:
        assert model(images, return_intermediates=True)[1]["norm"].shape == (2, tokens, model.embed_dim)


def test_a_built_model_is_new_and_in_float32():
    first, second = (create_model("vit_tiny_patch16_224", **VIT) for _ in range(2))
    assert {parameter.dtype for parameter in first.parameters()} == {torch.float32}
    assert not torch.equal(first.head.weight, second.head.weight)
    create_model("vit_tiny_patch16_224", **VIT | {"depth": 1})
    assert len(create_model("vit_tiny_patch16_224", **VIT).blocks) == 2  # words are not kept


def test_numbers_of_numpy_and_torch_are_numbers():
    words = {"img_size": torch.Size([32, 64]), "depth": np.int64(2), "drop_path_rate": np.float32(0.5)}
    model = create_model("vit_tiny_patch16_224", **VIT | words, num_classes=torch.tensor(7))
    assert model(torch.rand(1, 3, 32, 64)).shape == (1, 7) and {type(model.num_classes), type(model.embed_dim)} == {int}
    swin = create_model(
        "swin_tiny_patch4_window7_224", depths=np.array([1, 1]), num_heads=np.array([1, 2]), embed_dim=8
    )
    assert [len(stage.blocks) for stage in swin.layers] == [1, 1]


def test_a_drop_rate_is_felt_in_training_only():
    model, images = small("vit_tiny_patch16_224", drop_path_rate=0.9)
    first = model(images)
    assert all(torch.equal(model(images), first) for _ in range(9))
    model.train()
    assert len({model(images).sum().item() for _ in range(99)}) > 1  # two draws are often the same
