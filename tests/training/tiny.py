"""A run of less than a second, for a process of its own that can be killed."""

import json
import time
from pathlib import Path

import torch
from torch import nn

from vit_edu.datasets import Dataset
from vit_edu.models import create_model
from vit_edu.training import Plan, Supervised, fit, labelled, new_fabric, plain

PLAN = Plan(epochs=6, batch_size=16, lr=5e-3, ema=0.8, evaluations=3)


def pictures() -> Dataset:
    """64 noisy pictures of two kinds, red and blue."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 100, (64, 3, 8, 8), generator=generator)
    labels = torch.arange(64) % 2
    images[labels == 0, 0] += 120
    images[labels == 1, 2] += 120
    return Dataset(images.to(torch.uint8), labels, ["one"] * 64, ["red", "blue"])


def model() -> nn.Module:
    torch.manual_seed(0)
    words = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 2}
    return create_model("vit_tiny_patch16_224", **words)


def run(folder: Path | None = None, plan: Plan = PLAN, slow: float = 0.0, stop: int | None = None, **words):
    """Trains; returns the model and its history. `stop`: the step before which somebody presses Ctrl-C."""
    data, objective = pictures(), Supervised(model())
    make = labelled(data, mixup=0.2, cutmix=0.2)

    def make_batch(indices, draws):
        time.sleep(slow)
        if draws.seed == stop:  # the seed of step 12 is 12
            raise KeyboardInterrupt
        return make(indices, draws)

    def evaluate(objective) -> dict:
        scores = objective.model(plain(data))
        return {"score": (scores.argmax(1) == data.labels).float().mean().item(), "mean": scores.mean().item()}

    history = fit(objective, len(data), make_batch, plan, folder=folder, evaluate=evaluate, **words)
    return objective.model, history


def main(folder: Path, slow: float = 0.0) -> None:
    """Trains with a checkpoint at every step, two processes with a break; leaves weights and history."""
    torch.set_num_threads(1)
    fabric = new_fabric("cpu")
    if fabric.world_size > 1:
        run(folder, stop=12, fabric=fabric, checkpoint_every=0.0)
    trained, history = run(folder, slow=slow, fabric=fabric, checkpoint_every=0.0)
    if fabric.is_global_zero:
        rows = [{key: row[key] for key in ("step", "loss")} for row in history.rows]
        torch.save(trained.state_dict(), folder / "weights.pt")
        (folder / "history.json").write_text(json.dumps({"rows": rows, "evaluations": history.evaluations}))
