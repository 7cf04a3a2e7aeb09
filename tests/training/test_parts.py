"""What a step is made of: draws, augmentation, groups of parameters, schedule; and what a trained model is good for."""

import math

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from vit_edu import load_dataset
from vit_edu.datasets import Dataset
from vit_edu.models import DINO, MAE, create_model
from vit_edu.training import (
    Draws,
    Supervised,
    accuracy,
    add_lora,
    features,
    freeze,
    knn,
    labelled,
    layers_of,
    linear_probe,
    merge_lora,
    parameter_groups,
    schedule,
)
from vit_edu.training.augment import jitter, mix, over_colours, random_crop
from vit_edu.training.draws import epoch_order
from vit_edu.training.recipes.judge import share_of
from vit_edu.weights.bundled import build

VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 4}
CLIP_ABOUT = {
    "model": "vit_tiny_patch16_224",
    "words": VIT | {"num_classes": 0},
    "text": {"context_length": 9, "embed_dim": 8, "depth": 1, "num_heads": 2},
    "embed_dim": 6,
}


def vit(**words):
    torch.manual_seed(0)
    return create_model("vit_tiny_patch16_224", **VIT | words)


def draws(step=0, batch=6, rows=slice(None)):
    return Draws(0, step, batch, rows)


def test_draws_are_the_same_however_the_batch_is_shared():
    whole, first, second = draws(), draws(rows=slice(0, 2)), draws(rows=slice(2, 6))
    for shape in ((), (3,), (2, 2)):
        numbers = whole.uniform(*shape)
        assert torch.equal(numbers, torch.cat([first.uniform(*shape), second.uniform(*shape)]))
        assert numbers.shape == (6, *shape) and numbers.min() >= 0 and numbers.max() < 1
    assert not torch.equal(draws(0).uniform(), draws(1).uniform())
    ends = draws(batch=10_000).uniform(low=-2, high=3)
    assert -2 <= ends.min() < -1.9 and 2.9 < ends.max() < 3
    assert draws(batch=10_000).chance(0.2).float().mean() == pytest.approx(0.2, abs=0.02)


def test_every_epoch_sees_every_picture_once_in_another_order():
    orders = [epoch_order(50, 0, epoch) for epoch in range(3)]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3


def test_a_whole_crop_is_the_picture_or_its_mirror_image():
    images = torch.rand(6, 3, 9, 12)
    same = random_crop(images, draws(), scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=False)
    torch.testing.assert_close(same, images, rtol=0, atol=1e-5)
    mirrored = random_crop(images, draws(batch=6), scale=(1.0, 1.0), ratio=(1.0, 1.0))
    which = [torch.allclose(a, b, atol=1e-5) for a, b in zip(mirrored, images)]
    other = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(mirrored, images)]
    assert all(a != b for a, b in zip(which, other)) and any(which) and any(other)


def test_a_crop_is_a_part_of_the_picture():
    ramp = torch.linspace(0, 1, 64).expand(500, 1, 64, 64)
    crop = random_crop(ramp, draws(batch=500), scale=(0.25, 0.25), ratio=(1.0, 1.0), flip=False, img_size=32)
    assert crop.shape == (500, 1, 32, 32)
    span = crop[..., -1] - crop[..., 0]  # half the width, from left to right
    torch.testing.assert_close(span, torch.full_like(span, 0.5), rtol=0, atol=0.03)
    assert crop.min() < 0.02 and crop.max() > 0.98  # every place comes up


def test_colours_behind_emoji_are_those_of_over():
    ds = load_dataset("emoji", "new_both", img_size=16)
    images, alpha = ds.images[:6].float() / 255, ds.alpha[:6].float() / 255
    ours, colours = over_colours(images, alpha, draws()), draws().uniform(3)
    theirs = type(ds)(ds.images[:6], ds.labels[:6], ds.names[:6], ds.classes, ds.alpha[:6]).over(
        (colours * 255)[:, :, None, None]
    )
    assert (ours * 255 - theirs).abs().max() <= 0.51


def test_jitter_stays_a_picture_and_may_lose_its_colour():
    images = torch.rand(200, 3, 4, 4)
    out = jitter(images, draws(batch=200), grey=0.5)
    assert out.min() >= 0 and out.max() <= 1 and out.shape == images.shape
    grey = (out.amax(1) - out.amin(1)).flatten(1).amax(1) < 1e-5
    assert 0.4 < grey.float().mean() < 0.6
    assert torch.equal(
        jitter(images, draws(batch=200), strength=0.0, grey=0.0).isclose(images, atol=1e-5).all(), torch.tensor(True)
    )


@pytest.mark.parametrize("mixup, cutmix", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_targets_have_the_share_that_the_picture_has(mixup, cutmix):
    images = torch.arange(64.0)[:, None, None, None].expand(-1, 1, 8, 8)  # picture i is all i
    out, targets = mix(images, torch.eye(64), draws(batch=64), mixup, cutmix)
    torch.testing.assert_close(targets.sum(1), torch.ones(64))
    for i in range(64):
        other = i ^ 1
        assert targets[i].nonzero().flatten().tolist() in ([min(i, other), max(i, other)], [i], [other])
        mean = i * targets[i, i] + other * targets[i, other]
        assert out[i].mean().item() == pytest.approx(mean.item(), abs=1e-3)
        assert cutmix or mixup or targets[i, i] == 1
        if cutmix == 1:
            assert set(out[i].unique().tolist()) <= {float(i), float(other)}
    if cutmix == 1.0 or mixup == 1.0:
        assert 0.3 < targets.diagonal().mean() < 0.75


def test_pairs_need_an_even_batch():
    with pytest.raises(ValueError, match="a batch of 3 found, wanted an even one"):
        mix(torch.rand(3, 1, 2, 2), torch.eye(3), draws(batch=3))


def test_layers_and_groups_are_timms():
    theirs = timm.create_model("vit_tiny_patch16_224", **VIT)
    ours = vit()
    names = {id(parameter): name for name, parameter in theirs.named_parameters()}
    wanted = {}
    no_decay = {"pos_embed", "cls_token"}
    for group in param_groups_layer_decay(theirs, 0.05, no_weight_decay_list=no_decay, layer_decay=0.7):
        for parameter in group["params"]:
            wanted[names[id(parameter)]] = (group["weight_decay"], group["lr_scale"])
    names = {id(parameter): name for name, parameter in ours.named_parameters()}
    found = {
        names[id(parameter)]: (group["weight_decay"], pytest.approx(group["lr_scale"]))
        for group in parameter_groups(ours, 0.05, 0.7)
        for parameter in group["params"]
    }
    # BEiT and MAE have the last norm learn as fast as the head, timm one layer slower
    assert {name for name in wanted if found[name] != wanted[name]} == {"norm.weight", "norm.bias"}
    assert found["norm.weight"] == (0.0, 1.0)


def test_layers_of_swin_run_through_its_stages():
    model = create_model("swin_tiny_patch4_window7_224", img_size=32, embed_dim=12, depths=(2, 1), num_heads=(1, 2))
    layers = layers_of(model)
    assert layers["patch_embed.proj.weight"] == 0
    assert [layers[f"layers.{i}.norm1.weight"] for i in ("0.blocks.0", "0.blocks.1", "1.blocks.0")] == [1, 2, 3]
    assert layers["layers.1.downsample.reduction.weight"] == 3
    assert layers["norm.weight"] == layers["head.weight"] == 4
    table = model.layers[0].blocks[0].attn.relative_position_bias_table
    assert any(table is p for group in parameter_groups(model) if group["weight_decay"] == 0 for p in group["params"])


def test_every_tower_ends_where_the_rest_is():
    """Frozen parts do not count; what is in no tower learns as fast as a head."""
    mae = layers_of(MAE(vit(), decoder_embed_dim=8, decoder_depth=1, decoder_num_heads=2))
    assert [mae[f"encoder.{name}"] for name in ("cls_token", "blocks.0.norm1.weight", "norm.weight")] == [0, 1, 4]
    assert mae["mask_token"] == mae["decoder_blocks.0.norm1.weight"] == 4
    clip = layers_of(build(CLIP_ABOUT))
    assert clip["visual.blocks.2.norm1.weight"] == clip["text.blocks.0.norm1.weight"] == 3
    assert clip["visual.cls_token"] == 0 and clip["text.token_embed.weight"] == 2
    assert clip["logit_scale"] == clip["visual_proj.weight"] == 4
    dino = layers_of(DINO(vit(), out_dim=8, hidden_dim=8, bottleneck_dim=4))
    assert max(dino.values()) == 4 and not any("teacher" in name for name in dino)
    with pytest.raises(ValueError, match=r"layer_decay=0\.7 for a ResNet without blocks found"):
        parameter_groups(create_model("resnet20"), layer_decay=0.7)
    groups = parameter_groups(build(CLIP_ABOUT))
    tokens = next(x for name, x in build(CLIP_ABOUT).named_parameters() if name == "text.token_embed.weight")
    assert all(tokens.shape != x.shape for group in groups if group["weight_decay"] for x in group["params"])


def test_a_frozen_model_has_nothing_to_train():
    with pytest.raises(ValueError, match="frozen as a whole found"):
        parameter_groups(vit().requires_grad_(False))
    assert sum(len(group["params"]) for group in parameter_groups(freeze(vit()))) == 2


def test_the_learning_rate_rises_and_falls():
    assert schedule(0.0, 0.1) == 0 and schedule(0.05, 0.1) == pytest.approx(0.5) and schedule(0.1, 0.1) == 1
    assert schedule(0.55, 0.1) == pytest.approx(0.5) and schedule(1.0, 0.1) == pytest.approx(0) and schedule(1.2) == 0
    assert schedule(0.0, 0.0) == 1
    values = [schedule(i / 100) for i in range(5, 101)]
    assert values == sorted(values, reverse=True)


def test_features_are_what_the_head_reads():
    for name, words in (
        ("vit_tiny_patch16_224", VIT),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 16, "patch_size": 2, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)},
        ),
        ("cct_2_3x2_32", {"img_size": 16, "embed_dim": 24}),
        ("resnet20", {"depths": (1, 1), "width": 4}),
    ):
        model, images = create_model(name, **words), torch.rand(5, 3, 16, 16)
        out = features(model, images, batch_size=2)
        torch.testing.assert_close(getattr(model, "head", getattr(model, "fc", None))(out), model(images).detach())


def test_knn_is_a_vote_by_cosine():
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(30, 5, generator=generator), torch.randn(7, 5, generator=generator)
    labels = torch.arange(30) % 3
    votes = knn(train, labels, test, k=4, temperature=0.1)
    for i, row in enumerate(test):
        cosines = [
            (torch.cosine_similarity(row, other, dim=0).item(), label.item()) for other, label in zip(train, labels)
        ]
        wanted = [0.0] * 3
        for cosine, label in sorted(cosines, reverse=True)[:4]:
            wanted[label] += math.exp(cosine / 0.1)
        assert votes[i].tolist() == pytest.approx(wanted, rel=1e-4)
    assert knn(train.double(), labels, test.double(), k=4).dtype == torch.float64
    with pytest.raises(ValueError, match="k=31 for 30 pictures"):
        knn(train, labels, test, k=31)
    with pytest.raises(ValueError, match=r"temperature=0\.01 found, wanted more than"):
        knn(train, labels, test, k=3, temperature=0.01)


def test_the_probe_is_the_best_linear_layer():
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(300, 6, generator=generator) * 3 + 1
    labels = (train @ torch.randn(6, 3, generator=generator) + torch.randn(300, 3, generator=generator)).argmax(1)
    probe = linear_probe(train, labels, classes=3, decay=0.01)
    mean, std = train.mean(0), train.std(0) + 1e-6
    x, shift = (train - mean) / std, probe(mean[None])[0]
    weight = torch.stack([probe((mean + step)[None])[0] - shift for step in std.diag()], dim=1).requires_grad_()
    bias = shift.clone().requires_grad_()
    loss = nn.functional.cross_entropy(x @ weight.T + bias, labels) + 0.01 * weight.square().sum() / 2
    gradients = torch.autograd.grad(loss, [weight, bias])
    assert all(gradient.abs().max() < 1e-3 for gradient in gradients)  # nothing is left to gain
    assert accuracy(probe(train), labels) > 0.7
    with pytest.raises(ValueError, match="features that are no numbers"):
        linear_probe(train / 0, labels, classes=3)


def test_labels_that_cannot_be():
    """Wherever they are asked for; (N, 1) or one-hot labels would otherwise give an accuracy, and a wrong one."""
    x = torch.rand(6, 3)
    uses = [lambda labels: knn(x, labels, x, 2, classes=3), lambda labels: linear_probe(x, labels, classes=3)]
    uses.append(lambda labels: accuracy(x, labels))
    images = torch.zeros(6, 3, 4, 4, dtype=torch.uint8)
    uses.append(lambda labels: labelled(Dataset(images, labels, [""] * 6, ["a", "b", "c"])))
    for use in uses:
        use(torch.arange(6) % 3)
        for labels, found in (
            (torch.arange(6) - 1, "labels from -1 to 4"),
            (torch.arange(6) % 4, "labels from 0 to 3 found, wanted 0 to 2"),
            (torch.zeros(5, dtype=torch.long), r"labels of shape \(5,\)"),
            (torch.zeros(6, 1, dtype=torch.long), r"labels of shape \(6, 1\)"),
        ):
            with pytest.raises(ValueError, match=found):
                use(labels)
        with pytest.raises(TypeError, match=r"labels of torch.float32 found, wanted torch.int64"):
            use(torch.zeros(6))
    with pytest.raises(ValueError, match="0 pictures"):
        accuracy(x[:0], torch.zeros(0, dtype=torch.long))


def test_a_model_of_other_classes_and_shares_that_are_none():
    images, targets = torch.rand(2, 3, 16, 16), torch.eye(5)[:2]
    with pytest.raises(ValueError, match=r"targets of shape \(2, 5\) for logits of shape \(2, 4\) found"):
        Supervised(vit())(images, targets)
    with pytest.raises(ValueError, match=r"label_smoothing=1\.5 found"):
        Supervised(vit(), label_smoothing=1.5)
    for mixup, cutmix in ((0.7, 0.7), (-0.1, 0.5), (0.5, -0.1)):
        with pytest.raises(ValueError, match=f"mixup={mixup} with cutmix={cutmix} found"):
            labelled(load_dataset("photos"), mixup, cutmix)


def test_freeze_and_thaw():
    model = freeze(vit(), ("blocks.2", "norm", "head"))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning and all(name.startswith(("blocks.2.", "norm.", "head.")) for name in learning)
    assert all(parameter.requires_grad for parameter in freeze(model, ("",)).parameters())
    pooled = freeze(create_model("vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=1, global_pool="avg"))
    assert {n.split(".")[0] for n, p in pooled.named_parameters() if p.requires_grad} == {"head"}  # and no fc_norm
    distilled = freeze(create_model("deit_tiny_distilled_patch16_224", img_size=32, embed_dim=24, depth=1))
    assert {n.split(".")[0] for n, p in distilled.named_parameters() if p.requires_grad} == {"head", "head_dist"}
    with pytest.raises(ValueError, match="no parameter beginning with tail found, wanted some of cls_token"):
        freeze(model, ("tail",))
    for alone in (lambda: freeze(model, "head"), lambda: add_lora(model, where="qkv")):
        with pytest.raises(TypeError, match="found, wanted a tuple of names; write"):
            alone()


def test_lora_starts_as_the_model_and_ends_as_one_again():
    model, images = vit().eval(), torch.rand(2, 3, 16, 16)
    before = model(images)
    names = list(model.state_dict())
    add_lora(model, rank=2)
    torch.testing.assert_close(model(images), before)
    learning = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert sum(learning.values()) == 3 * 2 * (24 + 72) + 24 * 4 + 4
    assert all(name.startswith("head.") or name.endswith(("qkv.down", "qkv.up")) for name in learning)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), torch.tensor([0, 1])).backward()
        optimizer.step()
    after = model(images)
    assert (after - before).abs().max() > 0.1
    torch.testing.assert_close(merge_lora(model)(images), after, rtol=1e-4, atol=1e-5)
    assert list(model.state_dict()) == names and all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="no layer of these names"):
        merge_lora(model)


def test_lora_has_the_dtype_of_what_it_adds_to():
    for dtype in (torch.bfloat16, torch.float64):
        model = add_lora(vit().to(dtype))
        assert model(torch.rand(2, 3, 16, 16, dtype=dtype)).dtype == dtype
        assert {x.dtype for x in merge_lora(model).parameters()} == {dtype}


def test_a_share_of_the_labels_has_every_class():
    train = load_dataset("emoji", "new_both", img_size=16)
    for share in (0.001, 0.1, 0.5):
        part = share_of(train, share, seed=0)
        counts = [(part.labels == label).sum().item() for label in range(8)]
        whole = [(train.labels == label).sum().item() for label in range(8)]
        assert counts == [max(1, round(share * n)) for n in whole]
    assert not torch.equal(share_of(train, 0.5, 0).images, share_of(train, 0.5, 1).images)
    assert torch.equal(share_of(train, 0.5, 1).images, share_of(train, 0.5, 1).images)
