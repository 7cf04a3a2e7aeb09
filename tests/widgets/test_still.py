"""Nothing moves while the mouse goes over an explorer: what is said of a place takes the same room as of any other."""

import pytest
import torch

from vit_edu import create_model
from vit_edu.explain import AttentionMap
from vit_edu.models import CLIP, MAE, TextTransformer
from vit_edu.widgets import (
    AttentionExplorer,
    MaskExplorer,
    PatchExplorer,
    ReceptiveFieldExplorer,
    SimilarityExplorer,
    WindowShiftExplorer,
)

PHOTO = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TEXTS = ["a cat", "a beaming face with smiling eyes", "watermelon", "a bridge at night, seen from the river"]
# The pointer goes over every canvas that answers to it; the heights that its parts have had on the way.
HEIGHTS = """async () => {
    const root = document.querySelector(".ve");
    const seen = {};
    const note = () => root.querySelectorAll("p, .ve-stage").forEach((node, i) => {
        if (node.offsetHeight) (seen[`${i} ${node.className}`] ||= new Set()).add(node.offsetHeight);
    });
    const listens = (canvas) => getComputedStyle(canvas).cursor === "crosshair";
    for (const canvas of [...root.querySelectorAll("canvas")].filter(listens)) {
        const box = canvas.getBoundingClientRect();
        for (const [x, y] of [[0.01, 0.01], [0.99, 0.3], [0.4, 0.6], [0.6, 0.4], [0.1, 0.9], [0.99, 0.99]]) {
            const at = { clientX: box.left + x * box.width, clientY: box.top + y * box.height, bubbles: true };
            canvas.dispatchEvent(new PointerEvent("pointermove", at));
            await new Promise(requestAnimationFrame); // behind the explorer's own
            note();
        }
        canvas.dispatchEvent(new PointerEvent("pointerleave"));
    }
    return Object.entries(seen).filter(([, heights]) => heights.size > 1).map(([name, heights]) => [name, ...heights]);
}"""


def vit(**words):
    torch.manual_seed(0)
    small = {"img_size": (64, 96), "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2, "num_classes": 0}
    return create_model("vit_tiny_patch16_224", **(small | words))


def patches(**traits):
    explorer = PatchExplorer(PHOTO, 8)
    for name, value in traits.items():
        setattr(explorer, name, value)
    return explorer


def attention():
    explorer = AttentionExplorer(vit(), PHOTO)
    explorer.query = -1
    return explorer


def windows():
    explorer = WindowShiftExplorer(PHOTO, (8, 14), 4)
    explorer.step = "attention"
    return explorer


EXPLORERS = {
    "patch": patches,
    "moved": lambda: patches(shuffled=25, positions=True),
    "overlap": lambda: patches(overlap=True),
    "attention": attention,
    "one head": lambda: AttentionExplorer([AttentionMap("mine", torch.rand(1, 1, 96, 96), (8, 12))], PHOTO),
    "window": windows,
    "mask": lambda: MaskExplorer(MAE(vit(), 8, 1, 2), PHOTO),
    "field": lambda: ReceptiveFieldExplorer(
        {"ViT": vit(), "CNN": create_model("resnet20", depths=(1, 1, 1), width=4)}, PHOTO
    ),
    "pairs": lambda: SimilarityExplorer(CLIP(vit(), TextTransformer(258, 48, 12, 1, 2), 3), [PHOTO] * 4, TEXTS),
    "no pairs": lambda: SimilarityExplorer(CLIP(vit(), TextTransformer(258, 48, 12, 1, 2), 3), [PHOTO] * 3, TEXTS),
}


@pytest.mark.parametrize("show", EXPLORERS.values(), ids=EXPLORERS)
def test_nothing_moves_on_a_narrow_page_while_it_is_pointed_at(static_page, show):
    static_page.page.emulate_media(reduced_motion="reduce")
    static_page.show(show())
    for width in (360, 420):
        static_page.page.set_viewport_size({"width": width, "height": 800})
        assert static_page.page.evaluate(HEIGHTS) == []
