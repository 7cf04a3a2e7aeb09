"""`vit-edu grade`: a folder of notebooks as learners return them, marked, with a report for everyone."""

import os
import sys
from argparse import Namespace
from pathlib import Path

from vit_edu.classroom import build, editions
from vit_edu.classroom.grading import queue, report
from vit_edu.classroom.grading.mark import answers_of
from vit_edu.classroom.grading.sandbox import protection, walls


def main(options: Namespace) -> int:
    """Returns the exit code: 0, 2 with a sentence for what does not fit, or 130 after Ctrl-C."""
    out = Path(options.out)
    kept = out / "marks"
    try:
        if sys.platform != "linux":
            raise ValueError("Grading needs Linux, whose kernel holds learners' code: a container or WSL will do.")
        [source] = build.sources(build.checkout(), [options.lesson])
        answers = answers_of(source)
        only = tuple(options.only or ())
        if unknown := [name for name in only if name not in answers]:
            raise ValueError(f"--only {unknown[0]} found, wanted one of {', '.join(answers)}.")
        found = queue.find(map(Path, options.submissions))
        kept.mkdir(parents=True, exist_ok=True)
        works = queue.waiting(found, kept, answers, only)
        print(f"{len(found)} notebooks, {len(found) - len(works)} of them graded before.")
        print(f"Protection: {protection(walls())}.")
        queue.run(works, answers, options.workers or os.cpu_count() or 1, options.dask)
    except KeyboardInterrupt:
        print("\nStopped. What is graded is kept; the same command goes on where it was.")
        return 130
    except (editions.LessonError, OSError, ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    report.write(queue.results(found, kept), answers, source, out)
    print(
        f"{out / 'index.html'}: the class. {out / 'marks.csv'}: for the learning platform. learners/: a page for each."
    )
    return 0
