"""MaskExplorer: most patches are removed, the model paints them anew (He et al. 2022, figure 2)."""

import torch
import traitlets as t
from PIL import Image, ImageDraw

from vit_edu.explain import evaluating
from vit_edu.images import batch_bytes
from vit_edu.models import MAE
from vit_edu.models.mae import mae_target, reconstruct
from vit_edu.widgets.look import Explorer, bare, fit, halves, source

MOST_IMAGES = 12
USUAL = (0.25, 0.5, 0.75, 0.9)  # shares of patches that are removed
DRAWS = 4  # of the noise, for each picture and ratio
MOST_BYTES = 1_500_000  # of painted pixels; the page has them all, and so has a saved notebook


class MaskExplorer(Explorer):
    """Choose a picture and a mask ratio; see what the encoder sees, what the decoder paints, and each patch's loss.

    mae: such as vit_edu.weights.checkpoint("mae"); it gets the pictures in -1..1, as the kit's checkpoints want them,
    and stays as it is. images: (N, C, H, W), a list of (C, H, W), or one, uint8 or float in 0..1, of the model's size.
    names: one a picture. ratios: the shares of patches to remove; left out, those of 0.25, 0.5, 0.75 and 0.9 that keep
    a patch and remove one. seed: of the noise; for one picture and draw all ratios use the same noise, so that a larger
    one removes what a smaller one does, and more.

    In the next cell read (or set) `explorer.chosen` (the picture), `explorer.ratio`, `explorer.draw` (of the noise) and
    `explorer.selected` (the patch, counted from 0, row by row).
    Raises TypeError or ValueError with what was found and what is wanted.
    """

    _esm = source("look.js", "mask_explorer.js")
    _css = source("look.css", "mask_explorer.css")

    pixels = t.Bytes(read_only=True).tag(sync=True)  # uint8 (N, C, H, W)
    painted = t.Bytes(read_only=True).tag(sync=True)  # uint8 (N, ratios, draws, C, H, W): every patch as the model says
    removed = t.Bytes(read_only=True).tag(sync=True)  # uint8 (N, ratios, draws, patches): 1 = removed
    losses = t.Bytes(read_only=True).tag(sync=True)  # float16, the same
    shape = t.Tuple(t.Int(), t.Int(), t.Int(), read_only=True).tag(sync=True)
    patch_size = t.Int(read_only=True).tag(sync=True)
    normed = t.Bool(read_only=True).tag(sync=True)  # norm_pix_loss
    names = t.List(t.Unicode(), read_only=True).tag(sync=True)
    ratios = t.List(t.Float(), read_only=True).tag(sync=True)
    draws = t.Int(read_only=True).tag(sync=True)
    chosen = t.Int().tag(sync=True)
    ratio = t.Float().tag(sync=True)
    draw = t.Int().tag(sync=True)
    selected = t.Int().tag(sync=True)

    def __init__(
        self,
        mae: MAE,
        images: torch.Tensor | list[torch.Tensor],
        names: list[str] | None = None,
        ratios: tuple[float, ...] | None = None,
        seed: int = 0,
    ):
        mae = bare(mae)
        if not isinstance(mae, MAE):
            found = f"mae is a {type(mae).__name__}"
            raise TypeError(f"{found}; wanted a vit_edu.models.MAE, such as vit_edu.weights.checkpoint('mae').")
        embed = mae.encoder.patch_embed
        pixels = batch_bytes(images, (embed.proj.in_channels, *embed.img_size), MOST_IMAGES)
        names = [f"picture {i}" for i in range(len(pixels))] if names is None else list(names)
        if len(names) != len(pixels) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{len(names)} names for {len(pixels)} pictures; wanted one str for each, or names=None.")
        ratios = _checked_ratios(ratios, embed.num_patches)
        each = pixels.numel() * len(ratios)  # bytes of one draw
        if each > MOST_BYTES:
            found = f"{len(pixels)} pictures at {len(ratios)} ratios are {each / 1e6:.1f} MB"
            raise ValueError(f"{found}; wanted at most {MOST_BYTES / 1e6:.1f}: pass fewer pictures or fewer ratios.")
        if not isinstance(seed, int):
            raise TypeError(f"seed is {seed!r}; wanted a whole number: 0, for instance.")
        draws = min(DRAWS, MOST_BYTES // each)
        noise = torch.rand(draws, len(pixels), embed.num_patches, generator=torch.Generator().manual_seed(seed))
        painted, removed, losses = _paint(mae, pixels, ratios, noise)
        for name, value in {
            "pixels": pixels.numpy().tobytes(),
            "painted": painted.numpy().tobytes(),
            "removed": removed.numpy().tobytes(),
            "losses": halves(losses.clamp(max=60_000)),
            "shape": tuple(pixels.shape[1:]),
            "patch_size": embed.patch_size,
            "normed": mae.norm_pix_loss,
            "names": names,
            "ratios": ratios,
            "draws": draws,
        }.items():
            self.set_trait(name, value)
        rows, columns = embed.grid_size
        nearest = min(ratios, key=lambda ratio: abs(ratio - mae.mask_ratio))
        super().__init__(ratio=nearest, selected=rows // 2 * columns + columns // 2)

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.shape[1] // self.patch_size, self.shape[2] // self.patch_size

    @t.validate("chosen", "draw", "selected")
    def _valid_place(self, proposal):
        rows, columns = self.grid_size
        name, places = proposal.trait.name, {"chosen": len(self.names), "draw": self.draws, "selected": rows * columns}
        if not 0 <= proposal.value < places[name]:
            raise t.TraitError(f"{name} is {proposal.value}; wanted 0 to {places[name] - 1}.")
        return proposal.value

    @t.validate("ratio")
    def _valid_ratio(self, proposal):
        if proposal.value not in self.ratios:
            wanted = ", ".join(map(str, self.ratios))
            raise t.TraitError(f"ratio is {proposal.value}; wanted one that was prepared: {wanted}.")
        return proposal.value

    def _shown(self, sent: bytes, dtype: torch.dtype, *size: int) -> torch.Tensor:
        """What was sent for the chosen picture, ratio and draw."""
        shape = (len(self.names), len(self.ratios), self.draws, *size)
        whole = torch.frombuffer(bytearray(sent), dtype=dtype).view(shape)
        return whole[self.chosen, self.ratios.index(self.ratio), self.draw]

    def sentence(self) -> str:
        rows, columns = self.grid_size
        mask = self._shown(self.removed, torch.uint8, rows * columns).bool()
        loss = self._shown(self.losses, torch.float16, rows * columns).float()[mask].mean().item()
        row, column = divmod(self.selected, columns)
        return (
            f"{self.names[self.chosen]}, {rows} × {columns} patches, three times: as it is; with {self.ratio * 100:g} %"
            f" of the patches removed, {int((~mask).sum())} of {rows * columns} visible; with the removed ones as the "
            f"model paints them, mean squared error {loss:.2f}. Patch {self.selected} is marked: row {row}, "
            f"column {column}, "
            f"{'removed' if mask[self.selected] else 'visible'}."
        )

    def picture(self) -> Image.Image:
        (rows, columns), p = self.grid_size, self.patch_size
        image = torch.frombuffer(bytearray(self.pixels), dtype=torch.uint8).view(-1, *self.shape)[self.chosen]
        mask = self._shown(self.removed, torch.uint8, rows, columns).bool()
        mask = mask.repeat_interleave(p, 0).repeat_interleave(p, 1)  # (rows, columns) -> (H, W)
        painted = self._shown(self.painted, torch.uint8, *self.shape)
        three = [fit(x, 260) for x in (image, image.masked_fill(mask, 128), torch.where(mask, painted, image))]
        width, height = three[0].size
        whole = Image.new("RGB", (3 * width + 24, height), "white")
        draw, side = ImageDraw.Draw(whole), p * width / self.shape[2]
        row, column = divmod(self.selected, columns)
        for i, one in enumerate(three):
            x, y = i * (width + 12) + column * side, row * side
            whole.paste(one, (i * (width + 12), 0))
            draw.rectangle((x - 2, y - 2, x + side + 1, y + side + 1), outline="white", width=5)
            draw.rectangle((x - 1, y - 1, x + side, y + side), outline="#0b62d6", width=3)
        return whole


def _checked_ratios(ratios: tuple[float, ...] | None, patches: int) -> list[float]:
    if ratios is None:  # of two that keep the same number the larger one: it says what is removed
        kept = {int(patches * (1 - ratio)): ratio for ratio in USUAL}
        ratios = [ratio for number, ratio in kept.items() if number] or USUAL
    if not isinstance(ratios, list | tuple) or not 1 <= len(ratios) <= 6:
        raise ValueError(f"ratios is {ratios!r}; wanted 1 to 6 numbers between 0 and 1, as in (0.5, 0.75).")
    for ratio in ratios:
        number = isinstance(ratio, int | float) and 0 < ratio < 1
        if not number or not 1 <= int(patches * (1 - ratio)) < patches:
            wanted = f"between 0 and 1, so that of {patches} patches at least one is kept and one removed"
            raise ValueError(f"A mask ratio is {ratio!r}; wanted a number {wanted}: 0.75 removes three in four.")
    return sorted({float(ratio) for ratio in ratios})


@torch.no_grad()
def _paint(mae: MAE, pixels: torch.Tensor, ratios: list[float], noise: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """noise (draws, N, patches) -> painted uint8 (N, ratios, draws, C, H, W); removed and losses (..., patches)."""
    weight, p, normed = mae.decoder_pred.weight, mae.encoder.patch_embed.patch_size, mae.norm_pix_loss
    images = (pixels / 255 * 2 - 1).to(weight).repeat(len(noise), 1, 1, 1)  # (draws*N, C, H, W)
    target, drawn = mae_target(images, p, normed), noise.flatten(0, 1).to(weight.device)
    painted, removed, losses = [], [], []
    was = mae.mask_ratio
    try:
        for ratio in ratios:
            mae.mask_ratio = ratio
            with evaluating(mae):
                _, prediction, mask = mae(images, drawn)
            whole = reconstruct(images, prediction, torch.ones_like(mask), p, normed)[1]
            painted.append((((whole + 1) / 2).clamp(0, 1) * 255).round().to(torch.uint8))
            removed.append(mask.to(torch.uint8))
            losses.append(((prediction - target) ** 2).mean(dim=-1).float())
    finally:
        mae.mask_ratio = was
    if not all(loss.isfinite().all() for loss in losses):
        raise ValueError("The model paints NaN or infinity; wanted numbers: load its weights anew, or train again.")
    drawn = (
        torch.stack(x).unflatten(1, noise.shape[:2]) for x in (painted, removed, losses)
    )  # (ratios, draws, N, ...)
    return tuple(x.movedim(2, 0).cpu().contiguous() for x in drawn)
