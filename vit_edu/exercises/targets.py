"""A target: the learner's function at work on the machine at hand, and what it reaches held to a figure.

It is no part of a grade, which must not hang on a machine's speed. Without a GPU the small stage runs, and says so.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape

import torch

from vit_edu.exercises.ladder import not_started
from vit_edu.exercises.report import Shown, card
from vit_edu.exercises.trial import AnswerError, learners_line, message

HEADLINES = {
    "reached": ("Reached. From here on the lesson runs with your code.", "#1a7f37"),
    "not reached": ("Not reached yet. The lesson goes on with the kit's answer.", "#b35900"),
    "not started": (
        "Not started. The lesson goes on with the kit's answer; come back whenever you like.",
        "#57606a",
    ),
    "error": ("Your code does not run yet. The lesson goes on with the kit's answer.", "#b35900"),
    "stopped": ("You stopped it. The lesson goes on with the kit's answer.", "#57606a"),
}


@dataclass(frozen=True)
class Stage:
    """One size of a target: the task in a few words, the figure to reach, and what the answer is called with.

    `given(device)` makes the answer's words. It raises OSError where a download is wanted and can't be had.
    """

    task: str
    figure: float
    given: Callable[[torch.device], dict]


@dataclass(frozen=True)
class Sign:
    """A classic mistake, how it shows in the facts of a run, and an answer that makes it."""

    name: str
    thought: str
    shows: Callable[[dict], bool]
    example: Callable


class Target:
    """A figure to reach, higher is better.

    Args:
        name: as in `vit_edu.target(name, mine)`.
        lesson: the lesson's number, "08".
        unit: what the figure counts, "of the test pictures right".
        reference: an answer that reaches it; the lesson goes on with it until the learner's does.
        measure: `measure(mine, **given)` runs an answer and gives facts: {"figure": 0.9, ...}, what the signs need.
        small, large: the stage without and with a GPU.
    """

    def __init__(
        self, name: str, *, lesson: str, unit: str, reference: Callable, measure: Callable, small: Stage, large: Stage
    ):
        self.name, self.lesson, self.unit = name, lesson, unit
        self.reference, self.measure, self.small, self.large = reference, measure, small, large
        self.signs: list[Sign] = []

    def mistake(self, name: str, thought: str, example: Callable) -> Callable:
        """Decorator of `shows(facts) -> bool`: a classic mistake, and an answer that makes it, for the tests."""

        def register(shows):
            self.signs.append(Sign(name, thought, shows, example))
            return shows

        return register


@dataclass
class Result(Shown):
    """What an answer reached. `status` is one of HEADLINES."""

    target: Target
    stage: Stage
    status: str = "not reached"
    why_small: str = ""
    sentence: str = ""
    diagnosis: list[Sign] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What there is to say, below the headline."""
        named = [f"Mistake: {sign.name}. {sign.thought}" for sign in self.diagnosis]
        return [f"{self.why_small}{self.stage.task}.", *([self.sentence] if self.sentence else []), *named]

    def __str__(self) -> str:
        return "\n  ".join([f"{self.target.name}: {HEADLINES[self.status][0]}", *self.lines()])

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        headline, colour = HEADLINES[self.status]
        title = f"<strong>{escape(self.target.name)}: {headline}</strong>"
        parts = [f"<p>{escape(line)}</p>" for line in self.lines()]
        return {"text/html": card(f"Target {self.target.name}", colour, title, parts), "text/plain": str(self)}


def run(target: Target, mine: Callable, device: torch.device | None = None) -> Result:
    """Runs an answer on the stage for this device, by default the GPU where there is one, and says what it reached."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    large = device.type == "cuda"
    result = Result(target, target.large if large else target.small, why_small="" if large else "No GPU here, so: ")
    started = time.monotonic()
    try:
        try:
            given = result.stage.given(device)
        except OSError as error:
            result.stage, result.why_small = target.small, f"The large task can't be had ({error}), so: "
            given = result.stage.given(device)
        facts = target.measure(mine, **given)
    except KeyboardInterrupt:
        result.status = "stopped"
    except AnswerError as error:
        result.status, result.sentence = "error", str(error)
    except Exception as error:  # whatever the answer raises is for the learner to read
        result.status, result.sentence = "error", f"{message(error)} {learners_line(error)}".strip()
        if not_started(mine, error):
            result.status, result.sentence = "not started", str(error)
    else:
        result.diagnosis = [sign for sign in target.signs if sign.shows(facts)]
        if facts["figure"] >= result.stage.figure and not result.diagnosis:
            result.status = "reached"
        result.sentence = (
            f"{facts['figure']:.3g} {target.unit}, wanted are {result.stage.figure:.3g}; "
            f"all together {time.monotonic() - started:.0f} s."
        )
    return result
