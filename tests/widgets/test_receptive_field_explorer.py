"""ReceptiveFieldExplorer: what is drawn and said is held to the gradients, computed once more one by one."""

import functools
import math
import re

import pytest
import torch
import traitlets
from torch import nn

from tests.widgets.view import View
from vit_edu import create_model
from vit_edu.explain.receptive_field import effective_receptive_field, layers_of
from vit_edu.widgets.receptive_field_explorer import ReceptiveFieldExplorer

SWIN = {"patch_size": 2, "embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}
MODELS = {
    "ViT": ("vit_tiny_patch16_224", {"patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}),
    "Swin": ("swin_tiny_patch4_window7_224", SWIN),
    "CNN": ("resnet20", {"depths": (1, 1, 1), "width": 8}),
}
SETUP = f"""
import torch
from vit_edu import create_model
from vit_edu.widgets.receptive_field_explorer import ReceptiveFieldExplorer
torch.set_num_threads(1)  # beside the browser
torch.manual_seed(0)
models = {{n: create_model(m, img_size=16, num_classes=3, **words) for n, (m, words) in {MODELS}.items()}}
image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
explorer = ReceptiveFieldExplorer(models, image)
explorer"""
scope = {}
exec(SETUP, scope)
models, image = scope["models"], scope["image"]
LAYERS = {name: layers_of(model, image / 127.5 - 1) for name, model in models.items()}
BLUE, WHITE = (22, 119, 255), (255, 255, 255)


def explorer(**traits):
    """The one explorer, as it began but for these traits."""
    for name, value in ({"depth": 1, "selected": 36, "scale": "linear"} | traits).items():
        setattr(scope["explorer"], name, value)
    return scope["explorer"]


@functools.cache
def field(name, step, row, column):
    """The layer of a model at a step of five, and its field at a place of 8 × 8: by the definition."""
    layers = list(LAYERS[name])
    layer = layers[math.floor(step * (len(layers) - 1) / 4 + 0.5)]
    rows, columns = LAYERS[name][layer]
    cell = (int((row + 0.5) * rows / 8), int((column + 0.5) * columns / 8))
    return layer, cell, effective_receptive_field(models[name], image / 127.5 - 1, layer, cell)


def facts(each):
    reached = int((each > 0).sum())
    held = each.flatten().sort(descending=True).values.cumsum(0)
    return reached, int((held < 0.5).sum()) + 1


class FieldView(View):
    def __init__(self, page, nth=0):
        super().__init__(page, nth)
        self.panels = self.root.get_by_role("application")
        self.slider = self.root.get_by_role("slider", name="Depth")

    def point(self, row, column):
        box = self.panels.first.bounding_box()
        return {"x": (column + 0.5) * box["width"] / 8, "y": (row + 0.5) * box["height"] / 8}

    def click(self, row, column, panel=0):
        self.panels.nth(panel).click(position=self.point(row, column))

    def light(self, panel):
        """The opacity of the light, 0..1, of each pixel."""
        return self.canvas(f".ve-field-panel[data-model='{panel}'] .ve-field-light")[..., 3] / 255

    def holds(self, step, row, column, scale="linear"):
        """All that is shown is what the gradients are."""
        self.until(f"Output at row {row}, column {column} of 8 × 8 places, step {step + 1} of 5")
        sentence = explorer(depth=step, selected=8 * row + column).sentence()
        for panel, name in enumerate(MODELS):
            layer, _, wanted = field(name, step, row, column)
            reached, half = facts(wanted)
            words = self.root.locator(f".ve-field-panel[data-model='{panel}']").inner_text()
            assert layer in words.split("\n")
            share = float(re.search(r"([\d.]+) % of the pixels reach it", words)[1])
            assert abs(share - reached / 2.56) < 0.51 and f"from {half} pixel" in words
            assert f"{name} {share:g} % of the pixels, half of the gradient from {half} pixel" in self.status
            assert f"{name} ({layer}) {share:g} % of the pixels" in sentence
            light, brightness = self.light(panel), wanted / wanted.max()
            assert torch.equal(light > 0, wanted > 0)
            level = brightness if scale == "linear" else 1 + brightness.clamp_min(1e-4).log10() / 4
            assert (light - (0.14 + 0.76 * level))[wanted > 0].abs().max() < (0.02 if scale == "linear" else 0.1)


@pytest.fixture
def view(static_page):
    static_page.show(explorer())
    view = FieldView(static_page)
    view.until("Output at row 4, column 4")
    return view


def test_it_appears_and_draws_the_gradients(view):
    view.holds(1, 4, 4)
    grey = image.double() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    dim = view.canvas(".ve-field-panel[data-model='1'] .ve-field-dim")[..., :3].double()
    assert (dim - 0.45 * grey.sum(0)[..., None]).abs().max() <= 1
    view.root.get_by_text("How much of the picture does one output see? ViT 100 % · Swin").wait_for()


def test_the_ring_is_the_outputs_cell_and_dashes_part_what_is_reached(view):
    view.root.get_by_role("slider").fill("0")
    view.click(1, 6)
    view.holds(0, 1, 6)
    for panel, (name, least) in enumerate({"ViT": 1, "Swin": 1, "CNN": 0}.items()):
        drawn = view.canvas(f".ve-field-panel[data-model='{panel}'] .ve-field-over").int()
        side = len(drawn) / 16  # of a pixel of the image

        def where(colour, drawn=drawn, side=side):
            same = (drawn[..., :3] - torch.tensor(colour)).abs().amax(-1) + 255 - drawn[..., 3] < 12
            rows, columns = same.nonzero().unbind(1)
            return torch.stack([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]) / side

        layer, (row, column), reached = field(name, 0, 1, 6)
        cell = 16 / LAYERS[name][layer][0]
        wanted = torch.tensor([row, row + 1, column, column + 1]) * cell
        assert (where(BLUE) - wanted).abs().max() * side < (4 if least else 6)  # a cell of one pixel gets a ring of six
        rows, columns = (reached > 0).nonzero().unbind(1)
        inside = [int(edge) for edge in (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)]
        for edge, at in zip(where(WHITE), inside):
            assert at in (0, 16) or abs(edge - at) * side < 5


def test_the_slider_and_the_keys_change_the_depth(view):
    view.slider.focus()
    for key, step in (("End", 4), ("ArrowLeft", 3), ("Home", 0)):
        view.page.keyboard.press(key)
        view.holds(step, 4, 4)
    assert view.slider.get_attribute("aria-valuetext") == "after 1 of 5"
    view.panels.nth(1).focus()
    for key, step in (("-", 0), ("+", 1), ("=", 2), ("_", 1)):
        view.page.keyboard.press(key)
        view.until(f"step {step + 1} of 5")


def test_a_click_in_any_picture_chooses_for_all(view):
    for panel, row, column in ((0, 0, 0), (2, 7, 3), (1, 2, 7)):
        view.click(row, column, panel)
        view.holds(1, row, column)


def test_the_mouse_shows_without_choosing(view):
    before = view.light(2)
    view.panels.nth(0).hover(position=view.point(0, 1))
    pointed = view.light(2)
    assert torch.equal(pointed > 0, field("CNN", 1, 0, 1)[2] > 0) and not torch.equal(pointed, before)
    assert "row 4, column 4" in view.status
    view.root.get_by_role("status").hover()
    assert torch.equal(view.light(2), before)


def test_a_finger_chooses_too(view):
    box, at = view.panels.nth(2).bounding_box(), view.point(6, 1)
    view.page.touchscreen.tap(box["x"] + at["x"], box["y"] + at["y"])
    view.holds(1, 6, 1)


def test_arrow_keys_move_and_stop_at_the_edge(view):
    view.panels.nth(1).focus()
    moves = {"Home": (4, 0), "ArrowLeft": (4, 0), "PageUp": (0, 0), "ArrowUp": (0, 0), "ArrowRight": (0, 1)}
    moves |= {"ArrowDown": (1, 1), "End": (1, 7), "PageDown": (7, 7)}
    for key, (row, column) in moves.items():
        view.page.keyboard.press(key)
        view.until(f"row {row}, column {column} of 8 × 8")
    view.holds(1, 7, 7)


def test_log_light_by_mouse_and_key(view):
    view.root.get_by_role("radio", name="logarithmic").click()
    view.holds(1, 4, 4, "log")
    view.root.get_by_text("1/10,000").wait_for()
    view.page.keyboard.press("l")
    view.root.get_by_text("a little").wait_for()
    view.holds(1, 4, 4)


def test_the_chart_says_what_the_layers_reach(view):
    chart = view.root.get_by_role("img")
    view.click(3, 3)
    view.until("row 3, column 3")
    words = chart.get_attribute("aria-label")
    for name in MODELS:
        said = re.search(rf"{name}: (.*?)%\.", words)[1]
        shares = [float(share) for share in re.findall(r"([\d.]+) ?(?:%|$)", said.replace("blocks.", ""))]
        steps = sorted({next(s for s in range(5) if field(name, s, 3, 3)[0] == layer) for layer in LAYERS[name]})
        wanted = [facts(field(name, step, 3, 3)[2])[0] / 2.56 for step in steps]
        assert len(shares) == len(wanted) and max(abs(a - b) for a, b in zip(shares, wanted)) < 0.51
    before = view.canvas(".ve-field-chart")
    view.click(0, 0)
    view.until("row 0, column 0")
    assert not torch.equal(before, view.canvas(".ve-field-chart"))


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_both_themes_can_be_read(view, scheme):
    view.page.emulate_media(color_scheme=scheme)
    ground = "#16191d" if scheme == "dark" else "#fff"  # the page's own, which an explorer leaves alone
    view.page.evaluate("colour => (document.body.style.background = colour)", ground)
    assert [text for ratio, text in view.contrast() if ratio < 4.5] == []
    red = {"light": (196, 80, 74, 255), "dark": (229, 138, 128, 255)}  # of the first model's line
    drawn = view.canvas(".ve-field-chart")
    assert [name for name in red if (drawn == torch.tensor(red[name])).all(-1).any()] == [scheme]


@pytest.mark.parametrize("width", [640, 420])
def test_nothing_is_cut_on_a_narrow_page(view, width):
    view.page.set_viewport_size({"width": width, "height": 800})
    view.page.wait_for_function("width => innerWidth === width", arg=width)
    view.canvas(".ve-field-chart")
    assert view.cut() == []


def test_two_on_one_page_and_an_image_that_is_not_square(static_page):
    wide = torch.randint(0, 256, (1, 20, 96), dtype=torch.uint8)
    convolutions = {"alone": create_model("resnet20", depths=(1, 1), width=4)}
    static_page.show(ReceptiveFieldExplorer(convolutions, wide), explorer(depth=4, selected=0, scale="log"))
    first, second = FieldView(static_page, 0), FieldView(static_page, 1)
    second.holds(4, 0, 0, "log")
    first.until("Output at row 4, column 4 of 8 × 8 places, step 2 of 2: alone")
    assert first.light(0).shape == (13, 64)  # at most 64 pixels a side
    first.click(0, 0)
    first.until("Output at row 0, column 0")
    assert "row 0, column 0" in second.status and second.root.get_by_role("radio", name="logarithmic").is_checked()


def test_in_jupyterlab_python_moves_it_and_follows(notebook):
    notebook.errors.clear()
    notebook.command("notebook:clear-all-cell-outputs")
    notebook.run(SETUP)
    view = FieldView(notebook)
    view.until("Output at row 4, column 4 of 8 × 8 places, step 2 of 5")
    notebook.run("explorer.depth = 3; explorer.selected = 13; explorer.scale = 'log'", cell=1)
    view.until("Output at row 1, column 5 of 8 × 8 places, step 4 of 5")
    view.root.get_by_role("radio", name="logarithmic", checked=True).wait_for()
    view.click(7, 0)
    view.page.keyboard.press("-")
    notebook.wait_python("[explorer.selected, explorer.depth, explorer.scale]", [56, 2, "log"])
    assert notebook.errors == []


def test_its_words_and_its_picture():
    shown = explorer(depth=2, selected=0)
    words = shown.sentence()
    assert "at row 0, column 0 of 8 × 8 places, after step 3 of 5" in words
    for name in MODELS:
        layer, _, wanted = field(name, 2, 0, 0)
        assert f"{name} ({layer})" in words and f"half of the gradient from {facts(wanted)[1]} of 256" in words
    picture = shown.picture()
    assert picture.size == (3 * 212 - 12, 234)
    shown.depth = 4
    assert picture.tobytes() != shown.picture().tobytes() and words != shown.sentence()


def test_codes_keep_what_is_nothing_and_only_that():
    shown = explorer()
    codes = torch.frombuffer(bytearray(shown.fields), dtype=torch.uint8).view(-1, 64, 16, 16)
    assert len(codes) == sum(map(len, LAYERS.values()))
    for index, (name, layer) in enumerate((one, layer) for one in LAYERS for layer in LAYERS[one]):
        rows, columns = LAYERS[name][layer]
        for place in (0, 29, 63):
            cell = (int((place // 8 + 0.5) * rows / 8), int((place % 8 + 0.5) * columns / 8))
            wanted = effective_receptive_field(models[name], image / 127.5 - 1, layer, cell)
            assert torch.equal(codes[index, place] > 0, wanted > 0)
            assert ((codes[index, place] / 255.0) ** 2 - wanted / wanted.max()).abs().max() < 0.009


def test_inputs_take_the_images_place_and_several_add_up():
    inputs = torch.randn(2, 3, 16, 16)
    both = ReceptiveFieldExplorer(models, image, inputs)
    assert both.pixels == explorer().pixels and both.fields != explorer().fields
    wanted = effective_receptive_field(models["CNN"], inputs, "layer3", (0, 0))
    both.depth, both.selected = 4, 0
    assert f"CNN (layer3) {100 * (wanted > 0).float().mean():.0f} %" in both.sentence()


def test_eight_layers_at_most_and_two_megabytes():
    deep = create_model("vit_tiny_patch16_224", img_size=64, depth=12, embed_dim=12, num_heads=1)
    shown = ReceptiveFieldExplorer({"deep": deep}, torch.zeros(3, 64, 64, dtype=torch.uint8))
    [layers] = shown.layers
    assert len(layers) == 8 and (layers[0], layers[-1]) == ("patch_embed", "blocks.11")
    assert len(shown.fields) <= 2**21 and shown.places == 8


@pytest.mark.parametrize("trait, value", [("depth", 5), ("depth", -1), ("selected", 64), ("scale", "square")])
def test_python_cannot_move_it_outside(trait, value):
    with pytest.raises(traitlets.TraitError, match=trait):
        setattr(explorer(), trait, value)


def broken():
    model = create_model("resnet20", depths=(1,), width=4)
    nn.init.constant_(model.conv1.weight, float("nan"))
    return model


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"models": [models["CNN"]]}, TypeError, r"models is a list; wanted a dictionary"),
        ({"models": {}}, ValueError, r"models has 0 of them; wanted 1 to 6"),
        ({"models": {str(i): models["CNN"] for i in range(7)}}, ValueError, r"models has 7 of them"),
        ({"models": {3: models["CNN"]}}, TypeError, r"models has the key 3; wanted its name"),
        ({"models": {"CNN": "resnet20"}}, TypeError, r"models\['CNN'\] is a str; wanted a torch module"),
        ({"models": {"conv": nn.Conv2d(3, 4, 3)}}, TypeError, r"models\['conv'\] does not take.*return_intermediates"),
        ({"models": {"CNN": broken()}}, ValueError, r"gradients of 'layer1' are not all finite"),
        ({"image": image[:, :8]}, ValueError, r"models\['ViT'\] does not take the inputs \(3, 8, 16\), and all models"),
        ({"image": image / 0.0}, ValueError, r"image holds NaN or infinity"),
        ({"image": torch.zeros(3, 2000, 16)}, ValueError, r"wanted at most 1024"),
        ({"inputs": image}, TypeError, r"inputs is a torch.uint8; wanted a float tensor"),
        ({"inputs": [1.0]}, TypeError, r"inputs is a list"),
        ({"inputs": torch.zeros(3, 8, 16)}, ValueError, r"inputs has the shape \(3, 8, 16\).*H × W = 16 × 16"),
        ({"inputs": torch.zeros(0, 3, 16, 16)}, ValueError, r"inputs has the shape \(0, 3, 16, 16\)"),
        ({"inputs": torch.full((3, 16, 16), float("nan"))}, ValueError, r"inputs has values that are not finite"),
    ],
)
def test_what_it_cannot_show_gets_a_sentence(change, error, words):
    with pytest.raises(error, match=words) as caught:
        ReceptiveFieldExplorer(**{"models": models, "image": image} | change)
    [sentence] = caught.value._render_traceback_()
    assert sentence.startswith("ReceptiveFieldExplorer: ") and "\n" not in sentence
