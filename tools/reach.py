"""Measures how far weights follow motion, on pictures that move as a whole.

    python -m tools.reach
    python -m tools.reach --weights runs/first/trained-l1.safetensors --pictures photos/*.jpg

Prints the mean PSNR over the pictures for each direction and each shift from one frame to the next, in pixels.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vfi.benchmarks.triplets import read_rgb
from vfi.command_line import Help, add_network_options, exit_status, make_interpolator
from vfi.errors import DataError
from vfi.training.reach import SHIFTS, measure_reach

IMAGES = Path(__file__).parent.parent / "images"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.reach",
        description="Measures how far weights follow motion, on pictures that move as a whole.",
        formatter_class=Help,
    )
    add_network_options(parser)
    parser.set_defaults(model="l1", precision="float32")
    parser.add_argument(
        "--pictures",
        type=Path,
        nargs="+",
        default=[IMAGES / "one.png", IMAGES / "two.png"],
        metavar="FILE",
        help="pictures to move (default: the sample pair)",
    )
    return exit_status(_measure, parser.parse_args(argv))


def _measure(options: argparse.Namespace) -> None:
    interpolator = make_interpolator(options)
    moved = [_read(path).to(interpolator.device) for path in options.pictures]
    try:
        rows = measure_reach(interpolator.middle, moved)
    except ValueError as error:
        raise DataError(f"--pictures: {error}") from error
    print(f"{'pixels':12}" + "".join(f"{shift:8}" for shift in SHIFTS))
    for name, values in rows.items():
        print(f"{name:12}" + "".join(f"{value:8.2f}" for value in values))


def _read(path: Path) -> Tensor:
    """A picture as (3, H, W), RGB, [0, 1]."""
    return torch.from_numpy(read_rgb(path)).permute(2, 0, 1) / 255


if __name__ == "__main__":
    sys.exit(main())
