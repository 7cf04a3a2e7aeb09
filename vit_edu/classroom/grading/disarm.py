"""The ready-made answers of an exercise are taken out of a process before a learner's code comes into it.

A watch inside the same process could be switched off. What is not there cannot be called, under whatever name.
"""

import os
import re
import sys

import torch

from vit_edu import resources
from vit_edu.exercises.core import Exercise

KEYS = ("CPU", "AutogradCPU", "FuncTorchBatched", "Functionalize")  # the ways on which torch comes to a kernel
SOURCES = tuple(f"{resources.PACKAGE / folder}{os.sep}" for folder in ("layers", "exercises"))
_kept = []  # an override lasts as long as its library


class ReadyMade(Exception):
    """The answer of this exercise was called, ready-made; the message is its name."""


def disarm(exercise: Exercise) -> None:
    """Whoever calls a ready-made answer of `exercise` from here on gets ReadyMade raised. There is no way back."""
    stems = set()
    for answer in exercise.ready_made:
        name = getattr(answer, "__qualname__", answer.__name__)
        function = answer.forward if isinstance(answer, type) else answer
        while function:  # a decorated one is reached inside its decoration, too
            if hasattr(function, "__code__"):
                taken = _raises(name, len(function.__code__.co_freevars))
                function.__code__, function.__kwdefaults__ = taken.__code__, None
            function = getattr(function, "__wrapped__", None)
        if (getattr(answer, "__module__", "") or "torch").startswith("torch"):
            stems.add(answer.__name__.removesuffix("_forward"))
    exercise.mistakes.clear()
    _override(stems)
    sys.addaudithook(_closed)


def _raises(name: str, outer: int = 0):
    """A function that needs nothing of the module in which it will stand; it knows of `outer` names around it, since
    code only takes the place of code that knows as many."""
    known, names = ", ".join(f"name{i}" for i in range(outer)), {}
    code = f"""
def make({known}):
    def taken(*_, **__):
        from {__name__} import ReadyMade
        raise ReadyMade({name!r})
        ({known})
    return taken
"""
    exec(code, names)
    return names["make"](*range(outer))


def _override(stems: set[str]) -> None:
    """Torch's own kernels, under all their names: scaled_dot_product_attention is _scaled_dot_product_flash_attention,
    too."""
    library = torch.library.Library("aten", "IMPL")
    for stem in stems:
        for operator in torch._C._dispatch_get_all_op_names():
            space, _, name = operator.partition("::")
            if space == "aten" and re.search(".*".join(stem.split("_")), name):
                for key in KEYS:
                    library.impl(name, _raises(stem), key)
    _kept.append(library)


def _closed(event: str, arguments: tuple) -> None:
    """The kit's source of the answers is no file of the learner's."""
    named = event == "open" and isinstance(arguments[0], (str, bytes))
    if named and os.path.realpath(os.fsdecode(arguments[0])).startswith(SOURCES):
        raise PermissionError("The kit's answers are closed while yours is graded.")
