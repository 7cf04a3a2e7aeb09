"""How a transformer's linear layers start: timm's and DeiT's values, after BERT (ViT's own code has Glorot's)."""

from torch import nn


def init_linear(module: nn.Module) -> None:
    """For `model.apply(init_linear)`: weights of linear layers from N(0, 0.02²), biases zero.

    trunc_normal_ cuts at ±2, a hundred deviations: never in practice, but the draws are timm's.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
