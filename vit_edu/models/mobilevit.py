"""MobileViT: Mehta & Rastegari 2022, "MobileViT: Light-weight, General-purpose, and Mobile-friendly ..."."""

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vit_edu.layers import Attention, Block, init_linear, run_block
from vit_edu.layers.checks import check_at_least, check_builders, check_each, check_images, check_sides, complaint


def split_offsets(x: Tensor, patch_size: int) -> Tensor:
    """A map (B, C, H, W) -> sequences (B*p*p, N, C), p*p of them an image: "unfold" in figure 1.

    A sequence holds those pixels that stand at one place in their patches, one of each of the N patches.
    Raises EinopsError where patch_size does not divide H and W.
    """
    return rearrange(x, "B C (rows p) (columns q) -> (B p q) (rows columns) C", p=patch_size, q=patch_size)


def join_offsets(x: Tensor, patch_size: int, rows: int) -> Tensor:
    """The inverse of split_offsets, "fold": (B*p*p, N, C) with so many rows of patches -> (B, C, H, W)."""
    pattern = "(B p q) (rows columns) C -> B C (rows p) (columns q)"
    return rearrange(x, pattern, p=patch_size, q=patch_size, rows=rows)


def conv_norm(in_chans: int, out_chans: int, kernel_size: int = 1, stride: int = 1, groups: int = 1, act: bool = True):
    """Convolution without bias, batch norm and, with `act`, SiLU; H and W over stride, rounded up."""
    conv = nn.Conv2d(in_chans, out_chans, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    layers = OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_chans))
    return nn.Sequential(layers | {"act": nn.SiLU(inplace=True)} if act else layers)


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018): widen, 3x3 in every channel by itself, narrow without activation.

    (B, in_chans, H, W) -> (B, out_chans, H/stride, W/stride), rounded up; added to x where the shape is the same.
    """

    def __init__(self, in_chans: int, out_chans: int, stride: int, expand_ratio: int):
        super().__init__()
        wide = in_chans * expand_ratio
        self.conv1_1x1 = conv_norm(in_chans, wide)
        self.conv2_kxk = conv_norm(wide, wide, kernel_size=3, stride=stride, groups=wide)
        self.conv3_1x1 = conv_norm(wide, out_chans, act=False)
        self.residual = stride == 1 and in_chans == out_chans

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3_1x1(self.conv2_kxk(self.conv1_1x1(x)))
        return x + y if self.residual else y


class MobileViTBlock(nn.Module):
    """Convolution for what is near, then attention for what is far, section 3.1: map (B, C, H, W) -> (B, C, H, W).

    A pixel attends to those at its own place in the other patches; the convolution before has mixed in its neighbours.
    A map that patch_size does not divide is resized for the transformer, and back.
    """

    def __init__(self, chans: int, dim: int, depth: int, num_heads: int, patch_size: int, attention: Callable):
        super().__init__()
        self.patch_size = patch_size
        self.conv_kxk = conv_norm(chans, chans, kernel_size=3)
        self.conv_1x1 = nn.Conv2d(chans, dim, kernel_size=1, bias=False)
        words = {"mlp_ratio": 2.0, "norm_eps": 1e-5, "act_layer": nn.SiLU, "attention": attention}
        self.transformer = nn.ModuleList(Block(dim, num_heads, **words) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.conv_proj = conv_norm(dim, chans)
        self.conv_fusion = conv_norm(2 * chans, chans, kernel_size=3)

    def forward(self, x: Tensor, name: str = "", seen: dict[str, Tensor] | None = None) -> Tensor:
        shortcut, size, p = x, tuple(x.shape[-2:]), self.patch_size
        whole = tuple((side + p - 1) // p * p for side in size)
        x = self.conv_1x1(self.conv_kxk(x))  # (B, dim, H, W)
        x = x if size == whole else F.interpolate(x, whole, mode="bilinear")
        x = split_offsets(x, p)  # (B*p*p, N, dim)
        for k, block in enumerate(self.transformer):
            x = run_block(block, x, f"{name}.transformer.{k}", seen)
            if seen is not None:
                for key in (f"{name}.transformer.{k}.attn", f"{name}.transformer.{k}"):
                    seen[key] = seen[key].unflatten(0, (-1, p * p))  # (B*p*p, ...) -> (B, p*p, ...)
        x = join_offsets(self.norm(x), p, whole[0] // p)  # (B, dim, H, W), whole patches
        x = x if size == whole else F.interpolate(x, size, mode="bilinear")
        return self.conv_fusion(torch.cat([shortcut, self.conv_proj(x)], dim=1))  # (B, 2*C, H, W) -> (B, C, H, W)


STAGES = [(1, 1, 0), (2, 3, 0), (2, 1, 2), (2, 1, 4), (2, 1, 3)]  # stride, inverted residuals, transformer blocks


class MobileViT(nn.Module):
    """Float images (B, in_chans, H, W) -> logits (B, num_classes), or features (B, 4 * widths[-1]) where num_classes=0.

    `widths` are the channels of five stages, `dims` those of the transformers in the last three. `attention` takes the
    place of Attention as in Block. Any image size goes: `img_size` only says which one the model is meant for.

    model(images, return_intermediates=True) -> (logits, seen): the maps seen["stem"] and seen["stages.I"] (B, C, H, W);
    of the transformer's block K seen["stages.I.1.transformer.K.attn"] (B, p*p, h, N, N) for p*p pixels in each of
    N patches, and seen["stages.I.1.transformer.K"] (B, p*p, N, C).
    Raises ValueError for words or images that do not fit, TypeError for images of another dtype.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 256,
        in_chans: int = 3,
        num_classes: int = 1000,
        widths: tuple[int, ...] = (16, 24, 48, 64, 80),
        dims: tuple[int, ...] = (64, 80, 96),
        expand_ratio: int = 2,
        num_heads: int = 4,
        patch_size: int = 2,
        attention: Callable[..., nn.Module] = Attention,
    ):
        super().__init__()
        check_at_least(1, in_chans=in_chans, expand_ratio=expand_ratio, patch_size=patch_size)
        check_at_least(0, num_classes=num_classes)
        check_builders(attention=attention)
        check_each(widths=widths, dims=dims)
        if (len(widths), len(dims)) != (5, 3):
            raise complaint(f"{widths=} and {dims=}", "five widths and three dims", "give one for each stage")
        self.img_size, self.num_classes, self.embed_dim = check_sides(img_size), num_classes, 4 * widths[-1]
        self.stem = conv_norm(in_chans, 16, kernel_size=3, stride=2)
        self.stages, chans = nn.ModuleList(), 16
        for width, dim, (stride, repeats, depth) in zip(widths, (0, 0, *dims), STAGES):
            stage = nn.ModuleList([InvertedResidual(chans, width, stride, expand_ratio)])
            stage.extend(InvertedResidual(width, width, 1, expand_ratio) for _ in range(repeats - 1))
            if depth:
                stage.append(MobileViTBlock(width, dim, depth, num_heads, patch_size, attention))
            self.stages.append(stage)
            chans = width
        self.final_conv = conv_norm(chans, self.embed_dim)
        fc = nn.Linear(self.embed_dim, num_classes) if num_classes else nn.Identity()
        self.head = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=fc))
        self.apply(init_linear)

    def forward_features(self, images: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """Images (B, in_chans, H, W) -> the last map (B, 4 * widths[-1], H/32, W/32), rounded up."""
        check_images(images, self.stem.conv.in_channels, self.stem.conv.weight.dtype)
        x = self.stem(images)
        if seen is not None:
            seen["stem"] = x
        for i, stage in enumerate(self.stages):
            for j, block in enumerate(stage):
                x = block(x, f"stages.{i}.{j}", seen) if isinstance(block, MobileViTBlock) else block(x)
            if seen is not None:
                seen[f"stages.{i}"] = x
        return self.final_conv(x)

    def forward(self, images: Tensor, return_intermediates: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        seen = {} if return_intermediates else None
        logits = self.head(self.forward_features(images, seen))
        return (logits, seen) if return_intermediates else logits


MODELS = {  # table 4 of the paper
    "mobilevit_xxs": {"widths": (16, 24, 48, 64, 80), "dims": (64, 80, 96), "expand_ratio": 2},
    "mobilevit_xs": {"widths": (32, 48, 64, 80, 96), "dims": (96, 120, 144), "expand_ratio": 4},
    "mobilevit_s": {"widths": (32, 64, 96, 128, 160), "dims": (144, 192, 240), "expand_ratio": 4},
}
