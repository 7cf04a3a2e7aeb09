"""Answers that want the points without being right, and those that call what is there already."""

import pytest

from tests.classroom.notebook import NAMES, RIGHT, SHORT, body, lesson

EQUAL = """
class Equal:
    shape, dtype, device, ndim, requires_grad = (1, 1), torch.float64, torch.device("cpu"), 2, True
    __eq__ = __le__ = __ge__ = __bool__ = lambda *_: True
    __getattr__ = lambda self, name: lambda *_, **__: self
    __torch_function__ = classmethod(lambda cls, *_, **__: torch.tensor(True))
    __class__ = torch.Tensor
"""
SUBCLASS = """
class Mine(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True
"""
PATCHED = """
import sys
import vit_edu.exercises as exercises
from vit_edu.exercises import ladder, rungs, trial
true = lambda *_, **__: True
torch.allclose = torch.equal = torch.isclose = trial.alike = rungs.alike = ladder.failure = true
rungs.failure = ladder.diagnose = lambda *_: None
vit_edu.check = exercises.check = lambda name, mine: mine
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("vit_edu.exercises"):
        for name in "alike", "failure", "examine", "difference":
            setattr(module, name, true)
exercises.ALL["attention"].reference = lambda q, k, v: (q, q)
exercises.ALL["attention"].points = 100
exercises.ALL["attention"].cases = lambda draw: iter(())
"""
WRONG = {
    "equal to everything": body("return Equal(), Equal()", first=EQUAL),
    "a subclass": body("return v.as_subclass(Mine), q.as_subclass(Mine)", first=SUBCLASS),
    "a patched check": body("return q, q", first=PATCHED),
    "None": "def attention(q, k, v): pass",
    "a text": "def attention(q, k, v): return 'right', 'right'",
    "a generator": "def attention(q, k, v):\n    yield q\n    yield k",
    "one result": body("return v"),
    "three results": body("return v, q, k"),
    "a dict": body("return {0: v, 1: q}"),
    "deeply nested": body("for _ in range(900): v = [v]", "return v, v"),
    "too deeply nested": body("w = v", "for _ in range(5000): w = [w]", "return w, w"),
    "a list that holds itself": body("w = []", "w.append(w)", "return w, w"),
    "many results": body("return (v,) * 10**6"),
    "a long text": body("return 'x' * 10**8, v"),
    "a long number": body("return 10**100_000, v"),
    "not a number": body("return v * float('nan'), q @ k.mT * float('nan')"),
    "on meta": body("return (q @ k.mT @ v).to('meta'), (q @ k.mT).to('meta')"),
    "float32": body("q, k, v = q.float(), k.float(), v.float()"),
    "float64 always": body("q, k, v = q.double(), k.double(), v.double()"),
    "numpy": body("return v.detach().numpy(), q.detach().numpy()"),
    "sparse": body("return v.to_sparse(), q.to_sparse()"),
    "quantised": body("return torch.quantize_per_tensor(v.float(), 1., 0, torch.qint8), v"),
    "a type named so": body("return type('Tensor\\udc80', (), {})(), v"),
    "the first calls only": body("calls.append(1)", "if len(calls) > 8: return v, v", first="calls = []"),
    "the second call not": body("calls.append(1)", "if len(calls) % 2: k = -k", first="calls = []"),
    "small inputs only": body("if q.numel() > 12: return v, q"),
    "inputs that are whole numbers": body("if not (q == q.round()).all(): return v, q"),
    "float32 not": body("if q.dtype == torch.float32: q = q * 1.01"),
    "without a gradient": body("if q.requires_grad: q, k, v = q.detach(), k.detach(), v.detach()"),
    "changes its inputs": body("q.mul_(1)\nv += 1\nv = v - 1"),
    "random": body("q = q + torch.rand(()) * 1e-3"),
    "random now and then": body(
        "import random, time", "random.seed(time.time_ns())", "q = q * random.choice([1, 1, -1])"
    ),
    "earlier results changed": body(
        "kept.append(v @ k.mT @ q * 0 + v)", "[x.data.zero_() for x in kept]", first="kept = []"
    ),
    "another gradient": body(
        "v = Scaled.apply(v)",
        first="""
class Scaled(torch.autograd.Function):
    forward = staticmethod(lambda context, x: x.clone())
    backward = staticmethod(lambda context, gradient: 2 * gradient)
""",
    ),
    "the memory of others": body(
        "import gc",
        "wanted = (*q.shape[:-1], v.shape[-1])",
        "found = [x for x in gc.get_objects() if type(x) is torch.Tensor and x.shape == wanted]",
        "return (found or [v])[-1], q",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_earn_nothing(name, graded):
    marks = graded(lesson(answers=SHORT, attention=WRONG[name]))
    found = marks["attention"]
    assert found["points"] == 0 and found["status"] in ("wrong", "error"), found
    assert found["reason"].isprintable() and marks["attention_cost"]["points"] == 2


def test_large_results_are_refused_in_words(attack):
    huge = "return torch.ones(1).expand(10**12), v"
    assert "A result of 4000000 MB is too large to be right" in attack(body(huge), "error")
    assert "A result of 80 MB is too large to be right" in attack(body("return torch.ones(10**7).double(), v"), "error")


def through(call: str, first: str = "") -> str:
    """An answer that calls something ready-made for its output, and for its weights."""
    return f"{first}\ndef attention(q, k, v):\n    f = {call}\n    out = f(q, k, v)\n    return " + (
        "out if isinstance(out, tuple) else (out, f(q, k, torch.eye(k.shape[-2], dtype=k.dtype)))"
    )


OFF = """
import sys
sys.setprofile(None)
while torch._C._len_torch_function_stack():
    torch._C._pop_torch_function_stack()
"""
ALL = "from vit_edu.exercises import ALL\nimport types, functools, gc\n"
READY_MADE = {
    "torch's": through("F.scaled_dot_product_attention"),
    "torch's, the watch switched off": through("F.scaled_dot_product_attention", OFF),
    "torch's, past all overrides": (
        "def attention(q, k, v):\n    with torch._C.DisableTorchFunction():\n"
        "        return F.scaled_dot_product_attention(q, k, v), q"
    ),
    "torch's, without gradients": (
        "@torch.inference_mode()\ndef attention(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v), q"
    ),
    "torch's quick one": through("lambda *x: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*x)[:2]"),
    "torch's operator": through("torch.ops.aten.scaled_dot_product_attention.default"),
    "torch's other operator": through("lambda q, k, v: torch.ops.aten._scaled_dot_product_attention_math(q, k, v)[:2]"),
    "torch's script": through("torch.jit.trace(F.scaled_dot_product_attention, (q, k, v))"),
    "torch's, of a batch": through(
        "torch.func.vmap(F.scaled_dot_product_attention) if q.ndim > 2 else F.scaled_dot_product_attention"
    ),
    "the kit's": through("layers.scaled_dot_product_attention"),
    "the kit's, renamed": through("mine", "from vit_edu.layers import scaled_dot_product_attention as mine"),
    "the kit's as the answer": "attention = layers.scaled_dot_product_attention",
    "torch's, taken apart": through("torch.ops.aten.scaled_dot_product_attention.default.decompose"),
    "torch's, past the override": through(
        "lambda *x: F.torch.ops.aten.scaled_dot_product_attention.default.redispatch("
        "torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeImplicitAutograd), *x)"
    ),
    "the kit's, in part": through("functools.partial(layers.scaled_dot_product_attention)", ALL),
    "the kit's, copied": through(
        "types.FunctionType(copied.__code__, copied.__globals__)", ALL + "copied = layers.scaled_dot_product_attention"
    ),
    "the exercise's reference": through("ALL['attention'].reference", ALL),
    "the exercise's recipe": through("lambda *x: ALL['attention'].steps(*x)", ALL),
    "found in memory": through(
        "next(f for f in functions if f.__name__ == 'scaled_dot_product_attention')",
        ALL + "functions = [x for x in gc.get_objects() if isinstance(x, types.FunctionType)]",
    ),
    "by its module": through("lambda *x: layers.Attention.forward.__globals__['scaled_dot_product_attention'](*x)"),
}


@pytest.mark.parametrize("name", READY_MADE)
def test_ready_made(name, attack):
    assert "ready-made" in attack(READY_MADE[name], "ready-made")


@pytest.mark.parametrize(
    "code",
    [
        "class MultiHeadAttention(layers.Attention): pass",
        "MultiHeadAttention = type(vit_edu.create_model('vit_tiny_patch16_224', img_size=16).blocks[0].attn)",
        RIGHT["multi_head_attention"].replace(
            "attention(*split_heads", "(lambda *x: (F.scaled_dot_product_attention(*x), 0))(*split_heads"
        ),
    ],
)
def test_ready_made_modules(code, graded):
    answers = {name: NAMES[name] for name in ("split_heads", "multi_head_attention")}
    marks = graded(lesson(answers=answers, multi_head_attention=code), answers | {"attention": "attention"})
    assert marks["multi_head_attention"]["status"] == "ready-made" and marks["split_heads"]["points"] == 2


def test_one_who_has_an_answer_of_their_own_may_try_the_ready_made(attack):
    attack(body("try: F.scaled_dot_product_attention(q, k, v)\nexcept Exception: pass"), "passed")


def test_other_parts_of_the_kit_may_be_used(graded):
    code = RIGHT["multi_head_attention"].replace(
        "attention(*split_heads", "layers.scaled_dot_product_attention(*split_heads"
    )
    marks = graded(lesson(multi_head_attention=code), NAMES)
    assert all(mark["status"] == "passed" for mark in marks.values())


def test_two_runs_give_the_same_marks_and_reasons(graded):
    wrong = body("return v.sum(), q.std() * torch.randn(2)")
    one, two = (graded(lesson(answers=SHORT, attention=wrong)) for _ in range(2))
    assert one == two and one["attention"]["points"] == 0
