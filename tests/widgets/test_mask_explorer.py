"""MaskExplorer: what is drawn and said is compared with the model's own reconstruction and loss."""

import re

import pytest
import torch
from playwright.sync_api import expect
from torch import nn

from tests.widgets.view import View, patches
from vit_edu.models import create_model
from vit_edu.models.mae import MAE, mae_loss, mae_target, reconstruct
from vit_edu.widgets.mask_explorer import MaskExplorer

P, N, RATIOS = 4, 24, (0.25, 0.5, 0.75, 0.9)  # 4 rows and 6 columns of patches

SETUP = """
import torch
from IPython.display import display
from vit_edu.models import MAE, create_model
from vit_edu.widgets.mask_explorer import MaskExplorer

words = {"img_size": (16, 24), "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 0}
def new(norm_pix_loss=True):
    torch.manual_seed(3)
    encoder = create_model("vit_tiny_patch16_224", pos_embed="sincos", **words)
    return MAE(encoder, 16, 1, 2, norm_pix_loss=norm_pix_loss)
images = torch.randint(0, 256, (3, 3, 16, 24), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
names = ["a cat", "a dog", "a boat"]
"""
SHOW = SETUP + "explorer = MaskExplorer(new(), images, names)\nexplorer"
scope = {"torch": torch, "MAE": MAE, "create_model": create_model}
exec(SETUP.split("MaskExplorer\n")[1], scope)
new, images, names = scope["new"], scope["images"], scope["names"]


def expected(mae, i, ratio, mask):
    """Of picture i with that mask: the loss, each patch's error, both kinds of right picture in 0..255."""
    x = images[i : i + 1] / 255 * 2 - 1
    noise = mask[None].float()  # the visible ones have the smaller noise
    mae.eval().mask_ratio = ratio
    with torch.no_grad():
        loss, prediction, again = mae(x, noise)
    assert torch.equal(again[0].bool(), mask)
    target = mae_target(x, P, mae.norm_pix_loss)
    assert torch.equal(loss, mae_loss(prediction, target, again))
    kinds = [reconstruct(x, prediction, m, P, mae.norm_pix_loss)[1][0] for m in (again, torch.ones_like(again))]
    kinds = [((kind + 1) / 2).clamp(0, 1) * 255 for kind in kinds]
    return loss.item(), ((prediction - target) ** 2).mean(-1)[0], *kinds


class MaskView(View):
    def __init__(self, notebook, nth=0):
        super().__init__(notebook, nth)
        self.grid = self.root.get_by_role("application")

    def pixels(self, nth):
        return self.canvas(f".ve-third:nth-child({nth + 1}) .ve-pixels").permute(2, 0, 1)

    def mask(self):
        """Which patches are not on the second picture."""
        return patches(self.pixels(1)[3:], P).eq(0).all(-1)

    def radio(self, name):
        return self.root.get_by_role("radio", name=name, exact=True)

    def keys(self, *keys):
        self.grid.focus()
        for key in keys:
            self.page.keyboard.press(key)

    def over(self, nth, row, column):
        canvas = self.root.locator(".ve-over").nth(nth)
        box = canvas.bounding_box()
        return canvas, {"x": (column + 0.5) * box["width"] / 6, "y": (row + 0.5) * box["height"] / 4}


@pytest.fixture
def view(static_page):
    static_page.show(MaskExplorer(new(), images, names))
    view = MaskView(static_page)
    view.until("Patch 15 of 24")
    return view


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("ratio", RATIOS)
def test_the_pictures_are_reconstructs_and_the_losses_mae_losss(static_page, ratio, normed):
    explorer = MaskExplorer(new(normed), images, names)
    static_page.show(explorer)
    view = MaskView(static_page)
    view.radio("a boat").check(force=True)
    view.radio(f"{ratio * 100:g} %").check(force=True)
    view.keys("Home")
    mask = view.mask()
    kept = int(N * (1 - ratio))
    assert (~mask).sum() == kept
    loss, errors, seen, whole = expected(new(normed), 2, ratio, mask)
    view.root.get_by_text(re.compile(rf"^{ratio * 100:g} % removed: from {kept} of 24 .* paints {N - kept}")).wait_for()
    view.root.get_by_text(f"{kept} visible tokens of 24", exact=True).wait_for()
    said = re.search(r"loss (\d+\.\d\d)$", view.root.locator(".ve-headline").inner_text())[1]
    assert float(said) == pytest.approx(loss, abs=0.0055)
    assert torch.equal(view.pixels(0)[:3], images[2])
    assert torch.equal(patches(view.pixels(1)[:3], P)[~mask], patches(images[2], P)[~mask])
    assert (view.pixels(2)[:3] - seen).abs().max() <= 0.51
    view.keys("v")
    view.root.get_by_text("All 24 patches as painted").wait_for()
    assert (view.pixels(2)[:3] - whole).abs().max() <= 0.51
    for patch in (int(mask.nonzero()[0]), int((~mask).nonzero()[0])):
        view.keys("PageUp", "Home", *["ArrowDown"] * (patch // 6), *["ArrowRight"] * (patch % 6))
        view.until(f"Patch {patch} of 24: row {patch // 6}, column {patch % 6}")
        fate, error = re.search(r"(removed|visible)\. Its squared error (\d+\.\d\d)", view.status).groups()
        assert fate == ("removed" if mask[patch] else "visible")
        assert float(error) == pytest.approx(errors[patch].item(), abs=0.0055)
        assert ("does not count" in view.status) == (fate == "visible")


def test_other_patches_are_drawn_anew_and_come_back(view):
    first, masks = view.mask(), []
    for draw in (2, 3, 4, 1):
        view.root.get_by_role("button").click()
        view.root.get_by_role("button", name=f"Other patches ({draw} of 4)").wait_for()
        masks.append(view.mask())
        loss = expected(new(), 0, 0.75, masks[-1])[0]
        assert f"{loss:.2f}" in view.root.locator(".ve-headline").inner_text()
    assert torch.equal(masks[-1], first) and len({tuple(mask.tolist()) for mask in masks}) == 4
    view.keys("n")
    view.root.get_by_role("button", name="(2 of 4)").wait_for()
    assert torch.equal(view.mask(), masks[0])


def test_a_larger_ratio_removes_what_a_smaller_one_does_and_the_keys_change_it(view):
    view.keys("-", "-", "-")
    before = view.mask()
    assert before.sum() == N - 18
    for ratio in RATIOS[1:]:
        view.keys("+")
        view.root.get_by_text(f"{ratio * 100:g} % removed").wait_for()
        after = view.mask()
        assert (after | ~before).all() and after.sum() > before.sum()
        before = after
    expect(view.radio("90 %")).to_be_checked()


def test_the_bars_are_the_mean_losses(view):
    explorer = MaskExplorer(new(), images, names)
    losses = torch.frombuffer(bytearray(explorer.losses), dtype=torch.float16).view(3, 4, 4, N).float()
    removed = torch.frombuffer(bytearray(explorer.removed), dtype=torch.uint8).view(3, 4, 4, N)
    means = ((losses * removed).sum(-1) / removed.sum(-1))[0]  # (ratios, draws)
    chart = view.root.locator(".ve-growth")
    words = ", ".join(f"{ratio * 100:g} % removed: {mean:.2f}" for ratio, mean in zip(RATIOS, means.mean(1)))
    assert chart.get_attribute("aria-label") == f"Loss of a cat at each mask ratio. {words}."
    canvas = view.canvas(".ve-growth").int()
    height, width = canvas.shape[:2]
    for level, mean in enumerate(means.mean(1)):
        x = int((level + 0.5) * width / 4) + 26  # right of the last dot
        high = int((canvas[:, x, 3] == 255)[: height - 20].sum())
        assert abs(high - float(mean / means.max()) * (height - 40)) <= 1.5
    chart.click(position={"x": width / 8, "y": 60})
    view.root.get_by_text("25 % removed: from 18 of 24").wait_for()


def test_mouse_click_and_finger_mark_one_patch_in_all_three(view):
    canvas, position = view.over(2, 3, 1)
    canvas.hover(position=position)
    view.until("Patch 19 of 24: row 3, column 1")
    view.root.locator(".ve-help").hover()
    view.until("Patch 15 of 24")
    canvas, position = view.over(0, 1, 5)
    canvas.click(position=position)
    view.until("Patch 11 of 24: row 1, column 5")
    view.root.locator(".ve-help").hover()
    for nth in range(3):
        blue = view.canvas(f".ve-over >> nth={nth}").int()
        y, x = ((blue[..., 2] - blue[..., 0] > 200) & (blue[..., 3] == 255)).nonzero().double().mean(0).tolist()
        assert (int(y / blue.shape[0] * 4), int(x / blue.shape[1] * 6)) == (1, 5)
    canvas, position = view.over(1, 0, 2)
    box = canvas.bounding_box()
    view.page.touchscreen.tap(box["x"] + position["x"], box["y"] + position["y"])
    view.until("Patch 2 of 24: row 0, column 2")


def test_keys_stop_at_the_edge(view):
    moves = [("PageUp", 3), ("Home", 0), ("ArrowUp", 0), ("ArrowLeft", 0), ("End", 5), ("ArrowRight", 5)]
    for key, patch in [*moves, ("PageDown", 23), ("ArrowDown", 23), ("ArrowLeft", 22), ("ArrowUp", 16)]:
        view.keys(key)
        view.until(f"Patch {patch} of 24")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_and_nothing_is_cut(view, scheme):
    view.page.emulate_media(color_scheme=scheme)
    view.root.evaluate("node => node.style.background = 'var(--ve-page)'")
    assert [text for ratio, text in view.contrast() if ratio < 4.5] == []
    view.page.set_viewport_size({"width": 420, "height": 800})
    view.root.get_by_text("Encoder sees").wait_for()
    assert view.cut() == []


def test_two_explorers_and_one_picture_without_choices(static_page):
    one = MaskExplorer(new(), images[2], ratios=(0.5,))
    static_page.show(one, MaskExplorer(new(), list(images)))
    first, second = MaskView(static_page), MaskView(static_page, 1)
    assert first.radio("picture 0").count() == 0 and second.radio("picture 2").count() == 1
    first.keys("Home", "n")
    first.until("Patch 12 of 24")
    assert second.status.startswith("Patch 15") and second.root.get_by_role("button", name="(1 of 4)").is_visible()
    assert torch.equal(first.pixels(0)[:3], images[2])


def test_the_model_stays_as_it_was():
    mae = new().train()
    mae.encoder.blocks.eval()
    modes, state = [module.training for module in mae.modules()], torch.get_rng_state()
    MaskExplorer(mae, images)
    assert mae.mask_ratio == 0.75 and [module.training for module in mae.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state) and all(x.grad is None for x in mae.parameters())
    nn.init.constant_(mae.mask_token, float("nan"))
    with pytest.raises(ValueError):
        MaskExplorer(mae, images)
    assert mae.mask_ratio == 0.75 and [module.training for module in mae.modules()] == modes


def test_floats_are_the_same_and_the_seed_counts():
    one, same = MaskExplorer(new(), images), MaskExplorer(new(), images / 255)
    assert one.painted == same.painted and one.removed == same.removed
    assert MaskExplorer(new(), images, seed=1).removed != one.removed
    assert len(MaskExplorer(new(), images.repeat(4, 1, 1, 1)).names) == 12


def test_the_words_and_the_still_picture_follow():
    explorer = MaskExplorer(new(), images, names)
    explorer.chosen, explorer.ratio, explorer.selected = 2, 0.5, 7
    words = (
        r"a boat, 4 × 6 patches, .* 50 % of the patches removed, 12 of 24 visible; .* error \d\.\d\d\. Patch 7 .* row 1"
    )
    assert re.match(words, explorer.sentence())
    before = explorer.picture().tobytes()
    explorer.draw = 1
    assert explorer.picture().size == (3 * 260 + 24, 173) and explorer.picture().tobytes() != before
    wrong = {"chosen": 3, "draw": 4, "selected": 24, "ratio": 0.3}
    for name, value in wrong.items():
        with pytest.raises(Exception, match=rf"^{name} is {value}; wanted "):
            setattr(explorer, name, value)


grey = torch.zeros(1, 16, 24)
WRONG = {
    "no MAE": (lambda: MaskExplorer(new().encoder, images), TypeError, r"mae is a VisionTransformer; wanted a .*MAE"),
    "another size": (lambda: MaskExplorer(new(), images[..., :16]), ValueError, r"\(3, 16, 16\); wanted \(3, 16, 24\)"),
    "grey": (lambda: MaskExplorer(new(), grey), ValueError, r"\(1, 16, 24\); wanted \(3, 16, 24\).*expand"),
    "too many": (
        lambda: MaskExplorer(new(), images[:1].repeat(13, 1, 1, 1)),
        ValueError,
        "13 pictures; wanted 1 to 12",
    ),
    "none": (lambda: MaskExplorer(new(), images[:0]), ValueError, "0 pictures; wanted 1 to 12"),
    "an empty list": (lambda: MaskExplorer(new(), []), ValueError, "0 pictures; wanted 1 to 12"),
    "NaN": (lambda: MaskExplorer(new(), images / 0.0), ValueError, "image holds NaN or infinity"),
    "seed": (lambda: MaskExplorer(new(), images, seed="a"), TypeError, "seed is 'a'; wanted a whole number"),
    "not 0..1": (lambda: MaskExplorer(new(), images / 255 * 2 - 1), ValueError, "a float image wants 0 to 1"),
    "no tensor": (lambda: MaskExplorer(new(), "cat"), TypeError, "The image is a str"),
    "names": (
        lambda: MaskExplorer(new(), images, ["a"]),
        ValueError,
        "1 names for 3 pictures; wanted one str for each",
    ),
    "all removed": (lambda: MaskExplorer(new(), images, ratios=(0.99,)), ValueError, "0.99; wanted .* 24 patches"),
    "none removed": (lambda: MaskExplorer(new(), images, ratios=(0,)), ValueError, "A mask ratio is 0; wanted"),
    "no ratio": (lambda: MaskExplorer(new(), images, ratios=()), ValueError, r"ratios is \(\); wanted 1 to 6"),
}


@pytest.mark.parametrize("call, error, words", WRONG.values(), ids=WRONG)
def test_wrong_words_are_one_sentence(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".") and "; " in str(caught.value)


def test_broken_weights_and_too_many_bytes_are_sentences():
    mae = new()
    nn.init.constant_(mae.decoder_pred.bias, float("nan"))
    with pytest.raises(ValueError, match="The model paints NaN or infinity; wanted numbers"):
        MaskExplorer(mae, images)
    encoder = create_model("vit_tiny_patch16_224", embed_dim=24, depth=1, num_heads=2, num_classes=0)
    large = MAE(encoder, 16, 1, 2)
    photos = torch.zeros(3, 3, 224, 224, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"3 pictures at 4 ratios are 1.8 MB; wanted at most 1.5"):
        MaskExplorer(large, photos)
    assert MaskExplorer(large, photos[0]).draws == 2


@pytest.fixture
def lab_view(clean_notebook):
    clean_notebook.run(SHOW)
    view = MaskView(clean_notebook)
    view.until("Patch 15 of 24")
    return view


def test_in_jupyterlab_it_appears_and_python_follows_and_moves_it(lab_view):
    assert torch.equal(lab_view.pixels(0)[:3], images[0])
    lab_view.radio("a boat").check(force=True)
    lab_view.keys("End", "n", "-")
    lab_view.notebook.wait_python(
        "[explorer.chosen, explorer.ratio, explorer.draw, explorer.selected]", [2, 0.5, 1, 17]
    )
    lab_view.notebook.run("explorer.chosen = 1; explorer.ratio = 0.9; explorer.draw = 3; explorer.selected = 4", cell=1)
    lab_view.until("Patch 4 of 24: row 0, column 4")
    lab_view.root.get_by_text("90 % removed: from 2 of 24").wait_for()
    lab_view.root.get_by_role("button", name="(4 of 4)").wait_for()
    assert torch.equal(lab_view.pixels(0)[:3], images[1])
