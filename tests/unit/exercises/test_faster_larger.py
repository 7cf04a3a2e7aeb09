"""Lesson 11's checks and targets are not passed by what only looks like the work."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.unit.exercises.look import diagnosis, look
from vit_edu.exercises import ALL, TARGETS, memory_targets, speed_targets
from vit_edu.exercises.accumulation import accumulate
from vit_edu.exercises.recompute import Recompute
from vit_edu.exercises.targets import run

CPU = torch.device("cpu")


def steps_too(model, *given):
    accumulate(model, *given)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad


def on_a_copy(model, images, labels, micro_batch, max_norm):
    """All at once, where nobody counts."""
    other = copy.deepcopy(model)
    accumulate(other, images, labels, len(images), max_norm)
    for mine, theirs in zip(model.parameters(), other.parameters()):
        mine.grad = theirs.grad


def past_the_model(model, images, labels, micro_batch, max_norm):
    model.zero_grad()
    F.cross_entropy(torch.tanh(images @ model.fc1) @ model.fc2, labels).backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)


def keeps_its_graphs(model, images, labels, micro_batch, max_norm):
    model.zero_grad()
    for x, y in zip(images.split(micro_batch), labels.split(micro_batch)):
        (F.cross_entropy(model(x), y) * len(x) / len(images)).backward(retain_graph=True)
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)


@pytest.mark.parametrize(
    "mine, words",
    [
        (steps_too, "fc1 has moved. Asked for is the gradient"),
        (on_a_copy, "Mistake: everything waits."),
        (past_the_model, "No picture has gone through model(...)"),
        (keeps_its_graphs, "A part has gone back and is kept all the same."),
    ],
)
def test_accumulate_is_not_passed_by_more_or_less_than_is_asked(mine, words):
    verdict, text = look(mine, "accumulate")
    assert not verdict.passed and words in " ".join(text.split())


def test_what_takes_too_long_hears_how_long_was_waited(monkeypatch):
    def endless(*given):
        while True:
            pass

    monkeypatch.setattr(ALL["accumulate"], "seconds", 1.0)
    verdict, text = look(endless, "accumulate")
    assert verdict.status == "timeout" and "did not return within 1 s and was stopped" in " ".join(text.split())


class ByHand(Recompute):
    """Keeps what lies between, on ctx."""

    @staticmethod
    def forward(ctx, function, x, W, V):
        hidden = x @ W
        ctx.save_for_backward(x, W, V, hidden, F.gelu(hidden))
        return function(x, W, V)

    @staticmethod
    def backward(ctx, gradient):
        x, W, V, hidden, wide = ctx.saved_tensors
        back = torch.autograd.functional.vjp(F.gelu, hidden, gradient @ V.mT)[1]
        return None, gradient + back @ W.mT, x.mT @ back, wide.mT @ gradient


class BehindOwnHooks(Recompute):
    @staticmethod
    def forward(ctx, function, *tensors):
        ctx.tensors = [tensor.detach().requires_grad_() for tensor in tensors]
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
            ctx.result = function(*ctx.tensors)
        return ctx.result.detach()

    @staticmethod
    def backward(ctx, gradient):
        return None, *torch.autograd.grad(ctx.result, ctx.tensors, gradient)


class OnTheClass(Recompute):
    @staticmethod
    def forward(ctx, function, *tensors):
        OnTheClass.function, OnTheClass.saved_tensors = function, tensors
        return function(*tensors)

    @staticmethod
    def backward(ctx, gradient):
        return Recompute.backward(OnTheClass, gradient)


def test_recompute_may_keep_nothing_else_and_nothing_where_all_calls_share_it():
    verdict, text = look(ByHand, "recompute")
    assert not verdict.passed and "Mistake: everything is kept." in text
    assert diagnosis(look(BehindOwnHooks, "recompute")[0]) == ["everything is kept"]
    assert diagnosis(look(OnTheClass, "recompute")[0]) == ["one place for all calls"]
    assert "torch.autograd.Function is wanted" in look(type("Plain", (), {}), "recompute")[1]


def test_the_dtype_of_the_inputs_is_no_remedy_where_another_is_asked_for():
    def double(weight, gradients, lr):
        master = weight.double() - sum(lr * gradient.double() for gradient in gradients)
        return master.bfloat16(), master

    verdict, text = look(double, "master_steps")
    assert not verdict.passed and "torch.float64, wanted torch.float32." in text


@pytest.fixture
def no_clock(monkeypatch):
    """Every answer is a hundred times as fast as the plain one."""

    def seconds(function, *inputs):
        function(*inputs)
        return 1.0 if function.__name__ == "noted" else 100.0

    monkeypatch.setattr(speed_targets, "seconds", seconds)


class Taylor(nn.Module):
    """Softmax to first order, without a table of N x N: right only where attention is nearly a mean."""

    def __init__(self, attn):
        super().__init__()
        self.qkv, self.proj, self.num_heads = attn.qkv, attn.proj, attn.num_heads

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, h, N, d) each
        k = k / q.shape[-1] ** 0.5
        above, below = v.sum(dim=-2, keepdim=True) + q @ (k.mT @ v), k.shape[-2] + q @ k.sum(dim=-2, keepdim=True).mT
        return self.proj((above / below).transpose(1, 2).flatten(2))


def approximate(model):
    for block in model.blocks:
        block.attn = Taylor(block.attn)
    return torch.inference_mode()(model.eval().forward)


def tires(model):
    """Works until it has been looked at; then it is timed."""
    answer, calls = speed_targets.faster(model), []

    def run(images):
        calls.append(images)
        return answer(images) if len(calls) <= 4 else torch.zeros(len(images), 10)

    return run


@pytest.mark.usefixtures("no_clock")
@pytest.mark.parametrize("mine", [approximate, tires])
def test_faster_looks_at_every_answer_that_is_timed_and_attention_chooses(mine):
    result = run(TARGETS["faster"], mine, CPU)
    assert result.status == "not reached" and "other answers" in [sign.name for sign in result.diagnosis]


@pytest.mark.parametrize(
    "mine, words",
    [
        (lambda model: None, "Your function returned None; wanted is a function, images -> logits."),
        (lambda model: lambda images: None, "The function that you return gave None; wanted is a tensor"),
        (lambda model: lambda images: model(images).detach().numpy(), "gave a ndarray; wanted is a tensor"),
        (lambda model: torch.ops.aten.bincount(torch.empty(3, device="meta")), "NotImplementedError"),
    ],
)
def test_what_cannot_run_gets_a_sentence(mine, words):
    result = run(TARGETS["faster"], mine, CPU)
    assert result.status == "error" and words in str(result)


def test_lean_step_looks_again_behind_the_steps_that_are_timed(monkeypatch):
    monkeypatch.setattr(speed_targets, "seconds", lambda function, *inputs: function(*inputs) or 1.0)

    def once(model, images, labels):
        if not hasattr(model, "done"):
            memory_targets.lean_step(model, images, labels)
        model.done = True

    result = run(TARGETS["lean_step"], once, CPU)
    assert result.status == "not reached" and result.diagnosis[0].name == "no step was seen"
