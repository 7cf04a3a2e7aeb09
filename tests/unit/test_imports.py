"""The house's order: imports run one way, and what is not asked for is not imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "vit_edu"
FILES = sorted(PACKAGE.rglob("*.py"))
# Each may import what stands above it, and itself.
TIERS = [
    {"resources"},
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


def imported(path):
    """Every module that the file names in an import, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ("vit_edu", *path.relative_to(PACKAGE).parts)[: -node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    mine = part(path)
    if mine == "__init__":
        return
    assert mine in RANK, f"say in TIERS where {mine} belongs"
    for name in imported(path):
        if name.startswith("vit_edu."):
            other = name.split(".")[1]
            assert other == mine or RANK.get(other, -1) < RANK[mine], f"{mine} may not import {other}"


def test_layers_import_torch_and_einops_only():
    found = {name.split(".")[0] for path in FILES if part(path) == "layers" for name in imported(path)}
    assert found <= {"torch", "einops", "vit_edu"} | set(sys.stdlib_module_names)


def test_only_plots_imports_matplotlib():
    assert {part(path) for path in FILES if any(n.split(".")[0] == "matplotlib" for n in imported(path))} <= {"plots"}


def loaded(code):
    """The top-level modules that a fresh Python has loaded after `code`."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_vit_edu_is_light():
    heavy = {"IPython", "matplotlib", "anywidget", "ipywidgets", "torchvision", "PIL", "platformdirs", "jupytext"}
    assert not loaded("import vit_edu") & heavy


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
    assert sum(p.read_text(encoding="utf-8").count("\n") for p in FILES if part(p) in ("layers", "models")) < 1800
