"""Where a model looks: attention weights brought to one form, and the figures that papers draw from them.

Letters in shape comments: B batch, h heads, N tokens of the whole map (P prefix tokens first, then rows * columns).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from vit_edu.layers import cyclic_shift, window_partition
from vit_edu.layers.checks import check_float, complaint
from vit_edu.models import CLIP, DINO, MAE, MobileViT, SwinTransformer
from vit_edu.models.mobilevit import split_offsets

from .evaluating import evaluating, intermediates, unwrapped

Pair = tuple[int, int]
MOST_TOKENS = 1024  # of a windowed layer, whose (N, N) weights are nearly all zeros: 3,136 would be 39 MB a head


@dataclass(frozen=True)
class AttentionMap:
    """One layer's weights (B, h, N, N): query i gives key j weights[:, :, i, j]; N = prefix + rows * columns.

    `name` is the block's ("blocks.3"), `grid_size` (rows, columns), `prefix` the number of tokens that stand before the
    patches: class, distillation, registers.
    """

    name: str
    weights: Tensor
    grid_size: Pair
    prefix: int = 0


def attention_maps(model: nn.Module, images: Tensor) -> list[AttentionMap]:
    """The attention weights of every layer for images (B, C, H, W), the first layer first.

    Any model of the kit with attention; of CLIP the image tower, of MAE the encoder with all patches, of DINO the
    teacher's backbone. Windows (Swin, MobileViT) come as (B, h, N, N) over the layer's whole map, with zeros where a
    token may not look; what Swin's tokens give to padding is left out, so that such rows sum to less than 1.
    Runs in eval mode and without gradients; every module's mode is as before afterwards.
    Raises TypeError for a model that does not tell its parts, ValueError for one without attention and for windowed
    layers of more than 1,024 tokens; else as the model.
    """
    model = _encoder(model)
    with evaluating(model), torch.no_grad():
        seen = intermediates(model, images)
    names = [key.removesuffix(".attn") for key in seen if key.endswith(".attn")]
    if not names:
        remedy = "give a model of attention, such as create_model('vit_tiny_patch16_224')"
        raise complaint(f"a {type(model).__name__}, which has no attention,", "a transformer", remedy)
    return [_layer(model, name, seen, images) for name in names]


def rollout(maps: Iterable[AttentionMap | Tensor]) -> Tensor:
    """How much of each input token is in each output token: maps, or weights (B, h, N, N), of some layers -> (B, N, N).

    Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3: a layer is A = 0.5 W + 0.5 I, W the
    mean of its heads and I the skip connection, rows summing to 1; then A_L ... A_2 A_1. The first layer comes first.
    Raises ValueError for no maps, and for maps of different sizes (stages of Swin or MobileViT).
    """
    layers = [one.weights if isinstance(one, AttentionMap) else one for one in maps]
    if not layers or len({(len(weights), weights.shape[-1]) for weights in layers}) > 1:
        found = f"weights of shapes {[tuple(weights.shape) for weights in layers]}"
        raise complaint(found, "one or more layers of the same tokens", "give the layers of one stage")
    flow = None
    for weights in layers:
        _check_weights(weights)
        mixed = 0.5 * weights.mean(dim=1) + 0.5 * torch.eye(weights.shape[-1]).to(weights)  # (B, N, N)
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        flow = mixed if flow is None else mixed @ flow  # (B, N, N) @ (B, N, N)
    return flow


def attention_distance(
    weights: Tensor, grid_size: Pair, patch_size: float | tuple[float, float] = 1, prefix: int = 0
) -> Tensor:
    """How far a head looks: weights (B, h, N, N) -> (B, h), in pixels; patch_size is a patch's side or (height, width).

    Dosovitskiy et al. 2021, figure 7 right and appendix D.7: the distance from the query to each key, averaged by the
    weights, then over the queries. Prefix tokens have no place: their rows and columns are left out, and the rest of
    each row is made to sum to 1 again (a row without any rest counts as 0).
    Raises ValueError where grid_size and prefix do not fit.
    """
    _check_weights(weights)
    rows, columns = grid_size
    if weights.shape[-1] != prefix + rows * columns:
        found, wanted = f"{weights.shape[-1]} tokens", f"{prefix} prefix tokens + {rows} * {columns} patches"
        raise complaint(found, wanted, "give that layer's own grid_size and prefix")
    height, width = patch_size if isinstance(patch_size, tuple) else (patch_size, patch_size)
    place = torch.arange(rows * columns, device=weights.device)
    y, x = (place // columns * height).to(weights.dtype), (place % columns * width).to(weights.dtype)  # (N-P,) each
    distance = torch.hypot(y[:, None] - y, x[:, None] - x)  # (N-P, N-P)
    patches = weights[:, :, prefix:, prefix:]  # (B, h, N-P, N-P)
    total = patches.sum(dim=-1).clamp_min(torch.finfo(weights.dtype).tiny)
    return ((patches * distance).sum(dim=-1) / total).mean(dim=-1)  # (B, h, N-P) -> (B, h)


def attention_entropy(weights: Tensor) -> Tensor:
    """How widely a head looks: weights (B, h, N, N) -> the mean of its rows' entropies, (B, h), in bits.

    -sum w log2 w, with 0 log 0 = 0: 0 where each token looks at one other, log2 N where it looks at all alike. Clark et
    al. 2019, "What Does BERT Look At?", section 3.3 and figure 4, sort heads by it.
    """
    _check_weights(weights)
    return torch.special.entr(weights).sum(dim=-1).mean(dim=-1) / math.log(2)


def _encoder(model: nn.Module) -> nn.Module:
    """The part of the model that looks at the image."""
    model = unwrapped(model)
    if isinstance(model, CLIP):
        return model.visual
    if isinstance(model, MAE):
        return model.encoder
    return model.teacher["backbone"] if isinstance(model, DINO) else model


def _layer(model: nn.Module, name: str, seen: dict[str, Tensor], images: Tensor) -> AttentionMap:
    weights = seen[f"{name}.attn"]
    if isinstance(model, SwinTransformer):
        grid = tuple(seen[name].shape[1:3])
        return AttentionMap(name, _unwindow(weights, grid, model.get_submodule(name).attn), grid)
    if isinstance(model, MobileViT):
        block = name.split(".transformer.")[0]
        p = model.get_submodule(block).patch_size
        sides = seen[block.rsplit(".", 1)[0]].shape[-2:]  # the stage's map, resized inside to whole patches
        grid = tuple((side + p - 1) // p * p for side in sides)
        _check_tokens(grid)
        places = torch.arange(grid[0] * grid[1], device=weights.device).view(1, 1, *grid)
        return AttentionMap(name, _spread(weights, split_offsets(places, p)[..., 0]), grid)
    return AttentionMap(name, weights, model.patch_embed.grid_of(images.shape[-2:]), model.num_prefix_tokens)


def _unwindow(weights: Tensor, grid_size: Pair, attention: nn.Module) -> Tensor:
    """Swin's windows (B, nW, h, n, n) -> (B, h, N, N) over a map of grid_size: WindowAttention.forward, backwards."""
    _check_tokens(grid_size)
    window = attention.window_size
    shift = tuple(s if side > w else 0 for s, side, w in zip(attention.shift_size, grid_size, window))
    rows, columns = (math.ceil(side / w) * w for side, w in zip(grid_size, window))  # with padding
    places = torch.arange(rows * columns, device=weights.device).view(1, rows, columns)
    real = places[0, : grid_size[0], : grid_size[1]].flatten()  # (N,)
    whole = _spread(weights, window_partition(cyclic_shift(places, shift), window)[0])
    return whole[:, :, real[:, None], real]


def _spread(weights: Tensor, places: Tensor) -> Tensor:
    """Weights of S groups, (B, S, h, n, n), to where their tokens stand, (S, n) -> (B, h, S*n, S*n), else 0."""
    B, S, h, n, _ = weights.shape
    whole = weights.new_zeros(B, h, S * n, S * n)
    whole[:, :, places[:, :, None], places[:, None, :]] = rearrange(weights, "B S h q k -> B h S q k")
    return whole


def _check_tokens(grid_size: Pair) -> None:
    if grid_size[0] * grid_size[1] > MOST_TOKENS:
        found = f"a windowed layer of {grid_size[0]} x {grid_size[1]} tokens"
        raise complaint(
            found, f"at most {MOST_TOKENS:,}", "use smaller images, or see the windows in WindowShiftExplorer"
        )


def _check_weights(weights: Tensor) -> None:
    if weights.ndim != 4 or weights.shape[-1] != weights.shape[-2]:
        remedy = "take them from attention_maps, or add the batch with weights[None]"
        raise complaint(f"weights of shape {tuple(weights.shape)}", "(B, h, N, N)", remedy)
    check_float("weights", weights)
