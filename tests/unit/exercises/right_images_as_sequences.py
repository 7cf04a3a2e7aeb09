"""Right answers of lesson 01 written in other ways; each must pass."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn


def permuted_patches(images, patch_size):
    B, C, H, W = images.shape
    p = patch_size
    x = images.reshape(B, C, H // p, p, W // p, p).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(B, (H // p) * (W // p), C * p * p)


def looped_patches(images, patch_size):
    p = patch_size
    patches = []
    for top in range(0, images.shape[2], p):
        for left in range(0, images.shape[3], p):
            patches.append(images[:, :, top : top + p, left : left + p].flatten(1))
    return torch.stack(patches, dim=1)


def unfolded_patches(images, patch_size):
    return F.unfold(images, patch_size, stride=patch_size).transpose(1, 2)


def window_patches(images, patch_size):
    x = images.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)  # (B, C, rows, columns, p, p)
    return rearrange(x, "b c h w p q -> b (h w) (c p q)")


def shuffled_pixels(images, patch_size):
    return F.pixel_unshuffle(images, patch_size).flatten(2).transpose(1, 2)


def permuted_images(patches, patch_size, grid_size):
    B, _, D = patches.shape
    rows, columns = grid_size
    x = patches.reshape(B, rows, columns, D // patch_size**2, patch_size, patch_size)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(B, -1, rows * patch_size, columns * patch_size)


def looped_images(patches, patch_size, grid_size):
    p, (rows, columns) = patch_size, grid_size
    tiles = patches.reshape(*patches.shape[:2], -1, p, p)
    lines = [torch.cat([tiles[:, r * columns + c] for c in range(columns)], dim=-1) for r in range(rows)]
    return torch.cat(lines, dim=-2)


def folded_images(patches, patch_size, grid_size):
    size = tuple(side * patch_size for side in grid_size)
    return F.fold(patches.transpose(1, 2), size, patch_size, stride=patch_size)


def written_into_zeros(patches, patch_size, grid_size):
    p, (rows, columns) = patch_size, grid_size
    images = patches.new_zeros(len(patches), patches.shape[-1] // p**2, rows * p, columns * p)
    for n in range(rows * columns):
        y, x = divmod(n, columns)
        images[:, :, y * p : y * p + p, x * p : x * p + p] = patches[:, n].reshape(len(patches), -1, p, p)
    return images


def matrix_product(images, weight, bias):
    p = weight.shape[-1]
    patches = rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p)
    return patches @ rearrange(weight, "d c p q -> (c p q) d") + bias


def convolution(images, weight, bias):
    return F.conv2d(images, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2)


def unfold_and_linear(images, weight, bias):
    p = weight.shape[-1]
    return F.linear(F.unfold(images, p, stride=p).mT, weight.reshape(len(weight), -1), bias)


def einsum_channels_last(images, weight, bias):
    p = weight.shape[-1]
    x = rearrange(images, "b c (h p) (w q) -> b (h w) p q c", p=p, q=p)
    return torch.einsum("bnpqc,dcpq->bnd", x, weight) + bias[None, None]


def joined_then_added(tokens, cls_token, pos_embed):
    x = torch.cat((cls_token.expand(tokens.shape[0], -1, -1), tokens), 1)
    return x + pos_embed


def added_then_joined(tokens, cls_token, pos_embed):
    first = repeat(cls_token + pos_embed[:, :1], "1 1 d -> b 1 d", b=len(tokens))
    return torch.cat([first, tokens + pos_embed[:, 1:]], dim=1)


def padded_in_front(tokens, cls_token, pos_embed):
    x = F.pad(tokens, (0, 0, 1, 0))
    here = (torch.arange(x.shape[1]) == 0)[None, :, None]
    return torch.where(here, cls_token, x) + pos_embed


def numpy_table(grid_size, dim):
    rows, columns = grid_size
    omega = 1.0 / 10000 ** (np.arange(dim // 4, dtype=float) / (dim / 4.0))
    xs, ys = np.meshgrid(np.arange(columns), np.arange(rows))
    ax, ay = np.outer(xs.ravel(), omega), np.outer(ys.ravel(), omega)
    return torch.from_numpy(np.concatenate([np.sin(ax), np.cos(ax), np.sin(ay), np.cos(ay)], axis=1))


def looped_table(grid_size, dim):
    rows, columns = grid_size
    table = torch.zeros(rows * columns, dim)
    quarter = dim // 4
    for y in range(rows):
        for x in range(columns):
            for k in range(quarter):
                omega = 10000 ** (-k / quarter)
                here = [math.sin(x * omega), math.cos(x * omega), math.sin(y * omega), math.cos(y * omega)]
                table[y * columns + x, k::quarter] = torch.tensor(here)
    return table


def exponential_table(grid_size, dim):
    k = torch.arange(0, dim // 2, 2)
    omega = torch.exp(-math.log(10000.0) * k / (dim // 2))
    y, x = torch.meshgrid(*map(torch.arange, grid_size), indexing="ij")
    waves = [f(axis.reshape(-1, 1) * omega) for axis in (x, y) for f in (torch.sin, torch.cos)]
    return nn.Parameter(torch.hstack(waves), requires_grad=False)


RIGHT = {
    "patchify": [permuted_patches, looped_patches, unfolded_patches, window_patches, shuffled_pixels],
    "unpatchify": [permuted_images, looped_images, folded_images, written_into_zeros],
    "embed_patches": [matrix_product, convolution, unfold_and_linear, einsum_channels_last],
    "embed_positions": [joined_then_added, added_then_joined, padded_in_front],
    "sincos_position": [numpy_table, looped_table, exponential_table],
}
