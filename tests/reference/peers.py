"""Small models of every library whose weights `load_weights` knows, ours of the same settings, and how to ask both."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import timm
import torch
import torchvision
import transformers
from timm.layers import QuickGELU
from torch import nn
from vit_pytorch.cct import CCT as TheirCCT

from tests.reference.compare import normal
from tests.reference.test_hybrid import timms as their_hybrid
from tests.reference.twins import randomised, settled
from vit_edu import layers, models
from vit_edu.models import clip_logits

transformers.logging.set_verbosity_error()

VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 7}
SWIN = {"img_size": 32, "patch_size": 2, "embed_dim": 8, "depths": (2, 2, 2), "num_heads": (1, 2, 4)}
SWIN |= {"window_size": 4, "num_classes": 7}
HF_VIT = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
HF_VIT |= {"intermediate_size": 96, "num_labels": 7}
HF_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [2, 2, 2], "num_heads": [1, 2, 4]}
HF_SWIN |= {"window_size": 4, "num_labels": 7}
TEXTS = torch.tensor([[3, 5, 18, 0, 0], [1, 2, 3, 4, 19]])


def timms(model=timm.models.VisionTransformer, norm_eps=1e-6, **words):
    return model(**VIT | words, norm_layer=partial(nn.LayerNorm, eps=norm_eps))


def ours(family=models.VisionTransformer, **words):
    return family(**VIT | words)


def our_swin(**words):
    return models.SwinTransformer(**SWIN | words)


def our_clip_vision(**words):
    return ours(pre_norm=True, act_layer=layers.QuickGELU, **{"norm_eps": 1e-5} | words)


def our_clip(context_length=6):
    text = models.TextTransformer(20, context_length, embed_dim=16, depth=2, num_heads=2)
    return models.CLIP(our_clip_vision(num_classes=0), text, embed_dim=10)


def our_mae(**words):
    encoder = ours(num_classes=0, pos_embed="sincos", **words)
    return models.MAE(encoder, decoder_embed_dim=16, decoder_depth=2, decoder_num_heads=2)


def our_backbone():
    return models.HybridViT(64, depth=1, embed_dim=24, num_heads=3, stages=2).patch_embed.backbone


HYBRID = {"img_size": 24, "embed_dim": 24, "depth": 1, "num_heads": 3, "num_classes": 7, "stages": 1}


def our_cct(**words):
    words = {"img_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0, "num_classes": 7} | words
    return models.CCT(n_conv_layers=2, **words)


def hf(name, config="ViTConfig", **words):
    return getattr(transformers, name)(getattr(transformers, config)(**HF_VIT | words))


def hf_swin(name="SwinForImageClassification", **words):
    return getattr(transformers, name)(transformers.SwinConfig(**HF_SWIN | words))


def hf_mae(name="ViTMAEForPreTraining", **words):
    words |= {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2}
    return hf(name, "ViTMAEConfig", decoder_intermediate_size=64, layer_norm_eps=1e-6, **words)


def hf_clip():
    text = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 6, "eos_token_id": 2, "bos_token_id": 0}
    vision = {key: value for key, value in HF_VIT.items() if key != "num_labels"}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=10)
    return transformers.CLIPModel(config)


def torchvision_vit(**words):
    return torchvision.models.VisionTransformer(16, 4, 2, 3, 24, 96, num_classes=7, **words)


def torchvision_swin():
    return torchvision.models.SwinTransformer([2, 2], 8, [2, 2, 2], [1, 2, 4], [4, 4], num_classes=7)


def their_cct():
    words = {"num_layers": 2, "num_heads": 3, "num_classes": 7, "positional_embedding": "learnable", "mlp_ratio": 2.0}
    words |= {"kernel_size": 3, "stride": 1, "padding": 1, "attention_dropout": 0.0, "stochastic_depth_rate": 0.0}
    return TheirCCT(16, 24, n_conv_layers=2, **words)


def plain(model, x):
    return model(x)


def logits(model, x):
    return model(x).logits


def pooled(model, x):
    return model(x).pooler_output


def all_tokens(model, x):
    return model.forward_features(x) if isinstance(model, models.VisionTransformer) else model(x).last_hidden_state


def two_stages(model, x):
    return nn.Sequential(*list(model.children())[:6])(x)


def reconstruction(model, x):
    noise = torch.rand(1, 16, generator=torch.Generator().manual_seed(0)).expand(len(x), -1)
    answer = model(x, noise=noise)
    return answer[:2] if isinstance(answer, tuple) else (answer.loss, answer.logits)


def image_to_text(model, x):
    if isinstance(model, models.CLIP):
        return clip_logits(model.encode_image(x), model.encode_text(TEXTS), model.logit_scale)
    return model(pixel_values=x, input_ids=TEXTS).logits_per_image


class Pair(NamedTuple):
    source: str
    theirs: Callable[[], nn.Module]
    ours: Callable[[], nn.Module]
    their_answer: Callable = plain
    our_answer: Callable = plain
    img_size: tuple[int, int] = (16, 16)


PAIRS = {
    "timm vit": Pair("timm", timms, ours),
    "timm avg": Pair("timm", partial(timms, global_pool="avg"), partial(ours, global_pool="avg")),
    "timm no class token": Pair(
        "timm",
        partial(timms, global_pool="avg", class_token=False, img_size=(12, 20)),
        partial(ours, global_pool="avg", class_token=False, img_size=(12, 20)),
        img_size=(12, 20),
    ),
    "timm registers": Pair("timm", partial(timms, reg_tokens=4), partial(ours, reg_tokens=4)),
    "timm no_embed_class": Pair("timm", partial(timms, reg_tokens=4, no_embed_class=True), partial(ours, reg_tokens=4)),
    "timm clip": Pair("timm", partial(timms, pre_norm=True, norm_eps=1e-5, act_layer=QuickGELU), our_clip_vision),
    "timm no qkv bias": Pair("timm", partial(timms, qkv_bias=False), partial(ours, qkv_bias=False)),
    "timm features": Pair("timm", partial(timms, num_classes=0), partial(ours, num_classes=0)),
    "timm distilled": Pair(
        "timm",
        partial(timms, timm.models.deit.VisionTransformerDistilled),
        partial(ours, models.DistilledVisionTransformer),
    ),
    "timm swin": Pair("timm", partial(timm.models.SwinTransformer, **SWIN), our_swin, img_size=(32, 32)),
    "timm mobilevit": Pair(
        "timm",
        partial(timm.create_model, "mobilevit_xxs", num_classes=7),
        partial(models.create_model, "mobilevit_xxs", num_classes=7),
        img_size=(32, 32),
    ),
    "timm hybrid": Pair(
        "timm", partial(their_hybrid, **HYBRID), partial(models.HybridViT, **HYBRID), img_size=(24, 24)
    ),
    "torchvision vit": Pair("torchvision", torchvision_vit, ours),
    "torchvision swin": Pair("torchvision", torchvision_swin, our_swin, img_size=(36, 22)),
    "torchvision resnet": Pair("torchvision", torchvision.models.resnet18, our_backbone, two_stages, img_size=(24, 24)),
    "transformers vit": Pair(
        "transformers", partial(hf, "ViTForImageClassification"), partial(ours, norm_eps=1e-12), logits
    ),
    "transformers vit without biases": Pair(
        "transformers",
        partial(hf, "ViTForImageClassification", qkv_bias=False, image_size=(8, 20)),
        partial(ours, norm_eps=1e-12, qkv_bias=False, img_size=(8, 20)),
        logits,
        img_size=(8, 20),
    ),
    "transformers ViTModel": Pair(
        "transformers",
        partial(hf, "ViTModel"),
        partial(ours, norm_eps=1e-12, num_classes=0),
        all_tokens,
        all_tokens,
    ),
    "transformers deit": Pair(
        "transformers",
        partial(hf, "DeiTForImageClassification", "DeiTConfig"),
        partial(ours, norm_eps=1e-12, reg_tokens=1),
        logits,
    ),
    "transformers DeiTModel": Pair(
        "transformers",
        partial(hf, "DeiTModel", "DeiTConfig"),
        partial(ours, norm_eps=1e-12, reg_tokens=1, num_classes=0),
        all_tokens,
        all_tokens,
    ),
    "transformers deit with teacher": Pair(
        "transformers",
        partial(hf, "DeiTForImageClassificationWithTeacher", "DeiTConfig"),
        partial(ours, models.DistilledVisionTransformer, norm_eps=1e-12),
        logits,
    ),
    "transformers swin": Pair("transformers", hf_swin, our_swin, logits, img_size=(32, 32)),
    "transformers SwinModel": Pair(
        "transformers", partial(hf_swin, "SwinModel"), partial(our_swin, num_classes=0), pooled, img_size=(32, 32)
    ),
    "transformers mae": Pair("transformers", hf_mae, our_mae, reconstruction, reconstruction),
    "transformers ViTMAEModel": Pair(
        "transformers",
        partial(hf_mae, "ViTMAEModel", mask_ratio=0.0),
        partial(ours, num_classes=0, pos_embed="sincos"),
        lambda model, x: model(x).last_hidden_state[:, 0],
    ),
    "transformers clip": Pair("transformers", hf_clip, our_clip, image_to_text, image_to_text),
    "transformers CLIPVisionModel": Pair(
        "transformers",
        partial(hf, "CLIPVisionModel", "CLIPVisionConfig"),
        partial(our_clip_vision, num_classes=0),
        pooled,
    ),
    "transformers CLIPVisionModelWithProjection": Pair(
        "transformers",
        partial(hf, "CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=7),
        our_clip_vision,
        lambda model, x: model(x).image_embeds,
    ),
    "vit_pytorch cct": Pair("vit_pytorch", their_cct, our_cct),
}


def twins(what, batch=2):
    """Theirs with random weights and ours with others, in float64 and eval mode, and images."""
    pair = PAIRS[what]
    x, theirs = normal(batch, 3, *pair.img_size), pair.theirs()
    has_statistics = any(isinstance(module, nn.BatchNorm2d) for module in theirs.modules())
    theirs = settled(theirs, normal(2, 3, *pair.img_size, grad=False)) if has_statistics else randomised(theirs)
    return pair, theirs.eval(), randomised(pair.ours(), seed=5).eval(), x
