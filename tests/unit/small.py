"""Small models for several files: one of every family, and what the tests of weights are tried with."""

import torch
import torchvision

from vit_edu.models import create_model

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
SMALL = {  # one small model of every family
    "vit_tiny_patch16_224": VIT,
    "deit_tiny_distilled_patch16_224": VIT,
    "swin_tiny_patch4_window7_224": {
        "img_size": 32,
        "patch_size": 2,
        "window_size": 4,
        "embed_dim": 12,
        "depths": (2, 2),
        "num_heads": (2, 4),
    },
    "cct_2_3x2_32": {"embed_dim": 24},
    "vit_tiny_resnet18_224": {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 3, "stages": 2},
    "mobilevit_xxs": {"img_size": 64, "widths": (8, 8, 8, 8, 8), "dims": (8, 8, 8), "num_heads": 2},
    "resnet20": {"depths": (1, 1, 2), "width": 4},
}
TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}
HYBRID = {"img_size": 32, "depth": 1, "embed_dim": 24, "num_heads": 3, "stages": 1}


def small(name, **words):
    torch.manual_seed(0)
    model = create_model(name, num_classes=5, **(SMALL[name] | words)).eval()
    images = torch.randn(2, words.get("in_chans", 3), *sides(model))
    return model, images


def sides(model):
    """(H, W) the model is meant for."""
    return getattr(model, "img_size", None) or model.patch_embed.img_size


def torchvisions(num_classes=7, img_size=16):
    return torchvision.models.VisionTransformer(img_size, 4, 2, 3, 24, 96, num_classes=num_classes).state_dict()
