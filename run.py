"""Makes the frame halfway between two pictures, or a video with more frames.

    python run.py
    python run.py --model lf --one images/one.png --two images/two.png --out out.png
    python run.py --model l1 --one first.tif --two second.tif --out middle.jpg --quality 90
    python run.py --model lf --video videos/bunny.mp4 --out out.mp4
    python run.py --video in.mkv --out out.mkv --fps 60
    python run.py --video frames/%05d.png --input-fps 24 --out slow.mp4 --factor 4 --slow-motion

Without options it interpolates the sample pair in images/. The path of the result goes to standard output, everything
else to standard error. Exit status: 0, 1 for bad data, 2 for bad usage, 130 after Ctrl-C.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the imports take seconds: Ctrl-C during them prints no traceback

from tqdm import tqdm

from vfi import cuts, pictures
from vfi.command_line import (
    Help,
    add_cluster_options,
    add_network_options,
    check_cluster_options,
    download_progress,
    exit_status,
    is_shared_out,
    machines_of,
    make_interpolator,
    note,
    shows_progress,
)
from vfi.errors import PictureError, UsageError
from vfi.network import REACH
from vfi.video import job as video
from vfi.video.clock import DEFAULT_RATE
from vfi.video.options import DUPLICATES, VideoOptions
from vfi.video.timing import FACTORS, exact_rate, seconds
from vfi.weights import load_network

IMAGES = Path(__file__).parent / "images"
LARGE = 1280 * 720  # pixels: in larger pictures, ordinary motion is often longer than the kernels reach


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    options = parse(argv)
    return exit_status(interpolate_video if options.video else interpolate_pair, options)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked; an option that was not given is None."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Makes the frame halfway between two pictures, or a video with more frames.",
        formatter_class=Help,
    )
    add_network_options(parser)
    for name, which in (("--one", "first"), ("--two", "second")):
        parser.add_argument(
            name, type=Path, metavar="FILE", help=f"the {which} picture (without --one and --two: the pair in images/)"
        )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the file to write: a picture (png, jpg, bmp, webp, tiff; default: out.png) or a video (mp4, mov, mkv, "
        "webm, avi, ts, gif, apng, webp; default: out.mp4). The frames of a video can also go into a folder, or to a "
        "pattern such as frames/%%05d.png",
    )
    parser.add_argument(
        "--quality", type=int, metavar="1-100", help="quality of jpg (default: 95) and lossy webp (default: 90)"
    )
    parser.add_argument("--lossless", action="store_true", help="write webp without loss")
    video_only = add_video_options(parser)
    add_cluster_options(parser, "the video")
    options = parser.parse_args(argv)
    check_cluster_options(parser, options)
    if options.video:
        check_video_options(parser, options)
        options.out = options.out or Path("out.mp4")
        return options
    for action in video_only:
        if getattr(options, action.dest) != action.default:
            parser.error(f"{action.option_strings[0]} is for --video")
    if is_shared_out(options):
        parser.error("--workers and --cluster are for --video: a pair is one piece of work")
    check_pair_options(parser, options)
    return options


def check_pair_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Fills in the defaults of a pair of pictures; ends the program if options do not fit together."""
    options.out = options.out or Path("out.png")
    if not (options.one or options.two):
        options.one, options.two = IMAGES / "one.png", IMAGES / "two.png"
    for name in ("one", "two"):
        if not getattr(options, name):
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


def add_video_options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Adds --video and what goes with it; returns the actions that are only for videos."""
    videos = parser.add_argument_group("videos")
    videos.add_argument(
        "--video",
        type=Path,
        metavar="FILE",
        help="a video, a folder of pictures, or a pattern such as frames/%%05d.png; by default the result has twice "
        "the frames at twice the rate, so that length and sound stay as they are",
    )
    counts = videos.add_mutually_exclusive_group()
    cut_options = videos.add_mutually_exclusive_group()
    return [
        counts.add_argument(
            "--factor",
            type=int,
            choices=FACTORS,
            help="how many frames for each frame of the source (default: 2). The network makes the frame halfway "
            "between two; 4 and more come from halving again",
        ),
        counts.add_argument(
            "--fps",
            type=_rate,
            dest="rate",
            help="a rate instead of a factor, such as 60, 59.94 or 60000/1001: frames are computed at halves, quarters "
            "and eighths of the time between two frames, so that none is off by more than a sixteenth of it",
        ),
        videos.add_argument(
            "--slow-motion",
            action="store_true",
            help="keep the rate: the video becomes longer by the factor, without sound",
        ),
        *(
            videos.add_argument(
                name,
                type=_time,
                metavar="TIME",
                help=f"{which} of the piece to take, in seconds or hh:mm:ss.mmm; pieces that follow one another have, "
                "together, the frames of the whole",
            )
            for name, which in (("--start", "start"), ("--end", "end"))
        ),
        cut_options.add_argument(
            "--scene-threshold",
            type=float,
            metavar="NUMBER",
            help="how much two frames must differ to be a cut, across which nothing is interpolated and the nearer "
            f"frame is shown (default: {cuts.THRESHOLD}); lower finds more cuts",
        ),
        cut_options.add_argument("--no-scene-detection", action="store_true", help="find no cuts"),
        videos.add_argument(
            "--duplicates",
            choices=DUPLICATES,
            help="redistribute: spread motion over a frame and up to two copies of it, for animation on twos and "
            "threes, and make it even for 24 or 25 frames in 30 or 60; keep (default): copies stay as they are",
        ),
        videos.add_argument(
            "--no-deinterlace",
            action="store_true",
            help="take interlaced frames as they are, instead of deinterlacing them",
        ),
        videos.add_argument(
            "--detelecine",
            action="store_true",
            help="first restore the 23.976 frames per second of a film that is shown in video of 29.97",
        ),
        videos.add_argument(
            "--input-fps",
            type=_rate,
            dest="input_rate",
            metavar="FPS",
            help=f"rate of a folder or pattern of pictures (default: {DEFAULT_RATE})",
        ),
        videos.add_argument("--codec", help="FFmpeg's name of an encoder (default: one that suits the file)"),
        videos.add_argument(
            "--crf",
            type=int,
            help="quality; lower is better (default: 18 for libx264, similar quality for other encoders)",
        ),
        videos.add_argument("--preset", help="how much time the encoder takes, such as slow or fast"),
        videos.add_argument("--pixel-format", metavar="NAME", help="FFmpeg's name, such as yuv420p10le"),
        videos.add_argument("--resume", action="store_true", help="continue where the same command was interrupted"),
    ]


def _rate(text: str) -> Fraction:
    try:
        rate = exact_rate(Fraction(text)).limit_denominator(1001)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 10000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate: give frames per second, such as 60 or 60000/1001")
    return rate


def _time(text: str) -> Fraction:
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: give seconds or hh:mm:ss.mmm")
    return seconds(text)


def check_video_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program if the options of a video do not fit together."""
    for name in ("one", "two"):
        if getattr(options, name):
            parser.error(f"--{name} and --video exclude each other")
    if options.quality is not None or options.lossless:
        parser.error("--quality and --lossless are for pictures, not for --video: use --crf and --codec")
    if options.detelecine and options.no_deinterlace:
        parser.error("--detelecine and --no-deinterlace exclude each other")
    if options.rate is not None and options.slow_motion:
        parser.error("--fps and --slow-motion exclude each other")
    if options.start is not None and options.end is not None and options.start >= options.end:
        parser.error("--start is not before --end")
    if options.crf is not None and not 0 <= options.crf <= 63:
        parser.error(f"--crf {options.crf} is not between 0 and 63")
    if options.scene_threshold is not None and not options.scene_threshold > 0:
        parser.error(f"--scene-threshold {options.scene_threshold} is not above 0")


def video_options(options: argparse.Namespace) -> VideoOptions:
    """The options of the command line as `VideoOptions`, which has the defaults."""
    names = (
        "factor", "rate", "slow_motion", "start", "end", "scene_threshold", "duplicates", "input_rate", "codec", "crf",
        "preset", "pixel_format",
    )  # fmt: skip
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.no_scene_detection:
        given["scene_threshold"] = None
    fields = {"deinterlace": not options.no_deinterlace, "detelecine": options.detelecine}
    return VideoOptions(**fields, **given)


def interpolate_video(options: argparse.Namespace) -> None:
    def say(phrase: str) -> None:
        with tqdm.external_write_mode(sys.stderr):  # not into a progress bar
            note(options, phrase)

    job = video.Job(options.video, options.out, video_options(options), say)
    with tqdm(unit=" frames", leave=False, disable=not shows_progress(options)) as bar:

        def progress(done: int, expected: int) -> None:
            if not bar.n:  # the frames of an earlier run do not count for the speed
                bar.initial = bar.n = done - 1
            bar.total = expected
            bar.update(done - bar.n)

        if is_shared_out(options):
            share_out_video(options, job, say, progress)
        else:
            interpolator = make_interpolator(options)  # takes seconds: first everything that can fail at once
            recipe = recipe_of(options, interpolator.precision)
            job.run(interpolator.middle, interpolator.device, options.resume, recipe, progress)
    print(options.out)


def share_out_video(options: argparse.Namespace, job: video.Job, say: video.Note, progress: video.Progress) -> None:
    """Makes a video by many processes."""
    with download_progress(options) as downloaded:
        network = load_network(options.model, options.weights, downloaded)
    with machines_of(options) as machines:
        from vfi.cluster.videos import VideoCrew  # here: only those who need Ray wait for its import

        precision = machines.fast_precision(network) if options.precision == "auto" else options.precision
        arguments = {name: getattr(options, name) for name in ("model", "weights", "device", "padding", "ensemble")}
        tell = say if options.verbose else lambda phrase: None
        crew = VideoCrew(job, arguments | {"precision": precision}, machines, options.send_source, say, tell)
        job.run_on(crew, options.resume, recipe_of(options, precision), progress)


def recipe_of(options: argparse.Namespace, precision: str) -> str:
    """What the frames of a video depend on, besides the source and the options of the video."""
    recipe = f"{options.model}, {options.weights} weights, {options.padding} padding, {precision}"
    return recipe + (", ensemble" if options.ensemble else "")


def interpolate_pair(options: argparse.Namespace) -> None:
    pictures.check_target(options.out)
    paths = (options.one, options.two)
    for path in paths:
        if os.path.exists(options.out) and os.path.exists(path) and os.path.samefile(path, options.out):
            raise UsageError(f"--out {options.out} is one of the inputs, which it would replace: name another file")
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
            f"{one.size} is large: the kernels do not reach what moves by more than {2 * REACH} pixels from one "
            f"picture to the other ({REACH} to the frame in the middle)",
        )
    middle = replace(one, pixels=make_interpolator(options)(one.pixels, two.pixels))
    for loss in pictures.write(options.out, middle, options.quality, options.lossless):
        note(options, loss)
    print(options.out)


if __name__ == "__main__":
    sys.exit(main())
