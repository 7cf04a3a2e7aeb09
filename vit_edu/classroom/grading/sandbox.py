"""The sandbox from outside: starts it, hands over a learner's code, and stands for the answer in the grader's process.

With bubblewrap the code sees a read-only system without network, without the grader's files and without any process but
its own; without it there is the kernel's filter alone (limits.py). `protection` says which it is.
"""

import builtins
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from vit_edu import resources
from vit_edu.classroom.grading import limits, wire
from vit_edu.exercises.core import AnswerError
from vit_edu.exercises.trial import float_tensors, map_tensors

START = 120.0  # seconds; then the sandbox itself does not answer
REPLIES = {"call": {"value": object, "inputs": tuple, "differentiable": list}, "backward": {"gradients": tuple}}
FOREIGN = "Your code wrote something of its own to the grader."
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
PROTECTED = (
    "bubblewrap: no network, no other processes, no files but the system's, Python's and the kit's, none to write; "
    "limits on time, memory and output"
)
LIMITED = (
    "a filter of system calls: no network, no other processes, no files to write; limits on time, memory and output. "
    "The code can read your files, though. To hide them: apt install bubblewrap"
)


class Gone(Exception):
    """The learner's process is of no more use; `Answer.dead` says why."""


class SandboxError(RuntimeError):
    """There is no sandbox on this machine, and nobody's fault; the message says why."""


def walls() -> list[str]:
    """The command that puts what follows into a sandbox; empty where bubblewrap is missing or not allowed to work."""
    program = shutil.which("bwrap")
    if not program:
        return []
    own = [*SYSTEM, sys.prefix, sys.base_prefix, str(resources.PACKAGE), str(resources.folder("data"))]
    shown = [word for path in dict.fromkeys(own) if Path(path).exists() for word in ("--ro-bind", path, path)]
    solutions = str(resources.PACKAGE / "exercises" / "solutions.json")
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", *shown, "--ro-bind", os.devnull, solutions]
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    try:
        works = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return command if works.returncode == 0 else []


class Sandbox:
    """A process in which learners' code runs; it starts when it is needed, and again when it had to be killed."""

    def __init__(self, walls: list[str] = (), seconds: int = limits.SECONDS):
        self.walls, self.seconds, self.process, self.control = list(walls), seconds, None, None

    def start(self) -> None:
        """Raises SandboxError where it cannot start."""
        if self.process and self.process.poll() is None:
            return
        self.stop()
        self.control, theirs = socket.socketpair()
        self.control.settimeout(START)
        environment = {"PATH": os.defpath, "PYTHONPATH": str(resources.PACKAGE.parent), "OMP_NUM_THREADS": "1"}
        program = [sys.executable, "-m", "vit_edu.classroom.grading.inside", str(theirs.fileno()), str(self.seconds)]
        with theirs:
            self.process = subprocess.Popen(
                [*self.walls, *program],
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        with suppress(OSError):
            if self.control.recv(1) == b"r":
                return
        self.process.kill()
        said = self.process.stderr.read().decode(errors="replace").strip().splitlines()
        self.stop()
        raise SandboxError(f"The sandbox does not start: {said[-1] if said else f'no sign in {START:.0f} s'}")

    def stop(self) -> None:
        """Kills everything in it."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()
            self.control.close()
        self.process = self.control = None

    def answer(self) -> "Answer":
        """A fresh process, ready for a learner's code."""
        self.start()
        mine, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.control, [b"f"], [theirs.fileno()])
        return Answer(self, mine)

    def end(self) -> int | None:
        """Ends the learner's process; returns how it ended, as os.waitpid says it. None: it took the sandbox along."""
        with suppress(OSError):
            self.control.send(b"e")
            if len(status := self.control.recv(wire.STATUS)) == wire.STATUS:
                return int.from_bytes(status, "little")
        self.stop()
        return None


class Answer:
    """Stands for the learner's function: every call runs in the sandbox, and so does the way back.

    Once it is closed, `dead` is a sentence where the process did not last as long, and `lost` is true where the sandbox
    went with it.
    """

    def __init__(self, sandbox: Sandbox, channel: socket.socket):
        self.sandbox, self.channel = sandbox, channel
        self.ready_made, self.gone, self.dead, self.endless, self.lost = set(), False, "", False, False

    def ask(self, request: dict, seconds: float = math.inf) -> dict:
        """One question, one reply. Raises what the learner's code raised, or Gone."""
        if self.gone:
            raise Gone
        try:
            wire.send(self.channel, wire.encode(request))
            reply = wire.receive(self.channel, seconds)
            if not (told := reply.get("error")) and not fits(request, reply):
                raise wire.BrokenMessage("no reply to this")
            if told:
                self.ready_made |= {str(told.get("ready-made"))[:80]} if told.get("ready-made") else set()
                error = rebuilt(told)
        except TimeoutError:
            self._died(f"Your code did not return within {seconds:.0f} s.", endless=True)
        except wire.Closed:
            self._died()
        except (wire.BrokenMessage, AttributeError):
            self._died(FOREIGN)
        if told:
            raise error
        return reply

    def _died(self, why: str = "", endless: bool = False) -> None:
        """Only says so: the thread that is here may be stopped at any line, so the process is ended by `close`."""
        self.gone, self.dead, self.endless = True, why, endless
        raise Gone

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
                    answer._died(FOREIGN)
                return tuple(found)

        outputs = iter(Remote.apply(*leaves) or ())
        return map_tensors(lambda tensor: next(outputs), shape["value"])

    def not_started(self, error: BaseException) -> bool:
        """Whether the exercise's own stub ran."""
        return getattr(error, "not_started", False)

    def close(self) -> None:
        """Ends the learner's process, whatever it is doing."""
        gone = self.gone  # a thread that was left behind finds the channel closed, and says so too
        self.channel.close()
        status = self.sandbox.end()
        self.lost = gone and status is None
        if gone and not self.dead:
            self.dead, self.endless = ending(status, self.sandbox.seconds)


def ending(status: int | None, seconds: int) -> tuple[str, bool]:
    """How a process ended, as a sentence for the learner, and whether it would never have ended by itself."""
    if status is None:
        return "Your code ended its process, and the sandbox around it.", False
    number = os.waitstatus_to_exitcode(status)
    if number == -signal.SIGKILL:
        return (
            "Your code was killed: it took more time or memory than it may, or cut itself off from the grader.",
            False,
        )
    if number == -signal.SIGXCPU:
        return f"Your code did not come to an end in {seconds} s of computing: which loop has no end?", True
    if number < 0:
        return f"Your code crashed Python itself ({signal.Signals(-number).name}).", False
    return f"Your code ended its process, by os._exit({number}) or the like.", False


def fits(request: dict, reply: dict) -> bool:
    """Whether a reply has what its request asks for."""
    wanted = REPLIES.get(request.get("do"), {})
    return all(name in reply and isinstance(reply[name], kind) for name, kind in wanted.items())


def rebuilt(told: dict) -> BaseException:
    """The learner's exception as far as plain values can tell of it."""
    name, text, line = (readable(str(told.get(key, ""))) for key in ("type", "text", "line"))
    kind = AnswerError if name == "AnswerError" else getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, (Exception, SystemExit, KeyboardInterrupt))):
        kind, text = Exception, f"{name}: {text}".removeprefix(": ")
    try:
        error = kind(text)
    except Exception:  # UnicodeDecodeError wants five arguments
        error = Exception(f"{name}: {text}")
    error.learners_line, error.not_started = line[:200], told.get("not started") is True
    return error


def readable(text: str) -> str:
    """One line without characters that act on a terminal or turn the direction of writing."""
    return "".join(c if c.isprintable() else " " for c in text[:600])


def protection(walls: list[str]) -> str:
    """What stands between the learners' code and this machine, in words."""
    return PROTECTED if walls else LIMITED
