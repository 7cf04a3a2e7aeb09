"""What comes back: a page for each learner, a table for the learning platform, a page of the whole class."""

import csv
import io
import re
import statistics
from collections import Counter
from hashlib import sha256
from html import escape
from pathlib import Path

from vit_edu.classroom.editions import read as read_lesson
from vit_edu.classroom.grading import similar
from vit_edu.exercises import ALL

CSS = Path(__file__).with_suffix(".css")
STATUS = {
    "passed": "right",
    "not started": "not started",
    "wrong": "not right",
    "error": "does not run",
    "timeout": "does not end",
    "ended": "ended its process",
    "ready-made": "ready-made",
    "missing": "missing",
    "unreadable": "no notebook",
    "nothing new": "the kit's own",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def write(results: list[dict], answers: dict[str, str], source: Path, out: Path) -> None:
    """index.html, marks.csv and learners/*.html, from all marks."""
    (out / "learners").mkdir(parents=True, exist_ok=True)
    title = f"{source.stem[:2]} · {read_lesson(source).metadata['vit_edu']['title']}"
    for result in results:
        (out / "learners" / slug(result["learner"])).write_text(learner(result, title), encoding="utf-8")
    (out / "marks.csv").write_text(table(results, list(answers)), encoding="utf-8", newline="")
    (out / "index.html").write_text(whole_class(results, list(answers), title), encoding="utf-8")


def slug(name: str) -> str:
    """A file's name for a learner's: readable, and no other learner's."""
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:60]}-{sha256(name.encode()).hexdigest()[:6]}.html"


def page(title: str, body: str) -> str:
    return PAGE.format(title=escape(title), css=CSS.read_text(encoding="utf-8"), body=body)


def rows(head: list[str], lines: list[list], numbers: tuple[int, ...] = ()) -> str:
    """A table; `lines` of HTML. No line of heads where all are empty."""
    kind = ['class="number"' if i in numbers else "" for i in range(len(head))]
    top = "".join(f'<th scope="col" {kind[i]}>{escape(cell)}</th>' for i, cell in enumerate(head))
    body = "".join(f"<tr>{''.join(f'<td {k}>{cell}</td>' for k, cell in zip(kind, line))}</tr>" for line in lines)
    top = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody></table></div>'


def total(result: dict) -> tuple[int, int]:
    """Points, and how many there were."""
    return sum(mark["points"] for mark in result["marks"]), sum(mark["of"] for mark in result["marks"])


# One learner


def learner(result: dict, title: str) -> str:
    """Marks, reasons, the mistakes by name with the thought that leads out of each, and the first hint."""
    points, of = total(result)
    lines = [
        [escape(mark["exercise"]), f"{mark['points']} of {mark['of']}", STATUS.get(mark["status"], mark["status"])]
        for mark in result["marks"]
    ]
    parts = [f"<p>{escape(result['learner'])}: <strong>{points} of {of} points</strong></p>"]
    parts.append(rows(["exercise", "points", "result"], lines, numbers=(1,)))
    for mark in result["marks"]:
        if mark["status"] == "passed":
            continue
        parts.append(f"<h2>{escape(mark['exercise'])}</h2>")
        for name, thought in mark["diagnosis"]:
            parts.append(f'<p class="note"><strong>Mistake: {escape(name)}.</strong> {escape(thought)}</p>')
        parts.append(f"<p>{escape(mark['reason'])}</p>")
        parts.append(f'<p class="quiet">A hint: {escape(ALL[mark["exercise"]].hints[0])}</p>')
    parts.append(f'<p class="quiet">Protection while it was graded: {escape(result["protection"])}.</p>')
    return page(title, "\n".join(parts))


# The class


def table(results: list[dict], exercises: list[str]) -> str:
    """CSV: one line a learner."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["learner", "points", "of", *exercises, *(f"{name}: status" for name in exercises)])
    for result in results:
        marks = {mark["exercise"]: mark for mark in result["marks"]}
        points = [marks[name]["points"] if name in marks else "" for name in exercises]
        status = [marks[name]["status"] if name in marks else "" for name in exercises]
        writer.writerow([harmless(result["learner"]), *total(result), *points, *status])
    return out.getvalue()


def harmless(text: str) -> str:
    """A file may be called =cmd(…); no spreadsheet shall run it."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def bars(counts: dict[str, float], unit: str, largest: float | None = None) -> str:
    """Numbers as bars with the number beside them."""
    largest = largest or max(counts.values(), default=1) or 1
    lines = [
        [
            escape(name),
            f'<div class="bar" style="width:{100 * count / largest:.1f}%"></div>',
            f"{count:g}{unit}",
        ]
        for name, count in counts.items()
    ]
    return rows(["", "", ""], lines, numbers=(2,))


def whole_class(results: list[dict], exercises: list[str], title: str) -> str:
    """Where the class is stuck, which mistakes are common, how long it took, who has how many points."""
    marks = [mark for result in results for mark in result["marks"]]
    right = {
        name: round(100 * sum(m["status"] == "passed" for m in marks if m["exercise"] == name) / max(1, len(results)))
        for name in exercises
    }
    points = [total(result)[0] for result in results]
    of = max((total(result)[1] for result in results), default=0)
    parts = [f"<p>{len(results)} notebooks; the median has {statistics.median(points or [0]):g} of {of} points.</p>"]
    parts += ["<h2>Where the class is stuck: who has it right</h2>", bars(right, " %", 100)]
    found = Counter(f"{mark['exercise']}: {name}" for mark in marks for name, _ in mark["diagnosis"])
    parts += ["<h2>Common mistakes</h2>", bars(dict(found.most_common(15)), "") if found else "<p>None was named.</p>"]
    others = Counter(STATUS.get(m["status"], m["status"]) for m in marks if m["status"] not in ("passed", "wrong"))
    if others:
        parts += ["<h2>What else happened</h2>", bars(dict(others.most_common()), "")]
    minutes = sorted(result["minutes"] for result in results if result.get("minutes"))
    if len(minutes) > 1:
        spread = {"a quarter was done in": 0.25, "half": 0.5, "three quarters": 0.75}
        shown = {words: round(minutes[int(share * (len(minutes) - 1))]) for words, share in spread.items()}
        parts += [f"<h2>How long it took ({len(minutes)} notebooks say)</h2>", bars(shown, " min")]
    parts += ["<h2>Nearly the same</h2>", _alike(results), "<h2>Everyone</h2>", _everyone(results, exercises)]
    return page(f"{title}: the class", "\n".join(parts))


def _alike(results: list[dict]) -> str:
    found = similar.pairs(results)
    if not found:
        return "<p>No two notebooks have answers that only they share.</p>"
    lines = [[escape(one), escape(other), escape(", ".join(exercises))] for one, other, exercises in found]
    note = "<p>A place to look, and no verdict: names are ignored, and short right answers are often alike.</p>"
    return note + rows(["one", "the other", "answers that only they share"], lines)


def _everyone(results: list[dict], exercises: list[str]) -> str:
    lines = []
    for result in results:
        marks = {mark["exercise"]: mark for mark in result["marks"]}
        link = f'<a href="learners/{slug(result["learner"])}">{escape(result["learner"])}</a>'
        points = [f"{marks[name]['points']}" if name in marks else "" for name in exercises]
        lines.append([link, total(result)[0], *points])
    return rows(["learner", "points", *exercises], lines, numbers=tuple(range(1, len(exercises) + 2)))
