"""What a run gave, in data/records/: nothing is quoted in a lesson or in README that does not stand there."""

import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock

from vit_edu import resources


def surroundings(device: torch.device | str = "cpu") -> dict:
    """Where and with what a run was made: date, commit, device, versions."""
    gpu = torch.device(device).type == "cuda"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "device": torch.cuda.get_device_name(device) if gpu else processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "lightning-fabric")},
    }


def commit(*paths: str) -> str:
    """HEAD of the checkout, and whether the package or these paths differ from it; "" where there is no checkout."""

    def git(*words: str) -> str:
        folder = Path(__file__).resolve().parents[2]
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "vit_edu", *paths)
        return git("rev-parse", "--short", "HEAD") + (" and changes" if changed else "")
    except OSError:
        return ""


def processor() -> str:
    """The CPU's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return re.sub(r"\s+", " ", name)


@contextmanager
def timed(figures: dict, name: str):
    """Seconds of what is done inside, into figures[name]."""
    start = time.monotonic()
    yield
    figures[name] = round(time.monotonic() - start, 1)


def folder() -> Path:
    """data/records of the checkout, or of the installed package."""
    return resources.folder("data") / "records"


def add(recipe: str, run: dict, where: Path | None = None) -> Path:
    """Put a run into where/recipe.json, in the place of an earlier one of the same size and seed; returns the path."""
    path = (where or folder()) / f"{recipe}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
        same = (run["size"], run["seed"])
        runs = [other for other in runs if (other["size"], other["seed"]) != same] + [run]
        runs.sort(key=lambda other: (other["size"], other["seed"]))
        write(path, {"recipe": recipe, "runs": runs})
    return path


def write(path: Path, content: dict) -> None:
    """A record's file, whole or not at all: it is written beside the old one and then takes its place."""
    draft = path.with_suffix(".new")
    try:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def read(recipe: str, size: str = "laptop") -> list[dict]:
    """The runs of one size, by seed. Raises FileNotFoundError where there is no record of the recipe."""
    runs = json.loads((folder() / f"{recipe}.json").read_text(encoding="utf-8"))["runs"]
    return [run for run in runs if run["size"] == size]


def values(recipe: str, figure: str, size: str = "laptop") -> list[float]:
    """One figure of every run, by seed: values("mae", "fashion/test/probe"). Raises KeyError for an unknown figure."""
    return [run["figures"][figure] for run in read(recipe, size)]


def spread(numbers: list[float]) -> str:
    """Median, lowest and highest as README and the lessons write them, in percent: "53.4 (52.9–53.6)"."""
    low, middle, high = (f"{100 * x:.1f}" for x in (min(numbers), statistics.median(numbers), max(numbers)))
    return f"{middle} ({low}–{high})"
