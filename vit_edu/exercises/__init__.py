"""Exercises and their checks: `check` an answer, ask for a `hint`, go on with `mine`, try to reach a `target`.

`ALL` has the exercises by name, `TARGETS` the targets.
"""

import difflib
import os
import sys
from collections.abc import Callable
from importlib import import_module

from vit_edu.exercises.core import Exercise
from vit_edu.exercises.targets import Target, run

MODULES = (
    *("start_here", "images_as_sequences", "embedding", "positions", "self_attention", "multi_head"),
    *("block_parts", "encoder_block", "relative_bias"),
    *("vision_transformer", "vit_answers", "vit_costs"),
    *("seeing_attention", "attention_flow"),
    *("windows", "shift_mask", "window_attention", "patch_merging"),
    *("hybrids", "pooling"),
    *("starting_points", "fine_tuning", "lora", "transfer_targets"),
    *("masking", "pixel_loss", "dino_loss", "self_distillation"),
    *("images_and_words", "zero_shot"),
    *("roofline", "speed_costs", "accumulation", "recompute", "speed_targets", "memory_targets"),
)

_found = [found for module in MODULES for found in vars(import_module(f"{__name__}.{module}")).values()]
ALL: dict[str, Exercise] = {found.name: found for found in _found if isinstance(found, Exercise)}
TARGETS: dict[str, Target] = {found.name: found for found in _found if isinstance(found, Target)}
_hints_given: dict[str, int] = {}
_last_diagnosis: dict[str, list[tuple[str, str]]] = {}


def find(name: str, among: dict = ALL) -> Exercise | Target:
    """The exercise (or, among TARGETS, the target) of that name. Raises KeyError with the nearest names."""
    if name in among:
        return among[name]
    near = difflib.get_close_matches(str(name), among, n=3, cutoff=0.4) or sorted(among)
    kind = "exercise" if among is ALL else "target"
    raise KeyError(f"There is no {kind} {name!r}; do you mean {' or '.join(map(repr, near))}?")


def check(name: str, mine: Callable) -> Callable:
    """Checks `mine`, shows the report, and returns what the lesson goes on with.

    Args:
        name: the exercise, for instance "attention".
        mine: the learner's function or class. It runs on fresh random inputs and is stopped after a few seconds.

    Returns:
        `mine` when it passes, the reference until then.

    Raises:
        KeyError: no exercise has that name.
    """
    from vit_edu.exercises import kept
    from vit_edu.exercises.ladder import Verdict, examine
    from vit_edu.exercises.report import Report

    exercise = find(name)
    try:
        verdict = examine(exercise, mine)
    except KeyboardInterrupt:
        verdict = Verdict(exercise, "interrupted")
    if verdict.status == "nothing new":
        verdict.diagnosis = _last_diagnosis.get(name, [])
    _last_diagnosis[name] = verdict.diagnosis
    Report(verdict).show()
    if not verdict.passed and os.environ.get("NBGRADER_EXECUTION") == "validate":
        print(Report(verdict), file=sys.stderr)  # to nbgrader's Validate button a cell that writes there has failed
    if verdict.passed:
        kept.keep(name, mine)
    return mine if verdict.passed else exercise.reference


def mine(name: str) -> Callable:
    """The learner's own answer from an earlier lesson, where one passed in this folder and still does; else the kit's.

    Says in a sentence which of the two it is.

    Raises:
        KeyError: no exercise has that name.
    """
    from vit_edu.exercises import kept
    from vit_edu.exercises.ladder import examine

    exercise, answer = find(name), kept.found(name)
    if answer is not None and examine(exercise, answer).passed:
        print(f"{name}: yours, of lesson {exercise.lesson}.")
        return answer
    why = "none of yours has passed here yet" if answer is None else "yours does not pass any more"
    print(f"{name}: the kit's ({why}; lesson {exercise.lesson} is where you build it).")
    return exercise.reference


def target(name: str, mine: Callable) -> Callable:
    """Runs `mine` on the target's task, at full size on a GPU, and shows what it reached. No part of a grade.

    Returns:
        `mine` when it reaches the figure, the reference until then.

    Raises:
        KeyError: no target has that name.
    """
    wanted = find(name, TARGETS)
    result = run(wanted, mine)
    result.show()
    return mine if result.status == "reached" else wanted.reference


def hint(name: str) -> None:
    """Shows the next hint: a nudge, the shapes, a part of the code, the solution.

    Raises:
        KeyError: no exercise has that name.
    """
    from vit_edu.exercises.report import Hint

    exercise = find(name)
    number = _hints_given[name] = min(_hints_given.get(name, 0) + 1, len(exercise.hints) + 1)
    Hint(exercise, number).show()
