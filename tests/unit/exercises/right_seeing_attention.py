"""Right answers of lesson 05 written in other ways; each must pass."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce


def einops_map(weights, grid_size):
    row = rearrange(weights[..., 0, 1:], "b h (r c) -> b h r c", r=grid_size[0])
    return row / reduce(row, "b h r c -> b h 1 1", "sum")


def looped_map(weights, grid_size):
    B, h, _, _ = weights.shape
    rows, columns = grid_size
    result = weights.new_zeros(B, h, rows, columns)
    for y in range(rows):
        for x in range(columns):
            result[:, :, y, x] = weights[:, :, 0, 1 + y * columns + x] / (1 - weights[:, :, 0, 0])
    return result


def normalised_map(weights, grid_size):
    """Softmax of the logarithm is the same as dividing by the sum."""
    row = weights[:, :, 0].narrow(-1, 1, grid_size[0] * grid_size[1]).log().softmax(-1)
    return row.reshape(*row.shape[:2], *grid_size)


def l1_map(weights, grid_size):
    return F.normalize(weights[:, :, 0, 1:], p=1, dim=-1).view(len(weights), -1, *grid_size).clone()


def map_with_epsilon(weights, grid_size):
    row = weights[:, :, 0, 1:]
    return (row / (row.sum(-1, keepdim=True) + 1e-8)).unflatten(-1, grid_size)


def numpy_map(weights, grid_size):
    """Without .detach(): nobody asks for a gradient here."""
    row = weights.numpy()[:, :, 0, 1:]
    return torch.from_numpy(row / row.sum(-1, keepdims=True)).unflatten(-1, grid_size)


def cdist_distance(weights, grid_size, patch_size):
    y, x = torch.meshgrid(*map(torch.arange, grid_size), indexing="ij")
    centres = (torch.stack([y, x], -1).reshape(-1, 2).to(weights) + 0.5) * patch_size
    patches = weights[..., 1:, 1:]
    patches = patches / patches.sum(-1, keepdim=True)
    return (patches * torch.cdist(centres, centres)).sum(-1).mean(-1)


def looped_distance(weights, grid_size, patch_size):
    (rows, columns), total = grid_size, 0.0
    places = [(y, x) for y in range(rows) for x in range(columns)]
    for i, a in enumerate(places, 1):
        rest = 1 - weights[:, :, i, 0]
        for j, b in enumerate(places, 1):
            total = total + weights[:, :, i, j] / rest * math.dist(a, b) * patch_size
    return total / len(places)


def einsum_distance(weights, grid_size, patch_size):
    rows, columns = grid_size
    n = torch.arange(rows * columns)
    dy, dx = n[:, None] // columns - n // columns, n[:, None] % columns - n % columns
    far = patch_size * (dy**2 + dx**2).sqrt().to(weights)
    inner = weights[:, :, 1:, 1:]
    return torch.einsum("bhqk,qk,bhq->bh", inner, far, 1 / inner.sum(-1)) / (rows * columns)


def distance_with_epsilon(weights, grid_size, patch_size):
    inner = weights[:, :, 1:, 1:] / (weights[:, :, 1:, 1:].sum(-1, keepdim=True) + 1e-8)
    y, x = (torch.arange(inner.shape[-1]).to(weights).view(grid_size) for _ in range(2))
    y, x = (y // grid_size[1]).flatten(), (x % grid_size[1]).flatten()
    return (inner * torch.hypot(y[:, None] - y, x[:, None] - x) * patch_size).sum(-1).mean(-1)


def complex_distance(weights, grid_size, patch_size):
    rows, columns = grid_size
    z = (torch.arange(columns) + 1j * torch.arange(rows)[:, None]).flatten()
    far = (z[:, None] - z[None]).abs().to(weights) * patch_size
    share = F.normalize(weights[:, :, 1:, 1:], p=1, dim=-1)
    return (share * far).sum((-2, -1)) / len(z)


def numpy_distance(weights, grid_size, patch_size):
    w = weights.numpy()[:, :, 1:, 1:]
    rows, columns = np.divmod(np.arange(w.shape[-1]), grid_size[1])
    far = np.hypot(rows[:, None] - rows, columns[:, None] - columns) * patch_size
    return torch.from_numpy(((w * far).sum(-1) / w.sum(-1)).mean(-1).astype(w.dtype))


def identity_rollout(weights):
    flow = torch.eye(weights[0].shape[-1], dtype=weights[0].dtype)
    for layer in weights:
        mixed = (layer.mean(1) + torch.eye(layer.shape[-1], dtype=layer.dtype)) / 2
        flow = mixed @ flow
    return flow


def chained_rollout(weights):
    stack = torch.stack(list(weights)).mean(2)  # (L, B, N, N)
    stack = stack + torch.eye(stack.shape[-1]).to(stack)
    stack = stack / stack.sum(-1, keepdim=True)
    if len(stack) == 1:
        return stack[0]
    return torch.stack([torch.linalg.multi_dot(list(stack[:, b].flip(0))) for b in range(stack.shape[1])])


def residual_rollout(weights):
    """As the block does it: half of what came in, half of what attention brings."""
    flow = torch.eye(weights[0].shape[-1]).to(weights[0]).repeat(len(weights[0]), 1, 1)
    for layer in weights:
        flow = 0.5 * flow + 0.5 * torch.einsum("bhqk,bkn->bqn", layer, flow) / layer.shape[1]
    return flow


def numpy_rollout(weights):
    flow = np.eye(weights[0].shape[-1], dtype=weights[0].numpy().dtype)
    for layer in weights:
        flow = (layer.numpy().mean(1) @ flow + flow) / 2
    return torch.from_numpy(flow)


@torch.no_grad()
def backwards_rollout(weights):
    """From the last layer back to the picture."""
    flow = None
    for layer in reversed(weights):
        mixed = 0.5 * layer.mean(dim=1)
        mixed.diagonal(dim1=-2, dim2=-1).add_(0.5)
        flow = mixed if flow is None else flow @ mixed
    return flow


def looped_contributions(weights, v, proj_weight):
    d, result = v.shape[-1], []
    for head in range(v.shape[1]):
        part = proj_weight[:, head * d : (head + 1) * d]
        result.append(weights[:, head] * (v[:, head] @ part.T).norm(dim=-1).unsqueeze(1))
    return torch.stack(result, dim=1)


def vectors_first(weights, v, proj_weight):
    """Every vector alpha W v is made, then measured: wasteful, and right."""
    h, d = v.shape[1], v.shape[-1]
    handed = weights[..., None] * v[:, :, None]  # (B, h, N, N, d)
    return torch.stack([(handed[:, i] @ proj_weight[:, i * d :][:, :d].T).norm(dim=-1) for i in range(h)], 1)


def gram_contributions(weights, v, proj_weight):
    parts = rearrange(proj_weight, "c (h d) -> h d c", h=v.shape[1])
    gram = parts @ parts.mT  # (h, d, d)
    return weights * torch.einsum("bhnd,hde,bhne->bhn", v, gram, v).clamp_min(0).sqrt()[:, :, None]


def one_head_at_a_time(weights, v, proj_weight):
    """Merged heads with all but one set to zero go through proj whole."""
    lengths = []
    for i in range(v.shape[1]):
        alone = torch.zeros_like(v)
        alone[:, i] = v[:, i]
        lengths.append(F.linear(alone.transpose(1, 2).flatten(2), proj_weight).norm(dim=-1))  # (B, N)
    return weights * torch.stack(lengths, 1)[:, :, None]


def numpy_contributions(weights, v, proj_weight):
    parts = proj_weight.numpy().reshape(-1, *v.shape[1::2])
    lengths = np.linalg.norm(np.einsum("bhnd,chd->bhnc", v.numpy(), parts), axis=-1)
    return weights * torch.from_numpy(lengths)[:, :, None]


EPSILON = {"class_attention_map": map_with_epsilon, "attention_distance": distance_with_epsilon}
RIGHT = {
    "class_attention_map": [einops_map, looped_map, normalised_map, l1_map, numpy_map],
    "attention_distance": [cdist_distance, looped_distance, einsum_distance, complex_distance, numpy_distance],
    "rollout": [identity_rollout, chained_rollout, residual_rollout, backwards_rollout, numpy_rollout],
    "contributions": [looped_contributions, vectors_first, gram_contributions, one_head_at_a_time, numpy_contributions],
}
