"""MAE, DINO and CLIP: what is seen, precision, compilation, and that they learn what they should."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.unit.pretraining import HEAD, clip, crops, dino, images, mae, noise, tokens, vit
from vit_edu import layers, models
from vit_edu.models import DINO, MAE, create_model

BUILT = {
    "mae": (mae, lambda model: model(images, noise)),
    "dino": (dino, lambda model: model(crops)),
    "clip": (clip, lambda model: model(images, tokens)),
}
SEEN = {
    "mae": (
        lambda model: model(images, noise, return_intermediates=True),
        {
            "ids_keep": (2, 4),
            "encoder.patch_embed": (2, 16, 12),
            **{f"encoder.blocks.{i}.attn": (2, 3, 5, 5) for i in range(2)},
            **{f"encoder.blocks.{i}": (2, 5, 12) for i in range(2)},
            "encoder.norm": (2, 5, 12),
            "decoder_blocks.0.attn": (2, 2, 17, 17),
            "decoder_blocks.0": (2, 17, 8),
        },
    ),
    "dino": (
        lambda model: model(crops, return_intermediates=True),
        {
            f"{name}.{crop}.{what}": shape
            for name, sizes in {"student": [16, 16, 4, 4], "teacher": [16, 16]}.items()
            for crop, N in enumerate(sizes)
            for what, shape in {
                "patch_embed": (2, N, 12),
                **{f"blocks.{i}.attn": (2, 3, 1 + N, 1 + N) for i in range(2)},
                **{f"blocks.{i}": (2, 1 + N, 12) for i in range(2)},
                "norm": (2, 1 + N, 12),
                "logits": (2, 6),
            }.items()
        },
    ),
    "clip": (
        lambda model: model(images, tokens, return_intermediates=True),
        {
            "visual.patch_embed": (2, 16, 12),
            **{f"visual.blocks.{i}.attn": (2, 3, 17, 17) for i in range(2)},
            **{f"visual.blocks.{i}": (2, 17, 12) for i in range(2)},
            "visual.norm": (2, 17, 12),
            "text.blocks.0.attn": (2, 2, 9, 9),
            "text.blocks.0": (2, 9, 8),
            "text.norm": (2, 9, 8),
        },
    ),
}


def flat(output):
    return (output,) if isinstance(output, torch.Tensor) else output


@pytest.mark.parametrize("name", BUILT)
def test_what_is_seen(name):
    build, call = BUILT[name]
    look, shapes = SEEN[name]
    model = build().eval()
    output, seen = look(model)
    assert {key: tuple(x.shape) for key, x in seen.items()} == shapes
    assert {x.dtype for key, x in seen.items() if key != "ids_keep"} == {torch.float32}
    for key, x in seen.items():
        if key.endswith(".attn"):
            torch.testing.assert_close(x.sum(dim=-1), torch.ones(x.shape[:-1]))
    for a, b in zip(flat(output), flat(call(model)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", BUILT)
def test_looking_costs_nothing_when_it_is_off(name, monkeypatch):
    """Without return_intermediates the fused kernel runs, once a block, and the explicit softmax never."""
    build, call = BUILT[name]
    model, fused, calls = build().eval(), F.scaled_dot_product_attention, []
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *args, **words: calls.append(1) or fused(*args, **words)
    )
    monkeypatch.setattr(layers.attention, "scaled_dot_product_attention", lambda *_: pytest.fail("explicit"))
    call(model)
    blocks = {"mae": 2 + 1, "dino": 2 * 2 + 2, "clip": 2 + 1}  # dino's student sees two sizes of crops, the teacher one
    assert len(calls) == blocks[name]


def test_dino_shows_each_crop_its_own():
    model = dino().eval()
    _, seen = model(crops, return_intermediates=True)
    for i, crop in enumerate(crops):
        _, alone = model.student.backbone(crop, return_intermediates=True)
        torch.testing.assert_close(seen[f"student.{i}.blocks.1.attn"], alone["blocks.1.attn"])


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_the_loss_in_float32(name, dtype):
    build, call = BUILT[name]
    torch.manual_seed(0)
    model = build()
    if name == "clip":
        model.logit_scale.data.fill_(math.log(100))
    full = flat(call(model.eval()))[0]
    with torch.autocast("cpu", dtype):
        loss = flat(call(model.train()))[0]
    assert loss.dtype == torch.float32
    assert abs(loss - full) < 0.05 * full
    loss.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert {p.grad.dtype for p in trained} == {torch.float32}


def test_clip_logits_are_not_rounded_under_autocast():
    torch.manual_seed(0)
    a, b = torch.randn(8, 64), torch.randn(8, 64)
    scale = torch.tensor(math.log(100))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(models.clip_logits(a, b, scale), models.clip_logits(a, b, scale.clone()))
        under = models.clip_logits(a, b, scale)
        assert models.clip_logits(a.bfloat16(), b.bfloat16(), scale).dtype == torch.float32
    torch.testing.assert_close(under, models.clip_logits(a, b, scale))


def test_dino_loss_is_float32_for_half_precision_logits():
    logits = [torch.randn(4, 50).bfloat16() for _ in range(2)]
    loss, full = (models.dino_loss(x, x, torch.zeros(50)) for x in (logits, [x.float() for x in logits]))
    assert loss.dtype == torch.float32 and torch.equal(loss, full)
    assert models.update_center(torch.zeros(50), logits).dtype == torch.float32


@pytest.mark.parametrize("name", BUILT)
def test_compiles_as_one_graph(name):
    build, call = BUILT[name]
    torch.manual_seed(0)
    model = build().eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for mine, theirs in zip(flat(call(compiled)), flat(call(model)), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", BUILT)
def test_every_weight_that_should_learn_does(name):
    build, call = BUILT[name]
    model = build()
    flat(call(model))[0].backward()
    still = {key for key, p in model.named_parameters() if p.grad is None}
    expected = {"mae": {"decoder_pos_embed"}, "clip": set()}
    expected["dino"] = {key for key, _ in model.named_parameters() if key.startswith("teacher.")}
    assert still == expected[name]
    assert all(
        key.startswith("teacher.") == (name == "dino") or not p.requires_grad
        for key, p in model.named_parameters()
        if key in still
    )


@pytest.mark.parametrize("name", BUILT)
def test_the_encoders_head_takes_no_part(name):
    torch.manual_seed(0)
    build, call = BUILT[name]
    with_head = build(num_classes=5).eval()
    without = build().eval()
    state = {key: x for key, x in with_head.state_dict().items() if "backbone.head" not in key}
    without.load_state_dict({key: x for key, x in state.items() if not key.startswith(("encoder.head", "visual.head"))})
    torch.testing.assert_close(flat(call(with_head))[0], flat(call(without))[0])


@pytest.mark.parametrize("name", BUILT)
def test_it_learns(name):
    torch.manual_seed(0)
    build, call = BUILT[name]
    model = build().train(name != "dino")  # whose teacher and centre hold still in eval mode
    if name == "dino":
        model.teacher.head.last_layer.weight.data.neg_()  # it says the opposite of the new student
    parameters, losses = [p for p in model.parameters() if p.requires_grad], []
    for _ in range(80):
        losses.append(flat(call(model))[0])
        with torch.no_grad():
            for p, gradient in zip(parameters, torch.autograd.grad(losses[-1], parameters)):
                p -= 0.003 * gradient.sign()
    assert losses[-1] < losses[0] * {"mae": 0.5, "dino": 0.5, "clip": 0.6}[name]


def is_glorots(layer):
    """Uniform up to Glorot & Bengio's bound, biases zero."""
    weight = layer.weight.flatten(1)
    return 0.8 < weight.abs().max() / (6 / sum(weight.shape)) ** 0.5 <= 1 and layer.bias.eq(0).all()


def test_mae_starts_as_published_but_leaves_the_encoder_until_asked():
    torch.manual_seed(0)
    encoder = vit(num_classes=3, img_size=(8, 16), reg_tokens=1)
    before = {key: x.clone() for key, x in encoder.state_dict().items()}
    model = MAE(encoder, 8, 1, 2)
    assert model.encoder is encoder and all(torch.equal(x, before[key]) for key, x in encoder.state_dict().items())
    decoder = [model.decoder_embed, model.decoder_pred, *model.decoder_blocks[0].modules()]
    assert all(is_glorots(layer) for layer in decoder if isinstance(layer, nn.Linear))
    assert 0.005 < model.mask_token.std() < 0.06
    torch.testing.assert_close(model.decoder_pos_embed[0, 2:], layers.sincos_position((2, 4), 8))
    assert model.decoder_pos_embed[0, :2].eq(0).all() and not model.decoder_pos_embed.requires_grad
    assert not is_glorots(encoder.blocks[0].mlp.fc1) and not is_glorots(encoder.patch_embed.proj)
    model.apply(models.init_mae)
    assert all(is_glorots(layer) for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d))


@pytest.mark.parametrize("words", [{}, {"pos_embed": "sincos"}, {"global_pool": "avg"}, {"reg_tokens": 2}], ids=str)
def test_mae_gives_an_ordinary_vit(words):
    model = mae(**words)
    finetuned = vit(num_classes=3, **words)
    missing = finetuned.load_state_dict(model.encoder.state_dict(), strict=False)
    assert missing.missing_keys == ["head.weight", "head.bias"] and not missing.unexpected_keys
    model.encoder.head = finetuned.head  # or the same object goes on
    torch.testing.assert_close(model.encoder.eval()(images), finetuned.eval()(images))


def test_mae_draws_its_own_noise():
    model = mae().eval()
    torch.manual_seed(0)
    _, _, first = model(images)
    _, _, second = model(images)
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    assert (first.sum(dim=1) == 12).all()
    torch.manual_seed(0)
    assert torch.equal(model(images)[2], first)


def test_mae_does_not_see_what_is_removed():
    """Other pixels in the removed patches change the loss and nothing else."""
    model = mae().eval()
    loss, prediction, mask = model(images, noise)
    removed = mask.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.where(removed.bool(), torch.rand_like(images), images)
    loss_then, prediction_then, _ = model(other, noise)
    torch.testing.assert_close(prediction, prediction_then)
    assert loss != loss_then


def test_dino_moves_the_centre_after_the_loss_and_only_while_training():
    model = dino()
    first, second = model(crops), model(crops)
    assert first != second  # the centre has moved between the two
    model.center.zero_()
    torch.testing.assert_close(model(crops), first)
    moved = model.center.clone()
    model.eval()
    assert torch.equal(model(crops), model(crops)) and torch.equal(model.center, moved)


def test_dinos_teacher_has_no_drop_path_and_the_student_has():
    torch.manual_seed(0)
    model = dino(drop_path_rate=0.5).train()
    assert model.student.training and not any(module.training for module in model.teacher.modules())
    looks = [model(crops, return_intermediates=True)[1] for _ in range(2)]
    for name, same in (("teacher.0.logits", True), ("student.0.logits", False)):
        assert torch.equal(looks[0][name], looks[1][name]) is same


def test_dinos_teacher_starts_as_the_student_and_shares_nothing():
    model = dino()
    for mine, theirs in pairwise([model.teacher.state_dict(), model.student.state_dict()]):
        assert all(torch.equal(mine[key], theirs[key]) and mine[key] is not theirs[key] for key in theirs)
    before = model.teacher.backbone.cls_token.clone()
    with torch.no_grad():
        model.student.backbone.cls_token += 1
    assert torch.equal(model.teacher.backbone.cls_token, before)
    model.update_teacher(0.75)
    torch.testing.assert_close(model.teacher.backbone.cls_token.data, before + 0.25)


def test_dinos_teacher_follows_the_statistics_of_batch_norms():
    model = DINO(create_model("vit_tiny_resnet18_224", img_size=64, depth=1, num_classes=0), **HEAD)
    model([torch.rand(2, 3, 64, 64) + 1 for _ in range(2)])
    mine, theirs = model.teacher.backbone.patch_embed.backbone.bn1, model.student.backbone.patch_embed.backbone.bn1
    assert not torch.equal(mine.running_mean, theirs.running_mean)
    model.update_teacher(0.0)
    assert torch.equal(mine.running_mean, theirs.running_mean)


def test_clip_holds_its_scale_at_100():
    model = clip()
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    model.logit_scale.data.fill_(6.0)
    loss, *_ = model(images, tokens)
    assert model.logit_scale.exp().item() == pytest.approx(100)
    loss.backward()
    assert model.logit_scale.grad.abs() > 0  # it can come down again
    model.zero_grad()
    sum(model(images, tokens)[0] for _ in range(2)).backward()  # two batches, one step


def test_tokens_on_the_device_of_the_images_and_int32_too():
    model = clip().eval()
    for mine, theirs in zip(model(images, tokens.int()), model(images, tokens)):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", ["MAE", "DINO", "CLIP", "TextTransformer", "DINOHead"])
def test_they_are_found_in_models(name):
    assert name in models.__all__ and getattr(models, name).__doc__
