"""Run code that may do anything: in a thread of its own, with a time limit; what it prints and calls is noted."""

import contextlib
import ctypes
import inspect
import io
import random
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

TIME_LIMIT = 4.0  # seconds of work for all cases together; a right answer needs milliseconds
CLOCKS = hasattr(time, "pthread_getcpuclockid")  # whether the system tells how long a thread has worked
# A busy machine is not the answer's fault; sleeping code ends too: so many times TIME_LIMIT by the clock.
WAITING = 3 if CLOCKS else 1
IMPORT_LIMIT = 60.0  # torch imports some parts of itself on first use: stopped in the middle they stay broken
LONGEST_PRINT = 20_000  # characters
# Other libraries of finished models: whatever an answer calls in them is not its own work.
LIBRARIES = ("timm.", "transformers.", "torchvision.models.", "torchvision.ops.", "vit_pytorch.", "peft.")


class Stopped(BaseException):
    """Raised inside code that did not return in time; no `except Exception` catches it."""


@dataclass
class Run:
    """What became of guarded code."""

    timed_out: bool = False
    left_running: bool = False
    ready_made: set[str] = field(default_factory=set)
    printed: str = ""
    crash: BaseException | None = None


class Printed(io.TextIOBase):
    """Takes what is printed, and forgets what is more than a report can show."""

    def __init__(self):
        self.text, self.deaf = "", False

    def write(self, text: str) -> int:
        if len(self.text) < LONGEST_PRINT and not self.deaf:
            self.text += text.encode("utf-8", "replace").decode()[:LONGEST_PRINT]
        return len(text)

    def close(self) -> None:
        """Stays open: a learner's `sys.stdout.close()` is none of ours."""


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """What guarded code prints meanwhile is not noted."""
    printed = sys.stdout if isinstance(sys.stdout, Printed) else Printed()
    printed.deaf = True
    try:
        yield
    finally:
        printed.deaf = False


class ReadyMade(TorchFunctionMode):
    """Notices calls of the functions that are the answer already, by whatever name they are called."""

    def __init__(self, answers: tuple):
        super().__init__()
        self.codes, self.functions, self.seen = {}, {}, set()
        for answer in answers:
            name = getattr(answer, "__qualname__", getattr(answer, "__name__", str(answer)))
            name = name.removeprefix("_VariableFunctionsClass.")  # what torch calls itself
            function = answer.forward if isinstance(answer, type) else answer
            self.functions[function] = name
            # torch's decorators share one wrapper's code among many functions
            if code := getattr(inspect.unwrap(function), "__code__", None):
                self.codes[code] = name
        # Torch has its own functions under other names as well: torch._NAME_math, torch.ops.aten.NAME.
        self.stems = {f.__name__: name for f, name in self.functions.items() if not hasattr(f, "__code__")}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "").lstrip("_")
        known = [self.functions[function]] if function in self.functions else []
        self.seen.update(known or [self.stems[stem] for stem in self.stems if name.startswith(stem)])
        return function(*args, **(kwargs or {}))

    def profile(self, frame, event, argument):
        """For `sys.setprofile`: Python functions that never pass through torch's dispatch."""
        if event != "call":
            return
        if frame.f_code in self.codes:
            self.seen.add(self.codes[frame.f_code])
        elif (module := str(frame.f_globals.get("__name__"))).startswith(LIBRARIES) and not importing(frame):
            self.seen.add(f"{module}.{frame.f_code.co_name}")


@contextlib.contextmanager
def left_as_it_was(printed: Printed) -> Iterator[None]:
    """Random numbers, default dtype, warnings and stdout are afterwards as before, also when the learner interrupts.

    stdout is meanwhile `printed`. It is set and reset here, in the thread that waits: code that is left running ends
    at any time, and must not put back then what stdout was once.
    """
    dtype, stdout, python, numpy = torch.get_default_dtype(), sys.stdout, random.getstate(), np.random.get_state()
    sys.stdout = printed
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they would point into the check
            yield
    finally:
        torch.set_default_dtype(dtype)
        sys.stdout = stdout
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def stopped_in_silence() -> Iterator[None]:
    """A Stopped that arrives while an object is deleted can only be told to `sys.unraisablehook`, which prints it."""
    told = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if lost.exc_type is Stopped else told(lost)
    try:
        yield
    finally:
        sys.unraisablehook = told


@contextlib.contextmanager
def interrupts_kept() -> Iterator[threading.Event]:
    """An interrupt sets the event, and is raised at the end: raised at once, it is lost when a weak reference dies."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # no other thread gets an interrupt
        yield pressed
        return
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)
    if pressed.is_set():
        raise KeyboardInterrupt


def guarded(work: Callable[[Printed], None], ready_made: tuple, seconds: float | None = None) -> Run:
    """Runs `work`, which gets what is printed, in a thread of its own, and stops it.

    That is after `seconds`; without these after TIME_LIMIT seconds of the thread's own work.
    """
    run, watch, printed = Run(), ReadyMade(ready_made), Printed()
    clocks: list[int] = []
    done = threading.Event()

    def body():
        if CLOCKS:
            clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
        with contextlib.suppress(Stopped):
            sys.setprofile(watch.profile)
            try:
                with watch, torch.enable_grad():
                    work(printed)
            except BaseException as error:  # what an answer raises is caught where it runs; this is all that is left
                run.crash = error
            finally:
                sys.setprofile(None)
                done.set()

    thread = threading.Thread(target=body, daemon=True)
    with left_as_it_was(printed), stopped_in_silence(), interrupts_kept() as pressed:
        thread.start()
        deadline = time.monotonic() + (seconds or TIME_LIMIT * WAITING)
        while not done.wait(0.1) and not pressed.is_set():
            if time.monotonic() > deadline or worked(clocks) > (seconds or TIME_LIMIT):
                break
        deadline = time.monotonic() + IMPORT_LIMIT
        while (
            importing(sys._current_frames().get(thread.ident)) and time.monotonic() < deadline and not pressed.is_set()
        ):
            done.wait(0.1)
        run.timed_out = not done.is_set()
        run.left_running = not stop(thread, done)
    run.ready_made, run.printed = watch.seen, printed.text
    return run


def worked(clocks: list[int]) -> float:
    """Seconds that the thread of this clock has worked; 0 where none is known, or when it has just ended."""
    with contextlib.suppress(OSError):
        return sum(map(time.clock_gettime, clocks))
    return 0.0


def importing(frame: types.FrameType | None) -> bool:
    """Whether this frame, the current one of a thread, is inside an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def stop(thread: threading.Thread, done: threading.Event) -> bool:
    """Raises Stopped inside `thread` until it is done. Code that waits in C is left behind as a daemon: False."""
    deadline = time.monotonic() + 1.0
    while not done.is_set() and time.monotonic() < deadline:
        raise_in(thread, Stopped)
        done.wait(0.01)
    if not done.is_set() and sys.version_info[:2] == (3, 11):
        # CPython 3.11 hangs when a thread profiles while an exception waits for another thread (3.10, 3.12 and 3.13 do
        # not). Take the exception back, and let one arrive here, which clears the interpreter's flag.
        raise_in(thread, None)
        with contextlib.suppress(Stopped):
            raise_in(threading.current_thread(), Stopped)
            time.sleep(0.01)
    return done.is_set()


def raise_in(thread: threading.Thread, exception: type[BaseException] | None) -> None:
    """Asks CPython to raise `exception` in `thread` at its next bytecode; None takes it back."""
    given = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), given)
