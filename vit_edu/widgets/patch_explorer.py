"""PatchExplorer: a photo becomes patches, a patch becomes a vector, the patches become a sequence (ViT, 3.1)."""

import math

import torch
import traitlets as t
from PIL import Image, ImageDraw

from vit_edu.images import image_bytes
from vit_edu.widgets.look import LARGEST_SIDE, Explorer, fit, source

MOST_PATCHES = 4096  # more would be drawn smaller than a pixel


class PatchExplorer(Explorer):
    """Choose a patch size and a patch; see its pixels, its vector and its place in the sequence.

    image: (3, H, W), (1, H, W) or (H, W), uint8 or float in 0..1. patch_size: divides H and W.

    In the next cell read (or set) `explorer.patch_size`, `explorer.selected` (the token, counted from 0, row by row:
    `patchify(images, explorer.patch_size)[0, explorer.selected]` is the vector shown) and `explorer.flattened`.
    Raises TypeError or ValueError with what was found and what is wanted.
    """

    _esm = source("look.js", "patch_drawing.js", "patch_explorer.js")
    _css = source("look.css", "patch_explorer.css")

    pixels = t.Bytes(read_only=True).tag(sync=True)  # uint8, (C, H, W) in torch's order
    shape = t.Tuple(t.Int(), t.Int(), t.Int(), read_only=True).tag(sync=True)
    sizes = t.List(t.Int(), read_only=True).tag(sync=True)
    patch_size = t.Int().tag(sync=True)
    selected = t.Int().tag(sync=True)
    flattened = t.Bool(False).tag(sync=True)

    def __init__(self, image: torch.Tensor, patch_size: int = 32):
        image = image_bytes(image, LARGEST_SIDE)
        shape = tuple(image.shape)
        _check_patch_size(patch_size, shape)
        rows, columns = shape[1] // patch_size, shape[2] // patch_size
        self.set_trait("pixels", image.numpy().tobytes())
        self.set_trait("shape", shape)
        self.set_trait("sizes", sorted({*patch_sizes(shape), patch_size}))
        super().__init__(patch_size=patch_size, selected=rows // 2 * columns + columns // 2)

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.shape[1] // self.patch_size, self.shape[2] // self.patch_size

    @t.validate("patch_size")
    def _valid_patch_size(self, proposal):
        try:
            _check_patch_size(proposal.value, self.shape)
        except ValueError as error:
            raise t.TraitError(str(error)) from None
        return proposal.value

    @t.validate("selected")
    def _valid_selected(self, proposal):
        if not 0 <= proposal.value < math.prod(self.grid_size):
            raise t.TraitError(
                f"selected is {proposal.value}; wanted a token from 0 to {math.prod(self.grid_size) - 1} "
                f"(patch size {self.patch_size})."
            )
        return proposal.value

    @t.observe("patch_size")
    def _keep_selected_inside(self, _):
        self.selected = min(self.selected, math.prod(self.grid_size) - 1)

    def sentence(self) -> str:
        (channels, height, width), p, (rows, columns) = self.shape, self.patch_size, self.grid_size
        return (
            f"An image of {height} × {width} pixels cut into {rows} rows and {columns} columns: {rows * columns} "
            f"patches of {p} × {p} pixels. Patch {self.selected} is chosen: row {self.selected // columns}, column "
            f"{self.selected % columns}, as a vector {channels} × {p} × {p} = {channels * p * p:,} numbers."
        )

    def picture(self) -> Image.Image:
        image = fit(torch.frombuffer(bytearray(self.pixels), dtype=torch.uint8).view(self.shape))
        size, scale = image.size, image.width / self.shape[2]
        draw = ImageDraw.Draw(image, "RGBA")
        p = self.patch_size * scale
        for column in range(1, self.grid_size[1]):
            draw.line((column * p, 0, column * p, size[1]), fill=(255, 255, 255, 150))
        for row in range(1, self.grid_size[0]):
            draw.line((0, row * p, size[0], row * p), fill=(255, 255, 255, 150))
        row, column = divmod(self.selected, self.grid_size[1])
        x, y = column * p, row * p
        draw.rectangle((x - 2, y - 2, x + p + 1, y + p + 1), outline="white", width=5)
        draw.rectangle((x - 1, y - 1, x + p, y + p), outline="#0b62d6", width=3)
        return image


def patch_sizes(shape: tuple[int, int, int]) -> list[int]:
    """The patch sizes to choose from for an image (C, H, W): those that cut it into 4 to 1,024 whole patches."""
    _, height, width = shape
    divisors = [p for p in range(1, min(height, width) + 1) if height % p == width % p == 0]
    allowed = [p for p in divisors if height * width <= MOST_PATCHES * p**2]
    return [p for p in allowed if 4 <= height * width // p**2 <= 1024] or allowed[-1:]


def _check_patch_size(patch_size: int, shape: tuple[int, int, int]) -> None:
    _, height, width = shape
    if sizes := patch_sizes(shape):
        remedy = f"choose one of {', '.join(map(str, sizes))}, or resize the image."
    else:
        remedy = f"no patch size cuts it into {MOST_PATCHES:,} patches or fewer: resize or crop the image."
    if isinstance(patch_size, bool) or not isinstance(patch_size, int) or patch_size < 1:
        raise ValueError(f"patch_size is {patch_size!r}; wanted a whole number from 1: {remedy}")
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"patch_size is {patch_size}, which does not divide the image's {height} × {width} pixels: {remedy}"
        )
    if (patches := height * width // patch_size**2) > MOST_PATCHES:
        found = f"patch_size {patch_size} cuts the image into {patches:,} patches"
        raise ValueError(f"{found}; wanted at most {MOST_PATCHES:,}: {remedy}")
