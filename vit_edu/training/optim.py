"""Which weights decay and how fast each layer learns; the learning rate over time."""

import math
import re

import torch
from torch import nn

from vit_edu.layers.checks import complaint

BLOCK = re.compile(r"(.*?)(?:layers\.\d+\.)?\bblocks\.\d+\.")  # its group is the tower: all that stands before


def parameter_groups(model: nn.Module, weight_decay: float = 0.05, layer_decay: float = 1.0) -> list[dict]:
    """Groups for AdamW. Matrices and kernels decay; biases, norms, tokens, positions and bias tables do not.

    With layer_decay < 1 a layer learns slower the further it is from the head (Bao et al. 2022, BEiT): each group has
    lr_scale = layer_decay ** (layers above). Frozen parameters are left out. Raises ValueError where nothing is left,
    and for a layer_decay where there are no blocks to count.
    """
    groups, layers = {}, layers_of(model)
    top = max(layers.values(), default=0)
    if layer_decay != 1 and layers and not top:
        found = f"layer_decay={layer_decay} for a {type(model).__name__} without blocks"
        raise complaint(found, "a transformer", "leave layer_decay at 1")
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and not re.search(r"(token|token_embed\.weight|pos_embed|bias_table)$", name)
        scale = layer_decay ** (top - layers[name])
        key = (weight_decay if decays else 0.0, scale)
        groups.setdefault(key, {"params": [], "weight_decay": key[0], "lr_scale": scale})["params"].append(parameter)
    if not groups:
        raise complaint("a model that is frozen as a whole", "a parameter to train", "thaw its head")
    return list(groups.values())


def layers_of(model: nn.Module) -> dict[str, int]:
    """The layer of every parameter that learns: 0 for embeddings, one for each block, one more for what stands behind.

    Of several towers (CLIP's) each is counted by itself, and they end at the same layer, where all else is as well.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]  # in the parts' order
    layers, tops = {}, {}
    for tower in sorted({block[1] for name in names if (block := BLOCK.match(name))}):
        blocks, inside = [], [name for name in names if name.startswith(tower)]
        for name in inside:
            if (block := BLOCK.match(name)) and block[0] not in blocks:
                blocks.append(block[0])
            # what stands between blocks, as Swin's merging, goes with those that follow
            layers[name] = len(blocks) if block or not blocks else len(blocks) + 1
        tops |= dict.fromkeys(inside, len(blocks) + 1)
    top = max(tops.values(), default=0)
    return {name: top - tops[name] + layers[name] if name in layers else top for name in names}


def schedule(progress: float, warmup: float = 0.05) -> float:
    """The learning rate's factor at 0 <= progress <= 1: up along a line, then down along a cosine (Loshchilov 2017)."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def adamw(groups: list[dict], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019), fused: one kernel for all parameters."""
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
