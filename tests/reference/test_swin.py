"""Swin against torchvision at any size, against timm where sizes divide, and window attention against a brute force."""

import re
from itertools import product

import pytest
import timm
import torch
import torchvision
from torch import nn

from tests.reference.compare import assert_equal, gradients, normal, randomise
from tests.reference.twins import assert_twins, count, counted, randomised
from vit_edu import layers
from vit_edu.layers import WindowAttention, shift_mask
from vit_edu.models import SwinTransformer, create_model, swin

SMALL = {
    "patch_size": 2,
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "window_size": (4, 4),
    "num_classes": 7,
}


def torchvisions_name(name):
    """torchvision's name -> ours."""
    name = name.replace("features.0.0.", "patch_embed.proj.").replace("features.0.2.", "patch_embed.norm.")
    name = name.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
    name = re.sub(r"features\.(\d*[13579])\.", lambda m: f"layers.{int(m[1]) // 2}.blocks.", name)
    return re.sub(r"features\.(\d+)\.", lambda m: f"layers.{int(m[1]) // 2}.downsample.", name)


def timms_name(name):
    return name.replace("head.fc.", "head.")


def torchvisions(words):
    words = SMALL | words
    sides = {"patch_size": [words["patch_size"]] * 2, "window_size": list(words["window_size"])}
    sizes = {name: words[name] for name in ("embed_dim", "num_classes")}
    sizes |= {name: list(words[name]) for name in ("depths", "num_heads")} | {"mlp_ratio": words.get("mlp_ratio", 4.0)}
    return torchvision.models.SwinTransformer(**sizes, **sides, stochastic_depth_prob=0.0)


def copied(ours, theirs, rename):
    """Ours with the parameters of theirs, all of them and no other."""
    ours.double().load_state_dict({rename(name): value for name, value in theirs.named_parameters()})
    return ours


CASES = {  # what -> (words, image size, batch); a grid of tokens is half as large, and halves again
    "native": ({}, (32, 32), 3),
    "one image": ({}, (32, 32), 1),
    "wide": ({}, (16, 48), 2),
    "no multiple of the window": ({}, (36, 22), 3),
    "odd grids": ({}, (14, 26), 2),
    "no multiple of the patch": ({}, (33, 35), 1),
    "one window": ({}, (8, 8), 3),
    "smaller than a window": ({}, (6, 4), 2),
    "one token": ({}, (2, 3), 1),
    "low": ({}, (6, 32), 3),
    "narrow": ({}, (40, 8), 1),
    "a low window": ({"window_size": (2, 5)}, (24, 26), 2),
    "an odd window": ({"window_size": (3, 3)}, (32, 32), 2),
    "windows of one": ({"window_size": (1, 1)}, (8, 12), 2),
    "three stages": ({"depths": (1, 3, 2), "num_heads": (1, 2, 4)}, (44, 44), 1),
    "one stage": ({"depths": (3,), "num_heads": (4,)}, (20, 12), 2),
    "patch 4, window 7": ({"patch_size": 4, "window_size": (7, 7), "mlp_ratio": 2.0}, (64, 40), 2),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("case", CASES)
def test_torchvisions_weights_give_torchvisions_answer(case, mode):
    words, size, batch = CASES[case]
    theirs = randomised(torchvisions(words)).train(mode == "train")
    ours = copied(SwinTransformer(size, **SMALL | words), theirs, torchvisions_name).train(mode == "train")
    assert_twins(ours, theirs, normal(batch, 3, *size, grad=False), torchvisions_name)
    with torch.inference_mode():  # where the kernel is the fused one
        images = normal(batch, 3, *size, grad=False)
        assert_equal(ours(images), theirs(images), "inference", 1e-10)


TIMMS = {  # ours words, which are timm's
    "native": {},
    "wide": {"img_size": (16, 64), "depths": (2, 1)},
    "one channel": {"in_chans": 1},
    "features": {"num_classes": 0},
    "no qkv bias": {"qkv_bias": False},
    "a thin MLP": {"mlp_ratio": 1.5},
    "three stages": {"depths": (2, 2, 3), "num_heads": (1, 2, 2)},
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("what", TIMMS)
def test_timms_weights_give_timms_answer(what, mode):
    words = {"img_size": (32, 32)} | SMALL | TIMMS[what]
    theirs = randomised(timm.models.SwinTransformer(**words, drop_path_rate=0.0)).train(mode == "train")
    ours = copied(SwinTransformer(**words), theirs, timms_name).train(mode == "train")
    assert_twins(ours, theirs, normal(3, words.get("in_chans", 3), *words["img_size"], grad=False), timms_name)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_published_size(dtype, tolerance):
    theirs = randomised(torchvision.models.swin_t()).eval()
    ours = copied(create_model("swin_tiny_patch4_window7_224"), theirs, torchvisions_name).eval()
    images = normal(1, 3, 224, 224, grad=False).to(dtype)
    with torch.inference_mode():
        assert_equal(ours.to(dtype)(images), theirs.to(dtype)(images), tolerance=tolerance)


PUBLISHED = {"swin_tiny_patch4_window7_224": 28_288_354}


@pytest.mark.parametrize("name", swin.MODELS)
def test_every_published_name_has_timms_parameters(name):
    with torch.device("meta"):
        ours, theirs = create_model(name), timm.create_model(name)
    shapes = {name: tuple(parameter.shape) for name, parameter in ours.named_parameters()}
    assert shapes == {timms_name(name): tuple(parameter.shape) for name, parameter in theirs.named_parameters()}
    assert count(ours) == count(theirs) == PUBLISHED.get(name, count(theirs))
    assert {m.eps for m in [*ours.modules(), *theirs.modules()] if isinstance(m, nn.LayerNorm)} == {1e-5}
    windows = [[part.attn.window_size for part in stage.blocks] for stage in theirs.layers]
    shifts = [[tuple(part.shift_size) for part in stage.blocks] for stage in theirs.layers]
    assert [[block.attn.window_size for block in stage.blocks] for stage in ours.layers] == windows
    # timm knows its image and drops the last stage's shift there and then, ours when it sees one window
    assert [[block.attn.shift_size for block in stage.blocks] for stage in ours.layers[:-1]] == shifts[:-1]


def test_drop_path_rates_are_timms():
    words = SMALL | {"depths": (2, 3), "drop_path_rate": 0.3}
    ours, theirs = SwinTransformer(32, **words), timm.models.SwinTransformer(32, **words)
    mine = [block.drop_path1.rate for stage in ours.layers for block in stage.blocks]
    assert mine == [getattr(block.drop_path1, "drop_prob", 0.0) for stage in theirs.layers for block in stage.blocks]
    assert mine[0] == 0 and mine[-1] == pytest.approx(0.3)


def may_attend(grid, window, shift):
    """Brute force over all pairs of tokens of a map, (N, N): the same window after the shift, and still side by side as
    before it: no border of the image has come between them."""
    places = list(product(range(grid[0]), range(grid[1])))  # (row, column) after the shift
    before = [((r + shift[0]) % grid[0], (c + shift[1]) % grid[1]) for r, c in places]
    allowed = torch.zeros(len(places), len(places), dtype=torch.bool)
    for (i, a), (j, b) in product(enumerate(places), enumerate(places)):
        together = all(a[k] // window[k] == b[k] // window[k] for k in (0, 1))
        neighbours = all(a[k] - b[k] == before[i][k] - before[j][k] for k in (0, 1))
        allowed[i, j] = together and neighbours
    return allowed


GRIDS = [  # (grid, window, shift)
    ((8, 8), (4, 4), (2, 2)),
    ((6, 9), (3, 3), (1, 1)),
    ((4, 12), (4, 4), (0, 2)),
    ((12, 4), (4, 4), (2, 0)),
    ((8, 6), (4, 2), (3, 1)),
    ((14, 7), (7, 7), (3, 0)),
    ((4, 4), (2, 2), (1, 1)),
    ((6, 6), (2, 3), (0, 0)),
]


@pytest.mark.parametrize("grid, window, shift", GRIDS, ids=str)
def test_the_mask_is_that_of_a_brute_force_over_all_pairs(grid, window, shift):
    allowed = may_attend(grid, window, shift)
    numbers = torch.arange(grid[0] * grid[1]).view(1, *grid)  # of tokens, after the shift
    for mask, inside in zip(shift_mask(grid, window, shift), layers.window_partition(numbers, window)[0], strict=True):
        assert torch.equal(mask == 0, allowed[inside][:, inside])
        assert torch.equal(mask == -100, ~allowed[inside][:, inside])


class BruteForce(nn.Module):
    """(S)W-MSA as plain attention among all tokens, with a mask of all pairs and a bias looked up pair by pair."""

    def __init__(self, dim, num_heads, window_size, shift_size):
        super().__init__()
        self.num_heads, self.window, self.shift = num_heads, window_size, shift_size
        rows = (2 * window_size[0] - 1) * (2 * window_size[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, num_heads))
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        (B, H, W, C), (Wh, Ww) = x.shape, self.window
        shift = [0 if window >= side else s for window, side, s in zip(self.window, (H, W), self.shift)]
        rows, columns = Wh * ((H + Wh - 1) // Wh), Ww * ((W + Ww - 1) // Ww)
        padded = x.new_zeros(B, rows, columns, C)
        padded[:, :H, :W] = x
        order = torch.arange(rows * columns).view(rows, columns).roll([-s for s in shift], (0, 1)).flatten()
        allowed = may_attend((rows, columns), self.window, shift)
        places = list(product(range(rows), range(columns)))
        bias = self.relative_position_bias_table.new_full((self.num_heads, len(places), len(places)), float("-inf"))
        for i, j in allowed.nonzero().tolist():
            (y, x), (v, u) = places[i], places[j]
            bias[:, i, j] = self.relative_position_bias_table[(y - v + Wh - 1) * (2 * Ww - 1) + x - u + Ww - 1]
        tokens = self.qkv(padded.flatten(1, 2)[:, order])
        q, k, v = tokens.view(B, -1, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        self.weights = torch.softmax(q @ k.mT / (C // self.num_heads) ** 0.5 + bias, dim=-1)  # (B, h, N, N)
        mixed = self.proj((self.weights @ v).transpose(1, 2).flatten(2))
        back = torch.empty_like(mixed)
        back[:, order] = mixed
        return back.view(B, rows, columns, C)[:, :H, :W]


MAPS = {  # grid -> window and shift
    (8, 8): ((4, 4), (2, 2)),
    (7, 10): ((4, 4), (2, 2)),
    (5, 6): ((3, 2), (1, 1)),
    (3, 9): ((4, 4), (2, 2)),
    (4, 4): ((4, 4), (2, 2)),
    (6, 2): ((2, 3), (1, 2)),
    (2, 3): ((7, 7), (0, 0)),
}


@pytest.mark.parametrize("grid", MAPS, ids=str)
def test_window_attention_is_attention_with_a_mask_over_all_pairs(grid):
    window, shift = MAPS[grid]
    ours = randomise(WindowAttention(8, 2, window, shift))
    theirs = BruteForce(8, 2, window, shift).double()
    theirs.load_state_dict(ours.state_dict())
    assert_twins(ours, theirs, normal(2, *grid, 8, grad=False), tolerance=1e-12)


@pytest.mark.parametrize("shift", [(0, 0), (2, 2)], ids=str)
def test_a_token_feels_its_window_and_its_region_alone(shift):
    attention, x = randomise(WindowAttention(4, 2, (4, 4), shift)), normal(1, 8, 8, 4)
    order = torch.arange(64).view(8, 8).roll((-shift[0], -shift[1]), (0, 1)).flatten()
    out, allowed = attention(x).flatten(1, 2)[0, order], may_attend((8, 8), (4, 4), shift)
    for i in range(64):
        felt = gradients(out[i], [x])[0].flatten(1, 2)[0, order].ne(0).any(-1)
        assert torch.equal(felt, allowed[i]), i


@pytest.mark.parametrize("size", [(32, 32), (36, 22), (6, 32)], ids=str)
def test_a_learners_attention_runs_published_weights(size):
    theirs = randomised(torchvisions({})).eval()
    ours = copied(SwinTransformer(size, **SMALL, attention=BruteForce), theirs, torchvisions_name).eval()
    assert isinstance(ours.layers[1].blocks[1].attn, BruteForce)
    assert_twins(ours, theirs, normal(1, 3, *size, grad=False), torchvisions_name)


@pytest.mark.parametrize("size", [(32, 32), (36, 22), (6, 8)], ids=str)
def test_intermediates_are_torchvisions(size):
    theirs, images = randomised(torchvisions({})).eval(), normal(2, 3, *size)
    ours = copied(SwinTransformer(size, **SMALL), theirs, torchvisions_name).eval()
    wanted, inputs = {}, {}
    for name, module in theirs.named_modules():
        if re.fullmatch(r"norm|features\.0|features\.[13]|features\.[13]\.[01]", name):
            module.register_forward_hook(lambda module, given, out, name=name: wanted.update({name: out}))
        if name.endswith(".attn"):
            module.register_forward_hook(lambda module, given, out, name=name: inputs.update({name: given[0]}))
    logits, seen = ours(images, return_intermediates=True)
    assert_equal(logits, theirs(images), "logits", 1e-10)
    names = {"norm": "norm", "features.0": "patch_embed", "features.1": "layers.0", "features.3": "layers.1"}
    names |= {f"features.{2 * i + 1}.{j}": f"layers.{i}.blocks.{j}" for i, j in product((0, 1), (0, 1))}
    for name, ours_name in names.items():
        assert_equal(seen[ours_name], wanted[name], ours_name, 1e-10)
    in_order = [
        f"layers.{i}{rest}"
        for i in (0, 1)
        for rest in (".blocks.0.attn", ".blocks.0", ".blocks.1.attn", ".blocks.1", "")
    ]
    assert list(seen) == ["patch_embed", *in_order, "norm"]
    for name, x in inputs.items():
        ours_name = torchvisions_name(f"{name}.").removesuffix(".")
        attention = ours.get_submodule(ours_name)
        by_hand = BruteForce(attention.dim, attention.num_heads, (4, 4), attention.shift_size).double()
        by_hand.load_state_dict(attention.state_dict())
        by_hand(x)
        rows, columns = (-(-side // 4) * 4 for side in x.shape[1:3])
        inside = layers.window_partition(torch.arange(rows * columns).view(1, rows, columns), (4, 4))[0]  # (nW, n)
        weights = torch.stack([by_hand.weights[..., part, :][..., part] for part in inside], dim=1)
        assert_equal(seen[ours_name], weights, ours_name, 1e-10)


@pytest.mark.parametrize("wanted", [True, False])
def test_fused_where_weights_are_not_wanted(wanted, monkeypatch):
    fused, explicit = (nn.functional, "scaled_dot_product_attention"), (layers.window, "window_attention")
    counts = counted(monkeypatch, fused=fused, explicit=explicit)
    model = SwinTransformer(32, **SMALL)
    with torch.no_grad():
        model(torch.rand(2, 3, 32, 32), return_intermediates=wanted)
    assert counts == ({"fused": 0, "explicit": 4} if wanted else {"fused": 4, "explicit": 0})


def test_weights_start_as_timms_do():
    torch.manual_seed(0)
    words = {"img_size": 64, "embed_dim": 96, "depths": (1, 1), "num_heads": (3, 6), "window_size": (4, 4)}
    state = {timms_name(name): value for name, value in timm.models.SwinTransformer(**words).named_parameters()}
    for name, value in SwinTransformer(**words).named_parameters():
        if name.endswith("bias") and "patch_embed.proj" not in name:
            assert value.eq(0).all() and state[name].eq(0).all(), name
        else:
            assert value.std().item() == pytest.approx(state[name].std().item(), rel=0.15, abs=1e-6), name
