"""The one training loop: any module that gives a loss, on a CPU, a GPU or several processes.

Devices, mixed precision and processes are Lightning Fabric's. It leaves the loop in plain sight, moves gradients
through a gather (CLIP's loss needs every process's features), and holds no global state: two runs of one notebook may
differ in device and precision, where Accelerate allows one setting a process.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from vit_edu.layers.checks import check_at_least, check_positive, complaint

from . import state
from .draws import Draws, epoch_order
from .optim import adamw, parameter_groups, schedule


@dataclass(frozen=True)
class Plan:
    """How a run goes: how long, how fast, from which seed. `lr` is the highest one.

    With `seconds` the run ends then, whatever `epochs` says, and the learning rate falls with the clock. `ema` is the
    decay of an average of the weights (0: none), which is what is evaluated and kept. `precision` as Fabric has it;
    None is bf16-mixed on a GPU and 32-true elsewhere. Raises ValueError for numbers that make no run.
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
        check_at_least(1, batch_size=self.batch_size, evaluations=self.evaluations)
        check_positive(epochs=self.epochs, lr=self.lr, layer_decay=self.layer_decay, clip_grad=self.clip_grad)


@dataclass
class History:
    """What a run gave: one entry a report. `best` is the evaluation whose weights were kept, None without any."""

    rows: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None
    steps: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def new_fabric(accelerator: str = "auto", devices: int | str = 1, precision: str | None = None) -> Fabric:
    """Fabric on the GPU where there is one. Under torchrun it finds its processes by itself."""
    gpu = accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
    fabric = Fabric(
        accelerator=accelerator, devices=devices, precision=precision or ("bf16-mixed" if gpu else "32-true")
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

    `evaluate(module)` is asked plan.evaluations times; the weights with the highest "score" are kept at the end. With a
    `folder` the run leaves a checkpoint there every so many seconds, and a run that was killed goes on from it, to the
    same figures. Ctrl-C, or the notebook's stop button, ends a run in good order. A module with `after_step(progress)`
    has that called behind every step.
    Raises ValueError for a batch that is larger than the set or no multiple of the processes, FloatingPointError with
    what to do where the loss is no number.
    """
    fabric = fabric or new_fabric(precision=plan.precision)
    if plan.batch_size > n or plan.batch_size % fabric.world_size:
        found = f"batch_size={plan.batch_size} for {n} pictures and {fabric.world_size} processes"
        raise complaint(found, "at most the pictures, a multiple of the processes", "change batch_size")
    part = plan.batch_size // fabric.world_size
    rows = slice(fabric.global_rank * part, (fabric.global_rank + 1) * part)
    optimizer = adamw(parameter_groups(module, plan.weight_decay, plan.layer_decay), plan.lr, plan.betas)
    plain = module
    module, optimizer = fabric.setup(module, optimizer)
    average = AveragedModel(plain, multi_avg_fn=get_ema_multi_avg_fn(plan.ema), use_buffers=True) if plan.ema else None
    run = state.Run(plain, optimizer, average, History(), folder, fabric)
    run.resume(plan)

    an_epoch = n // plan.batch_size
    steps = max(1, round(plan.epochs * an_epoch))
    history, started, saved = run.history, time.monotonic(), time.monotonic()
    before = history.seconds
    due = {round(steps * (i + 1) / plan.evaluations) for i in range(plan.evaluations)} if evaluate else set()
    bar = tqdm(total=steps, initial=history.steps, desc="training", unit="step", disable=not fabric.is_global_zero)
    try:
        while history.steps < steps:
            progress = history.steps / steps
            if plan.seconds is not None:
                progress = history.seconds / plan.seconds
                if progress >= 1:
                    break
            for group in optimizer.param_groups:
                group["lr"] = plan.lr * group["lr_scale"] * schedule(progress, plan.warmup)
            epoch, place = divmod(history.steps, an_epoch)
            indices = epoch_order(n, plan.seed, epoch)[place * plan.batch_size :][: plan.batch_size][rows]
            draws = Draws(plan.seed, history.steps, plan.batch_size, rows, fabric.device)
            torch.manual_seed(
                plan.seed * 1_000_003 + history.steps * fabric.world_size + fabric.global_rank
            )  # drop path
            plain.train()
            loss = module(*make_batch(indices.to(fabric.device), draws))
            loss = loss[0] if isinstance(loss, tuple) else loss
            fabric.backward(loss)
            norm = fabric.clip_gradients(module, optimizer, max_norm=plan.clip_grad, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            if average:
                average.update_parameters(plain)
            if hasattr(plain, "after_step"):
                plain.after_step(progress, fabric)
            history.steps += 1
            history.seconds = before + time.monotonic() - started
            run.losses.append(loss.detach())
            bar.update()
            if len(run.losses) == 20 or history.steps == steps or history.steps in due:
                _report(history, run.losses, norm, fabric)
                bar.set_postfix({key: f"{value:.4g}" for key, value in history.rows[-1].items() if key == "loss"})
                if on_report and fabric.is_global_zero:
                    on_report(history)
            if history.steps in due:
                run.evaluate(evaluate)
                history.seconds = before + time.monotonic() - started
            if folder and (time.monotonic() - saved > checkpoint_every):
                run.save(plan)
                saved = time.monotonic()
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        bar.close()
    if evaluate and plan.seconds is not None:
        run.evaluate(evaluate)
    run.keep_best()
    if folder and not history.interrupted:
        run.save(plan)
    return history


def _report(history: History, losses: list[Tensor], norm: Tensor, fabric: Fabric) -> None:
    """One row for the steps since the last one; only here is the device waited for."""
    loss = fabric.all_reduce(torch.stack(losses).mean(), reduce_op="mean").item()
    losses.clear()
    history.rows.append({"step": history.steps, "loss": loss, "gradient": norm.item(), "seconds": history.seconds})
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"a loss of {loss} found at step {history.steps}, wanted a number; use a lower lr or a longer warmup."
        )
