"""What a pre-trained model is good for: features, k-NN, linear probe, fine-tuning in part or whole, LoRA."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu.layers.checks import check_at_least, complaint
from vit_edu.models import SwinTransformer

from .batches import check_labels

HEADS = ("head", "head_dist", "fc")  # as the kit's models call them


def freeze(model: nn.Module, but: tuple[str, ...] = HEADS) -> nn.Module:
    """Only the parts named in `but` learn from here on; returns the model.

    freeze(model) leaves the head to train, freeze(model, ("blocks.10", "blocks.11", "norm", "head")) the last blocks as
    well, freeze(model, ("",)) thaws all. Batch norms still count their statistics in train mode. Raises ValueError
    where no parameter is left, TypeError for a name that stands alone.
    """
    _check_names(but=but)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_inside(name, but))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        first = ", ".join(dict.fromkeys(name.partition(".")[0] for name, _ in model.named_parameters()))
        raise complaint(f"no parameter beginning with {' or '.join(but)}", f"some of {first}", "change `but`")
    return model


@torch.no_grad()
def features(model: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """What the head would read: float images (N, C, H, W) -> (N, C) float32, in eval mode and in batches."""
    model.eval()
    parts = [pooled(model, part) for part in images.split(batch_size)]
    return torch.cat([part.float() for part in parts])


def pooled(model: nn.Module, images: Tensor) -> Tensor:
    """The vector that the head reads, (B, C): a ViT's own pooling, else the mean of the map."""
    x = model.forward_features(images)
    if hasattr(model, "pool"):
        return model.pool(x)
    return x.mean(dim=(1, 2) if isinstance(model, SwinTransformer) else (2, 3))  # (B, H, W, C), or (B, C, H, W)


def knn(
    train: Tensor, labels: Tensor, test: Tensor, k: int = 20, temperature: float = 0.07, classes: int | None = None
) -> Tensor:
    """The weighted vote of the k nearest by cosine (Wu et al. 2018, as DINO): features (N, C), (M, C) -> (M, classes).

    A neighbour of cosine s has exp(s / temperature) votes for its label. Raises ValueError for k above N, for labels
    that are not of these classes, and for a temperature at which votes are infinite.
    """
    check_at_least(1, k=k)
    if k > len(train):
        raise complaint(f"k={k} for {len(train)} pictures", "at most as many", "change k")
    if not temperature > 0.0125:  # exp(1 / 0.0125) is a float32, exp(1 / 0.01) is none
        raise complaint(f"{temperature=}", "more than 0.0125", "0.07 is the published one")
    classes = classes or int(labels.max()) + 1
    check_labels(labels, len(train), classes)
    train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    similarity, nearest = (test @ train.T).topk(k, dim=1)  # (M, k) each
    votes = (similarity / temperature).exp()
    return votes.new_zeros(len(test), classes).scatter_add_(1, labels[nearest], votes)


def linear_probe(train: Tensor, labels: Tensor, classes: int, decay: float = 1e-3, steps: int = 200) -> nn.Linear:
    """The best linear layer on frozen features (N, C), found by L-BFGS: a head, (M, C) -> logits (M, classes).

    It is found on features of mean 0 and deviation 1, and these are then part of the layer. The loss is convex, so
    there is no learning rate to choose. As model.head it is where fine-tuning begins best (Kumar et al. 2022).
    Raises ValueError for labels that are not of these classes, and for features that are no numbers.
    """
    check_labels(labels, len(train), classes)
    if not train.isfinite().all():
        raise complaint("features that are no numbers", "finite ones", "see to the model that gave them")
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0) + 1e-6
    layer = nn.Linear(train.shape[1], classes, device=train.device, dtype=train.dtype)
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=steps, line_search_fn="strong_wolfe")
    x = (train - mean) / std

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(x), labels) + decay * layer.weight.square().sum() / 2
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    optimizer.zero_grad()
    with torch.no_grad():
        layer.weight /= std
        layer.bias -= layer.weight @ mean
    return layer


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The share of rows (N, classes) whose largest is the label (N,). Raises ValueError for no rows or wrong labels."""
    if not len(scores):
        raise complaint("0 pictures", "1 or more", "a share of none is no number")
    check_labels(labels, len(scores), scores.shape[1])
    return (scores.argmax(dim=1) == labels).float().mean().item()


class LoRALinear(nn.Module):
    """A frozen linear layer plus a product of two thin ones: W x + (alpha / rank) B A x. Hu et al. 2022."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        super().__init__()
        check_at_least(1, rank=rank)
        self.linear, self.scale = linear.requires_grad_(False), alpha / rank
        like, wide = {"device": linear.weight.device, "dtype": linear.weight.dtype}, linear.in_features
        self.down = nn.Parameter(torch.randn(rank, wide, **like) / wide**0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank, **like))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    def merged(self) -> nn.Linear:
        """One linear layer that does the same: no cost is left when it runs."""
        with torch.no_grad():
            self.linear.weight += self.scale * self.up @ self.down
        return self.linear


def add_lora(model: nn.Module, rank: int = 4, alpha: float = 8.0, where: tuple[str, ...] = ("qkv",)) -> nn.Module:
    """LoRA in every linear layer of one of these names; all else is frozen but for the head. Returns the model.

    Raises ValueError where there is no such layer, TypeError for a name that stands alone.
    """
    _check_names(where=where)
    _replace(
        model, lambda name, part: isinstance(part, nn.Linear) and name in where, lambda x: LoRALinear(x, rank, alpha)
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_inside(name, HEADS) or name.endswith((".down", ".up")))
    return model


def merge_lora(model: nn.Module) -> nn.Module:
    """Every LoRALinear as the plain layer it was, with what it learned inside. Returns the model."""
    _replace(model, lambda name, part: isinstance(part, LoRALinear), lambda x: x.merged())
    return model.requires_grad_(True)


def _check_names(**names: tuple[str, ...]) -> None:
    """Not one string, whose letters would be taken for names, else TypeError."""
    for word, given in names.items():
        if isinstance(given, str):
            raise complaint(f"{word}={given!r}", "a tuple of names", f"write {word}=({given!r},)", TypeError)


def _inside(name: str, parts: tuple[str, ...]) -> bool:
    """Whether the parameter belongs to one of the parts; "" is all of the model."""
    return any(part in ("", name) or name.startswith(f"{part}.") for part in parts)


def _replace(model: nn.Module, chosen: Callable[[str, nn.Module], bool], make: Callable) -> None:
    places = [
        (parent, name) for parent in model.modules() for name, part in parent.named_children() if chosen(name, part)
    ]
    if not places:
        raise complaint("no layer of these names", "one or more", "print(model) shows what it has")
    for parent, name in places:
        setattr(parent, name, make(getattr(parent, name)))
