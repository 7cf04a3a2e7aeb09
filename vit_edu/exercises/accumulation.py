"""An exercise of lesson 11: a large batch in small parts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu.exercises.core import Draw, Exercise
from vit_edu.exercises.trial import AnswerError


def accumulate(model: nn.Module, images: Tensor, labels: Tensor, micro_batch: int, max_norm: float) -> None:
    """Leaves in the parameters the clipped gradient of the whole batch's mean loss, a micro-batch at a time."""
    model.zero_grad()
    for x, y in zip(images.split(micro_batch), labels.split(micro_batch)):
        loss = F.cross_entropy(model(x), y) * len(x) / len(images)  # its share of the mean over all
        loss.backward()  # adds to .grad, and forgets what this part kept
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)


class Count:
    """Pictures whose way forward waits for the way back, and the most that ever did. A copied model counts here too."""

    waiting = most = 0

    def __deepcopy__(self, memo):
        return self

    def go(self, pictures: int) -> None:
        self.waiting += pictures
        self.most = max(self.most, self.waiting)

    def done(self, pictures: int) -> None:
        self.waiting -= pictures


def still_kept(way: torch.autograd.graph.Node) -> bool:
    """Whether a tanh's result still waits in the graph; it has gone there for a way back."""
    try:
        return way._saved_result is not None
    except (RuntimeError, AttributeError):  # freed by .backward(), or nothing of this kind
        return False


class Watched(nn.Module):
    """A small model that counts its pictures; its gradients are not empty."""

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        self.count, self.ways = Count(), []
        for name, value in state.items():
            self.register_parameter(name, nn.Parameter(value.detach().clone()))
            getattr(self, name).grad = 0.3 * value.detach() + 0.1

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.tanh(images @ self.fc1)
        y = hidden @ self.fc2
        if y.requires_grad:
            way = hidden.grad_fn
            self.count.go(len(images))
            y.register_hook(lambda _: self.ways.append(way) or self.count.done(len(images)))
        return y

    def outcome(self, state: dict[str, Tensor], micro_batch: int) -> tuple[Tensor, int]:
        """The gradient as one vector, and the most pictures that waited (fewer than micro_batch are as good)."""
        for name, parameter in self.named_parameters():
            if not torch.equal(parameter, state[name]):
                raise AnswerError(f"{name} has moved. Asked for is the gradient; the optimizer's step comes later.")
            if parameter.grad is None:
                raise AnswerError(f"{name}.grad is empty when your function is done.")
        if not self.count.most:
            raise AnswerError("No picture has gone through model(...) on a way that leads back.")
        if any(map(still_kept, self.ways)):
            raise AnswerError("A part has gone back and is kept all the same. Have you asked for retain_graph=True?")
        return torch.cat([p.grad.flatten() for p in self.parameters()]).clone(), max(self.count.most, micro_batch)


def on_a_model(mine, state, images, labels, micro_batch, max_norm):
    """Runs an answer on a fresh model of these weights."""
    model = Watched(state)
    mine(model, images.detach(), labels, micro_batch, max_norm)
    return model.outcome(state, micro_batch)


def batches(draw: Draw):
    """Two batches that the micro-batch divides, the others leave a rest; a high and a low ceiling for the norm."""

    def case(pictures, width, hidden, classes, micro_batch, max_norm):
        state = {"fc1": draw.normal(width, hidden), "fc2": draw.normal(hidden, classes)}
        labels = torch.randint(classes, (pictures,), generator=draw.generator)
        return state, draw.normal(pictures, width), labels, micro_batch, max_norm

    yield case(1, 2, 3, 2, 1, 1e9)
    yield case(4, 2, 3, 2, 2, 1e9)
    yield case(5, 3, 4, 2, 2, 1e9)
    yield case(8, 3, 5, 4, 4, 0.05)
    yield case(11, 4, 6, 3, 4, 1e9)
    yield case(13, 5, 6, 4, 5, 0.02)


parts = Exercise(
    "accumulate",
    lesson="11",
    points=3,
    reference=accumulate,
    cases=batches,
    returns=("gradient", "number of pictures at once"),
    call=on_a_model,
    hints=(
        "The loss of the whole batch is a mean over all pictures. What part of that mean belongs to a micro-batch of "
        "five, if there are thirteen pictures? And what does .backward() do with a gradient that is there already?",
        "images (B, ...), micro-batches of at most `micro_batch` along axis 0, the last may be smaller.\nOnce: empty "
        "the gradients. For each part: forward, its share of the loss, backward. Once: clip.",
        "model.zero_grad()\nfor x, y in zip(images.split(micro_batch), labels.split(micro_batch)):\n"
        "    loss = F.cross_entropy(model(x), y) * ...\n    loss.backward()\nnn.utils.clip_grad_norm_(...)",
    ),
)
parts.seconds = 20.0  # the first optimizer of a session imports much


@parts.recipe
def accumulate_in_steps(
    model,
    images,
    labels,
    micro_batch,
    max_norm,
    *,
    share=lambda part, whole, size: part / whole,
    before=lambda model: model.zero_grad(),
    inside=lambda model, max_norm: None,  # before each backward
    behind=lambda model, max_norm: None,  # behind each backward
    clip=lambda model, max_norm: nn.utils.clip_grad_norm_(model.parameters(), max_norm),
    split=lambda tensor, size: tensor.split(size),
    together=False,
):
    if isinstance(model, dict):
        steps = {"share": share, "before": before, "inside": inside, "behind": behind, "clip": clip, "split": split}
        with torch.enable_grad():
            return on_a_model(
                lambda *given: accumulate_in_steps(*given, **steps, together=together),
                *(model, images, labels, micro_batch, max_norm),
            )
    before(model)
    losses = []
    for x, y in zip(split(images, micro_batch), split(labels, micro_batch)):
        losses.append(F.cross_entropy(model(x), y) * share(len(x), len(images), micro_batch))
        if not together:
            inside(model, max_norm)
            losses.pop().backward()
            behind(model, max_norm)
    if losses:
        sum(losses).backward()
    return clip(model, max_norm)


def clip_now(model: nn.Module, max_norm: float) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)


def full_parts(tensor: Tensor, size: int) -> tuple[Tensor, ...]:
    return tensor[: max(1, len(tensor) // size) * size].split(size)


parts.mistake(
    "the loss is not divided",
    "Each micro-batch gives a mean, and you add the means up. With three of them your gradient is about three times as "
    "long. What part of the whole mean is each?",
    share=lambda part, whole, size: 1,
)
parts.mistake(
    "mean of means",
    "You divide by the number of micro-batches. The last one is smaller, so its pictures count for more than the "
    "others. Weigh each micro-batch by its pictures.",
    share=lambda part, whole, size: 1 / -(-whole // size),
)
parts.mistake(
    "divided by the rounded number of micro-batches",
    "You divide by len(images) // micro_batch. That forgets the last, smaller one; and it weighs as much as the "
    "others.",
    share=lambda part, whole, size: 1 / max(1, whole // size),
)
parts.mistake(
    "each divided as if it were full",
    "You give each micro-batch the share micro_batch / len(images). The last has fewer pictures than that.",
    share=lambda part, whole, size: size / whole,
)
parts.mistake(
    "divided by the pictures twice",
    "Cross entropy is a mean over the micro-batch already. You divide that mean by all pictures: who multiplies by the "
    "pictures of the part?",
    share=lambda part, whole, size: 1 / whole,
)
parts.mistake(
    "a sum over the pictures",
    "You weigh each mean by its pictures, and never divide by all of them: that is the sum, not the mean.",
    share=lambda part, whole, size: part,
)
parts.mistake(
    "zero_grad inside the loop",
    "You empty the gradients before every backward, so that only the last micro-batch is left. When is the right "
    "moment?",
    inside=lambda model, max_norm: model.zero_grad(),
)
parts.mistake(
    "old gradients are still there",
    ".backward() adds to what is there, and something is, from the step before. Who empties it?",
    before=lambda model: None,
)
parts.mistake(
    "clipped per micro-batch",
    "You clip behind each backward. The norm that is meant is that of the whole batch's gradient, which is known only "
    "at the end.",
    behind=clip_now,
    clip=lambda model, max_norm: None,
)
parts.mistake(
    "not clipped",
    "The gradient is longer than max_norm in some inputs. Which torch function shortens it, and when?",
    clip=lambda model, max_norm: None,
)
parts.mistake(
    "each number clipped",
    "clip_grad_value_ cuts every number by itself and turns the gradient. Asked for is its norm.",
    clip=lambda model, max_norm: nn.utils.clip_grad_value_(model.parameters(), max_norm),
)
parts.mistake(
    "each parameter clipped",
    "You shorten the gradient of every parameter by itself, which turns the whole. Asked for is the norm of all "
    "gradients together.",
    clip=lambda model, max_norm: [nn.utils.clip_grad_norm_([p], max_norm) for p in model.parameters()],
)
parts.mistake(
    "the last pictures are left out",
    "Pictures that do not fill a micro-batch are never used. What does your loop do with the rest?",
    split=full_parts,
)
parts.mistake(
    "everything waits",
    "The gradient is right, but all pictures have gone forward before the first way back begins: together, or part by "
    "part. Nothing is saved. When can a part be forgotten?",
    together=True,
)
