"""`vit-edu lab`: the lessons in work/, and JupyterLab on them. What a learner has changed or run stays as it is."""

import contextlib
import datetime
import hashlib
import json
import os
import platform
import sys
from pathlib import Path

from vit_edu import resources

START = "00_start_here.ipynb"
# As JupyterLab writes them on opening; any other and a lesson that nobody touched would count as changed.
PYTHON = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        "version": platform.python_version(),
    },
}
# Where the learner has none: no question and no network at the start; a reopened lesson shows its explorers.
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True},
}
OFFERED = ".offered.json"  # which changed lessons were put beside a learner's, so that one thrown away stays away


def cells_hash(notebook: dict) -> str:
    """What the cells say, without outputs and empty cells. Raises KeyError, TypeError or AttributeError."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    cells = [cell for cell in cells if cell[1].strip()]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def handed_out(path: Path) -> tuple[dict, str]:
    """The kit's lesson at `path` as a learner gets it: outputs cleared, so that no prediction is spoilt; and its hash.

    The hash is also noted in the copy, so that it can be told later whether the learner has changed it.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    fresh = cells_hash(notebook)
    notebook["metadata"].update(PYTHON)
    notebook["metadata"].setdefault("vit_edu", {})["copied"] = fresh
    return notebook, fresh


def learners(path: Path) -> tuple[str | None, str | None, bool]:
    """(hash of the file as it is, hash of what was copied there, has it outputs); None for what cannot be read."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        ran = any(cell.get("outputs") for cell in notebook["cells"])
        return cells_hash(notebook), notebook.get("metadata", {}).get("vit_edu", {}).get("copied"), ran
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, None, False


def copy_lessons(source: Path, work: Path, today: datetime.date | None = None) -> list[str]:
    """Copies the notebooks of `source` into `work` and returns one sentence for each thing that it did.

    A file that a learner has changed or run is left as it is, and a lesson that has changed since then is put beside it
    as NAME.YYYY-MM-DD.ipynb, once. Raises OSError where `work` cannot be written.
    """
    work.mkdir(exist_ok=True)
    offered, said, copied = _offered(work), [], 0
    for path in sorted(source.glob("*.ipynb")):
        lesson, fresh = handed_out(path)
        target = work / path.name
        if not os.path.lexists(target):
            _write(target, lesson)
            copied += 1
            continue
        mine, base, ran = learners(target)
        if fresh in (mine, base):  # nothing new in the kit
            continue
        if mine is not None and mine == base and not ran:
            _write(target, lesson)
            said.append(f"{path.name} has a new version; yours was as it came, so it was replaced.")
        elif offered.get(path.name) != fresh:
            beside = _beside(target, fresh, today or datetime.date.today())
            if not beside.exists():
                _write(beside, lesson)
            offered[path.name] = fresh
            _write(work / OFFERED, offered)
            said.append(
                f"{path.name} has a new version; yours was left as it is, the new one is beside it: {beside.name}"
            )
    if copied:
        said.insert(0, f"Copied {copied} lesson{'s' * (copied > 1)} into {work}.")
    return said


def _offered(work: Path) -> dict[str, str]:
    try:
        found = json.loads((work / OFFERED).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _beside(target: Path, fresh: str, today: datetime.date) -> Path:
    """The dated file that was copied from this version, or a dated name that is free."""
    for path in target.parent.glob(f"{target.stem}.????-??-??*.ipynb"):
        if learners(path)[1] == fresh:
            return path
    name, number = f"{target.stem}.{today}", 1
    while os.path.lexists(target.with_name(name + ".ipynb")):
        number += 1
        name = f"{target.stem}.{today}-{number}"
    return target.with_name(name + ".ipynb")


def _write(path: Path, content: dict) -> None:
    """All of it or nothing."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(half, path)
    except OSError:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)
        raise


def jupyter_places(folder: Path) -> dict[str, str]:
    """Environment variables: what Jupyter, IPython and matplotlib write goes into `folder`, not to the home folder."""
    home = folder / ".jupyter"
    home.mkdir(exist_ok=True)
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
        "MPLCONFIGDIR": "matplotlib",
    }
    return {name: str(home / place) for name, place in places.items()}


def write_settings(folder: Path) -> None:
    """JupyterLab's settings for the lessons into `folder`; a file that is there is the learner's and stays."""
    for name, content in SETTINGS.items():
        path = folder / f"{name}.jupyterlab-settings"
        if not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)


def main(passed_on: list[str], copy_only: bool = False) -> int:
    """The command. `passed_on` are JupyterLab's arguments. Returns the exit code."""
    work = Path.cwd() / "work"
    try:
        for sentence in copy_lessons(resources.folder("notebooks"), work):
            print(sentence, flush=True)
        ours = jupyter_places(work)
        write_settings(Path(ours["JUPYTERLAB_SETTINGS_DIR"]))
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or work}"
        print(
            f"The lessons cannot be copied into {work} ({reason}); start in a folder you may write to.", file=sys.stderr
        )
        return 1
    if copy_only:
        return 0
    for name, place in ours.items():
        os.environ.setdefault(name, place)
    scripts = str(Path(sys.executable).parent)  # so that JupyterLab's terminal knows vit-edu
    os.environ["PATH"] = os.pathsep.join(filter(None, [scripts, os.environ.get("PATH")]))
    try:
        from jupyterlab.labapp import LabApp  # reads the environment when it is imported
    except ImportError as error:
        print(
            f"JupyterLab is not complete here ({error}): {sys.executable} -m pip install -e '.[lab]'", file=sys.stderr
        )
        return 1
    os.chdir(work)  # the folder that JupyterLab shows
    words = [
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",  # no question and no network at the start
        "--LabApp.news_url=None",
        "--LanguageServerManager.autodetect=False",  # would run npm
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # a container, where Jupyter would only refuse
        words.append("--allow-root")
    if "JUPYTER_TOKEN" not in os.environ and not any("token" in word or "password" in word for word in passed_on):
        words.append("--log-level=WARN")  # else our sentences scroll away; the address with a fresh token shows even so
    if Path(START).exists():
        words.append(f"--LabApp.default_url=/lab/tree/{START}")
    LabApp.launch_instance([*words, *passed_on])
    return 0
