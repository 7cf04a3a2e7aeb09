"""Size of data × inductive bias: a ViT, a Swin, a hybrid and a CNN of equal size, each taught the same clothing.

From 300 to 9,000 pictures of Fashion-MNIST (all from scratch, the same steps for everyone, the same augmentation),
asked of the 2,000 held out. At laptop size, three seeds, with 9,000: the ViT 73.8 (73.0–74.6) % right, the Swin
71.8 (71.7–73.0), the hybrid 78.5 (77.7–79.2), the CNN 84.1 (83.7–85.7); 28 to 30 minutes of training on one core of a
Xeon at 2.8 GHz. All figures: data/records/laboratory.json.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from vit_edu.datasets import load_dataset
from vit_edu.models import create_model
from vit_edu.training.batches import labelled
from vit_edu.training.loop import Plan, fit
from vit_edu.training.objectives import Supervised

from . import judge

SWIN = {"patch_size": 2, "window_size": 7, "embed_dim": 32, "depths": (2, 2), "num_heads": (1, 2)}
MODELS = {  # 140,000 parameters each, give or take a twentieth
    "ViT": ("vit_tiny_patch16_224", {"patch_size": 4, "embed_dim": 60, "depth": 3, "num_heads": 3}),
    "Swin": ("swin_tiny_patch4_window7_224", SWIN),
    "CCT": ("cct_2_3x2_32", {"embed_dim": 64, "depth": 3, "num_heads": 2, "mlp_ratio": 2.0}),
    "CNN": ("resnet20", {"depths": (1, 1, 1), "width": 22}),
}


@dataclass(frozen=True)
class Size:
    """The numbers of pictures, and the steps that each model has for them."""

    pictures: tuple[int, ...]
    plan: Plan
    steps: int


SIZES = {
    "smoke": Size((100,), Plan(batch_size=32), 2),
    "laptop": Size((300, 1500, 9000), Plan(batch_size=32, lr=1e-3, warmup=0.1), 1200),
    "gpu": Size((300, 1500, 9000), Plan(batch_size=128, lr=1e-3, warmup=0.1), 7000),
}


def run(size: Size, seed: int, folder: Path, fabric: Fabric) -> dict:
    """Every model on every number of pictures. Returns accuracies as {"ViT/300": 0.5, ...}, and parameters."""
    train, test = (load_dataset("fashion", split).to(fabric.device) for split in ("train", "test"))
    figures, parameters, seconds = {}, {}, 0.0
    for name, (model_name, words) in MODELS.items():
        for number in size.pictures:
            torch.manual_seed(seed)
            model = create_model(model_name, **words, img_size=28, in_chans=1, num_classes=len(train.classes))
            model = model.to(fabric.device, memory_format=torch.channels_last)  # convolutions run faster so
            parameters[name] = sum(parameter.numel() for parameter in model.parameters())
            part = judge.share_of(train, number / len(train), seed)
            plan = judge.of_steps(replace(size.plan, seed=seed), size.steps, len(part), fabric)
            mine = folder / f"{name}-{number}"
            make_batch = labelled(part, scale=(0.8, 1.0), colours=False)
            history = fit(Supervised(model, 0.1), len(part), make_batch, plan, folder=mine, fabric=fabric).whole()
            seconds += history.seconds
            figures |= judge.scores(model, {"test": test}, f"{name}/{number}")
    return {"seconds_training": seconds, "parameters": parameters, "figures": figures}
