"""SimilarityExplorer: what is drawn and said is compared with torch's cosine and softmax of the same CLIP."""

import math
import re

import pytest
import torch
from playwright.sync_api import expect
from torch import nn

from tests.widgets.view import View
from vit_edu.models import clip_logits, create_model, tokenize
from vit_edu.models.clip import CLIP, TextTransformer
from vit_edu.widgets import SimilarityExplorer
from vit_edu.widgets.look import viridis

SETUP = """
import torch
from IPython.display import display
from vit_edu.models import CLIP, TextTransformer, create_model
from vit_edu.widgets.similarity_explorer import SimilarityExplorer

words = {"img_size": (16, 24), "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 0}
def new():
    torch.manual_seed(50)
    clip = CLIP(create_model("vit_tiny_patch16_224", **words), TextTransformer(258, 40, 24, 1, 2), 3).eval()
    for part in (clip.visual.patch_embed.proj, clip.text.token_embed):
        part.weight.data *= 50  # so that a new model tells one picture, one text from another
    return clip
images = torch.randint(0, 256, (5, 3, 16, 24), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
images[:, 0] //= torch.tensor([1, 2, 5, 20, 100], dtype=torch.uint8)[:, None, None]
texts = ["a cat", "three small dogs on a boat", "Äpfel & <b>Brot</b>", "ice cream", "x"]
"""
SHOW = SETUP + "explorer = SimilarityExplorer(new(), images, texts)\nexplorer"
scope = {"torch": torch, "CLIP": CLIP, "TextTransformer": TextTransformer, "create_model": create_model}
exec(SETUP.split("SimilarityExplorer\n")[1], scope)
new, images, texts = scope["new"], scope["images"], scope["texts"]


@torch.no_grad()
def cosine(pictures=5, words=5):
    """float32 (pictures, texts): the definition once more, by the model's own function."""
    clip = new()
    features = clip.encode_image(images[:pictures] / 255 * 2 - 1), clip.encode_text(tokenize(texts[:words], 40))
    return clip_logits(*features, torch.tensor(0.0))


COSINE = cosine()
RADIOS = {"cosine": "cosine", "texts": "which text for this picture", "images": "which picture for this text"}


def shown(kind, temperature=0.07, numbers=COSINE):
    return numbers if kind == "cosine" else (numbers / temperature).softmax(dim=1 if kind == "texts" else 0)


class SimilarityView(View):
    def __init__(self, notebook, nth=0):
        super().__init__(notebook, nth)
        self.grid = self.root.get_by_role("application")
        self.slider = self.root.get_by_role("slider")

    def choose(self, kind):
        self.root.get_by_role("radio", name=RADIOS[kind]).check(force=True)

    def keys(self, *keys):
        self.grid.focus()
        for key in keys:
            self.page.keyboard.press(key)

    def at(self, row, column, size=(5, 5)):
        box = self.grid.bounding_box()
        return {"x": (column + 0.5) * box["width"] / size[1], "y": (row + 0.5) * box["height"] / size[0]}

    def headline(self, words):
        self.root.locator(".ve-headline").filter(has_text=words).wait_for()


def shades(numbers, kind):
    low, high = (numbers.min(), numbers.max()) if kind == "cosine" else (0, 1)
    place = ((numbers.double() - low) / (high - low) * 256).long().clamp(0, 255)
    return [viridis()[(place + off).clamp(0, 255)] for off in (-1, 0, 1)]  # a rounding may lie on a step's edge


@pytest.fixture
def view(static_page):
    static_page.show(SimilarityExplorer(new(), images, texts))
    view = SimilarityView(static_page)
    view.until("Picture 0 with text 0")
    return view


@pytest.mark.parametrize("kind", RADIOS)
@pytest.mark.parametrize("pictures, words", [(5, 5), (5, 3), (2, 5), (1, 1)])
def test_the_cells_are_the_colours_of_the_tensor(static_page, kind, pictures, words):
    static_page.show(SimilarityExplorer(new(), images[:pictures], texts[:words]))
    view = SimilarityView(static_page)
    view.choose(kind)
    numbers = cosine(pictures, words)
    cells = view.canvas(".ve-cells")
    assert cells.shape == (pictures, words, 4) and (cells[..., 3] == 255).all()
    if numbers.numel() > 1:
        same = [(cells[..., :3] == shade).all(-1) for shade in shades(shown(kind, numbers=numbers), kind)]
        assert torch.stack(same).any(0).all() and same[1].float().mean() > 0.9
    assert view.root.locator(".ve-texts span").all_inner_texts() == texts[:words]
    for i in range(pictures):
        small = view.canvas(f".ve-pictures span:nth-child({i + 1}) canvas")
        assert torch.equal(small[..., :3].permute(2, 0, 1), images[i])


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_cosine_logit_and_both_softmaxes_are_said(static_page, temperature):
    explorer = SimilarityExplorer(new(), images, texts)
    explorer.temperature = temperature
    static_page.show(explorer)
    view = SimilarityView(static_page)
    for row, column in [(0, 0), (3, 1), (4, 4)]:
        view.grid.click(position=view.at(row, column))
        view.until(f"Picture {row} with text {column}, “{texts[column]}”")
        said = re.search(r"cosine (\S+), logit (\S+), softmax (\S+) % .* (\S+) % over the 5 pictures", view.status)
        found = [float(x.replace("−", "-")) for x in said.groups()]
        number = COSINE[row, column].item()
        kinds = [shown(kind, temperature)[row, column].item() * 100 for kind in ("texts", "images")]
        assert found[:2] == [pytest.approx(number, abs=6e-4), pytest.approx(number / temperature, abs=0.0051)]
        assert found[2:] == [pytest.approx(x, abs=0.051) for x in kinds]
        enlarged = view.canvas(".ve-enlarged")
        assert torch.equal(enlarged[..., :3].permute(2, 0, 1), images[row])
        fate = "They belong together." if row == column else f"To this picture belongs “{texts[row]}”."
        view.root.get_by_text(fate, exact=True).wait_for()


@pytest.mark.parametrize("kind", RADIOS)
def test_what_finds_its_partner_is_counted(view, kind):
    view.choose(kind)
    numbers = shown(kind)
    right = int((numbers.argmax(0 if kind == "images" else 1) == torch.arange(5)).sum())
    assert right == (1 if kind == "images" else 2)  # another in each direction
    verb, (who, what) = (
        ("finds its", "find their")[right != 1],
        ("text picture" if kind == "images" else "picture text").split(),
    )
    mean = "" if kind == "cosine" else f", which gets {numbers.diag().mean() * 100:.1f} % on average"
    view.headline(f"{right} of 5 {who}s {verb} {what}{mean}")


def test_without_pairs_the_best_is_named(static_page):
    static_page.show(SimilarityExplorer(new(), images, texts[:3]))
    view = SimilarityView(static_page)
    best = int(COSINE[0, :3].argmax())
    value = f"{COSINE[0, best]:.2f}".replace("-", "−")
    view.headline(f"5 pictures, 3 texts: for picture 0 the best is “{texts[best]}”, cosine {value}")
    view.choose("images")
    numbers = shown("images", numbers=COSINE[:, :3])
    best = int(numbers[:, 0].argmax())
    view.headline(f"for “a cat” the best is picture {best}, {numbers[best, 0] * 100:.1f} %")
    assert "belong" not in view.root.inner_text()


def test_the_temperature_by_slider_and_keys(view):
    view.choose("texts")
    own = math.log10(0.07)
    assert float(view.slider.input_value()) == pytest.approx(own, abs=0.0051)
    expect(view.slider).to_have_attribute("aria-valuetext", "0.070, the model's")
    marked = view.root.locator("datalist option").get_attribute("value")
    assert float(marked) == pytest.approx(own, abs=1e-6)
    view.slider.fill("-1.5")  # 0.0316
    view.headline(f"gets {shown('texts', 10**-1.5).diag().mean() * 100:.1f} % on average")
    view.keys("+")
    view.headline(f"gets {shown('texts', 10**-1.4).diag().mean() * 100:.1f} % on average")
    view.keys("t")
    view.headline(f"gets {shown('texts').diag().mean() * 100:.1f} % on average")
    view.keys(*"+" * 20)
    expect(view.slider).to_have_attribute("aria-valuetext", "1.00")
    view.keys(*"-" * 40)
    expect(view.slider).to_have_attribute("aria-valuetext", "0.010")
    view.root.get_by_role("button", name="The model's own: 0.070").click()
    expect(view.slider).to_have_attribute("aria-valuetext", "0.070, the model's")
    near = view.slider.evaluate("slider => { slider.stepUp(); slider.stepDown(); return slider.value }")
    view.slider.fill(near)  # the step beside it is it
    expect(view.slider).to_have_attribute("aria-valuetext", "0.070, the model's")


def test_mouse_keys_and_finger(view):
    view.grid.hover(position=view.at(2, 3))
    view.until("Picture 2 with text 3, “ice cream”")
    view.root.locator(".ve-help").hover()
    view.until("Picture 0 with text 0")
    moves = [("ArrowRight", 0, 1), ("ArrowDown", 1, 1), ("End", 1, 4), ("ArrowRight", 1, 4), ("PageDown", 4, 4)]
    for key, row, column in [*moves, ("ArrowDown", 4, 4), ("Home", 4, 0), ("ArrowUp", 3, 0), ("PageUp", 0, 0)]:
        view.keys(key)
        view.until(f"Picture {row} with text {column},")
    box, at = view.grid.bounding_box(), view.at(4, 2)
    view.page.touchscreen.tap(box["x"] + at["x"], box["y"] + at["y"])
    view.until("Picture 4 with text 2, “Äpfel & <b>Brot</b>”")
    view.root.locator(".ve-texts span").nth(1).click()
    view.until("Picture 4 with text 1")
    view.root.locator(".ve-pictures span").nth(2).click()
    view.until("Picture 2 with text 1")
    view.root.locator(".ve-help").hover()
    over = view.canvas(".ve-over").int()
    ring = (over[..., 2] - over[..., 0] > 200) & (over[..., 3] == 255)
    y, x = ring.nonzero().double().mean(0).tolist()
    assert (int(y / len(over) * 5), int(x / over.shape[1] * 5)) == (2, 1)
    view.keys("s", "s")
    expect(view.root.get_by_role("radio", name=RADIOS["images"])).to_be_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_and_no_text_is_cut(static_page, scheme):
    long = [f"{'a rather long text, ' if i % 2 else 'unbreakable' * 3}{i}" for i in range(12)]
    static_page.show(SimilarityExplorer(new(), images[:1].repeat(12, 1, 1, 1), long))
    view = SimilarityView(static_page)
    view.page.emulate_media(color_scheme=scheme)
    view.root.evaluate("node => node.style.background = 'var(--ve-page)'")
    assert [text for ratio, text in view.contrast() if ratio < 4.5] == []
    for width in (1000, 420):
        view.page.set_viewport_size({"width": width, "height": 800})
        view.canvas(".ve-over")  # two frames later
        assert view.cut() == []
        inside = """labels => [...labels.children].every((label) => {
            const range = document.createRange();
            range.selectNodeContents(label);
            const [text, box] = [range.getBoundingClientRect(), label.getBoundingClientRect()];
            return text.left >= box.left - 1 && text.right <= box.right + 1 && text.top >= box.top - 1
                && text.bottom <= box.bottom + 1;
        })"""
        assert view.root.locator(".ve-texts").evaluate(inside)


def test_words_above_the_columns_stay_whole(static_page):
    whole = ["snowman", "grinning cat", "red heart", "sailboat", "watermelon"]
    static_page.show(*(SimilarityExplorer(new(), images, texts) for texts in (whole, ["x" * 36, *whole[1:]])))
    first, second = SimilarityView(static_page), SimilarityView(static_page, 1)
    pieces = """labels => labels.map(({ firstChild: text }) => {
        const range = document.createRange();
        range.selectNodeContents(text);
        return [range.getClientRects().length, text.data.split(" ").length];
    })"""
    second.canvas(".ve-over")  # two frames later
    assert all(lines <= words for lines, words in first.root.locator(".ve-texts span").evaluate_all(pieces))
    parted, *others = second.root.locator(".ve-texts span").evaluate_all(pieces)
    assert parted[0] > 1 and all(lines <= words for lines, words in others)  # inside the one that is too high
    assert first.cut() == second.cut() == []


def test_two_explorers_do_not_disturb_each_other(static_page):
    static_page.show(SimilarityExplorer(new(), images, texts), SimilarityExplorer(new(), images[1:3], texts))
    first, second = SimilarityView(static_page), SimilarityView(static_page, 1)
    first.choose("texts")
    first.keys("ArrowDown")
    first.until("Picture 1 with text 0")
    assert second.status.startswith("Picture 0") and second.root.get_by_role("radio", name="cosine").is_checked()


def test_the_words_the_still_picture_and_the_traits():
    assert SimilarityExplorer(new(), images[0], texts[:1]).sentence().startswith("1 picture with 1 text: cosine.")
    explorer = SimilarityExplorer(new(), images, texts)
    assert explorer.temperature == pytest.approx(0.07) and torch.allclose(explorer.matrix, COSINE, atol=1e-6)
    before = explorer.picture().tobytes()
    explorer.row, explorer.column, explorer.shown, explorer.temperature = 3, 1, "images", 0.5
    probability = shown("images", 0.5)
    assert torch.allclose(explorer.matrix, probability, atol=1e-6)
    words = (
        f"softmax over the pictures at temperature 0.5. Picture 3 with “{texts[1]}”: {probability[3, 1] * 100:.1f} %."
    )
    assert words in explorer.sentence() and re.search(r"\d of 5 texts find", explorer.sentence())
    width, height = explorer.picture().size
    assert width == 248 and height > 200 + 5 and explorer.picture().tobytes() != before  # texts stand above
    for name, value in {"row": 5, "column": -1, "temperature": 0.0}.items():
        with pytest.raises(Exception, match=rf"^{name} is {value}; wanted "):
            setattr(explorer, name, value)


def test_the_model_stays_as_it_was():
    clip = new().train()
    clip.text.eval()
    modes = [module.training for module in clip.modules()]
    SimilarityExplorer(clip, images, texts)
    assert [module.training for module in clip.modules()] == modes
    assert SimilarityExplorer(clip.double(), images / 255, texts).own == pytest.approx(0.07)


def test_viridis_is_matplotlibs():
    from matplotlib import colormaps

    colours = torch.tensor(colormaps["viridis"](range(256), bytes=True))[:, :3]
    assert torch.equal(viridis(), colours)


many = [f"text {i}" for i in range(13)]
WRONG = {
    "no CLIP": (
        lambda: SimilarityExplorer(new().visual, images, texts),
        TypeError,
        "clip is a VisionTransformer; wanted",
    ),
    "a size": (lambda: SimilarityExplorer(new(), images[..., :8], texts), ValueError, r"16, 8\); wanted \(3, 16, 24\)"),
    "no image": (lambda: SimilarityExplorer(new(), images[:0], texts), ValueError, "0 pictures; wanted 1 to 12"),
    "NaN": (lambda: SimilarityExplorer(new(), images / 0.0, texts), ValueError, "image holds NaN or infinity"),
    "no text": (lambda: SimilarityExplorer(new(), images, []), ValueError, "0 texts; wanted 1 to 12"),
    "many": (lambda: SimilarityExplorer(new(), images, many), ValueError, "13 texts; wanted 1 to 12"),
    "one str": (lambda: SimilarityExplorer(new(), images, "a cat"), TypeError, "texts is a str; wanted a list of str"),
    "numbers": (lambda: SimilarityExplorer(new(), images, ["a", 2]), TypeError, "with other things than str; wanted"),
    "blank": (lambda: SimilarityExplorer(new(), images, ["a", " "]), ValueError, r"texts\[1\] is empty; wanted words"),
    "long": (
        lambda: SimilarityExplorer(new(), images, ["a" * 39]),
        ValueError,
        "41 tokens .* wanted at most 40; shorten",
    ),
}


@pytest.mark.parametrize("call, error, words", WRONG.values(), ids=WRONG)
def test_wrong_words_are_one_sentence(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("part, what", [("visual_proj", "pictures"), ("text_proj", "texts")])
def test_broken_weights_are_one_sentence(part, what):
    clip = new()
    nn.init.constant_(getattr(clip, part).weight, float("nan"))
    with pytest.raises(ValueError, match=f"features of the {what} hold NaN or infinity; wanted numbers"):
        SimilarityExplorer(clip, images, texts)
    clip = new()
    nn.init.constant_(clip.logit_scale, float("nan"))
    with pytest.raises(ValueError, match=r"temperature 1 / exp\(logit_scale\) is nan; wanted"):
        SimilarityExplorer(clip, images, texts)


@pytest.fixture
def lab_view(clean_notebook):
    clean_notebook.run(SHOW)
    view = SimilarityView(clean_notebook)
    view.until("Picture 0 with text 0")
    return view


def test_in_jupyterlab_it_appears_and_python_follows_and_moves_it(lab_view):
    assert torch.equal(lab_view.canvas(".ve-enlarged")[..., :3].permute(2, 0, 1), images[0])
    lab_view.grid.click(position=lab_view.at(2, 1))
    lab_view.keys("s")
    lab_view.slider.fill("-0.5")
    lab_view.notebook.wait_python("[explorer.row, explorer.column, explorer.shown]", [2, 1, "texts"])
    lab_view.notebook.wait_python("round(explorer.temperature, 4)", 0.3162)
    lab_view.notebook.run("explorer.row, explorer.column = 4, 3", cell=1)
    lab_view.notebook.run("explorer.shown = 'images'; explorer.temperature = 0.2", cell=1)
    lab_view.until(f"Picture 4 with text 3, “{texts[3]}”")
    lab_view.headline(f"gets {shown('images', 0.2).diag().mean() * 100:.1f} % on average")
