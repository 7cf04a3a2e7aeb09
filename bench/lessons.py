"""What each lesson costs a machine: seconds, those of the processor, and peak memory of a run, network off.

    python bench/lessons.py

Runs both editions of every lesson, each in a kernel of its own, and writes data/records/lessons.json.
"""

import time
from pathlib import Path

import nbformat.v4 as v4

from vit_edu.classroom import build, editions
from vit_edu.training.records import surroundings, write

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "data" / "records" / "lessons.json"
# The largest process in kilobytes (on Linux), and the seconds of the kernel and its children.
COST = """
import resource
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(max(u.ru_maxrss for u in used), sum(u.ru_utime + u.ru_stime for u in used))"""


def cost(source: Path, solved: bool) -> dict[str, float]:
    """Seconds by the clock (kernel start included) and of work, and the largest process in MB, of one edition."""
    notebook = editions.edition(source, solved=solved)
    notebook.cells.append(v4.new_code_cell(COST))
    start = time.perf_counter()
    editions.execute(notebook)
    seconds = time.perf_counter() - start
    peak, work = map(float, notebook.cells[-1].outputs[0].text.split())
    return {"seconds": round(seconds, 1), "cpu_seconds": round(work, 1), "peak_mb": round(peak / 1000)}


def main() -> None:
    lessons = {}
    for source in build.sources(ROOT):
        lessons[source.stem] = {name: cost(source, name == "solved") for name in ("unsolved", "solved")}
        print(source.stem, lessons[source.stem])
    record = {"command": "python bench/lessons.py"} | surroundings() | {"lessons": lessons}
    write(RECORD, record)


if __name__ == "__main__":
    main()
