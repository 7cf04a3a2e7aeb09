"""What a step makes of some pictures, by objective. Taken as uint8, best from the device: data.to(device)."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vit_edu.datasets import Dataset
from vit_edu.layers.checks import complaint
from vit_edu.models import tokenize

from .augment import jitter, mix, over_colours, random_crop, to_float
from .draws import Draws, sent

MakeBatch = Callable[[Tensor, Draws], tuple]


def centred(images: Tensor) -> Tensor:
    """0..1 -> -1..1, what the kit's own checkpoints want to see."""
    return images * 2 - 1


def plain(data: Dataset, batch_size: int = 1024) -> Tensor:
    """All of them as a model sees them without augmentation: float (N, C, H, W) in -1..1."""
    return torch.cat([centred(to_float(part)) for part in data.images.split(batch_size)])


def in_colour(data: Dataset, img_size: int = 32) -> Dataset:
    """Fashion-MNIST for models that were made for emoji: three channels, a rim of two pixels, img_size a side."""
    images = F.pad(data.images, (2, 2, 2, 2)).float()  # (N, 1, 28, 28) -> (N, 1, 32, 32)
    images = F.interpolate(images, (img_size, img_size), mode="bilinear").round().to(torch.uint8)
    return replace(data, images=images.expand(-1, 3, -1, -1).contiguous())


def view(data: Dataset, indices: Tensor, draws: Draws, colours: bool = True, **crop) -> Tensor:
    """One random look at each picture, (B, C, H, W) in 0..1: another background where it has alpha, another part, and
    with `colours` others of these. `crop`: the words of random_crop."""
    places = sent(indices, data.images.device)
    images = to_float(data.images[places].to(draws.device))
    if data.alpha is not None:
        images = over_colours(images, to_float(data.alpha[places].to(draws.device)), draws)
    images = random_crop(images, draws, **crop)
    return jitter(images, draws) if colours else images


def labelled(data: Dataset, mixup: float = 0.0, cutmix: float = 0.0, **look) -> MakeBatch:
    """For Supervised: images (B, C, H, W), targets (B, classes), mixed with a neighbour where asked; see view.

    Raises ValueError for shares of mixing that are no probability together, and for labels that data.classes lacks.
    """
    if min(mixup, cutmix) < 0 or mixup + cutmix > 1:
        raise complaint(f"{mixup=} with {cutmix=}", "two shares, together at most 1", "change one of the two")
    check_labels(data.labels, len(data), len(data.classes))

    def make(indices: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        images = centred(view(data, indices, draws, **look))
        labels = data.labels[sent(indices, data.labels.device)].to(draws.device)
        targets = F.one_hot(labels, len(data.classes)).float()
        return mix(images, targets, draws, mixup, cutmix) if mixup or cutmix else (images, targets)

    return make


def check_labels(labels: Tensor, n: int, classes: int) -> None:
    """One a picture, int64 (n,) in 0..classes - 1, else ValueError or TypeError."""
    if labels.shape != (n,):
        raise complaint(f"labels of shape {tuple(labels.shape)}", f"({n},), one a picture", "give each picture its own")
    if labels.dtype != torch.int64:
        raise complaint(f"labels of {labels.dtype}", "torch.int64", "use labels.long()", TypeError)
    if n and (labels.min() < 0 or labels.max() >= classes):
        found = f"labels from {labels.min()} to {labels.max()}"
        raise complaint(found, f"0 to {classes - 1}, for {classes} classes", "count classes from 0, and all of them")


def to_reconstruct(data: Dataset, patches: int) -> MakeBatch:
    """For MAE: images (B, 3, H, W) and the noise (B, N) that says which patches are removed. Colours stay."""

    def make(indices: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        return centred(view(data, indices, draws, colours=False)), draws.uniform(patches)

    return make


def crops(data: Dataset, local: int = 4, local_size: int = 32) -> MakeBatch:
    """For DINO: two large looks at each picture, and `local` small ones of local_size pixels."""

    def make(indices: Tensor, draws: Draws) -> tuple[Tensor, ...]:
        large = [view(data, indices, draws, scale=(0.5, 1.0)) for _ in range(2)]
        small = [view(data, indices, draws, scale=(0.1, 0.5), img_size=local_size) for _ in range(local)]
        return tuple(centred(images) for images in large + small)

    return make


def captioned(data: Dataset, context_length: int = 64) -> MakeBatch:
    """For CLIP: images (B, 3, H, W) and the tokens of their names (B, context_length)."""
    tokens = tokenize(data.names, context_length)  # (N, L)

    def make(indices: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        return centred(view(data, indices, draws)), sent(tokens[indices], draws.device)

    return make
