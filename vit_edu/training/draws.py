"""Random numbers of a training step that depend on nothing but seed and step: not on the number of processes."""

from functools import lru_cache

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device | str) -> Tensor:
    """x, from the CPU, on the device; a GPU gets it in its turn, and nobody waits for what it had to do before."""
    if torch.device(device).type != "cuda":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


class Draws:
    """Uniform numbers for the pictures of one step: everyone draws for the whole batch, and keeps the own rows.

    The same seed and step give the same numbers on any device and after any interruption. `rows` is the part of
    the batch of batch_size pictures that this process trains on.
    """

    def __init__(self, seed: int, step: int, batch_size: int, rows: slice, device: torch.device | str = "cpu"):
        self.seed = seed * 1_000_003 + step
        self.generator = torch.Generator().manual_seed(self.seed)
        self.batch_size, self.rows, self.device = batch_size, rows, device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(B, *shape) float32 in [low, high), one row for each picture of this process."""
        numbers = torch.rand(self.batch_size, *shape, generator=self.generator)[self.rows]
        return sent(low + (high - low) * numbers, self.device)

    def chance(self, probability: float) -> Tensor:
        """(B,) bool, each True with this probability."""
        return self.uniform() < probability


@lru_cache(maxsize=4)
def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """A random order of n pictures, (n,) int64: another one for every epoch."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + 500_000_000 + epoch))
