"""What runs in the sandbox: a process with everything imported, and for each exercise a copy of it with one answer.

python -m vit_edu.classroom.grading.inside SOCKET ALONE: for every socket that comes over SOCKET it forks; the copy
takes limits, runs the learner's code and answers calls, until the grader closes. ALONE is 1 where no process but its
own can be seen, and then all that a learner has started is killed behind each exercise.
"""

import builtins
import ctypes
import errno
import os
import platform
import resource
import shutil
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress

import torch

from vit_edu.classroom.grading import wire
from vit_edu.exercises import ALL
from vit_edu.exercises.core import Draw
from vit_edu.exercises.guard import ReadyMade
from vit_edu.exercises.ladder import not_started
from vit_edu.exercises.trial import float_tensors, learners_line, map_tensors, message, plain

SECONDS = 20  # of CPU for one exercise
MEMORY = 1_000_000_000  # bytes, on top of what is there already
FILE = "answer"  # what a traceback calls the learner's code


def main(control: int, alone: bool) -> None:
    """Forks for every socket that the grader sends, one after the other; ends with the grader."""
    torch.set_num_threads(1)
    channel = socket.socket(fileno=control)
    for exercise in ALL.values():  # so that everything is imported before the first fork
        rehearse(exercise)
    channel.send(b"r")
    while True:
        sign, [own], _, _ = socket.recv_fds(channel, 1, 1)
        if not sign:
            return
        child = os.fork()
        if not child:
            channel.close()
            answer(socket.socket(fileno=own))
            os._exit(0)
        os.close(own)
        os.waitpid(child, 0)
        with suppress(ProcessLookupError):  # what the learner's code has left running
            os.kill(-1, signal.SIGKILL) if alone else os.killpg(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        for left in os.scandir("/tmp") if alone else ():
            shutil.rmtree(left, ignore_errors=True) if left.is_dir(follow_symlinks=False) else os.unlink(left)
        channel.send(b"d")


def rehearse(exercise) -> None:
    """One call of the right answer, there and back, as those of the learners will be."""
    calls, case = Calls(exercise, exercise.reference), next(exercise.cases(Draw(0)))
    with ReadyMade(exercise.ready_made):
        calls.call(case, gradient=True)
        if calls.results:
            calls.backward(tuple(map(torch.ones_like, calls.results)))


def limit() -> None:
    """Time, memory, files, processes; nothing is read from or written to a terminal. No way back."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    with open("/proc/self/statm") as file:
        here = int(file.read().split()[0]) * resource.getpagesize()
    spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    limits = {
        resource.RLIMIT_AS: here + MEMORY,
        resource.RLIMIT_CPU: int(spent) + SECONDS,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for name, value in limits.items():
        resource.setrlimit(name, (value, value))
    no_processes()


# System calls that start a process, a thread or a program, or reach into another process.
CALLS = {
    "x86_64": (0xC000003E, (56, 57, 58, 59, 101, 310, 311, 322, 435)),
    "aarch64": (0xC00000B7, (220, 221, 117, 270, 271, 281, 435)),
}


def no_processes() -> None:
    """From here on fork, clone, exec and ptrace fail: a seccomp filter, which no rlimit replaces where root grades."""
    if platform.machine() not in CALLS:
        return
    architecture, calls = CALLS[platform.machine()]
    jump, allow, kill, refuse = 0x15, 0x7FFF0000, 0x80000000, 0x00050000 | errno.EAGAIN
    program = [(0x20, 0, 0, 4), (jump, 1, 0, architecture), (0x06, 0, 0, kill), (0x20, 0, 0, 0)]  # another ABI is none
    program += [(0x35, len(calls) + 1, 0, 0x40000000)]  # nor are x32's numbers
    program += [(jump, len(calls) - i, 0, call) for i, call in enumerate(calls)]
    program += [(0x06, 0, 0, allow), (0x06, 0, 0, refuse)]
    packed = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    head = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, head, 0, 0):  # no new privileges; then the filter
        raise OSError(ctypes.get_errno(), "no seccomp filter")


def answer(channel: socket.socket) -> None:
    """Runs the learner's code, then every call that the grader asks for."""
    limit()
    task = wire.receive(channel)
    exercise, mine = ALL[task["exercise"]], None
    try:
        mine = define(task)
        reply = {"defined": True}
    except BaseException as error:
        reply = {"error": told(error, None)}
    wire.send(channel, reply)
    calls = Calls(exercise, mine)
    watch = ReadyMade(exercise.ready_made)
    with suppress(wire.Closed):
        while True:
            request = wire.receive(channel)
            sys.setprofile(watch.profile)
            try:
                with watch:
                    reply = calls.run(**request)
            except BaseException as error:
                reply = {"error": told(error, calls.mine)}
            finally:
                sys.setprofile(None)
            wire.send(channel, reply | {"ready_made": sorted(watch.seen)})


def define(task: dict):
    """The learner's answer: the code has run, and other exercises' names that are the kit's stand for the kit's."""
    namespace = {"__name__": "__main__"}
    references = {name: ALL[exercise].reference for name, exercise in task["references"].items()}
    namespace |= references
    for piece in task["code"]:
        exec(compile(piece, FILE, "exec"), namespace)
        namespace |= references
    return namespace[task["name"]]


def told(error: BaseException, mine) -> dict:
    """An exception in plain values."""
    known = isinstance(getattr(builtins, type(error).__name__, None), type)
    return {
        "type": type(error).__name__ if known or type(error).__name__ == "AnswerError" else "",
        "text": message(error).partition(": ")[2] if known else message(error),
        "line": learners_line(error) or own_line(error),
        "not started": mine is not None and not_started(mine, error),
    }


def own_line(error: BaseException) -> str:
    """The number of the last line of the learner's code in the traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
    return f"line {lines[-1]}" if lines else ""


class Calls:
    """Calls of one answer, and the way back through the last of them."""

    def __init__(self, exercise, mine):
        self.exercise, self.mine = exercise, mine
        self.leaves, self.results = [], []

    def run(self, do: str, inputs: tuple = (), gradient: bool = False, gradients: tuple = ()) -> dict:
        return self.backward(gradients) if do == "backward" else self.call(inputs, gradient)

    def call(self, inputs: tuple, gradient: bool) -> dict:
        self.leaves = []

        def watched(tensor):
            self.leaves.append(tensor.requires_grad_())
            return self.leaves[-1].clone()

        given = map_tensors(watched if gradient else torch.Tensor.clone, inputs)
        value = plain(self.exercise.call(self.mine, *given))
        self.results = [x for x in float_tensors(value) if x.requires_grad]
        return {
            "value": value,
            "differentiable": [x.requires_grad for x in float_tensors(value)],
            "inputs": map_tensors(torch.Tensor.detach, given),
        }

    def backward(self, gradients: tuple) -> dict:
        found = torch.autograd.grad(self.results, self.leaves, gradients, allow_unused=True)
        return {"gradients": tuple(torch.zeros_like(x) if g is None else g for g, x in zip(found, self.leaves))}


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] == "1")
