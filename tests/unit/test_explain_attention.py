"""explain's attention against the definitions, token by token in plain loops."""

import math

import pytest
import torch
from torch import nn

import vit_edu
from tests.sentences import assert_sentence
from vit_edu.explain import attention_distance, attention_entropy, attention_maps, rollout
from vit_edu.models import CLIP, DINO, MAE, SwinTransformer, TextTransformer

SMALL = {"embed_dim": 12, "depth": 2, "num_heads": 3, "num_classes": 5}


def weights_of(B, h, N, seed=0):
    return torch.randn(B, h, N, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)


def images_of(model, B=2):
    size = getattr(model, "img_size", None) or model.patch_embed.img_size
    return torch.randn(B, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def vit(**words):
    size = {"img_size": (12, 20), "patch_size": 4}
    return vit_edu.create_model("vit_tiny_patch16_224", **(SMALL | size | words)).double()


def tower(part):
    text = TextTransformer(context_length=8, embed_dim=12, depth=1, num_heads=3)
    return {"clip": CLIP(vit(), text, 8), "mae": MAE(vit(), 12, 1, 3), "dino": DINO(vit(), 8, 8, 8)}[part].double()


GLOBAL = {
    "ViT": (vit, (3, 5), 1),
    "no class token": (lambda: vit(class_token=False, global_pool="avg"), (3, 5), 0),
    "registers": (lambda: vit(reg_tokens=4), (3, 5), 5),
    "DeiT": (
        lambda: vit_edu.create_model(
            "deit_tiny_distilled_patch16_224", img_size=(12, 20), patch_size=4, **SMALL
        ).double(),
        (3, 5),
        2,
    ),
    "CCT": (lambda: vit_edu.create_model("cct_2_3x2_32", img_size=(12, 20)).double(), (3, 5), 0),
    "hybrid": (lambda: vit_edu.create_model("vit_tiny_resnet18_224", img_size=(48, 80), **SMALL).double(), (3, 5), 1),
    "CLIP's tower": (lambda: tower("clip"), (3, 5), 1),
    "MAE's encoder": (lambda: tower("mae"), (3, 5), 1),
    "DINO's teacher": (lambda: tower("dino"), (3, 5), 1),
}


@pytest.mark.parametrize("build, grid, prefix", GLOBAL.values(), ids=GLOBAL)
def test_global_attention_comes_as_the_model_has_it(build, grid, prefix):
    model = build()
    seeing = {CLIP: "visual", MAE: "encoder", DINO: "teacher.backbone"}.get(type(model))
    seeing = model.get_submodule(seeing) if seeing else model
    images = images_of(seeing)
    maps = attention_maps(model, images)
    assert [one.name for one in maps] == ["blocks.0", "blocks.1"]
    with torch.no_grad():
        _, seen = seeing.eval()(images, return_intermediates=True)
    for one in maps:
        assert (one.grid_size, one.prefix) == (grid, prefix) and not one.weights.requires_grad
        assert torch.equal(one.weights, seen[f"{one.name}.attn"])
        assert one.weights.shape[-1] == prefix + math.prod(grid)


def test_modes_come_back_also_after_an_error():
    model = vit(drop_path_rate=0.5).train()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    first, again = (attention_maps(model, images_of(model))[1].weights for _ in range(2))
    assert torch.equal(first, again)  # no drop path
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ValueError):
        attention_maps(model, torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    assert [module.training for module in model.modules()] == modes


def unwindowed(windows, grid, window, shift):
    """(nW, h, n, n) -> (h, N, N): for each pair of tokens, the window and the place in it where each of them stands."""
    rows, columns = ((side + w - 1) // w * w for side, w in zip(grid, window))
    shift = [0 if side <= w else s for side, w, s in zip(grid, window, shift)]

    def stand(token):
        y, x = divmod(token, grid[1])
        y, x = (y - shift[0]) % rows, (x - shift[1]) % columns
        return y // window[0] * (columns // window[1]) + x // window[1], y % window[0] * window[1] + x % window[1]

    whole = torch.zeros(windows.shape[1], math.prod(grid), math.prod(grid), dtype=windows.dtype)
    for query in range(math.prod(grid)):
        for key in range(math.prod(grid)):
            (mine, i), (other, j) = stand(query), stand(key)
            if mine == other:
                whole[:, query, key] = windows[mine, :, i, j]
    return whole


@pytest.mark.parametrize(
    "size, window",
    [((8, 8), (2, 2)), ((7, 9), (3, 3)), ((10, 7), (4, 3)), ((3, 11), (4, 4)), ((5, 5), (7, 7))],
    ids=["whole", "odd", "window not square", "one window high", "one window"],
)
def test_swins_windows_in_place(size, window):
    words = {"patch_size": 1, "num_classes": 3, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4)}
    model = SwinTransformer(img_size=size, window_size=window, **words).double().eval()
    images = images_of(model)
    with torch.no_grad():
        for table in (p for name, p in model.named_parameters() if name.endswith("bias_table")):
            table.normal_()  # places that differ
        _, seen = model(images, return_intermediates=True)
    maps = attention_maps(model, images)
    halved = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    assert [one.grid_size for one in maps] == [size, size, halved, halved]
    assert [one.name for one in maps] == [f"layers.{i}.blocks.{j}" for i in (0, 1) for j in (0, 1)]
    for i, one in enumerate(maps):
        shift = (window[0] // 2, window[1] // 2) if i % 2 else (0, 0)
        for image in range(2):
            wanted = unwindowed(seen[f"{one.name}.attn"][image], one.grid_size, window, shift)
            assert torch.equal(one.weights[image], wanted)
        padded = any(side % w for side, w in zip(one.grid_size, window))
        sums = one.weights.sum(-1)
        assert one.prefix == 0 and sums.max() < 1 + 1e-9 and (padded or sums.min() > 1 - 1e-9)
        if padded and shift == (0, 0):
            assert sums.min() < 0.999  # the rest went to padding; a shift may part that from all others


def test_mobilevits_patches_in_place():
    model = vit_edu.create_model("mobilevit_xxs", img_size=(96, 144), num_classes=3).double().eval()
    images = images_of(model, 1)
    with torch.no_grad():
        _, seen = model(images, return_intermediates=True)
    maps = attention_maps(model, images)
    assert [one.grid_size for one in maps] == [(12, 18)] * 2 + [(6, 10)] * 4 + [
        (4, 6)
    ] * 3  # 6 x 9 and 3 x 5 rounded up
    for one in maps:
        weights, (rows, columns) = seen[f"{one.name}.attn"][0], one.grid_size
        wanted = torch.zeros_like(one.weights[0])
        for query in range(rows * columns):
            for key in range(rows * columns):
                (y, x), (v, u) = divmod(query, columns), divmod(key, columns)
                if (y % 2, x % 2) == (v % 2, u % 2):
                    i, j = (a // 2 * (columns // 2) + b // 2 for a, b in ((y, x), (v, u)))
                    wanted[:, query, key] = weights[y % 2 * 2 + x % 2, :, i, j]
        assert torch.equal(one.weights[0], wanted)


def test_rollout_is_the_product_of_the_layers():
    layers = [weights_of(2, 3, 6, seed) * (0.5 if seed == 1 else 1) for seed in range(3)]  # rows that do not sum to 1
    for image in range(2):
        total = [[float(i == j) for j in range(6)] for i in range(6)]
        for layer in layers:
            mixed = [
                [0.5 * sum(float(layer[image, k, i, j]) for k in range(3)) / 3 + 0.5 * (i == j) for j in range(6)]
                for i in range(6)
            ]
            mixed = [[value / sum(row) for value in row] for row in mixed]
            total = [[sum(mixed[i][k] * total[k][j] for k in range(6)) for j in range(6)] for i in range(6)]
        torch.testing.assert_close(rollout(layers)[image], torch.tensor(total, dtype=torch.float64))
    model = vit()
    maps = attention_maps(model, images_of(model))
    flow = rollout(maps)
    torch.testing.assert_close(flow, rollout([one.weights for one in maps]))
    torch.testing.assert_close(flow.sum(-1), torch.ones(2, 16, dtype=torch.float64))


@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (1, 4)])
@pytest.mark.parametrize("prefix", [0, 1, 3])
@pytest.mark.parametrize("patch_size", [1, 16, (4, 2.5)])
def test_distance_in_loops(grid, prefix, patch_size):
    rows, columns = grid
    weights = weights_of(2, 2, prefix + rows * columns)
    height, width = patch_size if isinstance(patch_size, tuple) else (patch_size, patch_size)
    found = attention_distance(weights, grid, patch_size, prefix)
    for image in range(2):
        for head in range(2):
            means = []
            for query in range(rows * columns):
                row = weights[image, head, prefix + query, prefix:].tolist()
                y, x = divmod(query, columns)
                far = [
                    math.sqrt(((y - key // columns) * height) ** 2 + ((x - key % columns) * width) ** 2)
                    for key in range(rows * columns)
                ]
                means.append(sum(w * d for w, d in zip(row, far)) / sum(row))
            assert found[image, head].item() == pytest.approx(sum(means) / len(means), rel=1e-12)


def test_distance_where_nothing_is_left_for_the_patches():
    weights = torch.zeros(1, 1, 5, 5)
    weights[..., 0] = 1
    assert attention_distance(weights, (2, 2), 8, prefix=1).tolist() == [[0.0]]
    looks_right = torch.zeros(1, 1, 4, 4)
    looks_right[0, 0, [0, 1, 2, 3], [1, 1, 3, 3]] = 1
    assert attention_distance(looks_right, (2, 2), 8).tolist() == [[4.0]]


def test_entropy_in_loops_and_in_bits():
    weights = weights_of(2, 3, 5)
    weights[0, 0, 1] = torch.tensor([0, 0.5, 0, 0.5, 0])
    found = attention_entropy(weights)
    for image in range(2):
        for head in range(3):
            rows = [-sum(w * math.log2(w) for w in row if w) for row in weights[image, head].tolist()]
            assert found[image, head].item() == pytest.approx(sum(rows) / 5, rel=1e-12)
    assert attention_entropy(torch.eye(4)[None, None]).item() == 0
    assert attention_entropy(torch.full((1, 1, 8, 8), 1 / 8)).item() == pytest.approx(3)


def big_swin():
    model = vit_edu.create_model("swin_tiny_patch4_window7_224", depths=(1, 1), num_heads=(3, 6), num_classes=2)
    return attention_maps(model, torch.zeros(1, 3, 224, 224))


@pytest.mark.parametrize(
    "call, error, parts",
    [
        (lambda: attention_maps(vit_edu.create_model("resnet20"), torch.zeros(1, 3, 32, 32)), ValueError, "ResNet"),
        (big_swin, ValueError, "56·x·56 1,024 WindowShiftExplorer"),
        (lambda: attention_maps(vit(), torch.zeros(1, 3, 9, 9).double()), ValueError, "9"),
        (lambda: rollout([]), ValueError, "[]"),
        (lambda: rollout([weights_of(1, 2, 4), weights_of(1, 2, 5)]), ValueError, "(1,·2,·5,·5) one·stage"),
        (lambda: attention_entropy(weights_of(1, 2, 4)[0]), ValueError, "(2,·4,·4) weights[None]"),
        (lambda: attention_distance(weights_of(1, 2, 5), (2, 2)), ValueError, "5·tokens 2·*·2"),
        (lambda: attention_entropy(torch.ones(1, 1, 2, 2, dtype=torch.long)), TypeError, "torch.int64"),
    ],
)
def test_what_does_not_fit_gets_a_sentence(call, error, parts):
    assert_sentence(call, error, parts)


def test_a_model_that_hides_its_weights_says_so():
    class Mean(nn.Module):
        def __init__(self, dim, num_heads):
            super().__init__()

        def forward(self, x):
            return x.mean(1, keepdim=True).expand_as(x)

    with pytest.raises(TypeError, match="return_weights"):
        attention_maps(vit(attention=Mean), torch.zeros(1, 3, 12, 20).double())
