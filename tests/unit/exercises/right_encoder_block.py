"""Right answers of lesson 03 written in other ways; each must pass."""

import math

import torch
import torch._dynamo  # which the first `checkpoint` of a session imports, for seconds
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import nn
from torch.utils.checkpoint import checkpoint

from vit_edu import layers


def norm_by_sums(x, weight, bias, eps=1e-6):
    C = x.size(-1)
    x = x - x.sum(-1, keepdim=True) / C
    return weight * x * torch.rsqrt((x * x).sum(-1, keepdim=True) / C + eps) + bias


def norm_by_var_mean(x, weight, bias, eps=1e-6):
    variance, mean = torch.var_mean(x, -1, unbiased=False, keepdim=True)
    return torch.addcmul(bias, weight, (x - mean) / torch.sqrt(variance + eps))


def norm_by_mean_of_squares(x, weight, bias, eps=1e-6):
    """Less exact where a token lies far from 0, and right."""
    mean = reduce(x, "... c -> ... 1", "mean")
    variance = reduce(x**2, "... c -> ... 1", "mean") - mean**2
    return (x - mean) / (variance + eps) ** 0.5 * weight + bias


def norm_token_by_token(x, weight, bias, eps=1e-6):
    rows = []
    for token in x.reshape(-1, x.shape[-1]):
        centred = token - token.mean()
        rows.append(centred / torch.sqrt((centred**2).mean() + eps) * weight + bias)
    return torch.stack(rows).reshape(x.shape)


def norm_by_matrix(x, weight, bias, eps=1e-6):
    """To take a mean away is linear."""
    C = x.shape[-1]
    x = x @ (torch.eye(C) - 1 / C).to(x.dtype)
    return x * (torch.einsum("...c,...c->...", x, x) / C + eps).rsqrt()[..., None] * weight + bias


def norm_in_float64(x, weight, bias, eps=1e-6):
    wide = x.double()
    wide = (wide - wide.mean(-1, True)) / wide.var(-1, correction=0, keepdim=True).add(eps).sqrt()
    return wide.to(x.dtype) * weight + bias


def norm_in_float32(x, weight, bias, eps=1e-6):
    return norm_by_var_mean(x.float(), torch.ones(()), torch.zeros(()), eps).to(x.dtype) * weight + bias


class MlpOfSequential(nn.Sequential):
    def __init__(self, dim, hidden_dim):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim)


class MlpByErf(nn.Module):
    def __init__(self, dim, hidden_dim):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(0.5 * x * (1 + torch.erf(x / math.sqrt(2))))


class MlpByNormal(nn.Module):
    def __init__(self, dim, hidden_dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden_dim), nn.Linear(hidden_dim, dim)

    def forward(self, x):
        wide = torch.einsum("...c,hc->...h", x, self.fc1.weight) + self.fc1.bias
        return F.linear(wide * torch.special.ndtr(wide), self.fc2.weight, self.fc2.bias)


class OwnNorm(nn.Module):
    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim)), eps

    def forward(self, x):
        return norm_by_sums(x, self.weight, self.bias, self.eps)


class OwnAttention(nn.Module):
    def __init__(self, dim, num_heads):
        super().__init__()
        self.h, self.qkv, self.proj = num_heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.h)
        weights = torch.einsum("bhid,bhjd->bhij", q, k).div(q.shape[-1] ** 0.5).softmax(-1)
        return self.proj(rearrange(weights @ v, "b h n d -> b n (h d)"))


class BlockOfOwnParts(nn.Module):
    """As the lesson has it."""

    def __init__(self, dim, num_heads, mlp_ratio=4.0):
        super().__init__()
        self.norm1, self.attn = OwnNorm(dim), OwnAttention(dim, num_heads)
        self.norm2, self.mlp = OwnNorm(dim), MlpByErf(dim, int(dim * mlp_ratio))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TimmLikeBlock(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio=4.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = layers.Attention(dim, num_heads)
        self.drop_path1 = nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = layers.Mlp(dim, int(dim * mlp_ratio))
        self.drop_path2 = nn.Identity()

    def forward(self, x):
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        x = x + self.drop_path2(self.mlp(self.norm2(x)))
        return x


class BlockWithASkip(nn.Module):
    """One addition as a function, written in another order."""

    def __init__(self, dim, num_heads, mlp_ratio=4.0):
        super().__init__()
        self.mlp = MlpOfSequential(dim, round(mlp_ratio * dim))
        self.norm2 = nn.LayerNorm(dim, 1e-6)
        self.norm1 = nn.LayerNorm(dim, 1e-6)
        self.attn = layers.Attention(dim, num_heads)

    def forward(self, x):
        for norm, branch in ((self.norm1, self.attn), (self.norm2, self.mlp)):
            x = branch(norm(x)).add(x)
        return x


class BlockFromTheState(nn.Module):
    """Parts that are only there to hold weights, and the sum written out."""

    def __init__(self, dim, num_heads, mlp_ratio=4.0):
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1, self.norm2 = OwnNorm(dim), OwnNorm(dim)
        self.attn = OwnAttention(dim, num_heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, hidden), "fc2": nn.Linear(hidden, dim)})

    def forward(self, x):
        heard = self.attn(self.norm1(x))
        thought = self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x + heard))))
        return x + heard + thought


class BlockThatRunsAgain(BlockOfOwnParts):
    """Nothing is kept for the way back; there everything runs a second time."""

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


class BlockInPlace(BlockOfOwnParts):
    """On a copy of its own."""

    def forward(self, x):
        x = x.clone()
        x += self.attn(self.norm1(x))
        x += self.mlp(self.norm2(x))
        return x


def drop_by_floor(x, rate, noise):
    """timm's first way."""
    keep_prob = 1 - rate
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    return x.div(keep_prob) * (keep_prob + noise.reshape(shape)).floor()


def drop_by_where(x, rate, noise):
    drop = noise < rate
    while drop.ndim < x.ndim:
        drop = drop.unsqueeze(-1)
    return torch.where(drop, torch.zeros_like(x), x / (1 - rate))


def drop_one_by_one(x, rate, noise):
    return torch.stack([0 * one if u < rate else one / (1 - rate) for one, u in zip(x, noise, strict=True)])


def drop_by_einsum(x, rate, noise):
    return torch.einsum("b...,b->b...", x, (noise >= rate).to(x)) / (1 - rate)


def drop_by_transposing(x, rate, noise):
    return (x.movedim(0, -1) * ((noise >= rate).to(x.dtype) / (1 - rate))).movedim(-1, 0)


def drop_by_assignment(x, rate, noise):
    x = x / (1 - rate)
    x[noise < rate] = 0
    return x


def drop_by_index(x, rate, noise):
    kept = torch.nonzero(noise >= rate)[:, 0]
    return torch.zeros_like(x).index_add(0, kept, x[kept] / (1 - rate))


def bias_by_unfold(table, num_tokens):
    """Row i is a window of the table, read backwards."""
    return table.unfold(0, num_tokens, 1).flip(-1).permute(1, 0, 2)


def bias_in_loops(table, num_tokens):
    N = num_tokens
    rows = [torch.stack([table[i - j + N - 1] for j in range(N)]) for i in range(N)]
    return rearrange(torch.stack(rows), "i j h -> h i j")


def bias_by_flat_index(table, num_tokens):
    i, j = torch.meshgrid(torch.arange(num_tokens), torch.arange(num_tokens), indexing="ij")
    index = (i - j + len(table) // 2).flatten()
    return table.index_select(0, index).T.reshape(-1, num_tokens, num_tokens)


def bias_of_ones_and_zeros(table, num_tokens):
    place = torch.arange(num_tokens)
    found = F.one_hot(place[:, None] - place + num_tokens - 1, len(table)).to(table.dtype)  # (N, N, 2N - 1)
    return torch.einsum("ijr,rh->hij", found, table)


def bias_row_by_row(table, num_tokens):
    return torch.stack([table[i : i + num_tokens].flip(0).T for i in range(num_tokens)], dim=1)


RIGHT = {
    "layer_norm": [
        norm_by_sums,
        norm_by_var_mean,
        norm_by_mean_of_squares,
        norm_token_by_token,
        norm_by_matrix,
        norm_in_float64,
        norm_in_float32,
    ],
    "mlp": [MlpOfSequential, MlpByErf, MlpByNormal],
    "encoder_block": [
        BlockOfOwnParts,
        TimmLikeBlock,
        BlockWithASkip,
        BlockFromTheState,
        BlockThatRunsAgain,
        BlockInPlace,
    ],
    "drop_path": [
        drop_by_floor,
        drop_by_where,
        drop_one_by_one,
        drop_by_einsum,
        drop_by_transposing,
        drop_by_index,
        drop_by_assignment,
    ],
    "relative_bias": [bias_by_unfold, bias_in_loops, bias_by_flat_index, bias_of_ones_and_zeros, bias_row_by_row],
}
