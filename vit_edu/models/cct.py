"""CCT: Hassani et al. 2021, "Escaping the Big Data Paradigm with Compact Transformers"."""

import inspect
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vit_edu.layers import Attention, Block, init_linear
from vit_edu.layers.checks import check_at_least, check_builders, check_free, check_images, check_sides, check_width

from .vit import VisionTransformer


class ConvTokenizer(nn.Module):
    """Convolution, ReLU, max pooling, `n_conv_layers` times, where ViT cuts patches: (B, in_chans, H, W) -> (B, N, C).

    All but the last have stem_dim channels. Takes the place of PatchEmbed and raises as it does, but its windows
    overlap, so that every image size goes.
    """

    def __init__(
        self, img_size, kernel_size, in_chans, embed_dim, n_conv_layers=1, stem_dim=64, dynamic_img_size=False
    ):
        super().__init__()
        check_at_least(1, kernel_size=kernel_size, n_conv_layers=n_conv_layers, stem_dim=stem_dim)
        self.img_size, self.dynamic_img_size = check_sides(img_size), dynamic_img_size
        words = {"stride": max(1, kernel_size // 2 - 1), "padding": max(1, kernel_size // 2), "bias": False}
        widths = [in_chans, *[stem_dim] * (n_conv_layers - 1), embed_dim]
        self.conv_layers = nn.ModuleList(nn.Conv2d(a, b, kernel_size, **words) for a, b in pairwise(widths))
        for conv in self.conv_layers:
            nn.init.kaiming_normal_(conv.weight)
        self.grid_size = self.grid_of(self.img_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]

    def grid_of(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Images of (H, W) give (rows, columns) of tokens."""
        for conv in self.conv_layers:
            (k, _), (s, _), (p, _) = conv.kernel_size, conv.stride, conv.padding
            img_size = tuple(((side + 2 * p - k) // s + 2) // 2 for side in img_size)  # convolution, then pooling
        return img_size

    def forward(self, images: Tensor) -> Tensor:
        conv, size = self.conv_layers[0], None if self.dynamic_img_size else self.img_size
        check_images(images, conv.in_channels, conv.weight.dtype, size)
        x = images
        for conv in self.conv_layers:
            x = F.relu(F.max_pool2d(conv(x), kernel_size=3, stride=2, padding=1))  # they commute; fewer to clip
        return rearrange(x, "B C rows columns -> B (rows columns) C")


class CCTBlock(Block):
    """The kit's Block, but after attention the stream itself is normed, not a copy of it: the authors' code."""

    def forward(self, x: Tensor, return_weights: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        check_width(x, self.dim)
        attended, weights = self.attend(x, return_weights)
        x = self.norm2(x + self.drop_path1(attended))
        x = x + self.drop_path2(self.mlp(x))
        return (x, weights) if return_weights else x


class CCT(VisionTransformer):
    """A ViT with tokens from convolutions and, in place of the class token, sequence pooling.

    Float images (B, in_chans, H, W) -> logits (B, num_classes); other words, intermediates and errors are ViT's. What
    the answer takes from each token is model.attention_pool(seen["norm"]).softmax(dim=1), (B, N, 1).
    """

    def __init__(
        self, img_size=32, kernel_size=3, n_conv_layers=1, stem_dim=64, num_classes=10, attention=Attention, **words
    ):
        check_builders(attention=attention)
        embed_layer = partial(ConvTokenizer, n_conv_layers=n_conv_layers, stem_dim=stem_dim)
        ours = {"patch_size": kernel_size, "embed_layer": embed_layer}
        ours |= {"class_token": False, "reg_tokens": 0, "global_pool": "avg", "pre_norm": False, "block": CCTBlock}
        known = inspect.signature(attention).parameters.values()
        takes_bias = any(word.name == "qkv_bias" or word.kind is word.VAR_KEYWORD for word in known)
        # CCT has no bias there; an attention that does not know the word is not given it where it is True
        ours |= {"norm_eps": 1e-5, "qkv_bias": not takes_bias}
        check_free("CCT", ours.keys(), words)
        super().__init__(img_size, num_classes=num_classes, attention=attention, **ours, **words)
        self.norm, self.fc_norm = self.fc_norm, nn.Identity()  # this pooling reads tokens behind the norm
        self.attention_pool = nn.Linear(self.embed_dim, 1)
        self.attention_pool.apply(init_linear)

    def pool(self, x: Tensor) -> Tensor:
        """Sequence pooling: tokens (B, N, C) -> their mean (B, C), weighted by a score that is learned."""
        weights = self.attention_pool(x).softmax(dim=1)  # (B, N, 1)
        return (weights.transpose(1, 2) @ x).squeeze(1)  # (B, 1, N) @ (B, N, C) -> (B, C)


_CCT_2 = {"embed_dim": 128, "depth": 2, "num_heads": 2, "mlp_ratio": 1.0, "n_conv_layers": 2}
_CCT_7 = {"embed_dim": 256, "depth": 7, "num_heads": 4, "mlp_ratio": 2.0}
_CCT_14 = {"embed_dim": 384, "depth": 14, "num_heads": 6, "mlp_ratio": 3.0}
_7X2_224 = {"img_size": 224, "kernel_size": 7, "n_conv_layers": 2}

MODELS = {  # cct_{depth}_{kernel_size}x{n_conv_layers}_{img_size}; the classes of CIFAR-10, Flowers-102 and ImageNet
    "cct_2_3x2_32": _CCT_2,
    "cct_4_3x2_32": _CCT_2 | {"depth": 4},
    "cct_6_3x1_32": _CCT_7 | {"depth": 6},
    "cct_7_3x1_32": _CCT_7,
    "cct_7_3x2_32": _CCT_7 | {"n_conv_layers": 2},
    "cct_7_7x2_224": _CCT_7 | _7X2_224 | {"num_classes": 102},
    "cct_14_7x2_224": _CCT_14 | _7X2_224 | {"num_classes": 1000},
}
