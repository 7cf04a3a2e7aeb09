"""vit-edu export in the browser: a lesson as a file, no kernel, no server, no network."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.widgets.conftest import watched
from tests.widgets.view import CONTRAST, View
from vit_edu import cli
from vit_edu.classroom import build

ROOT = Path(__file__).resolve().parents[2]
LESSONS = build.sources(ROOT)
OPENED = [source.stem for source in LESSONS[:2]]
each_opened = pytest.mark.parametrize("stem", OPENED)
TEXT = CONTRAST.replace("p, legend, span, small, button", "p, li, td, th, h1, h2, h3, a, code, pre, strong, span, math")
# When each explorer came, in ms after the page was asked for.
BIRTHS = """window.births = [];
new MutationObserver(() => {
    while (births.length < document.querySelectorAll(".ve").length) births.push(performance.now());
}).observe(document, { childList: true, subtree: true });"""


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """The folder with the pages, each made when it is first asked for: pages("01_…")."""
    folder = tmp_path_factory.mktemp("html")

    def page(stem):
        path = folder / f"{stem}.html"
        if not path.exists():
            told = io.StringIO()
            with contextlib.redirect_stdout(told):
                assert cli.main(["export", stem[:2], "--out", str(folder)]) == 0
            assert re.search(rf"^{re.escape(str(path))}: \d+\.\d MB$", told.getvalue(), re.MULTILINE)
        return path

    return page


class Opened:
    """A page of a lesson in the browser."""

    def __init__(self, page, file):
        self.page = page
        page.goto(file.as_uri())

    @property
    def explorers(self):
        return [View(self, nth) for nth in range(self.page.locator(".ve").count())]


@pytest.fixture
def opened(browser, pages):
    """opened(stem, …of the context): no error and no request is allowed, but for the file itself."""
    contexts, errors, elsewhere = [], [], []

    def open_page(stem, **options):
        file = pages(stem)
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        page = watched(context, elsewhere, re.escape(file.as_uri()))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or elsewhere.append(request.url))
        page.on("console", lambda message: message.type in ("error", "warning") and errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(f"{error} {error.stack}"))
        page.add_init_script(BIRTHS)
        return Opened(page, file)

    yield open_page
    for context in contexts:
        context.close()
    assert errors == [] and elsewhere == []


def shown(stem):
    """How many explorers the lesson's source shows."""
    return len(re.findall(r"^\w*Explorer\(", (ROOT / "course" / f"{stem}.py").read_text("utf-8"), re.MULTILINE))


def changed(explorer, before):
    """Waits until the status line says something else."""
    line = explorer.root.get_by_role("status").element_handle()
    explorer.page.wait_for_function("([line, before]) => line.innerText !== before", arg=[line, before])


@each_opened
def test_every_explorer_is_drawn_and_answers_to_a_click_and_a_key(opened, stem):
    lesson = opened(stem)
    assert len(lesson.explorers) == shown(stem) > 0 and lesson.page.locator(".ve-still").count() == 0
    for explorer in lesson.explorers:
        canvases = explorer.root.locator("canvas:visible").count()
        assert any(explorer.canvas(f"canvas:visible >> nth={nth}").any() for nth in range(canvases))
        before = explorer.status
        explorer.root.locator("[tabindex='0'][role]").first.click(position={"x": 12, "y": 12})
        changed(explorer, before)
        before = explorer.status
        lesson.page.keyboard.press("ArrowRight")
        changed(explorer, before)


@each_opened
def test_explorers_are_alive_within_two_seconds(opened, stem):
    slowest = []
    for _ in range(3):  # other work may hold up one opening, hardly all three
        births = opened(stem).page.evaluate("births")
        assert len(births) == shown(stem)
        slowest.append(max(births))
        if slowest[-1] < 2000:
            return
    pytest.fail(f"alive after {slowest} ms")


@each_opened
def test_without_javascript_there_are_pictures_with_their_words(opened, stem):
    page = opened(stem, java_script_enabled=False).page
    stills = page.locator(".ve-still img")
    assert stills.count() == shown(stem)
    for picture in page.get_by_role("img").all():
        assert len(picture.get_attribute("alt")) > 20
        assert picture.bounding_box()["height"] > 50
    assert all(picture.bounding_box()["height"] > 300 for picture in stills.all())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@each_opened
def test_it_can_be_read_in_light_and_dark(opened, stem, scheme):
    page = opened(stem, color_scheme=scheme).page
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 25, 29)"}[scheme]
    contrasts = page.locator("body").evaluate(TEXT)
    assert len(contrasts) > 200
    assert [(round(ratio, 2), words) for ratio, words in contrasts if ratio < 4.5] == []


@pytest.mark.parametrize("stem", [*OPENED, "05_seeing_attention"])
def test_on_paper_it_is_light_and_an_explorer_fits_on_a_sheet(opened, stem):
    sheet = {"width": 642, "height": 904}  # A4 or Letter, whichever is less, with margins of 20 mm
    lesson = opened(stem, color_scheme="dark", viewport=sheet)
    lesson.page.emulate_media(media="print")
    for seen in ("body", ".ve"):
        assert lesson.page.locator(seen).first.evaluate("e => getComputedStyle(e).getPropertyValue('--ve-dark')") == ""
    assert lesson.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [words for ratio, words in lesson.page.locator("body").evaluate(TEXT) if ratio < 4.5] == []
    heights = [explorer.root.bounding_box()["height"] for explorer in lesson.explorers]
    assert 0 < max(heights) < sheet["height"]


@pytest.mark.parametrize("width", [420, 320, 1280])
@each_opened
def test_nothing_is_wider_than_the_page(opened, stem, width):
    lesson = opened(stem, viewport={"width": width, "height": 800})
    assert lesson.page.evaluate("document.documentElement.scrollWidth") == width
    rights = lesson.page.evaluate("[...document.images].map((one) => one.getBoundingClientRect().right)")
    assert max(rights) <= width
    boxes = lesson.page.locator(".input pre")
    assert boxes.evaluate_all("all => all.every((pre) => getComputedStyle(pre).overflowX === 'auto')")
    if width == 1280:  # a line has about 75 letters
        paragraph = lesson.page.locator("main .text_cell p").filter(has_text=re.compile(r"[\s\S]{300}")).first
        line = "parseFloat(getComputedStyle(p).lineHeight)"
        assert 60 < paragraph.evaluate(f"p => p.innerText.length / (p.clientHeight / {line})") < 90


@each_opened
def test_the_bar_and_the_links_lead_to_the_other_lessons(opened, stem):
    page, stems = opened(stem).page, [source.stem for source in LESSONS]
    at = stems.index(stem)
    wanted = {"prev": stems[at - 1 : at], "next": stems[at + 1 : at + 2]}
    for rel, near in wanted.items():
        links = page.locator(f"nav a[rel={rel}]")
        assert [link.get_attribute("href") for link in links.all()] == [f"{other}.html" for other in near]
    hrefs = [link.get_attribute("href") for link in page.locator("main a").all()]
    inside = {href for href in hrefs if "://" not in href}
    assert inside <= {f"{other}.html" for other in stems} and f"{stems[at + 1]}.html" in inside
    assert page.title() == page.locator("nav strong").inner_text() == page.locator("h1").inner_text()


def test_formulas_are_drawn(opened):
    page = opened("01_images_as_sequences").page
    source = (ROOT / "course" / "01_images_as_sequences.py").read_text("utf-8")
    assert page.locator("math[display=block]").count() == len(re.findall(r"^# \$\$", source, re.MULTILINE)) > 0
    assert page.locator("math").count() > page.locator("math[display=block]").count()
    assert all(math.bounding_box()["height"] > 8 for math in page.locator("math").all())


def test_the_page_itself_refuses_what_lies_elsewhere(browser, pages):
    context = browser.new_context()
    page = context.new_page()
    page.goto(pages(OPENED[0]).as_uri())
    refused = """() => new Promise((done) => {
        document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
        const picture = new Image();
        picture.onload = picture.onerror = () => setTimeout(done, 500, "nothing");
        picture.src = "https://127.0.0.1:9/picture.png";
    })"""
    assert page.evaluate(refused) == "img-src"
    context.close()


@pytest.mark.parametrize("source", LESSONS, ids=lambda source: source.stem)
def test_every_lesson_is_one_small_file_that_asks_no_host(pages, source):
    text = pages(source.stem).read_text(encoding="utf-8")
    assert len(text.encode()) < 5e6
    outside = re.sub(r"<script.*?</script>|<style.*?</style>|<pre.*?</pre>|<code.*?</code>", "", text, flags=re.DOTALL)
    assert "$" not in re.sub(r"<[^>]*>", "", outside)
    assert re.findall(r'<link [^>]*href="(?!data:)|\bsrc="(?!data:)|@import|url\((?!data:)', text) == []
    assert "SOLUTION" not in text
