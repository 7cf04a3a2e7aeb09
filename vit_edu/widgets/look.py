"""What all explorers share: their look (look.css, look.js) and a picture for where JavaScript is off."""

import base64
import functools
import io
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import anywidget
import torch
from PIL import Image
from torch import nn

from vit_edu.explain import unwrapped

HERE = Path(__file__).parent
LARGEST_SIDE = 1024  # pixels; the image goes to the browser once, and into a saved notebook


def source(*files: str) -> str:
    """The files one after the other: anywidget loads one module and one style sheet."""
    return "\n".join((HERE / file).read_text(encoding="utf-8") for file in files)


def halves(numbers: torch.Tensor) -> bytes:
    """A tensor as float16, in torch's order, for a Bytes trait; look.halves reads it."""
    return numbers.detach().cpu().to(torch.float16).contiguous().numpy().tobytes()


def fixed(number: float, places: int) -> str:
    """As JavaScript's toFixed, which rounds an exact half up: half precision has many, and both sides say the same."""
    return str(Decimal(number).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP))


def bare(model: nn.Module) -> nn.Module:
    """The model without what stands around it; ValueError for one that is on the meta device."""
    model = unwrapped(model)
    if isinstance(model, nn.Module) and any(x.is_meta for x in (*model.parameters(), *model.buffers())):
        found = f"A {type(model).__name__} has weights on the meta device"
        raise ValueError(f"{found}; wanted numbers in them: build it without torch.device('meta'), or load some.")
    return model


def as_taken(inputs: torch.Tensor, model: nn.Module) -> torch.Tensor:
    """Inputs (..., C, H, W) on the model's device and in its dtype, grey ones in the channels that it takes."""
    first = next((one for one in model.modules() if isinstance(one, nn.Conv2d)), None)
    if first is not None and inputs.shape[-3] == 1:
        inputs = inputs.expand(*inputs.shape[:-3], first.in_channels, -1, -1)
    weights = next(model.parameters(), inputs)
    return inputs.to(weights.device, weights.dtype)


@functools.cache
def viridis() -> torch.Tensor:
    """The explorers' colour map, uint8 (256, 3), as colours.js has it."""
    raw = base64.b64decode(re.search(r'viridis: "([^"]+)"', source("colours.js"))[1])
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(256, 3)


def fit(image: torch.Tensor, side: int = 336) -> Image.Image:
    """uint8 (C, H, W) as a PIL image whose longer side has `side` pixels, small ones with their pixels seen."""
    array = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    scale = side / max(array.shape[:2])
    size = (round(array.shape[1] * scale), round(array.shape[0] * scale))
    return Image.fromarray(array).resize(size, Image.NEAREST if scale > 4 else Image.BICUBIC)


def _in_one_sentence(init):
    """A ValueError or TypeError of `init` stands in a notebook as its sentence, without a traceback."""

    @functools.wraps(init)
    def begin(self, *args, **words):
        try:
            init(self, *args, **words)
        except (TypeError, ValueError) as error:
            sentence = f"{type(self).__name__}: {error}"
            error._render_traceback_ = lambda *_: [sentence]  # IPython asks for it
            raise

    return begin


class Explorer(anywidget.AnyWidget):
    """A widget that leaves a sentence and a still picture in the notebook for places without JavaScript."""

    def __init_subclass__(cls, **words):
        super().__init_subclass__(**words)
        cls.__init__ = _in_one_sentence(cls.__init__)

    def sentence(self) -> str:
        """What the explorer shows now, in words: the alt text."""
        raise NotImplementedError

    def picture(self):
        """What the explorer shows now, as a PIL image."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.sentence()

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        png = io.BytesIO()
        # A palette takes a third of the bytes, in every saved notebook.
        self.picture().quantize(256, Image.Quantize.FASTOCTREE).save(png, "PNG", optimize=True)
        data |= {"text/plain": self.sentence(), "image/png": base64.b64encode(png.getvalue()).decode("ascii")}
        return data, metadata | {"image/png": {"alt": self.sentence()}}
