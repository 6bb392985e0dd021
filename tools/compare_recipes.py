"""Trains with several recipes in turn, and prints what each has learned, side by side.

    python -m tools.compare_recipes --data videos --held-out others --out runs/compare --steps 500 \\
        "--synthetic 0.1" "--synthetic 0.5 --speed 24" "--synthetic 0.5 --speed 24 --least-weight 0.5"

Each recipe is a string of options of train.py. All runs have the same seed, and the same number of steps and crops;
--common holds options for all of them. Differences of a few hundredths of a dB mean nothing, because another seed makes
as much. Reach needs tens of thousands of crops to show.
"""

import argparse
import csv
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vfi.command_line import Help, exit_status
from vfi.errors import DataError
from vfi.training.trainer import REACHED

TRAIN = Path(__file__).parent.parent / "train.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare_recipes",
        description="Trains with several recipes in turn, and prints what each has learned.",
        formatter_class=Help,
    )
    parser.add_argument("recipes", nargs="+", metavar="OPTIONS", help="options of train.py, in quotes")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of videos to train on")
    parser.add_argument("--held-out", type=Path, required=True, metavar="DIR", help="folder of videos to measure on")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--steps", type=int, default=500, metavar="N", help="of each run")
    parser.add_argument("--common", default="", metavar="OPTIONS", help="options of train.py for all, in quotes")
    options = parser.parse_args(argv)
    return exit_status(_compare, options)


def _compare(options: argparse.Namespace) -> None:
    rows = []
    for number, recipe in enumerate(options.recipes, start=1):
        out = options.out / str(number)
        words = ["--data", options.data, "--held-out", options.held_out, "--steps", options.steps, "--out", out]
        words += ["--cache", options.out / "frames", *shlex.split(options.common), *shlex.split(recipe)]
        print(f"{number}: {recipe}", flush=True)
        done = subprocess.run([sys.executable, TRAIN, *map(str, words)], stdout=subprocess.DEVNULL)
        if done.returncode:
            raise DataError(f"recipe {number} ended with status {done.returncode}: see above")
        with open(out / "trained-l1.csv", newline="") as file:
            rows.append(list(csv.DictReader(file))[-1])
    print(f"\n{'':4}{'samples':>10}{'per second':>12}{'held-out crops':>18}{f'shifted by {REACHED}':>16}")
    for number, row in enumerate(rows, start=1):
        speed, proxy, reach = (float(row[name] or "nan") for name in ("samples_per_second", "proxy_psnr", "reach"))
        print(f"{number:<4}{row['samples']:>10}{speed:12.0f}{proxy:15.3f} dB{reach:13.1f} dB")


if __name__ == "__main__":
    sys.exit(main())
