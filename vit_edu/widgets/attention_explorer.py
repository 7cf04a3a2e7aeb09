"""AttentionExplorer: where each token of a photo looks, in every head and layer (ViT, appendix D; DINO, figure 1)."""

import torch
import traitlets as t
from PIL import Image, ImageDraw
from torch import nn

from vit_edu.explain import AttentionMap, attention_distance, attention_entropy, attention_maps, rollout
from vit_edu.images import check_stored, image_bytes
from vit_edu.layers.checks import check_float
from vit_edu.widgets.look import LARGEST_SIDE, Explorer, as_taken, bare, fit, fixed, halves, source, viridis

MOST_NUMBERS = 20_000_000  # 40 MB go to the browser; ViT-L/16 at 224 px has 15 million weights


class AttentionExplorer(Explorer):
    """Choose a token, a layer and a head; see where that token looks, painted over the photo.

    model: any of the kit with attention (vit_edu.explain.attention_maps), or attention of your own, a list of
    vit_edu.explain.AttentionMap(name, weights (1, h, N, N), grid_size), one for each layer. image: the picture,
    (3, H, W), (1, H, W) or (H, W), uint8 or float in 0..1. inputs: what the model sees, float (C, H, W), of the same
    proportions; where it is None, image * 2 - 1, as the kit's own checkpoints want it.

    In the next cell read (or set) `explorer.layer` and `explorer.head`, counted from 0, `explorer.query` (the patch,
    row by row; -1 is the class token, -2 and on what stands behind it: distillation token, registers) and
    `explorer.shown`: "head", "mean" (of the layer's heads) or "rollout" (of the layers up to this one that have its
    grid). `explorer.row()` is what is painted. Raises TypeError or ValueError with what was found and what is wanted.
    """

    _esm = source("colours.js", "look.js", "attention_drawing.js", "attention_explorer.js")
    _css = source("look.css", "attention_explorer.css")

    pixels = t.Bytes(read_only=True).tag(sync=True)  # uint8, (C, H, W) in torch's order
    shape = t.Tuple(t.Int(), t.Int(), t.Int(), read_only=True).tag(sync=True)
    size = t.Tuple(t.Int(), t.Int(), read_only=True).tag(sync=True)  # (H, W) of what the model sees
    weights = t.Bytes(read_only=True).tag(sync=True)  # float16, (h, N, N) of layer after layer
    layers = t.List(t.Dict(), read_only=True).tag(
        sync=True
    )  # name, heads, rows, columns; of each head distance, entropy
    prefix = t.List(t.Unicode(), read_only=True).tag(sync=True)  # names of the tokens before the patches
    layer = t.Int(0).tag(sync=True)
    head = t.Int(0).tag(sync=True)
    query = t.Int(0).tag(sync=True)
    shown = t.Enum(["head", "mean", "rollout"], "head").tag(sync=True)

    def __init__(self, model: nn.Module | list[AttentionMap], image: torch.Tensor, inputs: torch.Tensor | None = None):
        image = image_bytes(image, LARGEST_SIDE)
        if isinstance(model, list | tuple):
            _check_maps(model, inputs)
            maps, inputs, names = list(model), image, ["class token"]
        else:
            inputs = image / 127.5 - 1 if inputs is None else inputs
            model = bare(model)
            _check(model, image, inputs)
            maps = attention_maps(model, as_taken(inputs, model)[None])
            names = _prefix_names(model)
        if (numbers := sum(one.weights.numel() for one in maps)) > MOST_NUMBERS:
            raise ValueError(
                f"There are {numbers:,} attention weights for this image; wanted at most {MOST_NUMBERS:,}: "
                "take a smaller image, larger patches or a smaller model."
            )
        if broken := [one.name for one in maps if not one.weights.isfinite().all()]:
            raise ValueError(
                f"The attention weights of {broken[0]} are not finite; wanted numbers: "
                "look for NaN in what they were made of."
            )
        self._maps = [one.weights[0].detach().float().cpu().half() for one in maps]  # (h, N, N) each
        self.set_trait("pixels", image.numpy().tobytes())
        self.set_trait("shape", tuple(image.shape))
        self.set_trait("size", tuple(inputs.shape[1:]))
        self.set_trait("weights", b"".join(map(halves, self._maps)))
        self.set_trait("layers", [_facts(one, self.size) for one in maps])
        names += [f"register {i}" for i in range(maps[0].prefix)]
        self.set_trait("prefix", names[: maps[0].prefix])
        layer = self.layers[-1]
        super().__init__(layer=len(maps) - 1, query=layer["rows"] // 2 * layer["columns"] + layer["columns"] // 2)

    def row(self) -> torch.Tensor:
        """What is painted: float32 (N,), the prefix tokens first; with "head" a row of attention weights."""
        token = -1 - self.query if self.query < 0 else len(self.prefix) + self.query
        if self.shown == "rollout":
            same = [self._maps[i][None].float() for i in range(first_of_stage(self.layers, self.layer), self.layer + 1)]
            return rollout(same)[0, token]
        rows = self._maps[self.layer][:, token].float()  # (h, N)
        return rows[self.head] if self.shown == "head" else rows.mean(dim=0)

    @t.validate("layer", "head", "query")
    def _valid(self, proposal):
        name, value = proposal.trait.name, proposal.value
        least, most = -len(self.prefix) if name == "query" else 0, self._most(name)
        if not least <= value <= most:
            where = "" if name == "layer" else f" (layer {self.layer})"
            raise t.TraitError(f"{name} is {value}; wanted a number from {least} to {most}{where}.")
        return value

    def _most(self, name: str) -> int:
        here = self.layers[self.layer]
        return {"layer": len(self.layers), "head": here["heads"], "query": here["rows"] * here["columns"]}[name] - 1

    @t.observe("layer")
    def _keep_inside(self, _):
        self.head, self.query = min(self.head, self._most("head")), min(self.query, self._most("query"))

    def _words(self) -> tuple[str, str]:
        """What is shown and whose it is, in words."""
        what = {
            "head": f"layer {self.layer}, head {self.head}",
            "mean": f"layer {self.layer}, mean of {self.layers[self.layer]['heads']} heads",
            "rollout": f"rollout of layers {first_of_stage(self.layers, self.layer)} to {self.layer}",
        }[self.shown]
        return what, self._token_words(len(self.prefix) + self.query if self.query >= 0 else -1 - self.query)

    def _token_words(self, token: int) -> str:
        if token < len(self.prefix):
            return f"the {self.prefix[token]}"
        patch, columns = token - len(self.prefix), self.layers[self.layer]["columns"]
        return f"patch {patch} (row {patch // columns}, column {patch % columns})"

    def sentence(self) -> str:
        (what, asks), row = self._words(), self.row()
        target = int(row[len(self.prefix) :].argmax()) + len(self.prefix)
        here = self.layers[self.layer]
        verb = "comes most from" if self.shown == "rollout" else "looks most at"
        words = f"Attention, {what}: {asks} {verb} {self._token_words(target)}, weight {fixed(row[target].item(), 4)}."
        if self.shown == "head":
            distance, entropy = here["distance"][self.head], here["entropy"][self.head]
            words += f" This head's mean distance is {fixed(distance, 1)} pixels, its entropy {fixed(entropy, 2)} bits."
        return words

    def picture(self) -> Image.Image:
        image = fit(torch.frombuffer(bytearray(self.pixels), dtype=torch.uint8).view(self.shape)).convert("L")
        here, weights = self.layers[self.layer], self.row()[len(self.prefix) :]
        grid = here["rows"], here["columns"]
        shares = (weights / weights.max().clamp_min(1e-12) * 256).clamp(0, 255).long().view(grid)
        heat = Image.fromarray(viridis()[shares].numpy()).resize(image.size, Image.NEAREST)
        image = Image.blend(image.convert("RGB"), heat, STRENGTH)
        if self.query >= 0:
            row, column = divmod(self.query, grid[1])
            height, width = image.height / grid[0], image.width / grid[1]
            box = column * width, row * height, (column + 1) * width, (row + 1) * height
            draw = ImageDraw.Draw(image)
            draw.rectangle((box[0] - 1, box[1] - 1, box[2], box[3]), outline="white", width=5)
            draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline="#1677ff", width=3)
        return image


STRENGTH = 0.7  # of the colours over the photo


def first_of_stage(layers: list[dict], layer: int) -> int:
    """The first of the layers before `layer` from which on the grid is the same: what a rollout can go back to."""
    while layer and [layers[layer - 1][side] for side in ("rows", "columns")] == [
        layers[layer][side] for side in ("rows", "columns")
    ]:
        layer -= 1
    return layer


def _facts(one, size: tuple[int, int]) -> dict:
    rows, columns = one.grid_size
    weights = one.weights.detach().float()
    distance = attention_distance(weights, one.grid_size, (size[0] / rows, size[1] / columns), one.prefix)
    facts = {"name": one.name, "heads": weights.shape[1], "rows": rows, "columns": columns}
    return facts | {"distance": distance[0].tolist(), "entropy": attention_entropy(weights)[0].tolist()}


def _prefix_names(model: nn.Module) -> list[str]:
    """What stands before registers: names of class and distillation token, where the model has them."""
    has_class = any(name.endswith("cls_token") for name, _ in model.named_parameters())
    return ["class token"] * has_class + ["distillation token"] * hasattr(model, "head_dist")


def _check_maps(maps: list[AttentionMap], inputs: torch.Tensor | None) -> None:
    """One image's maps with the same tokens before the patches, else TypeError or ValueError."""
    example = "AttentionMap('mine', weights[None], (rows, columns)) for weights (h, N, N)"
    if not maps or not all(isinstance(one, AttentionMap) and isinstance(one.weights, torch.Tensor) for one in maps):
        found = ", ".join(type(one).__name__ for one in maps) or "nothing"
        raise TypeError(f"The list holds {found}; wanted a model, or an AttentionMap for each layer: {example}.")
    if inputs is not None:
        raise TypeError("There are inputs, and no model to see them; wanted a model, or maps alone: leave inputs out.")
    for one in maps:
        check_stored(f"{one.name}.weights", one.weights)
        check_float("attention weights", one.weights)
        size, shape = one.prefix + one.grid_size[0] * one.grid_size[1], tuple(one.weights.shape)
        if len(shape) != 4 or shape[0] != 1 or not shape[1] or shape[2:] != (size, size):
            grid = f"{one.grid_size[0]} × {one.grid_size[1]} patches and {one.prefix} tokens before them"
            raise ValueError(
                f"The weights of {one.name} have the shape {shape}; for {grid} wanted (1, h, {size}, {size})."
            )
        if one.prefix != maps[0].prefix:
            raise ValueError(
                f"{one.name} has the prefix {one.prefix}, {maps[0].name} {maps[0].prefix}; wanted the same."
            )


def _check(model: nn.Module, image: torch.Tensor, inputs: torch.Tensor) -> None:
    if not isinstance(model, nn.Module) or next(model.parameters(), None) is None:
        raise TypeError(
            f"The model is a {type(model).__name__}; wanted a model with weights, such as "
            "vit_edu.create_model('vit_tiny_patch16_224')."
        )
    if not isinstance(inputs, torch.Tensor):
        raise TypeError(f"inputs is a {type(inputs).__name__}; wanted a float tensor (C, H, W), as the model sees it.")
    check_stored("inputs", inputs)
    check_float("inputs", inputs)
    if inputs.ndim != 3:
        raise ValueError(
            f"inputs has the shape {tuple(inputs.shape)}; wanted (C, H, W): pass one image of a batch, images[0]."
        )
    (height, width), (rows, columns) = image.shape[1:], inputs.shape[1:]
    if abs(height / width - rows / columns) > 0.02 * height / width:
        raise ValueError(
            f"The image has {height} × {width} pixels and inputs {rows} × {columns}; wanted the same proportions, "
            "or the attention would lie in the wrong place: crop the image as the inputs were."
        )
