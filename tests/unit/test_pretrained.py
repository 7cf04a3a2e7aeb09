"""`load_weights`: what is refused, and how; `pretrained` and `published`: files from a server on the loopback."""

import hashlib
import http.server
import io
import pickle
import re
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from tests.sentences import assert_sentence
from tests.unit.test_downloads import Server
from vit_edu import downloads, load_weights, models, pretrained
from vit_edu.models import CCT, DistilledVisionTransformer, HybridViT, VisionTransformer
from vit_edu.weights import IMAGENET_MEAN, IMAGENET_STD, imagenet, normalise, published

WORDS = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 7}


def vit(**words):
    return VisionTransformer(**WORDS | words)


def torchvisions(num_classes=7, img_size=16):
    return torchvision.models.VisionTransformer(img_size, 4, 2, 3, 24, 96, num_classes=num_classes).state_dict()


OWN, THEIRS = vit().state_dict(), torchvisions()
HYBRID = {"img_size": 32, "depth": 1, "embed_dim": 24, "num_heads": 3, "stages": 1}
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


# Published files.


class Host(Server):
    def do_GET(self):
        self.server.names.append(self.path)
        self.path = self.server.behaviours[len(self.server.requests) % len(self.server.behaviours)]
        super().do_GET()


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A server in torchvision's place; host.put(state dict) publishes it as vit_base_patch16_224 and all others."""
    monkeypatch.setenv("VIT_EDU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    running.daemon_threads = True
    running.requests, running.names, running.released = [], [], threading.Event()
    running.behaviours, running.cache = ["good"], tmp_path / "cache"

    def put(state):
        file = io.BytesIO()
        torch.save(state, file)
        running.body = file.getvalue()
        running.filename = f"tiny-{hashlib.sha256(running.body).hexdigest()[:8]}.pth"
        address = f"http://127.0.0.1:{running.server_port}/models/{running.filename}"
        monkeypatch.setattr(imagenet, "_address", lambda name: address)

    running.put = put
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.released.set()
    running.shutdown()
    thread.join()
    running.server_close()


TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}


def test_a_published_model_is_fetched_once(host, capsys):
    theirs = torchvision.models.VisionTransformer(16, 4, 2, 3, 24, 96).eval()
    nn.init.normal_(theirs.heads.head.weight)
    host.put(theirs.state_dict())
    images = torch.rand(2, 3, 16, 16)
    for _ in range(2):
        model = pretrained("vit_base_patch16_224", **TINY).eval()
        torch.testing.assert_close(model(images), theirs(images), rtol=1e-5, atol=1e-5)
    assert host.names == [f"/models/{host.filename}"]
    progress = capsys.readouterr().err
    assert host.filename in progress and "B/s" in progress
    assert (host.cache / "torchvision" / host.filename).read_bytes() == host.body


def test_other_classes_and_another_size(host):
    theirs = torchvisions(1000)
    host.put(theirs)
    wide = pretrained("vit_base_patch16_224", **TINY | {"img_size": (8, 32)})  # as many patches, in another grid
    assert not torch.equal(wide.pos_embed, pretrained("vit_base_patch16_224", **TINY).pos_embed)
    model = pretrained("vit_base_patch16_224", **TINY | {"img_size": (24, 8)}, num_classes=3)
    assert model(torch.rand(1, 3, 24, 8)).shape == (1, 3)
    assert torch.equal(model.pos_embed[:, 0], theirs["encoder.pos_embedding"][:, 0])
    same_classes = pretrained("vit_base_patch16_224", **TINY)
    assert torch.equal(same_classes.head.weight, theirs["heads.head.weight"])


def test_a_published_swin_in_another_window(host):
    theirs = torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [4, 4]).state_dict()
    host.put(theirs)
    words = {"img_size": 32, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2)}
    model = pretrained("swin_tiny_patch4_window7_224", **words, window_size=4)
    assert torch.equal(model.layers[1].downsample.norm.weight, theirs["features.2.norm.weight"])
    assert torch.equal(model.head.weight, theirs["head.weight"])
    model = pretrained("swin_tiny_patch4_window7_224", **words, window_size=7)
    assert model.layers[0].blocks[0].attn.relative_position_bias_table.shape == (13 * 13, 2)


def test_a_backbone(host):
    host.put(torchvision.models.resnet18().state_dict())
    model = HybridViT(**HYBRID)
    load_weights(model.patch_embed.backbone, published("resnet18"), source="torchvision")
    assert torch.equal(model.patch_embed.backbone.conv1.weight, published("resnet18")["conv1.weight"])


def test_a_broken_download_goes_on(host):
    host.put(torchvisions(1000))
    host.behaviours = ["cuts_off"]
    published("vit_base_patch16_224")
    assert [asked for _, asked in host.requests][:2] == [None, f"bytes={(len(host.body) + 1) // 2}-"]


def test_a_wrong_file_is_refused(host):
    host.put(torchvisions(1000))
    host.behaviours = ["wrong"]
    with pytest.raises(downloads.DownloadError, match="sent a wrong file"):
        published("vit_base_patch16_224")
    assert not list((host.cache / "torchvision").glob("*.pth*[!k]"))


def test_a_cached_file_that_was_damaged_is_fetched_anew(host):
    host.put(torchvisions(1000))
    published("vit_base_patch16_224")
    path = host.cache / "torchvision" / host.filename
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    state = published("vit_base_patch16_224")
    assert len(host.names) == 2 and state["class_token"].shape == (1, 1, 24)


@pytest.mark.parametrize("behaviour, reason", [("missing", "answered 404"), ("wrong", "sent a wrong file")])
def test_what_cannot_be_had_costs_one_sentence_that_says_what_to_do(host, behaviour, reason):
    host.put(torchvisions(1000))
    host.behaviours = [behaviour]
    with pytest.raises(downloads.DownloadError) as caught:
        pretrained("vit_base_patch16_224", **TINY)
    sentence = str(caught.value)
    assert reason in sentence and host.filename in sentence and str(host.cache) in sentence and "\n" not in sentence
    assert "call it again" in sentence and sentence.endswith(".")


def test_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("VIT_EDU_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(imagenet, "_address", lambda name: "http://127.0.0.1:9/tiny-01234567.pth")
    with pytest.raises(downloads.DownloadError, match=r"tiny-01234567.pth .* refused\); call it again"):
        published("resnet18")


def test_what_cannot_be_built_is_not_fetched(monkeypatch):
    monkeypatch.setattr(downloads, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(TypeError, match="hello=3"):
        pretrained("vit_base_patch16_224", hello=3)
    with pytest.raises(ValueError, match="'vit_tiny_patch16_224' found"):
        pretrained("vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="'vit_bas'"):
        pretrained("vit_bas")


def test_torchvision_still_publishes_them():
    from torchvision.models import get_weight

    for name, there in imagenet.PUBLISHED.items():
        assert re.fullmatch(r"https://.*-[0-9a-f]{8}\.pth", imagenet._address(name))
        assert name in models.list_models() or name.startswith("resnet")
        transforms = get_weight(f"{there}_Weights.IMAGENET1K_V1").transforms()
        assert (tuple(transforms.mean), tuple(transforms.std)) == (IMAGENET_MEAN, IMAGENET_STD)
        assert transforms.crop_size == [224]


def test_a_checksum_may_be_its_first_digits(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"weights")
    digits = hashlib.sha256(b"weights").hexdigest()
    assert downloads.matches(file, f"sha256:{digits}") and downloads.matches(file, f"sha256:{digits[:8]}")
    for wrong in (digits[1:9], digits + "0", digits[:7], "", digits[:8].upper() + "g"):
        assert not downloads.matches(file, f"sha256:{wrong}")


def test_normalise_is_torchvisions():
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    expected = torchvision.transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)(images / 255)
    torch.testing.assert_close(normalise(images), expected)
    torch.testing.assert_close(normalise(images[0] / 255), expected[0])
    assert normalise(images.double() / 255).dtype == torch.float64


def test_no_library_of_theirs_is_imported():
    import ast

    package = Path(imagenet.__file__).parent
    for path in package.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])] + [getattr(node, "module", "") or ""]
            assert not {name.split(".")[0] for name in names} & {"timm", "transformers", "vit_pytorch"}
