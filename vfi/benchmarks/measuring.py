"""Measures methods on triplets."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vfi.benchmarks.methods import Method, to_8_bits
from vfi.benchmarks.report import Page
from vfi.benchmarks.results import Results
from vfi.benchmarks.triplets import Benchmark, Triplet
from vfi.errors import BenchmarkError, MetricError, PictureError
from vfi.metrics import METRICS, load_lpips, psnr


def find_triplets(benchmark: Benchmark, folder: Path, subsets: Sequence[str] | None = None) -> list[Triplet]:
    """The triplets of a benchmark in a folder, those that lack a frame included.

    Args:
        subsets: only these; None for all.

    Raises:
        BenchmarkError: the folder does not exist, or holds no whole triplet; the message says what is expected.
    """
    expected = f"expected {benchmark.layout}"
    if not os.path.isdir(folder):
        raise BenchmarkError(f"there is no folder {folder}; {expected}")
    try:
        triplets = benchmark.find(folder)
    except BenchmarkError as error:
        raise BenchmarkError(f"{error}; {expected}") from error
    triplets = [triplet for triplet in triplets if not subsets or triplet.subset in subsets]
    if all(triplet.is_incomplete for triplet in triplets):
        raise BenchmarkError(f"there is no whole triplet in {folder}; {expected}")
    seen = set()
    for triplet in triplets:
        if triplet.key in seen:
            raise BenchmarkError(f"{folder}: its list names {triplet.scene} twice")
        seen.add(triplet.key)
    return triplets


def unavailable_metrics(lpips: bool) -> dict[str, str]:
    """The metrics that were asked for and cannot be computed here: {name: reason}."""
    if lpips:
        try:
            load_lpips()
        except MetricError as error:
            return {"lpips": str(error)}
    return {}


def measure_all(
    triplets: Sequence[Triplet],
    methods: Sequence[Method],
    results: Results,
    page: Page | None = None,
    truncate: bool = False,
    shows_progress: bool = False,
) -> None:
    """Measures every triplet that `results` does not have yet, and draws its pictures if there is a page.

    Args:
        truncate: drop fractions instead of rounding.
    """
    settings = results.settings
    names = [name for name in settings.metrics if name not in settings.unavailable]
    remaining = [triplet for triplet in triplets if triplet.key not in results.scenes or (page and page.lacks(triplet))]
    bar = tqdm(
        remaining,
        initial=len(triplets) - len(remaining),
        total=len(triplets),
        unit="scene",
        leave=False,
        disable=not shows_progress,
    )
    for triplet in bar:
        bar.set_postfix_str(triplet.scene)
        try:
            one, two, truth = triplet.read()
            pictures = [to_8_bits(method.interpolate(one, two), truncate) for method in methods]
            values: list[dict[str, Any]] = [
                dict.fromkeys(settings.metrics) | {name: METRICS[name].function(picture, truth) for name in names}
                for picture in pictures
            ]
        except (BenchmarkError, PictureError) as error:
            results.leave_out(triplet, str(error))
            continue
        except MetricError as error:
            results.leave_out(triplet, f"{triplet.one} is too small: {error}")
            continue
        for method, picture, measured in zip(methods, pictures, values, strict=True):
            exact = _float32_counterpart(method, methods)
            if exact is not None:
                measured["from_float32"] = int(np.abs(picture.astype(int) - pictures[exact]).max())
                measured["psnr_from_float32"] = psnr(picture, pictures[exact])
        results.add(triplet, values)  # before the pictures, which may not fit on the disk
        if page:
            page.add(triplet, pictures, truth)


def _float32_counterpart(method: Method, methods: Sequence[Method]) -> int | None:
    """The index of the same method in float32; None for float32 itself, and if there is no such method."""

    def others(settings: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name not in ("precision", "weights_sha256")}

    if method.settings.get("precision") in (None, "float32"):
        return None
    for index, other in enumerate(methods):
        if others(other.settings) == others(method.settings) and other.settings["precision"] == "float32":
            return index
    return None
