"""Editions of the course: course/NN_name.py (jupytext py:percent, solutions inside) -> notebooks/NN_name.ipynb."""

import ast
import hashlib
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from vit_edu import resources

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
HEADER = {"title": str, "minutes": int, "builds_on": list, "builds": str}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PROGRESS_BAR = re.compile(r"\d%\|")  # as tqdm draws it, in text and as a widget
BLOCKS = (ast.FunctionDef, ast.ClassDef)
OFFLINE = Path(__file__).parent / "offline"

SETUP = """\
# In Colab this installs the kit; elsewhere it only imports it. Running it twice does no harm.
import sys

if "google.colab" in sys.modules:
    %pip install --quiet anywidget "git+{address}"

import torch

import vit_edu

torch.manual_seed(0);"""


class LessonError(ValueError):
    """A lesson's source is not what it should be; the message begins with file:line."""


# Reading a lesson


def check_markers(text: str, name: str) -> None:
    """Raises LessonError where solution markers are not in pairs, are misspelt, or a pair spans two cells."""
    opened = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped == BEGIN:
            if opened:
                raise LessonError(f"{name}:{number}: a second '{BEGIN}' before the '{END}' of line {opened}.")
            opened = number
        elif stripped == END:
            if not opened:
                raise LessonError(f"{name}:{number}: '{END}' without a '{BEGIN}' before it.")
            opened = None
        elif re.match(r"#+\s*(begin|end)[\s_]*solution", stripped, re.IGNORECASE):
            raise LessonError(f"{name}:{number}: found {stripped!r}; write '{BEGIN}' or '{END}', alone on its line.")
        elif opened and line.startswith("# %%"):
            raise LessonError(f"{name}:{opened}: the cell ends before this '{BEGIN}' has its '{END}'.")
    if opened:
        raise LessonError(f"{name}:{opened}: '{BEGIN}' without an '{END}' after it.")


def read(source: Path):
    """The lesson as a notebook with its solutions and the author's header in `metadata.vit_edu`. Raises LessonError."""
    import jupytext

    text = source.read_text(encoding="utf-8")
    name = f"{source.parent.name}/{source.name}"
    check_markers(text, name)
    notebook = jupytext.reads(text, fmt="py:percent")
    header = notebook.metadata.get("vit_edu", {})
    for key, kind in HEADER.items():
        if not isinstance(header.get(key), kind):
            found = header.get(key)
            raise LessonError(f"{name}:1: the header's vit_edu.{key} is {found!r}; wanted is {kind.__name__}.")
    first = f"# {source.stem[:2]} · {header['title']}"
    if not notebook.cells or notebook.cells[0].source.split("\n")[0] != first:
        raise LessonError(f"{name}:1: the first cell is to be markdown that begins with {first!r}.")
    return notebook


# From the source to an edition


def edition(source: Path, solved: bool = False, prepare: Callable[[str], str] | None = None):
    """The notebook of a lesson, without outputs: the learner's, or with its solutions (for tests and instructors).

    `prepare` makes each cell's code from the author's, where it is to be neither of the two. The same source gives the
    same notebook, ids of cells included. Raises LessonError.
    """
    import nbformat.v4 as v4

    prepare = prepare or (_without_markers if solved else without_solutions)
    lesson, seen, cells = source.stem[:2], Counter(), []
    notebook = read(source)
    for cell in notebook.cells:
        key = hashlib.sha256(_first_line(cell.source).encode()).hexdigest()[:8]
        seen[key] += 1
        ident = f"{lesson}-{key}" + (f"-{seen[key]}" if seen[key] > 1 else "")
        metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            try:
                text = prepare(cell.source)
            except LessonError as error:
                where = f"course/{source.name}, the cell that begins {_first_line(cell.source)!r}"
                raise LessonError(f"{where}: {error}") from None
            cells.append(v4.new_code_cell(text, id=ident, metadata=metadata))
        else:
            text = cell.source.replace("](../docs/", f"]({resources.repository_url()}/blob/main/docs/")
            cells.append(v4.new_markdown_cell(text, id=ident, metadata=metadata))

    title, *rest = cells[0].source.split("\n")
    cells[0].source = "\n".join([title, "", links(f"{source.stem}.ipynb"), *rest])
    setup = SETUP.format(address=resources.repository_url())
    cells.insert(1, v4.new_code_cell(setup, id=f"{lesson}-setup", metadata={"tags": ["setup"]}))
    return v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "vit_edu": {key: notebook.metadata["vit_edu"][key] for key in HEADER},
        },
    )


def links(notebook: str, badges: bool = False) -> str:
    """Markdown: open the notebook in Colab, on Binder. As text: pictures of badges would come over the network."""
    repository = resources.repository_url().removeprefix("https://github.com/")
    colab, binder = "https://colab.research.google.com", "https://mybinder.org"
    names = ["Open in Colab", "Open on Binder"]
    if badges:
        pictures = f"{colab}/assets/colab-badge.svg", f"{binder}/badge_logo.svg"
        names = [f"![{name}]({picture})" for name, picture in zip(names, pictures)]
    places = (
        f"{colab}/github/{repository}/blob/main/notebooks/{notebook}",
        f"{binder}/v2/gh/{repository}/main?urlpath=lab/tree/work/{notebook}",
    )
    return (" " if badges else " · ").join(f"[{name}]({place})" for name, place in zip(names, places))


def without_solutions(source: str) -> str:
    """The cell with each solution region replaced by a stub that says whose turn it is.

    Inside a function the stub is a `raise NotImplementedError("your turn: …")`. In place of whole functions or classes
    stand empty ones that raise it when called, so that the cell still runs. Raises LessonError for anything else.
    """
    if BEGIN not in source:
        return source
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise LessonError(
            f"a cell with a solution is plain Python, but line {error.lineno} is not: {error.msg}."
        ) from None
    lines, result, begin = source.split("\n"), [], None
    for number, line in enumerate(lines, 1):
        if line.strip() == BEGIN:
            begin = number
        elif line.strip() == END:
            margin = re.match(r"\s*", next(filter(str.strip, lines[begin : number - 1]), line)).group()
            result += [(margin + stub).rstrip() for stub in _stubs(tree, begin, number)]
            begin = None
        elif begin is None:
            result.append(line)
    return "\n".join(result)


def _stubs(tree: ast.Module, begin: int, end: int) -> list[str]:
    """What takes the place of lines `begin` to `end`, without its margin."""
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    limit = min([end, *(node.end_lineno for node in statements if node.lineno < begin < node.end_lineno)])
    if any(begin < node.lineno < end and node.end_lineno > limit for node in statements):
        raise LessonError("a solution begins and ends in the same block; this one would take code with it.")
    blocks = [n for n in ast.walk(tree) if isinstance(n, BLOCKS) and n.lineno < begin < n.end_lineno]
    blocks.sort(key=lambda node: node.lineno)  # the outermost first
    path = [node.name for node in blocks]
    if any(isinstance(node, ast.FunctionDef) for node in blocks):
        return [_your_turn(path)]
    inside = [node for node in (blocks or [tree])[-1].body if begin < node.lineno < end]
    if not inside or not all(isinstance(node, BLOCKS) for node in inside):
        raise LessonError(
            "a solution stands inside a function, or is made of whole functions and classes; "
            "anything else would fail before the learner has come to it."
        )
    stubs = []
    for node in inside:
        stubs += [""] * (0 if not stubs else 1 if path else 2)
        if isinstance(node, ast.ClassDef):
            stubs += [f"class {node.name}:", "    def __init__(self, *args, **kwargs):", "    "]
        else:
            stubs += [f"def {node.name}(*args, **kwargs):", ""]
        stubs[-1] += "    " + _your_turn([*path, node.name])
    return stubs


def _your_turn(path: list[str]) -> str:
    return f'raise NotImplementedError("your turn: write {".".join(path)} here")'


def _without_markers(source: str) -> str:
    return "\n".join(line for line in source.split("\n") if line.strip() not in (BEGIN, END))


def _first_line(source: str) -> str:
    return next((line for line in source.split("\n") if line.strip() and line.strip() not in (BEGIN, END)), "")


# Running it


CELL_LIMIT = 300  # seconds: ten times what a whole lesson takes on a quiet machine


def run_cells(notebook, **options) -> None:
    """Runs a notebook from top to bottom, network off, in an empty folder; `options` are NotebookClient's.

    Raises nbclient's CellExecutionError, CellTimeoutError or DeadKernelError.
    """
    from nbclient import NotebookClient

    path = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        words = {"record_timing": False, "coalesce_streams": True}  # how long it took, and in how many parts, is chance
        client = NotebookClient(notebook, timeout=CELL_LIMIT, resources=place, **words, **options)
        client.execute(env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL)
    clear_progress_bars(notebook)


def clear_progress_bars(notebook) -> None:
    """Takes out what is gone when the work is done, and was there on a slow machine only."""

    def is_bar(output) -> bool:
        text = output.text if output.get("name") == "stderr" else output.get("data", {}).get("text/plain", "")
        return PROGRESS_BAR.search(text) is not None

    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        outputs[:] = [output for output in outputs if not is_bar(output)]


def execute(notebook):
    """run_cells, and what only this run's kernel knows is taken out of the notebook, which is returned."""
    metadata = dict(notebook.metadata)
    run_cells(notebook, store_widget_state=False)
    notebook.metadata.clear()
    notebook.metadata.update(metadata)  # the kernel's own version is no part of a lesson
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            # Without a kernel a widget's view is a blank; a PNG is what GitHub and PDF show for certain.
            data = output.get("data", {})
            data.pop(WIDGET_VIEW, None)
            if "image/png" in data:
                data.pop("text/html", None)
    return notebook


def same_cells(one, other) -> bool:
    """Whether two notebooks agree in everything but outputs."""

    def essence(notebook):
        return notebook.metadata, [(c.id, c.cell_type, c.source, c.metadata) for c in notebook.cells]

    return essence(one) == essence(other)
