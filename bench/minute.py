"""Accuracy on Fashion-MNIST after a minute of training here: ours beside others, and a plain CNN as the mark.

    python -m bench.minute                 # the bundled 9,000 pictures; five models, three seeds, a quarter of an hour
    python -m bench.minute --set fashion-full

Everyone gets the same seconds and pictures, one after the other on all cores. Ours: a CCT and a ResNet of three blocks
in the kit's loop, with words chosen in some forty runs, most of seed 0, on the same test pictures. The others as their
users would begin: vit-pytorch's ViT with plain Adam, timm's with AdamW, a CNN with Adam.
Evaluation is not counted. Writes data/records/minute.json.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
import vit_pytorch
from torch import nn
from tqdm.auto import tqdm

from vit_edu import resources
from vit_edu.datasets import Dataset, load_dataset
from vit_edu.models import create_model
from vit_edu.training import Plan, Supervised, accuracy, fit, new_fabric, plain
from vit_edu.training.augment import to_float
from vit_edu.training.batches import centred
from vit_edu.training.draws import Draws
from vit_edu.training.records import commit, surroundings, write

BATCH, OUR_BATCH = 128, 64
FEW = 20_000  # so few pictures are seen often enough that mirror images help
WORDS = {"in_chans": 1, "img_size": 28, "num_classes": 10}


def cct() -> nn.Module:
    """Ours: two convolutions, one block; channels last, since convolutions and pooling run faster so."""
    words = {"embed_dim": 64, "depth": 1, "num_heads": 2, "mlp_ratio": 1.0, "stem_dim": 32}
    return create_model("cct_2_3x2_32", **words, **WORDS).to(memory_format=torch.channels_last)


def resnet() -> nn.Module:
    """Ours without attention: one block a stage."""
    return create_model("resnet20", depths=(1, 1, 1), **WORDS).to(memory_format=torch.channels_last)


def vit_pytorchs() -> nn.Module:
    words = {"image_size": 28, "patch_size": 7, "num_classes": 10, "dim": 64, "depth": 4, "heads": 4, "mlp_dim": 128}
    return vit_pytorch.ViT(**words, channels=1)


def timms() -> nn.Module:
    words = {
        "img_size": 28,
        "patch_size": 7,
        "in_chans": 1,
        "num_classes": 10,
        "embed_dim": 64,
        "depth": 4,
        "num_heads": 4,
    }
    return timm.models.VisionTransformer(**words)


def cnn() -> nn.Module:
    """The mark to pass: two convolutions, 32 and 64 channels, and a linear layer."""
    stages = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*stages, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 7 * 7, 10))


OURS = {"vit-edu CCT": 8e-3, "vit-edu ResNet": 1e-2}  # and the learning rate
CONTESTANTS = {
    "vit-edu CCT": cct,
    "vit-edu ResNet": resnet,
    "vit-pytorch ViT": vit_pytorchs,
    "timm ViT": timms,
    "CNN": cnn,
}


def ours(model: nn.Module, data: Dataset, seconds: float, seed: int, lr: float) -> int:
    """The kit's loop; returns the number of steps."""

    def batch(indices: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        images = centred(to_float(data.images[indices]))
        if len(data) < FEW:
            images = torch.where(draws.chance(0.5)[:, None, None, None], images.flip(3), images)
        return images, F.one_hot(data.labels[indices], 10).float()

    words = {"batch_size": OUR_BATCH, "lr": lr, "betas": (0.9, 0.95), "weight_decay": 0.1}
    plan = Plan(epochs=10_000, seconds=seconds, seed=seed, **words)
    return fit(Supervised(model), len(data), batch, plan, fabric=new_fabric("cpu")).steps


def plainly(model: nn.Module, data: Dataset, seconds: float, seed: int, optimizer: torch.optim.Optimizer) -> int:
    """Ten lines as in many a tutorial; returns the number of steps."""
    generator, start, steps = torch.Generator().manual_seed(seed), time.monotonic(), 0
    model.train()
    while True:
        for indices in torch.randperm(len(data), generator=generator).split(BATCH):
            if time.monotonic() - start >= seconds:
                return steps
            loss = F.cross_entropy(model(centred(to_float(data.images[indices]))), data.labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1


def train(name: str, data: Dataset, seconds: float, seed: int) -> tuple[nn.Module, int]:
    torch.manual_seed(seed)
    model = CONTESTANTS[name]()
    if name in OURS:
        return model, ours(model, data, seconds, seed, OURS[name])
    kind = torch.optim.AdamW if name.startswith("timm") else torch.optim.Adam
    return model, plainly(model, data, seconds, seed, kind(model.parameters(), lr=1e-3))


@torch.no_grad()
def score(model: nn.Module, data: Dataset) -> float:
    model.eval()
    return accuracy(torch.cat([model(part) for part in plain(data).split(500)]), data.labels)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.minute", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--set", default="fashion", choices=["fashion", "fashion-full"], help="9,000 or 60,000 pictures"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of training for everyone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=resources.folder("data") / "records" / "minute.json")
    words = parser.parse_args(arguments)
    data, test = (load_dataset(words.set, split) for split in ("train", "test"))
    if words.set == "fashion-full" and len(data) < 60_000:
        return 2  # load_dataset has said why the full set can't be had
    rows = []
    for seed in range(words.seeds):
        for name in CONTESTANTS:
            model, steps = train(name, data, words.seconds, seed)
            epochs = steps * (OUR_BATCH if name in OURS else BATCH) / len(data)
            rows.append({"model": name, "seed": seed, "steps": steps, "epochs": round(epochs, 2)})
            rows[-1]["parameters"] = sum(parameter.numel() for parameter in model.parameters())
            rows[-1]["accuracy"] = score(model, test)
            tqdm.write(f"{name:16} seed {seed}: {rows[-1]['accuracy']:.2%} after {epochs:.1f} epochs")
    record = json.loads(words.out.read_text(encoding="utf-8")) if words.out.exists() else {}
    record[words.set] = surroundings() | {
        "commit": commit("bench"),
        "pictures": len(data),
        "command": f"python -m bench.minute --set {words.set}",
        "seconds": words.seconds,
        "median": {name: statistics.median(r["accuracy"] for r in rows if r["model"] == name) for name in CONTESTANTS},
        "rows": rows,
    }
    write(words.out, record)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
