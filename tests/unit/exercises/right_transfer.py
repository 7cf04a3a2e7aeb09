"""Right answers of lesson 08 written in other ways; each must pass."""

import copy
import math
import re

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn


def taken_by_names(published, own, prefix):
    body = {name.removeprefix(prefix): x for name, x in published.items() if name.startswith(prefix)}
    body.pop("head.weight"), body.pop("head.bias")
    if missing := set(own) - set(body) - {"head.weight", "head.bias"}:
        raise ValueError(f"{missing} missing")
    return own | body


def own_filled(published, own, prefix):
    filled = {**own}
    for name in filled:
        if name.split(".")[0] != "head":
            filled[name] = published[f"{prefix}{name}"].detach().clone()
    return filled


def in_a_loop_over_the_file(published, own, prefix):
    taken, wanted = {}, 0
    for name, value in published.items():
        if (
            name[: len(prefix)] == prefix
            and name[len(prefix) :] in own
            and not name.endswith(("head.weight", "head.bias"))
        ):
            taken[name[len(prefix) :]] = value
            wanted += 1
    assert wanted == len(own) - 2, "something is missing"
    for name in own:
        taken.setdefault(name, own[name])
    return taken


def deep_copied(published, own, prefix):
    taken = copy.deepcopy(own)
    for name in taken.keys() - {"head.weight", "head.bias"}:
        taken[name].copy_(published[prefix + name])
    return taken


def by_einops(pos_embed, grid_size, new_grid_size):
    cls, patches = torch.split(pos_embed, [1, pos_embed.shape[1] - 1], dim=1)
    image = rearrange(patches, "b (h w) c -> b c h w", h=grid_size[0])
    image = F.interpolate(image, size=tuple(new_grid_size), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat((cls, rearrange(image, "b c h w -> b (h w) c")), 1)


def as_timm(posemb, old, new):
    prefix, grid = posemb[:, :1], posemb[0, 1:]
    grid = grid.reshape(1, old[0], old[1], -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid.float(), size=list(new), mode="bicubic", antialias=True)
    grid = grid.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1).to(posemb.dtype)
    return torch.cat([prefix, grid], dim=1)


def channel_by_channel(pos_embed, grid_size, new_grid_size):
    columns = []
    for c in range(pos_embed.shape[2]):
        image = pos_embed[:, 1:, c].reshape(1, 1, *grid_size)
        columns.append(F.interpolate(image, new_grid_size, mode="bicubic", antialias=True).flatten())
    return torch.cat([pos_embed[0, :1], torch.stack(columns, dim=-1)])[None]


def as_two_matrices(pos_embed, grid_size, new_grid_size):
    """Resizing is linear, and rows and columns are resized by themselves."""

    def matrix(old, new):
        unit = torch.eye(old, dtype=pos_embed.dtype)[None, None]  # (1, 1, old, old)
        return F.interpolate(unit, (new, old), mode="bicubic", antialias=True)[0, 0]  # (new, old)

    rows, columns = (matrix(old, new) for old, new in zip(grid_size, new_grid_size))
    image = pos_embed[0, 1:].unflatten(0, grid_size)  # (rows, columns, C)
    image = torch.einsum("ry,cx,yxd->rcd", rows, columns, image)
    return torch.cat([pos_embed[:, :1], image.flatten(0, 1)[None]], dim=1)


def by_hand(model, images, labels, lr):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("head")
    model.train()
    model.body.eval()
    with torch.no_grad():
        features = model.body(images)
    loss = F.cross_entropy(model.head(features), labels)
    gradients = torch.autograd.grad(loss, list(model.head.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.head.parameters(), gradients):
            parameter -= lr * gradient


def filtered(model, images, labels, lr):
    model.eval()
    model.body.requires_grad_(False)
    optimizer = torch.optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=lr)
    logits = model(images)
    optimizer.zero_grad(set_to_none=False)
    loss = F.nll_loss(F.log_softmax(logits, -1), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def by_formula(model, images, labels, lr):
    model.eval()
    for parameter in model.body.parameters():
        parameter.requires_grad_(False)
    x = model.body(images)
    error = (model.head(x).softmax(1) - F.one_hot(labels, model.head.out_features)) / len(x)  # (B, classes)
    with torch.no_grad():
        model.head.weight.sub_(lr * error.T @ x)
        model.head.bias.sub_(lr * error.sum(0))


def all_given_and_forgotten(model, images, labels, lr):
    model.eval()
    for name, p in model.named_parameters():
        p.requires_grad_("head" in name)
        p.grad = None
    optimizer = torch.optim.SGD(model.parameters(), lr)
    nn.CrossEntropyLoss()(model(images), labels).backward()
    optimizer.step()


def by_pattern(name, shape, depth, layer_decay, weight_decay):
    block = re.match(r"blocks\.(\d+)\.", name)
    if block:
        below = depth - int(block[1])
    elif re.match(r"patch_embed|cls_token|pos_embed", name):
        below = depth + 1
    else:
        below = 0
    plain = len(shape) < 2 or name in ("cls_token", "pos_embed")
    return math.pow(layer_decay, below), 0.0 if plain else weight_decay


def as_beit(name, shape, depth, layer_decay, weight_decay):
    scales = [layer_decay ** (depth + 1 - i) for i in range(depth + 2)]
    if name in ("cls_token", "pos_embed", "mask_token") or name.startswith("patch_embed"):
        layer = 0
    elif name.startswith("blocks"):
        layer = int(name.split(".")[1]) + 1
    else:
        layer = len(scales) - 1
    no_decay = len(shape) == 1 or name.endswith(".bias") or name in {"pos_embed", "cls_token"}
    return [scales[layer], 0 if no_decay else weight_decay]


def multiplied_step_by_step(name, shape, depth, layer_decay, weight_decay):
    part, *rest = name.split(".")
    layer = {"patch_embed": 0, "cls_token": 0, "pos_embed": 0}.get(part, depth + 1)
    if part == "blocks":
        layer = int(rest[0]) + 1
    scale = 1
    while layer <= depth:
        scale, layer = scale * layer_decay, layer + 1
    return scale, weight_decay * (rest[-1:] == ["weight"] and len(shape) != 1)


class AsTwoLayers(nn.Module):
    """The thin layers are parameters here, but work as functions of another shape."""

    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear = linear
        for parameter in self.linear.parameters():
            parameter.requires_grad = False
        self.down = nn.Parameter(torch.empty(rank, linear.weight.shape[1]))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.up = nn.Parameter(torch.zeros(len(linear.weight), rank))
        self.rank, self.alpha = rank, alpha

    def forward(self, x):
        return self.linear(x) + x @ self.down.T @ self.up.T * self.alpha / self.rank

    def merged(self):
        merged = copy.deepcopy(self.linear)
        merged.weight.data += (self.up @ self.down).detach() * self.alpha / self.rank
        return merged


class OneMatrix(nn.Module):
    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        self.down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features).normal_(std=0.02))
        self.scaling = alpha / rank

    def whole(self):
        return self.linear.weight + self.scaling * torch.einsum("or,ri->oi", self.up, self.down)

    def forward(self, x):
        return F.linear(x, self.whole(), self.linear.bias)

    def merged(self):
        out, wide = self.linear.weight.shape
        new = nn.Linear(wide, out, dtype=self.linear.weight.dtype)
        new.load_state_dict({"weight": self.whole(), "bias": self.linear.bias})
        return new


class WeightsOfItsOwn(nn.Module):
    """Another who keeps the old weights as buffers, which ask for no gradient."""

    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().clone())
        self.register_buffer("bias", linear.bias.detach().clone())
        self.down = nn.Parameter(torch.randn(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        self.factor = alpha / rank

    def forward(self, x):
        narrow = torch.einsum("...i,ri->...r", x, self.down)
        return F.linear(x, self.weight, self.bias) + self.factor * torch.einsum("...r,or->...o", narrow, self.up)

    def merged(self):
        new = nn.Linear(self.weight.shape[1], self.weight.shape[0]).to(self.weight.dtype)
        with torch.no_grad():
            new.weight.copy_(self.weight + self.factor * self.up.mm(self.down))
            new.bias.copy_(self.bias)
        return new


class ItselfLinear(nn.Linear):
    def __init__(self, linear, rank, alpha):
        super().__init__(linear.in_features, linear.out_features, dtype=linear.weight.dtype)
        self.load_state_dict(linear.state_dict())
        self.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / rank)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        self.factor = alpha / rank

    def forward(self, x):
        return super().forward(x) + x @ self.down.mT @ self.up.mT * self.factor

    def merged(self):
        new = nn.Linear(self.in_features, self.out_features, dtype=self.weight.dtype)
        new.weight.data = torch.addmm(self.weight.data, self.up.data, self.down.data, alpha=self.factor)
        new.bias.data = self.bias.data.clone()
        return new


class MergedInPlace(AsTwoLayers):
    def forward(self, x):
        return self.linear(x) + F.linear(x, self.alpha / self.rank * self.up.mm(self.down))

    @torch.no_grad()
    def merged(self):
        self.linear.weight += self.alpha / self.rank * self.up @ self.down
        return self.linear


RIGHT = {
    "take_over": [taken_by_names, own_filled, in_a_loop_over_the_file, deep_copied],
    "resize_positions": [by_einops, as_timm, channel_by_channel, as_two_matrices],
    "head_step": [by_hand, filtered, by_formula, all_given_and_forgotten],
    "layer_rate": [by_pattern, as_beit, multiplied_step_by_step],
    "lora": [AsTwoLayers, OneMatrix, WeightsOfItsOwn, ItselfLinear, MergedInPlace],
}
