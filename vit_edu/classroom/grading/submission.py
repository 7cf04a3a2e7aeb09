"""A notebook as a learner returns it: its code, and from it the few statements that one exercise's answer needs.

Nothing of it is run here. Cells may be missing, moved, broken or strange; what can't be used is left out, and why.
"""

import ast
import builtins
import json
import re
import symtable
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

LARGEST = 60_000_000  # bytes of a file; outputs make notebooks large
PARTS = 3_000_000  # values in it, which may take twenty times the memory of their characters; a lesson has 3,000
LONGEST = 500_000  # characters of code; a lesson has 25,000
CELL = 50_000  # characters of one cell: Python reads some code in a time that grows with the square of its length
MOST = 5_000  # statements, and cells of code
CLEAR = "Clear its outputs in JupyterLab (Kernel, Restart Kernel and Clear Outputs of All Cells), and hand it in again"
ASKED = {"check", "target"}  # what they give back is the answer that went in, or the kit's
# A line, and what its backslashes join to it.
MAGIC = re.compile(r"^([ \t]*)(?:(?:[\w, ]+=\s*)?[%!](?:.*\\\n)*.*|\?.*|[\w.]+\?+[ \t]*$)", re.MULTILINE)
IN_PYTHON = ("%%time", "%%capture", "%%prun")  # cell magics whose body is run as it stands


class SubmissionError(Exception):
    """A file that cannot be graded; the message says why."""


@dataclass
class Statement:
    """One top-level statement: its text, the names that it binds or changes, and those that it reads."""

    source: str
    binds: set[str]
    reads: set[str]
    calls: dict[str, set[str]]  # print: {x} of print(x), and sizes.: {x} of sizes.append(x)
    defines: bool  # functions in it bind names of the module
    checks: dict[str, str]  # exercise -> what is handed over to its check
    plain: bool  # no other statements stand in it


@dataclass
class Submission:
    """The code of a notebook, and the cells that are no Python."""

    statements: list[Statement] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)  # (code of the cell, what is wrong with it)
    minutes: float | None = None  # from the first to the last cell that was run, where JupyterLab has noted it


def read(content: bytes) -> Submission:
    """The submission in a file's content. Raises SubmissionError with a sentence for what is no notebook."""
    try:
        if not content:
            raise SubmissionError("The file is empty, or it cannot be read")
        if len(content) > LARGEST:
            raise SubmissionError(f"The file is larger than the {LARGEST / 1e6:.0f} MB that are graded. {CLEAR}")
        if (parts := sum(map(content.count, (b"[", b"{", b",")))) > PARTS:
            raise SubmissionError(
                f"The file has {parts / 1e6:.1f} million values, more than the {PARTS / 1e6:.0f} million that are "
                f"graded. {CLEAR}"
            )
        notebook = json.loads(content.decode("utf-8-sig"))
        cells = notebook["worksheets"][0]["cells"] if "worksheets" in notebook else notebook["cells"]  # nbformat 3
        code = [cell for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise SubmissionError(f"The file is not a notebook ({type(error).__name__})") from None
    found, left = Submission(minutes=_minutes(code)), LONGEST
    for cell in code[:MOST]:
        text = cell.get("source", cell.get("input", ""))
        text = ("".join(map(str, text)) if isinstance(text, list) else str(text))[:left]
        left -= len(text)
        if len(text) > CELL:
            found.broken.append((text, f"it is longer than {CELL} characters"))
            continue
        try:
            nodes = _one_by_one(_parsed(text).body)
            found.statements += [_statement(node) for node in nodes][: MOST - len(found.statements)]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
            found.broken.append((text, f"{type(error).__name__}{line} of its cell"))
    _calls_that_bind(found.statements)
    return found


def _calls_that_bind(statements: list[Statement]) -> None:
    """sizes.append(3) changes sizes, and so may fill(sizes) of the learner's own fill, where sizes is no function;
    define() binds what define declares global; torch.save(x) changes nothing."""
    imported = {f"{name}." for s in statements if s.source.startswith(("import ", "from ")) for name in s.binds}
    defining = {name for s in statements if s.defines for name in s.binds}
    functions = {"setattr"} | {name for s in statements if not s.plain for name in s.binds}
    for statement in statements:
        changed = {name[:-1] for name in statement.calls.keys() - imported if name.endswith(".")}
        for name in statement.calls.keys() & functions:
            changed |= statement.calls[name] if name == "setattr" else statement.calls[name] - functions
        statement.binds |= (changed | (statement.calls.keys() & defining)) - {""}


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a learner's "\\d"
        try:
            return ast.parse(text)
        except SyntaxError:
            return ast.parse(without_magics(text))


def without_magics(text: str) -> str:
    """The code without what only IPython understands; a line keeps its place."""
    lines = textwrap.dedent(text).lstrip("\n").split("\n")
    if lines[0].startswith("%%"):
        lines = ["", *lines[1:]] if lines[0].startswith(IN_PYTHON) and not lines[0].startswith("%%timeit") else []
    code = re.sub(r"^([ \t]*)%time[ \t]+", r"\1", "\n".join(lines), flags=re.MULTILINE)
    return MAGIC.sub(lambda found: found[1] + "pass" + "\n" * found[0].count("\n"), code)


def _one_by_one(nodes: list[ast.stmt]) -> Iterator[ast.stmt]:
    """An import of several names is several statements: an answer waits for those that it needs and no others."""
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (type(node)(**{**dict(ast.iter_fields(node)), "names": [name]}) for name in node.names)
        else:
            yield node


def _statement(node: ast.stmt) -> Statement:
    plain, checks, calls = not hasattr(node, "body"), {}, {}
    for part in _run_at_once(node):
        checks |= _checked(part) if isinstance(part, ast.Call) else {}
    source = ast.unparse(node if plain else _Answered().visit(node))
    table = symtable.symtable(source, "", "exec")
    binds = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    reads = set(_read(table))
    declared = set(_declared_global(table))
    if declared:  # def f(): global x: who wants x wants f, and the call of f
        reads |= binds
        binds |= declared
    if isinstance(node, ast.ImportFrom) and (node.names[0].name == "*" or node.module == "__future__"):
        binds.add("*")
    for part in _run_at_once(node):
        if isinstance(part, (ast.Attribute, ast.Subscript)) and not isinstance(part.ctx, ast.Load):
            binds.add(_root(part))  # Block.forward = ..., settings["eps"] = ...
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            function = part.value.func
            name = _root(function) + "." * isinstance(function, ast.Attribute)
            calls.setdefault(name, set()).update(map(_root, part.value.args))
    return Statement(source, binds - {""}, reads, calls, bool(declared), checks, plain)


class _Answered(ast.NodeTransformer):
    """In the place of a check inside another statement stands what was handed over to it."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        return node.args[1] if _checked(node) and len(node.args) == 2 else node


def _run_at_once(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a statement, without those inside functions."""
    yield node
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        for part in ast.iter_child_nodes(node):
            yield from _run_at_once(part)


def _read(table: symtable.SymbolTable) -> Iterator[str]:
    """The module's names that are read in this scope, and in the functions and classes inside it."""
    top = table.get_type() == "module"
    yield from (s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global()))
    for child in table.get_children():
        yield from _read(child)


def _declared_global(table: symtable.SymbolTable) -> Iterator[str]:
    """The module's names that functions inside bind."""
    for child in table.get_children():
        yield from (s.get_name() for s in child.get_symbols() if s.is_declared_global() and s.is_assigned())
        yield from _declared_global(child)


def _root(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _checked(call: ast.Call) -> dict[str, str]:
    """{"attention": "mine"} for `vit_edu.check("attention", mine)`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    words = call.args + [word.value for word in call.keywords]
    if name in ASKED and words and isinstance(words[0], ast.Constant) and isinstance(words[0].value, str):
        return {words[0].value: ast.unparse(words[1]) if len(words) == 2 else ""}
    return {}


def answers(submission: Submission, exercise: str, name: str, given: Iterable[str] = ()) -> Iterator[list[str]]:
    """The code that makes `name`, statement after statement: first what its last check was given, if there is one;
    then, for a check that was moved above its answer, what the whole notebook makes of it. Names that are `given` need
    no code.

    Raises SubmissionError with a sentence where the notebook has no such definition.
    """
    every = submission.statements
    last = max((i for i, s in enumerate(every) if exercise in s.checks), default=len(every))
    tried = []
    if last < len(every) and (handed_over := every[last].checks[exercise]) not in ("", name):
        handed = _statement(ast.parse(f"{name} = {handed_over}").body[0])  # under another name, or as a lambda
        if handed.reads <= {bound for s in every[:last] for bound in s.binds} | set(dir(builtins)):
            tried.append([*every[:last], handed])
    tried += [every[: last + 1], every]
    seen = []
    for known in tried:
        statements = [s for s in known if not (s.plain and s.checks)]
        code = [s.source for s in _needed(statements, name, given)] if any(name in s.binds for s in statements) else []
        if code and code not in seen:
            seen.append(code)
            yield code
    if seen:
        return
    for code, why in submission.broken:
        if re.search(rf"\b(def|class)\s+{re.escape(name)}\b|^\s*{re.escape(name)}\s*=", code, re.MULTILINE):
            raise SubmissionError(f"The cell with {name} is not Python: {why}.")
    raise SubmissionError(f"There is no {name} in the notebook.")


def _needed(statements: list[Statement], name: str, given: Iterable[str]) -> Iterator[Statement]:
    """Every statement that binds `name` or something that such a statement reads, and so on; not what is `given`."""
    by_name: dict[str, list[int]] = {}
    for i, statement in enumerate(statements):
        for bound in statement.binds:
            by_name.setdefault(bound, []).append(i)
    wanted, known, chosen = [name, "*"], {name, "*", *given}, set()
    while wanted:
        for i in set(by_name.get(wanted.pop(), ())) - chosen:
            chosen.add(i)
            wanted += statements[i].reads - known
            known |= statements[i].reads
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
