"""Ours beside timm, torchvision, transformers and vit-pytorch: forward and training step, turn by turn.

    make bench                                  # everything: about ten minutes on two cores
    make bench ARGS="--quick"                   # a minute: fewer models and rounds, nothing compiled
    make bench ARGS="--only swin --rounds 30"

On a GPU in bfloat16 where there is one (`--device cpu` for the other), else on the CPU in float32. Writes a table, a
plot and all numbers to bench/results/; a part's (--quick, --only) go to bench/results/part/ and not into git.
"""

import argparse
import datetime
import importlib.metadata
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import report, timing
from bench.cases import CASES, OURS, Case
from vit_edu.training import records

RESULTS = Path(__file__).resolve().parent / "results"
LIBRARIES = ("torch", "timm", "torchvision", "transformers", "vit-pytorch")
CEILING = "matrix product"  # a contestant of its own: what the device reaches where nothing else is to be done
PRODUCT = {"cpu": 2048, "cuda": 8192}  # its side
DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}
ROUNDS = {"cpu": 15, "cuda": 50}
TURN = {"cpu": 0.0, "cuda": 0.1}  # seconds; a single step on a GPU is too short to time


def loss_of(answer, labels: Tensor | None) -> Tensor:
    """Libraries answer with logits, an object that holds them or the loss, or a tuple that begins with the loss."""
    if labels is None:
        return answer[0] if isinstance(answer, tuple) else answer.loss
    return F.cross_entropy(getattr(answer, "logits", answer).float(), labels)


def forward(model: nn.Module, images: Tensor, labels: Tensor | None, dtype: torch.dtype) -> Callable[[], object]:
    """Inference, weights and images in `dtype`."""
    model, images = model.eval().to(dtype), images.to(dtype)

    @torch.inference_mode()
    def step():
        return model(images)

    return step


def training(model: nn.Module, images: Tensor, labels: Tensor | None, dtype: torch.dtype) -> Callable[[], object]:
    """Forward, cross entropy, backward, AdamW; weights in float32, under autocast where `dtype` is another."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)

    def step():
        with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype != torch.float32):
            loss = loss_of(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


STEPS = {"forward": forward, "training": training}


def flops_of(case: Case) -> float:
    """Floating-point operations of one image's forward, a multiplication and an addition counted as two.

    Counted without data, in matrix products and convolutions. A training step counts as three forwards.
    """
    with torch.device("meta"):
        model, images = case.makers[OURS](), torch.empty(2, 3, case.img_size, case.img_size)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(images)
    return counter.get_total_flops() / len(images)


def check_equal_work(models: dict[str, nn.Module]) -> dict[str, int]:
    """Parameters by library. Raises RuntimeError where they differ by 1 % or a library still drops something."""
    counts = {name: sum(parameter.numel() for parameter in model.parameters()) for name, model in models.items()}
    if any(abs(count / counts[OURS] - 1) > 0.01 for count in counts.values()):
        raise RuntimeError(f"not the same model: {counts} parameters")
    for name, model in models.items():
        for path, module in model.named_modules():
            for rate in ("p", "drop_prob", "rate"):
                if isinstance(getattr(module, rate, None), float) and getattr(module, rate) > 0:
                    raise RuntimeError(f"{name} drops something in {path}: {rate}={getattr(module, rate)}")
    return counts


@torch.no_grad()
def settle(model: nn.Module, images: Tensor) -> None:
    """Batch norms with the images' statistics. With a new model's the activations of some shrink to denormal numbers,
    over which a CPU takes ten times as long."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        model.train()(images)


def measure(case: Case, step: str, compiled: bool, device: str, rounds: int, libraries: list[str]) -> dict:
    """One row of the table."""
    torch.manual_seed(0)
    batch = case.batch[device]
    images = torch.randn(batch, 3, case.img_size, case.img_size, device=device)
    labels = torch.randint(case.num_classes, (batch,), device=device) if case.num_classes else None
    models = {name: case.makers[name]().to(device) for name in libraries}
    parameters = check_equal_work(models)
    for model in models.values():
        settle(model, images)
    if compiled:
        torch.compiler.reset()
        models = {name: torch.compile(model) for name, model in models.items()}
    side, dtype = PRODUCT[device], DTYPE[device]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    contestants = {name: STEPS[step](model, images, labels, dtype) for name, model in models.items()}
    memory = {name: peak_memory(contestant) for name, contestant in contestants.items()} if device == "cuda" else {}
    contestants[CEILING] = lambda: torch.mm(a, b)
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = timing.take_turns(contestants, rounds, TURN[device], synchronise)

    flops = flops_of(case) * (3 if step == "training" else 1)
    ceilings = [2 * side**3 / seconds for seconds in times.pop(CEILING)]
    shares = {
        name: timing.spread([batch * flops / t / ceiling for t, ceiling in zip(seconds, ceilings)])
        for name, seconds in times.items()
    }
    return {
        "model": case.name,
        "img_size": case.img_size,
        "batch": batch,
        "step": step,
        "compiled": compiled,
        "parameters": parameters,
        "gflop_per_image": flops / 1e9,
        "ceiling_gflops": timing.spread([ceiling / 1e9 for ceiling in ceilings]),
        "seconds": {name: timing.spread(seconds) for name, seconds in times.items()},
        "images_per_second": {name: batch / timing.spread(seconds).median for name, seconds in times.items()},
        "share_of_ceiling": shares,
        "ratio": {name: timing.ratios(seconds, times[OURS]) for name, seconds in times.items() if name != OURS},
        "peak_memory_mb": memory,
    }


def peak_memory(step: Callable[[], object]) -> float:
    """MB on the GPU that the second step needs beside what is there before it: activations and gradients."""
    step()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def rows_of(cases: list[Case], device: str, compiled: bool) -> list[tuple[Case, str, bool, list[str]]]:
    """What is to be measured: (case, step, compiled, libraries), eager rows first."""
    cases = [case for case in cases if device in case.batch]
    rows = [(case, step, False, list(case.makers)) for case in cases for step in STEPS]
    for case in cases if compiled else []:
        for step, libraries in case.compiled.get(device, {}).items():
            rows.append((case, step, True, libraries or list(case.makers)))
    return rows


def compiler_missing() -> str:
    """Why torch.compile cannot be measured here, "" where it can."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8))
        return ""
    except Exception as error:  # whatever stops it, the run goes on without
        return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def versions() -> dict[str, str]:
    """Of Python and the libraries."""
    return {"Python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def surroundings(device: str) -> dict:
    """Everything that a reader needs to judge the numbers."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": records.commit("bench/*.py"),
        "device": torch.cuda.get_device_name() if device == "cuda" else records.processor(),
        "kind": device,
        "dtype": str(DTYPE[device]).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def main(arguments: list[str] | None = None, cases: list[Case] = CASES) -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="Ours beside the other libraries, turn by turn.")
    parser.add_argument("--quick", action="store_true", help="fewer models and rounds, nothing compiled")
    parser.add_argument(
        "--only", metavar="TEXT", help="the models whose name holds this (upper and lower case are one)"
    )
    parser.add_argument("--rounds", type=int, help="how often everyone has a turn (15 on a CPU, 50 on a GPU)")
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled rows out")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="where to write (bench/results)")
    words = parser.parse_args(arguments)
    part = words.quick or words.only
    chosen = [case for case in cases if case.quick or not words.quick]
    chosen = [case for case in chosen if (words.only or "").lower() in case.name.lower() and words.device in case.batch]
    if not chosen:
        names = ", ".join(case.name for case in cases if words.device in case.batch)
        parser.error(f"no model holds {words.only!r}; there are {names}")
    rounds = words.rounds or (5 if words.quick else ROUNDS[words.device])
    without_compile = "not asked for" if words.quick or words.no_compile else compiler_missing()

    torch.backends.cudnn.benchmark = True  # for everyone
    results = surroundings(words.device) | {"rounds": rounds, "without_compile": without_compile, "rows": []}
    results["command"] = " ".join(["make bench", *([f'ARGS="{" ".join(arguments)}"'] if arguments else [])])
    for row in rows_of(chosen, words.device, compiled=not without_compile):
        results["rows"].append(measure(*row[:3], words.device, rounds, row[3]))
        print(report.line(results["rows"][-1]), flush=True)
    folder = words.out or (RESULTS / "part" if part else RESULTS)
    for path in report.write(results, folder):
        print("wrote", path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
