"""What a module is asked beside its numbers: parameters of its own that are learned, both modes, no memory."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.unit.exercises.look import diagnosis, look
from tests.unit.exercises.right_encoder_block import BlockOfOwnParts, MlpByErf, MlpOfSequential
from tests.unit.exercises.right_vision_transformer import LikeTimm
from vit_edu import layers


class OneBlockManyTimes(LikeTimm):
    def __init__(self, **words):
        super().__init__(**words)
        self.blocks = nn.Sequential(*[layers.Block(words["embed_dim"], words["num_heads"])] * words["depth"])


def test_one_layer_many_times_is_named():
    verdict, _ = look(OneBlockManyTimes, "vision_transformer")
    assert verdict.status == "error"
    assert not verdict.diagnosis
    assert verdict.sentence.startswith("blocks.0.")
    assert "and blocks.1." in verdict.sentence
    assert "one and the same tensor" in verdict.sentence


class FixedPositions(LikeTimm):
    def __init__(self, **words):
        super().__init__(**words)
        self.pos_embed.requires_grad_(False)


class ClassTokenInABuffer(LikeTimm):
    def __init__(self, **words):
        super().__init__(**words)
        token = self.cls_token.data
        del self.cls_token
        self.register_buffer("cls_token", token)


@pytest.mark.parametrize(("mine", "name"), [(FixedPositions, "pos_embed"), (ClassTokenInABuffer, "cls_token")])
def test_what_would_not_be_learned_is_named(mine, name):
    verdict, _ = look(mine, "vision_transformer")
    assert verdict.status == "error"
    assert verdict.sentence == f"Training would not change {name}: no nn.Parameter with requires_grad=True."


class ProbabilitiesInEvaluation(LikeTimm):
    def forward(self, images):
        logits = super().forward(images)
        return logits if self.training else logits.softmax(dim=-1)


class DropsInTraining(LikeTimm):
    def forward(self, images):
        return F.dropout(super().forward(images), 0.1, self.training)


class KeepsItsFirstClassTokens(LikeTimm):
    kept = None

    def forward(self, images):
        if self.kept is None:
            self.kept = self.cls_token + self.pos_embed[:, :1]
        x = self.patch_embed.proj(images).flatten(2).mT + self.pos_embed[:, 1:]
        x = torch.cat([self.kept.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.norm(self.blocks(x))[:, 0])


class RightOnlyOnce(LikeTimm):
    calls = 0

    def forward(self, images):
        self.calls += 1
        return super().forward(images) * self.calls


@pytest.mark.parametrize(
    "mine", [ProbabilitiesInEvaluation, DropsInTraining, KeepsItsFirstClassTokens, RightOnlyOnce], ids=str
)
def test_a_module_gives_the_same_in_both_modes_and_whatever_came_before(mine):
    assert diagnosis(look(mine, "vision_transformer")[0]) == ["not the same answer twice"]


class TwoBlocksAtMost(LikeTimm):
    def chosen(self):
        return self.blocks[:2]

    def forward(self, images):
        x = self.patch_embed.proj(images).flatten(2).mT
        x = layers.embed_positions(x, self.cls_token, self.pos_embed)
        return self.head(self.norm(self.chosen()(x))[:, 0])


class FirstAndLastBlock(TwoBlocksAtMost):
    def chosen(self):
        return self.blocks[:1] + self.blocks[1:][-1:]


class RatioCutBeforeTheProduct(BlockOfOwnParts):
    def __init__(self, dim, num_heads, mlp_ratio=4.0):
        super().__init__(dim, num_heads)
        self.mlp = MlpByErf(dim, dim * int(mlp_ratio))


@pytest.mark.parametrize(
    ("mine", "name"),
    [
        (TwoBlocksAtMost, "vision_transformer"),
        (FirstAndLastBlock, "vision_transformer"),
        (RatioCutBeforeTheProduct, "encoder_block"),
    ],
)
def test_wrong_only_for_more_than_the_smallest_sizes(mine, name):
    verdict, _ = look(mine, name)
    assert not verdict.passed
    assert "values" in verdict.failed or "differ from the published" in verdict.sentence


class Talks(MlpOfSequential):
    def forward(self, x):
        print("width", x.shape[-1])
        return super().forward(x)


def test_what_a_module_prints_is_shown_once():
    verdict, _ = look(Talks, "mlp")
    assert verdict.passed
    assert verdict.printed == "width 1\n"
