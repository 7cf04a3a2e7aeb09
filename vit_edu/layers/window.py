"""Attention in shifted windows: Liu et al. 2021, "Swin Transformer", section 3.2; patch merging: section 3.1.

Further letters in shape comments: nW windows of an image, n = Wh * Ww tokens of a window.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import split_heads
from .checks import check_grid, check_heads, check_map, check_window

Pair = tuple[int, int]


def window_partition(x: Tensor, window_size: Pair) -> Tensor:
    """Cut a map (B, H, W, ...) into windows (B, nW, n, ...), row by row: figure 2, left.

    Raises ValueError where window_size (Wh, Ww) does not divide H and W.
    """
    check_grid(tuple(x.shape[1:3]), window_size)
    Wh, Ww = window_size
    return rearrange(x, "B (rows Wh) (columns Ww) ... -> B (rows columns) (Wh Ww) ...", Wh=Wh, Ww=Ww)


def window_reverse(windows: Tensor, window_size: Pair, grid_size: Pair) -> Tensor:
    """The inverse of window_partition: windows (B, nW, n, ...), grid_size (H, W) -> map (B, H, W, ...).

    Raises ValueError where window_size does not divide grid_size, EinopsError for another number of windows or tokens.
    """
    check_grid(grid_size, window_size)
    (H, W), (Wh, Ww) = grid_size, window_size
    pattern = "B (rows columns) (Wh Ww) ... -> B (rows Wh) (columns Ww) ..."
    return rearrange(windows, pattern, rows=H // Wh, columns=W // Ww, Wh=Wh, Ww=Ww)


def cyclic_shift(x: Tensor, shift_size: Pair) -> Tensor:
    """Move a map (B, H, W, ...) up and to the left; what leaves comes in at the other side: figure 4.

    cyclic_shift(x, (-down, -right)) moves it back.
    """
    return x.roll((-shift_size[0], -shift_size[1]), dims=(1, 2)) if any(shift_size) else x


def shift_mask(
    grid_size: Pair,
    window_size: Pair,
    shift_size: Pair,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """What to add to the scores of a shifted map's windows: (nW, n, n), 0 or -100, figure 4.

    The last windows hold tokens that were no neighbours before the shift. It leaves up to nine regions of neighbours,
    and between two regions stands -100, as in the published models. Raises ValueError where window_size does not
    divide grid_size, and where a shift is not smaller than the window.
    """
    check_grid(grid_size, window_size)
    check_window(window_size, shift_size)
    rows, columns = (torch.arange(side, device=device) for side in grid_size)  # (H,), (W,)
    rows, columns = (  # 0, where every window is whole; 1 and 2, the two parts of the last one
        (place >= side - window).long() + (place >= side - shift)
        for place, side, window, shift in zip((rows, columns), grid_size, window_size, shift_size)
    )
    regions = 3 * rows[:, None] + columns  # (H, W)
    regions = window_partition(regions[None], window_size)[0]  # (nW, n)
    strangers = regions[:, :, None] != regions[:, None, :]  # (nW, n, n)
    return torch.zeros(strangers.shape, dtype=dtype, device=device).masked_fill(strangers, -100.0)


def relative_position_index(window_size: Pair, device: torch.device | None = None) -> Tensor:
    """Which row of the bias table a query and a key share, by where they stand to each other: (n, n) of int64.

    (dy + Wh - 1) * (2*Ww - 1) + (dx + Ww - 1) for a key dy rows above and dx columns left of the query.
    """
    Wh, Ww = window_size
    y = torch.arange(Wh, device=device).repeat_interleave(Ww)  # (n,): 0 0 0 1 1 1
    x = torch.arange(Ww, device=device).repeat(Wh)  # (n,): 0 1 2 0 1 2
    dy, dx = y[:, None] - y, x[:, None] - x  # (n, n)
    return (dy + Wh - 1) * (2 * Ww - 1) + (dx + Ww - 1)


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / √d + bias + mask) v in every window by itself: equation 4, and the mask of figure 4.

    q, k, v (B, nW, h, n, d), bias (h, n, n), mask (nW, n, n) as from shift_mask
    -> output (B, nW, h, n, d) and weights (B, nW, h, n, n).
    """
    bias = bias if mask is None else bias + mask[:, None]  # (h, n, n) or (nW, h, n, n)
    scores = (q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1) + bias  # (B, nW, h, n, n); q has fewer numbers to divide
    if mask is not None:
        # exp(-100) is below float32's smallest normal number, and a CPU is several times slower over such "denormals".
        # So a score more than 87 below its row's largest becomes -inf: its weight, under exp(-87), is exactly 0.
        scores = scores.masked_fill(scores < scores.amax(dim=-1, keepdim=True) - 87, float("-inf"))
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


def fused_window_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
    """The output of window_attention by torch's fused kernel, which need not hold the weights.

    That takes one batch dimension and one of heads. Without a mask all windows are alike, and stand with the images of
    the batch; with one they stand with the heads, so that one bias for every window and head serves the whole batch.
    """
    dim = 0 if mask is None else 1
    bias = bias if mask is None else (bias + mask[:, None]).flatten(0, 1)  # (h, n, n) or (nW*h, n, n)
    q, k, v, windows = q.flatten(dim, dim + 1), k.flatten(dim, dim + 1), v.flatten(dim, dim + 1), q.shape[dim : dim + 2]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None]).unflatten(dim, windows)  # (B, nW, h, n, d)


@lru_cache(maxsize=16)
def _kept(make: Callable[..., Tensor], *words) -> Tensor:
    """make(*words), made once for all blocks and calls; an ordinary tensor even if first made in inference mode."""
    with torch.inference_mode(False):
        return make(*words)


def kept(x: Tensor, make: Callable[..., Tensor], *words) -> Tensor:
    """make(*words) from a cache; made anew while torch.compile watches, which keeps what it needs by itself, and where
    x is no ordinary tensor (a FakeTensor would stay in the cache for all)."""
    anew = torch.compiler.is_compiling() or type(x) is not Tensor
    return make(*words) if anew else _kept(make, *words)


class WindowAttention(nn.Module):
    """W-MSA, and with a shift SW-MSA: a map (B, H, W, C) of any size -> (B, H, W, C).

    With `return_weights=True` also the weights (B, nW, h, n, n). As in torchvision a map that window_size does not
    divide is padded with zeros at the bottom and right, then shifted, and the padded tokens take part; where one window
    covers a whole side, that side is not shifted. Raises ValueError where num_heads does not divide dim, for a shift
    that is not smaller than the window and for maps of another shape, TypeError for maps that are not float.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: Pair = (7, 7),
        shift_size: Pair = (0, 0),
        qkv_bias: bool = True,
    ):
        super().__init__()
        check_heads(dim, num_heads)
        check_window(window_size, shift_size)
        self.dim, self.num_heads = dim, num_heads
        self.window_size, self.shift_size = tuple(window_size), tuple(shift_size)
        rows = (2 * window_size[0] - 1) * (2 * window_size[1] - 1)  # as many as there are pairs (dy, dx)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, num_heads), std=0.02))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, return_weights: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        check_map(x, self.dim)
        (H, W), (Wh, Ww), device = x.shape[1:3], self.window_size, x.device
        shift = tuple(s if side > window else 0 for s, side, window in zip(self.shift_size, (H, W), self.window_size))
        if H % Wh or W % Ww:
            x = F.pad(x, (0, 0, 0, -W % Ww, 0, -H % Wh))
        grid = tuple(x.shape[1:3])
        index = kept(x, relative_position_index, self.window_size, device)  # (n, n)
        bias = self.relative_position_bias_table.T[:, index]  # (h, n, n)
        mask = kept(x, shift_mask, grid, self.window_size, shift, bias.dtype, device) if any(shift) else None

        x = window_partition(cyclic_shift(x, shift), self.window_size)  # (B, nW, n, C)
        qkv = split_heads(self.qkv(x).flatten(0, 1), self.num_heads)  # 3 times (B*nW, h, n, d)
        q, k, v = (part.unflatten(0, x.shape[:2]) for part in qkv)  # (B, nW, h, n, d) each
        weights = None
        # torch's fused kernel on the CPU gives no gradient to a mask, which the bias is part of
        if return_weights or (bias.requires_grad and device.type == "cpu"):
            x, weights = window_attention(q, k, v, bias, mask)
        else:
            x = fused_window_attention(q, k, v, bias, mask)
        x = window_reverse(x.transpose(2, 3), self.window_size, grid).flatten(3)  # (B, H', W', h, d) -> (B, H', W', C)
        x = self.proj(cyclic_shift(x, (-shift[0], -shift[1]))[:, :H, :W])  # (B, H, W, C)
        return (x, weights) if return_weights else x


def merge_patches(x: Tensor) -> Tensor:
    """Four neighbours side by side: a map (B, H, W, C) -> (B, H/2, W/2, 4*C), section 3.1.

    In the published order, down the left column, then the right. Odd sides get a row of zeros at the bottom, or a
    column at the right. Raises EinopsError for another rank.
    """
    if x.shape[1] % 2 or x.shape[2] % 2:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    return rearrange(x, "B (H p) (W q) C -> B H W (q p C)", p=2, q=2)


class PatchMerging(nn.Module):
    """Half as many tokens a side, twice as wide: a map (B, H, W, C) -> (B, H/2, W/2, 2*C), rounded up.

    Raises ValueError for maps of another shape, TypeError for maps that are not float.
    """

    def __init__(self, dim: int, norm_eps: float = 1e-5):
        super().__init__()
        self.dim = dim
        self.norm = nn.LayerNorm(4 * dim, eps=norm_eps)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        check_map(x, self.dim)
        return self.reduction(self.norm(merge_patches(x)))  # (B, H, W, C) -> (B, H/2, W/2, 4*C) -> (..., 2*C)
