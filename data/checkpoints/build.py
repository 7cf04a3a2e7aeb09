"""Bundle what the recipes left in work/train/: `python data/checkpoints/build.py`, after `vit-edu train NAME`.

Copies the weights of seed 0 and writes their checksums. Another machine gives other last digits; that the weights do
what their records say is a test.
"""

import argparse
import runpy
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = ("supervised", "mae", "dino", "clip")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="laptop")
    words = parser.parse_args()
    for name in NAMES:
        source = HERE.parents[1] / "work" / "train" / f"{name}-{words.size}-0" / f"{name}.safetensors"
        if source.exists():
            shutil.copyfile(source, HERE / source.name)
            print("took", source.name)
    runpy.run_path(str(HERE.parent / "build.py"))["write_sums"]("checkpoints", sorted(HERE.glob("*.safetensors")))


if __name__ == "__main__":
    main()
