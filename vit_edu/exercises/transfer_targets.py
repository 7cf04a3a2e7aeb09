"""Targets of lesson 08: fine-tune all of a model in little time; adapt one with few learning parameters."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from vit_edu.exercises.fine_tuning import layer_rate
from vit_edu.exercises.targets import Stage, Target
from vit_edu.exercises.trial import AnswerError

SECONDS, BATCHES = 60.0, 30  # of training, with and without a GPU
FEW = {"cpu": 8_000, "cuda": 400_000}  # parameters that may learn
Batches = Iterator[tuple[float, Tensor, Tensor]]


def clothes(device: torch.device) -> dict:
    """The encoder of the kit's MAE, with a head of a thousand classes as published models have it; 900 clothes."""
    from vit_edu import datasets, models, weights
    from vit_edu.training import plain
    from vit_edu.training.recipes.judge import share_of

    train, test = share_of(datasets.load_dataset("fashion"), 0.1, seed=0), datasets.load_dataset("fashion", "test")
    images, asked = (plain(data).expand(-1, 3, -1, -1) for data in (train, test.take(torch.arange(500))))
    body = weights.checkpoint("mae").encoder
    words = {"img_size": 28, "patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3}
    torch.manual_seed(0)
    model = models.VisionTransformer(**words, global_pool="avg", pos_embed="sincos", num_classes=1000)
    weights.load_weights(model, body.state_dict(), source="vit_edu", new_head=True, resize_positions=True)

    def batches() -> Batches:
        generator = torch.Generator().manual_seed(0)
        order = torch.cat([torch.randperm(len(images), generator=generator) for _ in range(2)])
        for i in range(BATCHES):
            chosen = order[32 * i : 32 * (i + 1)]
            yield (i + 0.5) / BATCHES, images[chosen], train.labels[chosen]

    return {"model": model, "batches": batches, "asked": asked, "answers": test.labels[:500], "few": FEW["cpu"]}


def flowers(device: torch.device) -> dict:
    """ImageNet's ViT-B/16 and Flowers-102. Raises OSError where one of the two can't be had."""
    from vit_edu import datasets, weights

    train, test = (datasets.load_dataset("flowers102", split) for split in ("train", "test"))
    if len(train.classes) != 102 or len(test.classes) != 102:
        raise OSError("there is no Flowers-102 here")
    model = weights.pretrained("vit_base_patch16_224").to(device)
    train, test = train.to(device), test.take(torch.arange(0, len(test), 6)).to(device)

    def batches() -> Batches:
        started, generator = time.monotonic(), torch.Generator().manual_seed(0)
        while (progress := (time.monotonic() - started) / SECONDS) < 1:
            chosen = torch.randint(len(train), (64,), generator=generator).to(device)
            yield progress, weights.normalise(train.images[chosen]), train.labels[chosen]

    asked = weights.normalise(test.images)
    return {"model": model, "batches": batches, "asked": asked, "answers": test.labels, "few": FEW["cuda"]}


class Body:
    """What a model was given as: all its tensors but the head's, to be found again by name or by value."""

    def __init__(self, model: nn.Module):
        self.before = {
            name: x.detach().clone() for name, x in model.state_dict().items() if not name.startswith("head.")
        }

    def moved(self, model: nn.Module, prefix: str = "") -> float:
        """The distance that its weights have gone, as a share of their size; those under other names do not count."""
        own = model.state_dict()
        names = [name for name in self.before if name.startswith(prefix) and name in own]
        size = sum(self.before[name].square().sum() for name in names) or torch.tensor(1.0)
        gone = sum((own[name] - self.before[name]).square().sum() for name in names)
        return (gone / size).sqrt().item() if names else 0.0

    def lost(self, model: nn.Module) -> list[str]:
        """The names of its tensors that are nowhere in the model, whatever they are called there."""
        own = [*model.parameters(), *model.buffers()]
        return [name for name, x in self.before.items() if not found(x, own)]

    def learning(self, model: nn.Module) -> int:
        """How many numbers of the model ask for a gradient, or are new."""
        given = [*self.before.values()]
        new = [x for x in (*model.parameters(), *model.buffers()) if x.requires_grad or not found(x, given)]
        return sum(x.numel() for x in new)


def found(x: Tensor, others: list[Tensor]) -> bool:
    return any(x.shape == y.shape and x.dtype == y.dtype and torch.equal(x, y) for y in others)


def tried(mine: Callable, model: nn.Module, batches: Callable, asked: Tensor, answers: Tensor, few: int) -> dict:
    """What became of the model: right answers, how far its parts have moved, how many steps it took."""
    body, classes, handed, steps = Body(model), int(answers.max()) + 1, [], Counter()

    def counted() -> Batches:
        for batch in batches():
            handed.append(1)
            yield batch

    hook = register_optimizer_step_post_hook(lambda optimizer, *_: steps.update([id(optimizer)]))
    torch.manual_seed(0)
    try:
        with torch.autocast(asked.device.type, torch.bfloat16, enabled=asked.is_cuda):
            tuned = mine(model, counted(), classes)
            if not isinstance(tuned, nn.Module):
                raise AnswerError(f"Return the model; yours gave a {type(tuned).__name__}.")
            was_training = tuned.training
            with torch.inference_mode():
                logits = torch.cat([tuned(part) for part in asked.split(250)])
    finally:
        hook.remove()
    own, lost = tuned.state_dict(), body.lost(tuned)
    last = max(int(name.split(".")[1]) for name in body.before if name.startswith("blocks."))
    return {
        "figure": (logits.argmax(dim=1) == answers).float().mean().item(),
        "another model": sum(name not in own for name in lost) > len(body.before) / 2,
        "in train mode": was_training,
        "too many classes": logits.shape[1] > classes,
        "steps": max(steps.values(), default=0),
        "batches": len(handed),
        "body": body.moved(tuned),
        "first": body.moved(tuned, "blocks.0."),
        "last": body.moved(tuned, f"blocks.{last}."),
        "lost": lost,
        "learning": body.learning(tuned),
        "few": few,
    }


def run(model: nn.Module, batches: Batches, groups: list[dict], lr: float) -> nn.Module:
    """AdamW over all batches: the rate up along a line for a tenth of the way, then down to nought along a cosine."""
    from vit_edu.training import schedule

    optimizer = torch.optim.AdamW(groups, lr=lr)
    model.train()
    for progress, images, labels in batches:
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0) * schedule(progress, warmup=0.1)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
        optimizer.step()
    return model.eval()


def new_head(model: nn.Module, classes: int) -> nn.Module:
    """The same model with a head for so many classes."""
    model.head = nn.Linear(model.head.in_features, classes).to(model.head.weight)
    return model


def rated(model: nn.Module, layer_decay: float) -> list[dict]:
    """One group for each parameter that learns, as the exercise layer_rate has it."""
    groups = []
    for name, x in model.named_parameters():
        if x.requires_grad:
            scale, decay = layer_rate(name, tuple(x.shape), len(model.blocks), layer_decay, 0.05)
            groups.append({"params": [x], "lr_scale": scale, "weight_decay": decay})
    return groups


def highest_rate(model: nn.Module, small: float, large: float) -> float:
    """The larger a model, the smaller its steps."""
    return small if model.embed_dim < 192 else large


def fine_tune(model: nn.Module, batches: Batches, classes: int) -> nn.Module:
    """All weights learn, each block slower than the one above it."""
    new_head(model, classes)
    return run(model, batches, rated(model, 0.7), highest_rate(model, 6e-3, 1e-3))


def adapt(model: nn.Module, batches: Batches, classes: int) -> nn.Module:
    """LoRA in qkv, and a new head; all else stays as it was."""
    from vit_edu.training import add_lora

    new_head(model, classes)
    add_lora(model, rank=4, alpha=8.0)
    return run(model, batches, rated(model, 1.0), highest_rate(model, 2e-2, 2e-3))


def one_batch(model: nn.Module, batches: Batches, classes: int, groups: Callable, lr: float) -> nn.Module:
    """What shows most mistakes already."""
    new_head(model, classes)
    return run(model, ((0.1, *pair) for _, *pair in [next(batches)]), groups(model), lr)


def again_and_again(model: nn.Module, batches: Batches, classes: int) -> nn.Module:
    kept = [next(batches)] * 3
    return run(new_head(model, classes), kept, of_head(model), 1e-2)


def of_head(model: nn.Module) -> list[dict]:
    return [{"params": list(model.head.parameters())}]


def of_all(model: nn.Module) -> list[dict]:
    return [{"params": list(model.parameters())}]


def backwards(model: nn.Module) -> list[dict]:
    return [group | {"lr_scale": 0.03 / group["lr_scale"]} for group in rated(model, 0.5)]


whole = Target(
    "fine_tune",
    lesson="08",
    unit="of the new pictures right",
    reference=fine_tune,
    measure=tried,
    small=Stage(f"{BATCHES} batches of 32 clothes for the kit's small MAE; seconds do not count", 0.55, clothes),
    large=Stage(f"{SECONDS:.0f} s for ImageNet's ViT-B/16 on Flowers-102 (this figure is a guess)", 0.85, flowers),
)
few_parameters = Target(
    "adapt",
    lesson="08",
    unit="of the new pictures right",
    reference=adapt,
    measure=tried,
    small=Stage(f"{BATCHES} batches of 32 clothes, at most {FEW['cpu']:,} learning parameters", 0.55, clothes),
    large=Stage(f"Flowers-102, at most {FEW['cuda']:,} learning parameters (this figure is a guess)", 0.85, flowers),
)
for target in (whole, few_parameters):
    target.mistake(
        "another model",
        "What you hand back is not the model that you were given: most of its weights are gone. Teach that one, and "
        "return it.",
        example=lambda model, batches, classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(classes)).eval(),
    )(lambda facts: facts["another model"])
    target.mistake(
        "the head is the old one",
        "Your model still has its thousand old classes to choose from. How many are there now?",
        example=lambda model, batches, classes: model.eval(),
    )(lambda facts: facts["too many classes"])
    target.mistake(
        "left in train mode",
        "You hand the model back in train mode: drop path and batch norm would go on drawing and counting. What ends "
        "training?",
        example=lambda model, batches, classes: new_head(model, classes).train(),
    )(lambda facts: facts["in train mode"])
    target.mistake(
        "batches are used again",
        "You have taken more steps than batches were handed out. Against the clock there is no time for a second look: "
        "each batch is for one step.",
        example=again_and_again,
    )(lambda facts: facts["steps"] > facts["batches"])
whole.mistake(
    "only the head has learned",
    "The body is where it was. Features of other pictures are a beginning: which parameters has your optimizer, and "
    "which of them ask for a gradient?",
    example=lambda model, batches, classes: one_batch(model, batches, classes, of_head, 1e-2),
)(lambda facts: facts["body"] == 0 and not facts["another model"])
whole.mistake(
    "the body is torn down",
    "The weights have gone further than they are long: what was learned before is lost. Is your rate one for training "
    "from scratch, or without warm-up?",
    example=lambda model, batches, classes: one_batch(model, batches, classes, of_all, 1.0),
)(lambda facts: facts["body"] > 0.9)
whole.mistake(
    "the body hardly moves",
    "Your body has hardly moved in all that time. Is your rate for the body far too small?",
    example=lambda model, batches, classes: one_batch(model, batches, classes, of_all, 1e-6),
)(lambda facts: 0 < facts["body"] < 1e-3)
whole.mistake(
    "the rates are the wrong way round",
    "Your first block has gone much further than your last. Which of them is nearest to right already?",
    example=lambda model, batches, classes: one_batch(model, batches, classes, backwards, 1e-2),
)(lambda facts: facts["first"] > 2.5 * facts["last"])
few_parameters.mistake(
    "the body moves",
    "Weights of the body have changed. Frozen means: they ask for no gradient, the optimizer does not have them, and "
    "nothing is merged into them before it is looked at.",
    example=lambda model, batches, classes: one_batch(model, batches, classes, of_all, 1e-3),
)(lambda facts: facts["lost"] and not facts["another model"])
few_parameters.mistake(
    "too many parameters learn",
    "More numbers ask for a gradient, or are new in the model, than are allowed. Print name and numel() of each.",
    example=lambda model, batches, classes: one_batch(model, batches, classes, of_head, 1e-2),
)(lambda facts: facts["learning"] > facts["few"])
