"""Pictures for the lessons: tensors in, a `Picture` with alt text out. The only part that imports matplotlib.

Images are tensors (C, H, W) with C = 1 or 3, uint8 or float in 0..1; vit_edu/images.py refuses others. Colour maps are
viridis and cividis, which keep their order in grey and for colour-blind eyes; the ground is white, so that a picture
reads the same on a dark page.
"""

from .attention import plot_attention, plot_positions
from .images import plot_images, plot_patch_grid, plot_sequence
from .numbers import live_curve, plot_curves, plot_matrix
from .picture import Picture

__all__ = [
    "Picture",
    "live_curve",
    "plot_attention",
    "plot_curves",
    "plot_images",
    "plot_matrix",
    "plot_patch_grid",
    "plot_positions",
    "plot_sequence",
]
