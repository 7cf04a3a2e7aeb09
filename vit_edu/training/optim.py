"""Which weights decay and how fast each layer learns; the learning rate over time."""

import math
import re

import torch
from torch import nn

from vit_edu.layers.checks import complaint


def parameter_groups(model: nn.Module, weight_decay: float = 0.05, layer_decay: float = 1.0) -> list[dict]:
    """Groups for AdamW. Matrices and kernels decay; biases, norms, tokens, positions and bias tables do not.

    With layer_decay < 1 a layer learns slower the further it is from the head (Bao et al. 2022, BEiT): each group has
    lr_scale = layer_decay ** (layers above). Frozen parameters are left out. Raises ValueError where nothing is left.
    """
    groups, layers = {}, layers_of(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and not re.search(r"(token|pos_embed|relative_position_bias_table)$", name)
        scale = layer_decay ** (max(layers.values()) - layers[name])
        key = (weight_decay if decays else 0.0, scale)
        groups.setdefault(key, {"params": [], "weight_decay": key[0], "lr_scale": scale})["params"].append(parameter)
    if not groups:
        raise complaint("a model that is frozen as a whole", "a parameter to train", "thaw its head")
    return list(groups.values())


def layers_of(model: nn.Module) -> dict[str, int]:
    """The layer of every parameter: 0 for the embeddings, then one for each block, one more for what stands behind."""
    layers, blocks = {}, []
    for name, _ in model.named_parameters():  # in the order of the model's parts
        block = re.match(r"(.*\bblocks\.\d+)\.", name)
        if block and block[1] not in blocks:
            blocks.append(block[1])
        # what stands between blocks, as Swin's merging, goes with those that follow
        layers[name] = len(blocks) if block or not blocks else len(blocks) + 1
    return layers


def schedule(progress: float, warmup: float = 0.05) -> float:
    """The learning rate's factor at 0 <= progress <= 1: up along a line, then down along a cosine (Loshchilov 2017)."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def adamw(groups: list[dict], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019), fused: one kernel for all parameters."""
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
