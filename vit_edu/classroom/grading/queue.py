"""A class's notebooks through the graders: side by side, kept one by one, taken up again where it was stopped."""

import atexit
import json
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from tqdm.auto import tqdm

from vit_edu.classroom.grading import limits
from vit_edu.classroom.grading.mark import grade
from vit_edu.classroom.grading.sandbox import Sandbox, protection, walls
from vit_edu.classroom.grading.submission import LARGEST

IN_FLIGHT, BYTES = 64, 200_000_000  # notebooks that are read ahead, and how large they may be together
SUFFIX = ".ipynb"
DEATHS = 3  # of graders, before it is given up
_own = threading.local()


@dataclass(frozen=True)
class Work:
    """One notebook that waits: whose it is, its file, where its marks go, and which exercises (none: all)."""

    learner: str
    path: Path
    target: Path
    only: tuple[str, ...]


def find(paths: Iterable[Path]) -> list[tuple[str, Path]]:
    """(learner, notebook), by learner: of a folder everything in it, named by what tells its notebooks apart.

    Raises FileNotFoundError for a path that is not there, ValueError where no notebook is found.
    """
    found = []
    for path in map(Path.absolute, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there.")
        inside = [p for p in sorted(path.rglob("*")) if p.suffix.lower() == SUFFIX] if path.is_dir() else [path]
        found += [p for p in inside if p.is_file() and (p == path or not _hidden(p.relative_to(path)))]
    found = list(dict.fromkeys(found))
    if not found:
        raise ValueError("No notebook (*.ipynb) was found; name a folder or files.")
    top = Path(os.path.commonpath([p.parent for p in found]))
    names = [p.relative_to(top).with_name(p.name.removesuffix(SUFFIX) or p.name).parts for p in found]
    while len(names) > 1 and len({parts[-1] for parts in names}) == 1 and all(len(parts) > 1 for parts in names):
        names = [parts[:-1] for parts in names]  # alice/02/02.ipynb, bob/02/02.ipynb: the folder is the name
    return sorted(zip((_readable("/".join(parts)) for parts in names), found, strict=True))


def _readable(name: str) -> str:
    """A file's name may hold bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def waiting(found: list[tuple[str, Path]], folder: Path, exercises: Iterable[str], only: tuple[str, ...]) -> list[Work]:
    """Those that are not graded yet, or have changed since; the others too, for the exercises in `only`."""
    works = []
    for learner, path in found:
        target = folder / f"{sha256(learner.encode()).hexdigest()[:16]}.json"
        kept = _kept(target)
        known = [mark["exercise"] for mark in kept.get("marks", ())] == list(exercises)
        if not known or kept["sha256"] != sha256(_content(path)).hexdigest():
            works.append(Work(learner, path, target, ()))
        elif only:
            works.append(Work(learner, path, target, only))
    return works


def _content(path: Path) -> bytes:
    """A file's bytes: one more than a notebook may have at most, and none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError:
        return b""


def _kept(target: Path) -> dict:
    """The marks that are there already; {} for none, or half a file."""
    try:
        return json.loads(target.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def results(found: list[tuple[str, Path]], folder: Path) -> list[dict]:
    """The marks of all, by learner."""
    kept = {result["learner"]: result for result in map(_kept, sorted(folder.glob("*.json"))) if result}
    return [kept[learner] for learner, _ in found if learner in kept]


def keep(work: Work, result: dict) -> None:
    """One file, whole or not at all; of some exercises only, the others' marks stay."""
    if work.only:
        new = {mark["exercise"]: mark for mark in result["marks"]}
        result["marks"] = [new.get(mark["exercise"], mark) for mark in _kept(work.target)["marks"]]
    draft = work.target.with_suffix(".new")
    draft.write_text(json.dumps({"learner": work.learner, **result}), encoding="utf-8")
    os.replace(draft, work.target)


def sandbox() -> Sandbox:
    """This thread's own, with the walls that there are."""
    if not hasattr(_own, "sandbox"):
        torch.set_num_threads(1)
        _own.sandbox = Sandbox(walls())
        atexit.register(_own.sandbox.stop)
    return _own.sandbox


def graded(content: bytes, answers: dict[str, str], only: tuple[str, ...]) -> dict:
    """What a worker does: the marks of one notebook, and under what protection."""
    mine = sandbox()
    return grade(content, answers, mine, only) | {"protection": protection(mine.walls)}


def run(works: list[Work], answers: dict[str, str], workers: int, dask: str | None) -> None:
    """Grades and keeps every one of `works`. A grader that dies costs nothing but the time of its notebooks.

    Raises SandboxError where no sandbox starts, RuntimeError when the graders die again and again.
    """
    left = dict.fromkeys(works)
    with tqdm(total=len(left), desc="grading", unit="notebook", smoothing=0, disable=not left) as bar:
        for _ in range(DEATHS):
            if not left:
                return
            with suppress(BrokenProcessPool), _executor(workers, dask) as executor:
                for work, result in _finished(executor, tuple(left), answers):
                    keep(work, result)
                    del left[work]
                    bar.update()
    if left:
        raise RuntimeError(
            f"The graders died {DEATHS} times; {len(left)} notebooks are left, {next(iter(left)).path} first."
        )


def _finished(executor: Executor, works: tuple[Work, ...], answers: dict[str, str]) -> Iterator[tuple[Work, dict]]:
    """As they are done; only so much is read ahead that memory does not grow with the class."""
    futures: dict[Future, tuple[Work, int]] = {}
    rest = list(reversed(works))
    while rest or futures:
        while rest and len(futures) < IN_FLIGHT and sum(size for _, size in futures.values()) < BYTES:
            work = rest.pop()
            content = _content(work.path)
            futures[executor.submit(graded, content, answers, work.only)] = work, len(content)
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            yield futures.pop(future)[0], future.result()


@contextmanager
def _executor(workers: int, dask: str | None) -> Iterator[Executor]:
    """Processes of this machine, or the workers of a Dask scheduler. BrokenProcessPool is raised where they die.

    Dask gives the notebook of a worker that dies to another one; after some deaths it takes the notebook for the cause.
    """
    if dask:
        try:
            from distributed import Client, KilledWorker
        except ImportError:
            raise ValueError("--dask needs Dask: pip install distributed.") from None
        with Client(dask, timeout="10s") as client:
            try:
                yield client.get_executor(pure=False)
            except KilledWorker as error:
                raise BrokenProcessPool(str(error)) from None
    else:
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=limits.end_with_parent)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
