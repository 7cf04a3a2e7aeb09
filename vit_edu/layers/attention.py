"""Attention: Vaswani et al. 2017, section 3.2; in a vision transformer Dosovitskiy et al. 2021, equations 5 to 8."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .checks import check_heads, check_packed, check_qkv, check_tokens


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / √d) v, Vaswani et al. 2017, equation 1.

    q (..., N_q, d), k (..., N_k, d), v (..., N_k, d_v) of one float dtype; mask bool, broadcastable to
    (..., N_q, N_k), True = may attend. Returns the output (..., N_q, d_v) and the weights (..., N_q, N_k), whose rows
    sum to 1; a query that may attend to nothing gets zeros, as in torch's fused kernel.
    Raises ValueError where q, k and v do not fit together, TypeError for other dtypes.
    """
    check_qkv(q, k, v, mask)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (..., N_q, d) @ (..., d, N_k) -> (..., N_q, N_k)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)  # a softmax over nothing but -inf is NaN
    return weights @ v, weights  # (..., N_q, N_k) @ (..., N_k, d_v) -> (..., N_q, d_v)


def split_heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """qkv (B, N, 3*C) -> q, k, v, each (B, h, N, d); the channels lie as (3, heads, head_dim), ViT's equation 5.

    Raises ValueError for another rank or width, and where num_heads does not divide C.
    """
    check_packed(qkv, num_heads)
    q, k, v = rearrange(qkv, "B N (three h d) -> B N three h d", three=3, h=num_heads).unbind(2)  # 3 times (B, N, h, d)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # unbound first, backward copies the gradient once


def merge_heads(x: Tensor) -> Tensor:
    """(B, h, N, d) -> (B, N, h*d): the heads side by side. Raises EinopsError for another rank."""
    return rearrange(x, "B h N d -> B N (h d)")


class Attention(nn.Module):
    """Multi-head self-attention: Vaswani et al. 2017, section 3.2.2; ViT, equations 5 to 8.

    x (B, N, C) -> (B, N, C), with `return_weights=True` also the weights (B, h, N, N). Without them torch's fused
    kernel runs, which need not hold an N x N matrix; the numbers agree to rounding. With `causal=True` a token attends
    to itself and to those before it, as in CLIP's text tower. Raises ValueError where num_heads does not divide dim and
    for tokens of another shape, TypeError for tokens that are not float.
    """

    def __init__(self, dim: int, num_heads: int = 8, qkv_bias: bool = True, causal: bool = False):
        super().__init__()
        check_heads(dim, num_heads)
        self.dim, self.num_heads, self.causal = dim, num_heads, causal
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, return_weights: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        check_tokens(x, self.dim)
        q, k, v = split_heads(self.qkv(x), self.num_heads)  # (B, N, 3*C) -> 3 times (B, h, N, d)
        if return_weights:
            N = x.shape[1]
            mask = torch.ones(N, N, dtype=torch.bool, device=x.device).tril() if self.causal else None  # (N, N)
            x, weights = scaled_dot_product_attention(q, k, v, mask)  # (B, h, N, d), (B, h, N, N)
            return self.proj(merge_heads(x)), weights  # (B, h, N, d) -> (B, N, C)
        x = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)  # (B, h, N, d)
        return self.proj(merge_heads(x))  # (B, h, N, d) -> (B, N, C)
