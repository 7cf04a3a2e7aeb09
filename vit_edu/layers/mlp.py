"""The MLP of an encoder block: Dosovitskiy et al. 2021, section 3.1."""

import torch
from torch import Tensor, nn

from .checks import check_at_least


class Mlp(nn.Module):
    """Two linear layers with an activation between them, on every token by itself: (..., dim) -> (..., dim).

    GELU(x) = x Φ(x), Hendrycks & Gimpel 2016; its tanh approximation gives other numbers.
    Raises ValueError for a width below 1; torch raises RuntimeError for tokens of another width.
    """

    def __init__(self, dim: int, hidden_dim: int, act_layer: type[nn.Module] = nn.GELU):
        super().__init__()
        check_at_least(1, dim=dim, hidden_dim=hidden_dim)
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))  # (..., dim) -> (..., hidden_dim) -> (..., dim)


class QuickGELU(nn.Module):
    """x σ(1.702 x), the GELU of OpenAI's CLIP (Radford et al. 2021): any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)
