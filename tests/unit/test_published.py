"""`pretrained` and `published`: files from a server on the loopback, and what torchvision publishes."""

import hashlib
import http.server
import io
import re
import threading
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from tests.unit.small import HYBRID, TINY, torchvisions
from tests.unit.test_downloads import Server
from vit_edu import downloads, load_weights, models, pretrained
from vit_edu.models import HybridViT
from vit_edu.weights import IMAGENET_MEAN, IMAGENET_STD, imagenet, normalise, published


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
    with pytest.raises(ValueError, match=r"the backbone 'resnet18' found, .* see published\('resnet18'\)"):
        pretrained("resnet18")
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
