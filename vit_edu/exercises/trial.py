"""Run an answer on one case after another, whatever it does: raise, print, change its inputs, never return."""

import contextlib
import ctypes
import io
import linecache
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

TIME_LIMIT = 4.0  # seconds for all cases together; a right answer needs milliseconds
LONGEST = 10_000  # items of a list, bits of a number: more is no answer to anything here
OWN_FILES = str(Path(__file__).resolve().parent)


class AnswerError(Exception):
    """An answer that cannot be run as the exercise asks; the message is a sentence for the learner."""


class Stopped(BaseException):
    """Raised inside an answer that did not return in time; no `except Exception` catches it."""


@dataclass
class Outcome:
    """What one answer did on one case."""

    results: tuple = ()
    gradients: tuple[Tensor, ...] | None = None  # None: no result depends on the inputs
    error: BaseException | None = None
    where: str = ""  # the learner's line that raised
    changed_inputs: bool = False
    same_twice: bool = True


@dataclass
class Trial:
    """What an answer did on all cases, as far as it came."""

    outcomes: list[Outcome] = field(default_factory=list)
    timed_out: bool = False
    left_running: bool = False
    ready_made: set[str] = field(default_factory=set)
    printed: str = ""


def map_tensors(function: Callable[[Tensor], object], tree):
    """`tree` (nested tuples, lists, dicts) with `function` applied to each floating-point tensor."""
    if isinstance(tree, Tensor):
        return function(tree) if tree.is_floating_point() else tree
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_tensors(function, item) for item in tree)
    if isinstance(tree, dict):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    return tree


def float_tensors(tree) -> list[Tensor]:
    """All floating-point tensors of a nested structure, in order."""
    found: list[Tensor] = []
    map_tensors(found.append, tree)
    return found


def attempt(exercise, answer: Callable, case: tuple, call: Callable) -> Outcome:
    """One answer on one case: results, gradients of a fixed random projection, and what it did to its inputs."""
    outcome, leaves = Outcome(), []

    def watched(tensor: Tensor) -> Tensor:
        leaves.append(tensor.clone().requires_grad_())
        return leaves[-1].clone()  # not a leaf, so that a change in place reaches our comparison and not autograd's

    try:
        given = map_tensors(Tensor.clone, case)
        outcome.results = as_results(call(answer, *given), exercise)
        outcome.changed_inputs = not alike(given, case)
        again = as_results(call(answer, *map_tensors(watched, case)), exercise)
        outcome.same_twice = alike(outcome.results, detached(again))
        outcome.gradients = project(again, exercise, leaves)
    except Stopped:
        raise
    except BaseException as error:  # SystemExit too: nothing that an answer raises may end the notebook
        outcome.error, outcome.where = error, learners_line(error)
    return outcome


def results_of(exercise, answer: Callable, case: tuple) -> tuple:
    """Only the results of one of our own answers; none where it does not run."""
    with contextlib.suppress(Exception):
        return as_results(answer(*map_tensors(Tensor.clone, case)), exercise)
    return ()


def as_results(value, exercise) -> tuple:
    """The results of an answer as a tuple, whether it has one or several; a wrong number of them is kept as it is."""
    if exercise.single:
        return (plain(value),)
    if type(value) is Tensor and value.ndim and len(value) == len(exercise.returns):
        return value.unbind(0)  # stacked results unpack as a tuple does
    return tuple(map(plain, value if isinstance(value, (tuple, list)) else [value]))


def plain(value):
    """A value of our own kinds as it is; of anything else, which may answer any comparison, only the type."""
    if type(value) in (tuple, list) and len(value) <= LONGEST:
        return type(value)(map(plain, value))
    if type(value) in (Tensor, nn.Parameter):
        return value if value.layout == torch.strided and not value.is_nested else type(value)
    if type(value) is int:
        return value if value.bit_length() < LONGEST else type(value)
    return value if type(value) in (float, bool, str, type(None)) else type(value)


def project(results: tuple, exercise, leaves: list[Tensor]) -> tuple[Tensor, ...] | None:
    """Gradients of a random projection of the results; the same projection whenever the shapes are the same."""
    total, generator = 0.0, torch.Generator().manual_seed(0)
    for i, result in enumerate(results):
        observed = i < len(exercise.returns) and exercise.returns[i] in exercise.observed
        if isinstance(result, Tensor) and result.requires_grad and not (observed or result.is_meta):
            weight = torch.randn(result.shape, generator=generator, dtype=torch.float64)
            total = total + (result * weight.to(result)).sum()
    if not leaves or not isinstance(total, Tensor):
        return None
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return tuple(torch.zeros_like(x) if g is None else g.detach() for g, x in zip(found, leaves, strict=True))


def detached(tree):
    """The same structure without autograd's graph."""
    return map_tensors(Tensor.detach, tree)


def alike(a, b) -> bool:
    """Whether two results are the same in type, shape and value (NaN equals NaN).

    Tensors to 1e-6 of the largest value in float64, so that a √d rounded to float32 passes; to 1e-4 in less.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.device != b.device or a.is_floating_point() != b.is_floating_point():
            return False
        if not a.is_floating_point():
            return torch.equal(a, b)
        if a.is_meta:
            return True  # shapes without numbers
        low = torch.promote_types(a.dtype, b.dtype) != torch.float64 or a.dtype != b.dtype
        a, b = a.detach().double(), b.detach().double()
        return bool(close(a, b, 1e-4 if low else 1e-6).all())
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b, strict=True))
    if type(a) is float and type(b) is float:
        return abs(a - b) <= 1e-9 * max(1.0, abs(b)) or (a != a and b != b)
    return type(a) is type(b) and not isinstance(a, Tensor) and bool(a == b)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Element by element whether float64 `a` is `b` to `tolerance` of b's largest value; NaN equals NaN."""
    finite = b[b.isfinite()]
    scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    return torch.isclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True)


def message(error: BaseException) -> str:
    """Type and text of an exception, whatever its own __str__ does."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__} (it has no text that can be shown)"


def learners_line(error: BaseException) -> str:
    """The last line of the learner's own code in the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    packages = str(Path(torch.__file__).parent.parent)
    for frame in reversed(frames):
        if not frame.filename.startswith((OWN_FILES, packages)):
            return f"line {frame.lineno}: {frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()}"
    return ""


class ReadyMade(TorchFunctionMode):
    """Notices calls of the functions that are the answer already, by whatever name they are called."""

    def __init__(self, answers: tuple):
        super().__init__()
        self.codes, self.builtins, self.seen = {}, {}, set()
        for answer in answers:
            name = getattr(answer, "__qualname__", getattr(answer, "__name__", str(answer)))
            function = answer.forward if isinstance(answer, type) else answer
            self.builtins[function] = name
            if code := getattr(function, "__code__", None):
                self.codes[code] = name

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.builtins:
            self.seen.add(self.builtins[function])
        return function(*args, **(kwargs or {}))

    def profile(self, frame, event, argument):
        """For `sys.setprofile`: Python functions that never pass through torch's dispatch."""
        if event == "call" and frame.f_code in self.codes:
            self.seen.add(self.codes[frame.f_code])


def guarded(work: Callable[[], None], ready_made: tuple, trial: Trial) -> None:
    """Runs `work` in a thread of its own and stops it after TIME_LIMIT. Fills in `trial`."""
    watch, printed, crash = ReadyMade(ready_made), io.StringIO(), []

    def body():
        with contextlib.suppress(Stopped):
            sys.setprofile(watch.profile)
            try:
                with watch, torch.enable_grad(), contextlib.redirect_stdout(printed):
                    work()
            except Exception as error:  # of the check itself: an answer's own are caught where it runs
                crash.append(error)
            finally:
                sys.setprofile(None)

    thread = threading.Thread(target=body, daemon=True)
    default_dtype, stdout = torch.get_default_dtype(), sys.stdout
    with torch.random.fork_rng(devices=[]):  # the check leaves torch's random numbers alone
        thread.start()
        try:
            thread.join(TIME_LIMIT)
        finally:  # also when the learner interrupts
            trial.timed_out = thread.is_alive()
            trial.left_running = not stop(thread)
            torch.set_default_dtype(default_dtype)
            sys.stdout = stdout
    if crash:
        raise crash[0]
    trial.ready_made |= watch.seen
    trial.printed += printed.getvalue()


def stop(thread: threading.Thread) -> bool:
    """Raises Stopped inside `thread` until it ends. Code that waits in C is left behind as a daemon: False."""
    deadline = time.monotonic() + 1.0
    while thread.is_alive() and time.monotonic() < deadline:
        raise_in(thread, Stopped)
        thread.join(0.01)
    if thread.is_alive() and sys.version_info[:2] == (3, 11):
        # CPython 3.11 hangs when a thread profiles while an exception waits for another thread (3.10, 3.12 and 3.13 do
        # not). Take the exception back, and let one arrive here, which clears the interpreter's flag.
        raise_in(thread, None)
        with contextlib.suppress(Stopped):
            raise_in(threading.current_thread(), Stopped)
            time.sleep(0.01)
    return not thread.is_alive()


def raise_in(thread: threading.Thread, exception: type[BaseException] | None) -> None:
    """Asks CPython to raise `exception` in `thread` at its next bytecode; None takes it back."""
    given = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), given)


def try_answer(exercise, mine: Callable, cases: list[tuple]) -> Trial:
    """The learner's answer on every case, under guard."""
    trial = Trial()

    def work():
        for case in cases:
            trial.outcomes.append(attempt(exercise, mine, case, exercise.call))

    guarded(work, exercise.ready_made, trial)
    return trial
