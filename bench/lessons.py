"""What each lesson costs a machine: seconds and peak memory of a run from top to bottom, network off.

    python bench/lessons.py

Runs both editions of every lesson, each in a kernel of its own, and writes data/records/lessons.json.
"""

import json
import time
from pathlib import Path

import nbformat.v4 as v4

from vit_edu.classroom import build, editions
from vit_edu.training.records import surroundings

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "data" / "records" / "lessons.json"
PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"  # kilobytes on Linux


def cost(source: Path, solved: bool) -> dict[str, float]:
    """Seconds (kernel start included) and peak memory of one edition in MB."""
    notebook = editions.edition(source, solved=solved)
    notebook.cells.append(v4.new_code_cell(PEAK))
    start = time.perf_counter()
    editions.execute(notebook)
    seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 1), "peak_mb": round(int(notebook.cells[-1].outputs[0].text) / 1000)}


def main() -> None:
    lessons = {}
    for source in build.sources(ROOT):
        lessons[source.stem] = {name: cost(source, name == "solved") for name in ("unsolved", "solved")}
        print(source.stem, lessons[source.stem])
    record = {"command": "python bench/lessons.py"} | surroundings() | {"lessons": lessons}
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
