"""What the recipes share: the encoder, the judgement after pre-training, and what a checkpoint says of itself."""

import dataclasses
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from vit_edu.training.loop import History, Plan
from vit_edu.weights.bundled import build, save

from . import judge

LAPTOP = {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3}
GPU = {"img_size": 32, "patch_size": 4, "embed_dim": 192, "depth": 9, "num_heads": 3}
TUNING = Plan(batch_size=64, lr=2e-3, layer_decay=0.7, warmup=0.1)  # chosen on parts of the training sets
SMOKE = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}


@dataclasses.dataclass(frozen=True)
class Size:
    """How large a run is: the encoder's words, the plan; and the steps of fine-tuning for each share of the labels."""

    words: dict
    plan: Plan
    shares: dict[float, int] = dataclasses.field(default_factory=lambda: {0.01: 50, 0.1: 150, 1.0: 400})


def new_model(about: dict, seed: int) -> nn.Module:
    """A new model from this seed; see weights.bundled.build."""
    torch.manual_seed(seed)
    return build(about)


def about(words: dict, **more) -> dict:
    """What a checkpoint says of itself: the encoder's words, without a head unless there are num_classes."""
    return {"model": "vit_tiny_patch16_224", "words": {"num_classes": 0} | words, **more}


def keep(model: nn.Module, about: dict, path: Path, fabric: Fabric) -> None:
    """The checkpoint, written by one process."""
    if fabric.is_global_zero:
        save(model, about, path)


def judged(
    model: nn.Module, words: dict, size: Size, seed: int, fabric: Fabric, labelled: bool = False
) -> dict[str, float]:
    """Figures of a pre-trained encoder: frozen, and fine-tuned with a part of the labels and with all.

    One that was pre-trained with all of emoji's labels is not asked what it can do with a few of them.
    """
    figures = judge.frozen(model, fabric.device, words["img_size"])
    state = {name: x.detach().clone() for name, x in model.state_dict().items() if not name.startswith("head.")}
    few = [(task, share) for task in judge.TASKS for share in size.shares if labelled and task == "emoji" and share < 1]
    return figures | tuned(state, words, size, seed, fabric, without=few)


def tuned(
    state: dict | None, words: dict, size: Size, seed: int, fabric: Fabric, without: list[tuple[str, float]] = ()
) -> dict[str, float]:
    """Accuracies after fine-tuning from `state`, or from scratch, for every task and share of the labels."""
    figures, plan = {}, dataclasses.replace(TUNING, seed=seed, layer_decay=1.0 if state is None else TUNING.layer_decay)
    for task in judge.TASKS:
        for share, steps in size.shares.items():
            if (task, share) in without:
                continue
            figures |= judge.fine_tuned(state, words, task, plan, steps, fabric, share)
    return figures


def curve(history: History) -> list[list[float]]:
    """[step, loss] of every report, as short as a record wants it."""
    return [[row["step"], round(row["loss"], 4)] for row in history.rows]
