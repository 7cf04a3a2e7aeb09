"""Wrong answers to lessons 07 and 08 that no named mistake foresees; each once passed, none may."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vit_edu.exercises import ALL
from vit_edu.exercises.fine_tuning import head_step, layer_rate
from vit_edu.exercises.hybrids import conv_tokenizer, receptive_field
from vit_edu.exercises.ladder import examine
from vit_edu.exercises.lora import LoRALinear
from vit_edu.exercises.starting_points import take_over


def larger_of_kernel_and_stride(layers):
    return receptive_field([(max(kernel, stride), stride) for kernel, stride in layers])


def two_rounds_at_most(images, weights):
    return conv_tokenizer(images, weights[:2])


def prefix_cut_out_everywhere(published, own, prefix):
    return take_over({name.replace(prefix, ""): x for name, x in published.items()}, own, "")


def missing_names_left_out(published, own, prefix):
    return take_over(
        published, {n: x for n, x in own.items() if n.startswith("head.") or prefix + n in published}, prefix
    )


def resized_by_a_factor(pos_embed, grid_size, new_grid_size):
    factor = [new / old for new, old in zip(new_grid_size, grid_size)]
    image = pos_embed[:, 1:].mT.unflatten(2, grid_size)
    image = F.interpolate(image, scale_factor=factor, mode="bicubic", antialias=True)
    return torch.cat([pos_embed[:, :1], image.flatten(2).mT], dim=1)


def moving(part):
    """The right step, after which a part of the body is another: `part(model)` is a tensor."""

    def step(model, images, labels, lr):
        head_step(model, images, labels, lr)
        with torch.no_grad():
            part(model).add_(1)

    return step


def labels_written(model, images, labels, lr):
    head_step(model, images, labels, lr)
    labels.zero_()


def with_the_lessons_rate(name, shape, depth, layer_decay, weight_decay):
    return layer_rate(name, shape, depth, 0.7, weight_decay)


def with_the_lessons_decay(name, shape, depth, layer_decay, weight_decay):
    return layer_rate(name, shape, depth, layer_decay, 0.05)


def without_decay_of(part):
    def rate(name, *others):
        scale, decay = layer_rate(name, *others)
        return scale, 0.0 if part in name else decay

    return rate


def last_norms_bias_among_the_tokens(name, shape, depth, layer_decay, weight_decay):
    scale, decay = layer_rate(name, shape, depth, layer_decay, weight_decay)
    return layer_decay ** (depth + 1) if name == "norm.bias" else scale, decay


class AsleepInEvalMode(LoRALinear):
    def forward(self, x):
        return super().forward(x) if self.training else self.linear(x)


class NoSingleVector(LoRALinear):
    def forward(self, x):
        return super().forward(x if x.ndim > 1 else x[None])


def beginning_with(down):
    """LoRA whose `down` is made of (rank, in_features)."""

    class Mine(LoRALinear):
        def __init__(self, linear, rank, alpha):
            super().__init__(linear, rank, alpha)
            self.down = nn.Parameter(down(rank, linear.in_features))

    return Mine


def nan(*shape):
    return torch.full(shape, float("nan"))


def seeded(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name, answer",
    [
        ("receptive_field", larger_of_kernel_and_stride),
        ("conv_tokenizer", two_rounds_at_most),
        ("take_over", prefix_cut_out_everywhere),
        ("take_over", missing_names_left_out),
        ("resize_positions", resized_by_a_factor),
        ("head_step", moving(lambda model: model.body[0].bias)),
        ("head_step", moving(lambda model: model.body[1].weight)),
        ("head_step", moving(lambda model: model.body[1].running_var)),
        ("head_step", moving(lambda model: model.body[1].num_batches_tracked)),
        ("head_step", labels_written),
        ("layer_rate", with_the_lessons_rate),
        ("layer_rate", with_the_lessons_decay),
        ("layer_rate", without_decay_of("attn.proj")),
        ("layer_rate", without_decay_of(".mlp.")),
        ("layer_rate", last_norms_bias_among_the_tokens),
        ("lora", AsleepInEvalMode),
        ("lora", NoSingleVector),
        ("lora", beginning_with(torch.eye)),
        ("lora", beginning_with(nan)),
        ("lora", beginning_with(seeded)),
    ],
)
def test_it_is_rejected(name, answer):
    assert examine(ALL[name], answer).status in ("wrong", "error")


def test_writing_into_labels_is_named():
    assert [name for name, _ in examine(ALL["head_step"], labels_written).diagnosis] == ["changes its inputs"]
