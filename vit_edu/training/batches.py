"""Pictures that stay on the device as uint8, and what a step makes of some of them, by objective."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vit_edu.datasets import load_dataset
from vit_edu.models import tokenize

from .augment import jitter, mix, over_colours, random_crop, to_float
from .draws import Draws

MakeBatch = Callable[[Tensor, Draws], tuple]


@dataclass(frozen=True, eq=False)
class Pictures:
    """A set on one device. images uint8 (N, 3, H, W), alpha uint8 (N, 1, H, W) or None, labels int64 (N,)."""

    images: Tensor
    labels: Tensor
    names: list[str]
    classes: list[str]
    alpha: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def plain(self, batch_size: int = 1024) -> Tensor:
        """All of them as a model sees them without augmentation: float (N, 3, H, W) in -1..1."""
        return torch.cat([centred(to_float(part)) for part in self.images.split(batch_size)])

    def take(self, indices: Tensor) -> "Pictures":
        """Some of them, for a set with fewer labels."""
        names = [self.names[i] for i in indices.tolist()]
        alpha = None if self.alpha is None else self.alpha[indices]
        return Pictures(self.images[indices], self.labels[indices], names, self.classes, alpha)


def centred(images: Tensor) -> Tensor:
    """0..1 -> -1..1, what the kit's own checkpoints want to see."""
    return images * 2 - 1


def pictures(name: str, split: str, device: torch.device | str = "cpu", img_size: int | None = None) -> Pictures:
    """A set of load_dataset in colour. Fashion-MNIST gets a rim of 2 pixels, 32 in all, and is then made img_size."""
    ds = load_dataset(name, split, None if name.startswith("fashion") else img_size)
    images = ds.images
    if images.shape[1] == 1:
        images = F.pad(images, (2, 2, 2, 2))  # (N, 1, 32, 32)
        if img_size not in (None, images.shape[-1]):
            images = F.interpolate(images, (img_size, img_size), mode="bilinear")
        images = images.expand(-1, 3, -1, -1)
    alpha = None if ds.alpha is None else ds.alpha.to(device)
    return Pictures(images.contiguous().to(device), ds.labels.to(device), ds.names, ds.classes, alpha)


def view(data: Pictures, indices: Tensor, draws: Draws, **crop) -> Tensor:
    """One random look at each picture: another background where it has alpha, another part, other colours."""
    images = to_float(data.images[indices])
    if data.alpha is not None:
        images = over_colours(images, to_float(data.alpha[indices]), draws)
    return jitter(random_crop(images, draws, **crop), draws)


def labelled(data: Pictures, mixup: float = 0.0, cutmix: float = 0.0, **crop) -> MakeBatch:
    """For Supervised: images (B, 3, H, W), targets (B, classes), mixed with a neighbour where asked."""

    def make(indices: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        images = centred(view(data, indices, draws, **crop))
        targets = F.one_hot(data.labels[indices], len(data.classes)).float()
        return mix(images, targets, draws, mixup, cutmix) if mixup or cutmix else (images, targets)

    return make


def to_reconstruct(data: Pictures, patches: int) -> MakeBatch:
    """For MAE: images (B, 3, H, W) and the noise (B, N) that says which patches are removed. Colours stay."""

    def make(indices: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        images = to_float(data.images[indices])
        if data.alpha is not None:
            images = over_colours(images, to_float(data.alpha[indices]), draws)
        return centred(random_crop(images, draws)), draws.uniform(patches)

    return make


def crops(data: Pictures, local: int = 4, local_size: int = 32) -> MakeBatch:
    """For DINO: two large looks at each picture, and `local` small ones of local_size pixels."""

    def make(indices: Tensor, draws: Draws) -> tuple[Tensor, ...]:
        large = [view(data, indices, draws, scale=(0.5, 1.0)) for _ in range(2)]
        small = [view(data, indices, draws, scale=(0.1, 0.5), img_size=local_size) for _ in range(local)]
        return tuple(centred(images) for images in large + small)

    return make


def captioned(data: Pictures, context_length: int = 64) -> MakeBatch:
    """For CLIP: images (B, 3, H, W) and the tokens of their names (B, context_length)."""
    tokens = tokenize(data.names, context_length).to(data.images.device)  # (N, L)

    def make(indices: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        return centred(view(data, indices, draws)), tokens[indices]

    return make
