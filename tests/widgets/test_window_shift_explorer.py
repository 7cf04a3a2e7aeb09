"""WindowShiftExplorer: whom each token may attend to, on the page, is what vit_edu.layers computes."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

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
