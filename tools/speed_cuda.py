"""What speed.py measures on an NVIDIA GPU: the op against naive kernels and against what the card can do, the network.

Times are medians by CUDA events. The floor of the op is what takes longer: its multiply-adds, at the rate of a float32
matrix product, or reading the kernels, at the rate of a copy; both rates are measured in the same run.
"""

import itertools
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from sepconv import cuda_problem, sepconv
from vfi.errors import DataError
from vfi.interpolator import Interpolator
from vfi.kernels import cuda as sepconv_cuda
from vfi.network import TAPS
from vfi.training.batches import Batches
from vfi.training.distributed import Processes
from vfi.training.recipe import Recipe
from vfi.training.trainer import Trainer, averaging_network

YARDSTICK = Path(__file__).with_name("naive.cu")
SIZES = ((640, 480), (1280, 720), (1920, 1080))
BACKWARD_SIZE = (16, 3, 128, 128)
ARCHITECTURES = (75, 80, 90, 100)
SLEEP = 20_000_000  # cycles: about ten milliseconds
TRAINING_BATCHES = (32, 80)
TRAINING_STEPS = 10  # between two looks at the clock


def check():
    """Raises DataError where there is nothing to measure."""
    if not torch.cuda.is_available():
        raise DataError("device 'cuda' is not available: PyTorch sees no NVIDIA GPU here")
    if cuda_problem():
        raise DataError(cuda_problem())


def machine():
    """The card and the PyTorch that were measured."""
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, PyTorch {torch.__version__}"


def milliseconds(program, runs):
    """The median time of a call on the GPU, after two that are not counted.

    The GPU first sleeps while the CPU launches all that is to be timed: what counts is the GPU's time alone.
    """
    times = []
    for run in range(runs + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(SLEEP)
        start.record()
        program()
        end.record()
        end.synchronize()
        if run >= 2:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def eager(program, runs):
    """The time of a call, launches included: the mean of some that follow one another."""
    program()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(runs):
        program()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start) / runs


def rates(runs):
    """Float32 multiply-adds and bytes read or written, each for a millisecond."""
    side = 8192
    a, b = torch.rand(2, side, side, device="cuda").unbind()
    precision = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        adds = side**3 / milliseconds(lambda: a @ b, runs)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = precision
    return adds, 2 * a.nbytes / milliseconds(lambda: b.copy_(a), runs)


def arguments(size, dtype, channels_last=True):
    """frame, vertical, horizontal and grad_out; kernels as the network makes them."""
    batch, channels, height, width = size
    generator = torch.Generator("cuda").manual_seed(0)
    options = {"generator": generator, "device": "cuda"}
    frame = torch.rand(batch, channels, height + TAPS - 1, width + TAPS - 1, **options).to(dtype)
    kernels = [(torch.randn(batch, TAPS, height, width, **options) / TAPS**0.5).to(dtype) for _ in range(2)]
    if channels_last:
        kernels = [tensor.to(memory_format=torch.channels_last) for tensor in kernels]
    return frame, *kernels, torch.randn(size, **options).to(dtype)


def naive(frame, vertical, horizontal, compensated):
    """The op by the kernel of speed.cu."""
    out = frame.new_empty(*frame.shape[:2], *vertical.shape[2:])
    (launch,) = sepconv_cuda.plan_forward(out, frame, vertical, horizontal, (0, 0))
    kernel = f"naive<{sepconv_cuda.TYPES[frame.dtype]}, {str(compensated).lower()}>"
    launches = [sepconv_cuda.plan_any(kernel, out.numel(), launch.arguments)]
    sepconv_cuda.run(launches, frame.device, (sepconv_cuda.SOURCE, YARDSTICK))
    return out


def print_op(runs):
    adds, bandwidth = rates(runs)
    print(f"float32 multiply-adds {adds / 1e9:.1f} T/s in a matrix product, copy {bandwidth / 1e9:.2f} TB/s")
    print(f"\n{'':52} {'median':>10} {'x naive':>8} {'x comp.':>8} {'of floor':>9} {'of copy':>8} {'error':>8}")
    for width, height in SIZES:
        size = (1, 3, height, width)
        floor = np.prod(size) * TAPS**2 / adds
        for dtype in (torch.float32, torch.float16):
            planar = arguments(size, dtype, channels_last=False)[:3]
            exact = sepconv(*(tensor.double() for tensor in planar))
            plain, compensated = (
                milliseconds(lambda c=c, inputs=planar: naive(*inputs, c), runs) for c in (False, True)
            )
            name = f"forward, {width}x{height}, {str(dtype)[6:]}"
            print(f"{name + ', naive':52} {plain:7.3f} ms {1:8.1f} {compensated / plain:8.1f}")
            for layout in ("contiguous", "channels_last"):
                inputs = planar if layout == "contiguous" else arguments(size, dtype)[:3]
                spent = milliseconds(lambda inputs=inputs: sepconv(*inputs), runs)
                read = 2 * inputs[1].nbytes / bandwidth
                error = (sepconv(*inputs) - exact).abs().max() / exact.abs().max()
                print(
                    f"{name + ', ' + layout + ' kernels':52} {spent:7.3f} ms {plain / spent:8.1f} "
                    f"{compensated / spent:8.1f} {max(floor, read) / spent:9.0%} {read / spent:8.0%} {error:8.0e}"
                )

    frame, vertical, horizontal, grad_out = arguments(BACKWARD_SIZE, torch.float32, channels_last=False)
    batch, channels, height, width = BACKWARD_SIZE
    pixels = batch * height * width * TAPS**2
    for name, mask, cost in (
        ("gradients of both kernels", [False, True, True], channels + 2),
        ("gradient of the frame", [True, False, False], channels + 1),
    ):
        inputs = (grad_out, frame, vertical, horizontal, mask)
        spent = milliseconds(lambda inputs=inputs: torch.ops.sepconv.sepconv_backward(*inputs), runs)
        title = f"{name}, {'x'.join(map(str, BACKWARD_SIZE))}, float32"
        print(f"{title:52} {spent:7.3f} ms {'':8} {'':8} {pixels * cost / adds / spent:9.0%}")


def print_network(options):
    """Pairs per second of the network alone, frames on the card, with and without a CUDA graph; the op's share."""
    for width, height in SIZES:
        interpolator = Interpolator(options.model, device="cuda", precision=options.precision)
        one, two = torch.rand(2, 1, 3, height, width, device="cuda").unbind()

        def between(one=one, two=two, network=interpolator.network):
            with torch.inference_mode():
                return network(one, two, band_pixels=None)

        between()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            between()
        spent = milliseconds(graph.replay, options.runs)
        dtype = torch.float32 if interpolator.precision == "float32" else torch.float16
        inputs = arguments((1, 3, height, width), dtype)[:3]
        op = 2 * milliseconds(lambda inputs=inputs: sepconv(*inputs), options.runs)
        launched = eager(between, options.runs)
        print(
            f"{width}x{height}, convolutions in {interpolator.precision}: {1e3 / launched:.1f} pairs/s, "
            f"as a CUDA graph {1e3 / spent:.1f}, the op {op / spent:.1%} of it"
        )


def print_training(footage, crop, options):
    """Samples per second of training, data included, for some sizes of a step, as it is and compiled."""
    device, before = torch.device("cuda"), torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # as in training
    batches = Batches(footage, crop, synthetic=0.2, device=device)
    try:
        for compiled, batch in itertools.product((False, True), TRAINING_BATCHES):
            network = averaging_network(0)
            recipe = Recipe(batch=batch, crop=crop, precision=options.precision)
            trainer = Trainer(network, device, recipe, Processes(), compiled)

            def train(trainer=trainer, batch=batch):
                for step in range(TRAINING_STEPS):
                    trainer.train(*batches(step, batch), 0.5)

            rate = 1e3 * TRAINING_STEPS * batch / eager(train, options.runs)
            name = f"{batch} crops of {crop}x{crop} in a step, {options.precision}{', compiled' if compiled else ''}"
            print(f"{name:60} {rate:6.0f} samples/s")
    finally:
        torch.backends.cudnn.benchmark = before


def print_resources():
    """Registers, spills and shared memory of every kernel on every generation of cards; needs no GPU."""
    print(f"{'kernel':38} {'sm':>4} {'registers':>9} {'spilled':>8} {'shared':>8}")
    for architecture in ARCHITECTURES:
        names = sepconv_cuda.kernel_names(architecture)
        for name, (registers, spilled, shared) in sepconv_cuda.resources(names, architecture).items():
            if "tensor" in name:
                shared = sepconv_cuda.tensor_memory(int(name[-2]))
            print(f"{name:38} {architecture:4} {registers:9} {spilled:6} B {shared:6} B")
