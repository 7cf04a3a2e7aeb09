"""How a transformer's linear layers start: Dosovitskiy et al. 2021 train from timm's (and BERT's) values."""

from torch import nn


def init_linear(module: nn.Module) -> None:
    """For `model.apply(init_linear)`: weights of linear layers from N(0, 0.02²) cut at ±2, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
