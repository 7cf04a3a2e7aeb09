"""The parts of a vision transformer, each a short file: the maths as a pure function, the module a thin wrapper.

Letters in shape comments, in every file of the kit: B batch, N tokens, C channels (of an image or of a token),
H W height and width, h heads, d head width (C = h * d), p side of a patch, P prefix tokens (class token, registers), K
patches that MAE keeps and outputs of DINO, L tokens of a text, D another width, named where it is used. `...` stands
for any leading dimensions.
Parameter names are timm's, so that published checkpoints fit. Floating dtypes go through unchanged.
"""

from .attention import Attention, merge_heads, scaled_dot_product_attention, split_heads
from .block import Block, run_block
from .drop_path import DropPath, drop_path
from .init import init_linear
from .masking import random_masking
from .mlp import Mlp, QuickGELU
from .patch_embed import PatchEmbed, embed_patches, patchify, unpatchify
from .position import embed_positions, resize_positions, sincos_position
from .window import (
    PatchMerging,
    WindowAttention,
    cyclic_shift,
    fused_window_attention,
    merge_patches,
    relative_position_index,
    shift_mask,
    window_attention,
    window_partition,
    window_reverse,
)

__all__ = [
    "Attention",
    "Block",
    "DropPath",
    "Mlp",
    "PatchEmbed",
    "PatchMerging",
    "QuickGELU",
    "WindowAttention",
    "cyclic_shift",
    "drop_path",
    "embed_patches",
    "embed_positions",
    "fused_window_attention",
    "init_linear",
    "merge_heads",
    "merge_patches",
    "patchify",
    "random_masking",
    "relative_position_index",
    "resize_positions",
    "run_block",
    "scaled_dot_product_attention",
    "shift_mask",
    "sincos_position",
    "split_heads",
    "unpatchify",
    "window_attention",
    "window_partition",
    "window_reverse",
]
