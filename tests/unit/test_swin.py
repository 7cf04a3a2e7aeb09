"""The parts of Swin, one by one: windows, shift, mask, bias index, merging; what is kept; sentences for bad input."""

import copy
import pickle

import pytest
import torch

from tests.sentences import assert_sentence
from vit_edu import layers
from vit_edu.layers import (
    PatchMerging,
    WindowAttention,
    cyclic_shift,
    merge_patches,
    relative_position_index,
    shift_mask,
    window_partition,
    window_reverse,
)
from vit_edu.models import SwinTransformer, create_model

WORDS = {"patch_size": 2, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "num_classes": 5}


@pytest.mark.parametrize(
    "grid, window", [((4, 6), (2, 3)), ((8, 8), (4, 4)), ((3, 5), (1, 5)), ((7, 7), (7, 7))], ids=str
)
def test_windows_and_back(grid, window):
    x = torch.rand(2, *grid, 3, 2)
    windows = window_partition(x, window)
    n, columns = window[0] * window[1], grid[1] // window[1]
    assert windows.shape == (2, grid[0] * grid[1] // n, n, 3, 2)
    for number, part in enumerate(windows.unbind(1)):
        row, column = number // columns * window[0], number % columns * window[1]
        assert torch.equal(part, x[:, row : row + window[0], column : column + window[1]].flatten(1, 2))
    assert torch.equal(window_reverse(windows, window, grid), x)


def test_the_shift_goes_up_and_left_and_back():
    x = torch.arange(12).view(1, 3, 4, 1)
    moved = cyclic_shift(x, (1, 2))
    assert moved[0, :, :, 0].tolist() == [[6, 7, 4, 5], [10, 11, 8, 9], [2, 3, 0, 1]]
    assert torch.equal(cyclic_shift(moved, (-1, -2)), x)
    assert cyclic_shift(x, (0, 0)) is x


def test_the_mask_of_figure_4():
    windows = shift_mask((4, 4), (2, 2), (1, 1))
    assert windows.shape == (4, 4, 4) and windows.dtype == torch.get_default_dtype()
    assert windows[0].eq(0).all()  # no border runs through the first window
    assert windows[1].eq(0).tolist() == [[i % 2 == j % 2 for j in range(4)] for i in range(4)]  # left and right
    assert windows[2].eq(0).tolist() == [[i // 2 == j // 2 for j in range(4)] for i in range(4)]  # above and below
    assert torch.equal(windows[3].eq(0), torch.eye(4, dtype=torch.bool))  # four regions of one token
    assert set(windows.unique().tolist()) == {0.0, -100.0}
    assert shift_mask((4, 4), (2, 2), (1, 1), torch.float64).dtype == torch.float64


@pytest.mark.parametrize("window", [(1, 1), (2, 3), (3, 2), (7, 7)], ids=str)
def test_the_bias_index_is_one_row_for_each_displacement(window):
    index, rows = relative_position_index(window), {}
    places = [(y, x) for y in range(window[0]) for x in range(window[1])]
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            assert rows.setdefault((y - v, x - u), index[i, j].item()) == index[i, j].item()
    assert sorted(rows.values()) == list(range((2 * window[0] - 1) * (2 * window[1] - 1)))
    assert [row for _, row in sorted(rows.items())] == sorted(rows.values())  # dy first, then dx


def test_neighbours_merge_down_the_left_column_then_the_right():
    x = torch.arange(12).view(1, 2, 6, 1)
    assert merge_patches(x).tolist() == [[[[0, 6, 1, 7], [2, 8, 3, 9], [4, 10, 5, 11]]]]
    odd = merge_patches(torch.ones(2, 3, 5, 4))
    assert odd.shape == (2, 2, 3, 16)
    assert odd[0, 1, 2].tolist() == [1] * 4 + [0] * 12  # zeros at the bottom and at the right
    assert PatchMerging(4)(torch.rand(2, 3, 5, 4)).shape == (2, 2, 3, 8)


def test_mask_and_index_are_made_once():
    layers.window._kept.cache_clear()
    model = SwinTransformer(32, **WORDS).eval()
    with torch.inference_mode():
        model(torch.rand(2, 3, 32, 32))
    made = layers.window._kept.cache_info().misses
    assert made == 3  # the index, and the mask of each stage
    model.train()(torch.rand(1, 3, 32, 32)).sum().backward()  # what was made in inference mode can be trained with
    copy.deepcopy(model)(torch.rand(3, 3, 32, 32))
    assert layers.window._kept.cache_info().misses == made
    for side in range(34, 74, 2):  # twenty sizes more
        with torch.no_grad():
            model(torch.rand(1, 3, side, side))
    info = layers.window._kept.cache_info()
    assert info.currsize <= info.maxsize
    assert not any("mask" in name or "index" in name for name in model.state_dict())


def test_any_size_after_any_other():
    """No state is left of another size, dtype or mode."""
    torch.manual_seed(0)
    model = SwinTransformer(32, **WORDS).eval()
    sizes = [(32, 32), (6, 40), (33, 18), (8, 8), (32, 32)]
    with torch.no_grad():
        for size in sizes:
            images = torch.rand(2, 3, *size)
            alone = pickle.loads(pickle.dumps(model))(images)
            torch.testing.assert_close(model(images), alone, rtol=0, atol=0)
            wide = model.double()(images.double())
            torch.testing.assert_close(model.float()(images).double(), wide, rtol=1e-4, atol=1e-5)


def test_masked_weights_cost_no_denormals():
    """exp(-100) in float32 is a denormal number, over which a CPU takes ten times as long; here it is 0."""
    attention = WindowAttention(8, 2, (4, 4), (2, 2))
    _, weights = attention(torch.rand(1, 8, 8, 8), return_weights=True)
    assert weights.eq(0).any() and weights[weights.ne(0)].min() > torch.finfo(torch.float32).tiny
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 2, 16))


def test_paths_agree_in_every_dtype():
    torch.manual_seed(0)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        attention = WindowAttention(8, 2, (4, 4), (2, 2)).to(dtype)
        x = torch.randn(3, 7, 9, 8, dtype=dtype)
        with torch.no_grad():
            fused, (explicit, weights) = attention(x), attention(x, return_weights=True)
        assert fused.dtype == explicit.dtype == weights.dtype == dtype
        torch.testing.assert_close(fused, explicit, rtol=tolerance, atol=tolerance)


def test_a_window_of_two_sides_or_one():
    one, two = (create_model("swin_tiny_patch4_window7_224", **WORDS | {"window_size": w}) for w in (4, (4, 4)))
    two.load_state_dict(one.state_dict())
    images = torch.rand(1, 3, 30, 20)
    assert torch.equal(one(images), two(images))


BAD_INPUT = {  # what -> (call, error, what the sentence must hold: found, wanted, remedy)
    "window does not divide": (lambda: window_partition(torch.rand(1, 6, 8, 2), (4, 4)), "(6,·8) (4,·4) pad"),
    "window as number": (lambda: window_partition(torch.rand(1, 8, 8, 2), 4), "window_size=4 pairs"),
    "back to a grid": (lambda: window_reverse(torch.rand(1, 4, 16, 2), (4, 4), (6, 8)), "(6,·8) divides"),
    "mask of a grid": (lambda: shift_mask((6, 8), (4, 4), (2, 2)), "(6,·8) divides"),
    "shift too large": (lambda: shift_mask((8, 8), (4, 4), (4, 2)), "shift_size=(4,·2) shift·<·window"),
    "shift below 0": (lambda: WindowAttention(8, 2, (4, 4), (-1, 0)), "shift_size=(-1,·0) 0·<=·shift"),
    "heads": (lambda: WindowAttention(8, 3, (4, 4)), "dim=8 num_heads=3 divides"),
    "tokens for a map": (lambda: WindowAttention(8, 2)(torch.rand(2, 49, 8)), "(2,·49,·8) (B,·H,·W,·8)"),
    "channels first": (lambda: PatchMerging(8)(torch.rand(2, 8, 4, 4)), "(2,·8,·4,·4) channels·last"),
    "window 0": (lambda: SwinTransformer(32, **WORDS | {"window_size": 0}), "window_size=(0,·0)"),
    "window as text": (lambda: SwinTransformer(32, **WORDS | {"window_size": "4"}), "window_size='4'"),
    "window of floats": (
        lambda: SwinTransformer(32, **WORDS | {"window_size": (4.0, 4)}),
        "window_size=(4.0,·4) whole",
    ),
    "heads of a stage": (lambda: SwinTransformer(32, **WORDS | {"num_heads": (2, 3)}), "dim=16 num_heads=3"),
    "heads and depths": (
        lambda: SwinTransformer(32, **WORDS | {"num_heads": (2, 4, 8)}),
        "depths=(2,·2) num_heads=(2,·4,·8)",
    ),
    "no stage": (
        lambda: SwinTransformer(32, **WORDS | {"depths": (), "num_heads": ()}),
        "depths=() a·tuple depths=(2,·2)",
    ),
    "no block": (lambda: SwinTransformer(32, **WORDS | {"depths": (2, 0)}), "depths[1]=0 1·or·more"),
    "depth of floats": (lambda: SwinTransformer(32, **WORDS | {"depths": (2.0, 2)}), "depths[0]=2.0 whole"),
    "depths as a number": (lambda: SwinTransformer(32, **WORDS | {"depths": 2}), "depths=2 a·tuple"),
    "no patch": (lambda: SwinTransformer(32, **WORDS | {"patch_size": 0}), "patch_size=0 1·or·more"),
    "no width": (lambda: SwinTransformer(32, **WORDS | {"embed_dim": 0}), "embed_dim=0"),
    "smaller than a patch": (lambda: SwinTransformer((32, 1), **WORDS), "(32,·1) 2·or·more resize"),
    "images smaller than a patch": (lambda: SwinTransformer(32, **WORDS)(torch.rand(1, 3, 1, 8)), "(1,·8) 2·or·more"),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_one_clear_sentence(what):
    call, parts = BAD_INPUT[what]
    assert_sentence(call, ValueError, parts)


def test_integers_are_no_map():
    with pytest.raises(TypeError, match="float"):
        WindowAttention(8, 2)(torch.ones(1, 7, 7, 8, dtype=torch.long))
