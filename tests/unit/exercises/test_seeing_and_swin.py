"""Wrong answers to lessons 05 and 06 that no named mistake foresees; each once passed, none may."""

import pytest
import torch

from tests.unit.exercises.look import look
from tests.unit.exercises.right_seeing_attention import EPSILON, identity_rollout
from tests.unit.exercises.right_swin import FoldedWindows, looped_index, looped_mask
from vit_edu.exercises import ALL
from vit_edu.exercises.core import Draw
from vit_edu.exercises.trial import attempt


def four_layers_at_most(weights):
    return identity_rollout(weights[:4])


def of_int16(window_size):
    return looped_index(window_size).short()


def of_uint8(window_size):
    return looped_index(window_size).byte()


def no_mask_where_one_window_is_as_high_as_the_map(grid_size, window_size, shift_size):
    down, right = shift_size
    return looped_mask(grid_size, window_size, (down if grid_size[0] > window_size[0] else 0, right))


class ShiftedThoughOneWindowIsAsWideAsTheMap(FoldedWindows):
    def forward(self, x):
        """Right for any map that is wider than a window."""
        right = self.shift_size[1] if x.shape[2] == self.window_size[1] else 0
        return super().forward(x.roll(-right, 2)).roll(right, 2)


WRONG = {
    four_layers_at_most: "rollout",
    of_int16: "relative_position_index",
    of_uint8: "relative_position_index",
    no_mask_where_one_window_is_as_high_as_the_map: "shift_mask",
    ShiftedThoughOneWindowIsAsWideAsTheMap: "window_attention",
}


@pytest.mark.parametrize("mine", WRONG, ids=lambda mine: mine.__name__)
def test_wrong_answers_are_refused(mine):
    for _ in range(5):  # never by luck
        assert look(mine, WRONG[mine])[0].status == "wrong"


@pytest.mark.parametrize("name", EPSILON)
def test_an_epsilon_beside_the_sum_is_right_with_any_numbers(name):
    exercise = ALL[name]
    for seed in range(100):
        for case in exercise.cases(Draw(seed)):
            mine, right = (exercise.call(answer, *case) for answer in (EPSILON[name], exercise.reference))
            torch.testing.assert_close(mine, right, rtol=0, atol=1e-6 * max(1.0, right.abs().max().item()))


def test_a_gradient_is_asked_of_no_picture():
    exercise = ALL["class_attention_map"]
    asked = []

    def mine(weights, grid_size):
        asked.append(weights.requires_grad)
        return exercise.reference(weights, grid_size)

    attempt(exercise, mine, next(exercise.cases(Draw())), exercise.call)
    assert asked == [False, False]
    assert "gradient" not in look(mine, "class_attention_map")[1]
