"""The command line: help, what is passed on, what is refused."""

import pytest

from vit_edu import cli


@pytest.mark.parametrize("command", ["lab", "doctor", "build", "export", "train", "grade", "release"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"vit-edu {command}" in capsys.readouterr().out


def test_lab_passes_on_what_it_does_not_know(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "vit_edu.lab.main", lambda passed_on, copy_only: seen.update(args=passed_on, only=copy_only) or 0
    )
    assert cli.main(["lab", "--no-browser", "--port", "8899"]) == 0
    assert seen == {"args": ["--no-browser", "--port", "8899"], "only": False}
    cli.main(["lab", "--copy-only"])
    assert seen["only"] is True


@pytest.mark.parametrize("words", [["doctor", "--fast"], ["build", "--chek"], ["lba"], []])
def test_unknown_words_are_refused(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert "vit-edu: error:" in capsys.readouterr().err


def test_the_exit_code_is_the_commands(monkeypatch):
    monkeypatch.setattr("vit_edu.doctor.main", lambda: 1)
    assert cli.main(["doctor"]) == 1
