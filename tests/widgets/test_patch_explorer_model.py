"""PatchExplorer's overlap, positions and moved patches: what is drawn and said is what tensors and the model say."""

import pytest
import torch
import torch.nn.functional as F
from playwright.sync_api import expect

from tests.widgets.test_patch_explorer import PatchView
from tests.widgets.view import patches
from vit_edu.layers import sincos_position
from vit_edu.models import VisionTransformer
from vit_edu.widgets import PatchExplorer
from vit_edu.widgets.look import viridis

WIDE = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
IMAGE = WIDE[:, :32, :32].contiguous()
NAMES = ["cat", "dog", "a fire engine", "cup", "spoon"]
RING = torch.tensor([22, 119, 255])


def make_model(**words):
    """4 x 4 patches, and weights large enough for the answers to depend on where patches stand."""
    torch.manual_seed(0)
    words = {"num_classes": 5, "reg_tokens": 2, "embed_dim": 24, "depth": 2, "num_heads": 2} | words
    model = VisionTransformer(32, 8, **words)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=2 if name == "pos_embed" else 0.4)
    return model.requires_grad_(False)


def rearranged(image, order, p):
    """The image with patch order[place] at each place: the definition once more, without the kit."""
    moved, across = image.clone(), image.shape[2] // p
    for place, patch in enumerate(order.tolist()):
        (y, x), (v, u) = ((i // across * p, i % across * p) for i in (place, patch))
        moved[:, y : y + p, x : x + p] = image[:, v : v + p, u : u + p]
    return moved


class PlacesView(PatchView):
    def box(self, name):
        return self.root.get_by_role("checkbox", name=name)

    def share(self, share):
        return self.root.get_by_role("radio", name=f"{share} %", exact=True)

    def at(self, y, x):
        """A point of the photo, both 0..1."""
        box = self.grid.bounding_box()
        return {"x": x * box["width"], "y": y * box["height"]}

    def text(self, words):
        self.root.get_by_text(words, exact=True).wait_for()

    def photo(self):
        return self.canvas(".ve-photo .ve-pixels")[..., :3].permute(2, 0, 1)

    def enlarged(self):
        return self.canvas(".ve-enlarged .ve-pixels")[..., :3].permute(2, 0, 1)

    def ring(self):
        """Top, bottom, left and right of the marked patch, 0..1 of the photo."""
        canvas = self.canvas(".ve-grid").int()[..., :3]
        near = (canvas - RING).abs().amax(-1) < 6
        (y, x), (height, width) = near.nonzero(as_tuple=True), near.shape
        return torch.tensor([y.min() / height, (y.max() + 1) / height, x.min() / width, (x.max() + 1) / width])

    def near(self, y, x):
        """The colour of the map over the photo at fractions of its height and width, (len(y), len(x), 3)."""
        canvas = self.canvas(".ve-grid").int()[..., :3]
        return canvas[(y * canvas.shape[0]).long()][:, (x * canvas.shape[1]).long()]

    def bars(self):
        """Both sides: [[(name, figure, share of the track), …], […]]."""
        return self.root.locator(".ve-bars").evaluate_all(
            """sides => sides.map((bars) => [...bars.querySelectorAll(".ve-name")].map((name) => {
                const [track, figure] = [name.nextSibling, name.nextSibling.nextSibling];
                const wide = track.firstChild.getBoundingClientRect().width / track.getBoundingClientRect().width;
                return [name.textContent, figure.textContent, wide];
            }))"""
        )


def show(static_page, *args, **traits):
    explorer = PatchExplorer(*args, **traits.pop("words", {}))
    for name, value in traits.items():
        setattr(explorer, name, value)
    static_page.show(explorer)
    view = PlacesView(static_page)
    view.until("Patch ")
    return explorer, view


@pytest.mark.parametrize("image, p", [(WIDE, 16), (WIDE[:1], 8), (IMAGE, 32)])
def test_patches_that_overlap_are_those_of_unfold(static_page, image, p):
    _, view = show(static_page, image, p)
    view.box("Overlap by half").check()
    vectors = F.unfold(image[None].float(), p, stride=p // 2)[0].T  # (N, C*p*p)
    rows, columns = ((side - p) // (p // 2) + 1 for side in image.shape[1:])
    N, (C, H, W) = len(vectors), image.shape
    many = f"{N} token{'s' if N > 1 else ''}"
    view.text(f"{H} × {W} × {C} → {many} of {C * p * p:,} numbers")
    assert rows * columns == N
    for token in sorted({0, columns - 1, N // 2, N - columns, N - 1}):
        top, left = token // columns * p // 2, token % columns * p // 2
        view.grid.click(position=view.at((top + p / 2) / H, (left + p / 2) / W))
        view.until(f"Patch {token} of {N}: row {token // columns}, column {token % columns}.")
        view.root.get_by_text(f"Starts at pixel row {top}, column {left}.").wait_for()
        drawn = view.enlarged()[:C]
        assert torch.equal(drawn.reshape(-1).float(), vectors[token])
        numbers = [int(text) for text in view.root.locator(".ve-values [data-value]").all_inner_texts()]
        assert numbers == vectors[token, : len(numbers)].tolist()
        wanted = torch.tensor([top / H, (top + p) / H, left / W, (left + p) / W])
        assert (view.ring() - wanted).abs().max() < 0.02


def test_the_overlap_counts_as_a_convolution_does_and_keeps_the_place(static_page):
    _, view = show(static_page, WIDE, 16, selected=20)  # row 3, column 2: its middle is pixel 56, 40
    view.grid.focus()
    view.page.keyboard.press("o")
    view.until("Patches overlap by half: 77 tokens. Patch 70 of 77: row 6, column 4.")
    words = "A patch every 8 pixels: (64 − 16) / 8 + 1 = 7 rows, (96 − 16) / 8 + 1 = 11 columns."
    view.root.get_by_text(words).wait_for()
    view.page.keyboard.press("ArrowUp")
    view.until("Patch 59 of 77: row 5, column 4.")
    view.page.keyboard.press("-")
    view.until("Patch size 8: 345 tokens. ")
    expect(view.box("Overlap by half")).to_be_checked()
    view.box("Overlap by half").uncheck()
    view.until("Patches lie edge to edge: 96 tokens.")
    assert torch.equal(view.photo(), WIDE)


def test_an_odd_size_cannot_overlap_by_half(static_page):
    _, view = show(static_page, WIDE[:, :56, :56].contiguous(), 8, overlap=True)
    view.page.keyboard.press("Tab")
    view.radio(7).click()
    view.until("Patch size 7: 64 tokens.")
    expect(view.box("Overlap by half")).to_be_disabled()
    view.grid.press("o")
    view.grid.press("ArrowLeft")
    view.until("of 64: ")
    view.radio(14).click()
    view.until("Patch size 14: 16 tokens.")
    expect(view.box("Overlap by half")).to_be_enabled()


def told(near, chosen):
    """What the page says of the places most and least like the chosen one."""
    others = sorted((i for i in range(len(near)) if i != chosen), key=lambda i: -round(near[i].item(), 6))
    return [f"{i} ({near[i]:.2f})".replace("-", "−") for i in (*others[:4], others[-1])]


@pytest.mark.parametrize("with_model, overlap", [(False, False), (False, True), (True, False)])
def test_the_map_is_the_cosine_of_the_positions(static_page, with_model, overlap):
    model = make_model() if with_model else None
    image = IMAGE if with_model else WIDE
    explorer, view = show(static_page, image, words={"patch_size": 8, "model": model}, overlap=overlap)
    view.box("Position similarity").check()
    (rows, columns), (H, W) = explorer.grid_size, image.shape[1:]
    table = model.pos_embed[0, 3:] if with_model else sincos_position((rows, columns), 768)
    stride = 4 if overlap else 8
    for chosen in (0, rows * columns // 2 + 1, rows * columns - 1):
        row, column = divmod(chosen, columns)
        view.grid.click(position=view.at((row * stride + 4) / H, (column * stride + 4) / W))
        view.until(f"Patch {chosen} of {rows * columns}")
        unit = F.normalize(table.double(), dim=1)
        explorer.selected = chosen
        near = explorer.similarity().double()  # a model's go over in half precision
        assert (near - unit @ unit[chosen]).abs().max() < (5e-4 if with_model else 1e-6)
        y = (torch.arange(rows) * stride + 4 - 0.35 * stride) / H  # beside the numbers and the ring
        x = (torch.arange(columns) * stride + 4 + 0.35 * stride) / W
        shares = ((near - near.min()) / (1 - near.min())).clamp(0, 1 - 1e-9)
        wanted = viridis().int()[(shares * 256).long()].view(rows, columns, 3)
        wrong = (view.near(y, x) - wanted).abs().amax(-1) > 8
        ringed = torch.zeros(rows, columns, dtype=torch.bool)  # the ring lies over some of these points
        ringed[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
        assert not (wrong & ~ringed).any()
        facts = told(near, chosen)
        words = f"Most like its position: patches {', '.join(facts[:4])}; least: {facts[4]}."
        if with_model:
            assert view.status.endswith(words)
            view.text(f"The model's position embeddings. {words}")
        else:  # many places are equally far
            assert facts[0].split("(")[1] in view.status and view.status.endswith(f"({facts[4].split('(')[1]}.")
        view.text(f"Position of patch {chosen} with itself: cosine 1.00")
        other = (chosen + columns + 1) % (rows * columns)
        row, column = divmod(other, columns)
        view.grid.hover(position=view.at((row * stride + 4) / H, (column * stride + 4) / W))
        view.text(f"Position of patch {chosen} with patch {other}: cosine {near[other]:.2f}".replace("-", "−"))
        view.root.locator(".ve-headline").hover()
    if with_model:  # its cells have room for the numbers
        cell = view.canvas(".ve-grid").int()[..., :3].unfold(0, 85, 85).unfold(1, 85, 85)[1, 1]  # (3, 85, 85)
        assert (cell[:, 30:55, 20:65] - cell[:, :1, 20:21]).abs().amax() > 100


def test_the_photo_comes_back_and_a_model_without_positions_has_no_map(static_page):
    _, view = show(static_page, IMAGE, 8, positions=True)
    assert (view.canvas(".ve-grid")[..., 3] == 255).all()
    view.grid.press("p")
    view.until("The photo is back.")
    expect(view.root.locator(".ve-places")).to_be_hidden()
    assert (view.canvas(".ve-grid")[..., 3] == 0).float().mean() > 0.5
    _, view = show(static_page, IMAGE, words={"model": make_model(pos_embed="none")})
    expect(view.box("Position similarity")).to_have_count(0)
    view.grid.press("p")
    view.grid.press("ArrowUp")
    view.until("Patch 6 of 16")
    expect(view.root.locator(".ve-places")).to_be_hidden()


@pytest.mark.parametrize("p", [8, 16])
def test_moved_patches_are_drawn_where_they_stand(static_page, p):
    explorer, view = show(static_page, WIDE, p)
    N = WIDE[0].numel() // p**2
    for share in (25, 50, 100, 0):
        view.share(share).check(force=True)
        explorer.shuffled = share
        order = explorer.order
        assert sorted(order.tolist()) == list(range(N))
        assert (order != torch.arange(N)).sum() == N * share // 100
        view.until(f"{N * share // 100} of {N} patches moved. ")
        assert torch.equal(view.photo(), rearranged(WIDE, order, p))
        moved = (order != torch.arange(N)).nonzero().flatten().tolist()
        for place in [*moved[:2], N - 1]:
            row, column = divmod(place, 96 // p)
            view.grid.click(position=view.at((row + 0.5) * p / 64, (column + 0.5) * p / 96))
            patch = int(order[place])
            view.until(f"Patch {place} of {N}: ")
            assert torch.equal(view.enlarged().reshape(-1), patches(WIDE, p)[patch])
            came = f"Its pixels come from patch {patch}: row {patch // (96 // p)}, column {patch % (96 // p)}."
            assert (came in view.status) == (patch != place)
            assert ("come from" in view.status) == (patch != place)


def test_moving_and_overlapping_exclude_each_other(static_page):
    _, view = show(static_page, WIDE, 16)
    for share in (25, 50, 100, 0, 25):
        view.grid.press("s")
        view.until(f"{24 * share // 100} of 24 patches moved.")
        expect(view.share(share)).to_be_checked()
    view.box("Overlap by half").check()
    view.until("Patches overlap by half")
    expect(view.share(0)).to_be_checked()
    assert torch.equal(view.photo(), WIDE)
    view.share(50).check(force=True)
    view.until("12 of 24 patches moved.")
    expect(view.box("Overlap by half")).not_to_be_checked()


@pytest.mark.parametrize("named", [True, False])
def test_the_bars_are_what_the_model_says(static_page, named):
    model = make_model()
    words = {"model": model, "classes": NAMES} if named else {"model": model}
    explorer, view = show(static_page, IMAGE, words=words)
    names = NAMES if named else [f"class {i}" for i in range(5)]
    expect(view.radio(8)).to_have_count(0)
    expect(view.box("Overlap by half")).to_have_count(0)
    said = set()
    for share in (0, 25, 50, 100):
        view.share(share).check(force=True)
        explorer.shuffled = share
        place = f"{16 * share // 100} of 16 patches moved" if share else "the picture in order"
        view.text(f"What the model says: {place}")
        pictures = [rearranged(IMAGE, explorer.order, 8), IMAGE]  # with its position along, nothing has moved
        answers = model(torch.stack(pictures).float() / 127.5 - 1).softmax(dim=1)
        bars = view.bars()
        for found, shares in zip(bars, answers):
            top = shares.topk(3)
            assert [name for name, _, _ in found] == [names[i] for i in top.indices]
            for (_, figure, wide), number in zip(found, top.values.tolist()):
                assert abs(float(figure.removesuffix(" %")) - 100 * number) < 0.06 and abs(wide - number) < 0.01
        under, along = (f"{side[0][0]} {side[0][1]}" for side in bars)
        if share:
            assert f"The model says {under}; with positions moved along {along}. " in view.status
        said.add(under)
    assert len(said) == 4


def test_without_a_head_features_are_compared(static_page):
    model = make_model(num_classes=0, reg_tokens=0, class_token=False, global_pool="avg")
    explorer, view = show(static_page, IMAGE, words={"model": model}, shuffled=100)
    view.text("The model's feature against that of the picture in order: 16 of 16 patches moved")
    moved, own = model(torch.stack([rearranged(IMAGE, explorer.order, 8), IMAGE]).float() / 127.5 - 1)
    cosine = F.cosine_similarity(moved, own, dim=0).item()
    assert cosine < 0.99
    [[(name, figure, wide)], [(_, same, full)]] = view.bars()
    assert name == "cosine" and figure.replace("−", "-") == f"{cosine:.3f}" and abs(wide - max(cosine, 0)) < 0.01
    assert same == "1.000" and full > 0.99


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_and_all_is_readable(static_page, scheme):
    static_page.page.emulate_media(color_scheme=scheme)
    static_page.page.set_viewport_size({"width": 420, "height": 800})
    ground = {"light": "white", "dark": "#121212"}[scheme]  # the browser's own, which no style says
    names = ["a class with many words in its name, of which some are Wallersteinhallenbadkarten", *NAMES[1:]]
    for words in ({"model": make_model(), "classes": names}, {"patch_size": 8}):
        _, view = show(static_page, IMAGE, words=words, positions=True, shuffled=50)
        view.page.evaluate("ground => void (document.body.style.background = ground)", ground)
        assert view.cut() == []
        assert [text for ratio, text in view.contrast() if ratio < 4.5] == []


CODE = """
import torch
from vit_edu.models import VisionTransformer
from vit_edu.widgets import PatchExplorer

torch.manual_seed(1)
model = VisionTransformer(32, 8, embed_dim=24, depth=2, num_heads=2, num_classes=4)
explorer = PatchExplorer(torch.rand(3, 32, 32), {words})
explorer
"""


def test_in_jupyterlab_python_follows_and_leads(clean_notebook):
    clean_notebook.run(CODE.format(words="8"))
    view = PlacesView(clean_notebook)
    view.until("Patch 10 of 16")
    cells = clean_notebook.cells
    view.grid.focus()
    for key in "osp":
        view.page.keyboard.press(key)
    view.until("Most like its position")
    traits = "[explorer.overlap, explorer.shuffled, explorer.positions, explorer.selected]"
    clean_notebook.wait_python(traits, [False, 25, True, 10])
    view.box("Overlap by half").check()
    clean_notebook.wait_python(traits, [True, 0, True, 32])
    clean_notebook.run("explorer.positions = False; explorer.shuffled = 100", cell=1)
    view.until("Patch 15 of 16: row 3, column 3.")
    expect(view.share(100)).to_be_checked()
    expect(view.box("Overlap by half")).not_to_be_checked()
    expect(view.box("Position similarity")).not_to_be_checked()
    assert clean_notebook.cells == cells


def test_in_jupyterlab_the_model_is_asked(clean_notebook):
    clean_notebook.run(CODE.format(words="model=model"))
    view = PlacesView(clean_notebook)
    view.share(50).check(force=True)
    view.until("8 of 16 patches moved. The model says class ")
    clean_notebook.wait_python("explorer.shuffled", 50)
    said = clean_notebook.python("explorer.sentence()").split("The model says ")[1]
    first = view.bars()[0][0]
    assert said.startswith(f"{first[0]}, {first[1]}; with positions moved along ")
