"""Right answers of lesson 07 written in other ways; each must pass."""

import math
from functools import reduce

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn


def backwards(layers):
    side = 1
    for kernel, stride in reversed(layers):
        side = (side - 1) * stride + kernel
    return side


def in_one_formula(layers):
    kernels, strides = zip(*layers)
    return 1 + sum((k - 1) * math.prod(strides[:i]) for i, k in enumerate(kernels))


def folded(layers):
    return reduce(lambda seen, layer: (seen[0] + (layer[0] - 1) * seen[1], seen[1] * layer[1]), layers, (1, 1))[0]


def recursive_field(layers):
    if not layers:
        return 1
    *before, (kernel, _) = layers
    return recursive_field(before) + (kernel - 1) * math.prod(stride for _, stride in before)


def asked_of_pixels(layers):
    """The first and the last pixel of output 0, found by walking back."""
    first = last = 0
    for kernel, stride in layers[::-1]:
        first, last = first * stride, last * stride + kernel - 1
    return last - first + 1


def pooled_first(images, weights):
    """Max pooling and ReLU may change places: both keep the order of numbers."""
    for weight in weights:
        images = F.relu(F.max_pool2d(F.conv2d(images, weight, padding="same"), 3, 2, 1))
    return images.flatten(2).mT


def with_modules(images, weights):
    layers = []
    for weight in weights:
        out, chans, k, _ = weight.shape
        conv = nn.Conv2d(chans, out, k, padding=k // 2, bias=False)
        del conv.weight
        conv.weight = weight
        layers += [conv, nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return rearrange(nn.Sequential(*layers)(images), "b c h w -> b (h w) c")


def unfolded_convolution(images, weights):
    for weight in weights:
        k = weight.shape[-1]
        _, _, H, W = images.shape
        columns = F.unfold(images, k, padding=k // 2)  # (B, C*k*k, H*W)
        x = (weight.flatten(1) @ columns).clamp(min=0).unflatten(2, (H, W))
        x = F.pad(x, (1, 1, 1, 1))  # zeros are as good as -inf behind a ReLU
        images = x.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(-2, -1))
    return images.permute(0, 2, 3, 1).flatten(1, 2)


def recursive_tokens(images, weights):
    x = torch.clamp_min(F.conv2d(images, weights[0], bias=None, stride=1, padding=weights[0].size(2) // 2), 0)
    x = F.max_pool2d(x, (3, 3), (2, 2), (1, 1))
    return recursive_tokens(x, weights[1:]) if len(weights) > 1 else x.reshape(*x.shape[:2], -1).permute(0, 2, 1)


def pooling_without_bias(x, weight, bias):
    """A number that is added to all scores changes no softmax."""
    weights = torch.softmax((x * weight).sum(-1), dim=-1)
    return (x * weights.unsqueeze(-1)).sum(dim=1), weights


def as_the_authors(x, weight, bias):
    weights = F.softmax(F.linear(x, weight, bias), dim=1)
    return torch.matmul(weights.transpose(-1, -2), x).squeeze(-2), weights[..., 0]


def with_a_layer(x, weight, bias):
    layer = nn.Linear(x.shape[-1], 1)
    scores = torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,)).flatten(1)
    weights = (scores - scores.logsumexp(1, keepdim=True)).exp()
    return torch.einsum("bnc,bn->bc", x, weights), weights.detach()


def image_by_image(x, weight, bias):
    pooled, weights = [], []
    for image in x:
        shares = (image @ weight.T + bias)[:, 0].softmax(0)
        pooled.append(shares @ image)
        weights.append(shares)
    return torch.stack(pooled), torch.stack(weights)


def own_softmax(x, weight, bias):
    scores = torch.matmul(x, weight.t()).squeeze(2) + bias
    shares = (scores - scores.amax(1, keepdim=True)).exp()
    shares = shares / shares.sum(1, keepdim=True)
    return torch.bmm(shares.unsqueeze(1), x).squeeze(1), shares


def unfolded_by_einops(x, patch_size):
    return rearrange(x, "b c (h p) (w q) -> b (p q) (h w) c", p=patch_size, q=patch_size)


def sliced(x, patch_size):
    p = patch_size
    return torch.stack([x[:, :, i::p, j::p].flatten(2).mT for i in range(p) for j in range(p)], dim=1)


def by_unfold(x, patch_size):
    return F.unfold(x, patch_size, stride=patch_size).unflatten(1, (x.shape[1], -1)).permute(0, 2, 3, 1)


def as_timm(x, patch_size):
    """Their own way: four axes, then a transpose, with the batch and channels in one."""
    B, C, H, W = x.shape
    p, rows, columns = patch_size, H // patch_size, W // patch_size
    x = x.reshape(B * C * rows, p, columns, p).transpose(1, 2)  # (B*C*rows, columns, p, p)
    x = x.reshape(B, C, rows * columns, p * p).transpose(1, 3)  # (B, p*p, N, C)
    return x


def by_pixel_unshuffle(x, patch_size):
    x = F.pixel_unshuffle(x, patch_size)  # (B, C*p*p, rows, columns)
    return rearrange(x, "b (c s) h w -> b s (h w) c", s=patch_size**2)


def pixel_by_pixel(x, patch_size):
    B, C, H, W = x.shape
    p = patch_size
    out = x.new_zeros(B, p * p, (H // p) * (W // p), C)
    for y in range(H):
        for z in range(W):
            out[:, (y % p) * p + z % p, (y // p) * (W // p) + z // p] = x[:, :, y, z]
    return out


RIGHT = {
    "receptive_field": [backwards, in_one_formula, folded, recursive_field, asked_of_pixels],
    "conv_tokenizer": [pooled_first, with_modules, unfolded_convolution, recursive_tokens],
    "sequence_pooling": [pooling_without_bias, as_the_authors, with_a_layer, image_by_image, own_softmax],
    "mobile_unfold": [unfolded_by_einops, sliced, by_unfold, as_timm, by_pixel_unshuffle, pixel_by_pixel],
}
