"""WindowShiftExplorer: whom each token may attend to, on the page, is what vit_edu.layers computes."""

import math
import re
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from PIL import ImageChops
from playwright.sync_api import expect

from tests.widgets.view import View
from vit_edu.layers import WindowAttention, cyclic_shift, merge_patches, shift_mask, window_partition
from vit_edu.widgets.window_shift_explorer import STEPS, WindowShiftExplorer

# grid, window, shift: divisible; a third; odd and padded; windows larger than the grid, as large, one way; no shift
MAPS = [
    ((8, 8), 4, 2),
    ((6, 9), 3, 1),
    ((7, 5), 4, 2),
    ((9, 5), 2, 1),
    ((5, 6), 8, 4),
    ((4, 4), 4, 2),
    ((4, 10), 4, 3),
    ((6, 6), 3, 0),
]
LABELS = dict(zip(STEPS, ("1 Grid", "2 Windows", "3 Shift", "4 Masked attention", "5 Shift back", "6 Merge")))


class Windows:
    """What the layers say about a map: the tokens of each window (-1 padding), and the mask."""

    def __init__(self, grid, M, S, shifted=True):
        rows, columns = grid
        self.tokens = F.pad(
            torch.arange(rows * columns).view(1, rows, columns), (0, -columns % M, 0, -rows % M), value=-1
        )
        self.shift = tuple(S if shifted and side > M else 0 for side in grid)
        self.places = cyclic_shift(self.tokens, self.shift)[0]
        self.windows = window_partition(self.places[None], (M, M))[0]
        if any(self.shift):
            self.mask = shift_mask(tuple(self.places.shape), (M, M), self.shift)
        else:
            self.mask = torch.zeros(len(self.windows), M * M, M * M)

    def of(self, token):
        return (self.windows == token).nonzero()[0].tolist()

    def reach(self, token, masked=True):
        """(tokens that it may attend to, how many of padding, how many the mask hides)"""
        window, row = self.of(token)
        seen = self.mask[window, row] == 0
        reached = self.windows[window][seen] if masked else self.windows[window]
        return sorted(reached[reached >= 0].tolist()), int((reached < 0).sum()), int((~seen).sum())


class WindowView(View):
    def __init__(self, notebook, nth=0):
        super().__init__(notebook, nth)
        self.grid = self.root.get_by_role("application")

    def painted(self):
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    @property
    def status(self):
        self.painted()
        return super().status

    def still(self):
        self.painted()
        self.root.locator(".ve-stage[data-cells=still]").wait_for()

    def point(self, row, column, rows=8, columns=8):
        box = self.grid.bounding_box()
        return {"x": (column + 0.5) * box["width"] / columns, "y": (row + 0.5) * box["height"] / rows}

    def radio(self, step):
        return self.root.get_by_role("radio", name=LABELS[step])

    def every(self, grid, drawn):
        """Click each token of the unshifted map; [(status, reach)]. `drawn`: rows and columns with all padding."""
        return self.root.evaluate(
            """async (root, [[H, W], [rows, columns]]) => {
                const [grid, found] = [root.querySelector(".ve-windows"), []];
                grid.scrollIntoView();
                for (let i = 0; i < H * W; i++) {
                    const box = grid.getBoundingClientRect();
                    const clientX = box.left + (i % W + 0.5) / columns * box.width;
                    const clientY = box.top + (Math.floor(i / W) + 0.5) / rows * box.height;
                    grid.dispatchEvent(new MouseEvent("click", { clientX, clientY, bubbles: true }));
                    await new Promise(requestAnimationFrame);
                    found.push([".ve-status", ".ve-reach"].map((name) => root.querySelector(name).textContent));
                }
                return found;
            }""",
            [grid, drawn],
        )

    def cells(self, rows, columns):
        """The colour in each cell, beside its number and its cross: (rows, columns, 3)."""
        self.still()
        canvas = self.canvas(".ve-windows").int()[..., :3]
        y = ((torch.arange(rows) + 0.75) * canvas.shape[0] / rows).long()
        x = ((torch.arange(columns) + 0.7) * canvas.shape[1] / columns).long()
        return canvas[y][:, x]


def drawn_size(grid, M):
    """Rows and columns of the drawn map, with the padding of windows and of merging."""
    return [max(-(-side // M) * M, side + side % 2) for side in grid]


def named(words):
    """'16–17, 24 and 2 of padding' -> ([16, 17, 24], 2)"""
    padding = re.search(r"(\d+) of padding", words)
    numbers = words.replace("\u2060", "").replace(padding[0], "") if padding else words.replace("\u2060", "")
    runs = [[int(n) for n in run.split("–")] for run in re.findall(r"\d+(?:–\d+)?", numbers)]
    return [token for run in runs for token in range(run[0], run[-1] + 1)], int(padding[1]) if padding else 0


@pytest.mark.parametrize("grid, M, S", MAPS)
def test_the_tests_own_windows_are_the_layers(grid, M, S):
    """Zero scores and values that name their token: the layer's output says by itself who attends to whom."""
    N = math.prod(grid)
    layer = WindowAttention(N, 1, (M, M), (S, S))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.qkv.weight[2 * N :] = layer.proj.weight[:] = torch.eye(N)
        seen = layer(torch.eye(N).view(1, *grid, N)).view(N, N)
    windows = Windows(grid, M, S)
    for token in range(N):
        tokens, padding, _ = windows.reach(token)
        assert (seen[token] > 1e-6).nonzero().flatten().tolist() == tokens
        assert round(1 / seen[token].max().item()) == len(tokens) + padding


@pytest.mark.parametrize("grid, M, S", MAPS)
def test_every_token_attends_as_in_the_layers(static_page, grid, M, S):
    explorer = WindowShiftExplorer(grid_size=grid, window_size=M, shift_size=S)
    explorer.step = "back"
    static_page.show(explorer)
    view = WindowView(static_page)
    for key, masked, shifted in (("", True, True), ("m", False, True), ("s", False, False), ("m", True, False)):
        if key:
            view.page.keyboard.press(key)
        explorer.masked, explorer.shifted = masked, shifted
        windows = Windows(grid, M, S, shifted)
        for token, (status, reach) in enumerate(view.every(grid, drawn_size(grid, M))):
            explorer.selected = token
            tokens, padding, hidden = windows.reach(token, masked)
            told, _, apart = reach.partition(". Masked:")
            assert told.startswith(f"Token {token} may attend to ")
            assert named(told.split("attend to")[1]) == (tokens, padding), (token, masked, shifted)
            strangers, blank = named(apart)
            assert len(strangers) + blank == (hidden if masked else 0)
            assert status == explorer.sentence()
            assert f"window {windows.of(token)[0]} " in status
            total = f"{len(tokens) + padding} of {M * M}" if masked and hidden else f"all {M * M}"
            assert f" {total} tokens" in status and (f"({padding} of them padding)" in status) == bool(padding)


@pytest.mark.parametrize("step", ["grid", "windows", "shift", "merge"])
@pytest.mark.parametrize("grid, M, S", [((7, 5), 4, 2), ((5, 6), 8, 4)])
def test_the_other_steps_say_what_python_says(static_page, grid, M, S, step):
    explorer = WindowShiftExplorer(grid_size=grid, window_size=M, shift_size=S)
    explorer.step = step
    explorer.shifted = step != "shift"  # unshifted, cells can be clicked where they were
    static_page.show(explorer)
    found = WindowView(static_page).every(grid, drawn_size(grid, M))
    merged = merge_patches(torch.arange(1, 1 + math.prod(grid)).view(1, *grid, 1))[0]  # 0: padding
    for token, (status, _) in enumerate(found):
        explorer.selected = token
        assert status == explorer.sentence()
        if step == "merge":
            [[row, column, _]] = (merged == token + 1).nonzero().tolist()
            four = ", ".join("padding" if name == 0 else str(name - 1) for name in merged[row, column].tolist())
            place = row * merged.shape[1] + column
            assert status.startswith(f"Tokens {four} become token {place} of {merged.shape[0]} × {merged.shape[1]}:")


def test_the_shift_says_where_the_token_went(static_page):
    explorer = WindowShiftExplorer(grid_size=(7, 5))
    static_page.show(explorer)
    view, windows = WindowView(static_page), Windows((7, 5), 4, 2)
    view.radio("shift").check(force=True)
    explorer.step = "shift"
    for row, column in (windows.places >= 0).nonzero().tolist():
        explorer.selected = token = int(windows.places[row, column])
        view.grid.click(position=view.point(row, column, 8, 8))
        assert view.status == explorer.sentence()
        words = f"moves to row {row}, column {column}, into window {windows.of(token)[0]}."
        assert view.status.startswith(f"Token {token} ") and view.status.endswith(words)


@pytest.mark.parametrize("grid, M, S", [((8, 8), 4, 2), ((7, 9), 4, 1)])
def test_what_is_drawn_is_the_reach_and_cells_keep_their_colour(static_page, grid, M, S):
    explorer = WindowShiftExplorer(grid_size=grid, window_size=M, shift_size=S)
    explorer.step = "shift"
    explorer.shifted = False  # all cells in their own colour, padding too
    static_page.show(explorer)
    view, windows = WindowView(static_page), Windows(grid, M, S)
    size = drawn_size(grid, M)
    own = view.cells(*size)
    view.grid.press("s")
    view.still()
    colour = dict(zip(windows.tokens.flatten().tolist(), own.view(-1, 3)))
    strangers_seen = 0
    for step, places in (("attention", windows.places), ("back", windows.tokens[0])):
        view.radio(step).check(force=True)
        for token in (0, math.prod(grid) - 1, grid[1] * 4, grid[1] * 3 + 4):
            row, column = (places == token).nonzero()[0].tolist()
            view.still()
            view.grid.click(position=view.point(row, column, *size))
            for masked in (True, False):
                found = view.cells(*size)
                window, line = windows.of(token)
                inside = dict(zip(windows.windows[window].tolist(), windows.mask[window, line].tolist()))
                for place, now in zip(places.flatten().tolist(), found.view(-1, 3)):
                    if place < 0:
                        continue  # hatched
                    same = (now - colour[place]).abs().max() <= 2
                    faint = (255 - now).float().mean() < 0.25 * (255 - colour[place]).float().mean() + 2
                    if place not in inside:
                        assert faint and not same
                    elif inside[place] and masked:
                        strangers_seen += 1
                        assert not faint and not same
                    else:
                        assert same
                view.grid.press("m")
    assert strangers_seen > 10


@pytest.mark.parametrize("grid, M, S, regions", [((8, 8), 4, 2, 9), ((6, 12), 3, 1, 9), ((4, 12), 4, 3, 3)])
def test_the_regions_are_the_published_ones(static_page, grid, M, S, regions):
    """The three slices a side of the Swin code: each region has a colour of its own."""
    explorer = WindowShiftExplorer(grid_size=grid, window_size=M, shift_size=S)
    static_page.page.emulate_media(reduced_motion="reduce")
    static_page.show(explorer)
    view, wanted = WindowView(static_page), torch.zeros(grid, dtype=torch.int64)
    own = view.cells(*grid).view(-1, 3)
    view.radio("shift").check(force=True)
    parts = [(slice(-M), slice(-M, -S), slice(-S, None)) if side > M else (slice(None),) for side in grid]
    for number, (rows, columns) in enumerate((rows, columns) for rows in parts[0] for columns in parts[1]):
        wanted[rows, columns] = number
    tint = 2 * view.cells(*grid) - own[Windows(grid, M, S).places]  # half of a cell's colour is its region's
    colours = {number: tint[wanted == number].float().mean(0) for number in range(regions)}
    assert wanted.max() == regions - 1
    for number, colour in colours.items():
        assert (tint[wanted == number] - colour).abs().max() <= 5
        assert all((colour - other).abs().max() > 20 for n, other in colours.items() if n != number)


@pytest.mark.parametrize("grid, M, S", [((8, 8), 4, 2), ((7, 5), 4, 1), ((6, 6), 3, 1)])
def test_the_matrix_is_shift_mask(static_page, grid, M, S):
    explorer = WindowShiftExplorer(grid_size=grid, window_size=M, shift_size=S)
    explorer.step = "attention"
    windows = Windows(grid, M, S)
    n = M * M
    for token in (0, math.prod(grid) - 1, grid[1] * 3, grid[1] * 3 + 2):
        explorer.selected = token
        static_page.show(explorer)
        view = WindowView(static_page)
        window, row = windows.of(token)
        title = f"Mask of window {window}, {n} × {n}: row {row} is token {token}"
        view.root.get_by_text(title, exact=True).wait_for()
        canvas = view.canvas(".ve-mask").int()
        assert canvas.shape[:2] == (210, 210)
        at = (5 + (torch.arange(n) + 0.5) * 200 / n).long()
        assert torch.equal(canvas[at][:, at][..., 0] < 128, windows.mask[window] < 0)
        blue = (canvas[:, 3, :3] - torch.tensor([22, 119, 255])).abs().amax(-1) < 40  # the frame, beside the matrix
        middle = blue.nonzero().double().mean().item()
        assert abs((middle - 5) * n / 200 - (row + 0.5)) < 0.3
        view.page.keyboard.press("Tab")
        view.grid.press("m")
        view.root.get_by_role("img", name=f"0 of {n} entries are −100").wait_for()
        assert not (view.canvas(".ve-mask").int()[at][:, at][..., 0] < 128).any()


def test_arrow_keys_go_over_the_shown_map_and_skip_padding(static_page):
    explorer = WindowShiftExplorer(grid_size=(7, 5))
    explorer.step = "attention"
    static_page.show(explorer)
    view, places = WindowView(static_page), Windows((7, 5), 4, 2).places
    at = (places == explorer.selected).nonzero()[0].tolist()
    view.grid.focus()
    steps = {"ArrowLeft": (1, -1), "ArrowRight": (1, 1), "ArrowUp": (0, -1), "ArrowDown": (0, 1)}
    ends = {"Home": (1, 0), "End": (1, -1), "PageUp": (0, 0), "PageDown": (0, -1)}
    for key in [*["ArrowRight"] * 3, *["ArrowLeft"] * 4, *["ArrowDown"] * 5, "ArrowUp", *ends, "ArrowLeft", *ends]:
        axis, way = steps.get(key) or ends[key]
        line = places[at[0]] if axis else places[:, at[1]]
        real = (line >= 0).nonzero().flatten().tolist()
        place = real.index(at[axis]) + way
        at[axis] = real[way] if key in ends else real[min(max(place, 0), len(real) - 1)]
        view.page.keyboard.press(key)
        assert view.status.startswith(f"Token {int(places[tuple(at)])} "), key


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


def test_no_key_reaches_the_notebook(view):
    before = view.notebook.cells
    slider = view.root.get_by_role("slider")
    for target in (view.grid, view.radio("shift"), slider, view.root.locator(".ve-headline")):
        target.click(force=True)
        for key in (*"abxddmyzcvjs", "Delete", "Enter", "Escape", "ArrowDown"):
            view.page.keyboard.press(key)
        assert view.notebook.cells == before
        assert view.page.evaluate("document.activeElement.closest('.ve') !== null")


def test_both_themes_are_readable(view):
    try:
        for theme, light in (("JupyterLab Dark", False), ("JupyterLab Light", True)):
            view.notebook.command("apputils:change-theme", theme=theme)
            view.page.wait_for_function(
                """light => {
                    const page = getComputedStyle(document.body).getPropertyValue("--jp-layout-color1").trim();
                    return document.body.dataset.jpThemeLight === String(light) && (page === "white") === light;
                }""",
                arg=light,
            )
            for step in STEPS:
                view.radio(step).evaluate("radio => radio.click()")  # a mouse may still find the other theme's layout
                view.still()
                assert [text for ratio, text in view.contrast() if ratio < 4.5] == []
            view.radio("attention").evaluate("radio => radio.click()")
            view.still()
            ground = view.cells(8, 8)[0, 0].sum()  # another window fades into the page
            assert ground > 650 if light else ground < 250
    finally:
        view.notebook.command("apputils:change-theme", theme="JupyterLab Light")


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
