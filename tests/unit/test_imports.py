"""The house's order: imports run one way, and what is not asked for is not imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vit_edu

PACKAGE = Path(__file__).resolve().parents[2] / "vit_edu"
FILES = sorted(PACKAGE.rglob("*.py"))
# Each may import what stands above it, and itself.
TIERS = [
    {"resources", "images"},
    {"downloads", "layers"},
    {"datasets", "models"},
    {"weights"},
    {"training", "explain"},
    {"plots", "widgets"},
    {"exercises"},
    {"classroom", "lab", "doctor"},
    {"cli"},
]
RANK = {name: rank for rank, tier in enumerate(TIERS) for name in tier}
PURE = {"layers", "models"}  # torch, einops, the standard library, each other: nothing else
PURE_FROM_ELSEWHERE = {"torch", "einops", *sys.stdlib_module_names}
RESNET = "torchvision.models"  # the published backbone of models/hybrid.py; test_import_vit_edu_is_light: on use only


def imported(path, code=None):
    """Every module that the file (or `code` in its place) names in an import, in functions too."""
    for node in ast.walk(ast.parse(code or path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ("vit_edu", *path.relative_to(PACKAGE).parts)[: -node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def forbidden(path, code=None):
    """What the file imports and may not. `vit_edu` itself, of which anything may be had, is the command's alone."""
    mine = part(path)
    above = {mine} | {other for other in RANK if RANK[other] < RANK[mine] and (mine not in PURE or other in PURE)}
    for name in imported(path, code):
        top, other, *_ = [*name.split("."), ""]
        if top == "vit_edu" and not (other in above or (mine == "cli" and not other)):
            yield name
        allowed = top in PURE_FROM_ELSEWHERE or (name == RESNET and path.name == "hybrid.py")
        if top != "vit_edu" and mine in PURE and not allowed:
            yield name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    if part(path) == "__init__":
        return
    assert part(path) in RANK, f"say in TIERS where {part(path)} belongs"
    assert list(forbidden(path)) == []


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("layers/block.py", "from vit_edu import check"),
        ("layers/block.py", "import vit_edu; vit_edu.check"),
        ("layers/block.py", "from vit_edu import *"),
        ("layers/block.py", "from vit_edu import resources"),
        ("layers/block.py", "from .. import check"),
        ("layers/block.py", "from vit_edu.models import vit"),
        ("models/vit.py", "from vit_edu import load_dataset"),
        ("models/vit.py", "from vit_edu import downloads"),
        ("models/vit.py", "def f():\n    import matplotlib"),
        ("models/vit.py", "import torchvision.transforms"),
        ("models/vit.py", "from torchvision import models"),
        ("models/hybrid.py", "from torchvision import transforms"),
        ("models/vit.py", "from PIL import Image"),
        ("exercises/core.py", "from vit_edu import load_dataset"),
        ("datasets.py", "from vit_edu import no_such_part"),
        ("plots/numbers.py", "from vit_edu.exercises import core"),
    ],
)
def test_an_import_the_wrong_way_is_noticed(file, code):
    assert len(list(forbidden(PACKAGE / file, code))) == 1


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("layers/block.py", "import math, torch\nfrom einops import rearrange\nfrom .checks import check_tokens"),
        ("models/vit.py", "from vit_edu.layers import Block\nfrom .. import layers"),
        ("models/hybrid.py", "def f():\n    from torchvision import models"),
        ("exercises/core.py", "import numpy\nfrom vit_edu import layers"),
        ("cli.py", "import vit_edu\nfrom vit_edu import lab"),
    ],
)
def test_an_import_the_right_way_is_allowed(file, code):
    assert list(forbidden(PACKAGE / file, code)) == []


def test_only_plots_imports_matplotlib():
    assert {part(path) for path in FILES if any(n.split(".")[0] == "matplotlib" for n in imported(path))} <= {"plots"}


def loaded(code):
    """The top-level modules that a fresh Python has loaded after `code`."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("code", ["import vit_edu", "from vit_edu import layers, models, exercises, datasets"])
def test_import_vit_edu_is_light(code):
    heavy = {"IPython", "matplotlib", "anywidget", "ipywidgets", "torchvision", "PIL", "platformdirs", "jupytext"}
    assert not loaded(code) & heavy


def test_every_part_is_an_attribute():
    code = "import vit_edu; vit_edu.layers.Attention, vit_edu.plots.Picture, vit_edu.load_dataset"
    assert {"einops", "matplotlib"} <= loaded(code)
    assert {"layers", "datasets", "plots", "check", "__version__"} <= set(dir(vit_edu))
    with pytest.raises(AttributeError, match=r"no attribute 'lairs'; its public names are .*layers"):
        vit_edu.lairs  # noqa: B018


def test_help_is_quick():
    code = "import contextlib, io\nfrom vit_edu.cli import main\nwith contextlib.redirect_stdout(io.StringIO()):\n"
    code += "    with contextlib.suppress(SystemExit): main(['lab', '--help'])"
    assert not loaded(code) & {"torch", "numpy", "jupyterlab", "nbformat"}


@pytest.mark.parametrize("suffix", [".py", ".js", ".css"])
def test_files_are_short(suffix):
    lengths = {
        str(p.relative_to(PACKAGE)): p.read_text(encoding="utf-8").count("\n") for p in PACKAGE.rglob(f"*{suffix}")
    }
    assert lengths
    assert {name: length for name, length in lengths.items() if length > 350} == {}


def test_layers_and_models_are_short_together():
    """Twelve families; timm's vision_transformer.py alone has more."""
    assert sum(p.read_text(encoding="utf-8").count("\n") for p in FILES if part(p) in ("layers", "models")) < 2250
