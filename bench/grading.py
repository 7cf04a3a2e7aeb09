"""What it costs to grade a class, and whether every mark is the true one.

    python -m bench.grading --sizes 50 100 200 400

Makes classes of notebooks of lesson 02 from right, wrong and hostile answers whose marks are known, grades each class
with `vit-edu grade` in a process of its own, compares mark by mark, and writes data/records/grading.json.
"""

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import nbformat.v4 as v4

from vit_edu.classroom import build, editions
from vit_edu.classroom.grading.mark import answers_of
from vit_edu.exercises import ALL
from vit_edu.training import records

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"right": 0.6, "wrong": 0.3, "hostile": 0.1}  # of the answers of a class
HEAD = {
    "attention": "def attention(q, k, v):",
    "split_heads": "def split_heads(qkv, num_heads):",
    "multi_head_attention": "class MultiHeadAttention(nn.Module):\n  def __init__(self, dim, num_heads):",
    "attention_cost": "def attention_cost(num_tokens, dim, num_heads):",
}
WRONG = {
    "attention": ("(q @ k.mT).softmax(-1) @ v, q @ k.mT", "q, v", "None"),
    "split_heads": ("qkv.reshape(3, qkv.shape[0], num_heads, qkv.shape[1], -1).unbind(0)", "qkv.chunk(3, -1)"),
    "multi_head_attention": ("dim",),
    "attention_cost": ("4 * num_tokens * dim**2", "2 * num_tokens**2 * dim * num_heads", "'many'"),
}
HOSTILE = (
    "while True: pass",
    "import os; os._exit(0)",
    "import os; os.kill(os.getppid(), 9)",
    "import os; os.kill(-1, 9)",
    "import os; [os.fork() for _ in iter(int, 1)]",
    "import os; [os.write(fd, b'1' * 99) for fd in range(3, 9)]",
    "import os; os.abort()",
    "raise SystemExit",
    "x = [bytes(10**8) for _ in range(10**4)]",
    "return torch.ones(10**8)",
    "import socket; socket.create_connection(('127.0.0.1', 80))",
    "open('/tmp/marks.csv', 'w').write('11')",
    "import threading; threading.Thread(target=print).start()",
    "from vit_edu.exercises import ALL; return ALL['{name}'].reference(*range(3))",
)


def a_class(size: int, folder: Path) -> dict[str, dict[str, int]]:
    """Writes the notebooks; returns learner -> exercise -> the points that are due."""
    draw, due = random.Random(size), {}
    [source] = build.sources(ROOT, ["02"])
    solved = editions.edition(source, solved=True)
    for number in range(size):
        learner, notebook = f"learner {number:03}", v4.new_notebook(cells=[dict(cell) for cell in solved.cells])
        due[learner] = {}
        for exercise, name in answers_of(source).items():
            kind = draw.choices(list(KINDS), KINDS.values())[0]
            line = {
                "right": "",
                "wrong": f"return {draw.choice(WRONG[exercise])}",
                "hostile": draw.choice(HOSTILE).replace("{name}", exercise),
            }[kind]
            due[learner][exercise] = 0 if line else ALL[exercise].points
            starts = f"def {name}(", f"class {name}("
            for cell in notebook.cells:
                if line and cell["source"].startswith(starts):
                    cell["source"] = f"{HEAD[exercise]}\n    {line}"
        (folder / f"{learner}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return due


def memory(process: int) -> int:
    """Bytes that a process and all its descendants hold; pages that they share count once where root looks (Linux)."""
    children, total, wanted = {}, 0, [process]
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    while wanted:
        one = wanted.pop()
        wanted += children.get(one, [])
        with suppress(OSError):
            try:
                lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
                total += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            except PermissionError:  # the sandbox lets nobody but root look closely
                total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * resource.getpagesize()
    return total


def measure(size: int, workers: int) -> dict:
    """One class: seconds, peak memory, and how many marks are not the true ones."""
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place, "class"), Path(place, "out")
        folder.mkdir()
        due = a_class(size, folder)
        words = ["grade", str(folder), "--lesson", "02", "--out", str(out), "--workers", str(workers)]
        start, peak, done = time.perf_counter(), [0], threading.Event()
        run = subprocess.Popen([sys.executable, "-m", "vit_edu.cli", *words], stdout=subprocess.PIPE, text=True)

        def watch():
            while not done.wait(0.5):
                peak.append(memory(run.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        said, _ = run.communicate()
        done.set()
        watcher.join()
        if run.returncode:
            raise SystemExit(f"vit-edu grade ended with {run.returncode}")
        seconds = time.perf_counter() - start
        with open(out / "marks.csv", encoding="utf-8", newline="") as file:
            given = {row["learner"]: {name: int(row[name]) for name in HEAD} for row in csv.DictReader(file)}
    pairs = [(learner, name) for learner in due for name in HEAD]
    unlike = [pair for pair in pairs if given[pair[0]][pair[1]] != due[pair[0]][pair[1]]]
    for learner, name in unlike:
        print(f"{learner}, {name}: {given[learner][name]} points, due are {due[learner][name]}")
    return {
        "notebooks": size,
        "seconds": round(seconds, 1),
        "peak_mb": round(max(peak) / 1e6),
        "marks": len(pairs),
        "marks_not_true": len(unlike),
        "protection": next(line for line in said.splitlines() if line.startswith("Protection")).partition(": ")[2],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[50, 100, 200, 400])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    record = {
        "command": f"python -m bench.grading --sizes {' '.join(map(str, options.sizes))}"
    } | records.surroundings()
    record |= {"workers": options.workers, "answers": KINDS, "classes": []}
    for size in options.sizes:
        record["classes"].append(measure(size, options.workers))
        print(record["classes"][-1])
        records.write(ROOT / "data" / "records" / "grading.json", record)
    return int(any(found["marks_not_true"] for found in record["classes"]))


if __name__ == "__main__":
    sys.exit(main())
