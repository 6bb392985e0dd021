"""Measures the network, and two baselines, against true frames.

    python benchmark.py --download
    python benchmark.py --model l1 lf --padding improved paper --method sepconv average minterpolate
    python benchmark.py --vimeo90k vimeo_triplet --model l1 --json vimeo.json --resume
    python benchmark.py --triplets my_triplets --html report

Without options it measures the bundled lf weights on the twelve scenes of Middlebury with a true middle frame, in
./middlebury, to which --download downloads them. Every combination of the values of --model, --padding and --precision
is measured, in one table with published figures. A scene with a missing or broken frame is named and left out. Exit
status: 0; 1 for bad data, also if a scene was left out or LPIPS is not available; 2 for bad usage; 130 after Ctrl-C.
"""

import argparse
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the imports take seconds: Ctrl-C during them prints no traceback

from vfi.benchmarks import BENCHMARKS, middlebury, report
from vfi.benchmarks.measuring import find_triplets, measure_all, unavailable_metrics
from vfi.benchmarks.methods import BASELINES, Method, unrounded
from vfi.benchmarks.results import Results, Settings
from vfi.benchmarks.triplets import Triplet
from vfi.command_line import (
    Help,
    add_network_options,
    download_progress,
    exit_status,
    make_interpolator,
    note,
    shows_progress,
)
from vfi.errors import BenchmarkError, MetricError
from vfi.files import check_file_target, write_text
from vfi.interpolator import ENSEMBLE
from vfi.metrics import METRICS
from vfi.pictures import is_picture_name
from vfi.weights import checksum, load_network


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    return exit_status(measure, parse(argv))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked; `benchmark` and `folder` are the set to measure and where it lies."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description="Measures the network, and two baselines, against true frames.",
        formatter_class=Help,
    )
    add_network_options(parser, several=True)
    parser.add_argument(
        "--method",
        nargs="+",
        choices=("sepconv", *BASELINES),
        help="what to measure: the network, the mean of the frames, FFmpeg's motion compensation (default: sepconv)",
    )
    parser.add_argument(
        "--truncate", action="store_true", help="drop fractions instead of rounding, as the first public code does"
    )
    parser.add_argument("--lpips", action="store_true", help="also measure LPIPS (needs the package lpips)")

    where = parser.add_argument_group("benchmarks, one at a time").add_mutually_exclusive_group()
    for name, benchmark in BENCHMARKS.items():
        where.add_argument(
            f"--{name.replace('_', '-')}",
            *(["--data"] if name == "middlebury" else []),  # its first name
            type=Path,
            metavar="DIR",
            help=f"{benchmark.title}: {benchmark.layout}".replace("%", "%%")
            + (" (default: middlebury)" if name == "middlebury" else ""),
        )
    parser.add_argument("--download", action="store_true", help="first download the missing frames of Middlebury")
    parser.add_argument("--subset", nargs="+", metavar="NAME", help="only these subsets of SNU-FILM or Xiph")

    out = parser.add_argument_group("results")
    out.add_argument(
        "--json", type=Path, metavar="FILE", help="every scene; saved now and then, and after Ctrl-C, for --resume"
    )
    out.add_argument("--resume", action="store_true", help="continue with the results of an earlier run in --json")
    out.add_argument("--csv", type=Path, metavar="FILE", help="a line for each scene and method")
    out.add_argument("--html", type=Path, metavar="DIR", help="a page to look at the pictures, in this folder")
    options = parser.parse_args(argv)
    choose_benchmark(parser, options)
    choose_methods(parser, options)
    check_results(parser, options)
    return options


def choose_benchmark(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Sets `benchmark` and `folder`; ends the program if options are for another benchmark."""
    name = next((name for name in BENCHMARKS if getattr(options, name)), "middlebury")
    options.benchmark, options.folder = BENCHMARKS[name], getattr(options, name) or Path("middlebury")
    if options.download and name != "middlebury":
        parser.error("--download is for Middlebury")
    if options.subset and not options.benchmark.subsets:
        parser.error("--subset is for SNU-FILM and Xiph")
    for subset in options.subset or ():
        if subset not in options.benchmark.subsets:
            parser.error(f"--subset {subset} is not one of {', '.join(options.benchmark.subsets)}")


def choose_methods(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Fills in the defaults of what to measure; ends the program if options are for the network alone."""
    options.method = options.method or ["sepconv"]
    if "sepconv" not in options.method:
        for name in ("ensemble", "model", "padding", "precision", "weights"):
            if getattr(options, name) != parser.get_default(name):
                parser.error(f"--{name} is for --method sepconv")
    options.model = options.model or ["lf"]
    options.padding = options.padding or ["improved"]
    options.precision = options.precision or ["auto"]
    if len(options.model) > 1 and options.weights not in ("bundled", "published"):
        parser.error("--weights FILE is one model: name one with --model, too")


def check_results(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program if results would replace something else."""
    for target in filter(None, (options.json, options.csv)):
        if is_picture_name(target):  # perhaps a frame, which would be lost
            parser.error(f"{target} has the name of a picture: --json and --csv write text")
    if options.json and options.json == options.csv:
        parser.error("--json and --csv name the same file")
    if options.html and is_within(options.html, options.folder):
        parser.error(f"--html {options.html} is within {options.folder}, where its pictures would be read as frames")
    if options.resume and not options.json:
        parser.error("--resume continues with the results in --json FILE: name it")


def is_within(folder: Path, other: Path) -> bool:
    """Whether a folder is, or would be, the other folder or somewhere in it."""
    folder, other = (Path(os.path.realpath(path)) for path in (folder, other))
    return other in (folder, *folder.parents)


def measure(options: argparse.Namespace) -> None:
    for target in filter(None, (options.json, options.csv)):
        check_file_target(target)
    if options.download:
        with download_progress(options) as progress:
            middlebury.download(options.folder, progress)
    triplets = find_triplets(options.benchmark, options.folder, options.subset)
    if lacking := sum(triplet.is_incomplete for triplet in triplets):
        note(options, f"{lacking} of {len(triplets)} scenes will be left out: a frame is missing, or is wrong")
    methods = make_methods(options)
    settings = Settings(
        benchmark=options.benchmark.title,
        folder=str(options.folder),
        truncate=options.truncate,
        metrics=[name for name in METRICS if name != "lpips" or options.lpips],
        unavailable=unavailable_metrics(options.lpips),
        methods=[{"label": method.label, **method.settings} for method in methods],
    )
    results = Results(settings, options.json)
    results.load(options.resume, triplets)
    page = report.Page(options.html, settings, triplets) if options.html else None
    with page or contextlib.nullcontext():
        left_out = measure_and_write(triplets, methods, results, page, options)
    if left_out:
        for line in report.left_out(results):
            print(line, file=sys.stderr)
        raise BenchmarkError(f"left out: {left_out} of {len(triplets)} scenes")
    for name, why in settings.unavailable.items():
        raise MetricError(f"{METRICS[name].title} was not measured: {why}")


def measure_and_write(
    triplets: Sequence[Triplet],
    methods: Sequence[Method],
    results: Results,
    page: report.Page | None,
    options: argparse.Namespace,
) -> int:
    """Measures the triplets, and writes the results; returns how many triplets were left out."""
    try:
        measure_all(triplets, methods, results, page, options.truncate, shows_progress(options))
    except BaseException:
        if results.scenes and options.json:
            results.save(complete=False)
            done = sum(triplet.key in results.scenes for triplet in triplets)
            note(options, f"{done} of {len(triplets)} scenes are in {options.json}: --resume continues")
        raise
    left_out = sum(triplet.key in results.left_out for triplet in triplets)
    try:
        results.save(complete=not left_out)
    finally:  # the figures are printed even if the disk is full
        print(report.text(results, options.benchmark), flush=True)
    if options.csv:
        write_text(options.csv, results.csv())
    if page:
        print(page.write(results, options.benchmark))
    return left_out


def make_methods(options: argparse.Namespace) -> list[Method]:
    """The methods that the options name: every combination of the network's, and the baselines."""
    methods: list[Method] = []
    for name in dict.fromkeys(options.method):
        if name != "sepconv":
            methods.append(Method(name, {"method": name}, BASELINES[name]))
            continue
        for model, padding, precision in itertools.product(options.model, options.padding, options.precision):
            one = argparse.Namespace(**vars(options) | {"model": model, "padding": padding, "precision": precision})
            method = make_network_method(one)
            if method.settings not in [other.settings for other in methods]:  # auto is equal to another precision
                methods.append(method)
    return methods


def make_network_method(options: argparse.Namespace) -> Method:
    """The network with one model, padding and precision."""
    interpolator = make_interpolator(options)
    is_named = options.weights in ("bundled", "published")
    parts = [
        options.model if is_named else Path(options.weights).name,
        *([options.weights] if options.weights == "published" else []),
        f"{options.padding} padding",
        interpolator.precision,
        *([f"ensemble of {ENSEMBLE}"] if options.ensemble else []),
    ]
    settings = {
        "method": "sepconv",
        "model": options.model if is_named else "",
        "weights": options.weights,
        "weights_sha256": checksum(load_network(options.model, options.weights)),
        "padding": options.padding,
        "precision": interpolator.precision,
        "device": str(interpolator.device),
        "ensemble": options.ensemble,
    }
    return Method(", ".join(parts), settings, unrounded(interpolator))


if __name__ == "__main__":
    sys.exit(main())
