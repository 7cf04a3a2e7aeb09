"""MAE (He et al. 2022): three quarters of each emoji removed and painted again, no labels, 5,622 pictures of 32 px.

Crops, mirror images and backgrounds, no other colours. At laptop size, three seeds: a linear probe on its features is
52.7 (50.8–53.7) % right in a style that it has not seen and 80.5 (79.7–81.1) % on Fashion-MNIST; 23 to 42 minutes of
training on one core of a Xeon at 2.8 GHz. All figures: data/records/mae.json.
"""

from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from vit_edu.datasets import load_dataset
from vit_edu.models import MAE
from vit_edu.models.mae import init_mae
from vit_edu.training.batches import plain, to_reconstruct
from vit_edu.training.loop import Plan, fit

from . import common

DECODER = {"decoder_embed_dim": 64, "decoder_depth": 2, "decoder_num_heads": 4, "norm_pix_loss": True}
LONG = {"lr": 1.5e-3, "betas": (0.9, 0.95), "warmup": 0.1}
SIZES = {
    "smoke": common.Size(common.SMOKE, Plan(epochs=0.1, batch_size=64), {0.01: 2}),
    "laptop": common.Size(common.LAPTOP, Plan(epochs=60, batch_size=128, **LONG)),
    "gpu": common.Size(common.GPU, Plan(epochs=1600, batch_size=512, **LONG)),
}


def run(size: common.Size, seed: int, folder: Path, fabric: Fabric) -> dict:
    """Trains, judges, leaves folder/mae.safetensors with encoder and decoder. Returns the figures."""
    train = load_dataset("emoji", "train", size.words["img_size"]).to(fabric.device)
    words = size.words | {"pos_embed": "sincos", "global_pool": "avg"}
    about = common.about(words, mae=DECODER)
    mae = common.new_model(about, seed).to(fabric.device)
    model = mae.encoder.apply(init_mae)
    make_batch = to_reconstruct(train, model.patch_embed.num_patches)
    history = fit(mae, len(train), make_batch, replace(size.plan, seed=seed), folder=folder, fabric=fabric).whole()
    common.keep(mae, about, folder / "mae.safetensors", fabric)
    figures = {"reconstruction/new_style": reconstruction(mae, fabric, size.words["img_size"])}
    figures |= common.judged(model, words, size, seed, fabric)
    return {"seconds_training": history.seconds, "loss": common.curve(history), "figures": figures}


@torch.inference_mode()
def reconstruction(mae: MAE, fabric: Fabric, img_size: int) -> float:
    """The loss on the held-out style, with the same patches removed in every run."""
    images = plain(load_dataset("emoji", "new_style", img_size).to(fabric.device))
    shape = (len(images), mae.encoder.patch_embed.num_patches)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(fabric.device)
    return mae.eval()(images, noise)[0].item()
