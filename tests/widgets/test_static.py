"""Explorers without a kernel: a file in the browser, and a picture where JavaScript is off."""

import base64
import re

import pytest
import torch

from tests.widgets.test_patch_explorer import PatchView
from vit_edu.widgets import PatchExplorer, static
from vit_edu.widgets.look import source

draw = torch.Generator().manual_seed(4)
image = torch.randint(0, 256, (3, 56, 56), generator=draw, dtype=torch.uint8)


def test_it_lives_without_a_kernel(static_page):
    static_page.show(PatchExplorer(image, 8), PatchExplorer(image[0], 14))
    first, second = PatchView(static_page, 0), PatchView(static_page, 1)
    first.click(0, 0)
    first.until("Patch 0 of 49")
    static_page.page.keyboard.press("ArrowDown")
    first.until("Patch 7 of 49: row 1, column 0.")
    first.radio(28).click()
    first.until("Patch size 28: 4 tokens.")
    assert second.status.startswith("Patch 10 of 16")
    drawn = second.canvas(".ve-photo .ve-pixels")
    assert torch.equal(drawn[..., 0], image[0])
    assert static_page.page.locator("img").count() == 0


def test_without_javascript_there_is_a_picture_with_its_words(browser, tmp_path):
    explorer = PatchExplorer(image, 8)
    file = tmp_path / "page.html"
    file.write_text(static.page([explorer], "one"), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    picture = page.get_by_role("img")
    assert picture.get_attribute("alt") == explorer.sentence() and picture.bounding_box()["height"] > 300
    context.close()


def test_half_precision_is_read_as_torch_writes_it(static_page):
    bits = torch.arange(65536).to(torch.int32).to(torch.int16)
    static_page.page.goto("about:blank")
    read = static_page.page.evaluate(
        """([code, sent]) => {
            const look = new Function(`${code}; return look;`)();
            const bytes = Uint8Array.from(atob(sent), (letter) => letter.charCodeAt(0));
            return Array.from(look.halves(new DataView(bytes.buffer)), String);
        }""",
        [source("look.js"), base64.b64encode(bits.numpy().tobytes()).decode()],
    )
    read = torch.tensor([float(number.replace("Infinity", "inf")) for number in read])
    assert torch.equal(read.nan_to_num(7), bits.view(torch.float16).float().nan_to_num(7))


def test_words_in_the_alt_text_stay_words(monkeypatch):
    monkeypatch.setattr(PatchExplorer, "sentence", lambda self: 'a "cat" <b>&')
    assert '<img alt="a &quot;cat&quot; &lt;b&gt;&amp;" src' in static.place(PatchExplorer(image, 8))


def test_an_explorer_that_fails_leaves_its_picture_and_the_others_alive(browser, tmp_path):
    file, shape = tmp_path / "page.html", '"shape": [3, 56, 56]'
    text = static.page([PatchExplorer(image, 8), PatchExplorer(image, 8)], "two")
    file.write_text(text.replace(shape, '"shape": null', 1), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    page.locator(".ve").wait_for()
    assert page.locator(".ve").count() == page.locator(".ve-still img").count() == 1
    page.close()


def test_words_in_the_state_end_no_script():
    told = static.place(PatchExplorer(image, 8)).split('<script type="application/json">')[1]
    assert told.count("</") == 2  # of the script and the place
    assert base64.b64decode(re.search(r'"pixels": "([^"]+)"', told)[1]) == image.numpy().tobytes()


def test_wrong_words_are_one_sentence_in_the_explorers_place(notebook):
    code = "import torch\nfrom vit_edu.widgets import PatchExplorer\nPatchExplorer(torch.zeros(3, 56, 56), 9)"
    [output] = notebook.run(code)
    [sentence] = output["traceback"]
    assert sentence.startswith("PatchExplorer: patch_size is 9, which does not divide the image's 56 × 56 pixels")
    with pytest.raises(ValueError, match="patch_size is 9"):  # in code it is an error as any other
        PatchExplorer(image, 9)
