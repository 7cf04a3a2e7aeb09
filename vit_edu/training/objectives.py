"""What is minimised, each as a module that gives its loss; the loop knows nothing else of them."""

import math

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from vit_edu.layers.checks import complaint
from vit_edu.models import CLIP, DINO, clip_loss


class Supervised(nn.Module):
    """Cross entropy: float images (B, C, H, W), targets (B,) int64 or (B, classes) float -> ().

    Raises ValueError for targets of another number of classes than the model has.
    """

    def __init__(self, model: nn.Module, label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise complaint(f"{label_smoothing=}", "a share from 0 to below 1", "0.1 is the usual one")
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        logits = self.model(images).float()  # (B, classes)
        if targets.shape not in (logits.shape, logits.shape[:1]):
            found = f"targets of shape {tuple(targets.shape)} for logits of shape {tuple(logits.shape)}"
            raise complaint(
                found, "one class, or one share for each class, a picture", "see to the model's num_classes"
            )
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)


class SelfDistillation(nn.Module):
    """DINO in training: crops -> (); behind every step the teacher follows the student, faster at first.

    `momentum` rises from where it starts to 1 along a cosine: Caron et al. 2021, section 3.1.
    """

    def __init__(self, dino: DINO, momentum: float = 0.996):
        super().__init__()
        self.dino, self.momentum = dino, momentum

    def forward(self, *crops: Tensor) -> Tensor:
        return self.dino(list(crops))

    def after_step(self, progress: float, fabric: Fabric) -> None:
        self.dino.update_teacher(1 - (1 - self.momentum) * (math.cos(math.pi * min(progress, 1.0)) + 1) / 2)
        if fabric.world_size > 1:  # each process has the mean of its own part
            self.dino.center.copy_(fabric.all_reduce(self.dino.center, reduce_op="mean"))


class Contrastive(nn.Module):
    """CLIP in training: images, tokens -> (); with several processes every image meets the texts of all."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        _, image_features, text_features = self.clip(images, tokens)
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            from torch.distributed.nn.functional import all_gather

            image_features, text_features = (torch.cat(all_gather(x)) for x in (image_features, text_features))
        return clip_loss(image_features, text_features, self.clip.logit_scale)
