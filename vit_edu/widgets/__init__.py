"""Explorers: pictures to touch, alive in JupyterLab and without a kernel. Each is a .py with its .js and .css."""

from vit_edu.widgets.attention_explorer import AttentionExplorer
from vit_edu.widgets.mask_explorer import MaskExplorer
from vit_edu.widgets.patch_explorer import PatchExplorer
from vit_edu.widgets.receptive_field_explorer import ReceptiveFieldExplorer
from vit_edu.widgets.similarity_explorer import SimilarityExplorer
from vit_edu.widgets.window_shift_explorer import WindowShiftExplorer

__all__ = [
    "AttentionExplorer",
    "MaskExplorer",
    "PatchExplorer",
    "ReceptiveFieldExplorer",
    "SimilarityExplorer",
    "WindowShiftExplorer",
]
