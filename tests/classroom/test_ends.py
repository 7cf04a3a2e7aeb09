"""Code that never ends, ends too soon, or takes too much: it costs its own exercise, and the learner is told why."""

import signal
import socket
from types import SimpleNamespace

import pytest

from tests.classroom.notebook import NAMES, body, lesson
from vit_edu.classroom.grading import mark
from vit_edu.classroom.grading.sandbox import Answer, Gone

ENDLESS = {
    "a loop": body("while True: pass"),
    "a loop that catches everything": body(
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    ),
    "a loop before it is called": body("q = start * q", first="start = next(i for i in iter(int, 1) if i)"),
    "a loop in C": body("sum(range(10**13))"),
    "a huge product": body("a = torch.ones(4000, 4000)\nfor _ in range(1000): a = a @ a"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless(name, attack):
    assert "which loop has no end?" in attack(ENDLESS[name], "timeout")


ASLEEP = {
    "sleep": body("import time\ntime.sleep(1e6)"),
    "a lock": body("import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()"),
    "a byte now and then": body(
        "q = start * q",
        first="import os, struct, time\nfor fd in range(3, 9):\n    try: os.write(fd, struct.pack('<II', 900_000, 0))\n"
        "    except OSError: pass\n    else:\n        while start := os.write(fd, b' '): time.sleep(0.03)",
    ),
    "before it is called": body("q = start * q", first="import time\nstart = time.sleep(1e6)"),
}


@pytest.mark.parametrize("name", ASLEEP)
def test_asleep(name, attack, monkeypatch):
    try_out, patience = mark.try_out, mark.PATIENCE

    def impatient(result, task, sandbox):
        monkeypatch.setattr(mark, "PATIENCE", 2.0 if task["exercise"] == "attention" else patience)
        return try_out(result, task, sandbox)

    monkeypatch.setattr(mark, "try_out", impatient)
    attack(ASLEEP[name], "timeout")


def test_who_asks_does_not_end_the_process():
    """The thread that asks is stopped at any line; stopped while it ends the process, it would take the next one."""
    ended, (mine, theirs) = [], socket.socketpair()
    sandbox = SimpleNamespace(seconds=2, end=lambda: ended.append(1) or signal.SIGKILL)
    answer = Answer(sandbox, mine)
    theirs.close()
    with pytest.raises(Gone):
        answer.ask({"do": "call", "inputs": ()})
    assert not ended
    answer.close()
    assert ended == [1] and "more time or memory" in answer.dead


ENDED = {
    "os._exit": (body("import os\nos._exit(0)"), "os._exit(0)"),
    "os._exit before it is called": (body("q = q * one", first="import os\none = os._exit(1) or 1"), "os._exit(1)"),
    "abort": (body("import os\nos.abort()"), "crashed Python itself"),
    "a wild pointer": (body("import ctypes\nctypes.string_at(0)"), "SIGSEGV"),
    "an alarm": (body("import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\nwhile True: pass"), "SIGALRM"),
    "every file closed": (body("import os\nos.closerange(0, 64)"), "Your code"),
    "a signal ignored": (
        body("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"),
        "more time or memory",
    ),
}


@pytest.mark.parametrize("name", ENDED)
def test_ended(name, attack):
    code, told = ENDED[name]
    assert told in attack(code, "ended")


ERRORS = {
    "exit": (body("import sys\nsys.exit(0)"), "SystemExit: 0 (in `sys.exit(0)`)"),
    "exit before it is called": (body("q = q * one", first="import sys\none = sys.exit('bye')"), "SystemExit: bye"),
    "interrupt": (body("raise KeyboardInterrupt"), "KeyboardInterrupt"),
    "exception": (body("1 / 0"), "ZeroDivisionError: division by zero (in `1 / 0`)"),
    "exception of its own": (body("raise E('no')", first="class E(Exception): pass"), "Exception: E: no"),
    "exception without a text": (
        body("raise E", first="class E(Exception):\n    def __str__(self): raise E\n    __repr__ = __str__"),
        "it has no text that can be shown",
    ),
    "characters that act": (body("raise ValueError('a\\nb\\x1b[31m\\u202e')"), "ValueError: a b [31m  (in "),
    "a generator's end": (body("raise GeneratorExit('x')"), "Exception: GeneratorExit: x"),
    "half a character": (body("raise ValueError('\\udcff <b>')"), "ValueError: ? <b>"),
    "recursion": (body("attention(q, k, v)"), "RecursionError"),
    "lists": (body("x = [bytes(10**8) for _ in range(100)]"), "more than 1 GB of memory"),
    "a tensor": (body("torch.ones(10**10)"), "more than 1 GB of memory"),
    "bytes before it is called": (body("q = q * len(x)", first="x = bytes(10**11)"), "more than 1 GB of memory"),
    "input": (body("input()"), "EOFError"),
    "fork": (body("import os\nos.fork()"), "Operation not permitted (in `os.fork()`)"),
    "fork bomb": (body("import os\nwhile True: os.fork()"), "Operation not permitted"),
    "subprocess": (body("import subprocess\nsubprocess.run(['true'])"), "Operation not permitted"),
    "exec": (body("import os\nos.execv('/bin/true', ['true'])"), "Operation not permitted"),
    "multiprocessing": (
        body("import multiprocessing\nmultiprocessing.Process(target=print).start()"),
        "Operation not permitted",
    ),
    "thread": (body("import threading, sys\nthreading.Thread(target=sys.exit).start()"), "can't start new thread"),
    "the parent": (body("import os\nos.kill(os.getppid(), 9)"), "Operation not permitted"),
    "everybody": (body("import os\nos.kill(-1, 9)"), "Operation not permitted"),
    "the parent's limits": (
        body("import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))"),
        "Operation not permitted",
    ),
    "more time": (body("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (99, 99))"), "not allowed to raise"),
    "no class": ("attention = 3", "A function or class is wanted; attention is the int 3."),
    "a name that is missing": (body("q = q * scale"), "name 'scale' is not defined (in `q = q * scale`)"),
    "arguments": ("def attention(q): return q", "takes 1 positional argument but 3 were given"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name, attack):
    code, told = ERRORS[name]
    assert told in attack(code, "error")


HARMLESS = {
    "a flood of output": body("for _ in range(20): print('x' * 10**6)"),
    "work at its end": body("pass", first="import atexit, os\natexit.register(os._exit, 3)"),
    "deleted later": body("x = D()", first="class D:\n    def __del__(self): raise SystemExit"),
    "other types by default": body("torch.set_default_dtype(torch.float16)"),
    "gradients switched off and on": body("torch.set_grad_enabled(False)\ntorch.set_grad_enabled(True)"),
    "no rubbish collected": body("import gc\ngc.disable()\ngc.freeze()"),
    "warnings are errors": body("pass", first="import warnings\nwarnings.simplefilter('error')"),
    "annotations of the future": body("q: Nobody = q", first="from __future__ import annotations").replace(
        "k,", "k: No,"
    ),
    "seeds": body("torch.manual_seed(3)"),
    "what a notebook has": body("display(q, k)\nget_ipython()"),
    "what has been waited for": body("q = q * one", first="async def f(): return 1\none = await f()"),
    "a picture": body("plt.plot([1])\nplt.show()", first="import matplotlib.pyplot as plt"),
    "a named tuple": body(
        "pass", first="from typing import NamedTuple\nclass Out(NamedTuple):\n    o: object\n    w: object"
    ).replace("return weights @ v, weights", "return Out(weights @ v, weights)"),
    "standard output closed": body("import sys\nsys.stdout.close()"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name, attack):
    assert attack(HARMLESS[name], "passed") == "Right."


def test_every_exercise_fails_for_itself(graded):
    given = {
        "attention": body("import os\nos._exit(0)"),
        "split_heads": "def split_heads(qkv, num_heads):\n    return torch.ones(10**10)",
        "attention_cost": "def attention_cost(*_):\n    while True: pass",
    }
    marks = graded(lesson(**given), NAMES)
    assert {name: (mark["status"], mark["points"]) for name, mark in marks.items()} == {
        "attention": ("ended", 0),
        "split_heads": ("error", 0),
        "multi_head_attention": ("passed", 4),
        "attention_cost": ("timeout", 0),
    }
