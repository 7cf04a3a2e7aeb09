"""Build the bundled data, or check that it can be built again bit for bit.

`python data/build.py [--check] [photos] [emoji] [fashion]`

Needs `pip install -e ".[data]"`; emoji also npm, fashion Debian's apt-get (or --source DIR), both with network.
"""

import argparse
import hashlib
import runpy
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).resolve().parent
SETS = ("photos", "emoji", "fashion")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_sums(name: str, files: list[Path]) -> None:
    """Put the checksums of the set `name` into data/SHA256SUMS (what `sha256sum -c` reads), and leave the others."""
    sums = DATA / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.exists() else []
    kept = [line for line in lines if not line.split("  ", 1)[1].startswith(f"{name}/")]
    new = [f"{sha256(file)}  {name}/{file.name}" for file in files]
    sums.write_text("\n".join(sorted(kept + new, key=lambda line: line.split("  ", 1)[1])) + "\n")


def same_pixels(ours: Path, theirs: Path) -> bool:
    from PIL import Image

    if ours.suffix not in (".png", ".webp"):
        return False
    with Image.open(ours) as a, Image.open(theirs) as b:
        return a.mode == b.mode and a.size == b.size and a.tobytes() == b.tobytes()


def differences(name: str, built: list[Path]) -> list[str]:
    """One sentence for each file of the set that is not what the builder made."""
    listed = {line.split("  ", 1)[1] for line in (DATA / "SHA256SUMS").read_text().splitlines()}
    found = [
        f"data/{item}: listed in SHA256SUMS, but the builder makes no such file"
        for item in sorted(listed)
        if item.startswith(f"{name}/") and item.split("/", 1)[1] not in {file.name for file in built}
    ]
    for file in built:
        committed = DATA / name / file.name
        if not committed.exists():
            found.append(f"data/{name}/{file.name}: the builder makes it, but it is missing here")
        elif committed.read_bytes() != file.read_bytes():
            why = "other bytes, same pixels" if same_pixels(committed, file) else "differs"
            found.append(
                f"data/{name}/{file.name}: {why} ({committed.stat().st_size} bytes here, {file.stat().st_size} built)"
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"which of {', '.join(SETS)} (default: all)")
    parser.add_argument("--check", action="store_true", help="build elsewhere and compare with the files here")
    parser.add_argument(
        "--source", type=Path, metavar="DIR", help="Fashion-MNIST's four .gz files, not Debian's package"
    )
    args = parser.parse_args()
    if unknown := set(args.sets) - set(SETS):
        parser.error(f"unknown set {', '.join(sorted(unknown))}; known are {', '.join(SETS)}")

    problems = []
    for name in args.sets or SETS:
        build = runpy.run_path(str(DATA / name / "build.py"))["build"]
        options = {"source": args.source} if name == "fashion" else {}
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) if args.check else DATA / name
            files = build(out, **options)
            if args.check:
                found = differences(name, files)
                problems += found
                print(
                    f"{name}: " + ("\n  ".join(["", *found]) if found else f"{len(files)} files, bit for bit equal"),
                    flush=True,
                )
            else:
                write_sums(name, files)
                print(f"{name}: {len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:.2f} MB", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
