"""DINO, which has no public twin in a library, is its equations in loops; the loss of one pair is vit_pytorch's."""

import copy

import pytest
import torch
from torch import nn
from vit_pytorch.dino import loss_fn

from tests.reference.compare import assert_equal, gradients, normal, randomise
from vit_edu.models import DINO, DINOHead, create_model, dino_loss, update_center

WORDS = {"patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 0, "dynamic_img_size": True}
HEAD = {"out_dim": 6, "hidden_dim": 12, "bottleneck_dim": 6}


def dino(img_size=(16, 16), seed=0, **words):
    """Student, teacher and centre all random, and all different."""
    model = DINO(create_model("vit_tiny_patch16_224", img_size=img_size, **WORDS | words), **HEAD)
    model = randomise(model, seed)
    model.center += normal(6, seed=5, grad=False)
    return model


def crops_of(batch, sizes):
    return [normal(batch, 3, *size, seed=10 + i, grad=False) for i, size in enumerate(sizes)]


SIZES = {
    "two global": [(16, 16)] * 2,
    "multi-crop": [(16, 16)] * 2 + [(8, 8)] * 3,
    "not in order": [(16, 16), (16, 24), (8, 8), (12, 8), (8, 8), (16, 16)],
}


def by_hand(model, crops):
    """Equations 1, 3 and 4 for one crop, image and answer at a time: loss, new centre."""
    students, teachers = [], []
    for crop in crops:
        students.append([model.student.head(model.student.backbone(image[None]))[0] for image in crop])
    for crop in crops[:2]:
        teachers.append([model.teacher.head(model.teacher.backbone(image[None]))[0].detach() for image in crop])
    loss, pairs = 0, 0
    for i, teacher in enumerate(teachers):
        for j, student in enumerate(students):
            if i == j:
                continue
            pairs += 1
            for t, s in zip(teacher, student):
                p, q = ((t - model.center) / 0.04).exp(), (s / 0.1).exp()
                loss = loss - sum(p[k] / p.sum() * (q[k] / q.sum()).log() for k in range(6)) / len(student)
    said = [t for teacher in teachers for t in teacher]
    return loss / pairs, 0.9 * model.center + 0.1 * sum(said) / len(said)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("sizes", SIZES)
def test_loss_gradients_and_centre_are_the_equations(sizes, batch):
    model, crops = dino(), crops_of(batch, SIZES[sizes])
    reference, center = by_hand(model, crops)
    loss = model(crops)
    assert_equal(loss, reference, "loss")
    assert_equal(model.center, center, "centre")
    names, parameters = zip(*model.student.named_parameters())
    for name, mine, theirs in zip(names, gradients(loss, parameters), gradients(reference, parameters)):
        # positions are resized in float32, and so is what flows back
        assert_equal(mine, theirs, f"gradient of {name}", 1e-7 if name == "backbone.pos_embed" else 1e-12)
    assert not any(p.requires_grad for p in model.teacher.parameters())


@pytest.mark.parametrize(
    "words",
    [{"img_size": (16, 8)}, {"global_pool": "avg", "class_token": False}, {"reg_tokens": 1, "pos_embed": "sincos"}],
    ids=str,
)
def test_other_encoders(words):
    model, crops = dino(**words), crops_of(2, [(16, 8)] * 2 + [(8, 8)] * 2)
    reference, center = by_hand(model, crops)
    assert_equal(model(crops), reference, "loss")
    assert_equal(model.center, center, "centre")


def test_loss_of_one_pair_is_vit_pytorchs():
    student, teacher = [normal(4, 7, seed=s) for s in (1, 2)], [normal(4, 7, seed=s) for s in (3, 4)]
    center = normal(7, seed=5, grad=False)
    mine = dino_loss(student, teacher, center, student_temp=0.3, teacher_temp=0.07)
    words = {"student_temp": 0.3, "teacher_temp": 0.07, "centers": center}
    theirs = (loss_fn(teacher[0], student[1], **words) + loss_fn(teacher[1], student[0], **words)) / 2
    assert_equal(mine, theirs, "loss")
    assert_equal(gradients(mine, student), gradients(theirs, student), "gradients")
    assert torch.autograd.grad(mine, teacher, allow_unused=True) == (None, None)


def test_loss_and_centre_by_numbers():
    """Two crops, one image, two answers: log 2 each, whatever the teacher says, as the student says nothing."""
    even, sure = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    assert dino_loss([even, even], [sure, sure], torch.zeros(2)).item() == pytest.approx(0.693147, abs=1e-6)
    # The student is as sure as the teacher, but of the other crop only: sigmoid(10) against sigmoid(25).
    assert dino_loss([even, sure], [sure, sure], torch.zeros(2)).item() == pytest.approx(
        (0.693147 + 4.54e-5) / 2, abs=1e-6
    )
    assert update_center(torch.ones(2), [sure, 3 * sure]).tolist() == pytest.approx([0.9 + 0.1 * 2, 0.9])
    # A centre at the teacher's answer leaves it undecided: no answer can win for ever.
    assert dino_loss([sure, sure], [sure, sure], sure[0]).item() == pytest.approx(10 / 2 + 4.54e-5, abs=1e-6)


def test_head_is_weight_norm_with_length_one():
    head = randomise(DINOHead(8, **HEAD))
    theirs = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6, bias=False).double())
    theirs.parametrizations.weight.original0.data.fill_(1)  # g of weight = g v / |v|
    theirs.parametrizations.weight.original1.data.copy_(head.last_layer.weight)
    x = normal(3, 8)
    hidden = copy.deepcopy(head.mlp)(x)
    reference = theirs(hidden / hidden.norm(dim=-1, keepdim=True))
    assert_equal(head(x), reference, "logits")
    assert head(x).abs().max() <= 1
    (mine,) = gradients(head(x), [head.last_layer.weight])
    assert_equal(mine, gradients(reference, [theirs.parametrizations.weight.original1])[0], "gradients")
    assert_equal((mine * head.last_layer.weight).sum(dim=1), torch.zeros(6).double(), "the length gets no gradient")


def test_published_sizes():
    with torch.device("meta"):
        model = DINO(create_model("vit_small_patch16_224", num_classes=0))
        count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
        assert count(model.student.backbone) == count(model.teacher.backbone) == 21_665_664
        layers = [(384 + 1) * 2048, (2048 + 1) * 2048, (2048 + 1) * 256, 256 * 65536]
        assert count(model.student.head) == sum(layers)
    assert {name.split(".")[0] for name in model.state_dict()} == {"student", "teacher", "center"}
    names = [name for name in model.state_dict() if name.startswith("student.head")]
    layers = [
        "mlp.0.weight",
        "mlp.0.bias",
        "mlp.2.weight",
        "mlp.2.bias",
        "mlp.4.weight",
        "mlp.4.bias",
        "last_layer.weight",
    ]
    assert names == [f"student.head.{layer}" for layer in layers]


def test_float32():
    model, crops = dino(), crops_of(2, SIZES["multi-crop"])
    reference = model.eval()(crops)
    assert_equal(model.float()([crop.float() for crop in crops]).double(), reference, "loss", 1e-5)


def test_teacher_is_the_moving_mean_of_students():
    model, other = dino(), dino(seed=1)
    model.student.load_state_dict(other.student.state_dict())
    before = [p.clone() for p in model.teacher.parameters()]
    model.update_teacher(0.9)
    now = [0.9 * old + 0.1 * new for old, new in zip(before, model.student.parameters())]
    assert_equal(list(model.teacher.parameters()), now, "teacher")
    model.update_teacher(1.0)
    assert_equal(list(model.teacher.parameters()), now, "a teacher that stands still")
    model.update_teacher(0.0)
    assert_equal(list(model.teacher.parameters()), list(model.student.parameters()), "a copy")
