"""A class's notebooks through the graders: side by side, kept one by one, taken up again where it was stopped."""

import atexit
import itertools
import json
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from tqdm.auto import tqdm

from vit_edu.classroom.grading.mark import grade
from vit_edu.classroom.grading.sandbox import Sandbox, protection, walls

IN_FLIGHT = 64  # notebooks
_own = threading.local()


@dataclass(frozen=True)
class Work:
    """One notebook that waits: whose it is, its file, and where its marks go."""

    learner: str
    path: Path
    target: Path


def find(paths: Iterable[Path]) -> list[tuple[str, Path]]:
    """(learner, notebook), by learner: of a folder everything in it, named by what tells its notebooks apart.

    Raises FileNotFoundError for a path that is not there, ValueError where no notebook is found.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there.")
        inside = (
            sorted(p for p in path.rglob("*.ipynb") if not _hidden(p.relative_to(path))) if path.is_dir() else [path]
        )
        found += inside
    found = list(dict.fromkeys(p.resolve() for p in found))
    if not found:
        raise ValueError("No notebook (*.ipynb) was found; name a folder or files.")
    top = Path(os.path.commonpath([p.parent for p in found]))
    names = [p.relative_to(top).with_suffix("").parts for p in found]
    while len(names) > 1 and len({parts[-1] for parts in names}) == 1 and all(len(parts) > 1 for parts in names):
        names = [parts[:-1] for parts in names]  # alice/02/02.ipynb, bob/02/02.ipynb: the folder is the name
    return sorted(zip(("/".join(parts) for parts in names), found, strict=True))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def waiting(found: list[tuple[str, Path]], folder: Path, only: tuple[str, ...]) -> list[Work]:
    """Those that are not graded yet, or have changed since; with `only` all of them."""
    works = []
    for learner, path in found:
        target = folder / f"{sha256(learner.encode()).hexdigest()[:16]}.json"
        if only or _kept(target).get("sha256") != sha256(path.read_bytes()).hexdigest():
            works.append(Work(learner, path, target))
    return works


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


def keep(work: Work, result: dict, only: tuple[str, ...]) -> None:
    """One file, whole or not at all; of `only` some exercises, the others' marks stay."""
    if only:
        old = {mark["exercise"]: mark for mark in _kept(work.target).get("marks", ())}
        new = {mark["exercise"]: mark for mark in result["marks"]}
        result = {**result, "marks": list((old | new).values())}
    draft = work.target.with_suffix(".new")
    draft.write_text(json.dumps({"learner": work.learner, "file": str(work.path), **result}), encoding="utf-8")
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


def run(works: list[Work], answers: dict[str, str], only: tuple[str, ...], workers: int, dask: str | None) -> None:
    """Grades and keeps every one of `works`. A grader that dies costs nothing but the time of its notebooks.

    Raises RuntimeError when the graders die again and again.
    """
    if not works:
        return
    left = list(works)
    bar = tqdm(total=len(left), desc="grading", unit="notebook", smoothing=0)
    for _ in range(3):
        executor = _executor(workers, dask)
        try:
            for work, result in _finished(executor, tuple(left), answers, only):
                keep(work, result, only)
                left.remove(work)
                bar.update()
        except BrokenProcessPool:
            continue
        finally:
            executor.shutdown(cancel_futures=True)
        bar.close()
        return
    raise RuntimeError(f"The graders died three times; {len(left)} notebooks are left, {left[0].path} among them.")


def _finished(executor: Executor, works: tuple[Work, ...], answers: dict, only: tuple) -> Iterator[tuple[Work, dict]]:
    """As they are done; only so many notebooks are read at a time that memory does not grow with the class."""
    futures, rest = {}, iter(works)
    while True:
        for work in itertools.islice(rest, IN_FLIGHT - len(futures)):
            futures[executor.submit(graded, work.path.read_bytes(), answers, only)] = work
        if not futures:
            return
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            yield futures.pop(future), future.result()


def _executor(workers: int, dask: str | None) -> Executor:
    """Processes of this machine, or the workers of a Dask scheduler."""
    if dask:
        from distributed import Client

        return Client(dask).get_executor(retries=3)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
