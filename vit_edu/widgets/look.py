"""What all explorers share: their look (look.css, look.js), images as bytes, a picture for where JavaScript is off."""

import base64
import io
from pathlib import Path

import anywidget
import torch
from PIL import Image

HERE = Path(__file__).parent
LARGEST_SIDE = 1024  # pixels; the image goes to the browser once, and into a saved notebook


def source(*files: str) -> str:
    """The files one after the other: anywidget loads one module and one style sheet."""
    return "\n".join((HERE / file).read_text(encoding="utf-8") for file in files)


def image_bytes(image: torch.Tensor) -> torch.Tensor:
    """An image as uint8 (C, H, W) on the CPU, C = 1 or 3.

    image: uint8, or float in 0..1; (3, H, W), (1, H, W) or (H, W). Raises TypeError for what is no such tensor,
    ValueError for a shape or for values that are no picture.
    """
    if not isinstance(image, torch.Tensor):
        raise TypeError(
            f"The image is a {type(image).__module__}.{type(image).__name__}; wanted a torch tensor (3, H, W). "
            "From an (H, W, 3) array: torch.from_numpy(array).permute(2, 0, 1)."
        )
    shape = tuple(image.shape)
    wanted = f"The image has the shape {shape}; wanted (3, H, W), (1, H, W) or (H, W)"
    if image.ndim == 4:
        raise ValueError(f"{wanted}. This is a batch: pass one picture of it, images[0].")
    if image.ndim == 3 and shape[0] not in (1, 3):
        if shape[-1] in (1, 3):
            raise ValueError(f"{wanted}. The channels come first: image.permute(2, 0, 1).")
        if shape[0] == 4:
            raise ValueError(f"{wanted}. A fourth channel is transparency: image[:3] leaves it out.")
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[0] not in (1, 3)) or 0 in shape:
        raise ValueError(f"{wanted}.")
    if max(shape[-2:]) > LARGEST_SIDE:
        raise ValueError(
            f"The image has {shape[-2]} × {shape[-1]} pixels; wanted at most {LARGEST_SIDE} a side. "
            "Make it smaller first: torchvision.transforms.functional.resize(image, 224)."
        )
    image = image.detach().cpu()
    if image.is_floating_point():
        low, high = image.min().item(), image.max().item()
        if not (low >= 0 and high <= 1):  # also false for NaN
            raise ValueError(
                f"The image's values go from {low:.4g} to {high:.4g}; a float image wants 0 to 1. "
                "Divide by 255, or undo the normalisation (image * std + mean)."
            )
        image = (image.float() * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise TypeError(f"The image's dtype is {image.dtype}; wanted torch.uint8, or a float in 0 to 1.")
    return image.reshape(-1, *shape[-2:]).contiguous()


class Explorer(anywidget.AnyWidget):
    """A widget that leaves a sentence and a still picture in the notebook for places without JavaScript."""

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
