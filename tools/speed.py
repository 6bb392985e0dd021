"""Measures what this machine does with the op and the network.

    python speed.py                      the op against plain loops, forward and backward
    python speed.py --breakdown          where the time of one 640x480 pair goes
    python speed.py --memory 1920x1080   seconds and peak memory of one pair in a process of its own
    python speed.py --gpu                the op against naive kernels, and the network, on an NVIDIA GPU
    python speed.py --resources          registers and shared memory of the CUDA kernels; needs no GPU
    python speed.py --video 640x360      frames per second of a video, and what limits them; on a GPU if there is one
    python speed.py --training           samples per second of training; on a CPU, where the time of a step goes

Times are medians of interleaved runs; what counts is the ratio to a baseline of the same run, since machines differ
and are shared. The plain loops are the op as one would write it in PyTorch: K x K multiply-adds of shifted frames.
The floor is the time that the same number of multiply-adds takes in a matrix product.
"""

import argparse
import importlib.util
import os
import platform
import re
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports, which take seconds: no traceback

import numpy as np
import torch
from torch.autograd.profiler import profile

from sepconv import sepconv, sepconv_reference, sepconv_reference_backward
from tools import speed_cuda
from vfi.command_line import Help, exit_status
from vfi.interpolator import PRECISIONS, Interpolator
from vfi.network import TAPS
from vfi.training.batches import Batches
from vfi.training.clips import Footage
from vfi.training.distributed import Processes
from vfi.training.recipe import Recipe
from vfi.training.trainer import Trainer, averaging_network
from vfi.weights import MODELS

FORWARD_SIZE = (1, 3, 480, 640)
BACKWARD_SIZE = (8, 3, 128, 128)
TRAINING = (8, 128)  # crops in a step, and their side
VIDEOS = Path(__file__).parent.parent / "videos"

BREAKDOWN = {  # which of PyTorch's operators belong to what
    "convolutions": r"convolution",
    "bilinear upsampling": r"upsample|lerp|aten::index",
    "activations, pooling, sums": r"relu|clamp_min|pool|aten::add",
    "the op": r"sepconv",
    "padding, conversion, normalization": r"",
}


def main(argv=None):
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="speed.py",
        description="Measures the op and the network on this machine.",
        formatter_class=Help,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--breakdown", action="store_true", help="where the time of one 640x480 pair goes")
    what.add_argument("--memory", type=size, metavar="WxH", help="seconds and peak memory of one pair of this size")
    what.add_argument("--gpu", action="store_true", help="the op and the network on an NVIDIA GPU")
    what.add_argument("--resources", action="store_true", help="registers and shared memory of the CUDA kernels")
    what.add_argument(
        "--video", type=size, metavar="WxH", help="twice the frames of a video of this size, and its parts"
    )
    what.add_argument("--training", action="store_true", help="where the time of a step of training goes")
    parser.add_argument("--model", choices=MODELS, default="l1", help="for all but the op alone")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="for all but the op alone")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of everything, of which the median is taken")
    options = parser.parse_args(argv)
    if options.memory and not importlib.util.find_spec("resource"):
        parser.error("--memory is not available on Windows")
    if options.video and any(side % 2 for side in options.video):
        parser.error("--video needs an even width and height")
    if options.training and options.precision == "auto":
        parser.error("--training needs a --precision with a name: float32, bfloat16 or float16")
    if options.runs < 1:
        parser.error(f"--runs {options.runs} is not a positive number")
    return exit_status(measure, options)


def measure(options):
    if options.gpu:
        speed_cuda.check()
        print(speed_cuda.machine())
        speed_cuda.print_op(options.runs)
        speed_cuda.print_network(options)
        return
    if options.resources:
        speed_cuda.print_resources()
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler tells its story on standard error
    on_gpu = (options.video or options.training) and torch.cuda.is_available()
    print(speed_cuda.machine() if on_gpu else machine())
    if options.breakdown:
        print_breakdown(options)
    elif options.memory:
        print_memory(options)
    elif options.video:
        from tools import speed_video  # here: the rest runs where there is nothing to read videos with

        speed_video.print_video(options)
    elif options.training:
        print_training(options)
    else:
        print_op(options.runs)


def size(text):
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 1920x1080")
    return int(match[1]), int(match[2])


def machine():
    """The processor, its threads and the PyTorch that were measured."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    return f"{name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


# --- The op ----------------------------------------------------------------------------------------------------


def print_op(runs):
    torch.manual_seed(0)
    rate = multiply_add_rate()
    frame, vertical, horizontal, _ = random_arguments(FORWARD_SIZE)
    channels_last = [tensor.to(memory_format=torch.channels_last) for tensor in (vertical, horizontal)]
    exact = sepconv_reference(*(tensor.double() for tensor in (frame, vertical, horizontal)))
    print_table(
        f"forward, {shape(FORWARD_SIZE)}, float32, {TAPS} taps",
        runs,
        np.prod(FORWARD_SIZE) * TAPS**2 / rate,
        {
            "plain loop": lambda: [loop_forward(frame, vertical, horizontal)],
            "sepconv": lambda: [sepconv(frame, vertical, horizontal)],
            "sepconv, channels_last kernels": lambda: [sepconv(frame, *channels_last)],
        },
        [exact],
    )

    frame, vertical, horizontal, grad_out = random_arguments(BACKWARD_SIZE)
    inputs = (frame, vertical, horizontal)
    channels_last = [tensor.to(memory_format=torch.channels_last) for tensor in (vertical, horizontal)]
    exact = sepconv_reference_backward(*(tensor.double() for tensor in (grad_out, *inputs)))
    batch, channels, height, width = BACKWARD_SIZE
    backward = torch.ops.sepconv.sepconv_backward
    print_table(
        f"gradients of both kernels, {shape(BACKWARD_SIZE)}, float32, {TAPS} taps",
        runs,
        batch * height * width * TAPS**2 * (channels + 2) / rate,
        {
            "plain loop": lambda: loop_backward(grad_out, *inputs),
            "sepconv": lambda: backward(grad_out, *inputs, [False, True, True])[1:],
            "sepconv, channels_last kernels": lambda: backward(grad_out, frame, *channels_last, [False, True, True])[
                1:
            ],
        },
        exact[1:],
    )
    print_table(
        f"gradient of the frame, {shape(BACKWARD_SIZE)}, float32, {TAPS} taps",
        runs,
        batch * height * width * TAPS**2 * channels / rate,
        {
            "plain loop": lambda: [loop_backward_frame(grad_out, *inputs)],
            "sepconv": lambda: backward(grad_out, *inputs, [True, False, False])[:1],
        },
        exact[:1],
    )


def random_arguments(size):
    """frame, vertical, horizontal and grad_out for an output of this size; kernels as large as the network's are."""
    batch, _, height, width = size
    frame = torch.rand(*size[:2], height + TAPS - 1, width + TAPS - 1)
    vertical, horizontal = (torch.randn(batch, TAPS, height, width) / TAPS**0.5 for _ in range(2))
    return frame, vertical, horizontal, torch.randn(size)


def loop_forward(frame, vertical, horizontal):
    """The yardstick: 51 x 51 multiply-adds over the whole frame."""
    height, width = vertical.shape[2:]
    out = torch.zeros(*frame.shape[:2], height, width)
    for i in range(TAPS):
        for j in range(TAPS):
            weight = (vertical[:, i] * horizontal[:, j])[:, None]
            out.addcmul_(frame[:, :, i : i + height, j : j + width], weight)
    return out


def loop_backward(grad_out, frame, vertical, horizontal):
    """The yardstick: for each tap the sum over the channels, then two multiply-adds."""
    height, width = vertical.shape[2:]
    grad_vertical, grad_horizontal = torch.zeros_like(vertical), torch.zeros_like(horizontal)
    for i in range(TAPS):
        for j in range(TAPS):
            product = (grad_out * frame[:, :, i : i + height, j : j + width]).sum(1)
            grad_vertical[:, i].addcmul_(product, horizontal[:, j])
            grad_horizontal[:, j].addcmul_(product, vertical[:, i])
    return grad_vertical, grad_horizontal


def loop_backward_frame(grad_out, frame, vertical, horizontal):
    """The yardstick: for each tap one multiply-add into the shifted gradient."""
    height, width = vertical.shape[2:]
    grad_frame = torch.zeros_like(frame)
    for i in range(TAPS):
        for j in range(TAPS):
            weight = (vertical[:, i] * horizontal[:, j])[:, None]
            grad_frame[:, :, i : i + height, j : j + width].addcmul_(grad_out, weight)
    return grad_frame


def multiply_add_rate(side=2048):
    """Multiply-adds per second in a float32 matrix product, the best of a few."""
    a, b = torch.rand(side, side), torch.rand(side, side)
    return side**3 / min(seconds(lambda: a @ b) for _ in range(10))


def print_table(title, runs, floor, programs, exact):
    """Times programs (name -> function that returns results) in turn, and compares the results with exact ones."""
    times = {name: [] for name in programs}
    errors = {name: error(program(), exact) for name, program in programs.items()}  # warms up, too
    for _ in range(runs):
        for name, program in programs.items():
            times[name].append(seconds(program))
    medians = {name: statistics.median(values) for name, values in times.items()}
    baseline = next(iter(medians.values()))
    print(f"\n{title}")
    print(f"{'':32} {'median':>9} {'x faster':>9} {'of floor':>9} {'error':>9}")
    for name, median in medians.items():
        print(f"{name:32} {1e3 * median:6.1f} ms {baseline / median:9.1f} {floor / median:9.0%} {errors[name]:9.0e}")


def error(results, exact):
    """The largest deviation from float64, relative to the largest value."""
    pairs = zip(results, exact, strict=True)
    return max(((result - value).abs().max() / value.abs().max()).item() for result, value in pairs)


def shape(size):
    return "x".join(map(str, size))


def seconds(program):
    start = time.perf_counter()
    program()
    return time.perf_counter() - start


# --- The network -----------------------------------------------------------------------------------------------


def random_pair(width, height):
    """Two pictures of noise: speed and memory do not depend on what is on them."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (2, height, width, 3), dtype=np.uint8)


def print_breakdown(options):
    interpolator = Interpolator(options.model, device="cpu", precision=options.precision)
    pair = random_pair(640, 480)
    interpolator(*pair)
    shares = {name: [] for name in BREAKDOWN}
    for _ in range(options.runs):
        with profile(use_kineto=False) as events:
            interpolator(*pair)
        spent = dict.fromkeys(BREAKDOWN, 0.0)
        for event in events.key_averages():
            part = next(part for part, pattern in BREAKDOWN.items() if re.search(pattern, event.key))
            spent[part] += event.self_cpu_time_total / 1e6
        for part, value in spent.items():
            shares[part].append(value)
    medians = {part: statistics.median(values) for part, values in shares.items()}
    total = sum(medians.values())
    print(f"\none 640x480 pair, convolutions in {interpolator.precision}")
    for part, median in medians.items():
        print(f"{part:36} {median:6.3f} s {median / total:6.1%}")
    print(f"{'together':36} {total:6.3f} s")


def print_memory(options):
    width, height = options.memory
    pair = random_pair(width, height)
    interpolator = Interpolator(options.model, device="cpu", precision=options.precision)
    before = peak_memory()
    spent = seconds(lambda: interpolator(*pair))
    print(
        f"one {width}x{height} pair, convolutions in {interpolator.precision}: {spent:.1f} s, first call; "
        f"peak memory {peak_memory():.2f} GiB, of which {before:.2f} GiB before the pair"
    )


def print_training(options):
    batch, crop = TRAINING
    if torch.cuda.is_available():
        with tempfile.TemporaryDirectory() as cache:
            speed_cuda.print_training(Footage([VIDEOS], cache), crop, options)
        return
    recipe = Recipe(precision=options.precision)
    trainer = Trainer(averaging_network(0), torch.device("cpu"), recipe, Processes())
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        batches = Batches(Footage([VIDEOS], cache), crop, synthetic=0.2)
        trainer.train(*batches(0, batch), 0.5)
        for step in range(1, options.runs + 1):
            start = time.perf_counter()
            samples = batches(step, batch)
            data = time.perf_counter() - start
            with profile(use_kineto=False) as events:
                trainer.train(*samples, 0.5)
            spent = {event.key: event.self_cpu_time_total for event in events.key_averages()}
            op = sum(value for key, value in spent.items() if "sepconv" in key) / sum(spent.values())
            rows.append((time.perf_counter() - start, data, op))
        del batches  # it has the cache open, which Windows does not remove then
    total, data, op = (statistics.median(column) for column in zip(*rows, strict=True))
    op *= 1 - data / total
    print(f"\na step of {batch} crops of {crop}x{crop}, in {options.precision}: {batch / total:.1f} samples/s")
    for name, share in (("data", data / total), ("the op", op), ("network and optimizer", 1 - op - data / total)):
        print(f"{name:36} {share:6.1%}")


def peak_memory():
    """The largest resident size of this process so far, in GiB."""
    import resource  # here: Windows has no such module, and this is all that needs it

    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    sys.exit(main())
