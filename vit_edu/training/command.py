"""`vit-edu train`: runs a recipe and writes its record."""

import shlex
from argparse import Namespace
from pathlib import Path

import torch

from vit_edu.datasets import DatasetError

from . import records
from .loop import new_fabric
from .recipes import RECIPES, recipe


def main(options: Namespace) -> int:
    """Returns the exit code: 0, 2 with a sentence for what does not fit, or 130 after Ctrl-C."""
    if options.recipe is None:
        for name in RECIPES:
            print(f"{name:12}{recipe(name).__doc__.splitlines()[0]}")
        return 0
    try:
        module = recipe(options.recipe)
        size = options.size or ("gpu" if torch.cuda.is_available() and not options.cpu else "laptop")
        if size not in module.SIZES:
            raise ValueError(f"--size {size} found, wanted one of {', '.join(module.SIZES)}.")
        fabric = new_fabric("cpu" if options.cpu else "auto")
    except ValueError as error:
        print(error)
        return 2
    folder = Path(options.out or Path("work") / "train" / f"{options.recipe}-{size}-{options.seed}")
    run = {
        "size": size,
        "seed": options.seed,
        "command": shlex.join(["vit-edu", "train", options.recipe, "--size", size, "--seed", str(options.seed)]),
        **records.surroundings(fabric.device),
        "processes": fabric.world_size,
        "resumed": any(folder.rglob("run.pt")),  # then `seconds` are those of the last call
    }
    try:
        with records.timed(run, "seconds"):
            run |= module.run(module.SIZES[size], options.seed, folder, fabric)
    except KeyboardInterrupt:
        print("Stopped, and nothing was recorded; the same command goes on where it was.")
        return 130
    except (ValueError, OSError, FloatingPointError, DatasetError) as error:
        print(error)
        return 2
    if fabric.is_global_zero:
        path = records.add(options.recipe, run, options.records and Path(options.records))
        for name, value in run["figures"].items():
            print(f"{name:44}{value:8.3f}")
        print(f"{run['seconds']:.0f} s; the record is in {path}, the weights in {folder}")
    return 0
