"""Makes the frame halfway between two pictures, or a video with more frames.

    python run.py
    python run.py --model lf --one images/one.png --two images/two.png --out out.png
    python run.py --model l1 --one first.tif --two second.tif --out between.jpg --quality 90
    python run.py --model lf --video videos/bunny.mp4 --out out.mp4
    python run.py --video in.mkv --out out.mkv --fps 60
    python run.py --video frames/%05d.png --input-fps 24 --out slow.mp4 --factor 4 --slow-motion

Without options it interpolates the sample pair in images/. The path of what was written goes to standard output, all
else to standard error. Exit status: 0, 1 for bad data, 2 for bad usage, 130 after Ctrl-C.
"""

import argparse
import os
import re
import signal
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports, which take seconds: no traceback

from tqdm import tqdm

from vfi import cuts as scenes
from vfi import pictures
from vfi.command_line import Help, add_network_options, exit_status, make_interpolator, note, shows_progress
from vfi.errors import PictureError, UsageError
from vfi.network import REACH
from vfi.video import job as video
from vfi.video import timing
from vfi.video.reader import INPUT_RATE, exact_rate, seconds

IMAGES = Path(__file__).parent / "images"
LARGE = 1280 * 720  # pixels: from here on, ordinary motion is often longer than the kernels


def main(argv=None):
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    options = parse(argv)
    return exit_status(interpolate_video if options.video else interpolate_pair, options)


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Makes the frame halfway between two pictures, or a video with more frames.",
        formatter_class=Help,
    )
    add_network_options(parser)
    for name, which in (("--one", "first"), ("--two", "second")):
        parser.add_argument(
            name, type=Path, metavar="FILE", help=f"the {which} picture (without both of them: those in images/)"
        )
    parser.add_argument(
        "--out",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="what to write: a picture (png, jpg, bmp, webp, tiff; otherwise out.png) or a video (mp4, mov, mkv, webm, "
        "avi, ts, gif; otherwise out.mp4), or for its frames a folder or a pattern such as frames/%%05d.png",
    )
    parser.add_argument(
        "--quality", type=int, metavar="1-100", help="of jpg (otherwise 95) and lossy webp (otherwise 90)"
    )
    parser.add_argument("--lossless", action="store_true", help="for webp")
    add_video_options(parser)
    options = parser.parse_args(argv)
    given = vars(options)
    if options.video:
        check_video_options(parser, options)
        options.out = given.get("out", Path("out.mp4"))
        return options
    for name, option in VIDEO_OPTIONS.items():
        if name in given:
            parser.error(f"{option} is for --video")
    options.out = given.get("out", Path("out.png"))
    if not (options.one or options.two):
        options.one, options.two = IMAGES / "one.png", IMAGES / "two.png"
    for name in ("one", "two"):
        if not given[name]:
            parser.error(f"--{name} is missing: the other picture of the pair")

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


# What the attributes of `video.Wishes` are called here; those that are not given are not among the parsed options.
VIDEO_OPTIONS = {
    "factor": "--factor", "rate": "--fps", "slow_motion": "--slow-motion", "start": "--start", "end": "--end",
    "scene_threshold": "--scene-threshold or --no-scene-detection", "duplicates": "--duplicates",
    "deinterlace": "--no-deinterlace", "input_rate": "--input-fps", "codec": "--codec", "crf": "--crf",
    "preset": "--preset", "pixel_format": "--pixel-format", "resume": "--resume",
}  # fmt: skip


def add_video_options(parser):
    videos = parser.add_argument_group("videos")
    no_default = {"default": argparse.SUPPRESS}
    videos.add_argument(
        "--video",
        type=Path,
        metavar="FILE",
        help="a video, a folder of pictures, or a pattern such as frames/%%05d.png; by default its frames are doubled, "
        "at twice the rate: length and sound stay what they are",
    )
    counts = videos.add_mutually_exclusive_group()
    counts.add_argument(
        "--factor",
        type=int,
        choices=timing.FACTORS,
        help="how many frames for each one (otherwise 2). Halfway between two frames is all that the network knows: 4 "
        "and more come of doubling again and again",
        **no_default,
    )
    counts.add_argument(
        "--fps",
        type=_rate,
        dest="rate",
        help="a rate instead, such as 60, 59.94 or 60000/1001: frames are computed at halves, quarters and eighths of "
        "the time between two frames, so that none is off by more than a sixteenth of it",
        **no_default,
    )
    videos.add_argument(
        "--slow-motion",
        action="store_true",
        help="keep the rate: the video becomes longer by the factor, without sound",
        **no_default,
    )
    for name, what in (("--start", "first"), ("--end", "last")):
        videos.add_argument(
            name,
            type=_time,
            metavar="TIME",
            help=f"the {what} moment of the piece to take, in seconds or hh:mm:ss.mmm; pieces that follow one another "
            "have, together, the frames of the whole",
            **no_default,
        )
    cuts = videos.add_mutually_exclusive_group()
    cuts.add_argument(
        "--scene-threshold",
        type=float,
        metavar="NUMBER",
        help="how unlike two frames must be for a cut, across which nothing is morphed and the nearer frame is shown "
        f"(otherwise {scenes.THRESHOLD}); lower finds more",
        **no_default,
    )
    cuts.add_argument(
        "--no-scene-detection",
        action="store_const",
        const=None,
        dest="scene_threshold",
        help="take no two frames for a cut",
        **no_default,
    )
    videos.add_argument(
        "--duplicates",
        choices=video.DUPLICATES,
        help="redistribute: spread motion over a frame and up to two copies of it, for animation on twos and threes, "
        "and make it even for 24 or 25 frames in 30 or 60; otherwise copies stay",
        **no_default,
    )
    videos.add_argument(
        "--no-deinterlace",
        action="store_false",
        dest="deinterlace",
        help="take interlaced frames as they are, instead of making whole ones of them",
        **no_default,
    )
    videos.add_argument(
        "--input-fps",
        type=_rate,
        dest="input_rate",
        metavar="FPS",
        help=f"of a folder or pattern (otherwise {INPUT_RATE})",
        **no_default,
    )
    videos.add_argument("--codec", help="FFmpeg's name of an encoder (otherwise what suits the file)", **no_default)
    videos.add_argument(
        "--crf",
        type=int,
        help="quality, lower is better (otherwise 18 for libx264, and alike for others)",
        **no_default,
    )
    videos.add_argument("--preset", help="how much time the encoder takes, such as slow or fast", **no_default)
    videos.add_argument("--pixel-format", metavar="NAME", help="FFmpeg's name, such as yuv420p10le", **no_default)
    videos.add_argument(
        "--resume", action="store_true", help="go on where the same command was broken off", **no_default
    )


def _rate(text):
    try:
        rate = exact_rate(Fraction(text)).limit_denominator(1001)
    except (ValueError, ZeroDivisionError):
        rate = 0
    if not 0 < rate <= 10000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate: give frames per second, such as 60 or 60000/1001")
    return rate


def _time(text):
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: give seconds or hh:mm:ss.mmm")
    return seconds(text)


def check_video_options(parser, options):
    given = vars(options)
    for name in ("one", "two"):
        if given[name]:
            parser.error(f"--{name} and --video exclude each other")
    if options.quality is not None or options.lossless:
        parser.error("--quality and --lossless are for pictures, not for --video: use --crf and --codec")
    if "rate" in given and "slow_motion" in given:
        parser.error("--fps and --slow-motion exclude each other")
    if "start" in given and "end" in given and options.start >= options.end:
        parser.error("--start is not before --end")
    if "crf" in given and not 0 <= options.crf <= 63:
        parser.error(f"--crf {options.crf} is not between 0 and 63")
    if given.get("scene_threshold") is not None and not options.scene_threshold > 0:
        parser.error(f"--scene-threshold {options.scene_threshold} is not above 0")


def interpolate_video(options):
    wishes = {name: value for name, value in vars(options).items() if name in VIDEO_OPTIONS and name != "resume"}

    def say(phrase):
        with tqdm.external_write_mode(sys.stderr):  # not into a progress bar
            note(options, phrase)

    job = video.Job(options.video, options.out, video.Wishes(**wishes), say)
    network = make_interpolator(options)  # which takes seconds: after all that can be refused at once
    recipe = f"{options.model}, {options.weights} weights, {options.padding} padding, {network.precision}"
    with tqdm(unit=" frames", leave=False, disable=not shows_progress(options)) as bar:

        def progress(done, expected):
            if not bar.n:  # what an earlier run did is there already, and not counted for the speed
                bar.initial = bar.n = done - 1
            bar.total = expected
            bar.update(done - bar.n)

        job.run(network.middle, network.device, "resume" in options, recipe, progress)
    print(options.out)


def interpolate_pair(options):
    pictures.check_target(options.out)
    for path in (options.one, options.two):
        if os.path.exists(options.out) and os.path.exists(path) and os.path.samefile(path, options.out):
            raise UsageError(f"--out {options.out} is one of the inputs: it would be lost")
    paths = (options.one, options.two)
    originals = [pictures.read(path) for path in paths]
    if originals[0].size != originals[1].size:
        sizes = " and ".join(f"{path} is {picture.size}" for path, picture in zip(paths, originals, strict=True))
        raise PictureError(f"the pictures differ in size: {sizes}")
    one, two = pictures.match(*originals)
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
