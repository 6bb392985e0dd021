"""What the programs here share: the options that choose the network, and errors in one line."""

import argparse
import codecs
import contextlib
import io
import os
import re
import signal
import sys
import warnings

import torch

from vfi.errors import UserError
from vfi.interpolator import PRECISIONS, Interpolator
from vfi.network import PADDINGS
from vfi.weights import MODELS


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says the default of every option that has one: not of what is off, or not named."""

    def _get_help_string(self, action):
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


class Words(list):
    """A list that a default is printed as in a program's help: the way one types it."""

    def __str__(self):
        return " ".join(self)


def add_network_options(parser, several=False):
    """--model, --weights, --padding, --device, --precision and --quiet.

    With `several`, --model, --padding and --precision take one or more values and give lists.
    """

    def default(value):
        return {"default": Words([value]), "nargs": "+"} if several else {"default": value}

    parser.add_argument("--model", choices=MODELS, **default("lf"), help="l1: exact colours; lf: sharper details")
    parser.add_argument(
        "--weights",
        default="bundled",
        metavar="bundled|published|FILE",
        help="bundled: those in weights/; published: the authors' (downloaded once, academic use only); or a file",
    )
    parser.add_argument(
        "--padding", choices=PADDINGS, **default("improved"), help="paper: 25 pixels more, as in the paper's numbers"
    )
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="what to compute on")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        **default("auto"),
        help="of the convolutions; auto: 16 bits where the device has them natively and the weights bear it",
    )
    parser.add_argument("--quiet", action="store_true", help="no notes and no progress bar")


def make_interpolator(options):
    """The `Interpolator` that the options name, with a progress bar if it downloads."""
    with download_progress(options) as progress:
        return Interpolator(
            options.model, options.weights, options.device, options.padding, options.precision, progress
        )


def shows_progress(options):
    return not options.quiet and sys.stderr.isatty()


@contextlib.contextmanager
def download_progress(options):
    """A function for (bytes so far, bytes in all or None), which draws a bar from the first byte on."""
    from tqdm import tqdm  # here: training can do without

    with tqdm(
        desc="downloading",
        unit="B",
        unit_scale=True,
        leave=False,
        delay=1e-9,  # shown at the first byte, not when there is nothing to download
        disable=not shows_progress(options),
    ) as bar:

        def progress(done, total):
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def note(options, text):
    """Something that the user should know, on standard error."""
    if not options.quiet:
        with contextlib.suppress(OSError):  # nobody listens: no reason to end
            print(f"note: {text}", file=sys.stderr)


def exit_status(program, options, too_much="pictures of this size"):
    """Runs program(options); what a user can do wrong becomes one line on standard error.

    Args:
        too_much: for what the memory was too little, if it was.

    Returns:
        0, 1 for bad data, 2 for bad usage, 130 after Ctrl-C. Anything else is a bug, and raised.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # as the programs set it while they are imported
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _ready_streams()
    try:
        with warnings.catch_warnings(action="ignore"):  # what matters is said in a line of our own
            program(options)
        sys.stdout.flush()
    except UserError as error:
        return _fail(error, error.exit_status)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (MemoryError, RuntimeError) as error:
        out_of_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not out_of_memory and "DefaultCPUAllocator" not in str(error):  # what PyTorch raises on a CPU
            raise
        return _fail(f"not enough memory for {too_much}", 1)
    except OSError as error:  # of files we speak ourselves
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try once more
        return _fail(f"{error.filename or 'standard output'}: {error.strerror.lower()}", 1)
    return 0


def _ready_streams():
    """Makes standard output and error take whatever is printed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    codecs.register_error(_escape.__name__, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace"):
            stream.reconfigure(errors=_escape.__name__)


def _escape(error):
    """Writes bytes of a name that are no text as \\xe9, and text that the encoding lacks as \\u20ac."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    escaped = codecs.backslashreplace_errors(error)[0]
    return re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", escaped), error.end


def _fail(reason, status):
    print(f"error: {reason}", file=sys.stderr)
    return status
