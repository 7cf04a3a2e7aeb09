"""Pictures for the lessons: tensors in, a `Picture` with alt text out. The only part that imports matplotlib.

Images are tensors (C, H, W) with C = 1 or 3, uint8 or float in 0..1; vit_edu/images.py refuses others. Colour maps are
viridis and cividis, which keep their order in grey and for colour-blind eyes; the ground is white, so that a picture
reads the same on a dark page.
"""

from .attention import show_attention, show_positions
from .images import show_images, show_patch_grid, show_sequence
from .numbers import live_curve, show_curves, show_matrix
from .picture import Picture

__all__ = [
    "Picture",
    "live_curve",
    "show_attention",
    "show_curves",
    "show_images",
    "show_matrix",
    "show_patch_grid",
    "show_positions",
    "show_sequence",
]
