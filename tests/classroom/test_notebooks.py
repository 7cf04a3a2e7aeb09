"""Notebooks as they come back: cells moved, doubled, deleted, broken, of any kernel and any size. Nothing runs here but
code of our own."""

import json
import time

import pytest

from tests.classroom.notebook import NAMES, RIGHT, SETUP, check, lesson, written
from vit_edu.classroom.grading import submission
from vit_edu.classroom.grading.submission import SubmissionError

STUB = 'def attention_cost(*_):\n    raise NotImplementedError("your turn: write attention_cost here")'
COST = RIGHT["attention_cost"]
CHECK = check("attention_cost")


def found(*cells: str, exercise: str = "attention_cost") -> list:
    """What the code that was found in these cells makes of the exercise's name, for each way to read them."""
    made = []
    for code in submission.answers(submission.read(written(*cells)), exercise, NAMES[exercise]):
        namespace = {}
        for piece in code:
            exec(compile(piece, "answer", "exec"), namespace)
        made.append(namespace[NAMES[exercise]])
    return made


RIGHT_ONES = {
    "as in the lesson": [SETUP, COST, CHECK],
    "check deleted": [COST],
    "check twice": [COST, CHECK, CHECK],
    "answer twice": [COST.replace("2 *", "3 *"), CHECK, COST, CHECK],
    "wrong after the check": [COST, CHECK, COST.replace("2 *", "3 *")],
    "cells the other way round": [CHECK, COST],
    "all in one cell": [SETUP + COST + CHECK],
    "cell pasted with a margin": [
        "    x = 1\n    def attention_cost(N, C, h):\n        return 2 * N * C * (2 * C + N)"
    ],
    "other cells broken": ["def broken(:", COST, "print 'Python 2'", CHECK, "return"],
    "other cells raise": ["raise SystemExit", "1 / 0", COST, "undefined", CHECK],
    "other cells take long": ["import time\ntime.sleep(1000)", COST, "while True: pass"],
    "tried out before": [
        SETUP,
        COST.replace("return", "print(math.pi)\n    return"),
        "attention_cost(1)",
        "print(attention_cost(2))",
        "math.floor(attention_cost(3))",
        CHECK,
    ],
    "inside an if": ["if True:\n    " + COST.strip().replace("\n", "\n    "), CHECK],
    "with its check inside a try": [
        "try:\n    " + (COST + CHECK).strip().replace("\n", "\n    ") + "\nexcept NameError:\n    pass"
    ],
    "checked by a function": [
        COST,
        "def go():\n    return vit_edu.check('attention_cost', attention_cost)",
        "attention_cost = go()",
    ],
    "inside a try": [
        "try:\n    import nothing_of_the_kind\nexcept ImportError:\n    factor = 2",
        COST.replace("2 *", "factor *", 1),
    ],
    "a lambda": ["attention_cost = lambda N, C, h: 2 * N * C * (2 * C + N)", CHECK],
    "a lambda in the check": ['vit_edu.check("attention_cost", lambda N, C, h: 2 * N * C * (2 * C + N))'],
    "under another name": [COST.replace("attention_cost", "mine"), STUB, CHECK.replace(", attention_cost", ", mine")],
    "by keywords": [COST.replace("attention_cost", "mine"), 'vit_edu.check(name="attention_cost", mine=mine)'],
    "a helper": ["def twice(x): return 2 * x", COST.replace("2 * num", "twice(1) * num"), CHECK],
    "a helper of a helper, later": [COST.replace("2 * num", "b() * num"), "def b(): return a()", "def a(): return 2"],
    "a constant that is changed": ["n = {}", "n['two'] = 2", COST.replace("2 * num", "n['two'] * num")],
    "a list that grows": ["n = []", "n.append(2)", COST.replace("2 * num", "n[0] * num")],
    "a list that grows in a loop": [
        "n = []",
        "for i in (2, 3):\n    n.append(i)",
        COST.replace("2 * num", "n[0] * num"),
    ],
    "a list that a function fills": [
        "n = []\ndef fill(x): x.append(2)\nfill(n)",
        COST.replace("2 * num", "n[0] * num"),
    ],
    "an attribute that is set": ["class N: pass\nsetattr(N, 'two', 2)", COST.replace("2 * num", "N.two * num")],
    "a decorator": ["import functools", "@functools.lru_cache\n" + COST.strip(), CHECK],
    "global": [
        "def define():\n    global attention_cost\n    " + COST.strip().replace("\n", "\n    "),
        "define()",
        CHECK,
    ],
    "a callable object": [
        "class Cost:\n    def __call__(self, N, C, h): return 2 * N * C * (2 * C + N)",
        "attention_cost = Cost()",
    ],
    "one import of several": ["from math import no_such_name, floor", COST.replace("2 *", "floor(2) *", 1)],
    "an earlier lesson's": [
        "import vit_edu",
        "early = vit_edu.mine('patchify')",
        COST.replace("2 * num", "len([early, 2]) * num"),
    ],
    "a target": [
        "def two(): return 2",
        "import vit_edu\ntwo = vit_edu.target('faster', two)",
        COST.replace("2 * num", "two() * num"),
    ],
    "star import": ["from math import *", COST.replace("2 *", "floor(2) *", 1)],
    "annotations": [COST.replace("dim,", "dim: int | None,"), CHECK],
    "a walrus": ["print(two := 2)", COST.replace("2 * num", "two * num")],
    "unpacked": ["one, two = 1, 2", COST.replace("2 * num", "two * num")],
    "%%time": ["%%time\n" + COST, CHECK],
    "%%capture": ["%%capture output\n" + COST, CHECK],
    "line magics": ["%matplotlib inline\n!pip install x\nfiles = !ls\nt = %time 3\ntorch?\n?torch\n" + COST, CHECK],
    "a magic in an if": ["if True:\n    %matplotlib inline\n" + COST, CHECK],
    "a line with %time": ["%time two = 2", COST.replace("2 * num", "two * num")],
    "a shell's long line": ["!pip install x \\\n    y\n" + COST, CHECK],
    "magics inside": [COST.replace("    return", "    !ls\n    files = !ls\n    return"), CHECK],
    "no magic": ["x = (7\n% 5)\ny = '''\n%%time\n'''\n" + COST.replace("2 * num", "x * num"), CHECK],
    "another language": ["%%bash\necho def attention_cost", COST],
    "Greek": [COST.replace("num_tokens", "ν").replace("dim", "δ"), CHECK],
    "backslashes": [COST.replace("2 * num", "len('\\d') * num"), CHECK],
    "carriage returns": [COST.replace("\n", "\r\n"), CHECK.replace("\n", "\r\n")],
}


@pytest.mark.parametrize("name", RIGHT_ONES)
def test_found(name):
    assert found(*RIGHT_ONES[name])[0](5, 4, 2) == 2 * 5 * 4 * 13


def test_a_stub_above_its_check_gives_way_to_an_answer_below():
    stub, answer = found(STUB, CHECK, COST)
    assert answer(5, 4, 2) == 520
    with pytest.raises(NotImplementedError):
        stub(5, 4, 2)


def test_what_is_checked_later_counts_and_only_that():
    [answer] = found(COST, CHECK, COST.replace("2 *", "3 *", 1), CHECK)
    assert answer(5, 4, 2) == 780


def test_whatever_else_a_notebook_holds_is_left_out():
    content = lesson("import os\nos.remove('x')", "model = torch.load('x')\nmodel.train()", "print(attention_cost)")
    for exercise, name in NAMES.items():
        [code] = submission.answers(submission.read(content), exercise, name)
        assert not [line for line in code if "remove" in line or "load" in line or "print" in line or "check" in line]


REASONS = {
    "nothing": ([], "There is no attention_cost in the notebook."),
    "cell deleted": ([SETUP, CHECK], "There is no attention_cost in the notebook."),
    "commented out": (["# def attention_cost(N, C, h): return 1"], "There is no attention_cost in the notebook."),
    "not Python": (
        ["def attention_cost(N:\n    return 1"],
        "The cell with attention_cost is not Python: SyntaxError in line 1",
    ),
    "half a character": (["attention_cost = '\ud800'"], "is not Python: UnicodeEncodeError"),
    "too deep": (["attention_cost = " + "(" * 1000 + ")" * 1000], "The cell with attention_cost is not Python"),
    "too long a sum": (["attention_cost = " + "+".join("1" * 50_000)], "The cell with attention_cost is not Python"),
    "a null": (["attention_cost = '\0'"], "The cell with attention_cost is not Python"),
}


@pytest.mark.parametrize("name", REASONS)
def test_missing_with_a_reason(name):
    cells, reason = REASONS[name]
    with pytest.raises(SubmissionError) as told:
        found(*cells)
    assert reason in str(told.value) and str(told.value).isprintable()


def as_json(value) -> bytes:
    return json.dumps(value).encode()


CELL = {"cell_type": "code", "source": COST}
FILES = {
    "another kernel": as_json({"cells": [CELL], "metadata": {"kernelspec": {"name": "deno", "language": "ts"}}}),
    "source as one text": as_json({"cells": [CELL]}),
    "a byte order mark": b"\xef\xbb\xbf" + as_json({"cells": [CELL]}),
    "nbformat 3": as_json(
        {"worksheets": [{"cells": [{"cell_type": "code", "input": COST.splitlines(True)}]}], "nbformat": 3}
    ),
    "strange cells": as_json(
        {"cells": [None, 3, [], {}, {"cell_type": "code"}, {"cell_type": "code", "source": 5}, CELL]}
    ),
    "strange metadata": as_json(
        {"cells": [CELL | {"metadata": {"execution": {"a": "yesterday", "b": 3}}}, CELL | {"metadata": 3}]}
    ),
    "50 MB of output": as_json({"cells": [CELL | {"outputs": [{"text": "x" * 50_000_000}]}]}),
    "widgets": as_json({"cells": [CELL], "metadata": {"widgets": {"state": {str(i): {} for i in range(1000)}}}}),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_read(name):
    assert list(submission.answers(submission.read(FILES[name]), "attention_cost", "attention_cost"))


NO_FILES = {
    "nothing": b"",
    "nulls": b"\0" * 100,
    "text": b"not JSON",
    "an archive": b"PK\3\4",
    "a list": b"[]",
    "a number": b"3",
    "null": b"null",
    "cells that are none": b'{"cells": 3}',
    "UTF-16": b"\xff\xfe{\0}\0",
    "deep": b"[" * 100_000,
    "a long number": b'{"cells": [' + b"1" * 10_000 + b"]}",
    "millions of lists": b'{"cells": [' + b"[]" * 3_000_000 + b"]}",
    "millions of numbers": b'{"cells": [' + b"7.5," * 3_000_000 + b"1]}",
    "too large": b" " * 60_000_001,
}


@pytest.mark.parametrize("name", NO_FILES)
def test_files_that_are_none(name):
    with pytest.raises(SubmissionError, match=r"^The file (is (not a notebook|empty|larger than)|has .* more than)"):
        submission.read(NO_FILES[name])


BOMBS = {
    "names in a chain": "\n".join(f"a{i} = a{i + 1}" for i in range(20_000)) + "\nattention_cost = a0",
    "a text of many parts": "x = f'" + "{1}" * 160_000 + "'",
    "many statements": "a = 1\n" * 200_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_reading_takes_no_longer_for_a_bomb(name):
    start = time.process_time()
    read = submission.read(written(COST, BOMBS[name]))
    assert list(submission.answers(read, "attention_cost", "attention_cost"))
    assert time.process_time() - start < 20


def test_only_so_many_cells_are_read():
    assert len(submission.read(written(*["("] * 2 * submission.MOST)).broken) == submission.MOST


def test_what_is_the_kits_is_not_run():
    """Another exercise's answer that failed is the kit's for this one, and its own code is none of its business."""
    cells = ["attention = forever()", "def helper(x): return attention(x)", "def mine(x): return helper(x)"]
    [code] = submission.answers(submission.read(written(*cells)), "attention_cost", "mine", given={"attention"})
    assert [piece.split()[1] for piece in code] == ["helper(x):", "mine(x):"]
