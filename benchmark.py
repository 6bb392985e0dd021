"""Measures the network, and two yardsticks, against frames that are known.

    python benchmark.py --download
    python benchmark.py --model l1 lf --padding improved paper --method sepconv average minterpolate
    python benchmark.py --vimeo90k vimeo_triplet --model l1 --json vimeo.json --resume
    python benchmark.py --triplets my_triplets --html report

Without options: bundled lf on Middlebury's twelve scenes with a true middle frame, from ./middlebury, into which
--download puts them. Every combination of what --model, --padding and --precision name is measured, in one table with
what was published. A scene that lacks a frame, or has a broken one, is named and left out, and the exit status is then
1, as where LPIPS was asked for and is not to be had. Otherwise 0, 1 for bad data, 2 for bad usage, 130 after Ctrl-C.
"""

import argparse
import contextlib
import hashlib
import itertools
import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports, which take seconds: no traceback

import numpy as np
from tqdm import tqdm

from vfi.benchmarks import methods, middlebury, report
from vfi.benchmarks.methods import Method
from vfi.benchmarks.results import Results
from vfi.benchmarks.triplets import OWN, SNU_FILM, UCF101, VIMEO90K, XIPH
from vfi.command_line import (
    Help,
    Words,
    add_network_options,
    download_progress,
    exit_status,
    make_interpolator,
    note,
    shows_progress,
)
from vfi.errors import BenchmarkError, MetricError, PictureError
from vfi.files import check_file_target, write_text
from vfi.metrics import METRICS, load_lpips
from vfi.pictures import is_picture_name

BENCHMARKS = {
    "data": middlebury.MIDDLEBURY,
    "vimeo90k": VIMEO90K,
    "ucf101": UCF101,
    "snu_film": SNU_FILM,
    "xiph": XIPH,
    "triplets": OWN,
}


def main(argv=None):
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    return exit_status(measure, parse(argv))


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description="Measures the network, and two yardsticks, against frames that are known.",
        formatter_class=Help,
    )
    add_network_options(parser, several=True)
    parser.add_argument(
        "--method",
        nargs="+",
        choices=("sepconv", *methods.YARDSTICKS),
        default=Words(["sepconv"]),
        help="what to measure: the network, the mean of the two frames, FFmpeg's motion compensation",
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help=f"the mean over flips of the frames and both their orders: {methods.ENSEMBLE} times the time",
    )
    parser.add_argument(
        "--truncate", action="store_true", help="drop fractions instead of rounding, as the first public code does"
    )
    parser.add_argument("--lpips", action="store_true", help="LPIPS, too (needs the package lpips)")

    where = parser.add_argument_group("benchmarks, one at a time").add_mutually_exclusive_group()
    for name, benchmark in BENCHMARKS.items():
        where.add_argument(
            f"--{name.replace('_', '-')}",
            type=Path,
            metavar="DIR",
            default=argparse.SUPPRESS,
            help=f"{benchmark.title}: {benchmark.layout}".replace("%", "%%")
            + (" (default: middlebury)" if name == "data" else ""),
        )
    parser.add_argument("--download", action="store_true", help="first get what is missing of Middlebury")
    parser.add_argument("--subset", nargs="+", metavar="NAME", help="only these of SNU-FILM's or Xiph's")

    out = parser.add_argument_group("results")
    out.add_argument("--json", type=Path, metavar="FILE", help="every scene; written now and then, and after Ctrl-C")
    out.add_argument("--resume", action="store_true", help="go on with what --json holds of an earlier run")
    out.add_argument("--csv", type=Path, metavar="FILE", help="a line for each scene and method")
    out.add_argument("--html", type=Path, metavar="DIR", help="a page to look at the pictures, in this folder")
    options = parser.parse_args(argv)

    name = next((name for name in BENCHMARKS if hasattr(options, name)), "data")
    options.benchmark, options.folder = BENCHMARKS[name], getattr(options, name, Path("middlebury"))
    if options.download and name != "data":
        parser.error("--download is for Middlebury")
    if options.subset and not options.benchmark.subsets:
        parser.error("--subset is for SNU-FILM and Xiph")
    for subset in options.subset or ():
        if subset not in options.benchmark.subsets:
            parser.error(f"--subset {subset} is not one of {', '.join(options.benchmark.subsets)}")
    if "sepconv" not in options.method:
        given = {name for name in ("model", "padding", "precision") if not isinstance(getattr(options, name), Words)}
        given |= {name for name in ("weights", "ensemble") if getattr(options, name) != parser.get_default(name)}
        for name in sorted(given):
            parser.error(f"--{name} is for --method sepconv")
    if len(options.model) > 1 and options.weights not in ("bundled", "published"):
        parser.error("--weights FILE is one model: name one with --model, too")
    for target in filter(None, (options.json, options.csv)):
        if is_picture_name(target):  # perhaps of a frame, which would be lost
            parser.error(f"{target} has the name of a picture: --json and --csv write text")
    if options.json and options.json == options.csv:
        parser.error("--json and --csv name the same file")
    if options.html and is_within(options.html, options.folder):
        parser.error(f"--html {options.html} is within {options.folder}, where its pictures would pass for frames")
    if options.resume and not options.json:
        parser.error("--resume goes on with the results in --json FILE: name it")
    return options


def is_within(folder, other):
    """Whether a folder is, or would be, the other or somewhere in it."""
    folder, other = (Path(os.path.realpath(path)) for path in (folder, other))
    return other in (folder, *folder.parents)


def measure(options):
    for target in filter(None, (options.json, options.csv)):
        check_file_target(target)
    if options.download:
        with download_progress(options) as progress:
            middlebury.download(options.folder, progress)
    triplets = find(options)
    entries = make_methods(options)
    unavailable = check_metrics(options)
    settings = {
        "benchmark": options.benchmark.title,
        "folder": str(options.folder),
        "truncate": options.truncate,
        "metrics": [name for name in METRICS if name != "lpips" or options.lpips],
        "unavailable": unavailable,
        "methods": [{"label": entry.label, **entry.settings} for entry in entries],
    }
    results = Results(settings, options.json)
    results.load(options.resume, triplets)
    page = report.Page(options.html, settings, triplets) if options.html else None
    with page or contextlib.nullcontext():
        left_out = measure_and_write(triplets, entries, results, page, options)
    if left_out:
        for line in report.left_out(results):
            print(line, file=sys.stderr)
        raise BenchmarkError(f"left out: {left_out} of {len(triplets)} scenes")
    for name, why in unavailable.items():
        raise BenchmarkError(f"{METRICS[name].title} was not measured: {why}")


def measure_and_write(triplets, entries, results, page, options):
    """Returns how many of the triplets were left out."""
    try:
        measure_all(triplets, entries, results, page, options)
    except BaseException:
        if results.scenes and options.json:
            results.save(complete=False)
            done = sum((triplet.subset, triplet.scene) in results.scenes for triplet in triplets)
            note(options, f"{done} of {len(triplets)} scenes are in {options.json}: --resume goes on")
        raise
    left_out = sum((triplet.subset, triplet.scene) in results.left_out for triplet in triplets)
    try:
        results.save(complete=not left_out)
    finally:  # a full disk does not take the figures along
        print(report.text(results, options.benchmark), flush=True)
    if options.csv:
        write_text(options.csv, results.csv())
    if page:
        print(page.write(results, options.benchmark))
    return left_out


def find(options):
    """The triplets to measure."""
    benchmark, folder = options.benchmark, options.folder
    expected = f"expected {benchmark.layout}"
    if not os.path.isdir(folder):
        raise BenchmarkError(f"there is no folder {folder}; {expected}")
    try:
        triplets = benchmark.find(folder)
    except BenchmarkError as error:
        raise BenchmarkError(f"{error}; {expected}") from error
    triplets = [triplet for triplet in triplets if not options.subset or triplet.subset in options.subset]
    lacking = [
        triplet for triplet in triplets if triplet.problem or not all(os.path.exists(path) for path in triplet.files)
    ]
    if len(lacking) == len(triplets):
        raise BenchmarkError(f"there is no whole triplet in {folder}; {expected}")
    keys = [(triplet.subset, triplet.scene) for triplet in triplets]
    if len(set(keys)) < len(keys):
        twice = next(scene for number, (_, scene) in enumerate(keys) if keys[number] in keys[:number])
        raise BenchmarkError(f"{folder}: its list names {twice} twice")
    if lacking:
        note(options, f"{len(lacking)} of {len(triplets)} scenes will be left out, for lack of the right frames")
    return triplets


def make_methods(options):
    """What the options name: every combination of the network's, and the yardsticks."""
    entries = []
    for name in dict.fromkeys(options.method):
        if name != "sepconv":
            entries.append(Method(name, {"method": name}, getattr(methods, name)))
            continue
        for model, padding, precision in itertools.product(options.model, options.padding, options.precision):
            one = argparse.Namespace(**vars(options) | {"model": model, "padding": padding, "precision": precision})
            entry = make_network_method(one)
            if entry.settings not in [other.settings for other in entries]:  # auto is one of the others
                entries.append(entry)
    return entries


def make_network_method(options):
    interpolator = make_interpolator(options)
    named = options.weights in ("bundled", "published")
    parts = [
        options.model if named else Path(options.weights).name,
        *([options.weights] if options.weights == "published" else []),
        f"{options.padding} padding",
        interpolator.precision,
        *([f"ensemble of {methods.ENSEMBLE}"] if options.ensemble else []),
    ]
    sums = hashlib.sha256()
    for tensor in interpolator.network.state_dict().values():
        sums.update(tensor.float().cpu().numpy().tobytes())
    settings = {
        "method": "sepconv",
        "model": options.model if named else "",
        "weights": options.weights,
        "weights_sha256": sums.hexdigest(),
        "padding": options.padding,
        "precision": interpolator.precision,
        "device": str(interpolator.device),
        "ensemble": options.ensemble,
    }
    between = methods.network(interpolator)
    return Method(", ".join(parts), settings, methods.ensemble(between) if options.ensemble else between)


def check_metrics(options):
    """Why metrics that were asked for are not to be had, by name."""
    if options.lpips:
        try:
            load_lpips()
        except MetricError as error:
            return {"lpips": str(error)}
    return {}


def measure_all(triplets, entries, results, page, options):
    names = [name for name in results.settings["metrics"] if name not in results.settings["unavailable"]]
    open_ones = [
        triplet
        for triplet in triplets
        if (triplet.subset, triplet.scene) not in results.scenes or (page and page.lacks(triplet))
    ]
    bar = tqdm(
        open_ones,
        initial=len(triplets) - len(open_ones),
        total=len(triplets),
        unit="scene",
        leave=False,
        disable=not shows_progress(options),
    )
    for triplet in bar:
        bar.set_postfix_str(triplet.scene)
        try:
            one, two, truth = triplet.read()
            made = [methods.to_8_bits(entry.between(one, two), options.truncate) for entry in entries]
            values = [
                dict.fromkeys(results.settings["metrics"])
                | {name: METRICS[name].function(picture, truth) for name in names}
                for picture in made
            ]
        except (BenchmarkError, PictureError) as error:
            results.leave_out(triplet, str(error))
            continue
        except MetricError as error:
            results.leave_out(triplet, f"{triplet.one} is too small: {error}")
            continue
        for entry, picture, measured in zip(entries, made, values, strict=True):
            exact = float32_of(entry, entries)
            if exact is not None:
                measured["from_float32"] = int(np.abs(picture.astype(int) - made[exact]).max())
        results.add(triplet, values)  # before the pictures, for which the disk may be too small
        if page:
            page.add(triplet, made, truth)


def float32_of(entry, entries):
    """The index of what is `entry` but for its precision, which is float32; None for float32 itself, and without."""

    def rest(settings):
        return {name: value for name, value in settings.items() if name not in ("precision", "weights_sha256")}

    if entry.settings.get("precision") in (None, "float32"):
        return None
    same = (
        index
        for index, other in enumerate(entries)
        if rest(other.settings) == rest(entry.settings) and other.settings["precision"] == "float32"
    )
    return next(same, None)


if __name__ == "__main__":
    sys.exit(main())
