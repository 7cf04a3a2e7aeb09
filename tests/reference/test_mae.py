"""MAE is transformers' ViTMAEForPreTraining with the same noise; what that cannot do is the paper, written in loops."""

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding
from vit_pytorch import ViT as TheirViT
from vit_pytorch.mae import MAE as TheirMAE

from tests.reference.compare import assert_equal, gradients, normal, randomise
from vit_edu.layers import random_masking
from vit_edu.models import MAE, create_model, mae_loss, mae_target, reconstruct

DECODER = {"decoder_embed_dim": 16, "decoder_depth": 2, "decoder_num_heads": 4}
WORDS = {"patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 0, "pos_embed": "sincos"}


def ours(img_size=(16, 16), norm_pix_loss=False, mask_ratio=0.75, **words):
    encoder = create_model("vit_tiny_patch16_224", img_size=img_size, **WORDS | words)
    return randomise(MAE(encoder, **DECODER, norm_pix_loss=norm_pix_loss, mask_ratio=mask_ratio))


def renamed(name):
    """transformers' name -> ours; q, k and v come as "qkv.0" to "qkv.2"."""
    for there, here in {
        "vit.embeddings.patch_embeddings.projection": "encoder.patch_embed.proj",
        "vit.embeddings.cls_token": "encoder.cls_token",
        "vit.embeddings.position_embeddings": "encoder.pos_embed",
        "vit.layernorm": "encoder.norm",
        "vit.layers": "encoder.blocks",
        "decoder.decoder_layers": "decoder_blocks",
        "decoder.": "",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.o_proj": "attn.proj",
        "attention.q_proj": "attn.qkv.0",
        "attention.k_proj": "attn.qkv.1",
        "attention.v_proj": "attn.qkv.2",
    }.items():
        name = name.replace(there, here)
    return name


def in_our_names(theirs):
    """{transformers' name: tensor} -> {our name: tensor}."""
    named = {renamed(name): x for name, x in theirs.items()}
    for name in [name for name in named if "qkv.0" in name]:
        packed = [named.pop(name.replace("qkv.0", f"qkv.{i}")) for i in range(3)]
        named[name.replace("qkv.0", "qkv")] = torch.cat(packed)
    return named


def pair(img_size=(16, 16), norm_pix_loss=False, mask_ratio=0.75, patch_size=4, in_chans=3, eps=1e-6):
    config = ViTMAEConfig(
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=96,
        layer_norm_eps=eps,
        image_size=img_size,
        patch_size=patch_size,
        num_channels=in_chans,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=64,
        mask_ratio=mask_ratio,
        norm_pix_loss=norm_pix_loss,
    )
    theirs = randomise(ViTMAEForPreTraining(config))
    # Non-square images pass its checks on this path only, which would resize the positions, a square of them.
    theirs.vit.embeddings.interpolate_pos_encoding = lambda *_: theirs.vit.embeddings.position_embeddings
    model = ours(img_size, norm_pix_loss, mask_ratio, patch_size=patch_size, in_chans=in_chans)
    model.load_state_dict(in_our_names(theirs.state_dict()))
    return model, theirs


CASES = {  # what -> words of pair, batch; transformers starts only with a square number of patches
    "native": ({}, 3),
    "batch 1": ({}, 1),
    "norm_pix": ({"norm_pix_loss": True}, 3),
    "half": ({"mask_ratio": 0.5}, 2),
    "one patch kept": ({"mask_ratio": 0.9}, 2),
    "0.3, rounded down": ({"mask_ratio": 0.3, "norm_pix_loss": True}, 2),
    "wide": ({"img_size": (8, 32), "norm_pix_loss": True}, 2),
    "tall": ({"img_size": (32, 8)}, 3),
    "odd patch, grey": ({"img_size": (21, 21), "patch_size": 7, "in_chans": 1, "norm_pix_loss": True}, 2),
}


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_loss_prediction_mask_and_gradients_are_transformers(what, mode):
    words, batch = CASES[what]
    model, theirs = pair(**words)
    model.train(mode == "train"), theirs.train(mode == "train")
    images = normal(batch, words.get("in_chans", 3), *words.get("img_size", (16, 16)))
    noise = torch.rand(batch, model.encoder.patch_embed.num_patches, generator=torch.Generator().manual_seed(3))
    loss, prediction, mask = model(images, noise)
    reference = theirs(images, noise, interpolate_pos_encoding=True)
    assert_equal(loss, reference.loss, "loss")
    assert_equal(prediction, reference.logits, "prediction")
    assert torch.equal(mask, reference.mask)

    names = {name: p for name, p in model.named_parameters() if p.requires_grad}
    their_names = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
    mine = gradients((loss, prediction), [images, *names.values()])
    there = gradients((reference.loss, reference.logits), [images, *their_names.values()])
    assert_equal(mine[0], there[0], "the images' gradient")
    there = in_our_names(dict(zip(their_names, there[1:])))
    assert there.keys() == names.keys()  # the fixed positions get none on either side
    assert_equal(mine[1:], [there[name] for name in names], "gradients")


def test_float32_is_as_near_as_float32_can_be():
    model, theirs = pair(norm_pix_loss=True)
    model.float(), theirs.float()
    images, noise = normal(2, 3, 16, 16, grad=False).float(), torch.rand(2, 16)
    loss, prediction, _ = model(images, noise)
    reference = theirs(images, noise)
    assert_equal(loss, reference.loss, "loss", 1e-5)
    assert_equal(prediction, reference.logits, "prediction", 1e-5)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vit_base_patch16_224", {}),
        ("vit_large_patch16_224", {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}),
    ],
)
def test_published_models_have_transformers_parameters(name, sizes):
    sizes |= {"intermediate_size": 4096} if sizes else {}
    with torch.device("meta"):
        model = MAE(create_model(name, pos_embed="sincos", num_classes=0))
        theirs = ViTMAEForPreTraining(ViTMAEConfig(**sizes))
    shapes = {name: x.shape for name, x in model.state_dict().items()}
    assert shapes == {name: x.shape for name, x in in_our_names(theirs.state_dict()).items()}
    for trained in (False, True):
        count = [sum(p.numel() for p in m.parameters() if p.requires_grad or not trained) for m in (model, theirs)]
        assert count[0] == count[1]
    if not sizes:
        assert sum(p.numel() for p in model.parameters()) == 111_907_840
        assert model.norm_pix_loss is theirs.config.norm_pix_loss and model.mask_ratio == theirs.config.mask_ratio


@torch.no_grad()
def test_published_base_model_in_float32():
    torch.manual_seed(0)
    theirs = ViTMAEForPreTraining(ViTMAEConfig(layer_norm_eps=1e-6)).eval()
    model = MAE(create_model("vit_base_patch16_224", pos_embed="sincos", num_classes=0)).eval()
    state = in_our_names(theirs.state_dict())
    # The tables are not learned: ours must be the published ones, and transformers 5.23 starts with zeros.
    state |= {name: model.get_parameter(name) for name in ("encoder.pos_embed", "decoder_pos_embed")}
    model.load_state_dict(state)
    for name, dim in (("encoder.pos_embed", 768), ("decoder_pos_embed", 512)):
        table = build_2d_sinusoidal_position_embedding(14, 14, dim, cls_token=True).roll(dim // 2, dims=1)
        assert_equal(model.get_parameter(name)[0], table, name, 1e-6)
    theirs.vit.embeddings.position_embeddings.copy_(model.encoder.pos_embed)
    theirs.decoder.decoder_pos_embed.copy_(model.decoder_pos_embed)
    images, noise = torch.rand(1, 3, 224, 224), torch.rand(1, 196)
    loss, prediction, _ = model(images, noise)
    reference = theirs(images, noise)
    assert_equal(loss, reference.loss, "loss", 1e-5)
    assert_equal(prediction, reference.logits, "prediction", 1e-5)


def by_hand(model, images, noise):
    """The paper in loops, image by image: no shuffling and no gather; the encoder's own modules."""
    encoder, P = model.encoder, model.encoder.num_prefix_tokens
    N, losses, predictions, masks = noise.shape[1], [], [], []
    num_keep = int(N * (1 - model.mask_ratio))
    for image, numbers in zip(images, noise):
        kept = sorted(range(N), key=lambda n: numbers[n].item())[:num_keep]
        tokens = encoder.embed(image[None])[0]  # (P+N, C)
        order = [*range(P), *(P + n for n in kept)]
        x = torch.stack([tokens[i] for i in order])[None]
        for block in encoder.blocks:
            x = block(x)
        x = model.decoder_embed(encoder.fc_norm(encoder.norm(x)))[0]
        full = [x[order.index(i)] if i in order else model.mask_token[0, 0] for i in range(P + N)]
        x = torch.stack([token + position for token, position in zip(full, model.decoder_pos_embed[0])])[None]
        for block in model.decoder_blocks:
            x = block(x)
        prediction = model.decoder_pred(model.decoder_norm(x))[0, P:]
        p, columns = encoder.patch_embed.patch_size, encoder.patch_embed.grid_size[1]
        total = 0
        for n in set(range(N)) - set(kept):
            row, column = divmod(n, columns)
            patch = [
                image[c, row * p + y, column * p + x] for y in range(p) for x in range(p) for c in range(len(image))
            ]
            patch = torch.stack(patch)
            if model.norm_pix_loss:
                mean = patch.sum() / len(patch)
                variance = ((patch - mean) ** 2).sum() / (len(patch) - 1)
                patch = (patch - mean) / (variance + 1e-6).sqrt()
            total = total + ((prediction[n] - patch) ** 2).sum() / len(patch)
        losses.append(total / (N - num_keep))
        predictions.append(prediction)
        masks.append(torch.tensor([float(n not in kept) for n in range(N)]))
    return sum(losses) / len(losses), torch.stack(predictions), torch.stack(masks)


@pytest.mark.parametrize("norm_pix_loss", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        {"img_size": (8, 12)},  # six patches, which transformers cannot start with
        {"img_size": (12, 8), "pos_embed": "learn"},
        {"img_size": (8, 12), "pos_embed": "learn", "reg_tokens": 2},
        {"img_size": (8, 12), "class_token": False, "global_pool": "avg"},
        {"img_size": (8, 12), "pos_embed": "none", "pre_norm": True, "in_chans": 1},
    ],
    ids=str,
)
def test_other_encoders_are_the_paper_by_hand(words, norm_pix_loss):
    model = ours(norm_pix_loss=norm_pix_loss, mask_ratio=0.6, **words)
    images, noise = normal(2, words.get("in_chans", 3), *words["img_size"]), normal(2, 6, seed=3, grad=False)
    mine, reference = model(images, noise), by_hand(model, images, noise)
    assert_equal(mine[:2], reference[:2])
    assert torch.equal(mine[2], reference[2])
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert_equal(
        gradients(mine[:2], [images, *parameters]), gradients(reference[:2], [images, *parameters]), "gradients"
    )


def test_masking_by_hand():
    noise = torch.tensor([[0.3, 0.1, 0.9, 0.2], [4.0, 3.0, 2.0, 1.0]])
    ids_keep, ids_restore, mask = random_masking(noise, 0.5)
    assert ids_keep.tolist() == [[1, 3], [3, 2]]
    assert ids_restore.tolist() == [[2, 0, 3, 1], [3, 2, 1, 0]]
    assert mask.tolist() == [[1, 0, 1, 0], [1, 1, 0, 0]] and mask.dtype == torch.float32
    for ratio, kept in {0.0: 4, 0.2: 3, 0.25: 3, 0.75: 1, 0.8: 0}.items():
        ids_keep, _, mask = random_masking(noise, ratio)
        assert ids_keep.shape == (2, kept) and mask.sum() == 2 * (4 - kept)
    tokens = normal(5, 49, 2)
    ids_keep, ids_restore, mask = random_masking(normal(5, 49, seed=2, grad=False), 0.7)
    kept = tokens.take_along_dim(ids_keep[:, :, None], dim=1)
    back = F.pad(kept, (0, 0, 0, 49 - kept.shape[1])).take_along_dim(ids_restore[:, :, None], dim=1)
    assert torch.equal(back, tokens * (1 - mask[:, :, None]))


def test_loss_is_vit_pytorchs_for_the_same_prediction(monkeypatch):
    """vit_pytorch's MAE has another decoder and another order of pixels, but the same mean over the removed."""
    torch.manual_seed(0)
    vit = TheirViT(image_size=16, patch_size=4, num_classes=2, dim=8, depth=1, heads=2, mlp_dim=8, pool="mean")
    theirs = TheirMAE(encoder=vit, decoder_dim=8, masking_ratio=0.75)
    images, answers = normal(2, 3, 16, 16, grad=False).float(), {}
    noise = torch.rand(2, 16)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: noise)  # theirs removes the smallest
    theirs.to_pixels.register_forward_hook(lambda *words: answers.update(prediction=words[-1]))
    loss = theirs(images)
    _, _, mask = random_masking(-noise, 0.75)
    removed = noise.argsort(dim=1)[:, :12]
    prediction = torch.zeros(2, 16, 48).scatter(1, removed[:, :, None].expand(-1, -1, 48), answers["prediction"])
    assert_equal(mae_loss(prediction, theirs.to_patch(images), mask), loss, "loss", 1e-6)
    assert_equal(mae_target(images, 4), theirs.to_patch(images), "the order (p, p, c), which is theirs too")


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_reconstruction_of_a_perfect_prediction_is_the_image(norm_pix_loss):
    images = normal(2, 3, 8, 12, grad=False)
    target = mae_target(images, 4, norm_pix_loss)
    _, _, mask = random_masking(torch.rand(2, 6), 0.5)
    masked, filled = reconstruct(images, target, mask, 4, norm_pix_loss)
    assert_equal(filled, images, "reconstruction")
    removed = mask.view(2, 1, 2, 3).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(masked, images * (1 - removed))
    _, filled = reconstruct(images, target + 1, mask, 4)
    if not norm_pix_loss:
        assert_equal(filled, images + removed, "only removed patches change")
    assert mae_loss(target, target, mask) == 0 and math.isnan(mae_loss(target, target, 0 * mask))


def test_a_published_checkpoint_draws_transformers_picture():
    model, theirs = pair(norm_pix_loss=False)
    images, noise = normal(1, 3, 16, 16, grad=False), torch.rand(1, 16)
    _, prediction, mask = model(images, noise)
    everything = torch.ones_like(mask)
    _, picture = reconstruct(images, prediction, everything, 4)
    assert_equal(picture, theirs.unpatchify(prediction, (16, 16)), "the whole prediction as a picture")
