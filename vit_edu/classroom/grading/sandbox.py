"""The sandbox from outside: starts it, hands over a learner's code, and stands for the answer in the grader's process.

With bubblewrap the code sees a read-only system without network, without the grader's files and without any process but
its own; without it there are limits on time, memory and files alone. `protection` says which it is.
"""

import builtins
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from vit_edu import resources
from vit_edu.classroom.grading import wire
from vit_edu.exercises.core import AnswerError
from vit_edu.exercises.trial import float_tensors, map_tensors

START, CALL, END = 120.0, 30.0, 5.0  # seconds of patience: for the start, for one call, for the end of an exercise
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
PROTECTED = "bubblewrap: no network, no files but Python's, no processes; limits on time, memory and output"
LIMITED = (
    "limits on time, memory, processes and output alone: the code could read your files and use the network. "
    "Against accidents this is enough, against attacks it is not: apt install bubblewrap"
)


class Gone(Exception):
    """The learner's process ended by itself: os._exit, a crash, too much memory or time."""


def walls() -> list[str]:
    """The command that puts what follows into a sandbox; empty where bubblewrap is missing or not allowed to work."""
    program = shutil.which("bwrap")
    if not program:
        return []
    own = {*SYSTEM, sys.prefix, sys.base_prefix, str(resources.PACKAGE)}
    shown = [word for path in sorted(own) if Path(path).exists() for word in ("--ro-bind", path, path)]
    solutions = str(resources.PACKAGE / "exercises" / "solutions.json")
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", *shown]
    command += ["--ro-bind", os.devnull, solutions, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    try:
        works = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return command if works.returncode == 0 else []


class Sandbox:
    """A process in which learners' code runs; it starts when it is needed, and again when it had to be killed."""

    def __init__(self, walls: list[str] = ()):
        self.walls, self.process, self.control = list(walls), None, None

    def start(self) -> None:
        if self.process and self.process.poll() is None:
            return
        self.stop()
        self.control, theirs = socket.socketpair()
        environment = {"PATH": os.defpath, "PYTHONPATH": str(resources.PACKAGE.parent), "OMP_NUM_THREADS": "1"}
        program = [sys.executable, "-m", "vit_edu.classroom.grading.inside", str(theirs.fileno())]
        self.process = subprocess.Popen(
            [*self.walls, *program, "1" if self.walls else "0"],
            pass_fds=[theirs.fileno()],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._wait_for(b"r", START)

    def _wait_for(self, sign: bytes, seconds: float) -> None:
        """One sign from inside; without it in time the sandbox is killed, and Gone is raised."""
        self.control.settimeout(seconds)
        with suppress(OSError):
            if self.control.recv(1) == sign:
                return
        self.stop()
        raise Gone("the sandbox did not answer")

    def stop(self) -> None:
        """Kills everything in it."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.control.close()
        self.process = self.control = None

    def answer(self, task: dict) -> "Answer":
        """A fresh process with the learner's code in it. Raises what the code raises, Gone where it ended."""
        self.start()
        mine, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.control, [b"f"], [theirs.fileno()])
        answer = Answer(self, mine)
        answer.ask(task)
        return answer


class Answer:
    """Stands for the learner's function: every call runs in the sandbox, and so does the way back."""

    def __init__(self, sandbox: Sandbox, channel: socket.socket):
        self.sandbox, self.channel, self.ready_made, self.dead = sandbox, channel, set(), ""

    def ask(self, request: dict) -> dict:
        """One question, one reply. Raises what the learner's code raised, or Gone."""
        if self.dead:
            raise Gone(self.dead)
        try:
            wire.send(self.channel, request)
            reply = wire.receive(self.channel, CALL)
            self.ready_made |= {str(name)[:80] for name in reply.get("ready_made", ())}
            error = reply.get("error")
        except TimeoutError:
            self.dead = f"Your code did not return within {CALL:.0f} s"
        except wire.Closed:
            self.dead = "Your code ended its process: by os._exit, by a crash, or by too much memory or time"
        except (wire.BrokenMessage, AttributeError, TypeError):
            self.dead = "Your code wrote something of its own to the grader, or a result that is too large"
        if self.dead:
            raise Gone(self.dead)
        if error:
            raise rebuilt(error)
        return reply

    def __call__(self, *inputs):
        leaves = [x for x in float_tensors(inputs) if x.requires_grad]
        if leaves and torch.is_grad_enabled():
            return self._with_gradient(inputs, leaves)
        reply = self.ask({"do": "call", "inputs": inputs})
        for mine, theirs in zip(float_tensors(inputs), float_tensors(reply["inputs"])):
            if mine.shape == theirs.shape and not torch.equal(mine, theirs.to(mine.dtype)):
                mine.copy_(theirs)  # as if the learner's code had changed it here
        return reply["value"]

    def _with_gradient(self, inputs: tuple, leaves: list[Tensor]):
        answer, shape = self, {}

        class Remote(torch.autograd.Function):
            @staticmethod
            def forward(context, *leaves):
                reply = answer.ask({"do": "call", "inputs": map_tensors(Tensor.detach, inputs), "gradient": True})
                shape["value"] = reply["value"]
                found = float_tensors(reply["value"])
                flags = [bool(flag) for flag in reply["differentiable"]] + [False] * len(found)
                context.flags = flags[: len(found)]
                outputs = tuple(x.clone() for x in found)
                context.mark_non_differentiable(*(x for x, flag in zip(outputs, flags) if not flag))
                return outputs

            @staticmethod
            def backward(context, *gradients):
                wanted = tuple(g for g, flag in zip(gradients, context.flags) if flag)
                found = answer.ask({"do": "backward", "gradients": wanted})["gradients"]
                if [getattr(g, "shape", None) for g in found] != [x.shape for x in leaves]:
                    raise Gone("Your code wrote something of its own to the grader")
                return tuple(found)

        outputs = iter(Remote.apply(*leaves) or ())
        return map_tensors(lambda tensor: next(outputs), shape["value"])

    def not_started(self, error: BaseException) -> bool:
        """Whether the exercise's own stub ran."""
        return getattr(error, "not_started", False)

    def close(self) -> None:
        """Ends the learner's process, and whatever it has left running."""
        self.channel.close()
        if self.dead.startswith("Your code did not return"):
            self.sandbox.stop()
        elif self.sandbox.process:
            with suppress(Gone):
                self.sandbox._wait_for(b"d", END)


def rebuilt(told: dict) -> BaseException:
    """The learner's exception as far as plain values can tell of it."""
    name, text = str(told.get("type", "")), str(told.get("text", ""))[:600]
    kind = AnswerError if name == "AnswerError" else getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, (Exception, SystemExit, KeyboardInterrupt))):
        kind = Exception
    try:
        error = kind(text)
    except Exception:  # UnicodeDecodeError wants five arguments
        error = Exception(f"{name}: {text}")
    error.learners_line, error.not_started = str(told.get("line", ""))[:200], told.get("not started") is True
    return error


def protection(walls: list[str]) -> str:
    """What stands between the learners' code and this machine, in words."""
    return PROTECTED if walls else LIMITED
