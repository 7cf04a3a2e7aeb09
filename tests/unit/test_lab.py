"""`vit-edu lab`: what a learner has changed or run is never overwritten; a new version is not lost either."""

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from ipykernel.kernelspec import KERNEL_NAME, get_kernel_dict
from jupyter_client.manager import start_new_kernel

from vit_edu import lab

DAY = datetime.date(2026, 11, 23)
NAME = "02_self_attention.ipynb"
DATED = "02_self_attention.2026-11-23.ipynb"


def notebook(*sources, output="42"):
    outputs = [{"output_type": "stream", "name": "stdout", "text": [output]}]
    code = {"cell_type": "code", "execution_count": 7, "metadata": {}, "outputs": outputs}
    cells = [{"id": f"c{i}", "source": source.splitlines(True), **code} for i, source in enumerate(sources)]
    return {"cells": cells, "metadata": {"vit_edu": {"title": "T"}}, "nbformat": 4, "nbformat_minor": 5}


class House:
    """A kit's notebooks/ and a learner's work/."""

    def __init__(self, root):
        self.kit, self.work = root / "notebooks", root / "work"
        self.kit.mkdir()
        self.publish("x = 1\nx")

    def publish(self, *sources, name=NAME):
        (self.kit / name).write_text(json.dumps(notebook(*sources)))

    def copy(self, day=DAY):
        return lab.copy_lessons(self.kit, self.work, day)

    def edit(self, change=lambda book: book["cells"][0].update(source="mine = 1"), name=NAME):
        """As JupyterLab saves: sources as one string, other metadata kept."""
        book = json.loads((self.work / name).read_text())
        change(book)
        (self.work / name).write_text(json.dumps(book, indent=2))
        return (self.work / name).read_bytes()

    def source(self, name=NAME):
        return "".join(json.loads((self.work / name).read_text())["cells"][0]["source"])

    @property
    def files(self):
        return sorted(path.name for path in self.work.iterdir() if not path.name.startswith("."))


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_first_copy_has_no_outputs(house):
    assert house.copy() == [f"Copied 1 lesson into {house.work}."]
    cell = json.loads((house.work / NAME).read_text())["cells"][0]
    assert (cell["outputs"], cell["execution_count"], "".join(cell["source"])) == ([], None, "x = 1\nx")
    assert house.copy() == []


def test_the_copy_names_the_kernel_as_jupyterlab_does(house, tmp_path):
    """Else JupyterLab fills it in on opening, and a lesson that nobody touched asks to be saved."""
    manager, client = start_new_kernel(env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")})
    try:
        info = client.kernel_info(reply=True, timeout=60)["content"]["language_info"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    house.copy()
    metadata = json.loads((house.work / NAME).read_text())["metadata"]
    kernel = get_kernel_dict()
    assert metadata["language_info"] == info
    assert metadata["kernelspec"] == {"name": KERNEL_NAME, **{key: kernel[key] for key in ("display_name", "language")}}
    assert metadata["vit_edu"]["title"] == "T"


def test_my_changes_stay_while_the_kit_stays(house):
    house.copy()
    mine = house.edit()
    assert house.copy() == []
    assert (house.work / NAME).read_bytes() == mine
    assert house.files == [NAME]


def test_new_version_beside_mine_once(house):
    house.copy()
    mine = house.edit()
    house.publish("x = 2")
    said = house.copy()
    assert len(said) == 1 and NAME in said[0] and DATED in said[0]
    assert (house.work / NAME).read_bytes() == mine
    assert house.source(DATED) == "x = 2"
    assert house.copy(DAY + datetime.timedelta(1)) == []
    assert house.files == [DATED, NAME]


def test_second_new_version_that_day(house):
    house.copy()
    house.edit()
    for number in (2, 3, 4):
        house.publish(f"x = {number}")
        house.copy()
    assert house.files == ["02_self_attention.2026-11-23-2.ipynb", "02_self_attention.2026-11-23-3.ipynb", DATED, NAME]
    assert house.source("02_self_attention.2026-11-23-3.ipynb") == "x = 4"


def test_a_dated_file_that_i_edited_is_mine_too(house):
    house.copy()
    house.edit()
    house.publish("x = 2")
    house.copy()
    mine = house.edit(name=DATED)
    house.publish("x = 3")
    house.copy()
    assert (house.work / DATED).read_bytes() == mine


def test_a_dated_file_that_i_threw_away_stays_away(house):
    house.copy()
    house.edit()
    house.publish("x = 2")
    house.copy()
    (house.work / DATED).unlink()
    assert house.copy() == []
    assert house.files == [NAME]


def ran(book):
    for cell in book["cells"]:
        cell["source"] = "".join(cell["source"])
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    book["cells"].append({"cell_type": "code", "source": "", "metadata": {}, "outputs": [], "execution_count": None})
    book["metadata"]["language_info"] = {"name": "python", "version": "3.12"}


def test_opened_but_unchanged_is_replaced(house):
    """JupyterLab saves with another metadata and an empty cell: nothing of the learner's own."""

    def opened(book):
        ran(book)
        book["cells"][0]["outputs"] = []

    house.copy()
    house.edit(opened)
    house.publish("x = 2")
    assert "replaced" in house.copy()[0]
    assert house.source() == "x = 2"
    assert house.files == [NAME]


def test_run_but_unchanged_keeps_its_outputs(house):
    house.copy()
    mine = house.edit(ran)
    house.publish("x = 2")
    assert DATED in house.copy()[0]
    assert (house.work / NAME).read_bytes() == mine
    assert house.source(DATED) == "x = 2"


def test_new_outputs_alone_are_no_new_version(house):
    house.copy()
    house.edit()
    (house.kit / NAME).write_text(json.dumps(notebook("x = 1\nx", output="other")))
    assert house.copy() == []


def test_a_deleted_lesson_comes_again(house):
    house.copy()
    (house.work / NAME).unlink()
    assert house.copy() == [f"Copied 1 lesson into {house.work}."]


@pytest.mark.parametrize("state", [None, "{ half a fi", "[1, 2]", '{"02_self_attention.ipynb": 5}'])
def test_lost_or_broken_state_loses_no_work(house, state):
    house.copy()
    mine = house.edit()
    house.publish("x = 2")
    house.copy()
    note = house.work / lab.OFFERED
    note.unlink() if state is None else note.write_text(state)
    house.copy(DAY + datetime.timedelta(1))
    assert (house.work / NAME).read_bytes() == mine
    assert house.files == [DATED, NAME]  # the new version lies there already


@pytest.mark.parametrize(
    "content", [b"", b"not a notebook", b"\xff\xfe", b"[]", b'{"cells": 3}', b'{"cells": [{"a": 1}]}']
)
def test_what_cannot_be_read_is_left_alone(house, content):
    house.work.mkdir()
    (house.work / NAME).write_bytes(content)
    house.copy()
    assert (house.work / NAME).read_bytes() == content
    assert house.source(DATED) == "x = 1\nx"


def test_a_notebook_of_unknown_origin_is_the_learners(house):
    house.work.mkdir()
    (house.work / NAME).write_text(json.dumps(notebook("from elsewhere")))
    house.copy()
    assert house.source() == "from elsewhere"
    assert house.files == [DATED, NAME]


def test_a_link_that_leads_nowhere_is_left_alone(house):
    house.work.mkdir()
    (house.work / NAME).symlink_to(house.work / "gone.ipynb")
    house.copy()
    assert (house.work / NAME).is_symlink()
    assert house.files == [DATED, NAME]


def test_a_failing_disk_leaves_what_was_there(house, monkeypatch):
    house.copy()
    before = (house.work / NAME).read_bytes()
    house.publish("x = 2")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        house.copy()
    assert (house.work / NAME).read_bytes() == before
    assert [path.name for path in house.work.iterdir()] == [NAME]


def test_settings_are_written_where_the_learner_has_none(tmp_path):
    lab.write_settings(tmp_path)
    news = tmp_path / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    state = tmp_path / "@jupyter-widgets" / "jupyterlab-manager" / "plugin.jupyterlab-settings"
    assert json.loads(news.read_text()) == {"fetchNews": "false", "checkForUpdates": False}
    assert json.loads(state.read_text()) == {"saveState": True}
    news.write_text("{ // mine")
    lab.write_settings(tmp_path)
    assert news.read_text() == "{ // mine"


def test_main_copies_and_says_so(house, monkeypatch, capsys):
    monkeypatch.chdir(house.work.parent)
    monkeypatch.setattr(lab.resources, "folder", lambda name: house.kit)
    assert lab.main([], copy_only=True) == 0
    assert "Copied 1 lesson" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_one_sentence(house, monkeypatch, capsys):
    house.work.write_text("a file, no folder")
    monkeypatch.chdir(house.work.parent)
    monkeypatch.setattr(lab.resources, "folder", lambda name: house.kit)
    assert lab.main([], copy_only=True) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(house.work) in said and "start in a folder you may write to" in said


def test_a_kit_without_notebooks_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab.resources, "PACKAGE", tmp_path / "vit_edu")
    assert lab.main([], copy_only=True) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_jupyterlabs_terminal_knows_the_command(house, monkeypatch):
    seen = []
    app = SimpleNamespace(launch_instance=lambda words: seen.append(os.environ["PATH"]))
    monkeypatch.setitem(sys.modules, "jupyterlab.labapp", SimpleNamespace(LabApp=app))
    monkeypatch.chdir(house.work.parent)
    monkeypatch.setattr(lab.resources, "folder", lambda name: house.kit)
    monkeypatch.setenv("PATH", "/usr/bin")
    assert lab.main([]) == 0
    assert seen == [os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin"])]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_jupyterlab_opens_on_the_start_lesson_and_writes_nothing_outside(tmp_path):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    ours = lab.jupyter_places(tmp_path)
    env = {key: value for key, value in os.environ.items() if key not in ours and not key.startswith("XDG_")}
    words = ["lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token="]
    server = subprocess.Popen(
        [sys.executable, "-m", "vit_edu.cli", *words],
        cwd=here,
        env={**env, "HOME": str(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = threading.Timer(90, server.kill)  # which ends the reading below
    deadline.start()
    try:
        address = None
        for line in server.stdout:
            if match := re.search(r"(http://127\.0\.0\.1:\d+)/lab", line):
                address = match[1]
                break
        assert address, "JupyterLab did not start"
        start = wait_for(f"{address}/")
        places = json.loads(re.search(r'jupyter-config-data"[^>]*>(.*?)</script>', start.read().decode(), re.DOTALL)[1])
        assert Path(places["userSettingsDir"]) == here / "work" / ".jupyter" / "settings"
        assert Path(places["workspacesDir"]).is_relative_to(here / "work")
        assert start.url.endswith("/lab/tree/00_start_here.ipynb")
        listed = json.load(wait_for(f"{address}/api/contents"))["content"]
        assert "00_start_here.ipynb" in {item["name"] for item in listed}
    finally:
        deadline.cancel()
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    assert [str(path) for path in home.rglob("*")] == []
    assert [path.name for path in here.iterdir()] == ["work"]


def wait_for(address):
    until = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(address, timeout=10)
        except urllib.error.URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
