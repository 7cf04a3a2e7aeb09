"""`vit-edu release`: lessons as an nbgrader course, source/ with solutions, release/ without, and a hub's settings."""

import copy
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from string import Template
from urllib.parse import urlencode

from vit_edu import resources
from vit_edu.classroom import build, editions
from vit_edu.exercises import ALL, find, guard, ladder, report

HANDOUT = Path(__file__).parent / "handout"  # everything of the course that is no notebook
STUB = "your turn: write your code here"  # one for all exercises: nbgrader knows no other
ASKED = re.compile(r'^(\w+) = vit_edu\.(check|target)\("(\w+)", \1\)$', re.MULTILINE)
SOLUTION = re.compile(rf"^( *){editions.BEGIN}\n.*?^ *{editions.END}$", re.MULTILINE | re.DOTALL)
HIDDEN = re.compile(r"^### BEGIN HIDDEN TESTS\n.*?^### END HIDDEN TESTS$", re.MULTILINE | re.DOTALL)
# The lesson's own line goes on with the kit's answer where the learner's is wrong; so theirs is taken aside before it.
TEST = """\
### BEGIN HIDDEN TESTS
_submitted = {name}
### END HIDDEN TESTS
{check}
### BEGIN HIDDEN TESTS
from vit_edu.classroom.release import fault

_fault = fault("{exercise}", _submitted)
assert not _fault, _fault
### END HIDDEN TESTS"""
SERVER = 0.15  # GB of JupyterLab itself, beside the kernels


def fault(name: str, answer: Callable) -> str:
    """What is wrong with an answer, its mistake by name; empty for a right one. Raises KeyError for no exercise."""
    guard.TIME_LIMIT = ladder.TIME_LIMIT = 25.0  # seconds; a grader's machine is busy
    verdict = ladder.examine(find(name), answer)
    if verdict.passed:
        return ""
    named = " ".join(f"{mistake}. {thought}" for mistake, thought in verdict.diagnosis)
    return f"{name}: {named or verdict.sentence or report.HEADLINES[verdict.status]}"


def source_edition(source: Path):
    """The lesson with solutions, its cells as nbgrader wants them.

    Raises LessonError for a solution without a check or target after it, a check without a solution before it, and a
    solution that one line cannot stand for.
    """
    notebook, open_cells = editions.edition(source, prepare=str), []
    out_of_class = "\n" + editions.links(f"{source.stem}.ipynb")
    notebook.cells[0].source = notebook.cells[0].source.replace(out_of_class, "")
    for cell in notebook.cells:
        code = cell.source if cell.cell_type == "code" else ""
        if editions.BEGIN in code:
            if _stubs(editions.without_solutions(code)) != _stubs(cleared(code)):
                raise editions.LessonError(f"course/{source.name}: nbgrader clears only solutions inside a function.")
            open_cells.append(cell)
        elif asked := ASKED.search(code):
            name, kind, exercise = asked.groups()
            if not open_cells:
                raise editions.LessonError(f"course/{source.name}: the {kind} of {exercise} has no solution before it.")
            for i, solution in enumerate(open_cells):
                _mark(solution, exercise if not i else f"{exercise}-{i + 1}", solution=True)
            open_cells = []
            if kind == "check":
                cell.source = TEST.format(name=name, check=code, exercise=exercise)
                _mark(cell, f"test_{exercise}", grade=True, locked=True, points=ALL[exercise].points)
            else:  # what a machine reaches is no part of a grade
                _mark(cell, cell.id, locked=True)
        else:
            _mark(cell, cell.id, locked=True)
    if open_cells:
        raise editions.LessonError(f"course/{source.name}: the last solution has no check or target after it.")
    return notebook


def _mark(cell, ident: str, **role: bool | int) -> None:
    plain = {"grade": False, "solution": False, "locked": False, "task": False}
    cell.metadata["nbgrader"] = {"schema_version": 3, "grade_id": ident, **plain, **role}


def _stubs(code: str) -> str:
    return re.sub(r'NotImplementedError\("your turn: [^"]*"\)', f'NotImplementedError("{STUB}")', code)


def cleared(code: str) -> str:
    """A cell without solution and hidden tests, as nbgrader clears it."""
    code = SOLUTION.sub(rf'\1raise NotImplementedError("{STUB}")', code)
    return HIDDEN.sub("", code).strip("\n")


def release_edition(notebook):
    """What learners get of a source edition: the same that `nbgrader generate_assignment` makes of it."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        role = cell.metadata.nbgrader
        if cell.cell_type == "code":
            cell.source = cleared(cell.source)
        if role.grade or role.solution:
            cell.metadata["deletable"] = False
        if role.grade:
            cell.metadata["editable"] = False
    return notebook


def course(root: Path, lessons: list[Path]) -> dict[str, str]:
    """Every file of the course: its place and its text. Raises LessonError."""
    import nbformat

    files = {}
    for source in lessons:
        notebook, name = source_edition(source), f"{source.stem}/{source.stem}.ipynb"
        files[f"source/{name}"] = nbformat.writes(notebook) + "\n"
        files[f"release/{name}"] = nbformat.writes(release_edition(notebook)) + "\n"
    facts = {"address": resources.repository_url(), "stub": STUB, "links": links(root)} | memory()
    for path in sorted(HANDOUT.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            text = Template(path.read_text(encoding="utf-8")).substitute(facts)
            files[path.relative_to(HANDOUT).as_posix()] = text
    return files


def links(root: Path) -> str:
    """Markdown: each lesson's nbgitpuller link, on a hub whose address is still to be put in."""
    address = resources.repository_url()
    folder = f"lab/tree/{address.rpartition('/')[2]}/notebooks"
    asked = [
        urlencode({"repo": address, "branch": "main", "urlpath": f"{folder}/{source.stem}.ipynb"})
        for source in build.sources(root)
    ]
    return "\n".join(f"- https://YOUR-HUB/hub/user-redirect/git-pull?{words}" for words in asked)


def memory() -> dict[str, str]:
    """GB a learner, by what the lessons were measured to take: one lesson is guaranteed, two may be open."""
    record = json.loads((resources.folder("data") / "records" / "lessons.json").read_text(encoding="utf-8"))
    peak = max(run["peak_mb"] for lesson in record["lessons"].values() for run in lesson.values()) / 1000
    guarantee, limit = (math.ceil(10 * (lessons * peak + SERVER)) / 10 for lessons in (1, 2))
    return {"peak": f"{peak:.1f}", "guarantee": f"{guarantee}", "limit": f"{limit}", "thirty": f"{30 * limit:.0f}"}


def write(files: dict[str, str], folder: Path) -> None:
    """All files, or none and a ValueError with a sentence where another text lies in the place of one."""
    for name, text in files.items():
        path = folder / name
        if path.exists() and (not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text):
            raise ValueError(
                f"{path} is there and is not what would be written, so nothing was written: "
                "move it away, or name another folder with --to."
            )
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def main(wanted: list[str], to: str) -> int:
    """The command. Returns the exit code."""
    try:
        root = build.checkout()
        lessons = build.sources(root, wanted)
        write(course(root, lessons), Path(to))
    except ValueError as error:  # LessonError is one
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"Cannot write {error.filename}: {error.strerror}. Choose another folder with --to.", file=sys.stderr)
        return 2
    for source in lessons:
        asked = ASKED.findall(source.read_text(encoding="utf-8"))
        points = {name: ALL[name].points for _, kind, name in asked if kind == "check"}
        print(f"{source.stem}: {sum(points.values())} points; {', '.join(f'{n} {p}' for n, p in points.items())}")
    print(f"Next, in {to}: nbgrader generate_assignment {lessons[0].stem}. docs/instructors.md has all ten steps.")
    return 0
