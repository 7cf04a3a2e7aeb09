"""CCT, ResNet + ViT, MobileViT and ResNet: bad input, a learner's attention, the fused path, autocast, compilation."""

import pytest
import torch

from tests.unit.test_layers import MultiHeadAttention
from vit_edu import models
from vit_edu.layers import attention
from vit_edu.models import CCT, HybridViT, MobileViT, ResNet, create_model
from vit_edu.models.cct import CCTBlock

SMALL = {"img_size": 32, "num_classes": 5}
MODELS = {  # every family at its smallest
    "cct": lambda **words: CCT(**SMALL | {"embed_dim": 16, "depth": 2, "num_heads": 2} | words),
    "hybrid": lambda **words: HybridViT(**SMALL | {"stages": 1, "embed_dim": 16, "depth": 2, "num_heads": 2} | words),
    "mobilevit": lambda **words: MobileViT(**SMALL | {"widths": (8,) * 5, "dims": (8, 8, 8)} | words),
    "resnet": lambda **words: ResNet(**SMALL | {"depths": (1, 1, 1), "width": 4} | words),
}
BLOCKS = {"cct": 2, "hybrid": 2, "mobilevit": 9}  # with attention
images = torch.rand(2, 3, 32, 32)

BAD_WORDS = {  # what -> (family, words, error, what the sentence must hold)
    "cct's heads": ("cct", {"num_heads": 3}, ValueError, "dim=16 num_heads=3 divides"),
    "cct's layers": ("cct", {"n_conv_layers": 0}, ValueError, "n_conv_layers=0 1·or·more"),
    "cct's kernel": ("cct", {"kernel_size": 0}, ValueError, "kernel_size=0 1·or·more"),
    "cct's channels": ("cct", {"in_chans": 0}, ValueError, "in_chans=0 1·or·more"),
    "cct's depth": ("cct", {"depth": 0}, ValueError, "depth=0 1·or·more"),
    "cct's size": ("cct", {"img_size": 0}, ValueError, "img_size=0 (H,·W)"),
    "cct's sizes": ("cct", {"img_size": (3, 32, 32)}, ValueError, "img_size=(3,·32,·32) (H,·W)"),
    "cct's class token": ("cct", {"class_token": True}, TypeError, "class_token=True CCT leave"),
    "cct's attention": ("cct", {"attention": "mine"}, TypeError, "attention str MyLayer"),
    "cct's positions": ("cct", {"pos_embed": "sine"}, ValueError, "'sine' 'learn'"),
    "backbone": ("hybrid", {"backbone": "resnet19"}, ValueError, "backbone='resnet19' 'resnet18' 'resnet50'"),
    "no fifth stage": ("hybrid", {"stages": 5}, ValueError, "stages=5 4 change"),
    "no stage": ("hybrid", {"stages": 0}, ValueError, "stages=0 1 change"),
    "hybrid's heads": ("hybrid", {"num_heads": 5}, ValueError, "dim=16 num_heads=5 divides"),
    "hybrid's size": ("hybrid", {"img_size": (32, 0)}, ValueError, "img_size=(32,·0) (H,·W)"),
    "patches of the map": ("hybrid", {"patch_size": 3}, ValueError, "(8,·8) patch_size=3 divides"),
    "mobilevit's heads": ("mobilevit", {"num_heads": 3}, ValueError, "dim=8 num_heads=3 divides"),
    "mobilevit's widths": ("mobilevit", {"widths": (8, 8)}, ValueError, "(8,·8) five three"),
    "mobilevit's patch": ("mobilevit", {"patch_size": 0}, ValueError, "patch_size=0"),
    "mobilevit's size": ("mobilevit", {"img_size": -1}, ValueError, "img_size=-1 (H,·W)"),
    "mobilevit's channels": ("mobilevit", {"in_chans": 0}, ValueError, "in_chans=0"),
    "resnet's depth": ("resnet", {"depths": (1, 0, 1)}, ValueError, "depths[1]=0 1·or·more"),
    "resnet's width": ("resnet", {"width": 0}, ValueError, "width=0"),
    "resnet's size": ("resnet", {"img_size": ()}, ValueError, "img_size=() (H,·W)"),
}
BAD_IMAGES = {  # what -> (images, error, what the sentence must hold)
    "channels": (images[:, :1], ValueError, "(2,·1,·32,·32) (B,·3,·H,·W) in_chans=1"),
    "channels last": (images.permute(0, 2, 3, 1), ValueError, "(2,·32,·32,·3) second"),
    "no batch": (images[0], ValueError, "(3,·32,·32) image[None]"),
    "uint8": ((images * 255).byte(), TypeError, "uint8 float 255"),
    "float64": (images.double(), TypeError, "float64 torch.float32 images.to"),
    "half": (images.half(), TypeError, "float16 torch.float32 images.to"),
}


def assert_clear(caught, parts):
    sentence = str(caught.value)
    for part in parts.split():
        assert part.replace("·", " ") in sentence, sentence
    assert " found, wanted " in sentence and sentence.endswith(".") and "\n" not in sentence and len(sentence) < 250


@pytest.mark.parametrize("what", BAD_WORDS)
def test_bad_words_are_one_clear_sentence_at_construction(what):
    family, words, error, parts = BAD_WORDS[what]
    with pytest.raises(error) as caught:
        MODELS[family](**words)
    assert_clear(caught, parts)


@pytest.mark.parametrize("what", BAD_IMAGES)
@pytest.mark.parametrize("family", MODELS)
def test_bad_images_are_one_clear_sentence(family, what):
    bad, error, parts = BAD_IMAGES[what]
    with pytest.raises(error) as caught:
        MODELS[family]()(bad)
    assert_clear(caught, parts)


@pytest.mark.parametrize("family", ["cct", "hybrid"])
def test_another_image_size_is_refused_where_positions_are_fixed(family):
    with pytest.raises(ValueError) as caught:
        MODELS[family]()(images[..., :31])
    assert_clear(caught, "(32,·31) (32,·32) img_size=(32,·31)")
    assert MODELS[family](dynamic_img_size=True)(images[..., :20]).shape == (2, 5)


@pytest.mark.parametrize("family", ["mobilevit", "resnet"])
@pytest.mark.parametrize("size", [(32, 32), (20, 45), (1, 1)])
def test_any_image_size_goes_where_there_are_no_positions(family, size):
    model = MODELS[family]().eval()
    assert model.img_size == (32, 32)
    assert model(torch.rand(2, 3, *size)).shape == (2, 5)


def test_words_that_a_model_does_not_have_are_named():
    for name, word in [
        ("cct_7_3x1_32", "patch_size"),
        ("cct_7_3x1_32", "reg_tokens"),
        ("mobilevit_xxs", "embed_dim"),
        ("resnet20", "depth"),
    ]:
        with pytest.raises(TypeError) as caught:
            create_model(name, **{word: 4})
        assert_clear(caught, f"{word}=4")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_tiny_resnet18_224", {"img_size": 64, "stages": 2, "num_classes": 10}),
        ("vit_tiny_resnet18_224", {"img_size": (33, 48), "in_chans": 1, "global_pool": "avg", "class_token": False}),
        ("cct_2_3x2_32", {"img_size": (28, 28), "in_chans": 1, "num_classes": 0}),
        ("mobilevit_xxs", {"img_size": 64, "num_classes": 0}),
        ("resnet20", {"width": 8, "in_chans": 1, "num_classes": 0}),
    ],
)
def test_constructor_words_go_through_create_model(name, words):
    model = create_model(name, **words | ({"depth": 1} if name.startswith("vit") else {}))
    height, width = (
        (words.get("img_size", 32),) * 2 if isinstance(words.get("img_size", 32), int) else words["img_size"]
    )
    output = model(torch.rand(2, words.get("in_chans", 3), height, width))
    assert output.shape == (2, model.num_classes or model.embed_dim)


@pytest.mark.parametrize("family", BLOCKS)
def test_a_learners_attention_takes_its_place(family):
    kits, learners = MODELS[family](), MODELS[family](attention=MultiHeadAttention)
    assert sum(isinstance(module, MultiHeadAttention) for module in learners.modules()) == BLOCKS[family]
    biases = {name: torch.zeros_like(bias) for name, bias in learners.state_dict().items() if name.endswith("qkv.bias")}
    learners.load_state_dict(biases | kits.state_dict())  # CCT has no bias in qkv, and the learner's attention has one
    torch.testing.assert_close(learners.eval()(images), kits.eval()(images), rtol=0, atol=1e-5)


def test_an_attention_that_knows_the_word_is_told_that_ccts_qkv_has_no_bias():
    class Unbiased(MultiHeadAttention):
        def __init__(self, dim, num_heads, qkv_bias=True):
            super().__init__(dim, num_heads)
            self.qkv = torch.nn.Linear(dim, 3 * dim, bias=qkv_bias)

    kits, learners = MODELS["cct"](), MODELS["cct"](attention=Unbiased)
    learners.load_state_dict(kits.state_dict())
    torch.testing.assert_close(learners(images), kits(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", BLOCKS)
def test_intermediates_cost_nothing_when_they_are_off(family, monkeypatch):
    model = MODELS[family]().eval()
    calls = {"fused": 0, "explicit": 0}
    fused, explicit = attention.F.scaled_dot_product_attention, attention.scaled_dot_product_attention

    def counting(kind, function):
        def call(*args, **words):
            calls[kind] += 1
            return function(*args, **words)

        return call

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", counting("fused", fused))
    monkeypatch.setattr(attention, "scaled_dot_product_attention", counting("explicit", explicit))
    plain = model(images)
    assert calls == {"fused": BLOCKS[family], "explicit": 0}
    logits, seen = model(images, return_intermediates=True)
    assert calls == {"fused": BLOCKS[family], "explicit": BLOCKS[family]}
    torch.testing.assert_close(logits, plain, rtol=1e-5, atol=1e-6)
    weights = [value for name, value in seen.items() if name.endswith(".attn")]
    assert len(weights) == BLOCKS[family]
    for value in weights:
        torch.testing.assert_close(value.sum(-1), torch.ones_like(value[..., 0]))


@pytest.mark.parametrize("family", MODELS)
def test_every_parameter_has_a_gradient(family):
    torch.manual_seed(0)
    model = MODELS[family]()
    torch.nn.functional.cross_entropy(model(torch.rand(5, 3, 32, 32)), torch.arange(5)).backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("family", MODELS)
def test_autocast_half_precision_and_an_empty_batch_go_through(family):
    model = MODELS[family]().eval()
    with torch.autocast("cpu", torch.bfloat16):
        low, (_, seen) = model(images), model(images, return_intermediates=True)
    torch.testing.assert_close(low.float(), model(images), rtol=0.1, atol=0.05)
    assert len(seen) >= 3
    assert model(images[:0]).shape == (0, 5)
    assert model.bfloat16()(images.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("family", MODELS)
def test_compiles_as_one_graph(family):
    torch._dynamo.reset()
    model = MODELS[family]().eval()
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")(images)
        torch.testing.assert_close(compiled, model(images))


def test_a_cct_block_drops_both_branches():
    torch.manual_seed(0)
    block, x = CCTBlock(8, 2, drop_path_rate=0.5).train(), torch.rand(1, 4, 8)
    seen = block(x.repeat(100, 1, 1))
    for attended in (0, 2):  # dropped, or kept and divided by the keep rate
        stream = block.norm2(x + attended * block.attn(block.norm1(x)))
        for mlp in (0, 2):
            outcome = stream + mlp * block.mlp(stream)
            assert 0.05 < (seen - outcome).abs().amax((1, 2)).lt(1e-5).float().mean() < 0.45, (attended, mlp)


def test_deeper_blocks_of_a_cct_are_dropped_more_often():
    rates = [block.drop_path1.rate for block in create_model("cct_7_3x1_32", drop_path_rate=0.1).blocks]
    assert rates == pytest.approx([i * 0.1 / 6 for i in range(7)])


def test_what_is_public_is_documented():
    for family in (CCT, HybridViT, MobileViT, ResNet):
        assert family.__name__ in models.__all__ and family.__doc__ and family.forward_features.__doc__
