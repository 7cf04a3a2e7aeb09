"""`vit-edu build`: the committed notebooks, README's course map and the glossary, made from course/."""

import itertools
import json
import re
import sys
from pathlib import Path

from vit_edu import resources
from vit_edu.classroom import editions

SOLUTIONS = "vit_edu/exercises/solutions.json"
GLOSSARY = "docs/glossary.md"
MARKS = "<!-- course map, made by vit-edu build -->", "<!-- end of course map -->"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def checkout() -> Path:
    """The root of the checkout that this package runs from. Raises SystemExit elsewhere."""
    root = resources.PACKAGE.parent
    if not (root / "course").is_dir():
        raise SystemExit("The lessons' sources in course/ are needed: run this in a checkout.")
    return root


def sources(root: Path, wanted: list[str] | tuple = ()) -> list[Path]:
    """The lessons in order; `wanted` names some by number, name or path. Raises LessonError for an unknown one."""
    every = sorted((root / "course").glob("[0-9][0-9]_*.py"))
    found = []
    for word in wanted:
        match = [path for path in every if path.stem == Path(word).stem or path.stem[:2] == word]
        if not match:
            raise editions.LessonError(f"There is no lesson {word!r}; there are {', '.join(p.stem for p in every)}.")
        found += match
    return found or every


def committed(root: Path, source: Path):
    """The lesson's notebook as it lies in notebooks/; None where there is none that can be read."""
    import nbformat

    path = root / "notebooks" / f"{source.stem}.ipynb"
    try:
        return nbformat.read(path, as_version=4)
    except (FileNotFoundError, ValueError):  # not there, or not a notebook
        return None


def is_stale(root: Path, source: Path) -> bool:
    """Whether the committed notebook differs from the source in more than outputs."""
    old = committed(root, source)
    return old is None or not editions.same_cells(old, editions.edition(source))


def course_map(root: Path) -> str:
    """README's table of lessons, Markdown."""
    rows = ["| | lesson | what you will have built | minutes | after | |", "|---|---|---|---|---|---|"]
    for source in sources(root):
        about, notebook = editions.read(source).metadata["vit_edu"], f"{source.stem}.ipynb"
        title = f"[{about['title']}](notebooks/{notebook})"
        after = ", ".join(about["builds_on"]) or "–"
        links = editions.links(notebook, badges=True)
        cells = source.stem[:2], title, about["builds"], str(about["minutes"]), after, links
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def readme(root: Path) -> str:
    """README.md with the course map of now. Raises LessonError where its marks are missing."""
    text = (root / "README.md").read_text(encoding="utf-8")
    before, mark, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (mark and end):
        raise editions.LessonError(f"README.md:1: the marks of the map are missing: {' and '.join(MARKS)}.")
    return f"{before}{mark}\n{course_map(root)}\n{end}{after}"


def solutions(root: Path) -> str:
    """The solved cell of each exercise, for the last hint: the content of vit_edu/exercises/solutions.json."""
    found = {}
    for source in sources(root):
        cells = editions.edition(source, solved=True).cells
        for cell, following in itertools.pairwise(cells):
            check = re.search(r'vit_edu\.check\("(\w+)"', following.source)
            if check and cell.cell_type == "code":
                found[check[1]] = cell.source.strip()
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def glossary(root: Path) -> str:
    """The lessons' "New words" in the order of the alphabet, Markdown. Raises LessonError for one that comes twice."""
    found = {}
    for source in sources(root):
        for cell in editions.read(source).cells:
            section = cell.source.partition("## New words\n")[2].partition("\n## ")[0]
            for word, sentence in re.findall(r"^- \*\*(.+?)\*\*: (.+?\.)$", section, re.M | re.S):
                if word in found:
                    raise editions.LessonError(
                        f"course/{source.name}: {word!r} is a new word of an earlier lesson too."
                    )
                link = f"[{source.stem[:2]}](../notebooks/{source.stem}.ipynb)"
                found[word] = f"- **{word}** ({link}): {' '.join(sentence.split())}"
    lines = [found[word] for word in sorted(found, key=str.lower)]
    return "\n".join(
        [
            "# Glossary",
            "",
            "Made from the lessons by `vit-edu build`; behind each word the lesson that needs it first.",
            "",
            *lines,
            "",
        ]
    )


MADE = {"README.md": readme, SOLUTIONS: solutions, GLOSSARY: glossary}  # from all lessons together


def stale(root: Path, wanted: list[str] | tuple = ()) -> list[str]:
    """One sentence for everything that is not as course/ has it now."""
    old = [source for source in sources(root, wanted) if is_stale(root, source)]
    found = [f"notebooks/{source.stem}.ipynb is not what course/{source.name} makes." for source in old]
    if not wanted:
        stems = {source.stem for source in sources(root)}
        orphans = [path.name for path in (root / "notebooks").glob("*.ipynb") if path.stem not in stems]
        found += [f"notebooks/{name} has no source in course/; delete it." for name in sorted(orphans)]
        made = [name for name, make in MADE.items() if make(root) != _text(root / name)]
        found += [f"{name} is not what the lessons say." for name in made]
    return found


def build(root: Path, wanted: list[str] | tuple = ()) -> None:
    """Makes what is stale: runs the lesson, stores its outputs. A lesson whose cells are as before stays as it is."""
    import nbformat
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    for source in sources(root, wanted):
        path = root / "notebooks" / f"{source.stem}.ipynb"
        if not is_stale(root, source):
            print(f"{path.name}: unchanged")
            continue
        print(f"{path.name}: running …", flush=True)
        try:
            notebook = editions.execute(editions.edition(source))
        except (CellExecutionError, CellTimeoutError) as error:
            raise editions.LessonError(f"course/{source.name}: {error}") from None
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, path)
    for name, make in MADE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(make(root), encoding="utf-8")


def main(wanted: list[str], check: bool) -> int:
    """The command. Returns the exit code."""
    try:
        import jupytext  # noqa: F401
        import nbclient  # noqa: F401
    except ImportError as error:
        print(f"vit-edu build needs {error.name}: pip install -e '.[test]'", file=sys.stderr)
        return 1
    try:
        if not check:
            build(checkout(), wanted)
            return 0
        found = stale(checkout(), wanted)
    except editions.LessonError as error:
        print(error, file=sys.stderr)
        return 1
    for sentence in found:
        print(sentence)
    if found:
        print("Run vit-edu build, look at the difference, and commit it.")
    return 1 if found else 0
