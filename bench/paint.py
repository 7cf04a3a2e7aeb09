"""From a key to the picture: how long each explorer takes, in Chromium, without a graphics card.

    python -m bench.paint

A hundred arrow keys each on a page without a kernel; milliseconds of work until the answer is painted, and all together
with the wait for the next frame. Writes data/records/paint.json. AttentionExplorer holds a ViT-B/16 at 224 pixels: 12
layers of 12 heads of 197 x 197 weights.
"""

import json
import statistics
import tempfile
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

from tests.widgets.conftest import LAUNCH, find_chromium
from vit_edu import create_model, load_dataset
from vit_edu.training.records import surroundings
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

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "data" / "records" / "paint.json"
KEYS = 100
# Work: the key's handlers, then the frame from its first callback until a message behind it is handled. Between the two
# the browser waits for the screen, a sixtieth of a second at most.
WATCH = """() => {
    let work = 0;
    KeyboardEvent.prototype.stopPropagation = () => {};  // else the second listener would not hear of the key
    addEventListener("keydown", () => {
        const start = performance.now();
        work = start;
        requestAnimationFrame(() => {
            const frame = performance.now();
            const { port1, port2 } = new MessageChannel();
            port1.onmessage = () => painted([work + performance.now() - frame, performance.now() - start]);
            port2.postMessage(null);
        });
    }, { capture: true });
    addEventListener("keydown", () => { work = performance.now() - work; });
}"""


def explorers() -> dict:
    """Each with what it is shown with in the lessons, or larger."""
    torch.manual_seed(0)
    photo = load_dataset("photos").images[0]
    emoji = load_dataset("emoji", "new_style")
    few = list(range(0, 1200, 100))
    vit = create_model("vit_base_patch16_224").eval()
    small = {
        "ViT": create_model("vit_tiny_patch16_224", img_size=64, patch_size=8, depth=2, embed_dim=48, num_heads=3),
        "CCT": create_model("cct_2_3x2_32", img_size=64),
    }
    return {
        "PatchExplorer": PatchExplorer(photo, 16),
        "AttentionExplorer, ViT-B/16": AttentionExplorer(vit, photo),
        "MaskExplorer": MaskExplorer(checkpoint("mae"), emoji.images[few[:6]], [emoji.names[i] for i in few[:6]]),
        "WindowShiftExplorer": WindowShiftExplorer(photo),
        "ReceptiveFieldExplorer": ReceptiveFieldExplorer(small, photo[:, :64, :64]),
        "SimilarityExplorer": SimilarityExplorer(checkpoint("clip"), emoji.images[few], [emoji.names[i] for i in few]),
    }


def measure(page) -> list[tuple[float, float]]:
    """Milliseconds (work, all) of KEYS arrow keys to and fro, one after the other, after ten to warm up."""
    page.locator(".ve [tabindex='0'][role]").first.focus()
    page.evaluate(WATCH)
    times = []
    for i in range(KEYS + 10):
        page.evaluate("() => { window.next = new Promise((told) => (window.painted = told)); }")  # no polling meanwhile
        page.keyboard.press(("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp")[i % 4])
        times.append(page.evaluate("next"))
    return times[10:]


def main() -> None:
    rows = {}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=LAUNCH)
        for name, explorer in explorers().items():
            file = Path(folder) / "page.html"
            file.write_text(static.page([explorer], name), encoding="utf-8")
            page = browser.new_page(viewport={"width": 1000, "height": 900})
            page.goto(file.as_uri())
            work, whole = zip(*measure(page))
            page.close()
            rows[name] = {
                "work_median_ms": round(statistics.median(work), 1),
                "work_95th_percentile_ms": round(statistics.quantiles(work, n=20)[-1], 1),
                "all_95th_percentile_ms": round(statistics.quantiles(whole, n=20)[-1], 1),
            }
            print(name, rows[name])
        record = {"command": "python -m bench.paint", "browser": browser.version, "keys": KEYS}
        browser.close()
    RECORD.write_text(json.dumps(record | surroundings() | {"explorers": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
