"""Labels: which of eight groups an emoji is in, learned from five styles (5,622 pictures of 32 px).

Random crops, mirror images, colours and backgrounds; mixup and cutmix, label smoothing, drop path, an average of the
weights. At laptop size, three seeds: 47.7 (47.3–52.5) % right by its own head in a style that it has not seen, a linear
probe on its features 53.3 (51.9–55.0) % there and 65.8 (64.7–67.7) % on Fashion-MNIST; 14 to 27 minutes of training on
one core of a Xeon at 2.8 GHz. All figures: data/records/supervised.json.
"""

from dataclasses import replace
from pathlib import Path

from lightning_fabric import Fabric

from vit_edu.training.batches import labelled
from vit_edu.training.loop import Plan, fit
from vit_edu.training.objectives import Supervised

from . import common, judge

SIZES = {
    "smoke": common.Size(common.SMOKE, Plan(epochs=0.1, batch_size=64), {0.01: 2}),
    "laptop": common.Size(common.LAPTOP, Plan(epochs=30, batch_size=64, lr=1e-3, ema=0.99)),
    "gpu": common.Size(common.GPU, Plan(epochs=300, batch_size=512, lr=2e-3, ema=0.999)),
}


def run(size: common.Size, seed: int, folder: Path, fabric: Fabric) -> dict:
    """Trains, judges, leaves folder/supervised.safetensors. Returns the figures."""
    train, tests = judge.sets("emoji", fabric.device, size.words["img_size"])
    words = size.words | {"num_classes": len(train.classes), "drop_path_rate": 0.1}
    model = common.new_model(common.about(words), seed)
    objective = Supervised(model.to(fabric.device), label_smoothing=0.1)
    plan = replace(size.plan, seed=seed)
    make_batch = labelled(train, mixup=0.1, cutmix=0.1)
    history = fit(objective, len(train), make_batch, plan, folder=folder, fabric=fabric).whole()
    figures = judge.scores(model, tests, "emoji/{}/own head")
    common.keep(model, common.about(words), folder / "supervised.safetensors", fabric)
    figures |= common.judged(model, words, size, seed, fabric, labelled=True)
    figures |= common.tuned(None, words, size, seed, fabric)  # the mark to pass
    return {"seconds_training": history.seconds, "loss": common.curve(history), "figures": figures}
