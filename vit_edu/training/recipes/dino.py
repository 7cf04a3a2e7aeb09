"""DINO (Caron et al. 2021): a student that says of small crops what its teacher says of large ones, emoji at 64 px.

Without labels; another background in every crop, so that what the crops share is the thing itself. At laptop size,
three seeds: a linear probe on its features is 48.2 (48.1–48.4) % right in a style that it has not seen and
64.0 (62.3–64.7) % on Fashion-MNIST; 19 to 22 minutes of training on one core of a Xeon at 2.8 GHz. All figures:
data/records/dino.json.
"""

from dataclasses import replace
from pathlib import Path

from lightning_fabric import Fabric

from vit_edu.datasets import load_dataset
from vit_edu.models import DINO
from vit_edu.training.batches import crops
from vit_edu.training.loop import Plan, fit
from vit_edu.training.objectives import SelfDistillation

from . import common

LAPTOP = {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 4}
LONG = {"lr": 1e-3, "warmup": 0.1, "weight_decay": 0.1, "clip_grad": 3.0}
SIZES = {
    "smoke": common.Size(
        common.SMOKE | {"img_size": 64, "patch_size": 16}, Plan(epochs=0.05, batch_size=32), {0.01: 2}
    ),
    "laptop": common.Size(LAPTOP, Plan(epochs=12, batch_size=64, **LONG)),
    "gpu": common.Size(LAPTOP | {"embed_dim": 192, "depth": 9}, Plan(epochs=400, batch_size=512, **LONG)),
}


def run(size: common.Size, seed: int, folder: Path, fabric: Fabric) -> dict:
    """Trains, judges, leaves folder/dino.safetensors, the teacher's encoder. Returns the figures."""
    train = load_dataset("emoji", "train", size.words["img_size"]).to(fabric.device)
    words = size.words | {"dynamic_img_size": True, "drop_path_rate": 0.1}
    dino = DINO(common.new_model(common.about(words), seed), out_dim=1024, hidden_dim=256, bottleneck_dim=64)
    objective = SelfDistillation(dino.to(fabric.device), momentum=0.99)
    make_batch = crops(train, local=4, local_size=size.words["img_size"] // 2)
    plan = replace(size.plan, seed=seed)
    history = fit(objective, len(train), make_batch, plan, folder=folder, fabric=fabric).whole()
    teacher = dino.teacher["backbone"]
    common.keep(teacher, common.about(words), folder / "dino.safetensors", fabric)
    figures = common.judged(teacher, words, size, seed, fabric)
    figures |= common.tuned(None, words, size, seed, fabric)  # the mark to pass, at this size
    return {"seconds_training": history.seconds, "loss": common.curve(history), "figures": figures}
