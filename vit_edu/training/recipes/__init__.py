"""What `vit-edu train` can run. A recipe is a module: its docstring says what it reaches, on what, in how long.

Each has SIZES, by name ("smoke" for a test, "laptop" for two cores and less than an hour, "gpu"), and
run(size, seed, folder, fabric) -> figures.
"""

from importlib import import_module

RECIPES = ("supervised", "mae", "dino", "clip", "laboratory")


def recipe(name: str):
    """The module. Raises ValueError for an unknown name."""
    if name not in RECIPES:
        raise ValueError(f"the recipe {name!r} found, wanted one of {', '.join(RECIPES)}; see vit-edu train --help.")
    return import_module(f"vit_edu.training.recipes.{name}")
