"""Swin: Liu et al. 2021, "Hierarchical Vision Transformer using Shifted Windows". Section 3 and figure 3."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from vit_edu.layers import Block, PatchMerging, WindowAttention, init_linear, run_block
from vit_edu.layers.checks import (
    check_at_least,
    check_builders,
    check_each,
    check_images,
    check_sides,
    check_window,
    complaint,
)
from vit_edu.layers.drop_path import check_rate

Pair = tuple[int, int]


class PatchMap(nn.Module):
    """The patch embedding as a map, normed: images (B, in_chans, H, W) -> (B, H/p, W/p, C), rounded down."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(embed_dim, eps=1e-5)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.proj(images).permute(0, 2, 3, 1))  # (B, C, H/p, W/p) -> (B, H/p, W/p, C)


class Stage(nn.Module):
    """One of figure 3's stages: a map (B, H, W, C/2) -> (B, H/2, W/2, C), and then blocks; the first merges nothing.

    Every second block shifts its windows by half of one, so that neighbours whom a border parted meet: figure 2. The
    block is ViT's, with (S)W-MSA in the place of MSA: equation 3.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: Pair,
        drop_path_rates: list[float],
        merge: bool,
        attention: Callable[..., nn.Module],
        **words,
    ):
        super().__init__()
        self.downsample = PatchMerging(dim // 2) if merge else nn.Identity()
        self.blocks = nn.ModuleList()
        for i, rate in enumerate(drop_path_rates):
            shift_size = (window_size[0] // 2, window_size[1] // 2) if i % 2 else (0, 0)
            windows = partial(attention, window_size=window_size, shift_size=shift_size)
            self.blocks.append(Block(dim, num_heads, drop_path_rate=rate, norm_eps=1e-5, attention=windows, **words))

    def forward(self, x: Tensor, name: str, seen: dict[str, Tensor] | None = None) -> Tensor:
        x = self.downsample(x)
        for i, block in enumerate(self.blocks):
            x = run_block(block, x, f"{name}.blocks.{i}", seen)
        if seen is not None:
            seen[name] = x
        return x


class SwinTransformer(nn.Module):
    """Float images (B, in_chans, H, W) -> logits (B, num_classes), or features (B, num_features) where num_classes=0.

    Any image goes that holds one patch, `img_size` only says which size the model is meant for; what patch_size leaves
    over at the right and the bottom is not read. At sizes that do not divide it does as torchvision (timm and
    transformers each differ). `window_size` is one side or (rows, columns). `attention` takes the
    place of WindowAttention: built as attention(dim, num_heads, window_size=(7, 7), shift_size=(3, 3)), with qkv_bias
    only where that is False, on maps (B, H, W, C). Stage I is embed_dim * 2**I wide; num_features is the last width.

    model(images, return_intermediates=True) -> (logits, seen): the maps seen["patch_embed"], seen["layers.I.blocks.J"]
    for every block J of stage I, seen["layers.I"] and seen["norm"], all (B, H, W, C), and the weights
    seen["layers.I.blocks.J.attn"] (B, nW, h, n, n) of nW windows with n tokens each.
    Raises ValueError for words or images that do not fit, TypeError for images of another dtype.
    """

    def __init__(
        self,
        img_size: int | Pair = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        num_heads: tuple[int, ...] = (3, 6, 12, 24),
        window_size: int | Pair = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        attention: Callable[..., nn.Module] = WindowAttention,
    ):
        super().__init__()
        window_size = (window_size, window_size) if isinstance(window_size, int) else window_size
        check_window(window_size)
        check_at_least(1, patch_size=patch_size, in_chans=in_chans, embed_dim=embed_dim)
        check_at_least(0, num_classes=num_classes)
        check_rate(drop_path_rate)
        check_builders(attention=attention)
        check_each(depths=depths, num_heads=num_heads)
        if len(depths) != len(num_heads):
            raise complaint(f"{depths=} with {num_heads=}", "one number of each a stage", "change one of the two")
        self.img_size, self.patch_size, self.num_classes = check_sides(img_size), patch_size, num_classes
        self._check_size(self.img_size)
        self.embed_dim, self.num_features = embed_dim, embed_dim * 2 ** (len(depths) - 1)
        self.patch_embed = PatchMap(patch_size, in_chans, embed_dim)
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu")  # rising; on "meta" too
        rates = [part.tolist() for part in rates.split(tuple(depths))]
        words = {"mlp_ratio": mlp_ratio, "qkv_bias": qkv_bias, "attention": attention}
        self.layers = nn.ModuleList(
            Stage(embed_dim * 2**i, heads, window_size, rates[i], merge=i > 0, **words)
            for i, heads in enumerate(num_heads)
        )
        self.norm = nn.LayerNorm(self.num_features, eps=1e-5)
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.apply(init_linear)

    def _check_size(self, img_size: Pair) -> None:
        if min(img_size) < self.patch_size:
            found, wanted = f"an image size (H, W) of {tuple(img_size)}", f"{self.patch_size} or more on both sides"
            raise complaint(found, wanted, "resize the images, or build the model with a smaller patch_size")

    def forward_features(self, images: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """Images (B, in_chans, H, W) -> the last map (B, H/p/8, W/p/8, num_features) of four stages, rounded up."""
        check_images(images, self.patch_embed.proj.in_channels, self.patch_embed.proj.weight.dtype)
        self._check_size(images.shape[-2:])
        x = self.patch_embed(images)  # (B, H/p, W/p, C)
        if seen is not None:
            seen["patch_embed"] = x
        for i, stage in enumerate(self.layers):
            x = stage(x, f"layers.{i}", seen)  # (B, H, W, C) -> (B, H/2, W/2, 2*C) from the second stage on
        x = self.norm(x)
        if seen is not None:
            seen["norm"] = x
        return x

    def forward(self, images: Tensor, return_intermediates: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        seen = {} if return_intermediates else None
        logits = self.head(self.forward_features(images, seen).mean(dim=(1, 2)))  # (B, H, W, C) -> (B, num_classes)
        return (logits, seen) if return_intermediates else logits


_TINY = {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}
_SMALL = {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)}

MODELS = {  # section 3.3 of the paper
    "swin_tiny_patch4_window7_224": _TINY,
    "swin_small_patch4_window7_224": _SMALL,
    "swin_base_patch4_window7_224": _SMALL | {"embed_dim": 128, "num_heads": (4, 8, 16, 32)},
    "swin_large_patch4_window7_224": _SMALL | {"embed_dim": 192, "num_heads": (6, 12, 24, 48)},
}
