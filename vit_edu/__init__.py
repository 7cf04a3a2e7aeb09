"""vit-edu: learn vision transformers by building them. See README.md for the course."""

from importlib import import_module

__version__ = "0.1.0"

# Imported on use, so that `import vit_edu` costs little more than torch and training runs without Jupyter.
_FACE = {
    "load_dataset": "vit_edu.datasets",
    "check": "vit_edu.exercises",
    "hint": "vit_edu.exercises",
}

__all__ = sorted(_FACE)


def __getattr__(name: str):
    if name not in _FACE:
        raise AttributeError(f"module 'vit_edu' has no attribute {name!r}; its public names are {', '.join(__all__)}")
    return getattr(import_module(_FACE[name]), name)


def __dir__() -> list[str]:
    return __all__
