"""What the learner reads after a check: HTML in a notebook, text in a terminal, both good for a screen reader."""

import json
import sys
import textwrap
from html import escape
from pathlib import Path

from torch import Tensor

from vit_edu.exercises.core import Draw, Exercise
from vit_edu.exercises.ladder import Verdict
from vit_edu.exercises.rungs import describe
from vit_edu.exercises.trial import Outcome, float_tensors, message

MIME = "application/vnd.vit-edu.report+json"
HEADLINES = {
    "passed": "Passed. From here on the lesson runs with your code.",
    "not started": "Not started. The lesson goes on with the kit's answer; come back whenever you like.",
    "wrong": "Not right yet. The lesson goes on with the kit's answer.",
    "error": "Your code does not run yet. The lesson goes on with the kit's answer.",
    "timeout": "Your code does not come to an end. The lesson goes on with the kit's answer.",
    "ready-made": "Ready-made. The lesson goes on with the kit's answer.",
    "interrupted": "You stopped the check. The lesson goes on with the kit's answer.",
    "nothing new": "Nothing new to check.",
}
RUNG_MEANS = {
    "runs": "does it run and return what is asked for?",
    "shape": "are shape and dtype right?",
    "values": "are the values right, on fresh random inputs?",
    "gradient": "is the gradient right?",
    "invariance": "does it leave its inputs alone, and keep what must stay true?",
}
COLOURS = {"passed": "#1a7f37", "not started": "#57606a", "wrong": "#b35900", "error": "#b35900", "timeout": "#b35900"}
MARKS = {"passed": "✓", "failed": "✗", "not reached": "·"}
PRE = "margin:0;background:transparent;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
SMALL = 24  # numbers; a larger tensor is shown by its shape


class Shown:
    """Something with an HTML and a text form that shows itself where it is."""

    def show(self) -> None:
        """In a notebook as HTML, in a terminal as text."""
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        if shell is not None and hasattr(shell, "kernel"):
            from IPython.display import display

            display(self)
        else:
            print(self)


class Report(Shown):
    """The report on one verdict."""

    def __init__(self, verdict: Verdict):
        self.verdict = verdict
        self.exercise = verdict.exercise

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        facts = {
            "exercise": self.exercise.name,
            "status": self.verdict.status,
            "diagnosis": [name for name, _ in self.verdict.diagnosis],
        }
        return {"text/html": self._html(), "text/plain": str(self), MIME: facts}

    def __str__(self) -> str:
        v = self.verdict
        lines = [f"{self.exercise.name}: {HEADLINES[v.status]}"]
        lines += [f"  {MARKS[mark]} {rung}: {mark} ({RUNG_MEANS[rung]})" for rung, mark in self._ladder()]
        for name, thought in v.diagnosis:
            lines += textwrap.wrap(f"Mistake: {name}. {thought}", 100, initial_indent="  ", subsequent_indent="    ")
        if v.sentence:
            lines += textwrap.wrap(v.sentence, 100, initial_indent="  ", subsequent_indent="    ")
        if rows := self._example():
            lines.append("  The smallest input on which it fails:")
            lines += [f"    {name} = {textwrap.indent(text, ' ' * (len(name) + 7)).strip()}" for name, text in rows]
        if v.printed:
            lines.append("  Your code printed:\n" + textwrap.indent(head(v.printed), "    "))
        if not v.passed:
            lines.append(f'  A hint: vit_edu.hint("{self.exercise.name}")')
        return "\n".join(lines)

    def _html(self) -> str:
        v = self.verdict
        title = f"<strong>{escape(self.exercise.name)}: {HEADLINES[v.status]}</strong>"
        items = "".join(
            f'<li><span aria-hidden="true">{MARKS[mark]}</span> <b>{rung}: {mark}</b> — {RUNG_MEANS[rung]}</li>'
            for rung, mark in self._ladder()
        )
        parts = [f'<ol style="list-style:none;padding-left:.5em;margin:.5em 0">{items}</ol>' if items else ""]
        parts += [f"<p><b>Mistake: {escape(name)}.</b> {escape(thought)}</p>" for name, thought in v.diagnosis]
        parts.append(f"<p>{escape(v.sentence)}</p>" if v.sentence else "")
        if rows := self._example():
            cells = "".join(
                f'<tr><th scope="row" style="text-align:left;vertical-align:top">{escape(name)}</th>'
                f'<td style="text-align:left"><pre style="{PRE}">{escape(text)}</pre></td></tr>'
                for name, text in rows
            )
            caption = (
                "<caption style='text-align:left;white-space:nowrap'>The smallest input on which it fails</caption>"
            )
            parts.append(f"<table>{caption}<tbody>{cells}</tbody></table>")
        if v.printed:
            printed = escape(head(v.printed))
            parts.append(f'<details><summary>Your code printed</summary><pre style="{PRE}">{printed}</pre></details>')
        if not v.passed:
            parts.append(f"<p>A hint: <code>vit_edu.hint({json.dumps(self.exercise.name)})</code></p>")
        return card(f"Check of {self.exercise.name}", COLOURS.get(v.status, "#57606a"), title, parts)

    def _ladder(self) -> list[tuple[str, str]]:
        if self.verdict.status in ("not started", "ready-made", "interrupted", "nothing new"):
            return []
        smooth = self.exercise.differentiable and any(float_tensors(case) for case in self.exercise.cases(Draw(0)))
        return [(rung, mark) for rung, mark in self.verdict.ladder() if smooth or rung != "gradient"]

    def _example(self) -> list[tuple[str, str]]:
        """Rows of the smallest failing input: its inputs, the learner's result, the right result."""
        v = self.verdict
        if v.case is None:
            return []
        rows = [(name, show_value(value)) for name, value in zip(self.exercise.input_names, v.case, strict=True)]
        if v.got is None:
            return rows
        if v.got.error and not v.got.results:
            where = f"\n{v.got.where}" if v.got.where else ""
            return [*rows, ("yours", f"{message(v.got.error)}{where}")]
        if "gradient" in v.failed and not v.failed & {"runs", "shape", "values"}:
            return [*rows, *self._gradients(v.got, v.want)]
        more = [f"result {i}" for i in range(len(self.exercise.returns), len(v.got.results))]
        for i, name in enumerate([*self.exercise.returns, *more]):
            rows += [(f"your {name}", show_value(value)) for value in v.got.results[i : i + 1]]
            rows += [(f"right {name}", show_value(value)) for value in v.want.results[i : i + 1]]
        return rows

    def _gradients(self, got: Outcome, want: Outcome) -> list[tuple[str, str]]:
        mine = "none" if got.gradients is None else "\n".join(map(show_value, got.gradients))
        return [("your gradient", mine), ("right gradient", "\n".join(map(show_value, want.gradients)))]


def solutions() -> dict[str, str]:
    """The solved cell of every exercise; `vit-edu build` takes them from course/."""
    return json.loads(Path(__file__).with_name("solutions.json").read_text(encoding="utf-8"))


class Hint(Shown):
    """One of an exercise's hints; after the last written one comes the solution."""

    def __init__(self, exercise: Exercise, number: int):
        self.exercise, self.number = exercise, number
        self.solution = number > len(exercise.hints)
        self.text = solutions()[exercise.name] if self.solution else exercise.hints[number - 1]
        self.title = f"{exercise.name}, hint {number} of {len(exercise.hints) + 1}" + (
            ": the solution" if self.solution else ""
        )

    def __str__(self) -> str:
        return f"{self.title}\n{textwrap.indent(self.text, '  ')}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        code = self.solution or "\n" in self.text
        body = f'<pre style="{PRE}">{escape(self.text)}</pre>' if code else f"<p>{escape(self.text)}</p>"
        return {
            "text/html": card(self.title, "#0969da", f"<strong>{self.title}</strong>", [body]),
            "text/plain": str(self),
        }


def card(label: str, colour: str, title: str, parts: list[str]) -> str:
    """A framed note; its colours follow the notebook's theme, its meaning is all in words."""
    style = f"border-left:4px solid {colour};padding:.5em 1em;max-width:60em;color:var(--jp-ui-font-color1,inherit)"
    return f'<section role="status" aria-label="{escape(label)}" style="{style}">{title}{"".join(parts)}</section>'


def show_value(value) -> str:
    """A value for the report: small tensors in full with four digits, larger ones by shape and first numbers."""
    if isinstance(value, dict):
        return "\n".join(f"{key}: {show_value(item)}" for key, item in value.items())
    if not isinstance(value, Tensor):
        return repr(value) if isinstance(value, (int, float, str, bool, type(None), tuple)) else describe(value)
    value = value.detach()
    if value.is_meta:
        return f"{tuple(value.shape)} on the meta device, without numbers"
    if value.numel() <= SMALL:
        with_dot = value.double().cpu() + 0.0  # no -0
        return f"{tuple(value.shape)}  {shorten(with_dot.tolist())}"
    first = shorten(value.flatten()[:6].double().cpu().tolist())
    return f"{tuple(value.shape)}  begins {first[:-1]}, …]"


def shorten(nested) -> str:
    """Nested lists of numbers with at most four significant digits."""
    if isinstance(nested, list):
        return "[" + ", ".join(map(shorten, nested)) + "]"
    return f"{nested:.4g}"


def head(text: str, lines: int = 12) -> str:
    """The first lines of a text; the rest is counted."""
    found = text.rstrip().splitlines()
    more = [f"… and {len(found) - lines} more lines"] if len(found) > lines else []
    return "\n".join(found[:lines] + more)
