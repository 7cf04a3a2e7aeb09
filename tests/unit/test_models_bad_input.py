"""Every model's words and images: bad input is answered by one clear sentence."""

import pytest
import torch
from torch import nn

from tests.sentences import assert_sentence
from tests.unit.small import SMALL, VIT, small
from tests.unit.test_layers import MultiHeadAttention
from vit_edu import layers
from vit_edu.models import DistilledVisionTransformer, VisionTransformer, create_model

images = torch.rand(2, 3, 32, 32)


def vit(**words):
    return VisionTransformer(**(VIT | {"num_classes": 5} | words))


def tiny(**words):
    return create_model("vit_tiny_patch16_224", **(VIT | words))


def under_autocast(name):
    with torch.autocast("cpu", torch.bfloat16):
        small(name)[0](images.double())


BAD_INPUT = {  # what -> (call, error, what the sentence must hold: found, wanted, remedy)
    "image size": (lambda: vit(img_size=33), ValueError, "(33,·33) patch_size=8 divides"),
    "one side": (lambda: vit(img_size=(32, 36)), ValueError, "(32,·36) divides"),
    "size as text": (lambda: vit(img_size="224"), ValueError, "img_size='224' (H,·W)"),
    "no size": (lambda: vit(img_size=None), ValueError, "img_size=None"),
    "float size": (lambda: vit(img_size=32.0), ValueError, "img_size=32.0 whole"),
    "float sides": (lambda: vit(img_size=(32.0, 32)), ValueError, "img_size=(32.0,·32) whole"),
    "size below 0": (lambda: vit(img_size=-32), ValueError, "img_size=-32 1·or·more"),
    "three sides": (lambda: vit(img_size=(3, 32, 32)), ValueError, "img_size=(3,·32,·32) (H,·W)"),
    "float patch": (lambda: vit(patch_size=8.0), ValueError, "patch_size=8.0 whole"),
    "two patch sizes": (lambda: vit(patch_size=(8, 8)), ValueError, "patch_size=(8,·8) whole"),
    "no patch": (lambda: vit(patch_size=0), ValueError, "patch_size=0 1·or·more"),
    "heads": (lambda: vit(num_heads=5), ValueError, "dim=24 num_heads=5 divides"),
    "no heads": (lambda: vit(num_heads=0), ValueError, "num_heads=0"),
    "float heads": (lambda: vit(num_heads=3.0), ValueError, "num_heads=3.0 whole"),
    "float width": (lambda: vit(embed_dim=24.0), ValueError, "dim=24.0"),
    "no depth": (lambda: vit(depth=0), ValueError, "depth=0 1·or·more"),
    "float depth": (lambda: vit(depth=2.0), ValueError, "depth=2.0 whole"),
    "no channels": (lambda: vit(in_chans=0), ValueError, "in_chans=0 1·or·more"),
    "classes below 0": (lambda: vit(num_classes=-1), ValueError, "num_classes=-1 0·or·more"),
    "classes as None": (lambda: vit(num_classes=None), ValueError, "num_classes=None 0·or·more"),
    "classes as text": (lambda: vit(num_classes="10"), ValueError, "num_classes='10' whole"),
    "registers below 0": (lambda: vit(reg_tokens=-1), ValueError, "reg_tokens=-1"),
    "no hidden width": (lambda: vit(mlp_ratio=0.01), ValueError, "hidden_dim=0"),
    "MLP as text": (lambda: vit(mlp_ratio="7"), ValueError, "mlp_ratio='7' above·0"),
    "MLP of no number": (lambda: vit(mlp_ratio=float("nan")), ValueError, "mlp_ratio=nan"),
    "eps": (lambda: vit(norm_eps=0), ValueError, "norm_eps=0 above·0"),
    "eps as text": (lambda: vit(norm_eps="1e-6"), ValueError, "norm_eps='1e-6'"),
    "class tokens": (lambda: vit(class_token=3), ValueError, "class_token=3 True False"),
    "name as list": (lambda: create_model(["vit"]), ValueError, "['vit']"),
    "another embed_layer": (
        lambda: create_model("vit_tiny_resnet18_224", embed_layer=layers.PatchEmbed),
        TypeError,
        "embed_layer HybridViT leave·embed_layer·out",
    ),
    "registers beside the second head": (
        lambda: create_model("deit_tiny_distilled_patch16_224", reg_tokens=4),
        TypeError,
        "reg_tokens=4 leave·reg_tokens·out",
    ),
    "no class token for two heads": (
        lambda: create_model("deit_tiny_distilled_patch16_224", class_token=False),
        TypeError,
        "class_token=False leave·class_token·out",
    ),
    "attention of mobilevit": (lambda: create_model("mobilevit_xxs", attention="a"), TypeError, "attention str class"),
    "drop rate": (lambda: vit(drop_path_rate=1.0), ValueError, "1.0 0·<=·rate·<·1"),
    "drop rate of one block": (lambda: vit(drop_path_rate=1.0, depth=1), ValueError, "1.0 rate"),
    "drop rate as text": (lambda: vit(drop_path_rate="0.1"), ValueError, "'0.1' rate"),
    "pool": (lambda: vit(global_pool="max"), ValueError, "global_pool='max' 'token' 'avg'"),
    "no pool": (lambda: vit(global_pool=None), ValueError, "global_pool=None 'token'"),
    "no token to read": (lambda: vit(class_token=False), ValueError, "class_token global_pool='avg'"),
    "positions": (lambda: vit(pos_embed="sin"), ValueError, "pos_embed='sin' 'learn' 'sincos' 'none'"),
    "sincos": (lambda: vit(pos_embed="sincos", embed_dim=30), ValueError, "dim=30 multiple·of·4"),
    "distilled average": (
        lambda: DistilledVisionTransformer(**VIT, global_pool="avg"),
        ValueError,
        "global_pool='avg' 'token'",
    ),
    "built attention": (lambda: vit(attention=nn.Identity()), TypeError, "attention Identity class MyLayer"),
    "activation as text": (lambda: vit(act_layer="gelu"), TypeError, "act_layer str class"),
    "wrong size": (lambda: vit()(torch.rand(2, 3, 40, 40)), ValueError, "(40,·40) (32,·32) img_size=(40,·40)"),
    "sides swapped": (lambda: vit(img_size=(32, 64))(torch.rand(1, 3, 64, 32)), ValueError, "(64,·32) (32,·64)"),
    "any size": (lambda: vit(dynamic_img_size=True)(torch.rand(1, 3, 33, 32)), ValueError, "(33,·32) patch_size=8"),
    "attention that has no weights to give": (
        lambda: vit(attention=MultiHeadAttention)(images, return_intermediates=True),
        TypeError,
        "MultiHeadAttention.forward return_weights=False leave·return_intermediates·out",
    ),
    "a name": (lambda: create_model("vit_tiny_patch16"), ValueError, "'vit_tiny_patch16' try·vit_tiny_patch16_224"),
    "a model of timm's": (lambda: create_model("vit_tiny_patch16_384"), ValueError, "try·vit_tiny_patch16_224"),
    "nothing near": (lambda: create_model("xyz"), ValueError, "'xyz' list_models()"),
    "None": (lambda: create_model(None), ValueError, "None list_models()"),
    "a word": (lambda: tiny(num_class=3), TypeError, "num_class=3 VisionTransformer try·num_classes"),
    "vit_pytorch's word": (lambda: tiny(image_size=32), TypeError, "image_size=32 try·img_size"),
    "timm's word": (
        lambda: tiny(pretrained=True),
        TypeError,
        "pretrained=True vit_edu.pretrained('vit_tiny_patch16_224')",
    ),
    "no such word": (lambda: tiny(foo=3), TypeError, "foo=3 help(VisionTransformer)"),
    "a word of a parent": (
        lambda: create_model("deit_tiny_distilled_patch16_224", num_head=3),
        TypeError,
        "num_head=3 DistilledVisionTransformer try·num_heads",
    ),
}
for _name in SMALL:  # what every model is told at its door
    BAD_INPUT |= {
        f"{_name}: channels": (
            lambda name=_name: small(name)[0](torch.rand(2, 1, 64, 64)),
            ValueError,
            "(2,·1,·64,·64) (B,·3,·H,·W) in_chans=1",
        ),
        f"{_name}: channels last": (
            lambda name=_name: small(name)[0](images.permute(0, 2, 3, 1)),
            ValueError,
            "(2,·32,·32,·3) (B,·3,·H,·W)",
        ),
        f"{_name}: no batch": (lambda name=_name: small(name)[0](images[0]), ValueError, "(3,·32,·32) image[None]"),
        f"{_name}: uint8": (lambda name=_name: small(name)[0](images.byte()), TypeError, "uint8 float 255"),
        f"{_name}: integers": (lambda name=_name: small(name)[0](images.long()), TypeError, "int64 float"),
        f"{_name}: float64": (
            lambda name=_name: small(name)[0](images.double()),
            TypeError,
            "float64 float32 model.to",
        ),
        f"{_name}: no height": (
            lambda name=_name: small(name)[0](torch.rand(2, 3, 0, 32)),
            ValueError,
            "(2,·3,·0,·32) (B,·C,·H,·W)",
        ),
        f"{_name}: float64 under autocast": (lambda name=_name: under_autocast(name), TypeError, "float64 float32"),
        f"{_name}: one class": (
            lambda name=_name: create_model(name, num_classes=True),
            ValueError,
            "num_classes=True",
        ),
        f"{_name}: numpy": (lambda name=_name: small(name)[0](images.numpy()), TypeError, "ndarray tensor"),
        f"{_name}: classes": (lambda name=_name: create_model(name, num_classes=-1), ValueError, "num_classes=-1"),
        f"{_name}: no channels": (lambda name=_name: create_model(name, in_chans=0), ValueError, "in_chans=0"),
        f"{_name}: size": (lambda name=_name: create_model(name, img_size="224"), ValueError, "img_size='224'"),
        f"{_name}: no size": (lambda name=_name: create_model(name, img_size=0), ValueError, "img_size=0"),
    }


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_one_clear_sentence(what):
    assert_sentence(*BAD_INPUT[what])
