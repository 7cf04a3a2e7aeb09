"""A target of lesson 11: a model that answers faster, and answers the same."""

import copy
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter  # this one, whatever an answer does to the module

import torch
from torch import Tensor, nn

from vit_edu import layers
from vit_edu.exercises.rungs import describe
from vit_edu.exercises.targets import Stage, Target
from vit_edu.exercises.trial import AnswerError
from vit_edu.models import create_model


class PlainAttention(layers.Attention):
    """Attention as lesson 02 wrote it: the N x N weights of every head are written down, whoever asks."""

    def forward(self, x: Tensor, return_weights: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        found = super().forward(x, return_weights=True)
        return found if return_weights else found[0]


def seconds(function: Callable, *inputs) -> float:
    """Of one call; a GPU is waited for."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    start = perf_counter()
    function(*inputs)
    wait()
    return perf_counter() - start


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads that wait for one another on a busy machine would hide what an answer saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def side_by_side(plain: Callable, mine: Callable, inputs: list[tuple]) -> float:
    """How many times as fast mine is: both on the same inputs, turn by turn, the median of the rounds."""
    plain(*inputs[0]), mine(*inputs[0])  # the first call warms up
    return statistics.median(seconds(plain, *given) / seconds(mine, *given) for given in inputs)


def off(mine: Tensor, plain: Tensor) -> float:
    """The size of the difference beside that of the right one; of other shapes, infinity."""
    if mine.shape != plain.shape:
        return float("inf")
    return ((mine.detach().float() - plain).norm() / plain.norm()).item()


def new_model(device: torch.device, name: str, **words) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, attention=PlainAttention, **words).to(device)


@torch.no_grad()
def choosy(model: nn.Module, factor: float) -> nn.Module:
    """A new model attends nearly alike to all tokens, which could be had for less work. Its weights made sharper."""
    for block in model.blocks:
        block.attn.qkv.weight[: 2 * block.dim] *= factor  # rows of queries and keys
    return model


def fuse(model: nn.Module) -> nn.Module:
    """Gives the model the kit's attention, which is fused."""
    for block in model.blocks:
        block.attn.__class__ = layers.Attention
    return model


def faster(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """images (B, 3, H, W) -> logits (B, classes), as `model` gives them: fused attention, and on a GPU sixteen bits."""
    model = fuse(copy.deepcopy(model)).eval()

    def run(images):
        gpu = images.is_cuda
        dtype = torch.bfloat16 if gpu and torch.cuda.get_device_capability() >= (8, 0) else torch.float16
        with torch.inference_mode(), torch.autocast("cuda", dtype, enabled=gpu):
            return model(images).float()

    return run


def measure_answers(mine: Callable, model: nn.Module, batch: tuple[int, ...], tolerance: float) -> dict:
    """Every round has new pictures, so that an answer has to be worked out; all that are timed are looked at."""
    device = model.pos_embed.device
    pictures = [torch.randn(batch, device=device) for _ in range(7)]
    run = mine(copy.deepcopy(model))
    if not callable(run):
        raise AnswerError(f"Your function returned {describe(run)}; wanted is a function, images -> logits.")
    right, answers = copy.deepcopy(model).eval(), []

    @torch.inference_mode()
    def plain(images):
        return right(images)

    def noted(images):
        answers.append(run(images))

    for _ in range(3):
        noted(pictures[0])
    if not isinstance(answers[0], Tensor):
        raise AnswerError(f"The function that you return gave {describe(answers[0])}; wanted is a tensor, the logits.")
    figure = side_by_side(plain, noted, [(images,) for images in pictures])  # once more to warm up, then each
    wanted = [plain(images) for images in pictures]
    return {
        "figure": figure,
        "all": len(answers[0]) == len(wanted[0]),
        "steady": all(torch.equal(answers[0], logits) for logits in answers[:5]),
        "fresh": not torch.equal(answers[-2], answers[-1]),
        "graph": answers[0].requires_grad,
        "same": max(map(off, answers[4:], wanted)) < tolerance,
    }


def few_large(device: torch.device) -> dict:
    words = {"img_size": 256, "patch_size": 8, "embed_dim": 64, "num_heads": 8, "depth": 2, "num_classes": 10}
    model = new_model(device, "vit_tiny_patch16_224", drop_path_rate=0.5, **words)
    return {"model": choosy(model, 6), "batch": (1, 3, 256, 256), "tolerance": 1e-3}


def many_base(device: torch.device) -> dict:
    model = new_model(device, "vit_base_patch16_224", drop_path_rate=0.5)
    return {"model": choosy(model, 2), "batch": (128, 3, 224, 224), "tolerance": 0.05}


speed = Target(
    "faster",
    lesson="11",
    unit="times as many images per second as the plain model in the same minute",
    reference=faster,
    measure=measure_answers,
    small=Stage("A small ViT on one large picture of 1025 tokens", 2.5, few_large),
    large=Stage("ViT-B/16 on 128 pictures", 2.5, many_base),
)


def answering(change: Callable[[Callable, Tensor], Tensor]) -> Callable:
    """The reference with another way of running it: change(run, images)."""

    def example(model):
        run = faster(model)
        return lambda images: change(run, images)

    return example


def never_eval(model):
    model = fuse(model).train()
    return torch.no_grad()(lambda images: model(images.repeat(9, 1, 1, 1)).unflatten(0, (9, -1)).mean(dim=0))


def remembers(model):
    run, known = faster(model), []

    def answer(images):
        known[:] = known or [run(images)]
        return known[0]

    return answer


def shallow(model):
    model = copy.deepcopy(model)
    model.blocks = model.blocks[:1]
    return faster(model)


@speed.mistake(
    "pictures are left out",
    "Fewer answers come back than pictures went in.",
    example=answering(lambda run, images: run(images)[:0]),
)
def pictures_missing(facts):
    return not facts["all"]


@speed.mistake(
    "the model is not in eval mode",
    "The same pictures get two different answers. Which method switches off what is random in training?",
    example=never_eval,
)
def unsteady(facts):
    return not facts["steady"]


@speed.mistake(
    "the answers of other pictures",
    "New pictures get the answers of the ones before. Only what is the same for all pictures may be worked out once.",
    example=remembers,
)
def stale(facts):
    return not facts["fresh"]


@speed.mistake(
    "the graph is recorded",
    "Your logits ask for a gradient: the model keeps all that a way back would need, and nobody goes back. Which "
    "context is for answering only?",
    example=lambda model: fuse(model).eval(),
)
def with_graph(facts):
    return facts["graph"]


@speed.mistake(
    "other answers",
    "Your logits are not those of the plain model. Is a block missing, a weight not taken over, a softmax over "
    "another axis?",
    example=shallow,
)
def other_answers(facts):
    return not facts["same"]
