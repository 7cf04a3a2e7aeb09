"""What the recipes share: the encoder, the judgement after pre-training, and how a checkpoint is written."""

import dataclasses
import json
from pathlib import Path

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import nn

from vit_edu.models import create_model
from vit_edu.training.loop import History, Plan

from . import judge

LAPTOP = {"img_size": 32, "patch_size": 4, "embed_dim": 128, "depth": 6, "num_heads": 4}
GPU = {"img_size": 32, "patch_size": 4, "embed_dim": 192, "depth": 9, "num_heads": 3}
TUNING = Plan(batch_size=64, lr=5e-4, layer_decay=0.8)
SMOKE = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}


@dataclasses.dataclass(frozen=True)
class Size:
    """How large a run is: the encoder's words, the plan; and the steps of fine-tuning with each share of the labels."""

    words: dict
    plan: Plan
    steps: int = 200
    shares: tuple[float, ...] = (0.01, 0.1, 1.0)


def vit(words: dict, seed: int, **more) -> nn.Module:
    """A new ViT from this seed, without a head unless there are num_classes."""
    torch.manual_seed(seed)
    return create_model("vit_tiny_patch16_224", **{"num_classes": 0} | words | more)


def changed(plan: Plan, **words) -> Plan:
    """The plan with other words, as another seed."""
    return dataclasses.replace(plan, **words)


def judged(model: nn.Module, words: dict, size: Size, seed: int, fabric: Fabric) -> dict[str, float]:
    """Figures of a pre-trained encoder: frozen, and fine-tuned with a part of the labels and with all."""
    figures = judge.frozen(model, fabric.device, words["img_size"])
    state = {name: x.detach().clone() for name, x in model.state_dict().items() if not name.startswith("head.")}
    return figures | tuned(state, words, size, seed, fabric)


def tuned(state: dict | None, words: dict, size: Size, seed: int, fabric: Fabric) -> dict[str, float]:
    """Accuracies after fine-tuning from `state`, or from scratch, for every task and share of the labels."""
    figures, plan = {}, changed(TUNING, seed=seed, layer_decay=1.0 if state is None else TUNING.layer_decay)
    for task in judge.TASKS:
        for share in size.shares:
            figures |= judge.fine_tuned(state, words, task, plan, size.steps, fabric, share)
    return figures


def curve(history: History) -> list[list[float]]:
    """[step, loss] of every report, as short as a record wants it."""
    return [[row["step"], round(row["loss"], 4)] for row in history.rows]


def keep(model: nn.Module, words: dict, path: Path) -> None:
    """The encoder as a safetensors file that says by itself which model it is for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"model": "vit_tiny_patch16_224", "words": json.dumps({"num_classes": 0} | words)}
    save_file({name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}, path, about)
