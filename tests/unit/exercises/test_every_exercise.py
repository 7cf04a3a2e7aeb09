"""Every exercise: its mistakes are rejected by name, its right answers pass, its texts are there."""

import importlib
import time

import pytest
import torch

from vit_edu.exercises import ALL, LESSONS
from vit_edu.exercises.core import Draw
from vit_edu.exercises.ladder import diagnose, examine, one_thread
from vit_edu.exercises.report import Report
from vit_edu.exercises.trial import alike, attempt

TESTS = ("test_start_here", "test_images_as_sequences", "test_self_attention")
RIGHT = {
    name: answers
    for module in TESTS
    for name, answers in importlib.import_module(f"tests.unit.exercises.{module}").RIGHT.items()
}
EXERCISES = list(ALL.values())


def plain(function, *inputs):
    return function(*inputs)


def outcomes(exercise, answer, cases, call=plain):
    return [attempt(exercise, answer, case, call) for case in cases]


def each(kind):
    return pytest.mark.parametrize(kind, EXERCISES, ids=list(ALL))


@each("exercise")
def test_the_recipe_is_the_reference(exercise):
    cases = list(exercise.cases(Draw()))
    wanted = outcomes(exercise, exercise.reference, cases, exercise.call)
    for mine, right in zip(outcomes(exercise, exercise.steps, cases), wanted, strict=True):
        assert right.error is None
        assert alike(mine.results, right.results)
        assert mine.gradients is None or alike(mine.gradients, right.gradients)


@each("exercise")
@one_thread()
def test_every_mistake_is_rejected_with_its_own_diagnosis(exercise):
    assert len(exercise.mistakes) >= 4
    known = list(exercise.wrong_answers())
    singles = len(exercise.mistakes)
    pairs = known[singles :: max(1, (len(known) - singles) // 20)]  # a spread of them: there are hundreds
    for mistakes, answer in known[:singles] + pairs:
        cases = list(exercise.cases(Draw()))
        wanted = outcomes(exercise, exercise.reference, cases, exercise.call)
        named = [name for name, _ in diagnose(exercise, outcomes(exercise, answer, cases), cases, wanted)]
        names = [mistake.name for mistake in mistakes]
        if len(mistakes) == 1:
            assert named == names
        elif set(named) != set(names):
            # A pair may do the work of another mistake, or of nothing; it may not be taken for something else.
            assert equals_something_known(exercise, answer, named, cases)


def equals_something_known(exercise, answer, named, cases):
    mine = outcomes(exercise, answer, cases)
    if not any(outcome.results for outcome in mine):
        return True  # together the two do not run
    if not named:
        right = outcomes(exercise, exercise.steps, cases)
        return all(alike(a.results, b.results) for a, b in zip(mine, right, strict=True))
    other = next(f for m, f in exercise.wrong_answers() if [x.name for x in m] == named)
    theirs = outcomes(exercise, other, cases)
    return all(alike(a.results, b.results) for a, b in zip(mine, theirs, strict=True))


@each("exercise")
def test_two_different_right_answers_pass(exercise):
    answers = RIGHT[exercise.name]
    assert len(answers) >= 2
    for answer in answers:
        verdict = examine(exercise, answer)
        assert verdict.passed, str(Report(verdict))


@each("exercise")
def test_a_check_is_quick(exercise):
    """Far above what it takes (tens of milliseconds); a check that hangs or explodes is what this finds."""
    examine(exercise, RIGHT[exercise.name][0])
    start = time.perf_counter()
    examine(exercise, exercise.mistakes[-1].whole or RIGHT[exercise.name][0])
    assert time.perf_counter() - start < 2.0


@each("exercise")
def test_inputs_are_fresh_and_their_seed_repeats_them(exercise):
    def tensors(seed):
        return str([case for case in exercise.cases(Draw(seed))])

    assert tensors(3) == tensors(3)
    assert Draw().seed != Draw().seed


@each("exercise")
def test_texts_are_for_learners(exercise):
    assert len(exercise.hints) == 3
    names = [mistake.name for mistake in exercise.mistakes]
    assert len(set(names)) == len(names)
    for mistake in exercise.mistakes:
        assert mistake.thought.rstrip()[-1] in ".?", mistake.name
        assert len(mistake.thought) > 30, mistake.name


def test_every_lesson_module_is_listed():
    assert set(RIGHT) == set(ALL)
    assert len(LESSONS) == len(set(LESSONS))
    assert torch.get_default_dtype() == torch.float32
