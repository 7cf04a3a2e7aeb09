"""`load_weights` where grids or windows differ: positions and bias tables are resized as their libraries do it."""

from functools import partial

import pytest
import torch
import torchvision
from timm.layers import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple
from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings

from tests.reference.compare import assert_equal
from tests.reference.peers import (
    hf_mae,
    our_cct,
    our_mae,
    our_swin,
    ours,
    their_cct,
    timms,
    torchvision_swin,
    torchvision_vit,
    twins,
)
from tests.reference.twins import randomised
from vit_edu import layers, load_weights


@pytest.mark.parametrize("words", [{"img_size": 28}, {"img_size": (8, 20)}, {"img_size": 8, "reg_tokens": 4}, {}])
def test_positions_are_resized_as_timm_does_it(words):
    theirs = randomised(timms(**words | {"img_size": 20}))
    model = ours(**words).double()
    load_weights(model, theirs.state_dict(), resize_positions=True)
    P, grid = model.num_prefix_tokens, model.patch_embed.grid_size
    expected = resample_abs_pos_embed(theirs.pos_embed, grid, num_prefix_tokens=P)
    assert torch.equal(model.pos_embed, expected)


def test_positions_of_another_grid_than_a_square():
    theirs, model = randomised(timms(img_size=(24, 40))), ours(img_size=(16, 32)).double()
    load_weights(model, theirs.state_dict(), resize_positions=(6, 10))
    assert torch.equal(model.pos_embed, resample_abs_pos_embed(theirs.pos_embed, (4, 8), (6, 10)))


def test_as_many_positions_in_another_grid():
    theirs, model = randomised(timms()), ours(img_size=(8, 32)).double()
    load_weights(model, theirs.state_dict(), resize_positions=(4, 4))
    assert torch.equal(model.pos_embed, resample_abs_pos_embed(theirs.pos_embed, (2, 8)))
    theirs = randomised(timms(img_size=(8, 32)))
    load_weights(model, theirs.state_dict())
    assert torch.equal(model.pos_embed, theirs.pos_embed)


FITTING = {  # what -> (source, theirs, ours) of one grid, whose numbers could be taken for another
    "registers": (
        "timm",
        partial(timms, img_size=12, reg_tokens=4, no_embed_class=True),
        partial(ours, img_size=12, reg_tokens=4),
    ),
    "wide": ("timm", partial(timms, img_size=(8, 32)), partial(ours, img_size=(8, 32))),
    "a wide window": (
        "torchvision",
        partial(torchvision.models.SwinTransformer, [2, 2], 8, [2], [1], [2, 14], num_classes=7),
        partial(our_swin, depths=(2,), num_heads=(1,), window_size=(2, 14)),
    ),
}


@pytest.mark.parametrize("what", FITTING)
def test_what_fits_is_not_resized(what):
    source, their_build, our_build = FITTING[what]
    theirs = randomised(their_build())
    plain, asked = (
        load_weights(our_build(), theirs.state_dict(), source, resize_positions=resize) for resize in (False, True)
    )
    assert all(torch.equal(x, asked.state_dict()[name]) for name, x in plain.state_dict().items())


def test_tables_of_another_window_that_is_no_square():
    theirs = randomised(torchvision.models.SwinTransformer([2, 2], 8, [2], [1], [4, 8], num_classes=7))
    words = {"depths": (2,), "num_heads": (1,)}
    model = our_swin(**words, window_size=(8, 8)).double()
    load_weights(model, theirs.state_dict(), "torchvision", resize_positions=(4, 8))
    table = theirs.features[1][0].attn.relative_position_bias_table
    grid = table.T.reshape(1, 1, 7, 15).float()
    wanted = nn.functional.interpolate(grid, (15, 15), mode="bicubic").double().flatten()[:, None]
    assert_equal(model.layers[0].blocks[0].attn.relative_position_bias_table, wanted, "table", 1e-12)


def test_ccts_positions_are_resized_as_its_authors_do():
    theirs, model = randomised(their_cct()), our_cct(img_size=24).double()
    load_weights(model, theirs.state_dict(), "vit_pytorch", resize_positions=True)
    old = theirs.classifier.positional_emb.float().reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
    wanted = nn.functional.interpolate(old, (6, 6), mode="bilinear").flatten(2).transpose(1, 2).double()
    assert_equal(model.pos_embed, wanted, "positions", 1e-12)


def test_half_precision_is_resized_in_full():
    state = randomised(timms()).half().state_dict()
    half, full = (
        load_weights(ours(img_size=24), {k: x.to(dtype) for k, x in state.items()}, resize_positions=True)
        for dtype in (torch.float16, torch.float32)
    )
    assert torch.equal(half.pos_embed, full.pos_embed)


def test_positions_without_those_of_the_registers():
    theirs = randomised(timms(img_size=24, reg_tokens=4, no_embed_class=True))
    model = ours(reg_tokens=4).double()
    load_weights(model, theirs.state_dict(), resize_positions=True)
    assert torch.equal(model.pos_embed[:, 5:], resample_abs_pos_embed(theirs.pos_embed, (4, 4), num_prefix_tokens=0))
    assert model.pos_embed[:, :5].eq(0).all()


@pytest.mark.parametrize("what", ["vit", "deit with teacher", "CLIPVisionModel", "ViTMAEModel"])
@pytest.mark.parametrize("img_size", [24, 8, (12, 20)])
def test_positions_are_resized_as_transformers_does_it(what, img_size):
    pair, theirs, model, _ = twins(f"transformers {what}")
    words = {"img_size": img_size} | ({"norm_eps": 1e-12} if what in ("vit", "deit with teacher") else {})
    model = pair.ours.func(*pair.ours.args, **pair.ours.keywords | words)
    load_weights(model, theirs.state_dict(), source="transformers", resize_positions=True)
    embeddings = next(module for name, module in theirs.float().named_modules() if name.endswith("embeddings"))
    expected = embeddings.interpolate_pos_encoding(torch.zeros_like(model.pos_embed), *model.patch_embed.img_size)
    assert_equal(model.pos_embed, expected, tolerance=1e-6)


@pytest.mark.parametrize("img_size", [24, 12])
def test_positions_are_resized_as_torchvision_does_it(img_size):
    theirs, model = randomised(torchvision_vit()).float(), ours(img_size=img_size)
    load_weights(model, theirs.state_dict(), source="torchvision", resize_positions=True)
    expected = interpolate_embeddings(img_size, 4, theirs.state_dict())["encoder.pos_embedding"]
    assert torch.equal(model.pos_embed, expected)


def test_both_of_maes_positions_are_resized():
    theirs, model = randomised(hf_mae()), our_mae(img_size=24).double()
    load_weights(model, theirs.state_dict(), source="transformers", resize_positions=True)
    for ours_, theirs_ in [
        (model.encoder.pos_embed, theirs.vit.embeddings.position_embeddings),
        (model.decoder_pos_embed, theirs.decoder.decoder_pos_embed),
    ]:
        assert torch.equal(ours_, layers.resize_positions(theirs_, (4, 4), (6, 6), antialias=False))


@pytest.mark.parametrize("window_size", [(2, 2), (7, 7), (2, 8)])
def test_bias_tables_are_resized_for_another_window(window_size):
    theirs = randomised(torchvision_swin())
    model = our_swin(window_size=window_size).double()
    with pytest.raises(ValueError, match="resize_positions=True"):
        load_weights(model, theirs.state_dict(), source="torchvision")
    load_weights(model, theirs.state_dict(), source="torchvision", resize_positions=True)
    for n, m in [(0, 0), (1, 1), (2, 0)]:
        table = theirs.features[2 * n + 1][m].attn.relative_position_bias_table.detach().float()
        rows = (2 * window_size[0] - 1) * (2 * window_size[1] - 1)
        expected = resize_rel_pos_bias_table_simple(table, window_size, (rows, table.shape[1]))
        assert_equal(model.layers[n].blocks[m].attn.relative_position_bias_table.float(), expected, tolerance=1e-6)
