"""Triplets of one's own: a folder for each."""

import os
from collections.abc import Iterator
from pathlib import Path

from vfi import pictures
from vfi.benchmarks.triplets import Benchmark, Triplet, natural_order


def _find(folder: Path) -> list[Triplet]:
    """Every folder with pictures, at any depth, is a triplet: in the order of their names, first, truth, second."""
    triplets = []
    for inner in sorted(_all_folders(folder)):
        files = sorted((path for path in inner.iterdir() if pictures.is_picture_name(path)), key=natural_order)
        count = len(files)
        if not files:
            continue
        problem = "" if count == 3 else f"{inner}: expected three pictures (first, truth, second), found {count}"
        one, truth, two = files if not problem else [inner] * 3
        triplets.append(Triplet(inner.relative_to(folder).as_posix(), one, two, truth, problem=problem))
    return triplets


def _all_folders(folder: Path) -> Iterator[Path]:
    """A folder and the folders within it, also through links; each once, and no hidden ones."""
    seen = set()
    for path, names, _ in os.walk(folder, followlinks=True):
        names[:] = [name for name in names if name[0] != "."]
        real = os.path.realpath(path)
        if real in seen:  # for example a link to a folder above it
            names.clear()
            continue
        seen.add(real)
        yield Path(path)


OWN = Benchmark(
    title="own triplets",
    layout="a folder for each triplet, at any depth, with three pictures whose names sort as first, truth, second",
    find=_find,
)
