"""Weights of other libraries in our models: tables of names, one strict copy, and what torchvision has published."""

from .bundled import bundled, checkpoint
from .imagenet import IMAGENET_MEAN, IMAGENET_STD, normalise, pretrained, published
from .load import load_weights

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "bundled",
    "checkpoint",
    "load_weights",
    "normalise",
    "pretrained",
    "published",
]
