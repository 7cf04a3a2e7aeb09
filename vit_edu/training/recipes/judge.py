"""How good an encoder is: its features frozen (k-NN, linear probe), and fine-tuned, on what it has not seen.

Two tasks. "emoji": which of eight groups, learned on five styles, asked of the held-out style, of held-out concepts and
of both. "fashion": ten classes of clothing, 9,000 grey pictures to learn from, of another kind than all before.
"""

import dataclasses

import torch
from lightning_fabric import Fabric
from torch import nn

from vit_edu.datasets import Dataset, load_dataset
from vit_edu.models import create_model
from vit_edu.training.batches import in_colour, labelled, plain
from vit_edu.training.loop import Plan, fit
from vit_edu.training.objectives import Supervised
from vit_edu.training.transfer import accuracy, features, knn, linear_probe
from vit_edu.weights import load_weights

TASKS = {"emoji": ("train", ("new_style", "new_concepts", "new_both")), "fashion": ("train", ("test",))}


def sets(task: str, device, img_size: int = 32) -> tuple[Dataset, dict[str, Dataset]]:
    """What is learned from, and what is asked, by split."""
    train, tests = TASKS[task]

    def one(split: str) -> Dataset:
        data = load_dataset(task, split, img_size if task == "emoji" else None)
        return (data if task == "emoji" else in_colour(data, img_size)).to(device)

    return one(train), {split: one(split) for split in tests}


@torch.no_grad()
def frozen(encoder: nn.Module, device, img_size: int = 32) -> dict[str, float]:
    """Accuracies of k-NN and of a linear probe on the encoder's features, as {"emoji/new_style/knn": 0.5, ...}."""
    figures = {}
    for task in TASKS:
        train, tests = sets(task, device, img_size)
        known = features(encoder, plain(train))
        probe = linear_probe(known, train.labels, len(train.classes))
        for split, test in tests.items():
            asked = features(encoder, plain(test))
            votes = knn(known, train.labels, asked, classes=len(train.classes))
            figures[f"{task}/{split}/knn"] = accuracy(votes, test.labels)
            figures[f"{task}/{split}/probe"] = accuracy(probe(asked), test.labels)
    return figures


def scores(model: nn.Module, tests: dict[str, Dataset], name: str) -> dict[str, float]:
    """The share of each split that the model's own head gets right."""
    model.eval()
    with torch.inference_mode():
        return {
            name.format(split): accuracy(torch.cat([model(x) for x in plain(test).split(256)]), test.labels)
            for split, test in tests.items()
        }


def share_of(train: Dataset, share: float, seed: int) -> Dataset:
    """A part of every class, at least one picture of it."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator).to(train.labels.device)
    kept = []
    for label in range(len(train.classes)):
        mine = order[train.labels[order] == label]
        kept.append(mine[: max(1, round(share * len(mine)))])
    return train.take(torch.cat(kept))


def of_steps(plan: Plan, steps: int, n: int, fabric: Fabric) -> Plan:
    """The plan for so many steps on n pictures, in smaller batches where there are too few for one."""
    batch_size = min(plan.batch_size, n) // fabric.world_size * fabric.world_size  # each process has the same part
    return dataclasses.replace(plan, batch_size=batch_size, epochs=steps / (n // batch_size))


def fine_tuned(
    state: dict | None, words: dict, task: str, plan: Plan, steps: int, fabric: Fabric, share: float = 1.0
) -> dict[str, float]:
    """Accuracies after all weights have learned `task`, with a share of its labels, from `state`, an encoder's.

    The new head begins as the linear probe; without a `state` everything begins at random.
    """
    train, tests = sets(task, fabric.device, words["img_size"])
    train = share_of(train, share, plan.seed) if share < 1 else train
    torch.manual_seed(plan.seed)
    words = words | {"num_classes": len(train.classes), "drop_path_rate": 0.0}  # the same for every start
    model = create_model("vit_tiny_patch16_224", **words).to(fabric.device)
    if state is not None:
        load_weights(model, state, source="vit_edu", new_head=True)
        model.head = linear_probe(features(model, plain(train)), train.labels, len(train.classes))
    objective = Supervised(model, label_smoothing=0.1)
    make_batch = labelled(train, scale=(0.8, 1.0), colours=False)  # a short run is not helped by more
    fit(objective, len(train), make_batch, of_steps(plan, steps, len(train), fabric), fabric=fabric).whole()
    return scores(model, tests, f"{task}/{{}}/{'fine-tuned' if state is not None else 'scratch'}/{share:g}")
