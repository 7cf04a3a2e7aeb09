"""Looking at a model without leaving a trace on it."""

import inspect
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where torch.compile or data parallelism stands around it; its weights are the same tensors."""
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif isinstance(model, nn.Module) and hasattr(model, "_orig_mod"):  # torch.compile's
            model = model._orig_mod
        else:
            return model


def intermediates(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What the model's parts give for images (B, C, H, W), by name. TypeError for a model that does not tell."""
    words = inspect.signature(model.forward).parameters
    needed = [word for word in words.values() if word.default is word.empty]
    if "return_intermediates" not in words or len(needed) != 1:
        raise TypeError(
            f"The model is a {type(model).__name__}; wanted one that answers model(images, return_intermediates=True), "
            "as the kit's do. Of CLIP ask model.visual, of MAE model.encoder."
        )
    return model(images, return_intermediates=True)[1]


@contextmanager
def evaluating(model: nn.Module):
    """The model in eval mode; afterwards every part of it is in the mode in which it was, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model.eval()
    finally:
        for module, mode in modes:
            module.training = mode
