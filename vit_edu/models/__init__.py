"""The models, one paper a file, all on `vit_edu.layers`; `create_model` builds one by its published name."""

import inspect
from difflib import get_close_matches

from torch import nn

from vit_edu.layers.checks import complaint, plain

from . import cct, deit, hybrid, mobilevit, resnet, swin, vit
from .cct import CCT
from .clip import CLIP, TextTransformer, clip_logits, clip_loss, tokenize
from .deit import DistilledVisionTransformer
from .dino import DINO, DINOHead, dino_loss, update_center
from .hybrid import HybridViT
from .mae import MAE, init_mae, mae_loss, mae_target, reconstruct
from .mobilevit import MobileViT
from .resnet import ResNet
from .swin import SwinTransformer
from .vit import VisionTransformer

_FAMILIES = {
    VisionTransformer: vit.MODELS,
    DistilledVisionTransformer: deit.MODELS,
    CCT: cct.MODELS,
    HybridViT: hybrid.MODELS,
    MobileViT: mobilevit.MODELS,
    ResNet: resnet.MODELS,
    SwinTransformer: swin.MODELS,
}

__all__ = [
    "CCT",
    "CLIP",
    "DINO",
    "MAE",
    "DINOHead",
    "DistilledVisionTransformer",
    "HybridViT",
    "MobileViT",
    "ResNet",
    "SwinTransformer",
    "TextTransformer",
    "VisionTransformer",
    "clip_logits",
    "clip_loss",
    "create_model",
    "dino_loss",
    "init_mae",
    "list_models",
    "mae_loss",
    "mae_target",
    "reconstruct",
    "tokenize",
    "update_center",
]


def list_models(contains: str = "") -> list[str]:
    """The names that create_model knows, sorted; those that hold the text `contains`."""
    return sorted(name for models in _FAMILIES.values() for name in models if contains in name)


def create_model(name: str, **words) -> nn.Module:
    """A new model with random weights: create_model("vit_tiny_patch16_224", num_classes=10, img_size=(96, 160)).

    `words` override the constructor's: see the class, such as models.VisionTransformer. The weights have torch's
    default dtype and device.
    Raises ValueError for a name that list_models does not have, TypeError for a word that the class does not have;
    both say what is nearest.
    """
    for family, models in _FAMILIES.items():
        if str(name) in models:
            known = _constructor_words(family)
            for word in words:
                if word not in known:
                    remedy = _nearest(word, known) or f"see help({family.__name__})"
                    remedy = f"use vit_edu.pretrained({name!r})" if word == "pretrained" else remedy
                    raise complaint(f"{word}={words[word]!r}", f"a word of {family.__name__}", remedy, TypeError)
            return family(**models[name] | {word: plain(value) for word, value in words.items()})
    remedy = _nearest(str(name), list_models()) or "print(list_models())"
    raise complaint(f"the model name {name!r}", "one of list_models()", remedy)


def _constructor_words(family: type[nn.Module]) -> list[str]:
    """A class that passes **words on to its parent has the parent's as well."""
    own = inspect.signature(family.__init__).parameters.values()
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own)
    words = [p.name for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
    return words + (_constructor_words(family.__mro__[1]) if passes_on else [])


def _nearest(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=3, cutoff=0.5)
    return "try " + " or ".join(near) if near else ""
