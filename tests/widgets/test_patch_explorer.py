"""PatchExplorer in JupyterLab, used with mouse, finger and keys; what is drawn is compared with the tensor."""

import pytest
import torch

from tests.widgets.view import View, patches

# Every patch of 32 has a colour of its own, which tells it from the others, below eight rows of noise.
SETUP = """
import torch
from IPython.display import display
from vit_edu.widgets import PatchExplorer

draw = torch.Generator().manual_seed(2)
colours = torch.randint(30, 226, (3, 7, 7), generator=draw, dtype=torch.uint8)
image = colours.repeat_interleave(32, 1).repeat_interleave(32, 2)
image.view(3, 7, 32, 224)[:, :, :8] = torch.randint(0, 256, (3, 7, 8, 224), generator=draw, dtype=torch.uint8)
"""
SHOW = SETUP + "explorer = PatchExplorer(image, patch_size=32)\nexplorer"
scope = {"torch": torch}
exec(SETUP.split("PatchExplorer\n")[1], scope)
image = scope["image"]


class PatchView(View):
    def __init__(self, notebook, nth=0):
        super().__init__(notebook, nth)
        self.grid = self.root.get_by_role("application")
        self.slider = self.root.get_by_role("slider")
        self.button = self.root.get_by_role("button")

    def until_patches(self, where):
        self.root.locator(f".ve-stage[data-patches={where}]").wait_for()

    def point(self, row, column):
        box = self.grid.bounding_box()
        return {"x": (column + 0.5) * box["width"] / 7, "y": (row + 0.5) * box["height"] / 7}

    def click(self, row, column):
        self.grid.click(position=self.point(row, column))

    def radio(self, patch_size):
        return self.root.get_by_role("radio", name=f"{patch_size} pixels", exact=True)

    def sequence(self):
        """The patches of 32 that stand in the sequence in full colour, in reading order."""
        strip = self.canvas(".ve-strip").int()
        found = []
        for i, colour in enumerate(patches(image, 32).view(49, 3, 32, 32)[:, :, 20, 16].int()):
            same = ((strip[..., :3] - colour).abs().amax(-1) <= 1) & (strip[..., 3] == 255)
            y, x = same.nonzero(as_tuple=True)
            if len(y) > 60:
                found.append((int(y.float().mean() / 20), float(x.float().mean()), i))
        return [i for _, _, i in sorted(found)]


@pytest.fixture
def view(clean_notebook):
    clean_notebook.run(SHOW)
    view = PatchView(clean_notebook)
    view.until_patches("photo")
    return view


def test_it_appears_and_draws_the_tensor(view):
    assert view.root.is_visible() and view.page.locator(".ve").count() == 1
    view.root.get_by_text("224 × 224 × 3 → 49 tokens of 3,072 numbers", exact=True).wait_for()
    drawn = view.canvas(".ve-photo .ve-pixels")
    assert torch.equal(drawn[..., :3].permute(2, 0, 1), image) and (drawn[..., 3] == 255).all()
    enlarged = view.canvas(".ve-enlarged .ve-pixels")
    assert torch.equal(enlarged[..., :3].permute(2, 0, 1), image[:, 96:128, 96:128])


def test_a_click_chooses_the_patch_and_python_follows(view):
    view.click(2, 4)
    mean = ", ".join(str(round(m)) for m in image[:, 64:96, 128:160].double().mean((1, 2)).tolist())
    view.until(f"Patch 18 of 49: row 2, column 4. 3 × 32 × 32 = 3,072 numbers. Mean colour rgb({mean}).")
    view.root.get_by_text("Row 2, column 4 → token 2 × 7 + 4 = 18 of 49", exact=True).wait_for()
    enlarged = view.canvas(".ve-enlarged .ve-pixels")
    assert torch.equal(enlarged[..., :3].permute(2, 0, 1), image[:, 64:96, 128:160])
    view.notebook.wait_python("[explorer.selected, explorer.patch_size]", [18, 32])


def test_a_finger_chooses_too(view):
    box, at = view.grid.bounding_box(), view.point(5, 1)
    view.page.touchscreen.tap(box["x"] + at["x"], box["y"] + at["y"])
    view.until("Patch 36 of 49: row 5, column 1.")


def test_the_mouse_over_a_patch_shows_it_without_choosing(view):
    view.grid.hover(position=view.point(0, 6))
    view.root.get_by_text("Patch 6", exact=True).wait_for()
    assert view.status.startswith("Patch 24 of 49")
    view.root.get_by_text("Its vector").hover()
    view.root.get_by_text("Patch 24", exact=True).wait_for()


def test_python_moves_the_explorer(view):
    view.notebook.run("explorer.patch_size = 56; explorer.selected = 7", cell=1)
    view.until("Patch 7 of 16: row 1, column 3.")
    view.root.get_by_text("224 × 224 × 3 → 16 tokens of 9,408 numbers", exact=True).wait_for()


def test_arrow_keys_move_and_stop_at_the_edge(view):
    view.click(0, 0)
    there = [("ArrowRight", 1), ("ArrowDown", 8), ("ArrowLeft", 7), ("ArrowLeft", 7), ("End", 13), ("PageDown", 48)]
    back = [("ArrowRight", 48), ("ArrowDown", 48), ("Home", 42), ("ArrowUp", 35), ("PageUp", 0), ("ArrowUp", 0)]
    for key, token in there + back:
        view.page.keyboard.press(key)
        view.until(f"Patch {token} of 49")
    view.notebook.wait_python("explorer.selected", 0)


def test_the_vector_is_the_flattened_patch(view):
    view.click(6, 2)
    vector = patches(image, 32)[44]
    view.root.get_by_text("Patch 44", exact=True).wait_for()
    numbers = [int(text) for text in view.root.locator(".ve-values [data-value]").all_inner_texts()]
    assert numbers == vector[: len(numbers)].tolist() and len(numbers) >= 5
    view.slider.focus()
    keys = [("ArrowRight", 1), ("PageUp", 1025), ("PageUp", 2049), ("End", 3071), ("PageDown", 2047), ("Home", 0)]
    for key, index in keys:
        view.page.keyboard.press(key)
        channel, row, column = ["red", "green", "blue"][index // 1024], index // 32 % 32, index % 32
        words = f"Number {index:,}: {channel}, row {row}, column {column} of the patch = {vector[index]}"
        view.root.get_by_text(words, exact=True).wait_for()
        assert view.slider.get_attribute("aria-valuetext") == words
    assert view.slider.get_attribute("aria-valuemax") == "3071"


def test_a_number_marks_its_pixel_and_a_pixel_its_number(view):
    vector = patches(image, 32)[24]
    view.root.locator(".ve-values [data-value='3']").click()
    view.root.get_by_text(f"Number 3: red, row 0, column 3 of the patch = {vector[3]}", exact=True).wait_for()
    ring = view.canvas(".ve-lens")[..., 3]
    y, x = ring.nonzero().double().mean(0) * 32 / len(ring)  # the middle of the ring, in pixels of the patch
    assert abs(y - 0.5) < 0.6 and abs(x - 3.5) < 0.3
    lens, bars = view.root.locator(".ve-lens"), view.root.locator(".ve-vector")
    size = lens.bounding_box()["width"]
    lens.hover(position={"x": size * 20.5 / 32, "y": size * 5.5 / 32})
    view.root.get_by_text(f"Number 180: red, row 5, column 20 of the patch = {vector[180]}", exact=True).wait_for()
    bars.hover(position={"x": bars.bounding_box()["width"] - 1, "y": 10})
    view.root.get_by_text("blue, row 31").wait_for()


def test_the_bars_are_as_high_as_the_numbers(view):
    view.notebook.run("explorer.patch_size = 8; explorer.selected = 300", cell=1)
    view.root.get_by_text("Patch 300", exact=True).wait_for()
    canvas = view.canvas(".ve-vector").int()
    height, width = canvas.shape[:2]
    segment = (width - 16) / 3
    ground = canvas[0, int(segment / 2)]
    for i in (5, 20, 40, 63):
        column = canvas[:, int((i + 0.4) * segment / 64)]
        bar = int((column != ground).any(-1).sum())
        assert abs(bar - (int(patches(image, 8)[300, i]) / 255 * (height - 2) + 1)) <= 1.5


def test_patch_size_changes_by_click_and_by_key(view):
    view.click(2, 4)
    view.until("Patch 18 of 49")
    view.radio(16).click()  # the same place of the photo stays chosen
    view.until("Patch 79 of 196: row 5, column 9. 3 × 16 × 16 = 768 numbers.")
    view.root.get_by_text("224 × 224 × 3 → 196 tokens of 768 numbers", exact=True).wait_for()
    view.notebook.wait_python("[explorer.patch_size, explorer.selected]", [16, 79])
    view.grid.focus()
    view.page.keyboard.press("+")
    view.until("Patch size 28: 64 tokens.")
    view.page.keyboard.press("-")
    view.page.keyboard.press("-")
    view.until("Patch size 14: 256 tokens.")
    view.root.get_by_text("256 tokens of 588 numbers").wait_for()
    assert view.radio(14).is_checked()
    view.notebook.wait_python("explorer.patch_size", 14)


def test_flatten_flies_row_by_row_into_the_sequence_and_back(view):
    assert view.sequence() == [24]  # the others are faint copies
    view.button.click()
    gone = view.page.wait_for_function(
        """() => {
            const stage = document.querySelector(".ve-stage[data-patches=moving]");
            if (!stage) return false;
            const [grid, flight] = [".ve-grid", ".ve-flight"].map((name) => stage.querySelector(name));
            const at = (part, size) => Math.floor((part + 0.5) / 7 * size);
            const alpha = (x, y) => grid.getContext("2d").getImageData(x, y, 1, 1).data[3];
            const gone = Array.from({ length: 49 }, (_, i) =>
                alpha(at(i % 7, grid.width), at(Math.floor(i / 7), grid.height)) > 128);
            const air = flight.getContext("2d").getImageData(0, 0, flight.width, flight.height).data.some((v) => v);
            return air && gone[7] && !gone[48] && gone;
        }""",
        polling="raf",
    ).json_value()
    assert gone == sorted(gone, reverse=True)  # those that left are the first of the sequence
    view.until_patches("sequence")
    assert view.sequence() == list(range(49))
    assert not view.canvas(".ve-flight").any()
    view.notebook.wait_python("explorer.flattened", True)
    view.until("The patches stand in one row.")
    view.grid.focus()
    view.page.keyboard.press("f")
    view.until_patches("moving")
    view.until_patches("photo")
    assert view.sequence() == [24]
    assert view.button.inner_text() == "Flatten"


def test_a_click_in_the_sequence_chooses(view):
    strip = view.root.locator(".ve-strip")
    strip.click(position={"x": 34 + 43 * 3 + 20, "y": 20})
    view.until("Patch 3 of 49: row 0, column 3.")
    strip.click(position={"x": 5, "y": 20})  # the margin is no token
    assert view.status.startswith("Patch 3 of 49")


def test_reduced_motion_jumps(view):
    view.page.emulate_media(reduced_motion="reduce")
    try:
        view.root.locator(".ve-stage").evaluate(
            """stage => {
                window.seen = [];
                new MutationObserver(() => seen.push(stage.dataset.patches)).observe(stage, { attributes: true });
            }"""
        )
        view.button.click()
        view.until_patches("sequence")
        assert "moving" not in view.page.evaluate("seen")
    finally:
        view.page.emulate_media(reduced_motion="no-preference")


def test_the_focus_is_seen(view):
    overlap, near = view.root.get_by_role("checkbox").all()
    none = view.root.get_by_role("radio", name="0 %", exact=True)
    view.radio(32).focus()
    for target in (view.button, overlap, none, near, view.grid, view.slider):
        view.page.keyboard.press("Tab")
        outline = (
            "e => [e === document.activeElement, getComputedStyle(e).outlineStyle, getComputedStyle(e).outlineWidth]"
        )
        assert target.evaluate(outline) == [True, "solid", "3px"]


@pytest.mark.parametrize("width", [640, 420])
def test_at_200_percent_and_on_a_narrow_page_nothing_is_cut(view, width):
    session = view.page.context.new_cdp_session(view.page)
    metrics = {"width": width, "height": 450, "deviceScaleFactor": 2, "mobile": False}
    try:
        session.send("Emulation.setDeviceMetricsOverride", metrics)
        view.page.wait_for_function(
            """width => {
                const grid = document.querySelector(".ve-grid");
                return innerWidth === width && grid.width === Math.round(2 * grid.clientWidth);
            }""",
            arg=width,
        )
        assert view.cut() == []
    finally:
        session.send("Emulation.clearDeviceMetricsOverride")
        session.detach()


def test_two_explorers_and_two_views_of_one(view):
    both = "explorer, other = PatchExplorer(image), PatchExplorer(image[0], 56)\ndisplay(explorer, other, explorer)"
    view.notebook.run(SETUP + both)
    first, other, again = (PatchView(view.notebook, nth) for nth in range(3))
    for each in (first, other, again):
        each.until_patches("photo")
    assert view.page.locator(".ve").count() == 3
    first.click(1, 1)
    for each in (first, again):
        each.until("Patch 8 of 49")
    assert other.status.startswith("Patch 10 of 16: row 2, column 2. 1 × 56 × 56 = 3,136 numbers.")
    again.radio(16).click()
    for each in (first, again):
        each.root.get_by_text("196 tokens of 768 numbers").wait_for()
        assert each.radio(16).is_checked()
    assert other.radio(56).is_checked()
    view.notebook.wait_python("[explorer.patch_size, other.patch_size, other.selected]", [16, 56, 10])
