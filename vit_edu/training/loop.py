"""The one training loop: any module that gives a loss, on a CPU, a GPU or several processes.

Devices, mixed precision and processes are Lightning Fabric's. It leaves the loop in plain sight, moves gradients
through a gather (CLIP's loss needs every process's features), and holds no global state: two runs of one notebook may
differ in device and precision, where Accelerate allows one setting a process.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from vit_edu.layers.checks import check_at_least, check_choice, check_positive, complaint, plain, whole

from . import state
from .draws import Draws, epoch_order
from .optim import adamw, parameter_groups, schedule


@dataclass(frozen=True)
class Plan:
    """How a run goes: how long, how fast, from which seed. `lr` is the highest one.

    With `seconds` of training (evaluations do not count) the run ends if `epochs` are not over, and the learning rate
    falls with the clock. `ema` is the decay of an average of the weights (0: none), which is what is evaluated and
    kept. `precision`, "32-true" or "bf16-mixed", is for the Fabric that fit makes; None is bf16-mixed on a GPU that
    computes in it and 32-true elsewhere. Raises ValueError for numbers that make no run.
    """

    epochs: float = 10
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.05
    layer_decay: float = 1.0
    clip_grad: float = 1.0
    ema: float = 0.0
    seconds: float | None = None
    evaluations: int = 5
    seed: int = 0
    precision: str | None = None

    def __post_init__(self):
        for name, value in vars(self).items():  # a checkpoint would hold numpy's numbers, and then not be read again
            object.__setattr__(self, name, plain(value))
        check_at_least(1, batch_size=self.batch_size, evaluations=self.evaluations)
        check_positive(epochs=self.epochs, lr=self.lr, layer_decay=self.layer_decay, clip_grad=self.clip_grad)
        if self.seconds is not None:
            check_positive(seconds=self.seconds)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise complaint(f"betas={self.betas!r}", "two numbers", "the usual ones are (0.9, 0.999)")
        shares = {"warmup": self.warmup, "ema": self.ema, "weight_decay": self.weight_decay}
        for name, value in {**shares, "betas[0]": self.betas[0], "betas[1]": self.betas[1]}.items():
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise complaint(f"{name}={value!r}", "a number from 0 to below 1", f"change {name}")
        if self.precision is not None:
            check_choice("precision", self.precision, ["32-true", "bf16-mixed"])
        if not (whole(self.seed) and 0 <= self.seed < 2**31):
            raise complaint(f"seed={self.seed!r}", "a whole number from 0 to 2**31 - 1", "change seed")


@dataclass
class History:
    """What a run gave: one entry a report. `best` is the evaluation whose weights were kept, None without any."""

    rows: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None
    steps: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    finished: bool = False

    def whole(self) -> "History":
        """Itself; raises KeyboardInterrupt for a run that was interrupted, so that no figure is made of half a run."""
        if self.interrupted:
            raise KeyboardInterrupt
        return self


def new_fabric(accelerator: str = "auto", precision: str | None = None) -> Fabric:
    """Fabric on the GPU where there is one; under torchrun with as many processes as that has started.

    Raises ValueError for more processes than GPUs.
    """
    gpu = accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
    half = gpu and torch.cuda.is_bf16_supported(including_emulation=False)  # a T4 would only emulate it, slowly
    processes, nodes = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"))
    if gpu and processes > torch.cuda.device_count():
        found = f"{processes} processes for {torch.cuda.device_count()} GPU"
        raise complaint(found, "a GPU for each", "start fewer, or stay on the CPU (vit-edu train --cpu)")
    fabric = Fabric(
        accelerator=accelerator,
        devices=processes,
        num_nodes=nodes,
        precision=precision or ("bf16-mixed" if half else "32-true"),
    )
    fabric.launch()
    return fabric


def fit(
    module: nn.Module,
    n: int,
    make_batch: Callable[[Tensor, Draws], tuple],
    plan: Plan,
    *,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    folder: Path | None = None,
    on_report: Callable[[History], None] | None = None,
    fabric: Fabric | None = None,
    checkpoint_every: float = 60.0,
) -> History:
    """Train `module` in place, on n pictures: module(*make_batch(indices, draws)) is the loss (), or begins with it.

    make_batch gets indices (B,) int64 on the CPU and gives tensors on draws.device, as those of batches.py do.

    `evaluate(module)` is asked plan.evaluations times, evenly, the last time at the end; the weights with the highest
    "score" are kept. With a `folder` the run leaves a checkpoint there every so many seconds, and a run that was killed
    goes on from it, to the same figures. Ctrl-C, or the notebook's stop button, ends a run in good order. A module with
    `after_step(progress, fabric)` has that called behind every step. Every step seeds torch's generator.
    Several processes share a batch and end as one would, but for rounding and for what draws or averages over the own
    part of it: drop path and batch norm.
    Raises ValueError for a batch that is larger than the set or no multiple of the processes, and for a folder that is
    another run's; OSError for one that can't be written; FloatingPointError with what to do where the loss is no number
    (the best weights that were evaluated are in the module then).
    """
    fabric = fabric or new_fabric(precision=plan.precision)
    rows = _own_rows(plan.batch_size, n, fabric)
    optimizer = adamw(parameter_groups(module, plan.weight_decay, plan.layer_decay), plan.lr, plan.betas)
    wrapped, optimizer = fabric.setup(module, optimizer)
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(plan.ema), use_buffers=True) if plan.ema else None
    run = state.Run(module, optimizer, average, History(), folder, fabric)
    run.resume(plan, n)
    history, an_epoch = run.history, n // plan.batch_size
    steps = max(1, round(plan.epochs * an_epoch))

    def done() -> float:  # the share of the run that is over
        return max(history.steps / steps, history.seconds / (plan.seconds or math.inf))

    started, saved = time.monotonic() - history.seconds, time.monotonic()
    total = steps if plan.seconds is None else None
    bar = tqdm(total=total, initial=history.steps, desc="training", unit="step", disable=not fabric.is_global_zero)
    try:
        while done() < 1:
            progress = (history.steps + 0.5) / steps if plan.seconds is None else history.seconds / plan.seconds
            for group in optimizer.param_groups:
                group["lr"] = plan.lr * group["lr_scale"] * schedule(progress, plan.warmup)
            epoch, place = divmod(history.steps, an_epoch)
            batch = epoch_order(n, plan.seed, epoch)[place * plan.batch_size :][: plan.batch_size]
            draws = Draws(plan.seed, history.steps, plan.batch_size, rows, fabric.device)
            torch.manual_seed(draws.seed * fabric.world_size + fabric.global_rank)  # drop path draws from here

            module.train()
            loss = wrapped(*make_batch(batch[rows], draws))
            loss = loss[0] if isinstance(loss, tuple) else loss
            if loss.ndim:
                remedy = "take the mean in the module's forward; a model learns inside Supervised(model)"
                raise complaint(f"a loss of shape {tuple(loss.shape)}", "one number, ()", remedy)
            fabric.backward(loss)
            norm = fabric.clip_gradients(wrapped, optimizer, max_norm=plan.clip_grad, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            if average:
                average.update_parameters(module)
            if hasattr(module, "after_step"):
                module.after_step(progress, fabric)

            history.steps += 1
            history.seconds = time.monotonic() - started
            if plan.seconds and fabric.world_size > 1:
                history.seconds = fabric.broadcast(history.seconds)  # one clock for all
            run.losses.append(fabric.all_reduce(loss.detach(), reduce_op="mean"))  # everyone's, so that one can keep it
            run.norm = norm
            bar.update()
            due = evaluate and len(history.evaluations) < int(done() * plan.evaluations)
            if len(run.losses) == 20 or due or done() >= 1:
                _report(run)
                bar.set_postfix(loss=f"{history.rows[-1]['loss']:.4g}")
                if on_report and fabric.is_global_zero:
                    on_report(history)
            if due:
                paused = time.monotonic()
                run.evaluate(evaluate)
                started += time.monotonic() - paused
            if folder and time.monotonic() - saved > checkpoint_every:
                check_number(history.steps, loss.item(), norm.item())
                run.save(plan, n)
                saved = time.monotonic()
        history.finished = True
        if folder:
            run.save(plan, n)
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        bar.close()
        run.keep_best()
        run.unlock()
    if on_report and fabric.is_global_zero:
        on_report(history)
    return history


def _own_rows(batch_size: int, n: int, fabric: Fabric) -> slice:
    """The part of every batch that is this process's."""
    if batch_size > n or batch_size % fabric.world_size:
        found = f"batch_size={batch_size} for {n} pictures and {fabric.world_size} processes"
        raise complaint(found, "at most the pictures, a multiple of the processes", "change batch_size")
    part = batch_size // fabric.world_size
    return slice(fabric.global_rank * part, (fabric.global_rank + 1) * part)


def _report(run: state.Run) -> None:
    """One row for the steps since the last one; only here is the device waited for."""
    loss, history = torch.stack(run.losses).mean().item(), run.history
    run.losses.clear()
    row = {"step": history.steps, "loss": loss, "gradient": run.norm.item(), "seconds": history.seconds}
    history.rows.append(row)
    check_number(history.steps, loss, row["gradient"])


def check_number(step: int, loss: float, gradient: float) -> None:
    """Both are finite, else FloatingPointError."""
    if not (math.isfinite(loss) and math.isfinite(gradient)):
        raise FloatingPointError(
            f"a loss of {loss} with a gradient of {gradient} found at step {step}, wanted numbers; use a lower lr or a "
            "longer warmup, and another folder."
        )
