"""README's pictures of the explorers: each as Chromium draws it, from the bundled photos and checkpoints.

    python -m bench.pictures

Writes docs/*_explorer.png. Fonts are the machine's; what is drawn and said is the same everywhere.
"""

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.widgets.conftest import LAUNCH, find_chromium
from vit_edu import create_model, load_dataset
from vit_edu.weights import checkpoint
from vit_edu.widgets import (
    AttentionExplorer,
    MaskExplorer,
    PatchExplorer,
    ReceptiveFieldExplorer,
    SimilarityExplorer,
    WindowShiftExplorer,
    static,
)

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAINTED = ["upside-down face", "ogre", "woman blond hair", "taco", "new moon", "fish", "sailboat", "red heart"]
PAIRED = ["grinning cat", "red apple", "green apple", "pizza", "rocket", "snowman", "sailboat", "red heart"]


def four() -> dict:
    """New models of the four families at 32 pixels; lesson 07 has them too."""
    torch.manual_seed(0)
    words = {"img_size": 32, "num_classes": 10}
    small = {"embed_dim": 48, "depth": 3, "num_heads": 3}
    swin = {"patch_size": 2, "window_size": 4, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)}
    return {
        "ViT": create_model("vit_tiny_patch16_224", patch_size=4, **small, **words),
        "Swin": create_model("swin_tiny_patch4_window7_224", **swin, **words),
        "ResNet + ViT": create_model("vit_tiny_resnet18_224", stages=1, **small, **words),
        "CNN": create_model("resnet20", depths=(1, 1, 1), width=8, **words),
    }


def explorers() -> dict:
    """By the names of their files."""
    cat = load_dataset("photos").images[0]
    emoji, large = load_dataset("emoji", "new_style"), load_dataset("emoji", "new_style", img_size=64)

    def some(names):
        return emoji.images[[emoji.names.index(name) for name in names]]

    attention = AttentionExplorer(checkpoint("dino"), large.images[large.names.index("smiling face with hearts")])
    attention.head, attention.query = 2, -1
    windows = WindowShiftExplorer(cat, grid_size=(8, 8), window_size=4)
    windows.step, windows.selected = "attention", 32
    small = F.interpolate(cat[None] / 255, (32, 32), mode="bilinear", antialias=True)[0]
    fields = ReceptiveFieldExplorer(four(), small.clamp(0, 1))
    return {
        "patch": PatchExplorer(cat, patch_size=32),
        "attention": attention,
        "window_shift": windows,
        "mask": MaskExplorer(checkpoint("mae"), some(PAINTED), PAINTED),
        "similarity": SimilarityExplorer(checkpoint("clip"), some(PAIRED), PAIRED),
        "receptive_field": fields,
    }


def main() -> None:
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=LAUNCH)
        page = browser.new_page(viewport={"width": 976, "height": 900}, color_scheme="light", reduced_motion="reduce")
        for name, explorer in explorers().items():
            file, picture = Path(folder) / "page.html", DOCS / f"{name}_explorer.png"
            file.write_text(static.page([explorer], name), encoding="utf-8")
            page.goto(file.as_uri())
            page.locator(".ve").screenshot(path=picture, animations="disabled")
            # A palette takes a third of the bytes, in every clone.
            Image.open(picture).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(picture, optimize=True)
            print(f"{picture.relative_to(DOCS.parent)}: {picture.stat().st_size / 1e3:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
