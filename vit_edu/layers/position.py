"""Where a token comes from: Dosovitskiy et al. 2021, the E_pos of equation 1."""

import torch
import torch.nn.functional as F
from einops import rearrange
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
    cls_token = cls_token.expand(tokens.shape[0], -1, -1)  # (1, 1, C) -> (B, 1, C)
    return torch.cat([cls_token, tokens], dim=1) + pos_embed  # (B, 1+N, C)


def resize_positions(
    pos_embed: Tensor,
    grid_size: tuple[int, int],
    new_grid_size: tuple[int, int],
    antialias: bool = True,
    align_corners: bool = False,
    mode: str = "bicubic",
) -> Tensor:
    """Learned positions for another grid: Dosovitskiy et al. 2021, section 3.2.

    pos_embed (1, P+N, C) for grid_size (rows, columns), N = rows*columns -> (1, P+N', C) for new_grid_size. The P
    positions before the patches' stay as they are. timm smooths where the grid shrinks; MAE, DINO and transformers do
    not (antialias=False); torchvision does not either, and aligns corners; CCT's mode is "bilinear". Interpolated in
    float32. Raises ValueError for another rank, an empty grid, and fewer than N positions.
    """
    N = grid_size[0] * grid_size[1]
    num_prefix = pos_embed.shape[1] - N if pos_embed.ndim == 3 else -1
    if num_prefix < 0 or min(*grid_size, *new_grid_size) < 1:
        found = f"positions {tuple(pos_embed.shape)} with a grid of {tuple(grid_size)} and a new {tuple(new_grid_size)}"
        raise complaint(found, f"(1, P+{N}, C) and no empty grid", "give the grid that the positions were made for")
    prefix, patches = pos_embed[:, :num_prefix], pos_embed[:, num_prefix:]  # (1, P, C), (1, N, C)
    patches = rearrange(patches.float(), "B (rows columns) C -> B C rows columns", rows=grid_size[0])
    patches = F.interpolate(patches, new_grid_size, mode=mode, align_corners=align_corners, antialias=antialias)
    patches = rearrange(patches, "B C rows columns -> B (rows columns) C").to(pos_embed.dtype)  # (1, N', C)
    return torch.cat([prefix, patches], dim=1)  # (1, P+N', C)
