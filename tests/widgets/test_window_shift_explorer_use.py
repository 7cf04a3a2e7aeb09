"""WindowShiftExplorer in use: mouse, finger, keys, themes; its costs, its still picture, what it refuses."""

import math
import re
from itertools import pairwise

import pytest
import torch
from PIL import ImageChops
from playwright.sync_api import expect

from tests.widgets.test_window_shift_explorer import Windows, WindowView
from vit_edu.widgets.window_shift_explorer import STEPS, WindowShiftExplorer


def test_padding_is_no_token(static_page):
    explorer = WindowShiftExplorer(grid_size=(7, 5))
    explorer.step = "windows"
    static_page.show(explorer)
    view = WindowView(static_page)
    before = view.status
    view.grid.click(position=view.point(7, 7))
    assert view.status == before
    view.root.get_by_text("padding: zeros, which take part").wait_for()
    canvas = view.canvas(".ve-windows").int()
    corner = canvas[-40:-10, -40:-10, :3]  # hatched: grey lines, no colour
    assert (corner.amax(-1) - corner.amin(-1)).max() < 20 and corner.float().std() > 5


def test_steps_by_keys_and_letters_for_switches(static_page):
    static_page.show(WindowShiftExplorer())
    view = WindowView(static_page)
    view.radio("grid").focus()
    for step in STEPS[1:]:
        view.page.keyboard.press("ArrowRight")
        view.painted()
        expect(view.radio(step)).to_be_checked()
    view.page.keyboard.press("ArrowLeft")
    view.until("may attend to 8 of 16 tokens: the other 8 come from the other side")
    view.page.keyboard.press("m")
    view.until("attends to all 16 tokens: without the mask also to 8 that come from the other side")
    expect(view.root.get_by_role("checkbox", name="Mask")).not_to_be_checked()
    view.page.keyboard.press("S")
    view.until("may attend to all 16 tokens. Nothing is shifted: the shift is off.")
    view.root.get_by_role("checkbox", name="Shift").check()
    view.until("without the mask")


def test_mouse_and_finger(static_page):
    explorer = WindowShiftExplorer()
    explorer.step = "windows"
    static_page.show(explorer)
    view = WindowView(static_page)
    view.grid.hover(position=view.point(0, 6))  # shown, not chosen
    view.root.get_by_text("Token 6 may attend to").wait_for()
    assert view.status.startswith("Token 32 ")
    view.root.locator(".ve-headline").hover()
    view.root.get_by_text("Token 32 may attend to").wait_for()
    box, at = view.grid.bounding_box(), view.point(7, 1)
    view.page.touchscreen.tap(box["x"] + at["x"], box["y"] + at["y"])
    view.until("Token 57 (row 7, column 1) stands in window 2")


def test_cells_travel_and_reduced_motion_jumps(static_page):
    static_page.show(WindowShiftExplorer())
    view = WindowView(static_page)
    view.still()
    watch = """stage => {
        window.seen = [];
        new MutationObserver(() => seen.push(stage.dataset.cells)).observe(stage, { attributes: true });
    }"""
    view.root.locator(".ve-stage").evaluate(watch)
    view.radio("shift").check(force=True)
    view.root.locator(".ve-stage[data-cells=moving]").wait_for()
    view.root.locator(".ve-stage[data-cells=still]").wait_for()
    view.page.emulate_media(reduced_motion="reduce")
    view.page.evaluate("() => seen.splice(0)")
    for step in ("back", "attention", "merge"):
        view.radio(step).check(force=True)
        view.still()
    assert "moving" not in view.page.evaluate("seen")


def test_an_image_lies_over_the_grid_and_moves_with_it(static_page):
    colours = torch.arange(8 * 8).view(1, 8, 8).expand(3, -1, -1) * torch.tensor([3, 2, 1]).view(3, 1, 1)
    image = colours.to(torch.uint8).repeat_interleave(16, 1).repeat_interleave(32, 2)  # each token its own colour
    explorer = WindowShiftExplorer(image)
    static_page.show(explorer)
    view = WindowView(static_page)
    assert (view.cells(8, 8) - colours.permute(1, 2, 0)).abs().max() <= 2
    box = view.grid.bounding_box()
    assert abs(box["width"] / box["height"] - 2) < 0.02
    view.page.keyboard.press("Tab")
    view.radio("attention").check(force=True)
    row, column = (Windows((8, 8), 4, 2).places == 32).nonzero()[0].tolist()
    shown = view.cells(8, 8)[row, column : column + 2]
    assert (shown - colours.permute(1, 2, 0)[4, :2]).abs().max() <= 2


def cost(side, M):
    hw, C = (side // 4) ** 2, 96
    return 4 * hw * C**2 + 2 * hw**2 * C, 4 * hw * C**2 + 2 * M**2 * hw * C


@pytest.mark.parametrize("M", [4, 7, 16])
def test_the_cost_is_the_papers(static_page, M):
    static_page.show(WindowShiftExplorer(window_size=M))
    view = WindowView(static_page)
    slider, words = view.root.get_by_role("slider"), view.root.locator(".ve-cost-words")
    slider.focus()
    gaps = {}
    for key, side in (("", 224), ("ArrowRight", 232), ("Home", 56), ("End", 1024)):
        if key:
            view.page.keyboard.press(key)
        words.filter(
            has_text=f"{side} × {side} pixels are {side // 4} × {side // 4} = {(side // 4) ** 2:,} tokens"
        ).wait_for()
        everyone, windows = cost(side, M)
        found = re.search(
            r"Windows: ([\d.]+\s[MG]) multiply-adds .*Global: ([\d.]+\s[MG]), (.*?)\.", words.inner_text()
        )
        for told, number in zip(found.groups(), (windows, everyone)):
            value, unit = told.split()
            assert abs(float(value) * {"M": 1e6, "G": 1e9}[unit] / number - 1) < 0.006
        if everyone < windows:
            assert found[3] == "less, for one window is larger than the grid"
        else:
            assert f"{float(f'{everyone / windows:.3g}'):,g} times" in words.inner_text()
        canvas = view.canvas(".ve-cost").int()[..., :3]
        heights = []
        for red, green, blue in ((196, 80, 74), (63, 114, 192)):
            near = (canvas - torch.tensor([red, green, blue])).abs().amax(-1) < 6
            column = near.sum(0).argmax()  # the disc is the highest
            heights.append(near[:, column].nonzero().double().mean().item())
        gaps[side] = (heights[1] - heights[0]) / math.log(everyone / windows)
    assert abs(gaps[1024] / gaps[232] - 1) < 0.06  # logarithmic: as far apart as the ratio says


@pytest.mark.parametrize("step", STEPS)
def test_nothing_moves_below_the_grid_while_tokens_are_pointed_at(static_page, step):
    explorer = WindowShiftExplorer()
    explorer.step = step
    static_page.show(explorer)
    view, tops = WindowView(static_page), set()
    for token in (0, 9, 27, 36, 63):
        view.grid.hover(position=view.point(token // 8, token % 8))
        view.still()
        legend, status = view.root.locator("li"), view.root.get_by_role("status")
        tops.add((tuple(legend.all_inner_texts()), round(status.bounding_box()["y"])))
    assert len(tops) == 1


def test_two_explorers_are_two(static_page):
    static_page.show(WindowShiftExplorer(), WindowShiftExplorer(grid_size=(6, 6), window_size=3))
    first, second = WindowView(static_page, 0), WindowView(static_page, 1)
    first.radio("windows").check(force=True)
    first.grid.click(position=first.point(0, 0))
    first.until("Token 0 (row 0, column 0) stands in window 0 and may attend to all 16 tokens.")
    assert second.status.startswith("Token 18 (row 3, column 0) of 6 × 6")
    expect(second.radio("grid")).to_be_checked()
    expect(first.radio("windows")).to_be_checked()


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_cut_on_a_narrow_page(static_page, step):
    explorer = WindowShiftExplorer(grid_size=(7, 9), window_size=4)
    explorer.step = step
    static_page.page.set_viewport_size({"width": 420, "height": 800})
    static_page.show(explorer)
    view = WindowView(static_page)
    view.still()
    assert view.cut() == []
    assert [text for ratio, text in view.contrast() if ratio < 4.5] == []


SHOW = (
    "from vit_edu.widgets.window_shift_explorer import WindowShiftExplorer\nexplorer = WindowShiftExplorer()\nexplorer"
)


@pytest.fixture
def view(clean_notebook):
    clean_notebook.run(SHOW)
    view = WindowView(clean_notebook)
    view.until("Token 32")
    return view


def test_in_jupyterlab_python_follows_and_leads(view):
    view.radio("windows").check(force=True)
    view.grid.click(position=view.point(1, 6))
    view.page.keyboard.press("m")
    traits = "[explorer.step, explorer.selected, explorer.masked, explorer.shifted]"
    view.notebook.wait_python(traits, ["windows", 14, False, True])
    view.notebook.run("explorer.step, explorer.selected, explorer.masked = 'attention', 63, True", cell=1)
    view.until("Token 63 (row 7, column 7) stands in window 3 and may attend to 4 of 16 tokens: the other 12 come from")
    expect(view.radio("attention")).to_be_checked()
    assert view.notebook.python("explorer.sentence()") == view.status


@pytest.mark.parametrize("scheme, light", [("light", True), ("dark", False)])
def test_both_themes_are_readable(static_page, scheme, light):
    static_page.page.emulate_media(color_scheme=scheme)
    static_page.show(WindowShiftExplorer())
    view = WindowView(static_page)
    view.root.evaluate("node => node.style.background = 'var(--ve-page)'")
    for step in STEPS:
        view.radio(step).check(force=True)
        view.still()
        assert [text for ratio, text in view.contrast() if ratio < 4.5] == []
    view.radio("attention").check(force=True)
    ground = view.cells(8, 8)[0, 0].sum()  # another window fades into the page
    assert ground > 650 if light else ground < 250


@pytest.mark.parametrize(
    "words, error, parts",
    [
        ({"grid_size": 8}, ValueError, "grid_size is 8; wanted (rows, columns)"),
        ({"grid_size": (8, 1)}, ValueError, "grid_size is (8, 1); wanted"),
        ({"grid_size": (8, 57)}, ValueError, "from 2 to 56"),
        ({"grid_size": (8, 8.0)}, ValueError, "two whole numbers"),
        ({"window_size": 1}, ValueError, "window_size is 1; wanted a whole number from 2 to 16"),
        ({"window_size": True}, ValueError, "window_size is True"),
        ({"window_size": (4, 4)}, ValueError, "window_size is (4, 4)"),
        ({"shift_size": 4}, ValueError, "shift_size is 4 with windows of 4; wanted a whole number from 0 to 3"),
        ({"shift_size": -1}, ValueError, "shift_size is -1"),
        ({"image": "cat"}, TypeError, "wanted a torch tensor"),
        ({"image": torch.zeros(1, 3, 8, 8)}, ValueError, "This is a batch"),
        ({"image": torch.full((3, 8, 8), torch.nan)}, ValueError, "a float image wants 0 to 1"),
        ({"image": torch.zeros(3, 2000, 8)}, ValueError, "wanted at most 1024"),
    ],
)
def test_wrong_words_are_one_sentence(words, error, parts):
    with pytest.raises(error) as caught:
        WindowShiftExplorer(**words)
    sentence = str(caught.value)
    assert parts in sentence and ("wants" in sentence or "wanted" in sentence)
    assert "\n" not in sentence and len(sentence) < 250


@pytest.mark.parametrize("name, value", [("step", "shifted"), ("selected", 64), ("selected", -1), ("masked", "no")])
def test_wrong_traits(name, value):
    explorer = WindowShiftExplorer()
    with pytest.raises(Exception, match=name):
        setattr(explorer, name, value)


@pytest.mark.parametrize("image", [None, torch.rand(40, 60), torch.rand(1, 40, 60), torch.rand(3, 40, 60)])
def test_the_picture_follows(image):
    explorer = WindowShiftExplorer(image, grid_size=(7, 9))
    pictures = []
    for step in STEPS:
        explorer.step = step
        pictures.append(explorer.picture().resize((300, 300)))
    explorer.step = "attention"
    for name in ("masked", "shifted"):
        setattr(explorer, name, False)
        pictures.append(explorer.picture().resize((300, 300)))
    explorer.selected = 62
    pictures.append(explorer.picture().resize((300, 300)))
    for one, following in pairwise(pictures):
        assert ImageChops.difference(one, following).getbbox()


def test_the_picture_shows_the_reach():
    explorer = WindowShiftExplorer()
    explorer.step, own = "grid", explorer.picture()
    explorer.step = "attention"
    windows, picture, cell = Windows((8, 8), 4, 2), explorer.picture(), 42
    tokens, _, _ = windows.reach(32)
    hidden = windows.windows[windows.of(32)[0]].tolist()
    for y, line in enumerate(windows.places.tolist()):
        for x, token in enumerate(line):
            before = own.getpixel((token % 8 * cell + 30, token // 8 * cell + 20))
            after = picture.getpixel((x * cell + 30, y * cell + 20))
            assert (before == after) == (token in tokens or token in hidden)
            crossed = picture.getpixel((x * cell + 21, y * cell + 21)) == (196, 40, 42)
            assert crossed == (token in hidden and token not in tokens)
