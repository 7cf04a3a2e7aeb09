"""Answers that are nearly the same text: a place to look, and no verdict. Ten right lines are often alike."""

import ast
import itertools
from collections import Counter

WINDOW = 12  # parts of the syntax in a row
LEAST = 0.85  # of the parts that two share
LONGEST = 5000  # parts of one answer


class _Plain(ast.NodeTransformer):
    """Without docstrings, and with every name but an attribute's the same: renaming hides nothing."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("name", node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg("name")

    def visit_Expr(self, node: ast.Expr):
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def parts(code: str) -> frozenset[int]:
    """The windows of an answer's syntax; none for what is no Python."""
    try:
        tree = _Plain().visit(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()
    kinds = [
        (type(node).__name__, getattr(node, "attr", ""), str(node.value) if isinstance(node, ast.Constant) else "")
        for node in itertools.islice(ast.walk(tree), LONGEST)
    ]
    return frozenset(hash(tuple(kinds[i : i + WINDOW])) for i in range(max(1, len(kinds) - WINDOW + 1)))


def pairs(results: list[dict]) -> list[tuple[str, str, list[str]]]:
    """(learner, learner, exercises) for every two whose answers to at least two exercises are nearly the same.

    What a quarter of the class wrote is nobody's own, and does not count.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for exercise in {mark["exercise"] for result in results for mark in result["marks"]}:
        written = {}
        for result in results:
            code = next((mark["code"] for mark in result["marks"] if mark["exercise"] == exercise), "")
            if code and (windows := parts(code)):
                written[result["learner"]] = windows
        common = Counter(window for windows in written.values() for window in windows)
        usual = {window for window, count in common.items() if count > max(2, len(written) / 4)}
        own = {learner: windows - usual for learner, windows in written.items() if len(windows - usual) >= WINDOW}
        for one, other in itertools.combinations(sorted(own), 2):
            if len(own[one] & own[other]) >= LEAST * len(own[one] | own[other]):
                found.setdefault((one, other), []).append(exercise)
    return [(*both, sorted(exercises)) for both, exercises in sorted(found.items()) if len(exercises) > 1]
