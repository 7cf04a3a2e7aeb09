"""pyproject.toml, environment.yml and Binder's say the same."""

import os
import re
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

from vit_edu import resources

ROOT = Path(__file__).resolve().parents[2]
CONDA = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}  # names that differ on conda-forge
CONDA_ONLY = {"python", "pip"}


def conda_packages():
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    lines = [line for entry in lines for line in (entry["pip"] if isinstance(entry, dict) else [entry])]
    return dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in lines)


def test_binder_has_the_same_file():
    assert (ROOT / "binder" / "environment.yml").read_bytes() == (ROOT / "environment.yml").read_bytes()


def test_same_packages_as_pyproject():
    wanted = {}
    for line in metadata.requires("vit-edu"):
        requirement, _, marker = line.partition(";")
        name, floor = re.fullmatch(r"([\w-]+)(?:\[.*\])?(.*)", requirement.strip()).groups()
        if not marker or "lab" in re.findall(r"extra == ['\"](\w+)['\"]", marker):
            wanted[CONDA.get(name, name)] = floor
    found = conda_packages()
    assert {name: floor for name, floor in found.items() if name not in CONDA_ONLY} == wanted


def test_python_is_pinned_and_new_enough():
    pin = conda_packages()["python"]
    assert re.fullmatch(r"=3\.\d+", pin)
    floor = metadata.metadata("vit-edu")["Requires-Python"]
    assert int(pin.split(".")[1]) >= int(floor.split(".")[1])


def test_binder_and_ci_scripts_are_executable():
    for script in (ROOT / "binder" / "postBuild", ROOT / ".ci" / "run"):
        assert os.access(script, os.X_OK), script


def test_address_stands_in_one_place():
    """Written by hand in pyproject.toml only; README and notebooks get it from there."""
    address = resources.repository_url()
    written = [*ROOT.glob("*.*"), *(ROOT / "binder").iterdir(), *(ROOT / "course").glob("*.py")]
    written += (ROOT / "vit_edu").rglob("*.py")
    holds = [p.name for p in written if p.is_file() and address in p.read_text(encoding="utf-8", errors="ignore")]
    assert holds == ["pyproject.toml"]


@pytest.mark.parametrize("name", ["data", "notebooks"])
def test_a_checkout_has_its_folders_beside_the_package(name):
    assert resources.folder(name) == ROOT / name


def test_the_data_of_another_package_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "vit_edu")  # as in site-packages
    with pytest.raises(FileNotFoundError, match="install vit-edu again"):
        resources.folder("data")


def test_wheel_carries_data_and_lessons(tmp_path):
    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("data", "notebooks"):
        files = {f"vit_edu/{p.relative_to(ROOT)}" for p in (ROOT / folder).rglob("*") if p.is_file()}
        assert {name for name in files if "/." not in name and "__pycache__" not in name} <= names
    for suffix in (".py", ".js", ".css"):
        assert {str(p.relative_to(ROOT)) for p in (ROOT / "vit_edu").rglob(f"*{suffix}")} <= names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"vit_edu"}
