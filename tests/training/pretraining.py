"""The tiny run, then some steps of MAE, DINO and CLIP, as a program: python -m tests.training.pretraining FOLDER."""

import sys
from pathlib import Path

import torch

from tests.training import tiny
from tests.training.tiny import pictures
from vit_edu.models import CLIP, DINO, MAE, TextTransformer, create_model
from vit_edu.training import Plan, fit, new_fabric
from vit_edu.training.batches import captioned, crops, to_reconstruct
from vit_edu.training.objectives import Contrastive, SelfDistillation

WORDS = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 0}
DECODER = {"decoder_embed_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
TEXT = {"context_length": 12, "embed_dim": 16, "depth": 1, "num_heads": 2}


def new_encoder(**words):
    torch.manual_seed(0)  # a run before has left the generator anywhere
    return create_model("vit_tiny_patch16_224", **WORDS, **words)


def objectives(data):
    """name, objective and what makes its batches."""
    yield "mae", MAE(new_encoder(pos_embed="sincos"), **DECODER), to_reconstruct(data, patches=4)
    dino = DINO(new_encoder(dynamic_img_size=True), out_dim=32, hidden_dim=16, bottleneck_dim=8)
    yield "dino", SelfDistillation(dino, momentum=0.9), crops(data, local=2, local_size=4)
    data.names[:] = ["a", "bee", "sea", "deer"] * 16
    yield "clip", Contrastive(CLIP(new_encoder(), TextTransformer(**TEXT), 8)), captioned(data, 12)


def main(folder: Path) -> None:
    tiny.main(folder)
    fabric, data, results = new_fabric("cpu"), pictures(), {}
    for name, objective, make_batch in objectives(data):
        history = fit(objective, len(data), make_batch, Plan(epochs=1, batch_size=16, lr=1e-3), fabric=fabric)
        results[name] = {"loss": history.rows[-1]["loss"], "weights": objective.state_dict()}
    if fabric.is_global_zero:
        torch.save({"processes": fabric.world_size} | results, folder / "results.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
