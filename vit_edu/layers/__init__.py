"""The parts of a vision transformer, each a short file: the maths as a pure function, the module a thin wrapper.

Letters in shape comments, in every file of the kit: B batch, N tokens, C channels (of an image or of a token),
H W height and width, h heads, d head width (C = h * d). `...` stands for any leading dimensions.
Parameter names are timm's, so that published checkpoints fit. Floating dtypes go through unchanged.
"""

from .attention import Attention, merge_heads, scaled_dot_product_attention, split_heads
from .block import Block, run_block
from .drop_path import DropPath, drop_path
from .init import init_linear
from .mlp import Mlp, QuickGELU
from .patch_embed import PatchEmbed, embed_patches, patchify, unpatchify
from .position import embed_positions, resize_positions, sincos_position

__all__ = [
    "Attention",
    "Block",
    "DropPath",
    "Mlp",
    "PatchEmbed",
    "QuickGELU",
    "drop_path",
    "embed_patches",
    "embed_positions",
    "init_linear",
    "merge_heads",
    "patchify",
    "resize_positions",
    "run_block",
    "scaled_dot_product_attention",
    "sincos_position",
    "split_heads",
    "unpatchify",
]
