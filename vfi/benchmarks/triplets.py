"""What all benchmarks share.

A triplet is two frames and the true frame halfway between them. Every set is a `Benchmark`, whose `find` lists the
triplets of a folder without opening a picture.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfi import pictures
from vfi.errors import BenchmarkError, reason
from vfi.files import natural
from vfi.metrics import SMALLEST

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Triplet:
    """Where two frames and the truth halfway between them lie.

    Attributes:
        scene: unique within its subset.
        subset: one of `Benchmark.subsets`, or empty.
        fit: how the protocol cuts or reduces the pixels of each file, or None.
        sums: the SHA-256 that the RGB bytes of one, two and truth must have; or empty.
        problem: why it cannot be read, if that is known before its files are opened; or empty.
    """

    scene: str
    one: Path
    two: Path
    truth: Path
    subset: str = ""
    fit: Callable[[Frame], Frame] | None = None
    sums: tuple[str, ...] = ()
    problem: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """(subset, scene): unique in the benchmark."""
        return self.subset, self.scene

    @property
    def files(self) -> tuple[Path, Path, Path]:
        return self.one, self.two, self.truth

    @property
    def is_incomplete(self) -> bool:
        """Whether a file is missing, or is known to be wrong."""
        return bool(self.problem) or not all(os.path.exists(path) for path in self.files)

    def read(self) -> list[Frame]:
        """Reads one, two and truth: uint8 (H, W, 3), RGB, all of the same size.

        Raises:
            PictureError, BenchmarkError: a file is missing, damaged, or not the benchmark's; the message names it.
        """
        if self.problem:
            raise BenchmarkError(self.problem)
        frames = [read_rgb(path) for path in self.files]
        for path, frame, expected in zip(self.files, frames, self.sums or [None] * 3, strict=True):
            if expected and rgb_sum(frame) != expected:
                raise BenchmarkError(
                    f"{path} is not the benchmark's frame: its pixels differ (for frames of your own: --triplets)"
                )
        if self.fit:
            frames = [self._fitted(path, frame) for path, frame in zip(self.files, frames, strict=True)]
        sizes = [f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames]
        if len(set(sizes)) > 1:
            raise BenchmarkError(
                "the frames differ in size: "
                + ", ".join(f"{path} is {size}" for path, size in zip(self.files, sizes, strict=True))
            )
        if min(frames[0].shape[:2]) < SMALLEST:
            raise BenchmarkError(f"{self.one} is {sizes[0]}: SSIM needs {SMALLEST} pixels or more to each side")
        return frames

    def _fitted(self, path: Path, frame: Frame) -> Frame:
        assert self.fit
        try:
            return self.fit(frame)
        except ValueError as error:
            raise BenchmarkError(f"{path} {error}") from error


def read_rgb(path: Path) -> Frame:
    """Reads the pixels of a file: uint8 (H, W, 3). A grey picture becomes RGB: PNG optimizers store grey colours so."""
    pixels = pictures.read(path).pixels
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        raise BenchmarkError(f"{path} has transparency, or 16 bits for each colour: save it as 8-bit RGB")
    return pixels


def rgb_sum(pixels: Frame) -> str:
    """SHA-256 of uint8 (H, W, 3): the same for the same pixels, however their file is compressed."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


@dataclass(frozen=True)
class Published:
    """Figures that others report: values by the name of the metric, as printed in `source`."""

    label: str
    values: dict[str, str]
    source: str
    subset: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A set of triplets and its protocol.

    Attributes:
        title: its name in papers.
        layout: describes the content of its folder for users.
        find: lists the triplets of a folder, in order; raises `BenchmarkError` if the folder is another one.
        published: figures of others.
        subsets: parts that are averaged separately, if there are any.
        count: triplets in each subset of the whole benchmark; None for triplets of one's own.
    """

    title: str
    layout: str
    find: Callable[[Path], list[Triplet]]
    published: tuple[Published, ...] = ()
    subsets: tuple[str, ...] = ()
    count: int | None = None


# This paper quotes most figures of the first network. SSIM is MATLAB's, except for Xiph, where it is scikit-image's.
QUOTED = (
    "Zhang et al., Extracting Motion and Appearance via Inter-Frame Attention for Efficient Video Frame Interpolation, "
    "CVPR 2023, table 1, which quotes earlier papers"
)


def read_list(path: Path) -> list[str]:
    """The lines of a list of the benchmark, without empty lines, which some copies have at the end."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not text" if isinstance(error, UnicodeDecodeError) else reason(error)
        raise BenchmarkError(f"{path} cannot be read: {why}") from error


def natural_order(path: Path) -> Any:
    """A sort key for files whose names hold numbers."""
    return natural(path.stem), path.suffix
