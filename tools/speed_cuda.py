"""The speed of the op and of the network on an NVIDIA GPU, against naive kernels and against what the card can do.

Times are medians by CUDA events. The floor of the op is what takes longer: its multiply-adds, at the rate of a float32
matrix product, or reading the kernels, at the rate of a copy; both rates are measured in the same run.
"""

import functools
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sepconv import cuda_problem, sepconv
from tools.stopwatch import Program, in_channels_last, largest_error, random_arguments, seconds, times_sign
from vfi.errors import DataError
from vfi.interpolator import Interpolator
from vfi.kernels import cuda as kernels
from vfi.network import TAPS

NAIVE = Path(__file__).with_name("naive.cu")
SIZES = ((640, 480), (1280, 720), (1920, 1080))
BACKWARD_SIZE = (16, 3, 128, 128)
ARCHITECTURES = (75, 80, 90, 100)
SLEEP = 20_000_000  # cycles: about ten milliseconds


def check() -> None:
    """Raises DataError where there is no GPU to measure."""
    if not torch.cuda.is_available():
        raise DataError("device 'cuda' is not available: PyTorch sees no NVIDIA GPU here")
    if cuda_problem():
        raise DataError(cuda_problem())


def machine() -> str:
    """The card and the PyTorch that are measured."""
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, PyTorch {torch.__version__}"


def milliseconds(program: Program, runs: int) -> float:
    """The median time of a call on the GPU, after two that are not counted.

    The GPU first sleeps while the CPU launches all that is to be timed, so that only the GPU's own time counts.
    """
    times = []
    for run in range(runs + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(SLEEP)  # private, but PyTorch's own tests use it, and there is no public way
        start.record()
        program()
        end.record()
        end.synchronize()
        if run >= 2:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def milliseconds_with_launches(program: Program, runs: int) -> float:
    """The time of a call, launches included: the mean of calls that follow one another, after one not counted."""

    def repeat() -> None:
        for _ in range(runs):
            program()
        torch.cuda.synchronize()

    program()
    torch.cuda.synchronize()
    return 1e3 * seconds(repeat) / runs


def rates(runs: int) -> tuple[float, float]:
    """Float32 multiply-adds in a matrix product, and bytes read or written by a copy, each per millisecond."""
    side = 8192
    a, b = torch.rand(2, side, side, device="cuda").unbind()
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        multiply_adds = side**3 / milliseconds(lambda: a @ b, runs)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return multiply_adds, 2 * a.nbytes / milliseconds(lambda: b.copy_(a), runs)


def naive(frame: Tensor, vertical: Tensor, horizontal: Tensor, compensated: bool) -> Tensor:
    """The op by the kernel of naive.cu."""
    out = frame.new_empty(*frame.shape[:2], *vertical.shape[2:])
    (launch,) = kernels.plan_forward(out, frame, vertical, horizontal, (0, 0))
    kernel = f"naive<{kernels.TYPES[frame.dtype]}, {str(compensated).lower()}>"
    launches = [kernels.plan_any(kernel, out.numel(), launch.arguments)]
    kernels.run(launches, frame.device, (kernels.SOURCE, NAIVE))
    return out


def print_op(runs: int) -> None:
    """Prints the op for each size, type and layout of the kernels, then the gradients."""
    multiply_adds, bandwidth = rates(runs)
    print(f"float32 multiply-adds {multiply_adds / 1e9:.1f} T/s in a matrix product, copy {bandwidth / 1e9:.2f} TB/s")
    print(f"\n{'':52} {'median':>10} {'x naive':>8} {'x comp.':>8} {'of floor':>9} {'of copy':>8} {'error':>8}")
    for width, height in SIZES:
        for dtype in (torch.float32, torch.float16):
            _print_forward((1, 3, height, width), dtype, runs, multiply_adds, bandwidth)

    frame, vertical, horizontal, grad_out = random_arguments(BACKWARD_SIZE, device="cuda")
    batch, channels, height, width = BACKWARD_SIZE
    products = batch * height * width * TAPS**2
    for name, mask, cost in (
        ("gradients of both kernels", [False, True, True], channels + 2),
        ("gradient of the frame", [True, False, False], channels + 1),
    ):
        inputs = (grad_out, frame, vertical, horizontal, mask)
        spent = milliseconds(functools.partial(torch.ops.sepconv.sepconv_backward, *inputs), runs)
        title = f"{name}, {times_sign(BACKWARD_SIZE)}, float32"
        print(f"{title:52} {spent:7.3f} ms {'':8} {'':8} {products * cost / multiply_adds / spent:9.0%}")


def _print_forward(
    size: tuple[int, int, int, int], dtype: torch.dtype, runs: int, multiply_adds: float, bandwidth: float
) -> None:
    frame, vertical, horizontal, _ = random_arguments(size, dtype, "cuda")
    exact = sepconv(frame.double(), vertical.double(), horizontal.double())
    plain, compensated = (
        milliseconds(functools.partial(naive, frame, vertical, horizontal, c), runs) for c in (False, True)
    )
    name = f"forward, {size[3]}x{size[2]}, {str(dtype).removeprefix('torch.')}"
    print(f"{name + ', naive':52} {plain:7.3f} ms {1:8.1f} {compensated / plain:8.1f}")
    computing = np.prod(size) * TAPS**2 / multiply_adds
    reading = 2 * vertical.nbytes / bandwidth
    for layout, both in (
        ("contiguous", [vertical, horizontal]),
        ("channels_last", in_channels_last(vertical, horizontal)),
    ):
        spent = milliseconds(functools.partial(sepconv, frame, *both), runs)
        error = largest_error([sepconv(frame, *both)], [exact])
        print(
            f"{name + ', ' + layout + ' kernels':52} {spent:7.3f} ms {plain / spent:8.1f} {compensated / spent:8.1f} "
            f"{max(computing, reading) / spent:9.0%} {reading / spent:8.0%} {error:8.0e}"
        )


def print_network(model: str, precision: str, runs: int) -> None:
    """Prints pairs per second, frames on the card, with and without a CUDA graph, and the op's share."""
    for width, height in SIZES:
        interpolator = Interpolator(model, device="cuda", precision=precision)
        one, two = torch.rand(2, 1, 3, height, width, device="cuda").unbind()

        def interpolate(
            one: Tensor = one, two: Tensor = two, network: Callable[..., Tensor] = interpolator.network
        ) -> None:
            with torch.inference_mode():
                network(one, two, band_pixels=None)

        interpolate()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            interpolate()
        spent = milliseconds(graph.replay, runs)
        dtype = torch.float32 if interpolator.precision == "float32" else torch.float16
        frame, *both = random_arguments((1, 3, height, width), dtype, "cuda")[:3]
        both = in_channels_last(*both)
        op = 2 * milliseconds(functools.partial(sepconv, frame, *both), runs)
        launched = milliseconds_with_launches(interpolate, runs)
        print(
            f"{width}x{height}, convolutions in {interpolator.precision}: {1e3 / launched:.1f} pairs/s, "
            f"as a CUDA graph {1e3 / spent:.1f}, the op {op / spent:.1%} of it"
        )


def print_resources() -> None:
    """Prints registers, spills and shared memory of every kernel on each generation of cards; needs no GPU."""
    print(f"{'kernel':38} {'sm':>4} {'registers':>9} {'spilled':>8} {'shared':>8}")
    for architecture in ARCHITECTURES:
        names = kernels.kernel_names(architecture)
        for name, (registers, spilled, shared) in kernels.resources(names, architecture).items():
            if "tensor" in name:
                shared = kernels.tensor_memory(int(name[-2]))
            print(f"{name:38} {architecture:4} {registers:9} {spilled:6} B {shared:6} B")
