"""For every test and every notebook: network off, and the user's Jupyter, IPython and matplotlib left alone."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from vit_edu import lab
from vit_edu.classroom import editions
from vit_edu.classroom.offline import sitecustomize  # noqa: F401  # this process too stays on the loopback


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # one of xdist's workers: the rest is inherited, the cores are shared
        cores = (os.cpu_count() or 1) // config.workerinput["workercount"]
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))
        return
    config.scratch = tempfile.mkdtemp(prefix="vit-edu-tests-")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(editions.OFFLINE), os.environ.get("PYTHONPATH")]))
    os.environ.update(lab.jupyter_places(Path(config.scratch)))


def pytest_terminal_summary(terminalreporter):
    """A line for each reason to skip tests. Here and not beside the tests, since xdist's controller loads no others."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


def pytest_unconfigure(config):
    if scratch := getattr(config, "scratch", None):
        shutil.rmtree(scratch, ignore_errors=True)
