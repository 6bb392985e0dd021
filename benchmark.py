"""Measures the network on Middlebury's twelve scenes with a true middle frame.

    python benchmark.py
    python benchmark.py --model l1 --padding paper
    python benchmark.py --precision bfloat16 --baseline float32

The scenes are those of the benchmark's "other" set (vision.middlebury.edu/flow/data): for each a folder in
./middlebury, or in --data, with frame10.png, frame11.png and, the truth, frame10i11.png. Exit status: 0, 1 for bad
data, 2 for bad usage, 130 after Ctrl-C.
"""

import argparse
import signal
import sys
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports, which take seconds: no traceback

import numpy as np

import pictures
from command_line import add_network_options, exit_status, make_interpolator
from metrics import psnr
from network import PRECISIONS

SCENES = (
    "Beanbags", "Dimetrodon", "DogDance", "Grove2", "Grove3", "Hydrangea",
    "MiniCooper", "RubberWhale", "Urban2", "Urban3", "Venus", "Walking",
)  # fmt: skip


def main(argv=None):
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description="Measures the network on Middlebury's twelve scenes with a true middle frame.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_network_options(parser)
    parser.add_argument("--data", type=Path, default=Path("middlebury"), metavar="DIR", help="a folder for each scene")
    parser.add_argument(
        "--baseline", choices=PRECISIONS, help="a second precision, to show what --precision changes in the pictures"
    )
    return exit_status(measure, parser.parse_args(argv))


def measure(options):
    if not options.data.is_dir():
        raise pictures.PictureError(
            f"there is no folder {options.data}: put the scenes of vision.middlebury.edu/flow/data there, or name "
            "their folder with --data"
        )
    scenes = {scene: read_scene(options.data / scene) for scene in SCENES}
    interpolator = make_interpolator(options)
    what = f"{options.model}, {options.weights} weights, {options.padding} padding, {interpolator.precision}"
    baseline = None
    if options.baseline:
        baseline = make_interpolator(argparse.Namespace(**vars(options) | {"precision": options.baseline}))
        what += f", against {baseline.precision}"
    print(f"Middlebury, {what}\n")
    print(
        f"{'scene':12} {'PSNR dB':>8}"
        + (f" {'baseline':>9} {'gain':>7} {'largest difference':>19}" if baseline else "")
    )
    rows = []
    for scene, (one, two, truth) in scenes.items():
        picture = interpolator(one, two)
        row = [psnr(picture, truth)]
        if baseline:
            other = baseline(one, two)
            row += [psnr(other, truth), row[0] - psnr(other, truth), np.abs(picture.astype(int) - other).max()]
        rows.append(row)
        print_row(scene, row)
    print_row("mean", [*np.mean(rows, axis=0)[:3], *np.max(rows, axis=0)[3:]])


def print_row(name, row):
    columns = ["{:8.2f}", " {:9.2f}", " {:+7.3f}", " {:12.0f} levels"]
    print(
        f"{name:12} " + "".join(column.format(value) for column, value in zip(columns, row, strict=False)), flush=True
    )


def read_scene(folder):
    """The two frames and the truth between them, as uint8 RGB."""
    frames = [pictures.read(folder / name) for name in ("frame10.png", "frame11.png", "frame10i11.png")]
    for frame in frames:
        if frame.pixels.dtype != np.uint8 or frame.pixels.shape != (*frames[0].pixels.shape[:2], 3):
            raise pictures.PictureError(f"{folder}: the three frames are not 8-bit RGB of one size")
    return [frame.pixels for frame in frames]


if __name__ == "__main__":
    sys.exit(main())
