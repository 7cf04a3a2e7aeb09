"""AttentionExplorer: what is painted and told against the tensors, with mouse, finger, keys and from Python."""

import math
import re

import pytest
import torch
from playwright.sync_api import expect

import vit_edu
from tests.widgets.view import View
from vit_edu.explain import attention_distance, attention_entropy, attention_maps, rollout
from vit_edu.models import SwinTransformer
from vit_edu.widgets import AttentionExplorer
from vit_edu.widgets.look import viridis

COLOURS = viridis().int()
draw = torch.Generator().manual_seed(3)
IMAGE = torch.randint(0, 256, (3, 24, 40), generator=draw, dtype=torch.uint8)


def sharp(model):
    """Random weights whose attention differs from place to place."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "qkv.weight" in name or name.endswith(("bias_table", "_token", "pos_embed")):
                scale = 1.2 / weight.shape[1] ** 0.5 if "qkv" in name else 1
                weight.copy_(scale * torch.randn(weight.shape, generator=draw))
    return model.eval()


def vit(**words):
    words = {"img_size": (24, 40), "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3} | words
    torch.manual_seed(0)
    return sharp(vit_edu.create_model("vit_tiny_patch16_224", num_classes=0, **words))


def swin():
    words = {"patch_size": 4, "num_classes": 0, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4)}
    return sharp(SwinTransformer(img_size=(24, 40), window_size=3, **words))


def cct():
    return sharp(vit_edu.create_model("cct_2_3x2_32", img_size=(24, 40)))


MODELS = {
    "ViT": vit,
    "registers": lambda: vit(reg_tokens=2),
    "CCT": cct,
    "Swin": swin,
    "MobileViT": lambda: sharp(vit_edu.create_model("mobilevit_xxs", img_size=(24, 40))),
}
VIT = vit()
MAPS = attention_maps(VIT, (IMAGE / 127.5 - 1)[None])  # three layers (1, 3, 16, 16), grid 3 x 5


class AttentionView(View):
    def __init__(self, notebook, nth=0):
        super().__init__(notebook, nth)
        self.photo, self.maps = self.root.get_by_role("application").nth(0), self.root.get_by_role("application").nth(1)

    def radio(self, words):
        return self.root.get_by_role("radio", name=words, exact=True)

    def at(self, row, column, grid=(3, 5)):
        box = self.photo.bounding_box()
        return {"x": (column + 0.5) * box["width"] / grid[1], "y": (row + 0.5) * box["height"] / grid[0]}

    def small(self, layer, head, heads=3, layers=3):
        """Where the small map of a head is: behind 26 pixels for the layers' numbers, under 18 for the heads'."""
        box = self.maps.bounding_box()
        x, y = (head + 0.5) * (box["width"] - 26) / heads, (layer + 0.5) * (box["height"] - 18) / layers
        return {"x": 26 + x, "y": 18 + y}

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def heat(self):
        return self.canvas(".ve-att-heat")[..., :3].int()

    def steps(self):
        """The colours over the photo as steps 0 to 255 of viridis, (rows, columns)."""
        return (self.heat()[:, :, None] - COLOURS).abs().sum(-1).argmin(-1)

    def title(self):
        return self.root.locator(".ve-att-left .ve-title").first.inner_text()


def painted(weights, prefix, grid):
    patches = weights[prefix:].double()
    return (patches / patches.max() * 256).floor().clamp(max=255).view(grid)


def assert_painted(view, weights, prefix, grid):
    steps = view.steps()
    assert steps.shape == grid
    assert (steps - painted(weights, prefix, grid)).abs().max() <= 1  # float16's rounding may cross a step
    assert steps.max() == 255 > steps.min()


@pytest.fixture
def view(static_page):
    static_page.show(AttentionExplorer(VIT, IMAGE))
    view = AttentionView(static_page)
    view.until("Layer 2, head 0: patch 7")
    return view


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_and_kind_of_row_is_painted_as_the_tensor_says(static_page, name):
    model = MODELS[name]()
    maps = attention_maps(model, (IMAGE / 127.5 - 1)[None])
    explorer = AttentionExplorer(model, IMAGE)
    static_page.show(explorer)
    view = AttentionView(static_page)
    places = [len(maps) - 1, len(maps) // 2, 0]
    view.maps.focus()
    for layer in places:
        one = maps[layer]
        while not view.status.startswith(f"Layer {layer},"):
            before = view.status
            view.press("ArrowUp")
            view.root.locator(".ve-status").filter(has_not_text=before).wait_for()
        heads, prefix = one.weights.shape[1], one.prefix
        view.photo.click(position=view.at(one.grid_size[0] - 1, 1, one.grid_size))
        view.page.mouse.move(0, 0)
        query = (one.grid_size[0] - 1) * one.grid_size[1] + 1
        view.press("h")
        view.maps.focus()
        view.press("End")
        view.until(f"Layer {layer}, head {heads - 1}: patch {query} (row {one.grid_size[0] - 1}, column 1)")
        assert_painted(view, one.weights[0, -1, prefix + query], prefix, one.grid_size)
        explorer.layer, explorer.head, explorer.query = layer, heads - 1, query
        assert view.status == explorer.sentence().removeprefix("Attention, ").replace("layer", "Layer", 1)
        view.press("m")
        view.until(f"Layer {layer}, mean of {heads} heads")
        assert_painted(view, one.weights[0].mean(0)[prefix + query], prefix, one.grid_size)
        view.press("r")
        first = next(i for i in range(layer + 1) if all(m.grid_size == one.grid_size for m in maps[i : layer + 1]))
        view.until(f"Rollout of layers {first} to {layer}: patch {query}")
        row = rollout(maps[first : layer + 1])[0, prefix + query]
        assert_painted(view, row, prefix, one.grid_size)
        view.press("h")
        view.until(f"Layer {layer}, head")


def test_the_numbers_are_those_of_explain(view):
    view.maps.click(position=view.small(1, 2))
    view.until("Layer 1, head 2: patch 7 (row 1, column 2) looks most at")
    weights = MAPS[1].weights[:, 2:3]
    distance = attention_distance(weights, (3, 5), 8, prefix=1).item()
    entropy = attention_entropy(weights).item()
    facts = f"head's mean distance is {distance:.1f} pixels, its entropy {entropy:.2f} bits."
    assert f"This {facts}" in view.status
    view.root.get_by_text(f"Over all queries, this {facts}", exact=True).wait_for()
    row = weights[0, 0, 8]
    far = [8 * math.hypot(key // 5 - 1, key % 5 - 2) for key in range(15)]
    away = sum(w * d for w, d in zip(row[1:].tolist(), far)) / row[1:].sum().item()
    bits = -sum(w * math.log2(w) for w in row.tolist() if w)
    told = view.root.locator(".ve-att-left").inner_text()
    looks, mine, even = map(
        float, re.search(r"Looks ([\d.]+) .*?Entropy ([\d.]+) .*?over ([\d.]+) of 16", told).groups()
    )
    assert abs(looks - away) < 0.06 and abs(mine - bits) < 0.006 and abs(even - 2**bits) < 0.06
    lines = view.root.locator(".ve-att-line").all_inner_texts()
    best = row[1:].topk(5)
    assert len(lines) == 5
    for line, patch, weight in zip(lines, best.indices.tolist(), best.values.tolist()):
        words, number = line.strip().split(": ")
        assert words == f"patch {patch} (row {patch // 5}, column {patch % 5})" and abs(float(number) - weight) < 2e-4
    assert abs(float(re.search(r"Class token: ([\d.]+)\.", told)[1]) - row[0].item()) < 2e-4
    legend = view.root.locator(".ve-att-legend").inner_text()
    assert f"(patch {best.indices[0]})" in legend and lines[0].split(": ")[1].strip() in legend


def test_the_class_token_and_registers_look_too(static_page):
    model = vit(reg_tokens=2)
    maps = attention_maps(model, (IMAGE / 127.5 - 1)[None])
    static_page.show(AttentionExplorer(model, IMAGE))
    view = AttentionView(static_page)
    for token, name in enumerate(["class token", "register 0", "register 1"]):
        view.radio(name).click()
        view.until(f"Layer 2, head 0: the {name} looks most at")
        assert_painted(view, maps[2].weights[0, 0, token], 3, (3, 5))
        view.root.get_by_text("It has no place in the photo, so no distance.").wait_for()
    view.press("c")
    view.until("patch 7 (row 1, column 2) looks")
    view.press("c")
    view.until("the class token looks")
    view.photo.focus()
    view.press("ArrowRight")
    view.until("patch 8 (row 1, column 3) looks")
    expect(view.radio("a patch")).to_be_checked()


def test_without_a_class_token_there_is_none_to_choose(static_page):
    static_page.show(AttentionExplorer(cct(), IMAGE))
    view = AttentionView(static_page)
    view.until("patch")
    assert view.root.get_by_text("Look from").count() == 0 and view.root.get_by_text("C: ").count() == 0
    view.photo.focus()
    view.press("c", "End")
    view.until("Layer 1, head 0: patch")


def test_arrow_keys_choose_the_patch_and_stop_at_the_edge(view):
    view.photo.click(position=view.at(0, 0))
    there = [("ArrowRight", 1), ("ArrowDown", 6), ("ArrowLeft", 5), ("ArrowLeft", 5), ("End", 9), ("PageDown", 14)]
    back = [("ArrowRight", 14), ("ArrowDown", 14), ("Home", 10), ("ArrowUp", 5), ("PageUp", 0), ("ArrowUp", 0)]
    for key, patch in there + back:
        view.press(key)
        view.until(f"Layer 2, head 0: patch {patch} (row {patch // 5}, column {patch % 5}) looks")
    assert_painted(view, MAPS[2].weights[0, 0, 1], 1, (3, 5))


def test_arrow_keys_choose_layer_and_head(view):
    view.maps.focus()
    keys = [("PageUp", 0, 0), ("ArrowUp", 0, 0), ("ArrowRight", 0, 1), ("End", 0, 2), ("ArrowRight", 0, 2)]
    keys += [("ArrowDown", 1, 2), ("ArrowLeft", 1, 1), ("Home", 1, 0), ("PageDown", 2, 0), ("ArrowDown", 2, 0)]
    for key, layer, head in keys:
        view.press(key)
        view.until(f"Layer {layer}, head {head}:")


def test_the_mouse_shows_without_choosing_and_a_finger_chooses(view):
    view.photo.hover(position=view.at(2, 4))
    view.root.get_by_text("Patch 14 (row 2, column 4)", exact=True).wait_for()
    assert_painted(view, MAPS[2].weights[0, 0, 15], 1, (3, 5))
    view.maps.hover(position=view.small(0, 1))
    view.root.locator(".ve-headline").filter(has_text="Layer 0, head 1: patch 7").wait_for()
    assert_painted(view, MAPS[0].weights[0, 1, 8], 1, (3, 5))
    view.page.mouse.move(1, 1)
    view.root.locator(".ve-headline").filter(has_text="Layer 2, head 0: patch 7").wait_for()
    assert view.status.startswith("Layer 2, head 0: patch 7")
    box, at = view.photo.bounding_box(), view.at(0, 3)
    view.page.touchscreen.tap(box["x"] + at["x"], box["y"] + at["y"])
    view.until("patch 3 (row 0, column 3)")
    box, at = view.maps.bounding_box(), view.small(1, 1)
    view.page.touchscreen.tap(box["x"] + at["x"], box["y"] + at["y"])
    view.until("Layer 1, head 1: patch 3")


def test_the_small_maps_are_those_of_every_head(view):
    view.photo.click(position=view.at(2, 0))
    view.until("patch 10")
    seen, box = view.canvas(".ve-att-small canvas:first-child")[..., :3].int(), view.maps.bounding_box()
    w, h = (box["width"] - 26) / 3, (box["height"] - 18) / 3
    for layer in range(3):
        for head in range(3):
            ys = [18 + layer * h + (row + 0.5) * (h - 1) / 3 for row in range(3)]
            xs = [26 + head * w + (column + 0.5) * (w - 1) / 5 for column in range(5)]
            colours = torch.stack([torch.stack([seen[int(y), int(x)] for x in xs]) for y in ys])
            steps = (colours[:, :, None] - COLOURS).abs().sum(-1).argmin(-1)
            wanted = painted(MAPS[layer].weights[0, head, 11], 1, (3, 5))
            assert (steps - wanted).abs().max() <= 1


def test_a_query_keeps_its_place_from_grid_to_grid(static_page):
    static_page.show(AttentionExplorer(swin(), IMAGE))  # 6 x 10 tokens in two layers, then 3 x 5
    view = AttentionView(static_page)
    view.until("Layer 3, head 0: patch 7 (row 1, column 2)")
    view.maps.focus()
    view.press("End")
    view.until("Layer 3, head 3: patch 7")
    view.press("PageUp")
    view.until("Layer 0, head 1: patch 35 (row 3, column 5)")  # two heads, and the same place of the photo
    view.press("PageDown")
    view.until("Layer 3, head 1: patch 7 (row 1, column 2)")


def test_the_chart_marks_the_head(view):
    def place():
        chart = view.canvas(".ve-att-distances")[..., :3].int()
        accent = (chart - torch.tensor([0x0B, 0x62, 0xD6])).abs().sum(-1) < 12
        y, x = accent.nonzero(as_tuple=True)
        return len(y), y.double().mean().item() / len(chart) * 140, x.double().mean().item() / chart.shape[1]

    far = [attention_distance(one.weights, (3, 5), 8, prefix=1)[0] for one in MAPS]
    most = max(distance.max() for distance in far)
    size, y, x = place()
    assert 30 < size < 90 and abs(y - (122 - far[2][0] / most * 114)) < 1.5
    view.maps.click(position=view.small(0, 2))
    view.until("Layer 0, head 2")
    _, again, left = place()
    assert abs(again - (122 - far[0][2] / most * 114)) < 1.5 and left < x


def test_strength_uncovers_the_photo(view):
    style = "e => [getComputedStyle(e).opacity, getComputedStyle(e.previousSibling).filter]"
    heat = view.root.locator(".ve-att-heat")
    assert heat.evaluate(style) == ["0.7", "grayscale(1)"]
    view.root.get_by_role("slider", name="Strength").focus()
    view.press("Home")
    assert heat.evaluate(style) == ["0", "none"]
    assert torch.equal(view.canvas(".ve-att-picture")[..., :3].permute(2, 0, 1), IMAGE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 420])
def test_it_can_be_read_in_both_themes_and_nothing_is_cut(static_page, scheme, width):
    static_page.page.emulate_media(color_scheme=scheme)
    static_page.page.set_viewport_size({"width": width, "height": 900})
    static_page.show(AttentionExplorer(vit(reg_tokens=4), IMAGE), AttentionExplorer(swin(), IMAGE[0].expand(3, -1, -1)))
    static_page.page.add_style_tag(content=f"body {{ background: {'#fff' if scheme == 'light' else '#16191d'} }}")
    for nth in (0, 1):
        view = AttentionView(static_page, nth)
        view.until("looks most at")
        assert view.cut() == []
        assert [text for ratio, text in view.contrast() if ratio < 4.5] == []
        assert (view.canvas(".ve-att-distances")[..., :3].float().mean() > 0) and view.heat().any()


def test_two_explorers_do_not_disturb_each_other(static_page):
    static_page.show(AttentionExplorer(VIT, IMAGE), AttentionExplorer(cct(), IMAGE))
    first, second = AttentionView(static_page, 0), AttentionView(static_page, 1)
    second.until("patch")
    before = second.status
    first.photo.click(position=first.at(0, 1))
    first.radio("rollout").click()
    first.until("Rollout of layers 0 to 2: patch 1 (row 0, column 1) comes most from")
    assert second.status == before and second.radio("one head").is_checked()


def test_in_the_notebook_python_and_the_page_move_each_other(notebook):
    notebook.errors.clear()
    notebook.run(
        "import torch, vit_edu\nfrom vit_edu.widgets.attention_explorer import AttentionExplorer\n"
        "torch.manual_seed(0)\nmodel = vit_edu.create_model('vit_tiny_patch16_224', img_size=(24, 40), patch_size=8, "
        "embed_dim=24, depth=3, num_heads=3)\nexplorer = AttentionExplorer(model, torch.rand(3, 24, 40))\nexplorer"
    )
    view = AttentionView(notebook)
    view.until("Layer 2, head 0: patch 7")
    view.maps.click(position=view.small(0, 2))
    view.press("m")
    view.radio("class token").click()
    view.until("Layer 0, mean of 3 heads: the class token looks most at")
    told = "[explorer.layer, explorer.head, explorer.query, explorer.shown]"
    notebook.wait_python(told, [0, 2, -1, "mean"])
    notebook.run("explorer.layer = 1; explorer.head = 1; explorer.query = 14; explorer.shown = 'head'", cell=1)
    view.until("Layer 1, head 1: patch 14 (row 2, column 4) looks most at")
    expect(view.radio("one head")).to_be_checked()
    expect(view.radio("a patch")).to_be_checked()
    weights = notebook.python("explorer.row().tolist()")
    assert_painted(view, torch.tensor(weights), 1, (3, 5))
    assert notebook.errors == [] and notebook.elsewhere == []
