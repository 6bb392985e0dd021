"""Trains the network from any folder of videos.

    python train.py --data videos --out runs/first --minutes 25
    python train.py --data videos --out runs/first --resume
    python train.py --model lf --data videos --out runs/first --features vgg19-dcbb9e9d.pth --minutes 10
    python train.py --data videos --out runs/first --synthetic 0.5 --speed 24 --objects 3 --show 12
    python train.py --validate runs/first/trained-l1.safetensors --data held-out
    torchrun --nproc-per-node 2 train.py --data videos --out runs/first --minutes 25

Writes to --out: trained-MODEL.safetensors (weights, for `run.py --weights`), .checkpoint (for --resume), .csv (the log;
also TensorBoard's events if TensorBoard is installed), and in frames/ the decoded videos, which are large and may be
deleted after training. Ctrl-C and SIGTERM end a run with a checkpoint. Exit status: 0, 1 for bad data, 2 for bad usage,
130 after Ctrl-C, 143 after SIGTERM.
"""

import argparse
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the imports take seconds: Ctrl-C during them prints no traceback

import vfi
from vfi.command_line import Help, exit_status
from vfi.interpolator import PRECISIONS
from vfi.network import REACH, STRIDE
from vfi.training import loop, validation
from vfi.training.batches import SURROUNDINGS
from vfi.training.losses import LITE
from vfi.training.recipe import Recipe
from vfi.weights import MODELS

RECIPE = tuple(each.name for each in fields(Recipe))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    started = time.monotonic()
    options = parse(argv)
    if options.validate:
        return exit_status(validate, options)
    if options.show:
        return exit_status(show, options)
    return exit_status(
        lambda options: loop.train(run_options(options), started),
        options,
        "such batches: try a smaller --batch or --crop",
    )


def validate(options: argparse.Namespace) -> None:
    precision = "float32" if options.precision in (None, "auto") else options.precision
    model = options.model or Recipe().model
    validation.validate(options.validate, options.data, model, options.device, precision, options.features)


def show(options: argparse.Namespace) -> None:
    from vfi.training import sheet  # here: training needs no picture libraries

    sheet.show(run_options(options), options.show)


def run_options(options: argparse.Namespace) -> loop.RunOptions:
    """The options of the command line as those of a run."""
    return loop.RunOptions(
        data=options.data,
        out=options.out,
        held_out=options.held_out or (),
        changes={name: getattr(options, name) for name in RECIPE if getattr(options, name) is not None},
        resume=options.resume is not None,
        begins_anew=options.resume == "auto",
        start=options.start,
        device=options.device,
        compiles=options.compile,
        cache=options.cache,
        report=options.report,
        checkpoint=options.checkpoint,
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked; values of the recipe that were not given are None."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Trains the network from any folder of videos, or measures weights on videos.",
        formatter_class=Help,
    )
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="folder of videos, searched at any depth; may be repeated",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder to write to; made if it does not exist")
    parser.add_argument(
        "--held-out",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder of videos to watch progress on",
    )
    parser.add_argument(
        "--validate",
        metavar="FILE",
        help="do not train: print the mean PSNR of these weights on --data (whole frames, float32); with --features "
        "also the distance of features, which is lower where details are sharper",
    )
    parser.add_argument(
        "--show",
        type=within(int, 1, 1000),
        metavar="N",
        help="do not train: write a picture of the first N samples, OUT/samples.png, with the motion in each (needs "
        "OpenCV)",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="must",
        choices=("must", "auto"),
        metavar="auto",
        help="continue from the checkpoint in --out, with its recipe unless options say otherwise; --resume auto "
        "starts a new run if there is no checkpoint",
    )
    parser.add_argument(
        "--start",
        metavar="averaging|bundled|FILE",
        help="what to begin with: frame averaging (the default for l1), or l1 weights (lf: the bundled ones)",
    )
    add_recipe_options(parser)
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="where to train")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the network with PyTorch first, which takes a minute or two; pays on a GPU",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for decoded frames, 0.6 GB for 1,000 of 600x336; it may be deleted after training "
        "(default: OUT/frames)",
    )
    parser.add_argument("--report", type=within(float, 0), default=30, metavar="S", help="seconds between reports")
    parser.add_argument(
        "--checkpoint",
        type=within(float, 0),
        default=300,
        metavar="S",
        help="seconds between checkpoints",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {vfi.__version__}")
    options = parser.parse_args(argv)
    check(parser, options)
    return options


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the recipe, whose defaults are those of `Recipe`."""
    recipe = Recipe()

    def add(name: str, text: str, place: argparse._ActionsContainer = parser, **how: Any) -> None:
        default = getattr(recipe, name.replace("-", "_"))
        shown = "" if default is None or default is False else f" (default: {default})"
        place.add_argument(f"--{name}", help=f"{text}{shown}", default=None, **how)

    add("model", "l1: exact colours; lf: sharper details", choices=MODELS)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes",
        type=within(float, 0.01),
        metavar="M",
        help="wall clock for everything, including decoding and what was before --resume; the schedule fits itself to "
        f"it (default: {recipe.minutes})",
    )
    budget.add_argument("--steps", type=within(int, 1), metavar="N", help="a number of steps instead")
    add("batch", "crops in a step, for each process", type=within(int, 1, 2**16), metavar="N")
    add(
        "crop",
        f"side of a crop in pixels, a multiple of {STRIDE}; frames must be {2 * REACH} pixels larger each way",
        type=within(int, STRIDE),
        metavar="N",
    )
    add("learning-rate", "at its peak", type=within(float, 1e-9, 1), metavar="R")
    add("average", "decay of the weights' moving average, for each step", type=within(float, 0, 0.999999), metavar="D")
    add(
        "balance",
        "grey levels: an error is divided by the sum of this and the error of averaging (1e9: all errors count alike)",
        type=within(float, 1e-3),
        metavar="L",
    )
    add("least-weight", "weight of the hardest crops, where the easiest have 1", type=within(float, 0, 1), metavar="W")
    add(
        "features",
        "for lf and --validate: torchvision's VGG-19 (a .pth file), or EfficientNet-Lite0",
        metavar=f"FILE|{LITE}",
    )
    add("colour", "for lf: weight of L1 on colour", type=within(float, 0), metavar="W")
    add("seed", "of the crops and of the first weights", type=within(int, 0, 2**63 - 1), metavar="N")
    add("precision", "of the convolutions; auto: bfloat16 where it is native", choices=PRECISIONS)
    add("license", "of the weights, for the metadata of their file", metavar="TEXT")
    add_sampling_options(parser.add_argument_group("what crops show (see docs/training.md)"), add)


def add_sampling_options(group: argparse._ArgumentGroup, add: Callable[..., None]) -> None:
    """Adds the options of `Sampling`."""
    share = within(float, 0, 1)
    add(
        "strides",
        "frames from one frame of a triplet to the next, at most",
        group,
        type=within(int, 1, 16),
        metavar="N",
    )
    add(
        "pan",
        "pixels from one frame to the next of virtual pans, at most",
        group,
        type=within(int, 0, REACH),
        metavar="P",
    )
    add("by-flow", "draw crops by measured motion instead of by change; needs OpenCV", group, action="store_true")
    add("zoom", "by how much frames are enlarged or reduced, at most", group, type=within(float, 1, 2), metavar="Z")
    add("rotation", "degrees by which frames are turned, at most", group, type=within(float, 0, 45), metavar="R")
    add("light", "variation of brightness and contrast", group, type=share, metavar="L")
    add("degraded", "share of crops whose two frames get noise and compression", group, type=share, metavar="S")
    add(
        "synthetic",
        f"share of crops with synthetic motion, for which frames must be another {2 * SURROUNDINGS} pixels larger",
        group,
        type=share,
        metavar="S",
    )
    add(
        "speed",
        "pixels from one frame to the next, up to which all speeds of synthetic layers are equally likely; 0: most "
        "are slow",
        group,
        type=within(float, 0, REACH),
        metavar="V",
    )
    add("objects", "small objects in a synthetic crop, at most", group, type=within(int, 0, 20), metavar="N")
    add("stills", "folder of photographs, and of cut-outs with alpha, for synthetic crops", group, metavar="DIR")
    add("perspective", "change of depth across a synthetic layer", group, type=within(float, 0, 0.2), metavar="P")
    add(
        "acceleration",
        "pixels by which the middle frame of a synthetic layer is not halfway, at most",
        group,
        type=within(float, 0, 4),
        metavar="A",
    )
    add("blur", "share of synthetic crops with motion blur", group, type=share, metavar="S")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program if the options do not fit together."""
    if options.crop and options.crop % STRIDE:
        parser.error(f"--crop {options.crop} is not a multiple of {STRIDE}")
    if options.validate:
        unfit = {"out", "held_out", "show", "resume", "start", "cache", "compile", *RECIPE} - {
            "model",
            "precision",
            "features",
        }
        for name in sorted(unfit):
            if getattr(options, name) not in (None, False):
                parser.error(f"--{name.replace('_', '-')} is for training, not for --validate")
    elif not options.out:
        parser.error("--out is missing: the folder to write to")
    elif options.show and (options.resume or options.start or options.compile or options.held_out):
        parser.error("--show does not train: leave out --resume, --start, --compile and --held-out")
    elif options.cache and options.cache.resolve() == options.out.resolve():
        parser.error("--cache is --out: name a folder for the frames alone")
    elif options.resume == "must" and options.start:
        parser.error("--start says what to begin with, and --resume does not begin: leave one of them out")


def within(kind: type[int] | type[float], least: float, most: float = math.inf) -> Callable[[str], float]:
    """For argparse: a number between two bounds."""

    def convert(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or value == math.inf:
            bounds = f"from {least} to {most}" if most < math.inf else f"of {least} or more"
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {what} {bounds}")
        return value

    return convert


if __name__ == "__main__":
    sys.exit(main())
