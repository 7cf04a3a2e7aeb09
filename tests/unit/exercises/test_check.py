"""The check survives any answer, and what it says is right, readable and not fooled."""

import copy
import sys
from functools import partial

import pytest
import torch
from einops import rearrange
from IPython.core.formatters import DisplayFormatter
from torch import nn

import vit_edu
from tests.unit.exercises.look import ATTENTION, cut, diagnosis, look, right, weights_of
from vit_edu import layers
from vit_edu.exercises import ALL, hint
from vit_edu.exercises.ladder import examine
from vit_edu.exercises.report import MIME, Report, solutions
from vit_edu.exercises.trial import OWN_FILES


def test_the_right_answer_comes_back_itself_and_a_wrong_one_is_replaced(capsys):
    assert vit_edu.check("attention", right) is right
    assert "Passed" in capsys.readouterr().out
    assert vit_edu.check("attention", lambda q, k, v: None) is layers.scaled_dot_product_attention


def test_the_stub_is_not_started():
    def stub(q, k, v):
        raise NotImplementedError("your turn: write attention here")

    assert look(stub)[0].status == "not started"


def test_a_second_check_of_the_same_answer_says_so_and_repeats_the_diagnosis(capsys):
    def mine(q, k, v):
        w = (q @ k.mT).softmax(-1)
        return w @ v, w

    replacement = vit_edu.check("attention", mine)
    capsys.readouterr()
    assert vit_edu.check("attention", replacement) is layers.scaled_dot_product_attention
    said = capsys.readouterr().out
    assert "Nothing new to check" in said
    assert "no scaling" in said


def leaves(q, k, v):
    sys.exit(3)


def unknown_name(q, k, v):
    return nowhere_defined  # noqa: F821


def calls_itself(q, k, v):
    return calls_itself(q, k, v)


@pytest.mark.parametrize("mine", [leaves, unknown_name, calls_itself, nn.MultiheadAttention, None, 3, "attention"])
def test_answers_that_do_not_run_are_reported(mine):
    verdict, text = look(mine)
    assert verdict.status == "error"
    assert "does not run yet" in text


def test_the_learners_own_line_is_shown():
    _, text = look(unknown_name)
    assert "NameError" in text
    assert "return nowhere_defined" in text
    assert OWN_FILES not in text


WRONG_RESULTS = {
    "None": (lambda q, k, v: None, "None"),
    "one of two": (lambda q, k, v: right(q, k, v)[0], "2 results are wanted"),
    "three": (lambda q, k, v: (*right(q, k, v), 1), "3 results"),
    "numpy": (lambda q, k, v: (right(q, k, v)[0].detach().numpy(), weights_of(q, k)), "ndarray"),
    "a list": (lambda q, k, v: (right(q, k, v)[0].tolist(), weights_of(q, k)), "a list"),
    "float32": (lambda q, k, v: right(q.float(), k.float(), v.float()), "torch.float32"),
    "meta": (lambda q, k, v: (right(q, k, v)[0].to("meta"), weights_of(q, k)), "output is meta"),
    "no batch": (lambda q, k, v: (right(q, k, v)[0].flatten(), weights_of(q, k)), "The shape of your output is"),
    "times 3": (lambda q, k, v: (right(q, k, v)[0] * 3, weights_of(q, k)), "times 3"),
    "NaN": (lambda q, k, v: (right(q, k, v)[0] * float("nan"), weights_of(q, k)), "holds NaN"),
}


@pytest.mark.parametrize("name", WRONG_RESULTS)
def test_results_of_the_wrong_kind_are_named(name):
    mine, sentence = WRONG_RESULTS[name]
    verdict, text = look(mine)
    assert not verdict.passed
    assert sentence in text


class Agreeable(torch.Tensor):
    """Equal to everything: what an attacker would return."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return True


def test_an_object_that_equals_everything_does_not_pass():
    assert not look(lambda q, k, v: (torch.zeros(1).as_subclass(Agreeable), weights_of(q, k)))[0].passed


def test_prints_without_end_and_endless_messages_are_cut():
    def mine(q, k, v):
        for _ in range(10_000):
            print("x" * 1000)
        raise ValueError("y" * 10**6)

    _, text = look(mine)
    assert len(text) < 60_000
    assert "… (" in text or " …" in text


def test_it_works_where_gradients_are_off():
    with torch.no_grad():
        assert look(right)[0].passed
        assert diagnosis(look(cut)[0]) == ["the graph is cut"]


def test_leaving_in_the_last_rung_is_no_pass():
    def mine(q, k, v):
        if q.dtype == torch.float32:
            raise SystemExit
        return right(q, k, v)

    verdict, text = look(mine)
    assert not verdict.passed
    assert "SystemExit" in text


def test_an_error_in_the_second_call_is_no_pass():
    calls = []

    def mine(num_tokens, dim, num_heads):
        calls.append(1)
        if len(calls) % 2 == 0:
            raise ValueError("once is enough")
        return 4 * num_tokens * dim**2 + 2 * num_tokens**2 * dim

    verdict, text = look(mine, "attention_cost")
    assert not verdict.passed
    assert "once is enough" in text


class Mute(Exception):
    def __str__(self):
        raise ValueError


def mute(q, k, v):
    raise Mute


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    "mine",
    [
        mute,
        lambda q, k, v: (right(q, k, v)[0].to_sparse(), weights_of(q, k)),
        lambda q, k, v: (torch.nested.as_nested_tensor([q, k]), weights_of(q, k)),
        lambda q, k, v: (10**5000, weights_of(q, k)),
        lambda q, k, v: ([0.0] * 100_000, weights_of(q, k)),
    ],
    ids=["an exception without text", "sparse", "nested", "a number of 5,000 digits", "a long list"],
)
def test_strange_results_get_a_report_too(mine):
    verdict, text = look(mine)
    assert verdict.status in ("wrong", "error")
    assert text


def test_an_unsolved_helper_is_not_taken_for_this_answer():
    def split_heads(qkv, num_heads):
        raise NotImplementedError("your turn: write split_heads here")

    class Mine(layers.Attention):
        def forward(self, x):
            return split_heads(self.qkv(x), self.num_heads)

    verdict, text = look(Mine, "multi_head_attention")
    assert verdict.status == "error"
    assert "your turn: write split_heads here" in text


def test_html_says_in_words_what_colour_and_marks_say():
    bundle = Report(examine(ATTENTION, lambda q, k, v: right(2 * q, k, v)))._repr_mimebundle_()
    html = bundle["text/html"]
    for part in (
        'role="status"',
        'aria-label="Check of attention"',
        "values: failed",
        "shape: passed",
        "<caption",
        'scope="row"',
    ):
        assert part in html
    assert bundle[MIME] == {"exercise": "attention", "status": "wrong", "diagnosis": []}
    assert bundle["text/plain"].startswith("attention: Not right yet")
    assert "text/html" in DisplayFormatter().format(Report(examine(ATTENTION, right)))[0]


def test_what_a_learner_prints_cannot_break_the_page():
    def mine(q, k, v):
        print("<script>alert(1)</script>")

    assert "<script>" not in Report(examine(ATTENTION, mine))._repr_mimebundle_()["text/html"]


def test_hints_come_one_at_a_time_and_end_with_the_solution(capsys):
    texts = []
    for _ in range(5):
        hint("split_heads")
        texts.append(capsys.readouterr().out)
    assert "hint 1 of 4" in texts[0]
    assert "the solution" in texts[3]
    assert "def split_heads" in texts[3]
    assert texts[4] == texts[3]
    assert not any("def split_heads" in text for text in texts[:3])


def test_every_solution_can_be_pasted_and_passes():
    cell = {"copy": copy, "torch": torch, "nn": nn, "F": nn.functional, "rearrange": rearrange, "layers": layers}
    cell["LayerNorm"] = partial(nn.LayerNorm, eps=1e-6)  # lesson 03 gives it, around the learner's layer_norm
    assert set(solutions()) == set(ALL)
    # lesson 04 gives it, around the learner's embed_patches
    cell["PatchEmbed"] = lambda p, in_chans, dim: layers.PatchEmbed(p, p, in_chans, dim, dynamic_img_size=True)
    for name, text in solutions().items():
        before = set(cell)
        exec(text, cell)  # the lesson's own cells, one after another, as in the notebook
        (mine,) = (set(cell) - before - {"__builtins__"}) or {name}
        assert examine(ALL[name], cell[mine]).passed, name


def test_an_unknown_exercise_names_the_nearest():
    with pytest.raises(KeyError, match="'attention'"):
        vit_edu.check("atention", right)
