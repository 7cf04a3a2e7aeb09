"""What stays of a run: checkpoints that say what they are, the live curve, the record of a minute."""

import json

import pytest
import torch
from safetensors.torch import save_file

from bench import minute
from tests.training.tiny import run
from vit_edu import plots, resources
from vit_edu.training import new_fabric, records
from vit_edu.training.recipes import clip, judge, mae
from vit_edu.weights import bundled, checkpoint
from vit_edu.weights.bundled import build, load, save

VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 0}
ABOUT = {
    "vit": {"model": "vit_tiny_patch16_224", "words": VIT | {"num_classes": 3}},
    "swin": {
        "model": "swin_tiny_patch4_window7_224",
        "words": {"embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2]},
    },
    "mae": {
        "model": "vit_tiny_patch16_224",
        "words": VIT | {"pos_embed": "sincos"},
        "mae": {"decoder_embed_dim": 8, "decoder_depth": 1, "decoder_num_heads": 2, "norm_pix_loss": True},
    },
    "clip": {
        "model": "vit_tiny_patch16_224",
        "words": VIT,
        "text": {"context_length": 9, "embed_dim": 8, "depth": 1, "num_heads": 2},
        "embed_dim": 6,
    },
}


@pytest.mark.parametrize("kind", ABOUT)
def test_a_checkpoint_says_what_it_is(kind, tmp_path):
    model = build(ABOUT[kind])
    save(model, ABOUT[kind], tmp_path / "new" / "one.safetensors")
    again = load(tmp_path / "new" / "one.safetensors")
    assert type(again) is type(model) and not again.training
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in again.state_dict().items())


def test_other_files_are_refused(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors without a word on its model found"):
        load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"the checkpoint 'bert' found, wanted "):
        checkpoint("bert")
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(OSError, match=r"taken\.safetensors, which cannot be written \(.*\), found, wanted room"):
        save(build(ABOUT["vit"]), ABOUT["vit"], tmp_path / "taken.safetensors")


@pytest.mark.parametrize("name", bundled())
def test_bundled_ones_do_what_their_records_say(name):
    """The figures of frozen features, on emoji and on clothing, from the bundled data anew."""
    model = checkpoint(name)
    encoder = getattr(model, "encoder", getattr(model, "visual", model))
    [run] = [run for run in records.read(name) if run["seed"] == 0]
    figures = judge.frozen(encoder, "cpu", encoder.patch_embed.img_size[0])
    assert figures and figures.keys() <= run["figures"].keys()
    assert figures == {name: pytest.approx(run["figures"][name], abs=0.005) for name in figures}
    if name == "mae":
        loss = mae.reconstruction(model, new_fabric("cpu"), 32)
        assert loss == pytest.approx(run["figures"]["reconstruction/new_style"], abs=1e-3)
    if name == "clip":
        for split in ("new_style", "new_concepts", "new_both"):
            figures = clip.zero_shot(model, split, new_fabric("cpu"), 32)
            assert figures == {name: pytest.approx(run["figures"][name], abs=0.005) for name in figures}


def test_no_checkpoint_without_its_record():
    for name in bundled():
        assert [run["seed"] for run in records.read(name)][:1] == [0]
    sizes = [path.stat().st_size for path in (resources.folder("data") / "checkpoints").glob("*.safetensors")]
    assert sum(sizes) < 25e6


def test_the_curve_is_drawn_in_one_place_and_at_the_end(monkeypatch):
    drawn = []

    class Shown:
        def update(self, picture):
            drawn.append(picture.alt)

    def display(picture, display_id):
        drawn.append(picture.alt)
        return Shown()

    monkeypatch.setattr("IPython.display.display", display)
    _, history = run(on_report=plots.live_curve(every=0.0))
    assert len(drawn) == len(history.rows)  # not for the first report alone, once more at the end
    assert drawn[-1].startswith("loss over step from 8 to 24: loss from")
    drawn.clear()
    run(on_report=plots.live_curve(every=1000.0))
    assert len(drawn) == 2  # the first, and the end


def test_a_minute_is_recorded(tmp_path):
    assert minute.main(["--seconds", "0.3", "--seeds", "1", "--out", str(tmp_path / "minute.json")]) == 0
    record = json.loads((tmp_path / "minute.json").read_text())["fashion"]
    assert {row["model"] for row in record["rows"]} == set(minute.CONTESTANTS) == set(record["median"])
    assert all(row["steps"] > 0 and 0 <= row["accuracy"] <= 1 for row in record["rows"])
