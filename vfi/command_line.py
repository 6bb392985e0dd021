"""What the programs share: the options that choose the network, errors in one line, and the exit status."""

import argparse
import codecs
import contextlib
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

import vfi
from vfi.errors import UserError, reason
from vfi.interpolator import ENSEMBLE, PRECISIONS, Interpolator
from vfi.network import PADDINGS
from vfi.weights import MODELS

if TYPE_CHECKING:
    from vfi.cluster.machines import Machines


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Prints the default of every option that has one; flags, and options without a default, have none to print."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def add_network_options(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Adds the options of an `Interpolator`, --quiet and --version.

    With `several`, --model, --padding and --precision take one or more values and give lists, or None.
    """

    def add(name: str, default: str, text: str, choices: Iterable[str]) -> None:
        if several:
            parser.add_argument(name, nargs="+", choices=choices, help=f"{text} (default: {default})")
        else:
            parser.add_argument(name, default=default, choices=choices, help=text)

    add("--model", "lf", "l1: exact colours; lf: sharper details", MODELS)
    parser.add_argument(
        "--weights",
        default="bundled",
        metavar="bundled|published|FILE",
        help="bundled: our own; published: the authors' (downloaded once, academic use only); or a file",
    )
    add("--padding", "improved", "paper: 25 more pixels on each side, as for the figures in the paper", PADDINGS)
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="where to compute")
    add(
        "--precision",
        "auto",
        "of the convolutions; auto: 16 bits if the device computes in them natively and the weights allow it",
        PRECISIONS,
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help=f"the mean over flips of the frames, in both orders; takes {ENSEMBLE} times as long",
    )
    parser.add_argument("--quiet", action="store_true", help="no notes and no progress bar")
    parser.add_argument("--version", action="version", version=f"%(prog)s {vfi.__version__}")


def add_cluster_options(parser: argparse.ArgumentParser, sent: str) -> None:
    """Adds the options that share the work out; `sent` is what --send-source sends."""
    cluster = parser.add_argument_group("many processes or machines (see docs/cluster.md)")
    cluster.add_argument(
        "--workers",
        type=_workers,
        metavar="N|auto",
        help="processes that share the work, on this machine or the cluster; auto: as many as suit the machines",
    )
    cluster.add_argument(
        "--cluster",
        metavar="auto|ADDRESS",
        help="use a running Ray cluster, such as head:6379; auto: that of this machine",
    )
    cluster.add_argument(
        "--send-source", action="store_true", help=f"send {sent} to machines that do not see the path, through Ray"
    )
    cluster.add_argument("--verbose", action="store_true", help="say what happens to workers")


def _workers(text: str) -> int | str:
    if text == "auto":
        return text
    if not re.fullmatch(r"\d{1,4}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes: give 1 or more, or auto")
    return int(text)


def check_cluster_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program if these options do not fit together."""
    if not is_shared_out(options):
        for name in ("send_source", "verbose"):
            if getattr(options, name):
                parser.error(f"--{name.replace('_', '-')} is for --workers and --cluster")
    elif options.device.startswith("cuda:"):
        parser.error(f"--device {options.device} and workers exclude each other: each gets a GPU of its own")


def is_shared_out(options: argparse.Namespace) -> bool:
    """Whether many processes do the work."""
    return bool(options.workers or options.cluster)


@contextlib.contextmanager
def machines_of(options: argparse.Namespace) -> Iterator["Machines"]:
    """The machines that the options name, until the end of the context."""
    from vfi.cluster.machines import on_cluster, on_this_machine  # here: only those who need Ray wait for its import

    workers = None if options.workers == "auto" else options.workers
    with on_cluster(options.cluster, workers) if options.cluster else on_this_machine(workers) as machines:
        yield machines


def make_interpolator(options: argparse.Namespace) -> Interpolator:
    """Makes the `Interpolator` that the options name; draws a progress bar while it downloads."""
    with download_progress(options) as progress:
        return Interpolator(
            options.model,
            options.weights,
            options.device,
            options.padding,
            options.precision,
            progress=progress,
            ensemble=options.ensemble,
        )


def shows_progress(options: argparse.Namespace) -> bool:
    """Whether to draw progress bars: on a terminal, unless --quiet was given."""
    return not options.quiet and sys.stderr.isatty()


@contextlib.contextmanager
def download_progress(options: argparse.Namespace) -> Iterator[Callable[[int, int | None], None]]:
    """Yields a function of (bytes so far, bytes in all or None), which draws a bar from the first byte on."""
    with tqdm(
        desc="downloading",
        unit="B",
        unit_scale=True,
        leave=False,
        delay=1e-9,  # seconds: the bar appears at the first byte, not if there is nothing to download
        disable=not shows_progress(options),
    ) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def note(options: argparse.Namespace, text: str) -> None:
    """Prints something that the user should know on standard error, unless --quiet was given."""
    if not options.quiet:
        with contextlib.suppress(OSError):  # a closed standard error does not end the program
            print(f"note: {text}", file=sys.stderr)


def exit_status(
    program: Callable[[argparse.Namespace], None], options: argparse.Namespace, too_much: str = "pictures of this size"
) -> int:
    """Runs program(options) and turns every error that a user can mend into one line on standard error.

    Args:
        too_much: what to name if the memory does not suffice.

    Returns:
        0, 1 for bad data, 2 for bad usage, 130 after Ctrl-C. Any other exception is a bug, and is raised.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # the programs set this for the time of their imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _ready_streams()
    try:
        with warnings.catch_warnings(action="ignore"):  # the programs say what matters in lines of their own
            program(options)
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (MemoryError, RuntimeError) as error:
        out_of_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not out_of_memory and "DefaultCPUAllocator" not in str(error):  # PyTorch's RuntimeError on a CPU
            raise
        return _fail(f"not enough memory for {too_much}", 1)
    except OSError as error:  # standard output cannot be written; errors of files are UserErrors by now
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python tries again when it ends
        return _fail(f"{error.filename or 'standard output'}: {reason(error)}", 1)
    return 0


def _ready_streams() -> None:
    """Makes standard output and error accept any text, or nothing at all if they are closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    codecs.register_error(_escape.__name__, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace"):
            stream.reconfigure(errors=_escape.__name__)


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Writes bytes of a name that are not text as \\xe9, and characters that the encoding lacks as \\u20ac."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    escaped = str(codecs.backslashreplace_errors(error)[0])
    return re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", escaped), error.end


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status
