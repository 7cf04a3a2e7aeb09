"""`vit-edu export`: a lesson as one HTML file, alive without a kernel; it asks no host for anything."""

import re
import sys
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import jupytext  # noqa: F401  # editions reads lessons with it; better missed here than after the first lesson
from latex2mathml.converter import convert
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from vit_edu.classroom import build, editions
from vit_edu.widgets import look, static

CSS = Path(__file__).with_suffix(".css")
# The browser itself refuses every request, whatever a lesson's output contains.
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{css}
</style>
</head>
<body>
<nav aria-label="Lessons">{bar}</nav>
<main>
<p class="note">A page to read and to touch. Code does not run here: to solve the exercises, open the notebook.</p>
{body}
</main>
{scripts}
</body>
</html>
"""


# Text


class Renderer(IPythonRenderer):
    """Markdown as JupyterLab has it; formulas as MathML, links to notebooks as links to their pages."""

    def inline_math(self, body: str) -> str:
        return formula(body, "inline")

    def block_math(self, body: str) -> str:
        return formula(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, re.sub(r"^(\d\d_\w+)\.ipynb(?=$|#)", r"\1.html", url), title)


def markdown(text: str) -> str:
    """Markdown as HTML."""
    return MarkdownWithMath(renderer=Renderer(escape=False, exclude_anchor_links=True)).render(text)


def formula(latex: str, display: str) -> str:
    """MathML; the LaTeX as it was written where the converter does not know it."""
    try:
        # The converter makes an operator of \operatorname{softmax}, with an operator's spaces; it is a name.
        math = re.sub(r"<mo>([A-Za-z]{2,})</mo>", r"<mi>\1</mi>", convert(latex, display=display))
        known = not any("\\" in text for text in ElementTree.fromstring(math).itertext())
    except Exception:  # the converter raises what it likes
        known = False
    return math if known else f"<code>{escape(latex.strip())}</code>"


def colours() -> str:
    """The explorers' colours for the whole page: look.css gives them to each explorer."""
    rules = re.findall(r"^  (--ve-[\w-]+:[^;]*;)", look.source("look.css"), re.MULTILINE)
    dark = "body { --ve-light: ; --ve-dark: initial; }"
    return f"body {{ {' '.join(rules)} }}\n@media screen and (prefers-color-scheme: dark) {{ {dark} }}"


# A lesson


def run(source: Path):
    """The learner's notebook of a lesson, executed without network, its widgets' state stored. Raises LessonError."""
    notebook = editions.edition(source)
    try:
        editions.run_cells(notebook)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise editions.LessonError(f"course/{source.name} fails: {_why(notebook, error)}") from None
    return notebook


def _why(notebook, error: Exception) -> str:
    """In one line, with the cell where it is known: the last one that ran and raised; others may be there to raise."""
    failed = [cell for cell in notebook.cells if any(one.output_type == "error" for one in cell.get("outputs", ()))]
    if failed and isinstance(error, CellExecutionError):
        first = failed[-1].source.partition("\n")[0]
        return f"in the cell that begins {first!r}, {error.ename}: {error.evalue.partition(chr(10))[0]}"
    return str(error).partition("\n")[0]


def enliven(notebook) -> list[static.Saved]:
    """Puts the explorers, alive, in place of their outputs, and pictures with their alt text. Returns the explorers."""
    explorers = []
    for output in [output for cell in notebook.cells for output in cell.get("outputs", ())]:
        data, about = output.get("data", {}), output.get("metadata", {}).get("image/png", {})
        if explorer := static.Saved.within(notebook, output):
            explorers.append(explorer)
            data["text/html"] = static.place(explorer)
        elif "image/png" in data and "text/html" not in data:
            alt = escape(about.get("alt", data.get("text/plain", "")))
            data["text/html"] = f'<img alt="{alt}" src="data:image/png;base64,{data["image/png"]}">'
        data.pop(static.VIEW, None)
    notebook.metadata.pop("widgets", None)
    return explorers


def page(source: Path, every: list[Path]) -> str:
    """The lesson's HTML file; `every` lesson in order tells the one before and the one after. Raises LessonError."""
    notebook = run(source)
    explorers = enliven(notebook)
    exporter = HTMLExporter(
        template_name="basic",
        filters={"markdown2html": markdown},
        preprocessors=["nbconvert.preprocessors.CoalesceStreamsPreprocessor"],  # lines printed a moment apart
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    return PAGE.format(
        policy=POLICY,
        title=escape(_title(source)),
        css=colours() + "\n" + CSS.read_text(encoding="utf-8"),
        bar=_bar(source, every),
        body=body,
        scripts=static.scripts(explorers),
    )


def _title(source: Path) -> str:
    return f"{source.stem[:2]} · {editions.read(source).metadata['vit_edu']['title']}"


def _bar(source: Path, every: list[Path]) -> str:
    """Where the reader is, between the links to the lessons on both sides; an empty place where there is none."""
    at = every.index(source)
    before = [_way("prev", "Previous lesson", other) for other in every[:at][-1:]] or ["<span></span>"]
    after = [_way("next", "Next lesson", other) for other in every[at + 1 :][:1]] or ["<span></span>"]
    return "".join([*before, f"<strong>{escape(_title(source))}</strong>", *after])


def _way(rel: str, means: str, other: Path) -> str:
    number, title = escape(_title(other)).split(" · ", 1)
    words = f"{number}<span> · {title}</span>"  # the title is hidden where the page is narrow
    shown = f"← {words}" if rel == "prev" else f"{words} →"
    return f'<a rel="{rel}" href="{other.stem}.html" aria-label="{means}: {number} · {title}">{shown}</a>'


def main(wanted: list[str], out: str | None) -> int:
    """The command. Returns the exit code."""
    root = build.checkout()
    folder = Path(out) if out else root / "work" / "html"
    try:
        lessons = build.sources(root, wanted)
        folder.mkdir(parents=True, exist_ok=True)
        for source in lessons:
            path = folder / f"{source.stem}.html"
            print(f"{source.stem}: running …", flush=True)
            path.write_text(page(source, build.sources(root)), encoding="utf-8")
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    except editions.LessonError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"Cannot write {error.filename}: {error.strerror}. Choose another folder with --out.", file=sys.stderr)
        return 2
    return 0
