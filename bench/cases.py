"""What is compared: a model of ours and the same one of each library that has it, random weights, nothing dropped.

Every library is taken as it comes: its own default attention, its own layout. What differs from its defaults here
are sizes, class counts and drop rates, all of them 0, so that the same work is done.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import timm
import transformers
import vit_pytorch.cct
from timm.layers import HybridEmbed
from torch import nn
from torchvision.models import swin_transformer, vision_transformer

from vit_edu.models import MAE, create_model

OURS = "vit-edu"


@dataclass
class Case:
    """One model; `makers` build it by library, ours first; batch sizes and steps to compile by kind of device."""

    name: str
    img_size: int
    batch: dict[str, int]
    makers: dict[str, Callable[[], nn.Module]]
    num_classes: int | None = 1000  # None: no labels, the model's answer is its loss
    quick: bool = False
    compiled: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # device -> step -> libraries


HEADS = {192: 3, 384: 6, 768: 12}  # DeiT's table 1: heads of 64


def vit(name: str, dim: int) -> dict[str, Callable[[], nn.Module]]:
    sizes = {"hidden_size": dim, "num_attention_heads": HEADS[dim], "intermediate_size": 4 * dim, "num_labels": 1000}
    shape = {"image_size": 224, "patch_size": 16}
    ours_too = {"num_classes": 1000, "dim": dim, "depth": 12, "heads": HEADS[dim], "mlp_dim": 4 * dim}
    return {
        OURS: partial(create_model, name),
        "timm": partial(timm.create_model, name),
        "torchvision": partial(vision_transformer.VisionTransformer, 224, 16, 12, HEADS[dim], dim, 4 * dim),
        "transformers": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**sizes)),
        "vit-pytorch": partial(vit_pytorch.ViT, **shape, **ours_too),
    }


def swin() -> dict[str, Callable[[], nn.Module]]:
    name, sizes = "swin_tiny_patch4_window7_224", {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}
    torchvisions = partial(swin_transformer.SwinTransformer, [4, 4], window_size=[7, 7], stochastic_depth_prob=0.0)
    config = partial(transformers.SwinConfig, **sizes, drop_path_rate=0.0, num_labels=1000)
    return {
        OURS: partial(create_model, name),
        "timm": partial(timm.create_model, name, drop_path_rate=0.0),
        "torchvision": partial(torchvisions, **sizes),
        "transformers": lambda: transformers.SwinForImageClassification(config()),
    }


def mobilevit() -> dict[str, Callable[[], nn.Module]]:
    sizes = {"hidden_sizes": [64, 80, 96], "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320], "expand_ratio": 2.0}
    sizes |= {"hidden_dropout_prob": 0.0, "classifier_dropout_prob": 0.0, "num_labels": 1000}
    config = partial(transformers.MobileViTConfig, **sizes)
    return {
        OURS: partial(create_model, "mobilevit_xxs"),
        "timm": partial(timm.create_model, "mobilevit_xxs"),
        "transformers": lambda: transformers.MobileViTForImageClassification(config()),
    }


def cct() -> dict[str, Callable[[], nn.Module]]:
    words = {
        "img_size": 32,
        "n_conv_layers": 1,
        "kernel_size": 3,
        "num_classes": 10,
        "positional_embedding": "learnable",
    }
    words |= {"attention_dropout": 0.0, "stochastic_depth_rate": 0.0, "dropout_rate": 0.0}
    return {
        OURS: partial(create_model, "cct_7_3x1_32"),
        "vit-pytorch": partial(vit_pytorch.cct.cct_7, **words),
    }


def hybrid() -> dict[str, Callable[[], nn.Module]]:
    def timms() -> nn.Module:
        backbone = timm.create_model("resnet18", features_only=True, out_indices=[3])
        embed = partial(HybridEmbed, backbone=backbone)
        words = {"patch_size": 1, "embed_dim": 192, "num_heads": 3, "embed_layer": embed}
        return timm.models.VisionTransformer(**words)

    return {OURS: partial(create_model, "vit_tiny_resnet18_224"), "timm": timms}


def mae(name: str, dim: int) -> dict[str, Callable[[], nn.Module]]:
    sizes = {"hidden_size": dim, "num_attention_heads": HEADS[dim], "intermediate_size": 4 * dim}
    return {
        OURS: lambda: MAE(create_model(name, pos_embed="sincos", num_classes=0)),
        "transformers": lambda: transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**sizes)),
    }


EVERYWHERE = {"forward": [], "training": []}  # no names: every library
FORWARD = {"forward": [OURS, "timm", "torchvision"]}  # compiling takes half a minute a model on two cores

CASES = [
    Case(
        "ViT-Ti/16",
        224,
        {"cpu": 8, "cuda": 512},
        vit("vit_tiny_patch16_224", 192),
        quick=True,
        compiled={"cpu": FORWARD},
    ),
    Case("ViT-S/16", 224, {"cpu": 4}, vit("vit_small_patch16_224", 384)),
    Case("ViT-B/16", 224, {"cuda": 128}, vit("vit_base_patch16_224", 768), compiled={"cuda": EVERYWHERE}),
    Case(
        "Swin-T",
        224,
        {"cpu": 4, "cuda": 128},
        swin(),
        quick=True,
        compiled={"cpu": FORWARD, "cuda": EVERYWHERE},
    ),
    Case("CCT-7/3x1", 32, {"cpu": 16, "cuda": 512}, cct(), num_classes=10, quick=True),
    Case("ResNet-18 + ViT-Ti", 224, {"cpu": 4, "cuda": 256}, hybrid()),
    Case("MobileViT-XXS", 256, {"cpu": 8, "cuda": 256}, mobilevit()),
    Case("MAE, ViT-Ti/16", 224, {"cpu": 4}, mae("vit_tiny_patch16_224", 192), num_classes=None),
    Case("MAE, ViT-B/16", 224, {"cuda": 128}, mae("vit_base_patch16_224", 768), num_classes=None),
]
