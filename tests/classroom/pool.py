"""A grader without torch, for the pool's own tests."""

import os
import signal
from pathlib import Path


def graded(content: bytes, answers: dict[str, str], only: tuple[str, ...]) -> dict:
    """Dies of the first notebook that it gets, and of every one where there is no place for the marker."""
    marker = answers["marker"]
    if not marker or not Path(marker).exists():
        if marker:
            Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"marks": [], "text": content.decode()}
