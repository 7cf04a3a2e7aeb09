"""A module that holds one layer under several names is told so in a sentence of its own."""

from torch import nn

from tests.unit.exercises.right_vision_transformer import LikeTimm
from vit_edu import layers
from vit_edu.exercises import ALL
from vit_edu.exercises.ladder import examine


class OneBlockManyTimes(LikeTimm):
    def __init__(self, **words):
        super().__init__(**words)
        self.blocks = nn.Sequential(*[layers.Block(words["embed_dim"], words["num_heads"])] * words["depth"])


def test_one_layer_many_times_is_named():
    verdict = examine(ALL["vision_transformer"], OneBlockManyTimes)
    assert verdict.status == "error"
    assert not verdict.diagnosis
    assert verdict.sentence.startswith("blocks.0.")
    assert "and blocks.1." in verdict.sentence
    assert "one and the same tensor" in verdict.sentence
