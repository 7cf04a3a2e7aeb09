"""SimilarityExplorer: every picture with every text, as CLIP compares them (Radford et al. 2021, figures 1 and 3)."""

import torch
import torch.nn.functional as F
import traitlets as t
from PIL import Image, ImageDraw, ImageFont

from vit_edu.explain import evaluating
from vit_edu.images import batch_bytes
from vit_edu.layers import PatchEmbed
from vit_edu.models import CLIP, tokenize
from vit_edu.widgets.look import Explorer, bare, fit, source, viridis

MOST = 12  # pictures, and texts
SHOWN = ("cosine", "texts", "images")


class SimilarityExplorer(Explorer):
    """Pictures and texts, the cosine of each with each; a temperature and a softmax make probabilities of them.

    clip: it gets the pictures in -1..1, as the kit's checkpoints want them, and stays as it is. images: (N, C, H, W),
    a list of (C, H, W), or one, uint8 or float in 0..1, of the model's size. texts: a list of str, any number of them;
    where there are as many as pictures, texts[i] is taken to belong to images[i].

    In the next cell read (or set) `explorer.row` (the picture), `explorer.column` (the text), `explorer.shown`
    ("cosine", "texts": softmax over the texts of a picture, "images": over the pictures of a text) and
    `explorer.temperature`: logits = cosine / temperature. It starts at the model's own, 1 / exp(clip.logit_scale).
    Raises TypeError or ValueError with what was found and what is wanted.
    """

    _esm = source("colours.js", "look.js", "similarity_explorer.js")
    _css = source("look.css", "similarity_explorer.css")

    pixels = t.Bytes(read_only=True).tag(sync=True)  # uint8 (N, C, H, W)
    cosines = t.Bytes(read_only=True).tag(sync=True)  # float32 (N, T): over 0.01, half precision's rounding would show
    shape = t.Tuple(t.Int(), t.Int(), t.Int(), read_only=True).tag(sync=True)
    texts = t.List(t.Unicode(), read_only=True).tag(sync=True)
    own = t.Float(read_only=True).tag(sync=True)  # the model's own temperature
    row = t.Int(0).tag(sync=True)
    column = t.Int(0).tag(sync=True)
    temperature = t.Float().tag(sync=True)
    shown = t.Enum(SHOWN, "cosine").tag(sync=True)

    def __init__(self, clip: CLIP, images: torch.Tensor | list[torch.Tensor], texts: list[str]):
        clip = bare(clip)
        if not isinstance(clip, CLIP):
            wanted = "wanted a vit_edu.models.CLIP, such as vit_edu.weights.checkpoint('clip')"
            raise TypeError(f"clip is a {type(clip).__name__}; {wanted}.")
        embed = getattr(clip.visual, "patch_embed", None)
        if not isinstance(embed, PatchEmbed):
            found = f"clip.visual is a {type(clip.visual).__name__}"
            raise TypeError(f"{found}; wanted a ViT on patches: build it with create_model('vit_tiny_patch16_224').")
        pixels = batch_bytes(images, (embed.proj.in_channels, *embed.img_size), MOST)
        texts = _checked_texts(texts)
        cosines, own = _compare(clip, pixels, texts)
        self.set_trait("pixels", pixels.numpy().tobytes())
        self.set_trait("cosines", cosines.numpy().tobytes())
        self.set_trait("shape", tuple(pixels.shape[1:]))
        self.set_trait("texts", texts)
        self.set_trait("own", own)
        super().__init__(temperature=own)

    @property
    def matrix(self) -> torch.Tensor:
        """What the cells show, float32 (pictures, texts): cosines or probabilities."""
        cosines = torch.frombuffer(bytearray(self.cosines), dtype=torch.float32).view(-1, len(self.texts))
        if self.shown == "cosine":
            return cosines
        return (cosines / self.temperature).softmax(dim=1 if self.shown == "texts" else 0)

    @t.validate("row", "column")
    def _valid_place(self, proposal):
        name, places = proposal.trait.name, self.matrix.shape[proposal.trait.name == "column"]
        if not 0 <= proposal.value < places:
            raise t.TraitError(f"{name} is {proposal.value}; wanted 0 to {places - 1}.")
        return proposal.value

    @t.validate("temperature")
    def _valid_temperature(self, proposal):
        if not 1e-3 <= proposal.value <= 100:
            raise t.TraitError(
                f"temperature is {proposal.value}; wanted 0.001 to 100; the model's own is {self.own:.3g}."
            )
        return proposal.value

    def sentence(self) -> str:
        matrix = self.matrix
        (pictures, texts), value = matrix.shape, matrix[self.row, self.column].item()
        if self.shown == "cosine":
            what, value = "cosine", f"{value:.2f}"
        else:
            over = "texts" if self.shown == "texts" else "pictures"
            what, value = f"softmax over the {over} at temperature {self.temperature:.3g}", f"{value * 100:.1f} %"
        pair = f"Picture {self.row} with “{self.texts[self.column]}”: {value}."
        several = f"{pictures} picture{'s' * (pictures > 1)} with {texts} text{'s' * (texts > 1)}"
        words = f"{several}: {what}. {pair}"
        if pictures != texts:
            return words
        found = (matrix.argmax(dim=0 if self.shown == "images" else 1) == torch.arange(texts)).sum().item()
        who, what = ("texts", "picture") if self.shown == "images" else ("pictures", "text")
        return f"{words} {found} of {texts} {who} {'finds its' if found == 1 else 'find their'} {what}."

    def picture(self) -> Image.Image:
        """The matrix, the pictures beside it and the texts above, upwards."""
        matrix, side = self.matrix, 40
        pictures, texts = matrix.shape
        images = torch.frombuffer(bytearray(self.pixels), dtype=torch.uint8).view(-1, *self.shape)
        low, high = scale(matrix, self.shown)
        shades = viridis()[((matrix - low) / (high - low) * 256).long().clamp(0, 255)]  # (pictures, texts, 3)
        heat = Image.fromarray(shades.numpy()).resize((texts * side, pictures * side), Image.NEAREST)
        names = [upwards(text) for text in self.texts]
        left, top = side + 8, max(name.height for name in names) + 8
        whole = Image.new("RGB", (left + texts * side, top + pictures * side), "white")
        whole.paste(heat, (left, top))
        for i, name in enumerate(names):
            whole.paste(name, (left + i * side + (side - name.width) // 2, top - 4 - name.height))
        for i, image in enumerate(images):
            small = fit(image, side - 4)
            whole.paste(small, ((side - small.width) // 2, top + i * side + (side - small.height) // 2))
        x, y = left + self.column * side, top + self.row * side
        draw = ImageDraw.Draw(whole)
        draw.rectangle((x, y, x + side - 1, y + side - 1), outline="white", width=5)
        draw.rectangle((x + 1, y + 1, x + side - 2, y + side - 2), outline="#0b62d6", width=3)
        return whole


def upwards(text: str, longest: int = 28) -> Image.Image:
    """A text in black on white that is read from below; a long one is cut."""
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    font = ImageFont.load_default(13)
    _, _, width, height = font.getbbox(text)
    drawn = Image.new("RGB", (max(1, round(width)), max(1, round(height))), "white")
    ImageDraw.Draw(drawn).text((0, 0), text, "black", font)
    return drawn.rotate(90, expand=True)


def scale(matrix: torch.Tensor, shown: str) -> tuple[float, float]:
    """What the first and the last colour stand for: probabilities 0 to 1, cosines from the least to the largest."""
    if shown != "cosine":
        return 0.0, 1.0
    low, high = matrix.min().item(), matrix.max().item()
    return (low, high) if high > low else (low - 1, high)


def _checked_texts(texts: list[str]) -> list[str]:
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        found = type(texts).__name__ if not isinstance(texts, list | tuple) else "list with other things than str"
        raise TypeError(f"texts is a {found}; wanted a list of str, as in ['a dog', 'a cat'].")
    if not 1 <= len(texts) <= MOST:
        raise ValueError(f"{len(texts)} texts; wanted 1 to {MOST}: pass some of them, as in texts[:{MOST}].")
    if blank := [i for i, text in enumerate(texts) if not text.strip()]:
        raise ValueError(f"texts[{blank[0]}] is empty; wanted words in each: write some, or leave it out.")
    return list(texts)


@torch.no_grad()
def _compare(clip: CLIP, pixels: torch.Tensor, texts: list[str]) -> tuple[torch.Tensor, float]:
    """The cosines (N, T), float32, and the model's own temperature; the model's modes stay."""
    weight, tokens = clip.visual_proj.weight, tokenize(texts, clip.text.pos_embed.shape[1])
    with evaluating(clip):
        images = clip.encode_image((pixels / 255 * 2 - 1).to(weight))
        words = clip.encode_text(tokens.to(weight.device))
    own = (-clip.logit_scale).exp().item()
    for name, found in (("pictures", images), ("texts", words)):
        if not found.isfinite().all():
            remedy = "load its weights anew, or train again"
            raise ValueError(f"The model's features of the {name} hold NaN or infinity; wanted numbers: {remedy}.")
    if not 1e-3 <= own <= 100:
        raise ValueError(
            f"The model's temperature 1 / exp(logit_scale) is {own:.3g}; wanted 0.001 to 100: train it again."
        )
    cosines = F.normalize(images.float(), dim=1) @ F.normalize(words.float(), dim=1).T  # (N, D) @ (D, T) -> (N, T)
    return cosines.cpu().contiguous(), own
