"""The speed of the op on a CPU, against plain loops of PyTorch operations and against a matrix product.

The plain loops are the op as one would write it in PyTorch: K x K multiply-adds of shifted frames. The floor is the
time that the same number of multiply-adds takes in a matrix product of the same run.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sepconv import sepconv, sepconv_reference, sepconv_reference_backward
from tools.stopwatch import in_channels_last, largest_error, random_arguments, seconds, times_sign
from vfi.network import TAPS

FORWARD_SIZE = (1, 3, 480, 640)
BACKWARD_SIZE = (8, 3, 128, 128)


def print_op(runs: int) -> None:
    """Prints three tables: the op, the gradients of both kernels, and the gradient of the frame."""
    rate = multiply_add_rate()
    frame, vertical, horizontal, _ = random_arguments(FORWARD_SIZE)
    kernels = in_channels_last(vertical, horizontal)
    _print_table(
        f"forward, {times_sign(FORWARD_SIZE)}, float32, {TAPS} taps",
        runs,
        np.prod(FORWARD_SIZE) * TAPS**2 / rate,
        {
            "plain loop": lambda: [loop_forward(frame, vertical, horizontal)],
            "sepconv": lambda: [sepconv(frame, vertical, horizontal)],
            "sepconv, channels_last kernels": lambda: [sepconv(frame, *kernels)],
        },
        [sepconv_reference(frame.double(), vertical.double(), horizontal.double())],
    )
    _print_gradients(runs, rate)


def _print_gradients(runs: int, rate: float) -> None:
    frame, vertical, horizontal, grad_out = random_arguments(BACKWARD_SIZE)
    inputs = (frame, vertical, horizontal)
    kernels = in_channels_last(vertical, horizontal)
    exact = sepconv_reference_backward(grad_out.double(), *(tensor.double() for tensor in inputs))
    batch, channels, height, width = BACKWARD_SIZE
    products = batch * height * width * TAPS**2
    size = times_sign(BACKWARD_SIZE)
    backward = torch.ops.sepconv.sepconv_backward
    _print_table(
        f"gradients of both kernels, {size}, float32, {TAPS} taps",
        runs,
        products * (channels + 2) / rate,
        {
            "plain loop": lambda: loop_backward(grad_out, *inputs),
            "sepconv": lambda: backward(grad_out, *inputs, [False, True, True])[1:],
            "sepconv, channels_last kernels": lambda: backward(grad_out, frame, *kernels, [False, True, True])[1:],
        },
        exact[1:],
    )
    _print_table(
        f"gradient of the frame, {size}, float32, {TAPS} taps",
        runs,
        products * channels / rate,
        {
            "plain loop": lambda: [loop_backward_frame(grad_out, *inputs)],
            "sepconv": lambda: backward(grad_out, *inputs, [True, False, False])[:1],
        },
        exact[:1],
    )


def loop_forward(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """The op as a plain loop: K x K multiply-adds over the whole frame."""
    height, width = vertical.shape[2:]
    out = torch.zeros(*frame.shape[:2], height, width)
    for i in range(TAPS):
        for j in range(TAPS):
            weight = (vertical[:, i] * horizontal[:, j])[:, None]
            out.addcmul_(frame[:, :, i : i + height, j : j + width], weight)
    return out


def loop_backward(grad_out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor) -> list[Tensor]:
    """The gradients of both kernels: for each tap the sum over the channels, then two multiply-adds."""
    height, width = vertical.shape[2:]
    grad_vertical, grad_horizontal = torch.zeros_like(vertical), torch.zeros_like(horizontal)
    for i in range(TAPS):
        for j in range(TAPS):
            product = (grad_out * frame[:, :, i : i + height, j : j + width]).sum(1)
            grad_vertical[:, i].addcmul_(product, horizontal[:, j])
            grad_horizontal[:, j].addcmul_(product, vertical[:, i])
    return [grad_vertical, grad_horizontal]


def loop_backward_frame(grad_out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """The gradient of the frame: for each tap one multiply-add into the shifted gradient."""
    height, width = vertical.shape[2:]
    grad_frame = torch.zeros_like(frame)
    for i in range(TAPS):
        for j in range(TAPS):
            weight = (vertical[:, i] * horizontal[:, j])[:, None]
            grad_frame[:, :, i : i + height, j : j + width].addcmul_(grad_out, weight)
    return grad_frame


def multiply_add_rate(side: int = 2048) -> float:
    """Multiply-adds per second in a float32 matrix product: the best of ten."""
    a, b = torch.rand(2, side, side).unbind()
    return side**3 / min(seconds(lambda: a @ b) for _ in range(10))


def _print_table(
    title: str,
    runs: int,
    floor: float,
    programs: Mapping[str, Callable[[], Sequence[Tensor]]],
    exact: Sequence[Tensor],
) -> None:
    """Times the programs in turn, the baseline first, and compares their results with exact ones.

    Args:
        floor: seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in programs}
    errors = {name: largest_error(program(), exact) for name, program in programs.items()}  # warms up, too
    for _ in range(runs):
        for name, program in programs.items():
            times[name].append(seconds(program))
    medians = {name: statistics.median(values) for name, values in times.items()}
    baseline = next(iter(medians.values()))
    print(f"\n{title}")
    print(f"{'':32} {'median':>9} {'x faster':>9} {'of floor':>9} {'error':>9}")
    for name, median in medians.items():
        print(f"{name:32} {1e3 * median:6.1f} ms {baseline / median:9.1f} {floor / median:9.0%} {errors[name]:9.0e}")
