"""PatchExplorer: a photo becomes patches, a patch a vector, the patches a sequence (ViT, 3.1); what positions add."""

import math

import torch
import traitlets as t
from PIL import Image, ImageDraw
from torch import nn

from vit_edu.images import image_bytes
from vit_edu.layers import patchify, sincos_position, unpatchify
from vit_edu.widgets import patch_model
from vit_edu.widgets.look import LARGEST_SIDE, Explorer, bare, fit, halves, source, viridis
from vit_edu.widgets.patch_model import MOST_PATCHES, SHARES

USUAL = 32  # pixels of a patch's side, or what divides the image and is next to it
SINCOS = 768  # numbers of each sin-cos position, as in ViT-B


class PatchExplorer(Explorer):
    """Choose a patch size and a patch; see its pixels, its vector and its place in the sequence; move patches.

    image: (3, H, W), (1, H, W) or (H, W), uint8 or float in 0..1. patch_size: divides H and W; left out, the one next
    to 32. model: a VisionTransformer for such images; its patch size is taken, its own positions are compared (else
    MAE's fixed sin-cos ones), and it is asked what it sees when patches are moved. It gets image * 2 - 1, as the kit's
    checkpoints want it, and stays as it is. classes: the names of its logits.

    In the next cell read (or set) `explorer.patch_size`, `explorer.overlap` (patches start every half patch),
    `explorer.selected` (the token, counted from 0, row by row), `explorer.flattened`, `explorer.positions` (whether the
    map of `explorer.similarity()` lies over the photo) and `explorer.shuffled` (0, 25, 50 or 100 % of the patches are
    moved). The vector shown is row `explorer.order[explorer.selected]` of `patchify(images, explorer.patch_size)[0]`;
    with overlap it is `F.unfold(images, p, stride=p // 2)[0, :, explorer.selected]`.
    Raises TypeError or ValueError with what was found and what is wanted.
    """

    _esm = source("colours.js", "look.js", "patch_drawing.js", "patch_model.js", "patch_explorer.js")
    _css = source("look.css", "patch_explorer.css")

    pixels = t.Bytes(read_only=True).tag(sync=True)  # uint8, (C, H, W) in torch's order
    shape = t.Tuple(t.Int(), t.Int(), t.Int(), read_only=True).tag(sync=True)
    sizes = t.List(t.Int(), read_only=True).tag(sync=True)
    drawn = t.Bytes(read_only=True).tag(sync=True)  # int16, the order in which patches are drawn to be moved
    cosines = t.Bytes(read_only=True).tag(sync=True)  # float16 (N, N), of the model's positions
    answers = t.Bytes(read_only=True).tag(sync=True)  # float32 (2, shares, classes or 1), see patch_model.ask
    classes = t.List(t.Unicode(), read_only=True).tag(sync=True)
    patch_size = t.Int().tag(sync=True)
    overlap = t.Bool(False).tag(sync=True)
    selected = t.Int().tag(sync=True)
    flattened = t.Bool(False).tag(sync=True)
    positions = t.Bool(False).tag(sync=True)
    shuffled = t.Enum(SHARES, 0).tag(sync=True)

    def __init__(
        self,
        image: torch.Tensor,
        patch_size: int | None = None,
        model: nn.Module | None = None,
        classes: list[str] | None = None,
    ):
        image = image_bytes(image, LARGEST_SIDE)
        shape = tuple(image.shape)
        if model is not None:
            model = bare(model)
            names = patch_model.check(model, image, patch_size, classes)
            patch_size = model.patch_embed.patch_size
        elif classes is not None:
            raise ValueError("classes are given without a model; wanted both: pass model=, or leave classes out.")
        if patch_size is None:
            patch_size = min(patch_sizes(shape) or [USUAL], key=lambda size: abs(size - USUAL))
        _check_patch_size(patch_size, shape)
        sizes = sorted({*patch_sizes(shape), patch_size}) if model is None else [patch_size]
        self.set_trait("pixels", image.numpy().tobytes())
        self.set_trait("shape", shape)
        self.set_trait("sizes", sizes)
        most = shape[1] * shape[2] // sizes[0] ** 2
        self.set_trait("drawn", patch_model.drawn(most).to(torch.int16).numpy().tobytes())
        if model is not None:
            self.set_trait("answers", patch_model.ask(model, image).numpy().tobytes())
            self.set_trait("classes", names)
            if model.pos_embed is not None:
                self.set_trait("cosines", halves(patch_model.cosines(model)))
        rows, columns = shape[1] // patch_size, shape[2] // patch_size
        super().__init__(patch_size=patch_size, selected=rows // 2 * columns + columns // 2)

    @property
    def stride(self) -> int:
        """From one patch to the next, in pixels."""
        return self.patch_size // 2 if self.overlap else self.patch_size

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return tuple((side - self.patch_size) // self.stride + 1 for side in self.shape[1:])

    @property
    def order(self) -> torch.Tensor:
        """int64 (N,): which patch of the photo stands at each place."""
        return patch_model.shuffle(math.prod(self.grid_size), self.shuffled)

    def similarity(self) -> torch.Tensor:
        """float32 (N,): the cosine of the position embedding of the chosen place with that of each place."""
        N = math.prod(self.grid_size)
        if self.cosines:
            return torch.frombuffer(bytearray(self.cosines), dtype=torch.float16).view(N, N)[self.selected].float()
        if self.answers:
            raise ValueError("The model has no position embeddings; build it with pos_embed='learn' to compare them.")
        table = sincos_position(self.grid_size, SINCOS)
        return torch.cosine_similarity(table[self.selected, None], table).float()

    @t.validate("patch_size")
    def _valid_patch_size(self, proposal):
        try:
            _check_patch_size(proposal.value, self.shape)
        except ValueError as error:
            raise t.TraitError(str(error)) from None
        if self.answers and proposal.value != self.sizes[0]:
            raise t.TraitError(f"patch_size is {proposal.value}; wanted the model's own, {self.sizes[0]}.")
        return proposal.value

    @t.validate("selected")
    def _valid_selected(self, proposal):
        if not 0 <= proposal.value < math.prod(self.grid_size):
            raise t.TraitError(
                f"selected is {proposal.value}; wanted a token from 0 to {math.prod(self.grid_size) - 1} "
                f"(patch size {self.patch_size})."
            )
        return proposal.value

    @t.validate("overlap")
    def _valid_overlap(self, proposal):
        if proposal.value and self.answers:
            raise t.TraitError("overlap is True; wanted False: the model cuts its patches edge to edge.")
        if proposal.value and not self._can_overlap():
            wanted = f"wanted an even one that gives at most {MOST_PATCHES:,} patches"
            raise t.TraitError(f"overlap is True with patch_size {self.patch_size}; {wanted}.")
        return proposal.value

    @t.validate("positions")
    def _valid_positions(self, proposal):
        if proposal.value and self.answers and not self.cosines:
            raise t.TraitError("positions is True; wanted False: the model has no position embeddings.")
        return proposal.value

    def _can_overlap(self) -> bool:
        p, (_, height, width) = self.patch_size, self.shape
        return p % 2 == 0 and (2 * height // p - 1) * (2 * width // p - 1) <= MOST_PATCHES

    @t.observe("patch_size", "overlap", "shuffled")
    def _keep_together(self, change):
        if self.overlap and (not self._can_overlap() or (change.name == "shuffled" and self.shuffled)):
            self.overlap = False
        if self.overlap:
            self.shuffled = 0  # patches that share pixels make no picture when they are moved
        self.selected = min(self.selected, math.prod(self.grid_size) - 1)

    def sentence(self) -> str:
        (channels, height, width), p, (rows, columns) = self.shape, self.patch_size, self.grid_size
        words = f"An image of {height} × {width} pixels cut into {rows} rows and {columns} columns: {rows * columns} "
        words += f"patches of {p} × {p} pixels{f', one every {self.stride} pixels' if self.overlap else ''}. "
        if moved := int((self.order != torch.arange(rows * columns)).sum()):
            words += f"{moved} of them stand in each other's places. "
        words += (
            f"Patch {self.selected} is chosen: row {self.selected // columns}, column {self.selected % columns}, "
            f"as a vector {channels} × {p} × {p} = {channels * p * p:,} numbers."
        )
        if self.positions:
            low = f"{self.similarity().min():.2f}".replace("-", "−")
            words += f" Its position embedding's cosine with each place's is painted, from {low} to 1."
        return words + (f" {self._said()}" if self.answers else "")

    def _said(self) -> str:
        said = torch.frombuffer(bytearray(self.answers), dtype=torch.float32).view(2, len(SHARES), -1)
        under, along = said[:, SHARES.index(self.shuffled)]
        if not self.classes:
            return f"The cosine of the model's feature with that of the picture in order: {under[0]:.3f}."
        one, other = (f"{self.classes[x.argmax()]}, {100 * x.max():.1f} %" for x in (under, along))
        return f"The model says {one}" + (f"; with positions moved along {other}." if self.shuffled else ".")

    def picture(self) -> Image.Image:
        pixels, p, (rows, columns) = self._shown(), self.patch_size, self.grid_size
        image = fit(pixels)
        size, scale = image.size, image.width / self.shape[2]
        if self.positions:
            near = self.similarity()
            shares = ((near - near.min()) / (1 - near.min()).clamp_min(1e-6) * 256).clamp(0, 255).long()
            y, x = (
                ((torch.arange(side) + 0.5) / scale / self.stride - (p / self.stride - 1) / 2).long().clamp(0, most - 1)
                for side, most in ((size[1], rows), (size[0], columns))
            )  # the patch whose middle is next
            image = Image.fromarray(viridis()[shares.view(rows, columns)[y][:, x]].numpy())
        draw = ImageDraw.Draw(image, "RGBA")
        step = self.stride * scale
        for column in range(1, self.shape[2] // self.stride):
            draw.line((column * step, 0, column * step, size[1]), fill=(255, 255, 255, 150))
        for row in range(1, self.shape[1] // self.stride):
            draw.line((0, row * step, size[0], row * step), fill=(255, 255, 255, 150))
        row, column = divmod(self.selected, columns)
        x, y, p = column * step, row * step, p * scale
        draw.rectangle((x - 2, y - 2, x + p + 1, y + p + 1), outline="white", width=5)
        draw.rectangle((x - 1, y - 1, x + p, y + p), outline="#0b62d6", width=3)
        return image

    def _shown(self) -> torch.Tensor:
        """The photo with its patches where they stand, uint8 (C, H, W)."""
        image = torch.frombuffer(bytearray(self.pixels), dtype=torch.uint8).view(self.shape)
        if not self.shuffled:
            return image
        patches = patchify(image[None], self.patch_size)[:, self.order]
        return unpatchify(patches, self.patch_size, self.grid_size)[0]


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
