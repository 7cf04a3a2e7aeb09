"""Where a token comes from: Dosovitskiy et al. 2021, the E_pos of equation 1."""

import torch
from torch import Tensor

from .checks import check_positions, complaint


def sincos_position(grid_size: tuple[int, int], dim: int) -> Tensor:
    """The fixed 2-D table of MAE (He et al. 2022): Vaswani et al. 2017, section 3.5, once for x and once for y.

    grid_size (rows, columns) -> (rows*columns, dim) of the default dtype. A row is [sin x, cos x, sin y, cos y], each
    at dim/4 frequencies from 1 down towards 1/10000. MAE gives its class token a row of zeros.
    Raises ValueError where dim is no multiple of 4 or the grid is empty.
    """
    rows, columns = grid_size
    if dim < 4 or dim % 4 or rows < 1 or columns < 1:
        wanted = "a multiple of 4 (sine and cosine of x and of y) and at least one row and column"
        raise complaint(f"dim={dim} with grid_size={tuple(grid_size)}", wanted, "change dim or grid_size")
    frequencies = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))  # (dim/4,)
    x = torch.arange(columns).repeat(rows)  # (rows*columns,): 0 1 2 0 1 2
    y = torch.arange(rows).repeat_interleave(columns)  # (rows*columns,): 0 0 0 1 1 1
    x, y = torch.outer(x, frequencies), torch.outer(y, frequencies)  # (rows*columns, dim/4) each
    table = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)  # (rows*columns, dim)
    return table.to(torch.get_default_dtype())


def embed_positions(tokens: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """Equation 1: [x_class; x_1; ...; x_N] + E_pos. The class token has a position of its own.

    tokens (B, N, C), cls_token (1, 1, C), pos_embed (1, 1+N, C), learned or fixed -> (B, 1+N, C).
    Raises ValueError where the shapes do not fit.
    """
    check_positions(tokens, cls_token, pos_embed)
    cls_token = cls_token.expand(len(tokens), -1, -1)  # (1, 1, C) -> (B, 1, C)
    return torch.cat([cls_token, tokens], dim=1) + pos_embed  # (B, 1+N, C)
