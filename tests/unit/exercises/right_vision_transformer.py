"""Right answers of lesson 04 written in other ways; each must pass."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_edu import layers


class Named(nn.Module):
    """patch_embed.proj, as a module that only holds it."""

    def __init__(self, in_chans, embed_dim, patch_size):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)


class LikeTimm(nn.Module):
    """The convolution flattened; positions and class token as timm's own forward has them."""

    def __init__(self, img_size, patch_size, in_chans, num_classes, embed_dim, depth, num_heads):
        super().__init__()
        self.patch_embed = Named(in_chans, embed_dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2 + 1, embed_dim))
        self.blocks = nn.Sequential(*[layers.Block(embed_dim, num_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images):
        x = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class NormOfOneToken(LikeTimm):
    """A norm looks at each token by itself, so that one may be picked before; positions added to the parts."""

    def forward(self, images):
        x = self.patch_embed.proj(images).flatten(2).mT + self.pos_embed[:, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).repeat(len(images), 1, 1)
        x = torch.hstack([first, x])
        for i in range(len(self.blocks)):
            x = self.blocks[i](x)
        return self.head(self.norm(x[:, 0, :]))


class PictureByPicture(LikeTimm):
    """No batch inside: one picture after the other, with a plain list of blocks."""

    def __init__(self, **words):
        super().__init__(**words)
        self.blocks = nn.ModuleList(self.blocks)

    def forward(self, images):
        return torch.stack([self.one(image) for image in images])

    def one(self, image):
        weight, bias = self.patch_embed.proj.weight, self.patch_embed.proj.bias
        patches = F.unfold(image[None], weight.shape[-1], stride=weight.shape[-1])[0].T
        x = torch.cat([self.cls_token[0], patches @ weight.flatten(1).T + bias]) + self.pos_embed[0]
        x = x[None]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x).squeeze(0)[0], self.head.weight, self.head.bias)


class ClassTokenLast(LikeTimm):
    """The order of a sequence is nobody's business, as long as everybody has the own position."""

    def forward(self, images):
        x = self.patch_embed.proj(images).flatten(2).mT + self.pos_embed[:, 1:]
        x = torch.cat([x, (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)], dim=1)
        return self.head(self.norm(self.blocks(x))[:, -1])


class NormByHand(LikeTimm):
    """The norm by hand."""

    def forward(self, images):
        x = self.patch_embed.proj(images).flatten(2).mT
        x = layers.embed_positions(x, self.cls_token, self.pos_embed)
        x = self.blocks(x)[:, 0]
        centred = x - x.mean(-1, keepdim=True)
        x = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return (x * self.norm.weight + self.norm.bias) @ self.head.weight.T + self.head.bias


def sorted_predictions(logits, k):
    probabilities, classes = torch.sort(F.softmax(logits, dim=1), dim=1, descending=True)
    return probabilities[:, :k], classes[:, :k]


def own_softmax_predictions(logits, k):
    shares = (logits - logits.amax(1, keepdim=True)).exp()
    shares = shares / shares.sum(1, keepdim=True)
    order = (-shares).argsort(1)[:, :k]
    return [shares.gather(1, order), order]


def looped_predictions(logits, k):
    rows = [torch.softmax(row, 0).topk(k) for row in logits]
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


def numpy_predictions(logits, k):
    shares = F.softmax(logits, dim=-1).detach().numpy()
    order = np.argsort(-shares, axis=1)[:, :k]
    return torch.from_numpy(np.take_along_axis(shares, order, 1)), torch.from_numpy(order)


def topk_of_logits_first(logits, k):
    _, classes = logits.topk(k)
    return torch.take_along_dim(torch.softmax(logits, -1), classes, dim=-1), classes


def parameters_term_by_term(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes):
    def linear(wide, to):
        return (wide + 1) * to

    D, hidden, norm = embed_dim, int(embed_dim * mlp_ratio), 2 * embed_dim
    tokens = 1 + (img_size // patch_size) * (img_size // patch_size)
    total = linear(in_chans * patch_size * patch_size, D) + D + tokens * D
    for _ in range(depth):
        total += norm + linear(D, 3 * D) + linear(D, D) + norm + linear(D, hidden) + linear(hidden, D)
    return total + norm + linear(D, num_classes)


def parameters_by_building(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes):
    D = embed_dim
    with torch.device("meta"):
        parts = [nn.Conv2d(in_chans, D, patch_size), nn.LayerNorm(D), nn.Linear(D, num_classes)]
        parts += [nn.Linear(D, 3 * D), nn.Linear(D, D), nn.LayerNorm(D), nn.LayerNorm(D)] * depth
        parts += [nn.Linear(D, mlp_ratio * D), nn.Linear(mlp_ratio * D, D)] * depth
    numbers = sum(p.numel() for part in parts for p in part.parameters())
    return numbers + D + (1 + (img_size // patch_size) ** 2) * D


def parameters_in_closed_form(s, p, c, D, L, r, classes):
    return L * D * ((4 + 2 * r) * D + 9 + r) + D * (p * p * c + (s // p) ** 2 + 5 + classes) + classes


def cost_term_by_term(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes):
    n = (img_size // patch_size) ** 2
    total = n * embed_dim * in_chans * patch_size * patch_size
    for _ in range(depth):
        total += (n + 1) * embed_dim * 3 * embed_dim + (n + 1) * (n + 1) * embed_dim
        total += (n + 1) * (n + 1) * embed_dim + (n + 1) * embed_dim * embed_dim
        total += 2 * (n + 1) * embed_dim * (mlp_ratio * embed_dim)
    return total + embed_dim * num_classes


def cost_with_lesson_02(s, p, c, D, L, r, classes):
    n = (s // p) ** 2
    attention = 2 * (n + 1) * D * (2 * D + n + 1)
    return s * s * c * D + L * (attention + 2 * r * (n + 1) * D**2) + D * classes


RIGHT = {
    "vision_transformer": [LikeTimm, NormOfOneToken, PictureByPicture, ClassTokenLast, NormByHand],
    "predict": [
        sorted_predictions,
        own_softmax_predictions,
        looped_predictions,
        topk_of_logits_first,
        numpy_predictions,
    ],
    "count_parameters": [parameters_term_by_term, parameters_by_building, parameters_in_closed_form],
    "multiply_adds": [cost_term_by_term, cost_with_lesson_02],
}
