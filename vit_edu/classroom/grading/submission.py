"""A notebook as a learner returns it: its code, and from it the few statements that one exercise's answer needs.

Nothing of it is run here. Cells may be missing, moved, broken or strange; what can't be used is left out, and why.
"""

import ast
import json
import re
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field

LARGEST = 200_000_000  # bytes of a file; outputs make notebooks large
LONGEST = 200_000  # characters of a cell's code: nobody writes more
OF_THE_KIT = {"check", "mine", "hint"}


class SubmissionError(Exception):
    """A file that cannot be graded; the message says why."""


@dataclass
class Statement:
    """One top-level statement: its text, the names that it binds and those that it reads."""

    source: str
    binds: set[str]
    reads: set[str]
    cell: int
    checks: str | None = None  # the exercise whose check this is


@dataclass
class Submission:
    """The code of a notebook, and the cells that are no Python."""

    statements: list[Statement] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)  # (code of the cell, what is wrong with it)
    minutes: float | None = None  # from the first to the last cell that was run, where JupyterLab has noted it


def read(content: bytes) -> Submission:
    """The submission in a file's content. Raises SubmissionError with a sentence for what is no notebook."""
    try:
        if len(content) > LARGEST:
            raise SubmissionError(f"The file has {len(content) / 1e6:.0f} MB, wanted a notebook of {LARGEST / 1e6:.0f}")
        cells = json.loads(content.decode("utf-8-sig"))["cells"]
        code = [cell for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SubmissionError(f"The file is not a notebook ({type(error).__name__})") from None
    found = Submission(minutes=_minutes(code))
    for number, cell in enumerate(code):
        text = cell.get("source", "")
        text = "".join(map(str, text)) if isinstance(text, list) else str(text)
        try:
            tree = ast.parse(without_magics(text[:LONGEST]))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
            found.broken.append((text[:LONGEST], f"{type(error).__name__}{line} of its cell"))
            continue
        found.statements += [_statement(node, number) for node in tree.body]
    return found


def without_magics(text: str) -> str:
    """The code without the lines that only IPython understands."""
    lines = text.split("\n")
    if lines[0].startswith("%%"):
        return ""
    return "\n".join("" if re.match(r"[%!?]|.*\?$", line.strip()) and "'" not in line else line for line in lines)


def _statement(node: ast.stmt, cell: int) -> Statement:
    source = ast.unparse(node)
    table = symtable.symtable(source, "", "exec")
    binds = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
        binds.add("*")
    for part in ast.walk(node):
        if isinstance(part, (ast.Attribute, ast.Subscript)) and not isinstance(part.ctx, ast.Load):
            binds.add(_root(part))  # Block.forward = ..., settings["eps"] = ...
    return Statement(source, binds - {""}, set(_read(table)), cell, _checked(node))


def _read(table: symtable.SymbolTable) -> Iterator[str]:
    """The module's names that are read in this scope, and in the functions and classes inside it."""
    top = table.get_type() == "module"
    yield from (s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global()))
    for child in table.get_children():
        yield from _read(child)


def _root(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _checked(node: ast.stmt) -> str | None:
    """The exercise of a statement such as `attention = vit_edu.check("attention", attention)`."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and part.args and isinstance(part.args[0], ast.Constant):
            name = part.func.attr if isinstance(part.func, ast.Attribute) else getattr(part.func, "id", "")
            if name in OF_THE_KIT and isinstance(part.args[0].value, str):
                return part.args[0].value
    return None


def answer(submission: Submission, exercise: str, name: str) -> list[str]:
    """The code that makes `name`, statement after statement: what stands before its check, if that is enough.

    Raises SubmissionError with a sentence where the notebook has no such definition.
    """
    end = max((i for i, s in enumerate(submission.statements) if s.checks == exercise), default=None)
    for known in (submission.statements[:end], submission.statements):  # a check may have been moved above its answer
        statements = [s for s in known if s.checks is None]
        if any(name in s.binds for s in statements):
            return [statement.source for statement in _needed(statements, name)]
    for code, why in submission.broken:
        if re.search(rf"\b(def|class)\s+{re.escape(name)}\b|^\s*{re.escape(name)}\s*=", code, re.MULTILINE):
            raise SubmissionError(f"The cell with {name} is not Python: {why}.")
    raise SubmissionError(f"There is no {name} in the notebook.")


def _needed(statements: list[Statement], name: str) -> Iterator[Statement]:
    """Every statement that binds `name` or something that such a statement reads, and so on."""
    wanted, chosen = {name}, set()
    while True:
        more = {i for i, s in enumerate(statements) if i not in chosen and (s.binds & wanted or "*" in s.binds)}
        if not more:
            break
        chosen |= more
        for i in more:
            wanted |= statements[i].reads
    return (statements[i] for i in sorted(chosen))


def _minutes(code: list[dict]) -> float | None:
    """How long the notebook was worked on, by the times that JupyterLab notes where it is asked to."""
    from datetime import datetime

    found = []
    for cell in code:
        times = cell.get("metadata", {}).get("execution", {}) if isinstance(cell.get("metadata"), dict) else {}
        for text in times.values() if isinstance(times, dict) else ():
            try:
                found.append(datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp())
            except ValueError:
                continue
    return (max(found) - min(found)) / 60 if len(found) > 1 else None
