"""Every exercise: its mistakes are rejected by name, its right answers pass, its texts are there."""

import importlib
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vit_edu.exercises import ALL, MODULES
from vit_edu.exercises.core import Draw, call_module
from vit_edu.exercises.ladder import examine, one_thread
from vit_edu.exercises.report import Report
from vit_edu.exercises.trial import alike, attempt, map_tensors

HERE = Path(__file__).parent
RIGHT = {
    name: answers
    for path in sorted(HERE.glob("right_*.py"))
    for name, answers in importlib.import_module(f"tests.unit.exercises.{path.stem}").RIGHT.items()
}
EXERCISES = list(ALL.values())


def each(kind):
    return pytest.mark.parametrize(kind, EXERCISES, ids=list(ALL))


def as_a_learner_writes_it(exercise, answer):
    """One of our own wrong answers, which take inputs and parameters, in the form that `check` takes."""
    if exercise.call is not call_module:
        return answer

    class Mine(nn.Module):
        def __init__(self, **config):
            super().__init__()
            self.config = config
            like = exercise.reference(**config)
            for name, part in [*like.named_parameters(recurse=False), *like.named_children()]:
                setattr(self, name, part)
            for name, buffer in like.named_buffers(recurse=False):
                self.register_buffer(name, buffer, persistent=name in like.state_dict())

        def forward(self, *inputs):
            state = dict(self.named_parameters()) | dict(self.named_buffers())
            return answer(self.config, {name: state[name] for name in self.state_dict()}, *inputs)

    return Mine


def outcomes(exercise, answer):
    cases = list(exercise.cases(Draw(1)))
    return [attempt(exercise, answer, case, lambda function, *inputs: function(*inputs)) for case in cases]


@each("exercise")
def test_the_recipe_is_the_reference(exercise):
    for case in exercise.cases(Draw()):
        right = attempt(exercise, exercise.reference, case, exercise.call)
        mine = attempt(exercise, exercise.steps, case, lambda function, *inputs: function(*inputs))
        assert right.error is None
        assert alike(mine.results, right.results)
        assert mine.gradients is None or alike(mine.gradients, right.gradients)


@each("exercise")
def test_every_mistake_is_rejected_with_its_own_diagnosis(exercise):
    assert len(exercise.mistakes) >= 4
    for mistake in exercise.mistakes:
        answer = next(answer for mistakes, answer in exercise.wrong_answers() if mistakes == (mistake,))
        verdict = examine(exercise, as_a_learner_writes_it(exercise, answer))
        assert not verdict.passed, mistake.name
        assert [name for name, _ in verdict.diagnosis][:1] == [mistake.name], str(Report(verdict))


@each("exercise")
@one_thread()
def test_pairs_of_mistakes_are_named(exercise):
    """A pair may do the work of another mistake, or of nothing; it may not be taken for something that it is not."""
    known = [(mistakes, answer) for mistakes, answer in exercise.wrong_answers() if len(mistakes) == 2]
    for mistakes, answer in known[:: max(1, len(known) // 20)]:  # a spread of them: there are hundreds
        verdict = examine(exercise, as_a_learner_writes_it(exercise, answer))
        named = {name for name, _ in verdict.diagnosis}
        mine = outcomes(exercise, answer)
        if named >= {mistake.name for mistake in mistakes} or not any(outcome.results for outcome in mine):
            continue
        if verdict.passed:
            theirs = outcomes(exercise, exercise.steps)
        else:
            said = [(m, f) for m, f in exercise.wrong_answers() if {x.name for x in m} <= named]
            assert said, mistakes
            theirs = outcomes(exercise, max(said, key=lambda entry: len(entry[0]))[1])
        assert all(alike(a.results, b.results) for a, b in zip(mine, theirs)), (mistakes, named)


@each("exercise")
def test_different_right_answers_pass(exercise):
    assert len(RIGHT[exercise.name]) >= 2
    for answer in RIGHT[exercise.name]:
        verdict = examine(exercise, answer)
        assert verdict.passed, str(Report(verdict))


@each("exercise")
def test_a_check_takes_less_than_half_a_second(exercise):
    """The slow way: a wrong answer that no mistake explains. Seconds of CPU, the best of five: others may be busy."""

    def spoilt(*inputs):
        results = exercise.steps(*inputs)
        return results + 12_345 if isinstance(results, int) else map_tensors(odd, results)

    def odd(tensor: Tensor) -> Tensor:
        return tensor + 0.37 * tensor.flatten().cumsum(0).view_as(tensor) + 0.11

    answer, seconds = as_a_learner_writes_it(exercise, spoilt), []
    for _ in range(5):
        start = time.process_time()
        verdict = examine(exercise, answer)
        seconds.append(time.process_time() - start)
        assert not verdict.passed
        assert not verdict.diagnosis
    assert min(seconds) < 0.5


@each("exercise")
def test_inputs_are_fresh_and_their_seed_repeats_them(exercise):
    def inputs(seed=None):
        return str(list(exercise.cases(Draw(seed))))

    assert inputs(3) == inputs(3)
    assert len({inputs() for _ in range(20)}) > 1


@each("exercise")
def test_texts_are_for_learners(exercise):
    assert len(exercise.hints) == 3
    names = [mistake.name for mistake in exercise.mistakes]
    assert len(set(names)) == len(names)
    for mistake in exercise.mistakes:
        assert mistake.thought.rstrip()[-1] in ".?", mistake.name
        assert len(mistake.thought) > 30, mistake.name


def test_every_exercise_is_listed_and_has_right_answers():
    import vit_edu.exercises

    folder = Path(vit_edu.exercises.__file__).parent
    made = ("= Exercise(\n", "= Target(\n")
    written = {path.stem for path in folder.glob("*.py") if any(x in path.read_text(encoding="utf-8") for x in made)}
    assert written == set(MODULES)
    assert set(RIGHT) == set(ALL)


def test_a_mistake_names_steps_that_exist():
    with pytest.raises(ValueError, match="no_such_step"):
        ALL["attention"].mistake("typo", "A step that the recipe does not have.", no_such_step=torch.relu)
