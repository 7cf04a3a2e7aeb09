"""Every number in a lesson's prose is in its code, in what its cells print, or a paper's that the sentence names."""

import re
from pathlib import Path

import pytest

from vit_edu.classroom import build

ROOT = Path(__file__).resolve().parents[2]
NUMBER = r"\d+(?:[ ,\u202f\u00a0]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
SCALES = {"%": 0.01, "thousand": 1e3, "million": 1e6, "billion": 1e9}
IN_PROSE = re.compile(rf"(?<![\w.])({NUMBER})(?:e-?\d+)?[ \u00a0]?(%|thousand|million|billion)?")
IN_OUTPUT = re.compile(rf"(?<![\w.])({NUMBER})(e[-+]?\d+)?\s?(%)?")
PLACES = r"(?i)\b(?:lessons?|sections?|equations?|tables?|figures?|appendix|chapters?|questions?|python) "
APART = [  # what is no claim: code, formulas, links, images, list numerals, headings, places in a paper or the course
    r"```.*?```",
    r"`[^`]*`",
    r"\$\$.*?\$\$",
    r"\$[^$]*\$",
    r"!?\[[^\]]*\]\([^)]*\)",
    r"(?m)^\s*\d+\. ",
    r"(?m)^#+ .*$",
    PLACES + r"[A-Z]?\.?\d+(?:\.\d+)*(?:(?:, | and | to |–)\d+(?:\.\d+)*)*",
    r"\b(?:19|20)\d\ds?\b",
]
CITED = re.compile(r"[A-Z][\w'’-]+(?: (?:et al\.|and [A-Z][\w'’-]+))?,? \(?(?:19|20)\d\d")
SMALL = 12  # whole numbers up to here are words


def value(text: str) -> float:
    return float(re.sub(r"[ ,\u202f\u00a0]", "", text))


def claims(markdown: str) -> list[str]:
    """Numbers with their % or million, as they stand in sentences that cite nobody."""
    for pattern in APART[:5]:
        markdown = re.sub(pattern, " ", markdown, flags=re.DOTALL if "```" in pattern or "$$" in pattern else 0)
    sentences = re.split(r"(?<=[.?!:])\s+(?=[A-Z*])|\n\s*\n|\n(?=[-*|>]|\d+\.)", markdown.replace("et al.", "et al\u2024"))
    found = []
    for sentence in sentences:
        if CITED.search(" ".join(sentence.replace("\u2024", ".").split())):
            continue
        for pattern in APART[5:]:
            sentence = re.sub(pattern, " ", sentence)
        found += [match.group().strip() for match in IN_PROSE.finditer(sentence)]
    return [claim for claim in found if not (claim.isdigit() and int(claim) <= SMALL)]


def produced(text: str) -> set[float]:
    """The numbers in code and printed text; a percentage as it is and as a share."""
    found = set()
    for number, power, percent in IN_OUTPUT.findall(text.replace("_", "")):
        x = value(number) * 10 ** int(power[1:] or 0) if power else value(number)
        found |= {x, x / 100} if percent else {x}
    return found


def supported(claim: str, numbers: set[float]) -> bool:
    """Whether one of the numbers is the claim when rounded as the claim is."""
    number, unit = IN_PROSE.match(claim).groups()
    digits = len(number.partition(".")[2])
    scale = SCALES.get(unit, 1.0)
    wanted, half = value(number) * scale, 0.5 * 10**-digits * scale
    return any(abs(x - wanted) <= half * 1.0001 for x in numbers)


def text_of(notebook) -> str:
    """Everything in a notebook that is code, or that code has printed."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            parts.append(cell.source)
            parts += [output.get("text", "") for output in cell.outputs]
            parts += [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(parts)


@pytest.mark.parametrize("source", build.sources(ROOT), ids=lambda source: source.stem)
def test_every_number_in_prose_comes_from_a_cell(source):
    notebook = build.committed(ROOT, source)
    numbers = produced(text_of(notebook)) | {float(notebook.metadata["vit_edu"]["minutes"])}
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    loose = [(claim, text[:60]) for text in prose for claim in claims(text) if not supported(claim, numbers)]
    assert not loose


def test_a_number_from_nowhere_is_found():
    text = "It reaches 81.3 % after 1,204 steps of 64, with 5.7 million weights (lesson 02, equation 3). In 2021 1 of 2."
    assert claims(text) == ["81.3 %", "1,204", "64", "5.7 million"]
    assert claims("ViT-B reaches 77.9 % (Dosovitskiy et al. 2021, table 5). Ours 12.5.") == ["12.5"]
    assert claims("`x = 500` and $d = 64$ and [here](https://a.b/77)") == []
    numbers = produced("accuracy 0.8131\n1204 steps\nbatch_size=64\nparameters 5,717,416")
    assert all(supported(claim, numbers) for claim in claims(text))
    assert not any(supported(claim, numbers) for claim in ["81.4 %", "1,203", "65", "5.8 million", "0.81 %"])
