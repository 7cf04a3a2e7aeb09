"""Weights from elsewhere into our models: everything is compared first, then everything is copied."""

import math
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from vit_edu import layers
from vit_edu.layers.checks import check_choice, complaint, whole

from .names import HEADS, LEFT_OUT, NOT_THESE, TABLES, Table, renamed, theirs

RESIZING = {  # how a source resizes positions; timm bicubic with antialias
    "torchvision": {"antialias": False, "align_corners": True},
    "transformers": {"antialias": False},
    "vit_pytorch": {"antialias": False, "mode": "bilinear"},
}


@torch.no_grad()
def load_weights(
    model: nn.Module,
    state_dict: Mapping[str, Tensor] | str | os.PathLike,
    source: str = "timm",
    *,
    new_head: bool = False,
    resize_positions: bool | tuple[int, int] = False,
) -> nn.Module:
    """Copy the weights of another library's model of the same settings into ours; returns the model.

    `state_dict` is what their model.state_dict() gives, or the path of a .safetensors file or of a .pth that holds it.
    `source`: "timm" (also the authors of DeiT, Swin and MAE), "torchvision", "transformers" (files of any version),
    "vit_pytorch" (CCT, also its authors') or "vit_edu", our own names. All is copied or nothing: every parameter must
    have its value and every value its place, but for what ours has no part for by design (LEFT_OUT in names.py). The
    model's dtype and device stay.
    A hybrid's model.patch_embed.backbone takes torchvision's ResNet.

    `new_head=True` leaves the classifier as it is, for other classes. `resize_positions=True` interpolates position
    embeddings to the model's img_size as the source does it, and Swin's bias tables to its window_size as its authors
    do. Where their number is another than here they are taken for a square; else give the grid, or the window, of
    (rows, columns) that they were made for.
    Raises ValueError that lists what is missing, unexpected or of another shape, TypeError for other than tensors.
    """
    if not isinstance(model, nn.Module):
        found = f"a model of type {type(model).__name__}"
        raise complaint(found, "a model", "pass load_weights(model, weights)", TypeError)
    check_choice("source", source, list(TABLES))
    _check_grid(resize_positions)
    given = read(Path(state_dict)) if isinstance(state_dict, str | os.PathLike) else state_dict
    own = model.state_dict()
    _check_state_dict(given, own)
    if not _tables(model, source):
        nearest, key = _nearest_source(model, given, default="vit_edu"), (source, _family(model))
        remedy = NOT_THESE.get(key, f"give source={nearest!r}, if these are its names")
        raise complaint(f"{source} weights for a {type(model).__name__}", " or ".join(TABLES[source]), remedy)
    called = {renamed(name, source): name for name in given}  # a name as the tables have it -> as it was given
    table = max(_tables(model, source), key=lambda table: len(_places(own, table).keys() & called.keys()))
    _check_prefix(given, _places(own, table).keys(), source)
    kept = {there for name in HEADS for there in theirs(name, table)} if new_head else set()
    places = {there: place for there, place in _places(own, table).items() if there not in kept}
    values = {
        there: _fitted(given[called[there]].detach(), name, part, model, source, resize_positions)
        for there, (name, part) in places.items()
        if there in called
    }

    left_out = LEFT_OUT.get((source, _family(model)), r"(?!)").replace("OWN", "|".join(dict(model.named_children())))
    used = {called[there] for there in called if there in places or there in kept or re.search(left_out, there)}
    missing = [there for there in places if there not in called and not there.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in used]
    misshapen = [there for there, value in values.items() if _shape(value) != _shape(places[there][1])]
    if missing or unexpected or misshapen:
        shapes = [f"{called[n]} {_shape(given[called[n]])}, not {_shape(places[n][1])}" for n in misshapen]
        lists = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
        found = ", ".join(f"{len(names)} {what} ({_some(names)})" for what, names in lists.items() if names)
        differing = {renamed(name, source): "" for name in unexpected} | {there: places[there][0] for there in missing}
        remedy = _remedy(model, source, table, given, differing, [places[there][0] for there in misshapen])
        error = complaint(f"{source} weights with {found}", f"all of this {type(model).__name__} and no more", remedy)
        if hasattr(error, "add_note"):  # Python 3.11: the whole lists, below the sentence
            for what, names in lists.items():
                error.add_note(f"{what}: {', '.join(names) or 'nothing'}")
        raise error
    if any(x.is_meta for x in own.values()):
        raise complaint("a model on the meta device", "one with memory", "build it without torch.device('meta')")
    for there, value in values.items():
        places[there][1].copy_(value)  # into the model's dtype, on its device
    for name, value in own.items():
        if not theirs(name, table) and not (new_head and name in HEADS):
            value.zero_()
    return model


def read(path: Path) -> Mapping[str, Tensor]:
    """The tensors in a file; no code in it is run. Raises ValueError where it is broken or holds more than tensors."""
    with path.open("rb"):  # says by itself that there is no file, or none that may be read
        pass
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except MemoryError:
        raise
    except Exception as error:  # each kind of damage has its own
        remedy = "fetch it again, or have it saved as safetensors or by torch.save(model.state_dict(), path)"
        raise complaint(f"{path.name}, broken or with more in it,", "a file of tensors alone", remedy) from error


def _places(own: Mapping[str, Tensor], table: Table) -> dict[str, tuple[str, Tensor]]:
    """A name there -> our name and what it fills: a parameter, or a third of one where q, k and v stand apart."""
    places = {}
    for name, value in own.items():
        names = theirs(name, table)
        parts = value.chunk(len(names)) if len(names) > 1 else [value]
        places |= {there: (name, part) for there, part in zip(names, parts)}
    return places


def _fitted(
    value: Tensor, name: str, own: Tensor, model: nn.Module, source: str, resize: bool | tuple[int, int]
) -> Tensor:
    """The value with leading sizes of 1 where only they lack; resized where that is asked and its grid is another."""
    lead = own.shape[: max(0, own.ndim - value.ndim)]
    value = value.reshape(lead + value.shape) if lead.numel() == 1 else value
    parent = model.get_submodule(name.rpartition(".")[0])
    if name.endswith("relative_position_bias_table") and resize and value.ndim == 2:  # (rows * columns, h)
        new = tuple(2 * side - 1 for side in parent.window_size)
        square = new if len(value) == math.prod(new) else _square(len(value))
        old = square if resize is True else tuple(2 * side - 1 for side in resize)
        fits = old and old != new and len(value) == math.prod(old)
        return layers.resize_positions(value[None].to(own.dtype), old, new, antialias=False)[0] if fits else value
    grid = _grid(model, name)
    if not grid or value.ndim != 3 or len(value) != 1:
        return value
    N, P = value.shape[1], own.shape[1] - math.prod(grid)  # positions given; tokens before the patches
    square = grid if N - math.prod(grid) in (0, P) else _square(N - P) or _square(N)
    old = square if resize is True else tuple(resize or grid)
    if old and math.prod(old) == N:  # of the patches only: timm's no_embed_class
        value = torch.cat([value.new_zeros(1, P, value.shape[2]), value], dim=1)  # (1, N, C) -> (1, P+N, C)
    fits = old and old != grid and value.shape[1] == P + math.prod(old)
    return layers.resize_positions(value.to(own.dtype), old, grid, **RESIZING.get(source, {})) if fits else value


def _grid(model: nn.Module, name: str) -> tuple[int, int] | None:
    """(rows, columns) of the patches whose positions this parameter holds. None for others, as those of a text."""
    owner, _, leaf = name.rpartition(".")
    grids = (part.grid_size for part in model.get_submodule(owner).modules() if hasattr(part, "grid_size"))
    return next(grids, None) if leaf.endswith("pos_embed") else None


def _square(n: int) -> tuple[int, int] | None:
    side = math.isqrt(max(n, 0))
    return (side, side) if n > 0 and side * side == n else None


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape)) + ("" if x.is_floating_point() else f" of {x.dtype}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _family(model: nn.Module) -> str:
    """The nearest of the model's classes that a table is for, at last nn.Module."""
    known = {family for tables in TABLES.values() for family in tables}
    return next(cls.__name__ for cls in type(model).__mro__ if cls.__name__ in known)


def _tables(model: nn.Module, source: str) -> list[Table]:
    return TABLES[source].get(_family(model), TABLES[source].get("Module", []))


def _nearest_source(model: nn.Module, given: Mapping[str, Tensor], default: str) -> str:
    """The source that has most of the given names for this model; of several the default, or the first."""
    own, hits = model.state_dict(), {default: 0}
    for source in TABLES:
        names = {renamed(name, source) for name in given}
        hits[source] = max((len(names & _places(own, table).keys()) for table in _tables(model, source)), default=0)
    return max(hits, key=hits.get)


def _check_state_dict(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Names with tensors, not what a trainer wraps around them. Else TypeError or ValueError that says what to pass."""
    if not isinstance(given, Mapping):
        wanted = "a state dict or the path of a file"
        raise complaint(f"weights of type {type(given).__name__}", wanted, "pass model.state_dict()", TypeError)
    for name, value in given.items():
        if isinstance(value, Mapping) and value and all(isinstance(x, Tensor) for x in value.values()):
            remedy = f"pass what is in there under {name!r}, as torch.load(path, weights_only=True)[{name!r}]"
            raise complaint(f"a checkpoint with {_some(list(map(repr, given)))}", "a state dict", remedy)
    for name, value in given.items():
        tensor = isinstance(value, Tensor)
        if not isinstance(name, str) or not tensor or value.is_meta or value.layout != torch.strided:
            where = f" ({value.layout}, on {value.device})" if tensor else ""
            found, remedy = (
                f"{name!r} of type {type(value).__name__}{where}",
                "leave it out, or pass the part with tensors",
            )
            raise complaint(found, "names with tensors alone, dense and with values", remedy, TypeError)


def _check_grid(resize: bool | tuple[int, int]) -> None:
    if not isinstance(resize, bool):
        pair = isinstance(resize, tuple | list) and len(resize) == 2
        if not pair or not all(whole(side) and side > 0 for side in resize):
            raise complaint(f"resize_positions={resize!r}", "True, or a grid of whole (rows, columns)", "try True")


def _check_prefix(given: Mapping[str, Tensor], wanted: Collection[str], source: str) -> None:
    """Whether most names stand behind one prefix: of DataParallel, torch.compile, a trainer. Then a ValueError."""
    firsts = Counter(name.partition(".")[0] + "." for name in given)
    for prefix, _ in firsts.most_common(1):
        behind = {renamed(name.removeprefix(prefix), source) for name in given if name.startswith(prefix)}
        if len(behind & wanted) > max(len(wanted) / 2, sum(renamed(name, source) in wanted for name in given)):
            remedy = (
                f"pass {{k.removeprefix({prefix!r}): x for k, x in state_dict.items() if k.startswith({prefix!r})}}"
            )
            raise complaint(f"names that begin with {prefix!r}", "the model's own names", remedy)


def _remedy(
    model: nn.Module,
    source: str,
    table: Table,
    given: Mapping[str, Tensor],
    differing: dict[str, str],
    misshapen: list[str],
) -> str:
    """What helps where names differ (theirs -> ours, "" for none) or shapes (ours): a word, or another model."""
    tables = [name for name in model.state_dict() if name.endswith("relative_position_bias_table")]
    resizable = {name for name in misshapen if name in tables or _grid(model, name)}
    heads = {there for name in HEADS for there in theirs(name, table)}
    about_head = heads & differing.keys() or {*HEADS} & {*misshapen}
    words = ["new_head=True to leave the classifier as it is"] if about_head else []
    if resizable:
        what = "window" if resizable & {*tables} else "grid"
        words.append(f"resize_positions=True, or the {what} (rows, columns) they are for")
    if 0 < len(resizable & {*tables}) < len(tables):
        return "timm makes a window smaller where the map is; take the weights of a model of larger img_size"
    if differing.keys() <= heads and {*misshapen} <= {*HEADS} | resizable:
        return "give " + " and ".join(words)
    nearest = _nearest_source(model, given, default=source)
    if nearest != source:
        return f"give source={nearest!r}, whose names these are"
    if all(name.endswith((".head.weight", ".head.bias")) for name in (*differing.values(), *misshapen)):
        return "build the encoder with num_classes=0, since its head takes no part"
    if any("dist" in name for name in differing):
        return (
            "build a DistilledVisionTransformer for weights with two heads, a ViT with reg_tokens=1 for those with one"
        )
    return "build the model with the settings that these weights are for"
