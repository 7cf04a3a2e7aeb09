"""All explorers in one notebook of a real JupyterLab: keys, themes, the kernel restarted, the notebook reopened."""

import base64

import nbformat
import pytest

from tests.widgets.view import View
from vit_edu import widgets

NAMES = sorted(widgets.__all__)
SHOW = """
import torch
from IPython.display import display
from vit_edu import create_model
from vit_edu.models import CLIP, MAE, TextTransformer
from vit_edu.widgets import *

torch.manual_seed(0)
def vit(**words):
    return create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=12, depth=2, num_heads=2, **words)

image, bare = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8), vit(num_classes=0)
display(
    AttentionExplorer(vit(), image),
    MaskExplorer(MAE(bare, 8, 1, 2), image),
    PatchExplorer(image, 8),
    ReceptiveFieldExplorer({"ViT": vit()}, image),
    SimilarityExplorer(CLIP(bare, TextTransformer(258, 16, 12, 1, 2), 3), image, ["a cat", "a dog"]),
    WindowShiftExplorer(image),
)
"""
ACTIVE = "jupyterapp.shell.currentWidget.content.activeCellIndex"
INSIDE = "nth => document.activeElement.closest('.ve') === document.querySelectorAll('.ve')[nth]"


class Six:
    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.wait()

    def wait(self):
        self.page.wait_for_function(f"document.querySelectorAll('.ve-status:not(:empty)').length === {len(NAMES)}")
        self.each = [View(self.notebook, nth) for nth in range(len(NAMES))]

    def said(self):
        return [view.status for view in self.each]

    def answer(self):
        """Each explorer moves on from a key, to and fro where it is at an edge."""
        for view in self.each:
            before = view.status
            view.root.get_by_role("application").first.focus()
            for key in ("ArrowRight", "ArrowLeft") if "text 1" in before else ("ArrowLeft", "ArrowRight"):
                self.page.keyboard.press(key)
                view.canvas("canvas >> nth=0")  # two frames later
                if view.status != before:
                    break
            assert view.status != before


@pytest.fixture
def six(clean_notebook):
    clean_notebook.run(SHOW)
    return Six(clean_notebook)


def test_no_key_reaches_the_notebook_and_tab_leaves(six):
    keys = [*"abxddmyzcvjk", "Delete", "Enter", "Shift+Enter", "Escape", "ArrowDown"]
    before = six.notebook.cells
    for nth, view in enumerate(six.each):
        kinds = [view.root.get_by_role(role) for role in ("application", "radio", "slider", "checkbox", "button")]
        targets = [view.root.locator(".ve-headline"), *(kind.first for kind in kinds if kind.count())]
        for target, some in zip(targets, [keys, keys, *["bdd"] * 4]):
            target.click(force=True)
            where = six.page.evaluate(ACTIVE)
            for key in some:
                six.page.keyboard.press(key)
            assert six.notebook.cells == before and six.page.evaluate(ACTIVE) == where, NAMES[nth]
            assert six.page.evaluate(INSIDE, nth), NAMES[nth]
        view.root.get_by_role("application").first.focus()
        stops = 0
        while six.page.evaluate(INSIDE, nth):
            six.page.keyboard.press("Tab")
            stops += 1
            assert stops < 10, f"Tab does not leave {NAMES[nth]}"
    # Outside, the same key does insert a cell: the keys above were real.
    six.page.locator(".jp-InputPrompt").first.click()
    six.page.keyboard.press("b")
    six.page.wait_for_function(f"jupyterapp.shell.currentWidget.content.model.cells.length === {before + 1}")
    six.notebook.command("notebook:delete-cell")


def test_both_themes_are_readable(six):
    for light in six.each[0].themes():
        for view, name in zip(six.each, NAMES):
            assert [text for ratio, text in view.contrast() if ratio < 4.5] == [], (name, light)
            assert view.cut() == [], (name, light)
        ground = six.each[NAMES.index("PatchExplorer")].canvas(".ve-vector")[0, 40, :3].sum()
        assert ground > 600 if light else ground < 200  # the canvases follow the theme too


def test_they_live_on_when_the_kernel_is_restarted(six):
    six.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    six.page.wait_for_function("jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")
    six.answer()


def test_saved_closed_and_reopened_without_their_kernel(six):
    six.answer()
    said = six.said()
    six.notebook.command("docmanager:save")
    outputs = nbformat.read(six.notebook.file, as_version=4).cells[0].outputs
    outputs = [
        output for output in outputs if "image/png" in output.get("data", {})
    ]  # a slow machine tells its progress
    assert len(outputs) == len(NAMES)
    for output in outputs:
        assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
        assert len(output.metadata["image/png"]["alt"]) > 60 and len(str(output)) < 250_000
    six.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    six.notebook.open(six.notebook.address)  # with the settings of `vit-edu lab` their states are in the file
    six.wait()
    assert six.said() == said
    six.answer()
    # JupyterLab may draw outputs before it has restored their models: its get_model looks for them for two seconds,
    # says this, and draws anew when they are there.
    six.notebook.errors[:] = [error for error in six.notebook.errors if "widget model not found" not in error]


@pytest.mark.parametrize(
    "call, sentence",
    [
        ("create_model('resnet20'), torch.rand(3, 32, 32)", "a ResNet, which has no attention, found, wanted a trans"),
        ("[], torch.rand(3, 32, 32)", "The list holds nothing; wanted a model, or an AttentionMap for each layer"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence_in_its_place(clean_notebook, call, sentence):
    code = "import torch\nfrom vit_edu import create_model\nfrom vit_edu.widgets import AttentionExplorer\n"
    [output] = clean_notebook.run(f"{code}AttentionExplorer({call})")
    [told] = output["traceback"]
    assert told.startswith(f"AttentionExplorer: {sentence}")
