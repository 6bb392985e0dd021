"""Measures what this machine does with the op and the network.

    python -m tools.speed                      the op against plain loops, forward and backward
    python -m tools.speed --breakdown          where the time of one 640x480 pair goes, or of another: --breakdown WxH
    python -m tools.speed --breakdown --against COMMIT    how much faster it is than at a commit
    python -m tools.speed --memory 1920x1080   seconds and peak memory of one pair in a process of its own
    python -m tools.speed --gpu                the op against naive kernels, and the network, on an NVIDIA GPU
    python -m tools.speed --resources          registers and shared memory of the CUDA kernels; needs no GPU
    python -m tools.speed --video 640x360      frames per second of a video, and what limits them
    python -m tools.speed --training           samples per second of training; on a CPU, where the time of a step goes

--video and --training use a GPU if there is one. Times are medians of interleaved runs. The ratio to a baseline of the
same run is what counts, since machines differ and are shared.
"""

import argparse
import importlib.util
import os
import re
import signal
import sys
from collections.abc import Sequence

if __name__ == "__main__":
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise PyTorch's profiler logs to standard error
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports, which take seconds: no traceback

import torch

from tools import speed_against, speed_cuda, speed_network, speed_op, speed_training, speed_video
from tools.stopwatch import machine
from vfi.command_line import Help, exit_status
from vfi.interpolator import PRECISIONS
from vfi.weights import MODELS


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.speed",
        description="Measures the op and the network on this machine.",
        formatter_class=Help,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--breakdown",
        type=_size,
        nargs="?",
        const=(640, 480),
        metavar="WxH",
        help="where the time of one pair of this size goes, 640x480 by default",
    )
    what.add_argument("--memory", type=_size, metavar="WxH", help="seconds and peak memory of one pair of this size")
    what.add_argument("--gpu", action="store_true", help="the op and the network on an NVIDIA GPU")
    what.add_argument("--resources", action="store_true", help="registers and shared memory of the CUDA kernels")
    what.add_argument(
        "--video", type=_size, metavar="WxH", help="twice the frames of a video of this size, and its parts"
    )
    what.add_argument("--training", action="store_true", help="where the time of a step of training goes")
    parser.add_argument("--model", choices=MODELS, default="l1", help="for all but the op alone")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="for all but the op alone")
    parser.add_argument("--against", metavar="COMMIT", help="with --breakdown: only compare with this commit, in turns")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of everything, of which the median is taken")
    options = parser.parse_args(argv)
    if options.memory and not importlib.util.find_spec("resource"):
        parser.error("--memory is not available on Windows")
    if options.video and any(side % 2 for side in options.video):
        parser.error("--video needs an even width and height")
    if options.training and options.precision == "auto":
        parser.error("--training needs a --precision with a name: float32, bfloat16 or float16")
    if options.against and not options.breakdown:
        parser.error("--against needs --breakdown")
    if options.runs < 1:
        parser.error(f"--runs {options.runs} is not a positive number")
    return exit_status(_measure, options)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 1920x1080")
    return int(match[1]), int(match[2])


def _measure(options: argparse.Namespace) -> None:
    model, precision, runs = options.model, options.precision, options.runs
    if options.resources:
        speed_cuda.print_resources()
        return
    if options.gpu:
        speed_cuda.check()
    on_gpu = options.gpu or ((options.video or options.training) and torch.cuda.is_available())
    print(speed_cuda.machine() if on_gpu else machine())
    if options.gpu:
        speed_cuda.print_op(runs)
        speed_cuda.print_network(model, precision, runs)
    elif options.against:
        speed_against.print_against(options.against, model, precision, options.breakdown, runs)
    elif options.breakdown:
        speed_network.print_breakdown(model, precision, options.breakdown, runs)
    elif options.memory:
        speed_network.print_memory(model, precision, *options.memory)
    elif options.video:
        speed_video.print_video(model, precision, options.video, runs)
    elif options.training:
        speed_training.print_training(precision, runs)
    else:
        speed_op.print_op(runs)


if __name__ == "__main__":
    sys.exit(main())
