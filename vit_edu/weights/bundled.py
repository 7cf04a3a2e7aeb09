"""The kit's own checkpoints in data/checkpoints/: safetensors files that say by themselves which model they are for."""

import json
from pathlib import Path

from torch import nn

from vit_edu import datasets, resources
from vit_edu.layers.checks import complaint
from vit_edu.models import CLIP, MAE, TextTransformer, create_model

from .load import load_weights, read


def build(about: dict) -> nn.Module:
    """A new model: {"model": name, "words": {...}} by create_model, inside an MAE or a CLIP where there are such words.

    "mae": those of MAE. "text": those of TextTransformer, with "embed_dim" of CLIP beside it.
    """
    encoder = create_model(about["model"], **about["words"])
    if "mae" in about:
        return MAE(encoder, **about["mae"])
    if "text" in about:
        return CLIP(encoder, TextTransformer(**about["text"]), about["embed_dim"])
    return encoder


def save(model: nn.Module, about: dict, path: Path) -> None:
    """One file with the weights and what build() needs to make the model again. Raises OSError where it has no room."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}
    try:
        save_file(state, path, {"about": json.dumps(about)})
    except SafetensorError as error:
        found = f"{path}, which cannot be written ({error}),"
        raise complaint(found, "room for the weights", "make some, or choose another folder", OSError) from error


def load(path: Path | str) -> nn.Module:
    """The model that `save` wrote, in eval mode. Raises ValueError for other files, FileNotFoundError for none."""
    from safetensors import safe_open

    path = Path(path)
    weights = read(path)
    with safe_open(path, "pt") as file:
        about = (file.metadata() or {}).get("about")
    if about is None:
        raise complaint(f"{path.name} without a word on its model", "one of the kit's checkpoints", "use load_weights")
    return load_weights(build(json.loads(about)), weights, source="vit_edu").eval()


def checkpoint(name: str) -> nn.Module:
    """A bundled model in eval mode, its checksum verified: checkpoint("dino"). What it can: data/records/NAME.json.

    Raises ValueError for another name, DatasetError for a file that is altered.
    """
    known = bundled()
    if name not in known:
        raise complaint(f"the checkpoint {name!r}", " or ".join(known) or "one that is bundled", "see data/checkpoints")
    return load(datasets.verified(f"checkpoints/{name}.safetensors"))


def bundled() -> list[str]:
    """The names that `checkpoint` knows."""
    return sorted(path.stem for path in (resources.folder("data") / "checkpoints").glob("*.safetensors"))
