"""What runs in the sandbox: a process with everything imported, and for each exercise a copy of it with one answer.

python -m vit_edu.classroom.grading.inside SOCKET SECONDS: for every socket that comes over SOCKET it forks; the copy
takes its limits, runs the learner's code and answers calls. A byte from the grader ends the copy, and how it ended is
the reply.
"""

import __future__

import ast
import asyncio
import builtins
import linecache
import os
import random
import signal
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module

import numpy
import torch

from vit_edu.classroom.grading import limits, wire
from vit_edu.classroom.grading.disarm import ReadyMade, disarm
from vit_edu.exercises import ALL
from vit_edu.exercises.core import Draw
from vit_edu.exercises.ladder import not_started
from vit_edu.exercises.rungs import describe
from vit_edu.exercises.trial import AnswerError, float_tensors, map_tensors, message, plain

FILE = "answer"  # what a traceback calls the learner's code
# No answer could import these: matplotlib writes a file at first, and the exercises' files will be closed.
EARLY = "plots", "exercises.kept", "exercises.report"
NOTEBOOK = {"__name__": "__main__", "display": lambda *_, **__: None, "get_ipython": lambda: None}  # is there already
FUTURE = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


def main(control: int, seconds: int) -> None:
    """Forks for every socket that the grader sends, one after the other; ends with the grader."""
    torch.set_num_threads(1)
    limits.unseen()
    channel = socket.socket(fileno=control)
    for module in EARLY:
        import_module(f"vit_edu.{module}")
    for exercise in ALL.values():  # so that everything is imported before the first fork
        rehearse(exercise)
    if os.waitpid(copy(lambda: limits.take(seconds)), 0)[1]:
        raise SystemExit("The kernel refuses the limits of a learner's process.")
    channel.send(b"r")
    while True:
        _, own, _, _ = socket.recv_fds(channel, 1, 1)
        if not own:
            return
        child = copy(lambda own=own: answer(channel, own[0], seconds))
        os.close(own[0])
        enough = channel.recv(1)
        os.kill(child, signal.SIGKILL)  # one that has ended stays as it is until the next line
        status = os.waitpid(child, 0)[1]
        if not enough:
            return
        channel.send(status.to_bytes(wire.STATUS, "little"))


def copy(work) -> int:
    """The number of a new process that does `work` and ends."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def rehearse(exercise) -> None:
    """One call of the right answer, there and back, as those of the learners will be."""
    calls, case = Calls(exercise, exercise.reference), next(exercise.cases(Draw(0)))
    calls.call(case, gradient=True)
    if calls.results:
        calls.backward(tuple(map(torch.ones_like, calls.results)))


def answer(control: socket.socket, own: int, seconds: int) -> None:
    """Runs the learner's code, then every call that the grader asks for."""
    control.close()
    limits.take(seconds)
    channel = socket.socket(fileno=own)
    task = wire.receive(channel)
    exercise, mine = ALL[task["exercise"]], None
    disarm(exercise)
    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(0)  # the same notebook gets the same marks
    try:
        mine = define(task)
        reply = wire.encode({"defined": True})
    except BaseException as error:
        reply = wire.encode({"error": told(error, None)})
    calls = Calls(exercise, mine)
    with suppress(wire.Closed):
        while True:
            wire.send(channel, reply)
            request = wire.receive(channel)
            try:
                reply = wire.encode(calls.run(**request))
            except BaseException as error:
                reply = wire.encode({"error": told(error, mine)})


def define(task: dict):
    """The learner's answer: the code has run, and other exercises' names that are the kit's stand for the kit's."""
    references = {name: ALL[exercise].reference for name, exercise in task["references"].items()}
    namespace, flags = NOTEBOOK | references, 0
    for number, piece in enumerate(task["code"]):
        file = f"{FILE} {number}"
        linecache.cache[file] = len(piece), None, piece.splitlines(keepends=True), file
        code = compile(piece, file, "exec", flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        flags |= code.co_flags & FUTURE  # as in a notebook: from __future__ import annotations holds for later cells
        if waits := eval(code, namespace):
            asyncio.run(waits)
        namespace |= references
    mine = namespace[task["name"]]
    if not callable(mine):
        raise AnswerError(f"A function or class is wanted; {task['name']} is {describe(plain(mine))}.")
    return mine


def told(error: BaseException, mine) -> dict:
    """An exception in plain values."""
    text, name = message(error), type(error).__name__
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        error = AnswerError(f"Your code asks for more than {limits.MEMORY / 1e9:g} GB of memory.")
        text, name = message(error), "AnswerError"
    known = isinstance(getattr(builtins, name, None), type)
    return {
        "type": name if known or name == "AnswerError" else "",
        "text": text.partition(": ")[2] if known or name == "AnswerError" else text,
        "line": line(error),
        "not started": mine is not None and not_started(mine, error),
        "ready-made": str(error) if isinstance(error, ReadyMade) else "",
    }


def line(error: BaseException) -> str:
    """The last line of the learner's code in the traceback."""
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(FILE)]
    return f"in `{lines[-1]}`" if lines else ""


class Calls:
    """Calls of one answer, and the way back through the last of them."""

    def __init__(self, exercise, mine):
        self.exercise, self.mine = exercise, mine
        self.leaves, self.results = [], []
        self.given = []  # every result so far, and its message

    def run(self, do: str, inputs: tuple = (), gradient: bool = False, gradients: tuple = ()) -> dict:
        return self.backward(gradients) if do == "backward" else self.call(inputs, gradient)

    def call(self, inputs: tuple, gradient: bool) -> dict:
        self.leaves = []

        def watched(tensor):
            self.leaves.append(tensor.requires_grad_())
            return self.leaves[-1].clone()

        given = map_tensors(watched if gradient else torch.Tensor.clone, inputs)
        value = self.exercise.call(self.mine, *given)
        value = plain(tuple(value) if isinstance(value, tuple) else value)  # a named one passes in the lesson, too
        self.results = [x for x in float_tensors(value) if x.requires_grad]
        if any(wire.encode(earlier) != as_it_was for earlier, as_it_was in self.given):
            raise AnswerError("A result of an earlier call has changed. Return a new tensor every time.")
        self.given.append((value, wire.encode(value)))
        return {
            "value": value,
            "differentiable": [x.requires_grad for x in float_tensors(value)],
            "inputs": map_tensors(torch.Tensor.detach, given),
        }

    def backward(self, gradients: tuple) -> dict:
        found = torch.autograd.grad(self.results, self.leaves, gradients, allow_unused=True)
        return {"gradients": tuple(torch.zeros_like(x) if g is None else g for g, x in zip(found, self.leaves))}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
