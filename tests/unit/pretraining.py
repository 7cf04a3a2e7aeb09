"""Small MAE, DINO and CLIP, and what they take."""

import torch

from vit_edu import models
from vit_edu.models import CLIP, DINO, MAE, TextTransformer, create_model

numbers = torch.Generator().manual_seed(0)
images, noise = torch.rand(2, 3, 16, 16, generator=numbers), torch.rand(2, 16, generator=numbers)
HEAD = {"out_dim": 6, "hidden_dim": 8, "bottleneck_dim": 4}


def vit(**words):
    small = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3, "num_classes": 0}
    return create_model("vit_tiny_patch16_224", **small | words)


def mae(mask_ratio=0.75, norm_pix_loss=False, decoder_num_heads=2, decoder_embed_dim=8, decoder_depth=1, **words):
    return MAE(vit(**words), decoder_embed_dim, decoder_depth, decoder_num_heads, norm_pix_loss, mask_ratio)


def dino(**words):
    return DINO(vit(**{"dynamic_img_size": True} | words), **HEAD)


def text(vocab_size=258, context_length=9, embed_dim=8, depth=1, num_heads=2):
    return TextTransformer(vocab_size, context_length, embed_dim, depth, num_heads)


def clip(**words):
    return CLIP(vit(**words), text(), embed_dim=6)


crops = [images, images.flip(3), images[:, :, :8, :8], images[:, :, 8:, 8:]]
tokens = models.tokenize(["a cat", "a dog"], 9)
