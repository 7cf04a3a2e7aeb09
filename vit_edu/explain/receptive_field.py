"""Which pixels reach an output, and how strongly: Luo et al. 2016, "Understanding the Effective Receptive Field"."""

import torch
from torch import Tensor, nn

from vit_edu.models.swin import SwinTransformer
from vit_edu.models.vit import VisionTransformer

from .evaluating import evaluating, intermediates, unwrapped

AT_ONCE = 2**18  # pixels of all gradients in one backward pass


def effective_receptive_field(model: nn.Module, images: Tensor, layer: str, position: tuple[int, int]) -> Tensor:
    """Each pixel's share of the gradient of one output: (H, W), sum 1; exactly 0 where no path leads to the output.

    images: float (C, H, W), or (B, C, H, W), whose gradients are added. layer: a name of `layers_of(model, images)`, or
    of any other map in `seen`. position: (row, column) of the layer's grid. The output is the feature there times one
    fixed random direction (the sum of its channels would not do: behind a layer norm that is constant); its gradient is
    taken absolute and summed over the image's channels. The model runs in evaluation mode and is given back as it was.
    Raises ValueError for an unknown layer, a position outside of it and gradients that are no numbers, TypeError for a
    model without intermediates.
    """
    return effective_receptive_fields(model, images, {layer: [position]})[layer][0]


def effective_receptive_fields(
    model: nn.Module, images: Tensor, positions: dict[str, list[tuple[int, int]]]
) -> dict[str, Tensor]:
    """The same for many layers and their positions, K of each, from one forward pass an image: {layer: (K, H, W)}."""
    images = images[None] if images.ndim == 3 else images
    model, sums = unwrapped(model), {layer: 0 for layer in positions}
    with torch.inference_mode(False), evaluating(model), torch.enable_grad():
        for image in images.detach().clone().split(1):
            maps = _maps(model, image.requires_grad_())
            for layer, places in positions.items():
                sums[layer] = sums[layer] + _gradients(_outputs(maps, layer, places), image)
    fields = {}
    for layer, field in sums.items():
        if not field.isfinite().all():
            raise ValueError(
                f"The gradients of {layer!r} are not all finite; wanted numbers: look for NaN in the model's weights "
                "and in the image."
            )
        total = field.sum((1, 2), keepdim=True)
        fields[layer] = torch.where(total > 0, field / total, 0)  # what ReLU has switched off has no gradient
    return fields


def layers_of(model: nn.Module, images: Tensor) -> dict[str, tuple[int, int]]:
    """The layers of the model, in order, with their grids (rows, columns): {"blocks.0": (14, 14), ...}.

    Left out is what only repeats the layer before it: the last norm, and the stages of Swin, which end as their last
    blocks do. Raises TypeError for a model without intermediates, ValueError for one without maps of the image.
    """
    images, model = images[None] if images.ndim == 3 else images, unwrapped(model)
    with torch.inference_mode(False), evaluating(model), torch.no_grad():
        maps = _maps(model, images[:1])
    repeats = {"norm", *(name for name in maps if f"{name}.blocks.0" in maps)}
    return {name: tuple(x.shape[1:3]) for name, x in maps.items() if name not in repeats}


def _outputs(maps: dict[str, Tensor], layer: str, positions: list[tuple[int, int]]) -> Tensor:
    """The feature at each position of the layer times one random direction: (K,)."""
    if layer not in maps:
        raise ValueError(f"The layer is {layer!r}; this model has {', '.join(maps)}.")
    x = maps[layer][0]  # (rows, columns, C)
    last = (x.shape[0] - 1, x.shape[1] - 1)
    for row, column in positions:
        if not (0 <= row <= last[0] and 0 <= column <= last[1]):
            raise ValueError(
                f"The position is {(row, column)}; {layer!r} goes from (0, 0) to {last}: choose a place in it."
            )
    rows, columns = torch.tensor(positions, device=x.device).unbind(1)
    return x[rows, columns] @ torch.randn(x.shape[-1], generator=torch.Generator().manual_seed(0)).to(x)


def _gradients(outputs: Tensor, image: Tensor) -> Tensor:
    """The gradient of K outputs by the pixels of the image (1, C, H, W): (K, H, W), many in one pass."""
    at_once = max(1, AT_ONCE // image[0, 0].numel())
    each = torch.eye(len(outputs)).to(outputs).split(at_once)
    parts = [torch.autograd.grad(outputs, image, some, True, is_grads_batched=True)[0] for some in each]
    return torch.cat(parts).abs().sum((1, 2))  # (K, 1, C, H, W) -> (K, H, W)


def _maps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What the model's layers give, place by place: {name: (B, rows, columns, C)}."""
    maps = {}
    for name, x in intermediates(model, images).items():
        if isinstance(model, VisionTransformer) and x.ndim == 3:
            grid = model.patch_embed.grid_of(images.shape[-2:])
            maps[name] = x[:, -grid[0] * grid[1] :].unflatten(1, grid)  # (B, P+N, C) -> (B, rows, columns, C)
        elif x.ndim == 4 and not name.endswith(".attn") and ".transformer." not in name:
            maps[name] = x if isinstance(model, SwinTransformer) else x.movedim(1, -1)
    if not maps:
        raise ValueError(
            f"A {type(model).__name__} shows no map of the whole image; wanted an encoder: of MAE ask model.encoder."
        )
    return maps
