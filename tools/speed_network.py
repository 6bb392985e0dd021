"""Where the time and the memory of one pair of frames go, on a CPU."""

import re
import statistics
import sys

import numpy as np
from torch.profiler import ProfilerActivity, profile

from tools.stopwatch import Program, seconds
from vfi.interpolator import Interpolator

BREAKDOWN = {  # which of PyTorch's operators belong to what; the first pattern that is found counts
    "convolutions": r"convolution",
    "bilinear upsampling": r"upsample|lerp|aten::index",
    "activations, pooling, sums": r"relu|clamp_min|pool|aten::add",
    "the op": r"sepconv",
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


def print_breakdown(model: str, precision: str, runs: int) -> None:
    """Prints how long each part of the work on one 640x480 pair takes."""
    interpolator = Interpolator(model, device="cpu", precision=precision)
    pair = random_pair(640, 480)
    interpolator(*pair)
    times: dict[str, list[float]] = {part: [] for part in BREAKDOWN}
    for _ in range(runs):
        spent = dict.fromkeys(BREAKDOWN, 0.0)
        for name, value in operator_seconds(lambda: interpolator(*pair)).items():
            spent[next(part for part, pattern in BREAKDOWN.items() if re.search(pattern, name))] += value
        for part, value in spent.items():
            times[part].append(value)
    medians = {part: statistics.median(values) for part, values in times.items()}
    total = sum(medians.values())
    print(f"\none 640x480 pair, convolutions in {interpolator.precision}")
    for part, median in medians.items():
        print(f"{part:36} {median:6.3f} s {median / total:6.1%}")
    print(f"{'together':36} {total:6.3f} s")


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
