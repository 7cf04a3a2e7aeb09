"""The parts of a vision transformer, each a short file: the maths as a pure function, the module a thin wrapper.

Letters in shape comments, in every file of the kit: B batch, N tokens, C channels (of an image or of a token),
H W height and width, h heads, d head width (C = h * d). `...` stands for any leading dimensions.
Parameter names are timm's, so that published checkpoints fit. Floating dtypes go through unchanged.
"""

from .attention import Attention, merge_heads, scaled_dot_product_attention, split_heads
from .block import Block
from .drop_path import DropPath, drop_path
from .mlp import Mlp
from .patch_embed import PatchEmbed, embed_patches, patchify, unpatchify
from .position import embed_positions, sincos_position

__all__ = [
    "Attention",
    "Block",
    "DropPath",
    "Mlp",
    "PatchEmbed",
    "drop_path",
    "embed_patches",
    "embed_positions",
    "merge_heads",
    "patchify",
    "scaled_dot_product_attention",
    "sincos_position",
    "split_heads",
    "unpatchify",
]
