"""What all measurements of speed share: the clock, the machine's name, and random pictures and kernels."""

import platform
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vfi.network import TAPS

Program = Callable[[], object]


def seconds(program: Program) -> float:
    """The time that one call takes."""
    start = time.perf_counter()
    program()
    return time.perf_counter() - start


def machine() -> str:
    """The processor, its threads and the PyTorch that are measured."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    return f"{name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def times_sign(size: Sequence[int]) -> str:
    """A size as it is printed: 1x3x480x640."""
    return "x".join(map(str, size))


def random_arguments(
    size: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """frame, vertical, horizontal and grad_out for an output of this size; kernels as large as the network's are."""
    batch, channels, height, width = size
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    frame = torch.rand(batch, channels, height + TAPS - 1, width + TAPS - 1, generator=generator, device=device)
    vertical, horizontal = (normal(batch, TAPS, height, width) / TAPS**0.5 for _ in range(2))
    grad_out = normal(*size)
    return frame.to(dtype), vertical.to(dtype), horizontal.to(dtype), grad_out.to(dtype)


def in_channels_last(*tensors: Tensor) -> list[Tensor]:
    """The same tensors in the memory format in which the network leaves its kernels."""
    return [tensor.to(memory_format=torch.channels_last) for tensor in tensors]


def largest_error(results: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest deviation from float64 results, relative to the largest value."""
    pairs = zip(results, exact, strict=True)
    return max(((result - value).abs().max() / value.abs().max()).item() for result, value in pairs)
