"""CLIP (Radford et al. 2021): each emoji and its name belong together; one tower reads pictures, one the names' bytes.

Zero-shot: of all names of a split, which is this picture's? Asked of the held-out style and of held-out concepts. At
laptop size, three seeds, in a style that it has not seen: 1.8 (1.6–2.6) % zero-shot, by chance 0.1; a linear probe on
its features 53.7 (53.7–55.0) %, and 69.5 (69.5–69.7) % on Fashion-MNIST; 19 to 25 minutes of training on one core of a
Xeon at 2.8 GHz. All figures: data/records/clip.json.
"""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric

from vit_edu.datasets import load_dataset
from vit_edu.models import CLIP, tokenize
from vit_edu.training.batches import captioned, plain
from vit_edu.training.loop import Plan, fit
from vit_edu.training.objectives import Contrastive

from . import common

CONTEXT = 48  # the longest name has 43 bytes, and two ends
SIZES = {
    "smoke": common.Size(common.SMOKE, Plan(epochs=0.1, batch_size=64), {0.01: 2}),
    "laptop": common.Size(common.LAPTOP, Plan(epochs=30, batch_size=128, lr=1e-3, warmup=0.1)),
    "gpu": common.Size(common.GPU, Plan(epochs=400, batch_size=1024, lr=1e-3, warmup=0.1)),
}


def run(size: common.Size, seed: int, folder: Path, fabric: Fabric) -> dict:
    """Trains, judges, leaves folder/clip.safetensors with both towers. Returns the figures."""
    train = load_dataset("emoji", "train", size.words["img_size"]).to(fabric.device)
    text = {"context_length": CONTEXT, "embed_dim": size.words["embed_dim"], "depth": 2, "num_heads": 2}
    about = common.about(size.words, text=text, embed_dim=64)
    clip = common.new_model(about, seed).to(fabric.device)
    plan = replace(size.plan, seed=seed)
    history = fit(Contrastive(clip), len(train), captioned(train, CONTEXT), plan, folder=folder, fabric=fabric).whole()
    common.keep(clip, about, folder / "clip.safetensors", fabric)
    figures = {}
    for split in ("new_style", "new_concepts", "new_both"):
        figures |= zero_shot(clip, split, fabric, size.words["img_size"])
    figures |= common.judged(clip.visual, size.words, size, seed, fabric)
    return {"seconds_training": history.seconds, "loss": common.curve(history), "figures": figures}


@torch.inference_mode()
def zero_shot(clip: CLIP, split: str, fabric: Fabric, img_size: int) -> dict[str, float]:
    """How often the right name is the nearest of all names in the split, or among the nearest five; and mere chance."""
    data = load_dataset("emoji", split, img_size).to(fabric.device)
    names = list(dict.fromkeys(data.names))
    clip.eval()
    images = torch.cat([clip.encode_image(part) for part in plain(data).split(256)])
    texts = torch.cat([clip.encode_text(part) for part in tokenize(names, CONTEXT).to(fabric.device).split(256)])
    nearest = (F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T).topk(5).indices  # (N, 5)
    right = nearest == torch.tensor([names.index(name) for name in data.names], device=nearest.device)[:, None]
    return {
        f"emoji/{split}/zero-shot": right[:, 0].float().mean().item(),
        f"emoji/{split}/zero-shot in 5": right.any(dim=1).float().mean().item(),
        f"emoji/{split}/zero-shot by chance": 1 / len(names),
    }
