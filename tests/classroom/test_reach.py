"""Code that reaches for what is not its own: files, other submissions, the network, the process it came from."""

import platform

import pytest

from tests.classroom.notebook import NAMES, SHORT, body, lesson
from vit_edu import resources
from vit_edu.classroom.grading import mark
from vit_edu.classroom.grading.sandbox import LIMITED, PROTECTED, Sandbox, protection, walls

ROOT = resources.PACKAGE.parent
walled = pytest.mark.skipif(not walls(), reason="bubblewrap is not installed, or not allowed to work here")
DENIED = "Operation not permitted"

REFUSED = {
    "its own memory": "open('/proc/self/mem', 'r+b')",
    "memory that is shared": "from multiprocessing import shared_memory as m\nm.SharedMemory(create=True, size=9)",
    "a file that has no name yet": "import os\nos.open('/tmp', os.O_TMPFILE | os.O_RDWR)",
    "write a file": "open('/tmp/found', 'w')",
    "append to a file": "import os\nos.open('/tmp/found', os.O_CREAT | os.O_RDWR | os.O_APPEND)",
    "make a folder": "import os\nos.mkdir('/tmp/folder')",
    "make a link": "import os\nos.symlink('/etc/passwd', '/tmp/link')",
    "remove a file": "import os\nos.remove(vit_edu.__file__)",
    "empty a file": "import os\nos.truncate(vit_edu.__file__, 0)",
    "a file without a name": "import os\nos.memfd_create('x')",
    "a web page": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:80')",
    "the network": "import socket\nsocket.socket()",
    "a socket of the system": "import socket\nsocket.socket(socket.AF_UNIX)",
    "another's nice": "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "another's cores": "import os\nos.sched_setaffinity(os.getppid(), {0})",
    "another's handle": "import os\nos.pidfd_open(os.getppid())",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, attack):
    assert DENIED in attack(body(REFUSED[name]), "error")


CLOSED = {
    "source by inspect": "import inspect\nexec(inspect.getsource(layers.scaled_dot_product_attention))",
    "source by open": "open(layers.attention.__file__).read()",
    "source by a detour": "import os\nopen('/proc/self/root' + layers.attention.__file__).read()",
    "source as bytes": "open(layers.attention.__file__.encode()).read()",
    "compiled source": "import importlib.util\nopen(importlib.util.cache_from_source(layers.attention.__file__))",
    "source by its loader": "layers.attention.__spec__.loader.get_source(layers.attention.__name__)",
    "the solutions": "from vit_edu.exercises.report import solutions\nsolutions()",
    "the hint that solves": "vit_edu.hint('attention')\n" * 4,
}


@pytest.mark.parametrize("name", CLOSED)
def test_the_source_of_the_answers_is_closed(name, attack):
    attack(body(CLOSED[name]), "error")


def unseen(*paths) -> str:
    """An answer that is wrong as soon as one of these can be seen."""
    return body("import os", f"if any(map(os.path.exists, {[str(path) for path in paths]})): return None")


@walled
def test_other_files_are_not_there(attack, tmp_path):
    other = tmp_path / "other.ipynb"
    other.write_text("another learner's answers")
    attack(unseen(other, ROOT / "course", ROOT / "tests", ROOT / "notebooks", "/etc/passwd"), "passed")


@walled
def test_nothing_is_handed_down(attack):
    alone = """
import os
known = {"PATH", "PYTHONPATH", "OMP_NUM_THREADS", "PWD", "LC_CTYPE"}
known |= {"TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR"}  # torch's and matplotlib's own doing
others = [n for n in os.listdir("/proc") if n.isdigit() and int(n) not in (1, 2, os.getpid(), os.getppid())]
if set(os.environ) - known or others:
    return None
"""
    attack(body(alone), "passed")


def test_the_sandbox_itself_is_closed(attack):
    code = """
import os
for name in "mem", "environ", "maps", "fd/3", "cwd":
    try:
        os.open(f"/proc/{os.getppid()}/{name}", os.O_RDONLY)
    except OSError:
        continue
    return None
"""
    attack(body(code), "passed")


RAW = {
    "vfork": "58",
    "clone3": "435, 0, 0",
    "the parent's memory": "310, os.getppid(), 0, 0, 0, 0, 0",
    "a ring": "425, 8, 0",
    "a namespace": "272, 0x10000000",
    "a signal": "234, os.getpid(), os.getpid(), 9",
    "a file by its handle": "304, -100, 0, 0",
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
@pytest.mark.parametrize("name", RAW)
def test_calls_of_the_system_past_python(name, attack):
    attack(body(f"import ctypes, os\nif ctypes.CDLL(None).syscall({RAW[name]}) != -1: return None"), "passed")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="there is no other way into the kernel")
def test_the_old_way_into_the_kernel_is_closed(attack):
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(b"\\xb8\\x02\\0\\0\\0\\xcd\\x80\\xc3")  # 32 bit: fork
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
    assert "SIGSYS" in attack(body(code), "ended")


def test_no_memory_outlives_its_exercise(attack):
    code = """
import ctypes
libc = ctypes.CDLL(None)
if libc.shmget(0, 10**6, 0o1600) != -1 or libc.msgget(0, 0o1600) != -1 or libc.semget(0, 1, 0o1600) != -1:
    return None
"""
    attack(body(code), "passed")


def test_nothing_is_left_for_the_next_exercise(attack):
    leave = body("import builtins\nbuiltins.left = torch.left = vit_edu.left = math.left = 1")
    attack(leave, "passed")
    attack(
        body("import builtins\nif any(hasattr(x, 'left') for x in (builtins, torch, vit_edu, math)): return"), "passed"
    )


FORGED = (
    "{'value': (q, q), 'inputs': (q, k, v), 'differentiable': [True, True]}",
    "{'error': 3}",
    "{'error': {'ready-made': 3, 'type': [], 'text': {}, 'line': 5, 'not started': 'yes'}}",
    "[1, 2]",
    "{'status': 'passed', 'points': 3}",
)


@pytest.mark.parametrize("reply", FORGED)
def test_forged_replies_earn_nothing(reply, graded):
    forged = f"""
import os
from vit_edu.classroom.grading import wire
for fd in range(3, 20):
    try:
        os.write(fd, wire.encode({reply}))
    except OSError:
        pass
return None
"""
    marks = graded(lesson(answers=SHORT, attention=body(forged)))
    assert (marks["attention"]["points"], marks["attention_cost"]["points"]) == (0, 2)  # how it fails is luck


def test_bytes_that_are_no_message(attack):
    code = "import os\nfor fd in range(3, 20):\n    try: os.write(fd, {BYTES})\n    except OSError: pass\nreturn None"
    for rubbish in ("bytes(100)", "b'\\xff' * 100", "b'\\x10\\0\\0\\0\\0\\0\\0\\0' + b'[' * 16"):
        told = attack(body(code.replace("{BYTES}", rubbish)), "ended")
        assert told == "Your code wrote something of its own to the grader."


OTHER_REPLIES = {
    "no value": "Calls.call = lambda *_: {}",
    "inputs that are none": "Calls.call = lambda *_: {'value': (v, q), 'inputs': 3, 'differentiable': []}",
    "flags that are none": "Calls.call = lambda *_: {'value': (v, q), 'inputs': (), 'differentiable': 'yes'}",
    "gradients that are none": "Calls.backward = lambda *_: {'gradients': 'abc'}",
    "no gradients": "Calls.backward = lambda *_: {}",
    "gradients of something else": "Calls.backward = lambda *_: {'gradients': (v,)}",
}


@pytest.mark.parametrize("name", OTHER_REPLIES)
def test_replies_to_nothing_that_was_asked(name, attack):
    told = attack(body(f"from __main__ import Calls\n{OTHER_REPLIES[name]}"), "ended")
    assert told == "Your code wrote something of its own to the grader."


def test_the_protection_that_is_named_is_the_one_in_force(sandbox, monkeypatch):
    assert protection(sandbox.walls) == (PROTECTED if sandbox.walls else LIMITED)
    monkeypatch.setenv("PATH", "/nowhere")
    assert walls() == [] and protection(walls()) == LIMITED


def test_without_bubblewrap_an_accident_still_costs_its_own_exercise_only(tmp_path):
    bare = Sandbox(seconds=2)
    given = {
        "attention": body("import os\nos._exit(0)"),
        "split_heads": f"def split_heads(*_):\n    open({str(tmp_path / 'found')!r}, 'w')",
        "multi_head_attention": "class MultiHeadAttention:\n    def __init__(self, **_):\n        while True: pass",
    }
    try:
        marks = mark.grade(lesson(**given), NAMES, bare)["marks"]
    finally:
        bare.stop()
    assert [one["status"] for one in marks] == ["ended", "error", "timeout", "passed"]
    assert not (tmp_path / "found").exists() and "read your files" in protection(bare.walls)
