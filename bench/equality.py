"""How equal ours are to the published models, at their full sizes: random weights of theirs in ours, both compared.

    python -m bench.equality                 # all of them: some minutes, and 8 GB for the whole of CLIP
    python -m bench.equality --only swin     # those whose line holds this; printed, and not written

`load_weights` copies the weights, as a user would. Compared are the outputs and the gradients of a random projection
of them, those of the images and of every parameter, in float64 and eval mode. The outputs are compared with and without
autograd, since a model may take another path for each (our Swin's fused attention does), and once more in float32.
Prints a table and writes data/records/equality.json; the exit status is 1 where a difference is above its limit.
"""

import argparse
import copy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import transformers
from torch import Tensor, nn

from bench import cases
from bench.models import surroundings
from tests.reference.compare import normal
from tests.reference.twins import count, randomised, settled
from vit_edu.models import CLIP, TextTransformer, clip_logits, create_model
from vit_edu.training.records import write
from vit_edu.weights import load_weights

RECORD = Path(__file__).resolve().parents[1] / "data" / "records" / "equality.json"
BATCH = 2
LIMITS = {"outputs": 1e-10, "gradients": 1e-10, "outputs_float32": 1e-4}
WHAT = (
    "Ours with the random weights of another library's model: largest difference of outputs and of gradients (of the "
    "images and of every parameter), relative to a tensor's largest value where that is above one."
)

Answer = Callable[[nn.Module, Tensor], tuple[Tensor, ...]]


def logits(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """(B, 3, H, W) -> (B, classes); of a model without a head its features (B, C)."""
    answer = model(images)
    return (answer if isinstance(answer, Tensor) else answer.get("logits", answer.get("pooler_output")),)


def reconstruction(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """(B, 3, H, W) -> MAE's loss () and prediction (B, N, p*p*C), with the same patches removed for everyone."""
    N = (images.shape[-1] // 16) ** 2
    answer = model(images, noise=normal(len(images), N, seed=4, grad=False))
    return answer[:2] if isinstance(answer, tuple) else (answer.loss, answer.logits)


def similarities(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """(B, 3, H, W) -> (B, 3), CLIP's with three texts of 5, 77 and 40 tokens."""
    tokens = torch.randint(1, 49_406, (3, 77), generator=torch.Generator().manual_seed(4))
    for row, length in zip(tokens, (5, 77, 40)):
        row[0], row[length - 1], row[length:] = 49_406, 49_407, 0  # start, end, nothing
    if isinstance(model, CLIP):
        return (clip_logits(model.encode_image(images), model.encode_text(tokens), model.logit_scale),)
    return (model(pixel_values=images, input_ids=tokens).logits_per_image,)


class Pair(NamedTuple):
    """Our model as the record calls it, the library that has it too, and how either is built and asked."""

    model: str
    against: str
    ours: Callable[[], nn.Module]
    theirs: Callable[[], nn.Module]
    answer: Answer = logits
    img_size: int = 224


def hf(name: str, config: str, **words) -> nn.Module:
    """A model of transformers, by its name and its config's."""
    return getattr(transformers, name)(getattr(transformers, config)(**words))


def whole_clip() -> CLIP:
    """CLIP B/16 with the published vocabulary of byte pairs."""
    return CLIP(create_model(CLIP_VIT, num_classes=0), TextTransformer(vocab_size=49_408))


VIT, DEIT, SWIN = "vit_base_patch16_224", "deit_base_distilled_patch16_224", "swin_tiny_patch4_window7_224"
CCT, HYBRID, MOBILEVIT = "cct_7_3x1_32", "vit_tiny_resnet18_224", "mobilevit_xxs"
CLIP_VIT = "vit_base_patch16_clip_quickgelu_224"
EPS = {"layer_norm_eps": 1e-6}  # as published; transformers' own default is 1e-12

OURS = {name: partial(create_model, name) for name in (VIT, DEIT, SWIN, CCT, HYBRID, MOBILEVIT)}
HF_VIT = partial(hf, "ViTForImageClassification", "ViTConfig", num_labels=1000, **EPS)
HF_DEIT = partial(hf, "DeiTForImageClassificationWithTeacher", "DeiTConfig", num_labels=1000, **EPS)
HF_CLIP = partial(hf, "CLIPModel", "CLIPConfig", vision_config={"patch_size": 16})

PAIRS = [
    *(Pair(VIT, name, OURS[VIT], cases.vit(VIT, 768)[name]) for name in ("timm", "torchvision")),
    Pair(VIT, "transformers", OURS[VIT], HF_VIT),
    Pair(DEIT, "timm", OURS[DEIT], partial(timm.create_model, DEIT)),
    Pair(DEIT, "transformers", OURS[DEIT], HF_DEIT),
    *(Pair(SWIN, name, OURS[SWIN], cases.swin()[name]) for name in ("timm", "torchvision", "transformers")),
    Pair(CCT, "vit-pytorch", partial(OURS[CCT], num_classes=10), cases.cct()["vit-pytorch"], img_size=32),
    Pair(HYBRID, "timm", OURS[HYBRID], cases.hybrid()["timm"]),
    Pair(MOBILEVIT, "timm", OURS[MOBILEVIT], cases.mobilevit()["timm"], img_size=256),
    Pair(
        f"MAE({VIT})",
        "transformers",
        cases.mae(VIT, 768)[cases.OURS],
        partial(hf, "ViTMAEForPreTraining", "ViTMAEConfig", **EPS),
        reconstruction,
    ),
    Pair(
        CLIP_VIT,
        "transformers",
        partial(create_model, CLIP_VIT, num_classes=0),
        partial(hf, "CLIPVisionModel", "CLIPVisionConfig", patch_size=16),
    ),
    Pair(f"CLIP({CLIP_VIT})", "transformers", whole_clip, HF_CLIP, similarities),
]


def difference(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """The largest of all, each tensor's over its largest value where that is above one; NaN where there is a NaN."""
    assert [x.shape for x in ours] == [x.shape for x in theirs]
    pairs = zip(ours, theirs)
    return torch.stack([(a - b).abs().max() / b.abs().max().clamp(min=1) for a, b in pairs]).max().item()


def run(model: nn.Module, answer: Answer, images: Tensor) -> tuple[tuple, Tensor, dict[str, Tensor]]:
    """Outputs, and the gradients of a random projection of them: the images', and the parameters' by name.

    A parameter that has none, frozen or not in use, has zeros: if only one of the two has it, that shows.
    """
    images = images.clone().requires_grad_()
    outputs = answer(model, images * 1)  # some write into what they are given
    wanted = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    projection = sum((x * normal(*x.shape, seed=7, grad=False)).sum() for x in outputs)
    grads = torch.autograd.grad(projection, [images, *wanted.values()], allow_unused=True, materialize_grads=True)
    by_name = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    return tuple(x.detach() for x in outputs), grads[0], by_name | dict(zip(wanted, grads[1:]))


def differences(ours: nn.Module, theirs: nn.Module, pair: Pair, images: Tensor) -> dict[str, float]:
    """Of two models of the same weights; images (B, 3, H, W), all in float64. Leaves both models in float32."""
    outputs, gradient, by_name = run(ours, pair.answer, images)
    their_outputs, their_gradient, theirs_by_name = run(theirs, pair.answer, images)
    # Gradients have the names of weights, so that load_weights knows which is which.
    renamed = copy.deepcopy(ours)
    load_weights(renamed, theirs.state_dict() | theirs_by_name, pair.against.replace("-", "_"))
    their_gradients = [renamed.get_parameter(name).detach() for name in by_name]
    with torch.no_grad():
        without = [pair.answer(model, images) for model in (ours, theirs)]
        single = [pair.answer(model.float(), images.float()) for model in (ours, theirs)]
    return {
        "outputs": difference((*outputs, *without[0]), (*their_outputs, *without[1])),
        "gradients": difference((gradient, *by_name.values()), (their_gradient, *their_gradients)),
        "outputs_float32": difference(*single),
    }


def compare(pair: Pair) -> dict:
    """One row of the table: both are built anew, theirs made random, ours given their weights."""
    torch.manual_seed(0)  # for the weights they start from
    images, theirs = normal(BATCH, 3, pair.img_size, pair.img_size, grad=False), pair.theirs()
    has_statistics = any(isinstance(module, nn.BatchNorm2d) for module in theirs.modules())
    theirs = settled(theirs, images) if has_statistics else randomised(theirs)
    ours = load_weights(pair.ours().double(), theirs.state_dict(), pair.against.replace("-", "_"))
    named = {"model": pair.model, "against": pair.against, "parameters": count(ours)}
    return named | differences(ours.eval(), theirs.eval(), pair, images)


def main(arguments: list[str] | None = None, pairs: list[Pair] = PAIRS) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.equality", description=WHAT)
    parser.add_argument("--only", metavar="TEXT", default="", help="the lines that hold this, as swin or torchvision")
    parser.add_argument("--out", type=Path, help="the file to write (data/records/equality.json, and none for a part)")
    words = parser.parse_args(arguments)
    chosen = [pair for pair in pairs if words.only.lower() in f"{pair.model} {pair.against}".lower()]
    if not chosen:
        parser.error(f"no line holds {words.only!r}; there are {', '.join(dict.fromkeys(p.model for p in pairs))}")
    record = {"what": WHAT, "command": "python -m bench.equality"} | surroundings("cpu")
    record |= {"dtype": "float64", "batch": BATCH, "limits": LIMITS, "rows": []}
    print(f"{'model':43}{'against':14}{'parameters':>12}", *(f"{name:>16}" for name in LIMITS))
    for pair in chosen:
        row = compare(pair)
        record["rows"].append(row)
        figures = (f"{row[name]:16.1e}" for name in LIMITS)
        print(f"{row['model']:43}{row['against']:14}{row['parameters']:12,}", *figures, flush=True)
    out = words.out or (None if words.only else RECORD)
    if out:
        write(out, record)
        print("wrote", out.name)
    return int(not all(row[name] <= limit for row in record["rows"] for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
