"""A target of lesson 11: a training step that needs less memory, for the same gradient."""

import copy
import threading
import weakref
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from vit_edu.exercises.speed_targets import fuse, new_model, off, side_by_side
from vit_edu.exercises.targets import Stage, Target


class PeakBytes(TorchDispatchMode):
    """The most bytes that new tensors took at one time, scratch space inside a kernel left out."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.known = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.meet(tensor.untyped_storage())
        return result

    def meet(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key not in self.known:
            self.known[key] = weakref.ref(storage, lambda _: self.forget(key, size))
            self.live += size
            self.peak = max(self.peak, self.live)

    def forget(self, key: int, size: int) -> None:
        self.live -= size
        del self.known[key]


def peak_bytes(function: Callable, *inputs, device: torch.device | None = None) -> int:
    """The most bytes that function(*inputs) needs at one time, beyond what is there before; on a GPU as it counts."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function(*inputs)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with PeakBytes() as peak:
        function(*inputs)
    return peak.peak


def lean_step(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Leaves the gradient of the mean cross entropy in the parameters: fused, in parts, and with blocks run twice."""
    fuse(model).zero_grad()
    part = max(2, len(images) // 8)
    for x, y in zip(images.split(part), labels.split(part)):
        tokens = model.embed(x)
        for block in model.blocks:
            tokens = checkpoint(block, tokens, use_reentrant=False)
        logits = model.head(model.norm(tokens)[:, 0])
        (F.cross_entropy(logits, y) * len(x) / len(images)).backward()


def plain_step(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()


def gradient_of(model: nn.Module) -> Tensor:
    """All gradients as one vector in float32, zeros where there is none."""
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([gradient.flatten().float() for gradient in found])


def measure_step(mine: Callable, model: nn.Module, images: Tensor, labels: Tensor) -> dict:
    """Memory and gradient are looked at before the steps that are timed and behind them: all must do the work."""
    plain_model, mine_model = copy.deepcopy(model), copy.deepcopy(model)
    plain, mine_step = (lambda: plain_step(plain_model, images, labels)), lambda: mine(mine_model, images, labels)
    usual = peak_bytes(plain, device=images.device)
    wanted = gradient_of(plain_model)

    def look() -> dict:
        for parameter in mine_model.parameters():
            parameter.grad = torch.full_like(parameter, 0.01)  # as a step before would leave them
        needed = peak_bytes(mine_step, device=images.device)
        return {"figure": usual / max(1, needed), "unseen": needed == 0} | compare(model, mine_model, wanted)

    first = look()
    slower = 1 / side_by_side(plain, mine_step, [()] * 3)
    last = look()
    figure = min(first["figure"], last["figure"])
    return (last if first["same"] else first) | {"figure": figure, "slower": slower}


def compare(model: nn.Module, mine: nn.Module, wanted: Tensor) -> dict:
    """What a step has left in the model `mine`, beside the weights of before and the gradient that is wanted."""
    got = gradient_of(mine)
    pairs = zip(model.parameters(), mine.parameters())
    return {
        "missing": any(p.grad is None for p in mine.parameters()),
        "changed": any(a.dtype != b.dtype or not torch.equal(a, b) for a, b in pairs),
        "old": off(got - 0.01, wanted) < 1e-3,
        "times": (got @ wanted / (wanted @ wanted)).item(),
        "parallel": F.cosine_similarity(got, wanted, dim=0).item(),
        "same": off(got, wanted) < 1e-3,
    }


def few_pictures(device: torch.device) -> dict:
    words = {"img_size": 48, "patch_size": 4, "embed_dim": 48, "num_heads": 4, "depth": 4, "num_classes": 10}
    return training_data(new_model(device, "vit_tiny_patch16_224", **words), (15, 3, 48, 48))


def many_pictures(device: torch.device) -> dict:
    return training_data(new_model(device, "vit_small_patch16_224", num_classes=10), (66, 3, 224, 224))


def training_data(model: nn.Module, shape: tuple[int, ...]) -> dict:
    device = model.pos_embed.device
    labels = torch.randint(10, shape[:1], device=device)
    return {"model": model, "images": torch.randn(shape, device=device), "labels": labels}


memory = Target(
    "lean_step",
    lesson="11",
    unit="times less memory than the plain step",
    reference=lean_step,
    measure=measure_step,
    small=Stage(
        "The gradient of 15 pictures for a ViT of 145 tokens, in at most four times the time", 12, few_pictures
    ),
    large=Stage("The gradient of 66 pictures for ViT-S/16, in at most four times the time", 12, many_pictures),
)


def in_parts(share: Callable[[int, int], float], before: Callable = nn.Module.zero_grad, inside=lambda model: None):
    """A step in micro-batches of four, with something wrong."""

    def example(model, images, labels):
        before(model)
        for x, y in zip(images.split(4), labels.split(4)):
            inside(model)
            (F.cross_entropy(model(x), y) * share(len(x), len(images))).backward()

    return example


def steps_too(model, images, labels):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lean_step(model, images, labels)
    optimizer.step()


def head_only(model, images, labels):
    with torch.no_grad():
        tokens = model.forward_features(images)
    model.zero_grad()
    F.cross_entropy(model.head(tokens[:, 0]), labels).backward()


def crawls(model, images, labels):
    for _ in range(8):
        lean_step(model, images, labels)


def its_share(part: int, whole: int) -> float:
    return part / whole


def elsewhere(model, images, labels):
    thread = threading.Thread(target=plain_step, args=(model, images, labels))
    thread.start()
    thread.join()


@memory.mistake(
    "no step was seen",
    "Your function took no memory at all. Has it computed anything, and here? Other threads and processes are not "
    "counted.",
    example=elsewhere,
)
def unseen(facts):
    return facts["unseen"]


@memory.mistake(
    "parameters without a gradient",
    "Some parameters have no gradient when you are done. Which part of the model ran without a graph?",
    example=head_only,
)
def no_gradient(facts):
    return facts["missing"]


@memory.mistake(
    "the weights have changed",
    "Your function leaves other weights than it was given. Asked for is the gradient; the step along it is the "
    "optimizer's, and comes later.",
    example=steps_too,
)
def moved(facts):
    return facts["changed"]


@memory.mistake(
    "old gradients are still there",
    ".backward() adds to what is there, and something is. Who empties it, and when?",
    example=in_parts(its_share, before=lambda model: None),
)
def old_gradients(facts):
    return facts["old"]


@memory.mistake(
    "the gradient times a number",
    "Your gradient has the right direction and another length. Each part's loss is a mean of its own: what share of "
    "the whole mean is it?",
    example=in_parts(lambda part, whole: 4 * part / whole),
)
def scaled(facts):
    return facts["parallel"] > 0.9999 and abs(facts["times"] - 1) > 2e-3


@memory.mistake(
    "another gradient",
    "Your gradient points elsewhere. Are all pictures in it? Does the last, smaller part weigh what its pictures "
    "weigh? Is it rounded to sixteen bits?",
    example=in_parts(its_share, inside=nn.Module.zero_grad),
)
def another(facts):
    return not (facts["same"] or facts["missing"] or facts["changed"] or facts["old"] or scaled(facts))


@memory.mistake(
    "too slow",
    "The gradient is right, and takes more than four times the time. Parts that are too small, or the same work over "
    "and over?",
    example=crawls,
)
def too_slow(facts):
    return facts["slower"] > 4
