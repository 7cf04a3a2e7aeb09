"""What all explorers share: their look (look.css, look.js) and a picture for where JavaScript is off."""

import base64
import io
from pathlib import Path

import anywidget
from PIL import Image

HERE = Path(__file__).parent
LARGEST_SIDE = 1024  # pixels; the image goes to the browser once, and into a saved notebook


def source(*files: str) -> str:
    """The files one after the other: anywidget loads one module and one style sheet."""
    return "\n".join((HERE / file).read_text(encoding="utf-8") for file in files)


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
