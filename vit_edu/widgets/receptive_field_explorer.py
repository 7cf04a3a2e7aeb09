"""ReceptiveFieldExplorer: which pixels reach one output of a CNN, a ViT, a Swin, layer by layer (Luo et al. 2016)."""

import math

import numpy as np
import torch
import torch.nn.functional as F
import traitlets as t
from PIL import Image, ImageDraw
from torch import Tensor, nn
from tqdm.auto import tqdm

from vit_edu.explain import effective_receptive_fields, layers_of
from vit_edu.images import check_stored, image_bytes
from vit_edu.widgets.look import LARGEST_SIDE, Explorer, as_taken, bare, fit, fixed, source

MOST_MODELS, MOST_LAYERS = 6, 8
MOST_BYTES = 2**21  # of all fields together
LARGEST_FIELD = 64  # pixels a side
LIGHT, RING = (255, 214, 90), "#1677ff"


class ReceptiveFieldExplorer(Explorer):
    """One picture through several models: which input pixels reach this output, and how strongly.

    models: {name: model}, 1 to 6 that all take pictures of the image's size. image: (3, H, W), (1, H, W) or (H, W),
    uint8 or float in 0..1. inputs: what the models are given in its place, float (C, H, W), or (B, C, H, W) for the sum
    over several; left out, it is the image in -1..1. Of each model up to 8 layers are computed, at up to 8 × 8 places,
    which takes seconds at 32 to 64 pixels a side.

    In the next cell read (or set) `explorer.depth` (a step from 0; each model shows the layer at that share of its own
    depth), `explorer.selected` (the place of the output, counted from 0, row by row) and `explorer.scale` ("linear" or
    "log"). Raises TypeError or ValueError with what was found and what is wanted.
    """

    _esm = source("colours.js", "look.js", "receptive_field_explorer.js")
    _css = source("look.css", "receptive_field_explorer.css")

    pixels = t.Bytes(read_only=True).tag(sync=True)  # uint8, (C, H, W)
    shape = t.Tuple(t.Int(), t.Int(), t.Int(), read_only=True).tag(sync=True)
    names = t.List(t.Unicode(), read_only=True).tag(sync=True)
    layers = t.List(t.List(t.Unicode()), read_only=True).tag(sync=True)  # of each model
    grids = t.List(t.List(t.Tuple(t.Int(), t.Int())), read_only=True).tag(sync=True)  # (rows, columns) of each layer
    places = t.Int(read_only=True).tag(sync=True)  # P, a side
    size = t.Tuple(t.Int(), t.Int(), read_only=True).tag(sync=True)  # (h, w) of a field
    # uint8 (layers of all models, P*P, h, w): 255 √(gradient / the largest), rounded up, so that only nothing is 0
    fields = t.Bytes(read_only=True).tag(sync=True)
    counts = t.Bytes(read_only=True).tag(sync=True)  # int32 (layers of all models, P*P, 2): pixels reached; half held
    depth = t.Int().tag(sync=True)
    selected = t.Int().tag(sync=True)
    scale = t.Enum(["linear", "log"], "linear").tag(sync=True)

    def __init__(self, models: dict[str, nn.Module], image: Tensor, inputs: Tensor | None = None):
        image = image_bytes(image, LARGEST_SIDE)
        _check_models(models)
        models, inputs = {name: bare(model) for name, model in models.items()}, _inputs(image, inputs)
        grids = {name: _layers(name, model, inputs) for name, model in models.items()}
        height, width = image.shape[1:]
        smaller = min(1, LARGEST_FIELD / max(height, width))
        size = (max(1, round(height * smaller)), max(1, round(width * smaller)))
        places = int(math.sqrt(MOST_BYTES / (sum(map(len, grids.values())) * math.prod(size))))
        places = min(max(places, 4), 8, height, width)
        fields, counts = [], []
        for name in tqdm(models, desc="receptive fields", delay=2, leave=False):
            for field in _fields(models[name], inputs, grids[name], places):
                fields.append(_coded(field, size))
                counts.append(_counts(field))
        self.set_trait("pixels", image.numpy().tobytes())
        self.set_trait("shape", tuple(image.shape))
        self.set_trait("names", list(models))
        self.set_trait("layers", [list(of_model) for of_model in grids.values()])
        self.set_trait("grids", [list(of_model.values()) for of_model in grids.values()])
        self.set_trait("places", places)
        self.set_trait("size", size)
        self.set_trait("fields", torch.stack(fields).numpy().tobytes())
        self.set_trait("counts", torch.stack(counts).numpy().tobytes())
        super().__init__(depth=min(1, self.steps - 1), selected=places // 2 * places + places // 2)

    @property
    def steps(self) -> int:
        """The steps of `depth`: as many as the model with the most layers has."""
        return max(map(len, self.layers))

    @t.validate("depth", "selected")
    def _valid(self, proposal):
        name, most = proposal.trait.name, (self.steps if proposal.trait.name == "depth" else self.places**2) - 1
        if not 0 <= proposal.value <= most:
            raise t.TraitError(f"{name} is {proposal.value}; wanted a number from 0 to {most}.")
        return proposal.value

    def layer(self, model: int) -> int:
        """Which layer of that model (its number among `names`) is shown at this depth."""
        last = len(self.layers[model]) - 1
        return math.floor(self.depth * last / max(self.steps - 1, 1) + 0.5)

    def _shown(self, model: int) -> tuple[np.ndarray, int, int]:
        """That model's field (h, w) as sent, the pixels that reach the output, and those that hold half."""
        index = (sum(map(len, self.layers[:model])) + self.layer(model)) * self.places**2 + self.selected
        area = math.prod(self.size)
        field = np.frombuffer(self.fields, np.uint8, area, index * area).reshape(self.size)
        reached, half = np.frombuffer(self.counts, np.int32, 2, 8 * index).tolist()
        return field, reached, half

    def sentence(self) -> str:
        pixels = self.shape[1] * self.shape[2]
        each = []
        for i, name in enumerate(self.names):
            _, reached, half = self._shown(i)
            words = f"{_percent(reached / pixels)} of the pixels, half of the gradient from {half:,} of {pixels:,}"
            each.append(f"{name} ({self.layers[i][self.layer(i)]}) {words}")
        row, column = divmod(self.selected, self.places)
        return (
            f"The input pixels that reach one output, at row {row}, column {column} of {self.places} × {self.places} "
            f"places, after step {self.depth + 1} of {self.steps}: {'; '.join(each)}."
        )

    def picture(self) -> Image.Image:
        photo = fit(torch.frombuffer(bytearray(self.pixels), dtype=torch.uint8).view(self.shape), 200)
        sheet = Image.new("RGB", (len(self.names) * (photo.width + 12) - 12, photo.height + 34), "white")
        dim = Image.blend(Image.new("RGB", photo.size), photo.convert("L").convert("RGB"), 0.45)
        draw = ImageDraw.Draw(sheet)
        for i, name in enumerate(self.names):
            field, reached, _ = self._shown(i)
            light = Image.fromarray((_light(field, self.scale) * 255).astype(np.uint8)).resize(
                photo.size, Image.NEAREST
            )
            left, (rows, columns) = i * (photo.width + 12), self.grids[i][self.layer(i)]
            sheet.paste(Image.composite(Image.new("RGB", photo.size, LIGHT), dim, light), (left, 34))
            row, column = _cell(self.selected, self.places, (rows, columns))
            x, y = left + column * photo.width / columns, 34 + row * photo.height / rows
            end = (x + max(photo.width / columns, 6), y + max(photo.height / rows, 6))
            draw.rectangle((x - 1, y - 1, end[0] + 1, end[1] + 1), outline="white", width=4)
            draw.rectangle((x, y, *end), outline=RING, width=2)
            share = _percent(reached / (self.shape[1] * self.shape[2]))
            draw.text((left, 2), f"{name}: {share}\n{self.layers[i][self.layer(i)]}", fill="black")
        return sheet


def _check_models(models: dict[str, nn.Module]) -> None:
    if not isinstance(models, dict):
        raise TypeError(f"models is a {type(models).__name__}; wanted a dictionary, {{'ViT': vit, 'CNN': cnn}}.")
    if not 1 <= len(models) <= MOST_MODELS:
        raise ValueError(f"models has {len(models)} of them; wanted 1 to {MOST_MODELS}, one panel each.")
    for name, model in models.items():
        if not isinstance(name, str):
            raise TypeError(f"models has the key {name!r}; wanted its name for the page, such as 'ViT'.")
        if not isinstance(model, nn.Module):
            raise TypeError(f"models[{name!r}] is a {type(model).__name__}; wanted a torch module of the kit.")


def _inputs(image: Tensor, inputs: Tensor | None) -> Tensor:
    if inputs is None:
        return image / 127.5 - 1
    if not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
        found = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"inputs is a {found}; wanted a float tensor (C, H, W) as the models take it.")
    check_stored("inputs", inputs)
    if inputs.ndim not in (3, 4) or 0 in inputs.shape or inputs.shape[-2:] != image.shape[-2:]:
        size = f"H × W = {image.shape[1]} × {image.shape[2]} as the image"
        raise ValueError(f"inputs has the shape {tuple(inputs.shape)}; wanted (C, H, W) or (B, C, H, W) with {size}.")
    if not inputs.isfinite().all():
        raise ValueError("inputs has values that are not finite; wanted numbers: look for a division by 0.")
    return inputs


def _layers(name: str, model: nn.Module, inputs: Tensor) -> dict[str, tuple[int, int]]:
    """Up to 8 of the model's layers with their grids, evenly chosen, the first and the last among them."""
    try:
        grids = layers_of(model, as_taken(inputs, model))
    except (TypeError, ValueError, RuntimeError) as error:
        found = f"models[{name!r}] does not take the inputs {tuple(inputs.shape)}, and all models get the same"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{found}: {error}") from None
    chosen = torch.linspace(0, len(grids) - 1, min(len(grids), MOST_LAYERS)).round().int().tolist()
    return {layer: grids[layer] for layer in (list(grids)[i] for i in chosen)}


def _cell(place: int, places: int, grid: tuple[int, int]) -> tuple[int, int]:
    """(row, column) of the layer's grid in which the middle of a place lies."""
    row, column = divmod(place, places)
    return int((row + 0.5) / places * grid[0]), int((column + 0.5) / places * grid[1])


def _fields(model: nn.Module, inputs: Tensor, grids: dict[str, tuple[int, int]], places: int) -> list[Tensor]:
    """Of each layer (P*P, H, W)."""
    cells = {layer: [_cell(place, places, grid) for place in range(places**2)] for layer, grid in grids.items()}
    once = {layer: list(dict.fromkeys(some)) for layer, some in cells.items()}  # a coarse grid has fewer cells
    fields = effective_receptive_fields(model, as_taken(inputs, model), once)
    return [fields[layer][[once[layer].index(cell) for cell in cells[layer]]].cpu() for layer in grids]


def _coded(fields: Tensor, size: tuple[int, int]) -> Tensor:
    """(P*P, H, W) -> uint8 (P*P, h, w); see the trait `fields`."""
    fields = F.adaptive_avg_pool2d(fields, size)
    return (255 * (fields / fields.amax((1, 2), keepdim=True).clamp_min(1e-30)).sqrt()).ceil().to(torch.uint8)


def _counts(fields: Tensor) -> Tensor:
    """(P*P, H, W) -> int32 (P*P, 2): how many pixels have a gradient, and how few of them hold half of it."""
    flat = fields.flatten(1).double()
    reached = (flat > 0).sum(1)
    held = flat.sort(dim=1, descending=True).values.cumsum(1)
    half = (held < 0.5 * held[:, -1:]).sum(1) + 1
    return torch.stack([reached, half.minimum(reached)], dim=1).to(torch.int32)


def _light(field: np.ndarray, scale: str) -> np.ndarray:
    """uint8 codes -> 0..0.9, the opacity of the light; receptive_field_explorer.js has the same."""
    share = (field / 255.0) ** 2
    level = share if scale == "linear" else 1 + np.log10(np.maximum(share, 1e-4)) / 4
    return np.where(field > 0, 0.14 + 0.76 * level, 0)


def _percent(share: float) -> str:
    return f"{fixed(100 * share, 0 if share >= 0.0995 or share == 0 else 1)} %"
