"""vit-edu: learn vision transformers by building them. See README.md for the course."""

from importlib import import_module
from pkgutil import iter_modules

__version__ = "0.1.0"

# These and the submodules are imported on use, so that `import vit_edu` costs little more than torch and training runs
# without Jupyter.
_FACE = {
    "create_model": "vit_edu.models",
    "list_models": "vit_edu.models",
    "load_dataset": "vit_edu.datasets",
    "load_weights": "vit_edu.weights",
    "pretrained": "vit_edu.weights",
    "check": "vit_edu.exercises",
    "mine": "vit_edu.exercises",
    "target": "vit_edu.exercises",
    "hint": "vit_edu.exercises",
}

__all__ = sorted(_FACE)


def __getattr__(name: str):
    if name in _FACE:
        return getattr(import_module(_FACE[name]), name)
    if name in _submodules():
        return import_module(f"vit_edu.{name}")
    raise AttributeError(f"module 'vit_edu' has no attribute {name!r}; its public names are {', '.join(__dir__())}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_submodules(), "__version__"])


def _submodules() -> list[str]:
    return [module.name for module in iter_modules(__path__)]
