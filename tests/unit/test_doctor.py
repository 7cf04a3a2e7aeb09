"""The doctor: silent where all is well, a remedy for each problem, never a crash."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from vit_edu import datasets, doctor, resources

# A test machine may be short of memory or disk: these two have tests of their own.
WELL = [check for check in doctor.CHECKS if check not in (doctor.memory, doctor.disk)]


def remedies(check):
    return [row for row in doctor.rows([check]) if row.remedy]


@pytest.mark.parametrize("check", WELL, ids=lambda check: check.__name__)
def test_this_machine_is_well(check):
    rows = list(doctor.rows([check]))
    assert rows or check is doctor.imports
    assert [row for row in rows if row.remedy] == []


def test_the_report_is_aligned_text(monkeypatch, capsys):
    rows = list(doctor.rows(WELL))
    monkeypatch.setattr(doctor, "rows", lambda: rows)
    assert doctor.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "All is well."
    assert all(line.startswith("ok  ") and line[22] == " " and line[23] != " " for line in lines[:-2])


def test_missing_and_old_packages(monkeypatch):
    def version(name):
        if name == "einops":
            raise metadata.PackageNotFoundError(name)
        return "2.5.9+cpu" if name == "torch" else "99.1"

    monkeypatch.setattr(metadata, "version", version)
    found = {row.name: row for row in remedies(doctor.packages)}
    assert found.keys() == {"einops", "torch"}
    assert f'{sys.executable} -m pip install "einops>=' in found["einops"].remedy
    assert "2.6" in found["torch"].remedy


def test_a_torch_that_does_not_import_is_lines_and_no_crash(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open\\nmore')")
    code = "from vit_edu.doctor import main; raise SystemExit(main())"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (1, "")
    wrong = [line for line in run.stdout.splitlines() if line.startswith("!!")]
    assert {"import torch", "import torchvision", "device"} <= {line[4:22].strip() for line in wrong}
    assert all(" -> " in line for line in wrong)


@pytest.mark.parametrize(("available", "problems"), [(10_000_000, 0), (900_000, 1)])
def test_memory(monkeypatch, available, problems):
    monkeypatch.setattr(doctor, "_memory", lambda: (16e9, available * 1024))
    assert len(remedies(doctor.memory)) == problems


def test_memory_that_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(doctor, "_memory", lambda: (None, None))
    assert remedies(doctor.memory) == []


def test_full_disk(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 5e8})())
    assert [row.name for row in remedies(doctor.disk)] == ["disk", "cache"]


def test_damaged_data(monkeypatch):
    sentence = "photos/photos.npz is not what it was: git checkout data/photos"
    monkeypatch.setattr(datasets, "checksum_problems", lambda: [sentence])
    assert [row.remedy for row in remedies(doctor.data)] == [sentence]


def test_missing_lessons(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "folder", lambda name: tmp_path)
    assert len(remedies(doctor.lessons)) == 1

    def absent(name):
        raise FileNotFoundError("The kit's folder 'notebooks' is nowhere.")

    monkeypatch.setattr(resources, "folder", absent)
    assert "nowhere" in remedies(doctor.lessons)[0].value


def test_missing_widget_files(monkeypatch, tmp_path):
    widgets = tmp_path / "vit_edu" / "widgets"
    widgets.mkdir(parents=True)
    (widgets / "one.py").write_text('_esm = source("one.js", "drawing.js")\n_css = source("one.css")')
    (widgets / "one.js").write_text("export default {}")
    (widgets / "one.css").write_text("")
    monkeypatch.setattr(resources, "PACKAGE", widgets.parent)
    assert [row.value.split()[0] for row in remedies(doctor.widgets)] == ["drawing.js", "one.css"]
    assert {row.remedy for row in remedies(doctor.widgets)} == {doctor.AGAIN}
    (tmp_path / "pyproject.toml").touch()  # a checkout
    assert remedies(doctor.widgets)[0].remedy == "git checkout -- vit_edu/widgets/drawing.js"


def test_missing_extensions(monkeypatch, tmp_path):
    places = [str(tmp_path / "user"), str(tmp_path / "system")]
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda name: [f"{place}/{name}" for place in places])
    assert [row.name for row in remedies(doctor.widgets)] == ["anywidget", "ipywidgets"]
    (tmp_path / "system" / "labextensions" / "anywidget").mkdir(parents=True)
    assert [row.name for row in remedies(doctor.widgets)] == ["ipywidgets"]


def test_exit_code_and_arrow(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "rows", lambda: iter([doctor.Row("disk", "0 GB", "make room"), doctor.Row("cpu", "2")]))
    assert doctor.main() == 1
    assert "!!  disk               0 GB -> make room" in capsys.readouterr().out
