"""The command `vit-edu`. Each part is imported when it is asked for, so that --help is quick."""

import argparse
import sys

import vit_edu


def _lab(options, passed_on: list[str]) -> int:
    from vit_edu import lab

    return lab.main(passed_on, copy_only=options.copy_only)


def _build(options, _) -> int:
    from vit_edu.classroom import build

    return build.main(options.lessons, options.check)


def _export(options, _) -> int:
    try:
        from vit_edu.classroom import export
    except ImportError as error:
        print(f"vit-edu export needs {error.name}: pip install -e '.[test]'", file=sys.stderr)
        return 2
    return export.main(options.lessons, options.out)


def _doctor(options, _) -> int:
    from vit_edu import doctor

    return doctor.main()


def _train(options, _) -> int:
    from vit_edu.training import command

    return command.main(options)


def _release(options, _) -> int:
    try:
        import jupytext  # noqa: F401
        import nbformat  # noqa: F401

        from vit_edu.classroom import release
    except ImportError as error:
        print(f"vit-edu release needs {error.name}: pip install -e '.[test]'", file=sys.stderr)
        return 2
    return release.main(options.lessons, options.to)


def _grade(options, _) -> int:
    from vit_edu.classroom.grading import command

    return command.main(options)


def parser() -> argparse.ArgumentParser:
    """The command line with its help."""
    top = argparse.ArgumentParser(prog="vit-edu", description="Learn vision transformers by building them.")
    top.add_argument("--version", action="version", version=f"vit-edu {vit_edu.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    lab = commands.add_parser(
        "lab",
        allow_abbrev=False,
        help="open the lessons in JupyterLab",
        usage="vit-edu lab [--copy-only] [anything that jupyter lab takes]",
        description="Copies the lessons into work/ in this folder and opens JupyterLab there. What you have changed or "
        "run is never overwritten: a lesson that has changed since is put beside yours under a dated name.",
        epilog="Everything else goes on to JupyterLab: vit-edu lab --no-browser --port 8899",
    )
    lab.add_argument("--copy-only", action="store_true", help="copy the lessons, open nothing")
    lab.set_defaults(run=_lab)

    doctor = commands.add_parser(
        "doctor",
        help="look whether everything is in place here",
        description="Versions, device, memory, disk, data, widgets; each problem with its remedy, and exit code 1.",
    )
    doctor.set_defaults(run=_doctor)

    train = commands.add_parser(
        "train",
        help="run a recipe: pre-training, fine-tuning, with its record",
        description="Trains on the bundled data and writes what came out to data/records/. Killed at any moment, the "
        "same command goes on where it was. On several GPUs or processes: torchrun --nproc-per-node 2 -m vit_edu.cli "
        "train RECIPE.",
    )
    train.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="supervised, mae, dino, clip, laboratory; none: list them"
    )
    train.add_argument("--size", help="smoke (seconds), laptop (two cores, under an hour), gpu (default: what is here)")
    train.add_argument("--seed", type=int, default=0, help="of the weights and of every draw (default: 0)")
    train.add_argument("--out", help="folder for checkpoint and weights (default: work/train/RECIPE-SIZE-SEED)")
    train.add_argument("--records", help="folder for the record (default: data/records)")
    train.add_argument("--cpu", action="store_true", help="stay on the CPU")
    train.set_defaults(run=_train)

    build = commands.add_parser(
        "build",
        help="for authors: make notebooks/ and README's map from course/",
        description="Makes the learner's notebooks from course/, runs them without network and stores their outputs. "
        "A notebook whose cells are as before is left alone; delete it to have it run again.",
    )
    build.add_argument("lessons", nargs="*", metavar="LESSON", help="a lesson's number or name (default: all)")
    build.add_argument("--check", action="store_true", help="change nothing; exit code 1 if something is stale")
    build.set_defaults(run=_build)

    export = commands.add_parser(
        "export",
        help="lessons as HTML files to read anywhere, their explorers alive",
        description="Runs the learner's edition of each lesson and writes it as one HTML file, which needs no network, "
        "no server and no Python: open it, or put it on any web site. Exit code 2 if a lesson is unknown or fails.",
    )
    export.add_argument("lessons", nargs="*", metavar="LESSON", help="a lesson's number or name (default: all)")
    export.add_argument("--out", metavar="FOLDER", help="where the files go (default: work/html)")
    export.set_defaults(run=_export)

    release = commands.add_parser(
        "release",
        help="for instructors: lessons as an nbgrader course, and settings for a hub",
        description="Writes source/ with solutions, points and hidden tests, release/ without them, and "
        "nbgrader_config.py; in hub/ links and settings for JupyterHub. nbgrader itself is not needed for it. What you "
        "have changed there is never overwritten: the command then writes nothing and names the file.",
        epilog="docs/instructors.md goes from an empty hub to marks in ten steps.",
    )
    release.add_argument("lessons", nargs="+", metavar="LESSON", help="a lesson's number or name")
    release.add_argument("--to", required=True, metavar="DIR", help="the course's folder")
    release.set_defaults(run=_release)

    grade = commands.add_parser(
        "grade",
        help="for instructors: mark a class's notebooks, each answer in a sandbox of its own",
        description="Marks every notebook, however it is named, and writes index.html, marks.csv and a page for each "
        "learner. Stopped at any moment, the same command goes on where it was; what has not changed is not graded "
        "twice. With bubblewrap installed a learner's code sees neither files nor network; without it the command says "
        "what is missing.",
    )
    grade.add_argument("submissions", nargs="+", metavar="SUBMISSION", help="notebooks, or folders of them")
    grade.add_argument("--lesson", required=True, help="the lesson's number or name")
    grade.add_argument("--out", metavar="FOLDER", default="report", help="where the report goes (default: report)")
    grade.add_argument(
        "--only", action="append", metavar="EXERCISE", help="grade this exercise again for all; may repeat"
    )
    grade.add_argument("--workers", type=int, metavar="N", help="notebooks at a time (default: one a core)")
    grade.add_argument(
        "--dask", metavar="ADDRESS", help="a Dask scheduler whose workers grade, such as tcp://host:8786"
    )
    grade.set_defaults(run=_grade)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. Returns the exit code."""
    commands = parser()
    options, rest = commands.parse_known_args(arguments)
    if rest and options.command != "lab":
        known = f"vit-edu {options.command} --help lists what it takes"
        commands.error(f"{options.command} does not know {' '.join(rest)}; {known}")
    return options.run(options, rest)


if __name__ == "__main__":
    sys.exit(main())
