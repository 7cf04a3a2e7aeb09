"""Lessons 09 and 10: answers that go wrong only for some numbers, or do something else beside what was asked."""

import pytest
import torch
import torch.nn.functional as F

from tests.unit.exercises.look import look


def kept_by_topk(noise, mask_ratio):
    """The kept as asked, the removed behind them in the picture's order."""
    keep = noise.topk(int(noise.shape[1] * (1 - mask_ratio)), dim=1, largest=False).indices
    mask = torch.ones_like(noise).scatter(1, keep, 0)
    removed = mask.nonzero()[:, 1].view(len(noise), -1)
    return keep, torch.cat([keep, removed], dim=1).argsort(dim=1), mask


def eps_too_large(prediction, patches, mask):
    target = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-5) ** 0.5
    return (((prediction - target) ** 2).mean(-1) * mask).sum() / mask.sum()


def temperatures_ignored(student, teacher, center, *temps):
    targets = [((t.detach() - center) / 0.04).softmax(-1) for t in teacher]
    logs = [(s / 0.1).log_softmax(-1) for s in student]
    losses = [-(p * q).sum(-1).mean() for i, p in enumerate(targets) for j, q in enumerate(logs) if i != j]
    return sum(losses) / len(losses)


def center_in_place(student, teacher, crops, center):
    told = [teacher(crop).detach() for crop in crops[:2]]
    loss = temperatures_ignored([student(crop) for crop in crops], told, center)
    return loss, center.mul_(0.9).add_(0.1 * torch.cat(told).mean(dim=0))


def ema(teacher, student, momentum):
    with torch.no_grad():
        for mine, theirs in zip(teacher.parameters(), student.parameters()):
            mine.lerp_(theirs, 1 - momentum)


def student_frozen(teacher, student, momentum):
    ema(teacher, student.requires_grad_(False), momentum)


def one_layer_by_name(teacher, student, momentum):
    teacher.weight.data.lerp_(student.weight.data, 1 - momentum)
    teacher.bias.data.lerp_(student.bias.data, 1 - momentum)


def teacher_on_the_graph(teacher, student, momentum):
    for mine, theirs in zip(teacher.parameters(), student.parameters()):
        mine.mul_(momentum).add_((1 - momentum) * theirs)


def cosines(x, y):
    return F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).T


def clamped_too_early(x, y, logit_scale):
    return logit_scale.exp().clamp(max=10) * cosines(x, y)


def loss_clamped_too_early(x, y, logit_scale):
    table, labels = clamped_too_early(x, y, logit_scale), torch.arange(len(x))
    return (F.cross_entropy(table, labels) + F.cross_entropy(table.T, labels)) / 2


def exp_over_sum(x, y, logit_scale):
    table = (logit_scale.exp() * cosines(x, y)).exp()
    return -((table.diagonal() / table.sum(0)).log() + (table.diagonal() / table.sum(1)).log()).mean() / 2


def log_of_the_sum(x, y, logit_scale):
    table = logit_scale.exp() * cosines(x, y)
    return (table.exp().sum(0).log() + table.exp().sum(1).log() - 2 * table.diagonal()).mean() / 2


def log_of_softmax(x, y, logit_scale):
    table = logit_scale.exp() * cosines(x, y)
    return -(table.softmax(0).log() + table.softmax(1).log()).diagonal().mean() / 2


def pictures_normalised_over_the_batch(images, prompts):
    weights = F.normalize(torch.stack([F.normalize(texts, dim=-1).mean(0) for texts in prompts]), dim=-1)
    return weights, (F.normalize(images, dim=0) @ weights.T).argmax(1)


def largest_of_absolute_scores(scores, wanted, k):
    return (scores.abs().topk(k, dim=1).indices == wanted[:, None]).any(1).double().mean().item()


def found_ones_set_to_zero(scores, wanted, k):
    scores, found = scores.clone(), torch.zeros(len(scores), dtype=torch.bool)
    for _ in range(k):
        best = scores.argmax(dim=1)
        found |= best == wanted
        scores[torch.arange(len(scores)), best] = 0
    return found.double().mean().item()


@pytest.mark.parametrize(
    ("name", "mine", "said"),
    [
        ("random_masking", kept_by_topk, "the removed in another order"),
        ("mae_loss", eps_too_large, "the largest difference"),
        ("dino_loss", temperatures_ignored, "the largest difference"),
        ("dino_step", center_in_place, "changes its inputs"),
        ("update_teacher", student_frozen, "it cannot learn"),
        ("update_teacher", one_layer_by_name, "no attribute 'weight'"),
        ("update_teacher", teacher_on_the_graph, "torch.no_grad() belong"),
        ("similarity_logits", clamped_too_early, "the largest difference"),
        ("clip_loss", loss_clamped_too_early, "the largest difference"),
        ("clip_loss", exp_over_sum, "exp() of a large logit"),
        ("clip_loss", log_of_the_sum, "the sum of exp() of large logits"),
        ("clip_loss", log_of_softmax, "the logarithm of a share that is nought"),
        ("zero_shot", pictures_normalised_over_the_batch, "weights: right"),
        ("recall_at_k", largest_of_absolute_scores, "wanted"),
        ("recall_at_k", found_ones_set_to_zero, "wanted"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_wrong_answer_is_refused_whatever_the_numbers(name, mine, said):
    for _ in range(5):
        verdict, report = look(mine, name)
        assert not verdict.passed
        assert said in " ".join(report.split())


def test_an_eps_that_changes_nothing_is_right():
    def with_eps(x, y, logit_scale):
        x, y = (z / (z.norm(dim=-1, keepdim=True) + 1e-8) for z in (x, y))
        return logit_scale.exp().clamp(max=100) * x @ y.T

    for _ in range(5):
        verdict, report = look(with_eps, "similarity_logits")
        assert verdict.passed, report
