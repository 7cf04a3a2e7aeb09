"""`vit-edu doctor`: is everything in place here? Every problem comes with its remedy. It never crashes itself."""

import importlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from vit_edu import resources

GB = 1e9
PIP = f"{sys.executable} -m pip install"
AGAIN = f'install the kit again, in its folder: {PIP} -e ".[lab]"'
REINSTALL = f"{PIP} --force-reinstall torch torchvision (both in one command, so that they match)"


class Row(NamedTuple):
    """One line of the report; `remedy` only where something is wrong."""

    name: str
    value: str
    remedy: str = ""


def _version(text: str) -> tuple[int, ...]:
    """The numbers at the front of a version: "2.15.0+cpu" -> (2, 15, 0)."""
    return tuple(int(part) for part in re.match(r"\d*(?:\.\d+)*", text).group().split(".") if part)


def python() -> Iterator[Row]:
    """Python itself; the floor is pyproject's."""
    wanted = metadata.metadata("vit-edu")["Requires-Python"].lstrip(">=")
    old = sys.version_info[:2] < _version(wanted)
    yield Row("python", platform.python_version(), f"needs {wanted} or newer: make a new environment" if old else "")


def packages() -> Iterator[Row]:
    """What pyproject.toml asks of the core and of the extra `lab`."""
    for line in metadata.requires("vit-edu") or ():
        requirement, _, marker = line.partition(";")
        if marker and not re.search(r"extra == ['\"]lab['\"]", marker):
            continue
        name, wanted = re.match(r"([\w.-]+)(?:\[.*\])?>=([\d.]+)", requirement.strip()).groups()
        fix = f'{PIP} "{name}>={wanted}"'
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Row(name, "missing", fix)
        else:
            yield Row(name, found, f"needs {wanted} or newer: {fix}" if _version(found) < _version(wanted) else "")


def imports() -> Iterator[Row]:
    """A package can be there and broken: a torch and a torchvision that do not match fail only at import."""
    for name in ("torch", "torchvision"):
        try:
            importlib.import_module(name)
        except Exception as error:
            yield Row(f"import {name}", f"fails: {_first_line(error)}", REINSTALL)


def device() -> Iterator[Row]:
    """What computes."""
    import torch

    yield Row("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads in torch, {platform.machine()}")
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        yield Row(f"cuda:{index}", f"{about.name}, {about.total_memory / GB:.0f} GB")
    if torch.backends.mps.is_available():
        yield Row("mps", f"Apple GPU, {torch.mps.recommended_max_memory() / GB:.0f} GB")
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        yield Row("cuda", "an NVIDIA driver is here, but torch cannot use it (no harm: the lessons run on the CPU)")


def memory() -> Iterator[Row]:
    """Total and free memory; a container's limit counts."""
    total, free = _memory()
    if total is None:
        yield Row("memory", "unknown on this system")
        return
    tight = free is not None and free < 1.5 * GB
    value = f"{total / GB:.1f} GB" + (f", {free / GB:.1f} GB free" if free is not None else "")
    yield Row("memory", value, "a lesson takes up to 1.5 GB: close other programs and kernels" if tight else "")


def _memory() -> tuple[float | None, float | None]:
    """Bytes (total, free); None for what the system does not tell."""
    total = free = None
    info = Path("/proc/meminfo")
    if info.is_file():
        kilobytes = dict(re.findall(r"(\w+):\s+(\d+) kB", info.read_text()))
        total, free = int(kilobytes["MemTotal"]) * 1024, int(kilobytes["MemAvailable"]) * 1024
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.is_file() and (text := limit.read_text().strip()).isdigit() and total and int(text) < total:
        total = int(text)
        free = min(free, total - int((group / "memory.current").read_text()))
    return total, free


def disk() -> Iterator[Row]:
    """Free disk here and where downloads are kept."""
    for name, place in {"disk": Path.cwd(), "cache": resources.cache_dir()}.items():
        there = next(path for path in (place, *place.parents) if path.exists())
        free = shutil.disk_usage(there).free
        remedy = "less than 1 GB is free: make room" + (", or set VIT_EDU_CACHE" if name == "cache" else "")
        yield Row(name, f"{free / GB:.0f} GB free in {place}", remedy if free < GB else "")


def data() -> Iterator[Row]:
    """The bundled data sets against their checksums."""
    from vit_edu import datasets

    problems = datasets.checksum_problems()
    for problem in problems:
        yield Row("data", "damaged", problem)
    if not problems:
        yield Row("data", f"as it should be, in {resources.folder('data')}")


def lessons() -> Iterator[Row]:
    """The learner's notebooks."""
    found = len(list(resources.folder("notebooks").glob("*.ipynb")))
    yield Row("lessons", f"{found} in {resources.folder('notebooks')}", "" if found else AGAIN)


def widgets() -> Iterator[Row]:
    """The .js and .css files that the explorers name, and the extensions that let JupyterLab show them."""
    folder = resources.PACKAGE / "widgets"
    code = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))
    files = sorted(set(re.findall(r"""["']([\w-]+\.(?:js|css))["']""", code)))
    missing = [name for name in files if not (folder / name).is_file() or not (folder / name).stat().st_size]
    checkout = (resources.PACKAGE.parent / "pyproject.toml").is_file()
    for name in missing:
        remedy = f"git checkout -- vit_edu/widgets/{name}" if checkout else AGAIN
        yield Row("widgets", f"{name} is missing or empty", remedy)
    if not missing:
        yield Row("widgets", f"all {len(files)} files in place")
    from jupyter_core.paths import jupyter_path

    places = [Path(place) for place in jupyter_path("labextensions")]
    for package, folder in {"anywidget": "anywidget", "ipywidgets": "@jupyter-widgets/jupyterlab-manager"}.items():
        if not any((place / folder).is_dir() for place in places):
            yield Row(package, "JupyterLab would show blanks", f"{PIP} --force-reinstall {package} jupyterlab_widgets")


CHECKS: list[Callable[[], Iterator[Row]]] = [
    python, packages, imports, device, memory, disk, data, lessons, widgets,
]  # fmt: skip


def rows(checks: list[Callable[[], Iterator[Row]]] = CHECKS) -> Iterator[Row]:
    """Everything that the checks say. A check that cannot be made is a problem too, and no crash."""
    for check in checks:
        try:
            yield from check()
        except Exception as error:
            reason = f"cannot be looked at: {type(error).__name__}: {_first_line(error)}"
            yield Row(check.__name__, reason, AGAIN)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def main() -> int:
    """The command: prints the report. Returns 1 where there is a problem, else 0."""
    problems = 0
    for row in rows():
        problems += bool(row.remedy)
        print(
            f"{'!!' if row.remedy else 'ok'}  {row.name:<18} {row.value}" + (f" -> {row.remedy}" if row.remedy else "")
        )
    print(
        f"\n{problems} problem{'s' * (problems != 1)}; what to do stands behind each ->"
        if problems
        else "\nAll is well."
    )
    return 1 if problems else 0
