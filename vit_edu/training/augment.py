"""Augmentation in batches, on the device where the images are: float (B, C, H, W) in 0..1 -> the same.

Every function takes its random numbers from `draws` (see draws.py), one row a picture.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .draws import Draws


def to_float(images: Tensor) -> Tensor:
    """uint8 (B, C, H, W) in 0..255 -> float32 in 0..1."""
    return images.float() / 255


def over_colours(images: Tensor, alpha: Tensor, draws: Draws) -> Tensor:
    """Pictures over white, with their alpha (B, 1, H, W) in 0..1, put over a random colour each."""
    colours = draws.uniform(images.shape[1])[:, :, None, None]  # (B, C, 1, 1)
    return images - (1 - colours) * (1 - alpha)  # over white a pixel is c·a + (1 - a)


def random_crop(
    images: Tensor,
    draws: Draws,
    scale: tuple[float, float] = (0.6, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
    img_size: int | None = None,
) -> Tensor:
    """A random part of each picture, `scale` its share of the area, stretched to (img_size, img_size) or to (H, W).

    Szegedy et al. 2015, section 6; half of them mirrored. One bilinear look-up does it all.
    """
    B, C, H, W = images.shape
    area, aspect = (
        draws.uniform(low=scale[0], high=scale[1]),
        draws.uniform(low=math.log(ratio[0]), high=math.log(ratio[1])).exp(),
    )
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)  # (B,), of the sides
    x, y = (draws.uniform(low=-1.0) * (1 - side) for side in (width, height))  # (B,), the centre, in -1..1
    mirror = 1 - 2 * draws.chance(0.5).to(images.dtype) if flip else torch.ones_like(width)
    nought = torch.zeros_like(x)
    grid = torch.stack([width * mirror, nought, x, nought, height, y], dim=1).view(B, 2, 3)  # (B, 2, 3), affine
    size = (B, C, img_size or H, img_size or W)
    grid = F.affine_grid(grid, size, align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="reflection", align_corners=False)


def jitter(images: Tensor, draws: Draws, strength: float = 0.4, grey: float = 0.1) -> Tensor:
    """Brightness, contrast and saturation each times 1 ± strength; with the probability `grey` no colour at all."""
    brightness, contrast, saturation = draws.uniform(3, low=1 - strength, high=1 + strength).unbind(1)
    brightness, contrast, saturation = (x[:, None, None, None] for x in (brightness, contrast, saturation))
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    images = mean + (images - mean) * contrast
    if images.shape[1] == 3:
        red, green, blue = images.split(1, dim=1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue  # (B, 1, H, W)
        saturation = saturation.masked_fill(draws.chance(grey)[:, None, None, None], 0.0)
        images = luma + (images - luma) * saturation
    return images.clamp(0, 1)


def mix(
    images: Tensor, targets: Tensor, draws: Draws, mixup: float = 0.5, cutmix: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Each picture with its neighbour in the batch, 0 with 1, 2 with 3, ...: (B, C, H, W) and targets (B, classes).

    With the probability `mixup` the two are blended (Zhang et al. 2018), else with `cutmix` a rectangle of the
    neighbour lies in the picture (Yun et al. 2019). A share is uniform, a rectangle's less where the edge cuts it; the
    targets have what the pictures have. Raises ValueError for an odd number of pictures (of one process).
    """
    B, _, H, W = images.shape
    if B % 2:
        raise ValueError(f"a batch of {B} found, wanted an even one; pictures are mixed in pairs.")
    other = torch.arange(B, device=images.device) ^ 1
    share, which = draws.uniform(), draws.uniform()  # (B,); a pair need not agree
    blend, cut = which < mixup, (which >= mixup) & (which < mixup + cutmix)
    side = share.sqrt() / 2
    y, x = draws.uniform(2).unbind(1)
    rows, columns = (torch.arange(n, device=images.device).add(0.5) / n for n in (H, W))
    inside = ((rows - y[:, None]).abs() < side[:, None])[:, :, None] & ((columns - x[:, None]).abs() < side[:, None])[
        :, None
    ]
    taken = torch.where(blend[:, None, None], share[:, None, None], (inside & cut[:, None, None]).to(images.dtype))
    part = taken.mean(dim=(1, 2))[:, None]  # (B, 1), what the picture truly has of its neighbour
    taken = taken[:, None]  # (B, 1, H, W)
    return images * (1 - taken) + images[other] * taken, targets * (1 - part) + targets[other] * part
