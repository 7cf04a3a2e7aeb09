"""What a run must not lose: a checkpoint that survives being killed, and the best weights so far."""

import contextlib
import dataclasses
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from torch import Tensor, nn

from vit_edu.layers.checks import complaint

FILE = "run.pt"


def _score(figures: dict[str, float]) -> float:
    """What the best has most of; no number is the least."""
    return -math.inf if math.isnan(figures["score"]) else figures["score"]


class Run:
    """The weights, the optimiser's state, the average, the best weights and the history of a run that goes on."""

    def __init__(self, module, optimizer, average, history, folder: Path | None, fabric: Fabric):
        self.module, self.optimizer, self.average = module, optimizer, average
        self.history, self.folder, self.fabric = history, folder and Path(folder), fabric
        self.best: dict | None = None
        self.losses: list[Tensor] = []  # () each, since the last report
        self.norm = torch.tensor(0.0)  # of the last gradient
        self.lock = self._lock() if self.folder and fabric.is_global_zero else None

    def _lock(self) -> FileLock:
        """The folder, and it is this run's alone; the system takes the lock from a process that is killed."""
        lock = FileLock(self.folder / "run.lock", timeout=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise complaint(f"another run in {self.folder}", "a folder of its own", "wait, or choose another") from None
        except OSError as error:
            found = f"{self.folder}, where nothing can be written ({error.strerror}),"
            raise complaint(found, "a folder for checkpoints", "choose another", OSError) from error
        return lock

    def unlock(self) -> None:
        if self.lock:
            self.lock.release()

    @property
    def weights(self) -> nn.Module:
        """What is evaluated and kept: the average where there is one."""
        return self.average.module if self.average else self.module

    def evaluate(self, evaluate: Callable[[nn.Module], dict[str, float]]) -> None:
        """One entry in the history; the weights are remembered if their score is the highest so far."""
        self.weights.eval()
        with torch.no_grad():
            figures = {name: float(x) for name, x in evaluate(self.weights).items()}
        if "score" not in figures:
            found = f"an evaluation that gives {', '.join(figures) or 'nothing'}"
            raise complaint(found, '"score" among it, the higher the better', "name one figure so")
        figures = {"step": self.history.steps} | figures
        self.history.evaluations.append(figures)
        if self.history.best is None or _score(figures) >= _score(self.history.best):
            self.best = {name: x.detach().clone() for name, x in self.weights.state_dict().items()}
            self.history.best = figures

    def keep_best(self) -> None:
        """The best weights, or the last ones of the average where nothing was evaluated, into the module."""
        self.module.load_state_dict(self.best or self.weights.state_dict())
        self.module.eval()

    def save(self, plan, n: int) -> None:
        """One file, whole or not at all: it is written beside the old one and then takes its place."""
        if not self.fabric.is_global_zero:
            return
        content = {
            "run": self._about(plan, n),
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "best": self.best,
            "losses": self.losses,
            "history": dataclasses.asdict(self.history),
        }
        draft = self.folder / f"{FILE}.new"
        try:
            torch.save(content, draft)
            os.replace(draft, self.folder / FILE)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError for a full disk
            print(f"The checkpoint could not be written to {self.folder} ({error}); training goes on without it.")
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)  # half a file, where it has not taken the other's place

    def _about(self, plan, n: int) -> dict:
        """What a run shares with the one that goes on from it: plan, pictures, names and shapes of weights."""
        shapes = {name: list(x.shape) for name, x in self.module.state_dict().items()}
        learning = [name for name, x in self.module.named_parameters() if x.requires_grad]
        return {"plan": dataclasses.asdict(plan), "pictures": n, "weights": shapes, "learning": learning}

    def resume(self, plan, n: int) -> None:
        """Take up what the same run left in the folder. Raises ValueError for another run's and for a broken one."""
        path = self.folder and self.folder / FILE
        if not path or not path.exists():
            return
        remedy = f"delete {path} to start anew"
        try:
            content = _whole(path)
            other = [name for name, mine in self._about(plan, n).items() if content["run"][name] != mine]
            if not other:
                self._take_up(content)
        except Exception as error:
            self.unlock()
            raise complaint(f"{path.name}, broken,", "a checkpoint of this run", remedy) from error
        if other:
            self.unlock()
            found, remedy = f"its {' and '.join(other)}", f"{remedy}, or give each run a folder of its own"
            raise complaint(f"a checkpoint of another run ({found})", "this run's own", remedy)

    def _take_up(self, content: dict) -> None:
        self.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.average:
            self.average.load_state_dict(content["average"])
        self.best, self.losses = content["best"], [loss.to(self.fabric.device) for loss in content["losses"]]
        self.history = type(self.history)(**content["history"])


def _whole(path: Path) -> dict:
    """What save wrote. torch.load itself passes over a wrong checksum, and a flipped bit would be trained on."""
    with zipfile.ZipFile(path) as file:
        if damaged := file.testzip():
            raise ValueError(f"{damaged} is not what was written")
    return torch.load(path, map_location="cpu", weights_only=True)
