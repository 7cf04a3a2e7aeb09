"""Stochastic depth: Huang et al. 2016, per sample and divided by the keep rate, as in timm."""

from torch import Tensor, nn

from .checks import complaint


def drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    """While training, zero x (B, ...) for each sample with probability `rate`, and divide the others by 1 - rate.

    The expectation stays x, so that nothing is left to do in eval mode. Raises ValueError unless 0 <= rate < 1.
    """
    check_rate(rate)
    if not training or rate == 0:
        return x
    keep = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - rate)  # (B, 1, ..., 1): one draw a sample
    return x * (keep / (1 - rate))


class DropPath(nn.Module):
    """`drop_path` as a module: (B, ...) -> (B, ...), the identity in eval mode."""

    def __init__(self, rate: float):
        super().__init__()
        check_rate(rate)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return drop_path(x, self.rate, self.training)


def check_rate(rate: float) -> None:
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise complaint(f"a drop rate of {rate!r}", "0 <= rate < 1", "0.1 drops one sample in ten")
