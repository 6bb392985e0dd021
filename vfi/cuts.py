"""Finds where the scene changes, and which frames repeat the one before.

Both look at luma only. A cut lies where frames across it differ more than frames on either side of it: fast motion is
fast on both sides, and after a flash the picture is as it was before. Repeated frames are skipped.
"""

import contextlib
import itertools
import weakref
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

LONGEST_RUN = 3  # frames of one picture (the first and its copies) that are skipped
CONTEXT = LONGEST_RUN  # frames on either side that tell a cut from motion: at least one of them is not a copy
THRESHOLD = 1.5  # score of a cut; `python -m tools.measure_cuts` measures what this value finds, and what it mistakes
THUMBNAIL = (18, 32)  # rows, columns: so few that motion within a scene changes them little
NOISE = 3  # levels of 255: thumbnails of one scene differ by as much
UNKNOWN_MOTION = 12  # levels of 255: assumed difference of neighbours where there are none to compare
COPY_THUMBNAIL = 0.5  # levels of 255: thumbnails of copies differ by at most as much
COPY = 2  # levels of 255: no block of a copy differs more from the original, in the mean, after compression
BLOCK = 16  # pixels

Thumbnail = NDArray[np.floating[Any]]


class Frame(Protocol):
    """What is known of a frame here: its luma (H, W), uint8 or uint16, of so many bits."""

    @property
    def luma(self) -> NDArray[Any]: ...

    @property
    def bits(self) -> int: ...


FrameType = TypeVar("FrameType", bound=Frame)


def thumbnail(luma: NDArray[Any], bits: int = 8) -> Thumbnail:
    """Reduces luma (H, W) of so many bits to at most 18 x 32 means of blocks, in levels of 255."""
    levels = luma / np.float32(_level(bits))
    for axis, parts in enumerate(THUMBNAIL):
        size = luma.shape[axis]
        starts = np.arange(min(parts, size)) * size // min(parts, size)
        sums = np.add.reduceat(levels, starts, axis)
        counts = np.diff(np.append(starts, size)).astype(np.float32)
        levels = sums / (counts[:, None] if axis == 0 else counts)
    return levels


def _level(bits: int) -> float:
    """One level of 255, in units of samples of so many bits."""
    return (2**bits - 1) / 255


def cut_score(around: Sequence[Thumbnail | None]) -> float:
    """Scores how much more the frames across the middle differ than those on either side, copies aside.

    Args:
        around: an even number of successive thumbnails; None stands for a frame before the first or after the last.

    Returns:
        More than `THRESHOLD` if the scene changes in the middle.
    """
    half = len(around) // 2
    lefts = _distinct(around[half - 1 :: -1])
    rights = _distinct(around[half:])
    across = min(_difference(left, right) for left in lefts for right in rights)
    beside = [_difference(*pair) for pair in (lefts, rights) if len(pair) == 2]
    return across / (NOISE + max(beside, default=UNKNOWN_MOTION))


def cut_scores(thumbnails: Iterable[Thumbnail]) -> list[float]:
    """The `cut_score` between each frame and the next, for all frames of a video."""
    padded = [None] * CONTEXT + list(thumbnails) + [None] * CONTEXT
    width = 2 * CONTEXT + 2
    return [cut_score(padded[start : start + width]) for start in range(len(padded) - width + 1)]


def _distinct(thumbnails: Sequence[Thumbnail | None]) -> list[Thumbnail]:
    """The first, and the next that is not a near-duplicate of it, if there is one."""
    first, *others = thumbnails
    assert first is not None  # the frames on both sides of the middle exist
    different = (other for other in others if other is not None and _difference(first, other) > COPY_THUMBNAIL)
    return [first, *itertools.islice(different, 1)]


def _difference(one: Thumbnail, two: Thumbnail) -> float:
    return float(np.abs(one - two).mean())


def is_copy(one: Frame, two: Frame) -> bool:
    """Whether two frames have the same luma, apart from what compression changes."""
    difference = np.abs(one.luma.astype(np.float32) - two.luma) / np.float32(_level(one.bits))
    blocks = difference
    for axis in (0, 1):
        starts = np.arange(0, difference.shape[axis], BLOCK)
        blocks = np.add.reduceat(blocks, starts, axis)
    return bool(blocks.max() < COPY * BLOCK**2)


class CutFinder:
    """Finds the cuts in a stream of frames.

    Args:
        threshold: the `cut_score` above which there is a cut; None finds none.
    """

    def __init__(self, threshold: float | None = THRESHOLD) -> None:
        self._threshold = threshold
        self._thumbnails: weakref.WeakKeyDictionary[Frame, Thumbnail] = weakref.WeakKeyDictionary()

    def watch(self, frames: Generator[FrameType, None, None]) -> Generator[FrameType, None, None]:
        """Yields the frames, and measures each on the way: in the thread in which they are computed."""
        with contextlib.closing(frames):
            for frame in frames:
                if self._threshold is not None:
                    self._thumbnails[frame] = thumbnail(frame.luma, frame.bits)
                yield frame

    def is_cut(self, around: Sequence[Frame | None]) -> bool:
        """Whether the scene changes in the middle of an even number of frames; None stands for no frame."""
        if self._threshold is None:
            return False
        return cut_score([None if frame is None else self._thumbnails[frame] for frame in around]) > self._threshold
