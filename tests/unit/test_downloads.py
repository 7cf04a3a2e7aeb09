"""`fetch` against a server on the loopback that misbehaves in every way we have met."""

import hashlib
import http.server
import json
import socket
import threading
import time

import numpy as np
import pytest
import torch

from vit_edu import datasets, downloads

BODY = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
CHECKSUM = "md5:" + hashlib.md5(BODY).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """The path says how to behave; `requests` on the server keeps what was asked: (path, Range)."""

    def do_GET(self):
        behaviour = self.path.strip("/")
        asked = self.headers.get("Range")
        self.server.requests.append((behaviour, asked))
        if behaviour == "missing":
            return self.send_error(404)
        if behaviour == "silent":
            return self.server.released.wait(10)
        body = self.server.body[::-1] if behaviour == "wrong" else self.server.body
        start = 0
        if asked and behaviour != "ignores_range":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                return self.send_error(416)
        claimed = {"claims_more": 1000, "claims_less": -1000}.get(behaviour, 0) + len(body) - start
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(claimed))
        self.end_headers()
        end = len(body)
        if behaviour in ("cuts_off", "stalls") or (behaviour == "ignores_range" and not asked):
            end = start + (len(body) - start + 1) // 2 if len(body) - start > 1000 else len(body)
        if behaviour == "trickles":
            for i in range(start, end, 30_000):
                self.wfile.write(body[i : i + 30_000])
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self.wfile.write(body[start:end])
        if behaviour == "stalls":
            self.wfile.flush()
            self.server.released.wait(10)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_EDU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    running.daemon_threads = True
    running.body, running.requests, running.released = BODY, [], threading.Event()
    running.url = f"http://127.0.0.1:{running.server_port}/"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.released.set()
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def dead_url():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/"


def fetch(server, *behaviours, **options):
    return downloads.fetch([server.url + b for b in behaviours], "set/file.bin", CHECKSUM, **options)


@pytest.mark.parametrize("behaviour", ["good", "trickles", "cuts_off", "claims_more", "ignores_range"])
def test_the_file_arrives_whole(server, behaviour):
    path = fetch(server, behaviour)
    assert path.read_bytes() == BODY
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".lock"] == ["file.bin"]


def test_a_cut_connection_is_resumed_where_it_broke(server):
    fetch(server, "cuts_off")
    ranges = [asked for _, asked in server.requests]
    assert ranges[0] is None and ranges[1] == f"bytes={len(BODY) // 2}-"


def test_a_silent_server_is_given_up_in_time(server):
    began = time.monotonic()
    with pytest.raises(downloads.DownloadError, match="did not answer in time"):
        fetch(server, "silent", timeout=0.2)
    assert time.monotonic() - began < 8


def test_a_stalling_server_is_asked_again_for_the_rest(server):
    assert fetch(server, "stalls", timeout=0.2).read_bytes() == BODY
    assert len(server.requests) > 2


def test_the_next_call_goes_on_with_a_partial_file(server, tmp_path):
    (tmp_path / "cache/set").mkdir(parents=True)
    (tmp_path / "cache/set/file.bin.part").write_bytes(BODY[:1000])
    assert fetch(server, "good").read_bytes() == BODY
    assert server.requests == [("good", "bytes=1000-")]


@pytest.mark.parametrize(
    "partial", [BODY + b"more", b"not its beginning", BODY[::-1]], ids=["long", "foreign", "wrong"]
)
def test_a_partial_file_that_does_not_fit_is_thrown_away(server, tmp_path, partial):
    (tmp_path / "cache/set").mkdir(parents=True)
    (tmp_path / "cache/set/file.bin.part").write_bytes(partial)
    assert fetch(server, "good").read_bytes() == BODY
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "behaviour, reason",
    [("wrong", "sent a wrong file"), ("claims_less", "sent a wrong file"), ("missing", "answered 404")],
)
def test_a_bad_mirror_is_named_and_leaves_nothing_behind(server, tmp_path, behaviour, reason):
    with pytest.raises(downloads.DownloadError, match=reason) as error:
        fetch(server, behaviour)
    assert "file.bin" in str(error.value) and "127.0.0.1" in str(error.value)
    assert not [p for p in (tmp_path / "cache/set").iterdir() if p.suffix != ".lock"]


def test_the_next_mirror_is_tried(server, dead_url):
    path = downloads.fetch([dead_url + "x", *(server.url + b for b in ("missing", "wrong", "good"))], "f", CHECKSUM)
    assert path.read_bytes() == BODY


def test_a_cached_file_asks_nothing_and_a_damaged_one_is_fetched_anew(server):
    path = fetch(server, "good")
    assert fetch(server, "good") == path and len(server.requests) == 1
    path.write_bytes(BODY[:-1])
    assert fetch(server, "good").read_bytes() == BODY and len(server.requests) == 2


def test_two_at_once_download_once(server):
    threads = [threading.Thread(target=fetch, args=(server, "trickles")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetch(server, "good").read_bytes() == BODY
    assert len(server.requests) == 1


def test_a_dead_host_costs_one_sentence_and_the_lesson_goes_on(dead_url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIT_EDU_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    dead = downloads.SETS["cifar10"]._replace(files=lambda: [([dead_url + "c.tar.gz"], "c.tar.gz", CHECKSUM)])
    monkeypatch.setitem(downloads.SETS, "cifar10", dead)
    images = datasets.load_dataset("cifar10", "test")
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "CIFAR-10" in printed and "'emoji'" in printed and "refused" in printed
    assert images.images.shape[1:] == (3, 32, 32) and len(images) > 500


def test_the_stand_in_has_the_size_that_was_asked_for():
    images = datasets._stand_in("emoji", "train", 96)
    assert images.images.shape[1:] == (3, 96, 96) and images.alpha.shape[1:] == (1, 96, 96)
    assert 500 < len(images) <= 1000 and len(set(images.labels.tolist())) == 8


def test_torchvision_still_names_files_and_checksums():
    for which in downloads.SETS.values():
        for urls, filename, checksum in which.files():
            assert all(url.startswith("http") for url in urls) and "/" in filename
            assert checksum.startswith("md5:") and len(checksum) == 4 + 32


def make_cifar10(folder):
    """An archive like CIFAR-10's with four pictures a batch; returns it and the pictures of its test batch."""
    import pickle
    import tarfile

    rng = np.random.default_rng(1)
    root = folder / "cifar-10-batches-py"
    root.mkdir(parents=True)
    batches = {
        name: rng.integers(0, 256, (4, 3072), dtype=np.uint8) for name in [f"data_batch_{i}" for i in range(1, 6)]
    }
    batches["test_batch"] = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
    for name, data in batches.items():
        (root / name).write_bytes(pickle.dumps({"data": data, "labels": [3, 1, 2, 0]}))
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(root, root.name)
    return folder / "cifar-10-python.tar.gz", batches["test_batch"].reshape(4, 3, 32, 32)


def test_cifar10_from_its_archive_and_then_from_the_cache(server, tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    archive, pictures = make_cifar10(tmp_path / "made")
    checksum = "md5:" + hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    server.body = archive.read_bytes()
    files = [([server.url + "good"], "cifar10/cifar-10-python.tar.gz", checksum)]
    monkeypatch.setitem(downloads.SETS, "cifar10", downloads.SETS["cifar10"]._replace(files=lambda: files))
    first = datasets.load_dataset("cifar10", "test")
    second = datasets.load_dataset("cifar10", "test")
    assert len(server.requests) == 1
    for ds in (first, second):
        assert torch.equal(ds.images, torch.from_numpy(pictures)) and ds.labels.tolist() == [3, 1, 2, 0]
        assert ds.names[0] == "class 3" and ds.alpha is None
    assert json.loads((tmp_path / "cache/cifar10-test-32.json").read_text())["labels"] == [3, 1, 2, 0]
