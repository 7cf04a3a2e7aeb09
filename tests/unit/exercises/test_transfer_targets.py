"""What the targets of lesson 08 notice of a model that comes back, whatever its parts are called."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vit_edu import models
from vit_edu.exercises.lora import LoRALinear
from vit_edu.exercises.transfer_targets import new_head, tried

CLASSES, FEW = 2, 200
PICTURES, LABELS = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])


def facts(mine):
    model = models.VisionTransformer(img_size=8, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=5)
    return tried(mine, model, lambda: iter([(0.25, PICTURES, LABELS), (0.75, PICTURES, LABELS)]), PICTURES, LABELS, FEW)


def learn(model, batches, *optimizers):
    for _, images, labels in batches:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        for optimizer in optimizers:
            optimizer.step()
    return model.eval()


def adapted(model, batches, classes, rank=1):
    new_head(model.requires_grad_(False), classes)
    for block in model.blocks:
        block.attn.qkv = LoRALinear(block.attn.qkv, rank, 1.0)
    return learn(model, batches, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1))


def test_lora_leaves_the_body_where_it_is_and_learns_little():
    found = facts(adapted)
    assert not found["lost"] and not found["another model"] and found["steps"] == found["batches"] == 2
    assert found["learning"] == 2 * (8 + 24) + 2 * 8 + 2 < FEW


def test_what_has_learned_counts_though_it_is_frozen_afterwards():
    assert facts(lambda *task: adapted(*task, rank=6).requires_grad_(False))["learning"] > FEW


def test_a_body_that_learns_under_other_names_has_moved():
    def renamed(model, batches, classes):
        new_head(model, classes)
        for block in model.blocks:
            block.mlp.fc1 = nn.Sequential(block.mlp.fc1)
        return learn(model, batches, torch.optim.SGD(model.parameters(), 0.1)).requires_grad_(False)

    assert any("mlp.fc1" in name for name in facts(renamed)["lost"])


def test_pictures_learned_by_heart_are_another_model():
    class ByHeart(nn.Module):
        def __init__(self, images):
            super().__init__()
            self.register_buffer("images", images)

        def forward(self, x):
            return F.one_hot(LABELS[torch.cdist(x.flatten(1), self.images.flatten(1)).argmin(dim=1)], CLASSES)

    found = facts(lambda model, batches, classes: ByHeart(next(batches)[1]).eval())
    assert found["another model"] and found["learning"] > FEW


@pytest.mark.parametrize("optimizers, again, too_many", [(1, 1, False), (2, 1, False), (1, 3, True)])
def test_steps_are_counted_for_each_optimizer(optimizers, again, too_many):
    def mine(model, batches, classes):
        parameters = list(new_head(model, classes).parameters())
        parts = [torch.optim.SGD(parameters[i::optimizers], 0.1) for i in range(optimizers)]
        return learn(model, [*batches] * again, *parts)

    found = facts(mine)
    assert (found["steps"] > found["batches"]) is too_many
