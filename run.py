"""Makes the frame halfway between two pictures.

    python run.py
    python run.py --model lf --one images/one.png --two images/two.png --out out.png
    python run.py --model l1 --one first.tif --two second.tif --out between.jpg --quality 90

Without options it interpolates the sample pair in images/. The path of what was written goes to standard output, all
else to standard error. Exit status: 0, 1 for bad data, 2 for bad usage, 130 after Ctrl-C.
"""

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports, which take seconds: no traceback

import pictures
from command_line import add_network_options, exit_status, make_interpolator, note
from network import REACH

IMAGES = Path(__file__).parent / "images"
LARGE = 1280 * 720  # pixels: from here on, ordinary motion is often longer than the kernels


def main(argv=None):
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    return exit_status(interpolate_pair, parse(argv))


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Makes the frame halfway between two pictures. Halfway is all the network knows.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_network_options(parser)
    parser.add_argument("--one", type=Path, default=IMAGES / "one.png", metavar="FILE", help="the first picture")
    parser.add_argument("--two", type=Path, default=IMAGES / "two.png", metavar="FILE", help="the second picture")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out.png"),
        metavar="FILE",
        help="the picture to write: " + ", ".join(suffix[1:] for suffix in pictures.FORMATS),
    )
    parser.add_argument(
        "--quality", type=int, metavar="1-100", help="of jpg (otherwise 95) and lossy webp (otherwise 90)"
    )
    parser.add_argument("--lossless", action="store_true", help="for webp")
    options = parser.parse_args(argv)

    target = pictures.FORMATS.get(options.out.suffix.lower())
    if options.quality is not None and not 1 <= options.quality <= 100:
        parser.error(f"--quality {options.quality} is not between 1 and 100")
    if options.quality is not None and target and not target.quality:
        parser.error(f"--quality is for jpg and webp, not for {options.out}")
    if options.lossless and target and target.name != "WEBP":
        parser.error(f"--lossless is for webp, not for {options.out}")
    if options.lossless and options.quality is not None:
        parser.error("--lossless and --quality exclude each other")
    return options


def interpolate_pair(options):
    pictures.check_target(options.out)
    for path in (options.one, options.two):
        if os.path.exists(options.out) and os.path.exists(path) and os.path.samefile(path, options.out):
            raise pictures.PictureError(f"--out {options.out} is one of the inputs: it would be lost")
    paths = (options.one, options.two)
    originals = [pictures.read(path) for path in paths]
    if originals[0].size != originals[1].size:
        sizes = " and ".join(f"{path} is {picture.size}" for path, picture in zip(paths, originals, strict=True))
        raise pictures.PictureError(f"the pictures differ in size: {sizes}")
    one, two = pictures.alike(*originals)
    profiles = [picture.icc_profile for picture in originals]
    if profiles[0] != profiles[1]:
        kept = f"that of {paths[profiles.index(one.icc_profile)]}" if one.icc_profile else "none"
        note(options, f"the pictures' colour profiles differ: {kept} is kept")
    if one.pixels.shape[0] * one.pixels.shape[1] > LARGE:
        note(
            options,
            f"{one.size} is large: what moves by more than {2 * REACH} pixels from one picture to the other "
            f"({REACH} to the frame between) is out of the kernels' reach",
        )

    between = replace(one, pixels=make_interpolator(options)(one.pixels, two.pixels))
    for loss in pictures.write(options.out, between, options.quality, options.lossless):
        note(options, loss)
    print(options.out)


if __name__ == "__main__":
    sys.exit(main())
