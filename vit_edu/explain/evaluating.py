"""Looking at a model without leaving a trace on it."""

from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module):
    """The model in eval mode; afterwards every part of it is in the mode in which it was, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model.eval()
    finally:
        for module, mode in modes:
            module.training = mode
