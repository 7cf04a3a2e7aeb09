"""The measure of equality on models of two blocks: it says what it should, and a fault that it must see, it sees."""

import json
import re
from functools import partial

import pytest
import timm
import torch

from bench import equality
from bench.equality import LIMITS, PAIRS, RECORD, Pair
from tests.reference.compare import normal
from tests.reference.twins import count, randomised
from vit_edu import layers
from vit_edu.models import VisionTransformer, list_models
from vit_edu.weights import load_weights

WORDS = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2, "num_classes": 5}
HF = {"image_size": 16, "patch_size": 8, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
HF |= {"intermediate_size": 48, "num_labels": 5, **equality.EPS}
OURS, TIMMS = partial(VisionTransformer, **WORDS), partial(timm.models.VisionTransformer, **WORDS)
SMALL = [
    Pair("small", "timm", OURS, TIMMS, img_size=16),
    Pair(
        "small",
        "transformers",
        OURS,
        partial(equality.hf, "ViTForImageClassification", "ViTConfig", **HF),
        img_size=16,
    ),
]


def test_a_run_prints_and_writes_what_it_says(tmp_path, capsys):
    out = tmp_path / "equality.json"
    assert equality.main(["--out", str(out)], SMALL) == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    assert [(row["model"], row["against"]) for row in record["rows"]] == [("small", "timm"), ("small", "transformers")]
    for row in record["rows"]:
        assert row["parameters"] == count(OURS()) and set(row) == {"model", "against", "parameters", *LIMITS}
        assert 0 <= row["outputs"] < 1e-12 and 0 <= row["gradients"] < 1e-12 and 0 <= row["outputs_float32"] < 1e-5
    assert record["dtype"] == "float64" and record["versions"]["timm"] == timm.__version__
    printed = capsys.readouterr().out
    assert len(re.findall(r"^small +(?:timm|transformers) +[\d,]+(?: +\d\.\de[-+]\d\d){3}$", printed, re.M)) == 2
    assert "wrote equality.json" in printed


def test_a_part_is_printed_and_not_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(equality, "RECORD", tmp_path / "equality.json")
    assert equality.main(["--only", "TIMM"], SMALL) == 0
    printed = capsys.readouterr().out
    assert "timm" in printed and "transformers" not in printed and not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        equality.main(["--only", "resnext"], SMALL)
    assert "no line holds 'resnext'; there are small" in capsys.readouterr().err


@pytest.mark.parametrize("words", [{"norm_eps": 1e-5}, {"act_layer": layers.QuickGELU}, {"num_heads": 3}], ids=str)
def test_a_model_built_otherwise_fails_the_run(words, tmp_path):
    out = tmp_path / "equality.json"
    wrong = SMALL[0]._replace(ours=partial(VisionTransformer, **WORDS | words))
    assert equality.main(["--out", str(out)], [SMALL[1], wrong]) == 1
    right, row = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert all(row[name] > LIMITS[name] >= right[name] for name in ("outputs", "gradients"))


def twins():
    """Ours and timm's with the same random weights, in float64 and eval mode, and images."""
    theirs = randomised(TIMMS()).eval()
    return load_weights(OURS().double(), theirs.state_dict()).eval(), theirs, normal(2, 3, 16, 16, grad=False)


def differences(spoil=None):
    ours, theirs, images = twins()
    if spoil:
        spoil(ours)
    return equality.differences(ours, theirs, SMALL[0], images)


NAMES = dict(OURS().named_parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_that_is_a_little_off_shows(name):
    def nudge(model):
        with torch.no_grad():
            model.get_parameter(name).view(-1)[-1] += 1e-6

    assert differences(nudge)["outputs"] > LIMITS["outputs"]


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_a_little_off_shows(name):
    """Of any one parameter, by a millionth, the outputs being the same."""
    row = differences(lambda model: model.get_parameter(name).register_hook(lambda gradient: gradient * (1 + 1e-6)))
    assert row["gradients"] > 1e-8 and row["outputs"] < 1e-12


def test_the_gradient_of_the_images_is_compared_by_itself():
    def stop(model):
        model.register_forward_pre_hook(lambda _, given: (given[0].detach(),))

    row = differences(stop)
    assert row["gradients"] > 1e-3 and row["outputs"] < 1e-12


def test_a_parameter_that_only_theirs_trains_shows():
    row = differences(lambda model: model.pos_embed.requires_grad_(False))
    assert row["gradients"] > 1e-3 and row["outputs"] < 1e-12


def test_a_path_without_autograd_that_differs_shows():
    def add(model):
        model.register_forward_hook(lambda _, __, out: out if out.requires_grad else out + 1e-6)

    row = differences(add)
    assert row["outputs"] > 1e-7 and row["gradients"] < 1e-12


def test_float32_is_a_figure_of_its_own():
    def add(model):
        model.register_forward_hook(lambda _, __, out: out + 1e-3 if out.dtype == torch.float32 else out)

    row = differences(add)
    assert row["outputs_float32"] > LIMITS["outputs_float32"] and row["outputs"] < 1e-12


def test_difference():
    a = torch.tensor([1.0, 2.0]), torch.tensor([0.25])
    assert equality.difference(a, a) == 0
    assert equality.difference(a, (a[0], torch.tensor([0.0]))) == 0.25  # small ones as they are
    assert equality.difference(a, (torch.tensor([1.0, 4.0]), a[1])) == 0.5  # large ones by the largest
    nan = torch.tensor([float("nan"), 2.0])
    for ours, theirs in [((nan, a[1]), a), (a, (nan, a[1])), ((a[0], nan[:1]), a)]:
        assert not equality.difference(ours, theirs) <= 1e9
    with pytest.raises(AssertionError):
        equality.difference(a, (a[0], a[1].expand(2)))
    with pytest.raises(AssertionError):
        equality.difference(a, a[:1])


def test_nan_fails_the_run(tmp_path):
    def broken():
        model = OURS()
        model.register_forward_hook(lambda _, __, out: out * float("nan"))
        return model

    assert equality.main(["--out", str(tmp_path / "e.json")], [SMALL[0]._replace(ours=broken)]) == 1


def test_the_record_is_whole_and_within_its_limits():
    """As measured: float64 to 1e-10, float32 outputs to 1e-4, at most."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert record["limits"] == LIMITS == {"outputs": 1e-10, "gradients": 1e-10, "outputs_float32": 1e-4}
    assert [(row["model"], row["against"]) for row in record["rows"]] == [(pair.model, pair.against) for pair in PAIRS]
    for row in record["rows"]:
        assert all(0 <= row[name] < limit for name, limit in LIMITS.items()), row
        name = row["model"].rstrip(")").rpartition("(")[2]  # MAE(vit_...) is around one of them
        assert name in list_models()
    assert record["dtype"] == "float64" and {"date", "commit", "versions", "device"} <= set(record)


def test_the_records_parameters_are_those_of_the_models():
    rows = json.loads(RECORD.read_text(encoding="utf-8"))["rows"]
    for row, pair in zip(rows, PAIRS):
        with torch.device("meta"):
            assert row["parameters"] == count(pair.ours())
