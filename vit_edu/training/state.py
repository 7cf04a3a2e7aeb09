"""What a run must not lose: a checkpoint that survives being killed, and the best weights so far."""

import copy
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from vit_edu.layers.checks import complaint

FILE = "run.pt"


class Run:
    """The weights, the optimiser's state, the average, the best weights and the history of a run that goes on."""

    def __init__(self, module, optimizer, average, history, folder: Path | None, fabric: Fabric):
        self.module, self.optimizer, self.average = module, optimizer, average
        self.history, self.folder, self.fabric = history, folder and Path(folder), fabric
        self.best: dict | None = None
        self.losses: list[Tensor] = []  # () each, since the last report

    @property
    def weights(self) -> nn.Module:
        """What is evaluated and kept: the average where there is one."""
        return self.average.module if self.average else self.module

    def evaluate(self, evaluate: Callable[[nn.Module], dict[str, float]]) -> None:
        """One entry in the history; the weights are remembered if their score is the highest so far."""
        self.weights.eval()
        with torch.no_grad():
            figures = {"step": self.history.steps} | evaluate(self.weights)
        self.history.evaluations.append(figures)
        if self.history.best is None or figures.get("score", 0.0) >= self.history.best.get("score", 0.0):
            self.history.best = figures
            self.best = {name: x.detach().clone() for name, x in self.weights.state_dict().items()}

    def keep_best(self) -> None:
        """The best weights, or the last ones of the average where nothing was evaluated, into the module."""
        self.module.load_state_dict(self.best or self.weights.state_dict())
        self.module.eval()

    def save(self, plan) -> None:
        """One file, whole or not at all: it is written beside the old one and then takes its place."""
        if not self.fabric.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "plan": dataclasses.asdict(plan),
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
            draft.unlink(missing_ok=True)
            print(f"The checkpoint could not be written to {self.folder} ({error}); training goes on without it.")

    def resume(self, plan) -> None:
        """Take up what a run of this plan left in the folder. Raises ValueError for another plan's and a broken one."""
        path = self.folder and self.folder / FILE
        if not path or not path.exists():
            return
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            remedy = f"delete {path} to start anew"
            raise complaint(f"{path.name}, broken,", "a checkpoint of this run", remedy) from error
        if content["plan"] != dataclasses.asdict(plan):
            remedy = f"delete {path} to start anew, or give each run a folder of its own"
            raise complaint("a checkpoint of another plan", "this run's own", remedy)
        self.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.average:
            self.average.load_state_dict(content["average"])
        self.best, self.losses = content["best"], [loss.to(self.fabric.device) for loss in content["losses"]]
        for name, value in content["history"].items():
            setattr(self.history, name, copy.copy(value))
