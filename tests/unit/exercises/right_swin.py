"""Right answers of lesson 06 written in other ways; each must pass."""

from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vit_edu import layers


def swin_authors_partition(x, window_size):
    B, H, W, C = x.shape
    Wh, Ww = window_size
    x = x.view(B, H // Wh, Wh, W // Ww, Ww, C)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(B, -1, Wh * Ww, C)


def looped_partition(x, window_size):
    Wh, Ww = window_size
    found = []
    for top in range(0, x.shape[1], Wh):
        for left in range(0, x.shape[2], Ww):
            found.append(x[:, top : top + Wh, left : left + Ww].flatten(1, 2))
    return torch.stack(found, dim=1)


def unfolded_partition(x, window_size):
    Wh, Ww = window_size
    x = x.unfold(1, Wh, Wh).unfold(2, Ww, Ww)  # (B, rows, columns, C, Wh, Ww)
    return x.flatten(1, 2).movedim(2, -1).flatten(2, 3)


def im2col_partition(x, window_size):
    """Through F.unfold, which takes no whole numbers."""
    columns = F.unfold(x.permute(0, 3, 1, 2), window_size, stride=window_size)  # (B, C * n, nW)
    return columns.unflatten(1, (x.shape[3], -1)).permute(0, 3, 2, 1)


def split_partition(x, window_size):
    strips = torch.stack(x.split(window_size[0], dim=1), dim=1)
    return torch.stack(strips.split(window_size[1], dim=3), dim=2).flatten(1, 2).flatten(2, 3)


def swin_authors_index(window_size):
    Wh, Ww = window_size
    coords = torch.flatten(torch.stack(torch.meshgrid([torch.arange(Wh), torch.arange(Ww)], indexing="ij")), 1)
    relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0).contiguous()
    relative[:, :, 0] += Wh - 1
    relative[:, :, 1] += Ww - 1
    relative[:, :, 0] *= 2 * Ww - 1
    return relative.sum(-1)


def looped_index(window_size):
    Wh, Ww = window_size
    places = list(product(range(Wh), range(Ww)))
    return torch.tensor(
        [[(y - v + Wh - 1) * (2 * Ww - 1) + (x - u + Ww - 1) for v, u in places] for y, x in places], dtype=torch.int32
    )


def divided_index(window_size):
    """Rows and columns by // and %, and the table itself numbered."""
    Wh, Ww = window_size
    n = torch.arange(Wh * Ww)
    table = torch.arange((2 * Wh - 1) * (2 * Ww - 1)).view(2 * Wh - 1, 2 * Ww - 1)
    return table[(n // Ww)[:, None] - n // Ww + Wh - 1, (n % Ww)[:, None] - n % Ww + Ww - 1]


def unfolded_index(window_size):
    """The key at (0, 0) of a window that slides over the table, backwards."""
    Wh, Ww = window_size
    table = torch.arange((2 * Wh - 1) * (2 * Ww - 1)).view(2 * Wh - 1, 2 * Ww - 1)
    slid = table.unfold(0, Wh, 1).unfold(1, Ww, 1)  # (Wh, Ww, Wh, Ww)
    return slid.flip(2, 3).reshape(Wh * Ww, Wh * Ww)


def swin_authors_mask(grid_size, window_size, shift_size):
    """Nine slices; with a shift of 0 one of them is everything, and overwrites the others."""
    (H, W), (Wh, Ww), (Sh, Sw) = grid_size, window_size, shift_size
    img_mask = torch.zeros((1, H, W, 1))
    cnt = 0
    for h in (slice(0, -Wh), slice(-Wh, -Sh), slice(-Sh, None)):
        for w in (slice(0, -Ww), slice(-Ww, -Sw), slice(-Sw, None)):
            img_mask[:, h, w, :] = cnt
            cnt += 1
    windows = layers.window_partition(img_mask, window_size)[0, :, :, 0]
    mask = windows.unsqueeze(1) - windows.unsqueeze(2)
    return mask.masked_fill(mask != 0, -100.0).masked_fill(mask == 0, 0.0)


def four_regions(grid_size, window_size, shift_size):
    row = torch.arange(grid_size[0]) >= grid_size[0] - shift_size[0]
    column = torch.arange(grid_size[1]) >= grid_size[1] - shift_size[1]
    regions = (2 * row[:, None] + column.long())[None, :, :, None]
    regions = layers.window_partition(regions, window_size)[0, :, :, 0]
    return (regions[:, :, None] != regions[:, None]) * torch.tensor(-100, dtype=torch.float64)


def mask_from_old_places(grid_size, window_size, shift_size):
    """No regions: the shift carried every token by the same step, or an edge came between."""
    H, W = grid_size
    now = torch.stack(torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij"), -1)
    old = now.roll((-shift_size[0], -shift_size[1]), (0, 1))
    moved = layers.window_partition((old - now)[None], window_size)[0]  # (nW, n, 2)
    return -100 * (moved[:, :, None] != moved[:, None]).any(-1).int()


def looped_mask(grid_size, window_size, shift_size):
    (H, W), (Wh, Ww), (Sh, Sw) = grid_size, window_size, shift_size
    inside = list(product(range(Wh), range(Ww)))
    masks = []
    for top, left in product(range(0, H, Wh), range(0, W, Ww)):
        edge = [(top + y >= H - Sh, left + x >= W - Sw) for y, x in inside]
        masks.append([[0.0 if a == b else -100.0 for b in edge] for a in edge])
    return torch.tensor(masks)


def product_mask(grid_size, window_size, shift_size):
    """Of int8, as a product of regions that are one-hot."""
    row = torch.arange(grid_size[0]) >= grid_size[0] - shift_size[0]
    column = torch.arange(grid_size[1]) >= grid_size[1] - shift_size[1]
    regions = layers.window_partition((2 * row[:, None] + column.long())[None], window_size)[0]
    one_hot = F.one_hot(regions, 4)
    return (100 * (one_hot @ one_hot.mT - 1)).to(torch.int8)


class FoldedWindows(nn.Module):
    """Windows in the batch, and the mask as the authors add it."""

    def __init__(self, dim, num_heads, window_size=(7, 7), shift_size=(0, 0)):
        super().__init__()
        self.dim, self.num_heads, self.window_size, self.shift_size = dim, num_heads, window_size, shift_size
        rows = (2 * window_size[0] - 1) * (2 * window_size[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, num_heads))
        self.register_buffer("index", swin_authors_index(window_size), persistent=False)
        self.qkv, self.proj, self.softmax = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Softmax(dim=-1)

    def forward(self, x):
        B, H, W, C = x.shape
        shift = [0 if n <= w else s for n, w, s in zip((H, W), self.window_size, self.shift_size)]
        x = torch.roll(x, shifts=(-shift[0], -shift[1]), dims=(1, 2))
        x = swin_authors_partition(x, self.window_size).flatten(0, 1)
        B_, N, C = x.shape
        qkv = self.qkv(x).reshape(B_, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * (C // self.num_heads) ** -0.5, qkv[1], qkv[2]
        attn = q @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.index.view(-1)].view(N, N, -1)
        attn = attn + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        if any(shift):
            mask = swin_authors_mask((H, W), self.window_size, shift).to(x)
            nW = mask.shape[0]
            attn = attn.view(B_ // nW, nW, self.num_heads, N, N) + mask.unsqueeze(1).unsqueeze(0)
            attn = attn.view(-1, self.num_heads, N, N)
        x = self.proj((self.softmax(attn) @ v).transpose(1, 2).reshape(B_, N, C))
        x = x.view(B, -1, N, C)
        return torch.roll(layers.window_reverse(x, self.window_size, (H, W)), shifts=tuple(shift), dims=(1, 2))


class AmongAll(FoldedWindows):
    """Attention among all tokens of the map, where strangers have −inf: slow, and the same."""

    def forward(self, x):
        _, H, W, _ = x.shape
        (Wh, Ww), n = self.window_size, torch.arange(H * W)
        shift = [0 if side <= w else s for side, w, s in zip((H, W), self.window_size, self.shift_size)]
        row, column = n // W, n % W  # before the shift
        window = (row - shift[0]) % H // Wh * W + (column - shift[1]) % W // Ww
        region = 2 * (row < shift[0]) + (column < shift[1])
        together = (window[:, None] == window) & (region[:, None] == region)
        dy, dx = (row[:, None] - row).clamp(1 - Wh, Wh - 1), (column[:, None] - column).clamp(1 - Ww, Ww - 1)
        bias = self.relative_position_bias_table[(dy + Wh - 1) * (2 * Ww - 1) + dx + Ww - 1]
        q, k, v = rearrange(self.qkv(x), "B H W (three h d) -> three B h (H W) d", three=3, h=self.num_heads)
        scores = q @ k.mT * q.shape[-1] ** -0.5 + bias.permute(2, 0, 1)
        mixed = scores.masked_fill(~together, float("-inf")).softmax(-1) @ v
        return self.proj(rearrange(mixed, "B h (H W) d -> B H W (h d)", H=H))


class HeadByHead(FoldedWindows):
    """Every head by itself through its own part of qkv and of proj; the shift as two cuts."""

    def forward(self, x):
        grid = tuple(x.shape[1:3])
        down, right = (0 if n <= w else s for n, w, s in zip(grid, self.window_size, self.shift_size))
        x = torch.cat([x[:, down:], x[:, :down]], 1)
        x = layers.window_partition(torch.cat([x[:, :, right:], x[:, :, :right]], 2), self.window_size)
        mask = looped_mask(grid, self.window_size, (down, right)).to(x)  # (nW, n, n)
        parts = self.qkv.weight.unflatten(0, (3, self.num_heads, -1)), self.qkv.bias.view(3, self.num_heads, 1, -1)
        out = self.proj.bias
        for head, column in enumerate(self.relative_position_bias_table.T):
            q, k, v = (x @ parts[0][i, head].T + parts[1][i, head] for i in range(3))
            scores = torch.einsum("bwnd,bwmd->bwnm", q, k) / q.shape[-1] ** 0.5 + column[self.index] + mask
            out = out + scores.softmax(-1) @ v @ self.proj.weight.chunk(self.num_heads, dim=1)[head].T
        x = layers.window_reverse(out, self.window_size, grid)
        x = torch.cat([x[:, grid[0] - down :], x[:, : grid[0] - down]], 1)
        return torch.cat([x[:, :, grid[1] - right :], x[:, :, : grid[1] - right]], 2)


class FourSlices(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        _, H, W, _ = x.shape
        x = F.pad(x, (0, 0, 0, W % 2, 0, H % 2))
        parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class AsAConvolution(FourSlices):
    """The norm by hand, and the reduction as a convolution with kernels of 2 × 2."""

    def forward(self, x):
        H, W = x.shape[1:3]
        padded = x.new_zeros(len(x), H + H % 2, W + W % 2, x.shape[3])
        padded[:, :H, :W] = x
        B, H, W, C = padded.shape
        blocks = padded.reshape(B, H // 2, 2, W // 2, 2, C).permute(0, 1, 3, 4, 2, 5)  # (B, H/2, W/2, q, p, C)
        mean = blocks.mean((3, 4, 5), keepdim=True)
        spread = (blocks.var((3, 4, 5), unbiased=False, keepdim=True) + self.norm.eps).sqrt()
        blocks = (blocks - mean) / spread * self.norm.weight.view(2, 2, C) + self.norm.bias.view(2, 2, C)
        image = rearrange(blocks, "B H W q p C -> B C (H p) (W q)")
        kernel = rearrange(self.reduction.weight, "D (q p C) -> D C p q", p=2, q=2)
        return F.conv2d(image, kernel, stride=2).permute(0, 2, 3, 1)


RIGHT = {
    "window_partition": [
        swin_authors_partition,
        looped_partition,
        unfolded_partition,
        im2col_partition,
        split_partition,
    ],
    "relative_position_index": [swin_authors_index, looped_index, divided_index, unfolded_index],
    "shift_mask": [swin_authors_mask, four_regions, mask_from_old_places, looped_mask, product_mask],
    "window_attention": [FoldedWindows, AmongAll, HeadByHead],
    "patch_merging": [FourSlices, AsAConvolution],
}
