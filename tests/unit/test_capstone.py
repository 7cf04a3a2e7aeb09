"""docs/capstone.md: every first cell runs on what is bundled, and every project is whole."""

import re
from pathlib import Path

import pytest

from vit_edu import downloads

TEXT = (Path(__file__).resolve().parents[2] / "docs/capstone.md").read_text(encoding="utf-8")
PROJECTS = re.split(r"(?m)^## ", TEXT)[1:]
each_project = pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.splitlines()[0])


@each_project
def test_the_first_cell_runs_without_network(project, monkeypatch, capsys):
    def no_network(name, split, img_size):
        raise downloads.DownloadError("no network")

    monkeypatch.setattr(downloads, "read", no_network)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)  # or ImageNet's weights are fetched
    (cell,) = re.findall(r"(?s)```python\n(.*?)```", project)
    exec(compile(cell, "capstone", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert printed.count("\n") >= 2, printed
    assert ("goes on with the bundled" in printed) == ("on request" in project)


@each_project
def test_a_project_has_a_target_and_a_rubric(project):
    (target,) = re.findall(r"(?m)^\*\*Target:\*\* (.*)$", project)
    assert "../data/records/" in target or "not measured by us" in target
    for record in re.findall(r"\.\./(data/records/\w+\.json)", target):
        assert (Path(__file__).resolve().parents[2] / record).is_file()
    assert 4 <= len(re.findall(r"(?m)^\| [a-z]", project)) <= 6


def test_there_are_five():
    assert len(PROJECTS) == 5
