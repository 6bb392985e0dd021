"""Where the time and the memory of one pair of frames go, on a CPU."""

import re
import statistics
import sys

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from tools.stopwatch import Program, seconds
from vfi.cpu_network import Convolution
from vfi.interpolator import Interpolator
from vfi.network import Conv, Network

BREAKDOWN = {  # which of PyTorch's operators and our kernels belong to what; the first pattern that is found counts
    "convolutions": r"convolution",
    "their products before upsampling": r"aten::mm$",
    "bilinear upsampling": r"upsample",
    "kernels made and applied": r"sepconv",
    "pooling": r"pool",
    "padding, conversion, normalization": r"",
}


def operator_seconds(program: Program) -> dict[str, float]:
    """The time that each of PyTorch's operators takes by itself during one call, by its name."""
    with profile(activities=[ProfilerActivity.CPU]) as events:
        program()
    return {event.key: event.self_cpu_time_total / 1e6 for event in events.key_averages()}


def random_pair(width: int, height: int) -> np.ndarray:
    """Two pictures of noise, (2, H, W, 3) uint8: speed and memory do not depend on what they show."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (2, height, width, 3), dtype=np.uint8)


def print_breakdown(model: str, precision: str, size: tuple[int, int], runs: int) -> None:
    """Prints how long one pair takes, compared with its convolutions alone, and how long each part of the work."""
    width, height = size
    interpolator = Interpolator(model, device="cpu", precision=precision)
    pair = random_pair(width, height)
    floor = _Floor(width, height, getattr(torch, interpolator.precision))
    interpolator(*pair)
    pairs, floors = [], []
    times: dict[str, list[float]] = {part: [] for part in BREAKDOWN}
    for _ in range(runs):
        pairs.append(seconds(lambda: interpolator(*pair)))
        floors.append(floor.seconds())
        spent = dict.fromkeys(BREAKDOWN, 0.0)
        for name, value in operator_seconds(lambda: interpolator(*pair)).items():
            spent[next(part for part, pattern in BREAKDOWN.items() if re.search(pattern, name))] += value
        for part, value in spent.items():
            times[part].append(value)
    alone = statistics.median(floors)
    ratio = statistics.median(pair / floor for pair, floor in zip(pairs, floors, strict=True))
    print(f"\none {width}x{height} pair, convolutions in {interpolator.precision}")
    print(f"{'the pair':36} {statistics.median(pairs):6.3f} s")
    rate = floor.operations / alone / 1e12
    print(f"{'its convolutions alone':36} {alone:6.3f} s, {floor.operations / 1e9:.0f} GFLOP at {rate:.2f} TFLOP/s")
    print(f"{'the pair / its convolutions':36} {ratio:6.2f}\n")
    medians = {part: statistics.median(values) for part, values in times.items()}
    total = sum(medians.values())
    for part, median in medians.items():
        print(f"{part:36} {median:6.3f} s {median / total:6.1%}")
    print(f"{'together':36} {total:6.3f} s")


class _Floor:
    """All convolutions of the network as it is defined, each by itself: the least that it would take without ours.

    Attributes:
        operations: multiplications and additions of all of them.
    """

    def __init__(self, width: int, height: int, dtype: torch.dtype) -> None:
        self._counts: dict[tuple[int, ...], int] = {}
        self.operations = 0
        with torch.device("meta"):  # shapes only
            network = Network()
            for layer in network.modules():
                if isinstance(layer, Conv):
                    layer.register_forward_hook(self._count)
            network(*torch.empty(2, 1, 3, height, width).unbind())
        self._programs = [(_convolution(size, dtype), count) for size, count in self._counts.items()]

    def _count(self, layer: Conv, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        _, _, height, width = inputs[0].shape
        size = (layer.in_channels, layer.out_channels, height, width)
        self._counts[size] = self._counts.get(size, 0) + 1
        self.operations += 2 * layer.weight.numel() * height * width

    def seconds(self) -> float:
        """How long all take, one after the other. Those of equal size take equally long."""
        return sum(count * min(seconds(program) for _ in range(2)) for program, count in self._programs)


def _convolution(size: tuple[int, ...], dtype: torch.dtype) -> Program:
    channels_in, channels_out, height, width = size
    frames = torch.rand(1, channels_in, height, width).to(dtype, memory_format=torch.channels_last)
    with torch.inference_mode():
        convolution = Convolution(Conv(channels_in, channels_out).to(dtype))

    def program() -> None:
        with torch.inference_mode():
            convolution(frames)

    return program


def print_memory(model: str, precision: str, width: int, height: int) -> None:
    """Prints the seconds and the peak memory of the first pair of this process."""
    pair = random_pair(width, height)
    interpolator = Interpolator(model, device="cpu", precision=precision)
    before = peak_memory()
    spent = seconds(lambda: interpolator(*pair))
    print(
        f"one {width}x{height} pair, convolutions in {interpolator.precision}: {spent:.1f} s, first call; "
        f"peak memory {peak_memory():.2f} GiB, of which {before:.2f} GiB before the pair"
    )


def peak_memory() -> float:
    """The largest resident size of this process so far, in GiB."""
    import resource  # here: Windows has no such module, and only this function needs it

    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
