"""`load_weights` of state dicts and files: what is taken, what is refused, and how; `published` and `normalise` too."""

import pickle
import re
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.sentences import assert_sentence
from tests.unit.small import HYBRID, TINY, torchvisions
from vit_edu import load_weights, models
from vit_edu.models import CCT, DistilledVisionTransformer, HybridViT, VisionTransformer
from vit_edu.weights import normalise, published

WORDS = TINY | {"num_classes": 7}


def vit(**words):
    return VisionTransformer(**WORDS | words)


OWN, THEIRS = vit().state_dict(), torchvisions()
torchvision_too = partial(load_weights, source="torchvision")


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


BAD_INPUT = {  # what -> (call, error, what the sentence must hold: found, wanted, remedy)
    "missing": (
        lambda: load_weights(vit(), {k: x for k, x in OWN.items() if "norm.bias" not in k}),
        ValueError,
        "1·missing (norm.bias) VisionTransformer settings",
    ),
    "unexpected": (lambda: load_weights(vit(), OWN | {"extra": OWN["norm.bias"]}), ValueError, "1·unexpected (extra)"),
    "shape": (
        lambda: load_weights(vit(), OWN | {"blocks.1.mlp.fc1.bias": torch.ones(95)}),
        ValueError,
        "1·of·another·shape blocks.1.mlp.fc1.bias (95,),·not·(96,)",
    ),
    "integers": (
        lambda: load_weights(vit(), OWN | {"norm.bias": torch.ones(24, dtype=torch.int8)}),
        ValueError,
        "norm.bias torch.int8",
    ),
    "all three": (
        lambda: load_weights(vit(qkv_bias=False, embed_dim=48), {**OWN, "norm.weight2": OWN.get("norm.weight")}),
        ValueError,
        "3·unexpected blocks.0.attn.qkv.bias of·another·shape cls_token more",
    ),
    "in their names": (
        lambda: torchvision_too(vit(), {k: x for k, x in THEIRS.items() if "ln_1" not in k}),
        ValueError,
        "4·missing encoder.layers.encoder_layer_0.ln_1.weight 2·more",
    ),
    "depth": (lambda: load_weights(vit(depth=4), OWN), ValueError, "24·missing blocks.2.norm1.weight settings"),
    "qkv bias": (lambda: load_weights(vit(qkv_bias=False), OWN), ValueError, "2·unexpected blocks.0.attn.qkv.bias"),
    "class count": (
        lambda: load_weights(vit(num_classes=3), OWN),
        ValueError,
        "head.weight (7,·24),·not·(3,·24) new_head",
    ),
    "no head there": (
        lambda: load_weights(vit(), vit(num_classes=0).state_dict()),
        ValueError,
        "2·missing new_head=True",
    ),
    "no head here": (
        lambda: torchvision_too(vit(num_classes=0), THEIRS),
        ValueError,
        "heads.head.weight new_head=True",
    ),
    "image size": (
        lambda: torchvision_too(vit(img_size=24), THEIRS),
        ValueError,
        "encoder.pos_embedding (1,·17,·24),·not·(1,·37,·24) resize_positions=True",
    ),
    "both": (
        lambda: torchvision_too(vit(img_size=24, num_classes=3), THEIRS),
        ValueError,
        "3·of·another·shape new_head=True resize_positions=True",
    ),
    "no square": (
        lambda: load_weights(vit(), vit(img_size=(8, 20)).state_dict(), resize_positions=True),
        ValueError,
        "pos_embed (1,·11,·24) the·grid·(rows,·columns)",
    ),
    "another grid": (
        lambda: load_weights(vit(), vit(img_size=(8, 20)).state_dict(), resize_positions=(2, 4)),
        ValueError,
        "pos_embed (1,·11,·24) (1,·17,·24)",
    ),
    "another source": (lambda: load_weights(vit(), THEIRS), ValueError, "timm class_token source='torchvision'"),
    "our own names": (
        lambda: torchvision_too(vit(), OWN),
        ValueError,
        "torchvision 32·missing class_token source='timm'",
    ),
    "own swin-like names": (
        lambda: load_weights(vit_distilled(), vit_distilled().state_dict()),
        ValueError,
        "dist_token reg_token source='vit_edu'",
    ),
    "unknown source": (lambda: load_weights(vit(), OWN, "keras"), ValueError, "source='keras' 'timm' 'transformers'"),
    "vit_pytorch.ViT": (lambda: load_weights(vit(), {}, "vit_pytorch"), ValueError, "vit_pytorch CCT two·more·norms"),
    "no such twin": (lambda: torchvision_too(CCT(), OWN), ValueError, "CCT SwinTransformer source='vit_edu'"),
    "unknown model": (lambda: load_weights(nn.Linear(2, 2), OWN), ValueError, "Linear VisionTransformer 'vit_edu'"),
    "whole hybrid": (
        lambda: torchvision_too(HybridViT(**HYBRID), {}),
        ValueError,
        "HybridViT model.patch_embed.backbone",
    ),
    "four numbers": (
        lambda: load_weights(vit(), OWN, resize_positions=(1, 2, 3, 4)),
        ValueError,
        "resize_positions=(1,·2,·3,·4) (rows,·columns)",
    ),
    "no memory": (
        lambda: load_weights(vit().to("meta"), OWN),
        ValueError,
        "meta torch.device('meta')",
    ),
    "model": (lambda: load_weights(vit(), vit()), TypeError, "VisionTransformer state·dict model.state_dict()"),
    "nothing": (lambda: load_weights(vit(), None), TypeError, "NoneType path model.state_dict()"),
    "the wrong way round": (lambda: load_weights(OWN, vit()), TypeError, "OrderedDict load_weights(model,·weights)"),
    "checkpoint": (
        lambda: load_weights(vit(), {"epoch": 3, "model": OWN, "optimizer": {"state": {}}}),
        ValueError,
        "'epoch' 'model' 1·more ['model']",
    ),
    "state_dict inside": (lambda: load_weights(vit(), {"state_dict": OWN}), ValueError, "['state_dict']"),
    "DataParallel": (
        lambda: load_weights(vit(), {f"module.{name}": x for name, x in OWN.items()}),
        ValueError,
        "'module.' k.removeprefix('module.')",
    ),
    "averaged": (
        lambda: load_weights(vit(), {f"module.{name}": x for name, x in OWN.items()} | {"n_averaged": torch.tensor(1)}),
        ValueError,
        "'module.' k.startswith('module.')",
    ),
    "a backbone": (
        lambda: torchvision_too(vit(), {f"backbone.{name}": x for name, x in THEIRS.items()}),
        ValueError,
        "'backbone.' k.removeprefix('backbone.')",
    ),
    "a number to resize to": (
        lambda: load_weights(vit(), OWN, resize_positions=5),
        ValueError,
        "resize_positions=5 (rows,·columns)",
    ),
    "floats to resize to": (
        lambda: load_weights(vit(), OWN, resize_positions=(4.0, 4.0)),
        ValueError,
        "resize_positions=(4.0,·4.0) whole",
    ),
    "sparse": (
        lambda: load_weights(vit(), OWN | {"norm.bias": OWN["norm.bias"].to_sparse()}),
        TypeError,
        "'norm.bias' sparse_coo dense",
    ),
    "a number": (lambda: load_weights(vit(), OWN | {"epoch": 3}), TypeError, "'epoch' int tensors leave"),
    "a number as name": (lambda: load_weights(vit(), OWN | {3: OWN["norm.bias"]}), TypeError, "3 names"),
    "meta": (lambda: load_weights(vit(), {k: x.to("meta") for k, x in OWN.items()}), TypeError, "'cls_token' meta"),
    "unpublished": (lambda: published("resnet20"), ValueError, "'resnet20' resnet18 create_model"),
    "integers as images": (lambda: normalise(torch.ones(2, 3, 8, 8).long()), TypeError, "int64 float /·255"),
    "grey images": (lambda: normalise(torch.ones(2, 1, 8, 8)), ValueError, "(2,·1,·8,·8) (B,·3,·H,·W) expand"),
}


def vit_distilled(**words):
    return DistilledVisionTransformer(**WORDS | words)


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_one_clear_sentence(what):
    assert_sentence(*BAD_INPUT[what], longest=350 if "shape" in BAD_INPUT[what][2] else 270)


@pytest.mark.parametrize("name", list(OWN))
@pytest.mark.parametrize("change", ["missing", "renamed", "shape"])
def test_all_or_nothing(name, change):
    state = {key: torch.full_like(x, 3.0) for key, x in OWN.items()}
    value = state.pop(name)
    state |= {"missing": {}, "renamed": {name + "_": value}, "shape": {name: value[..., :-1]}}[change]
    model = vit()
    before = {key: x.clone() for key, x in model.state_dict().items()}
    with pytest.raises(ValueError, match=re.escape(name)):
        load_weights(model, state)
    assert all(torch.equal(x, before[key]) for key, x in model.state_dict().items())


def test_both_of_two_names_for_one_are_not_taken():
    prefixed = {f"vit.{name}": torch.ones(24) for name in ("layernorm.weight",)}
    with pytest.raises(ValueError, match=r"1 unexpected \((vit\.)?layernorm\.weight\)|missing"):
        load_weights(vit(), prefixed | {"layernorm.weight": torch.ones(24)}, source="transformers")


def test_values_are_copied_into_the_models_dtype():
    state = {name: x.half() for name, x in OWN.items()}
    model = vit().double().requires_grad_(False).train()
    pointers = [x.data_ptr() for x in model.parameters()]
    assert load_weights(model, state) is model and model.training
    assert [x.data_ptr() for x in model.parameters()] == pointers
    for name, x in model.named_parameters():
        assert x.dtype == torch.float64 and not x.requires_grad and torch.equal(x, state[name].double())
    state["norm.weight"] += 1
    assert not torch.equal(model.norm.weight, state["norm.weight"].double())


def test_parameters_may_be_given_too():
    theirs, model = vit(), vit()
    load_weights(model, dict(theirs.named_parameters()))
    assert torch.equal(model.head.weight, theirs.head.weight) and model.head.weight.is_leaf
    assert theirs.head.weight.requires_grad and model.head.weight.grad is None


@pytest.mark.parametrize("source, theirs", [("torchvision", THEIRS), ("timm", OWN), ("vit_edu", OWN)])
@pytest.mark.parametrize("num_classes", [3, 7, 0])
def test_a_new_head_stays_fresh(source, theirs, num_classes):
    model = vit(num_classes=num_classes)
    load_weights(model, {name: torch.full_like(x, 3.0) for name, x in theirs.items()}, source=source, new_head=True)
    for name, x in model.state_dict().items():
        assert x.eq(3).any() != name.startswith("head."), name


def test_a_head_where_there_was_none():
    model = load_weights(vit(), vit(num_classes=0).state_dict(), new_head=True)
    assert model(torch.rand(1, 3, 16, 16)).shape == (1, 7)


def test_both_heads_of_deit_stay_fresh():
    state = {name.replace("reg_token", "dist_token"): x for name, x in vit_distilled().state_dict().items()}
    model = vit_distilled(num_classes=3)
    before = model.head.weight.clone(), model.head_dist.weight.clone()
    load_weights(model, state, new_head=True)
    assert torch.equal(model.head.weight, before[0]) and torch.equal(model.head_dist.weight, before[1])


def test_any_model_takes_its_own_names_back():
    for build in (lambda: nn.BatchNorm2d(3), lambda: models.create_model("resnet20"), CCT, vit_distilled):
        state = {
            name: torch.rand_like(x) if x.is_floating_point() else x + 5 for name, x in build().state_dict().items()
        }
        again = load_weights(build(), state, source="vit_edu").state_dict()
        assert state.keys() == again.keys() and all(torch.equal(x, again[name]) for name, x in state.items())


# Files.


@pytest.mark.parametrize("kind", ["pth", "pt", "old pth", "safetensors", "text"])
def test_files(kind, tmp_path):
    path = tmp_path / f"weights.{kind.split()[-1].replace('text', 'pth')}"
    if kind == "safetensors":
        save_file(OWN, path)
    else:
        torch.save(OWN, path, _use_new_zipfile_serialization=kind != "old pth")
    model = load_weights(vit(), str(path) if kind == "text" else path)
    assert all(torch.equal(x, OWN[name]) for name, x in model.state_dict().items())


def test_a_file_with_more_than_tensors_in_it_runs_nothing(tmp_path):
    ran = tmp_path / "ran"
    pickled = tmp_path / "pickled.pth"
    pickled.write_bytes(pickle.dumps(OWN | {"evil": Evil(ran)}))
    saved, old, named = tmp_path / "saved.pth", tmp_path / "old.pt", tmp_path / "named.safetensors"
    torch.save(OWN | {"evil": Evil(ran)}, saved)
    torch.save(OWN | {"evil": Evil(ran)}, old, _use_new_zipfile_serialization=False)
    named.write_bytes(saved.read_bytes())
    for path in (pickled, saved, old, named):
        with pytest.raises(
            ValueError, match=f"{path.name}, broken or with more in it, found, wanted a file of tensors"
        ):
            load_weights(vit(), path)
    assert not ran.exists()
    pickle.loads(pickled.read_bytes())["evil"].close()
    assert ran.exists()  # it would have


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_file_that_was_cut_off(suffix, share, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    save_file(OWN, path) if suffix == "safetensors" else torch.save(OWN, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"weights\.{suffix}, broken"):
        load_weights(vit(), path)


def test_a_page_of_html_in_its_place(tmp_path):
    (tmp_path / "weights.pth").write_text("<html>404</html>")
    with pytest.raises(ValueError, match="broken"):
        load_weights(vit(), tmp_path / "weights.pth")


def test_a_file_that_is_not_there(tmp_path):
    for suffix in ("pth", "safetensors"):
        with pytest.raises(FileNotFoundError, match=f"weights.{suffix}"):
            load_weights(vit(), tmp_path / f"weights.{suffix}")
