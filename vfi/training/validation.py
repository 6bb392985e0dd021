"""Measures weights on the frames of videos that they were not trained on."""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from vfi.errors import ClipError, DataError, counted
from vfi.interpolator import Interpolator
from vfi.metrics import psnr
from vfi.training.clips import Frame, find_clips, read_scenes
from vfi.training.flow import Flow
from vfi.training.losses import FeatureDistance
from vfi.training.reach import centre, measure_reach, reach_line, smallest_side

EVERY = 15  # frames from one triplet to the next
MOTION = {"slow, below 4 pixels": (0, 4), "4 to 10 pixels": (4, 10), "fast, above 10 pixels": (10, math.inf)}
MOVED_CLIPS = 4  # of which a frame is moved as a whole
VALIDATION_SHIFTS = (8, 12, 16, 22)


def validate(
    weights: str, folders: Sequence[Path], model: str, device: str, precision: str, features: str | None = None
) -> None:
    """Prints the mean PSNR of each clip and of all clips; with `features`, the distance of features, too.

    Then the PSNR of all slow, faster and fast pixels (half of the optical flow from `one` to `two`), and that of frames
    that are shifted as a whole (see reach.py).

    Triplets (t, t + 1, t + 2) for every 15th t of a clip, if all three frames lie within a scene; frames with a short
    side of at most 360; whole frames, rounded to 8 bits. A triplet with a repeated frame is left out, because its
    middle frame does not lie in the middle.

    Raises:
        DataError: no clip could be used.
    """
    clips = find_clips(folders)
    interpolator = Interpolator(model, weights, device, precision=precision)
    distance = FeatureDistance(features).to(interpolator.device) if features else None
    by_motion = _motion_classes()
    moved: dict[Path, Frame] = {}

    def measure(one: Frame, truth: Frame, two: Frame) -> list[float]:
        out = interpolator(one, two)
        if by_motion:
            by_motion.add(out, one, truth, two)
        values = [psnr(out, truth)]
        if distance:
            pair = (torch.from_numpy(frame).to(interpolator.device) for frame in (out, truth))
            bgr = (frame.permute(2, 0, 1)[None].flip(1) / 255 for frame in pair)
            values.append(distance(*bgr).item())
        return values

    means = []
    for clip in clips:
        try:
            measured = []
            for one, truth, two in triplets(clip):
                moved.setdefault(clip, truth)
                measured.append(measure(one, truth, two))
        except ClipError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        if not measured:
            print(f"skipped: {clip} has no triplet of three different frames", file=sys.stderr)
            continue
        means.append(np.mean(measured, axis=0))
        _print_row(clip.name, f"{counted(len(measured), 'triplet'):>13}", means[-1])
    if not means:
        raise DataError("none of these clips could be used")
    _print_row(f"mean of {counted(len(means), 'clip')}", " " * 13, np.mean(means, axis=0))
    for name, share, decibels in by_motion.results() if by_motion else ():
        _print_row(name, f"{share:6.1%} of all", [decibels])
    pictures = [centre(frame).to(interpolator.device) for frame in list(moved.values())[:MOVED_CLIPS]]
    if all(min(picture.shape[1:]) > smallest_side(VALIDATION_SHIFTS[-1]) for picture in pictures):
        rows = measure_reach(interpolator.middle, pictures, VALIDATION_SHIFTS)
        print(f"frames shifted as a whole: {reach_line(rows, VALIDATION_SHIFTS)} pixels")


def _motion_classes() -> "MotionClasses | None":
    try:
        return MotionClasses()
    except DataError as error:
        print(f"note: {error}", file=sys.stderr)
        return None


class MotionClasses:
    """Collects squared errors by how far pixels move."""

    def __init__(self) -> None:
        self._flow = Flow()
        self._sums = {name: np.zeros(2) for name in MOTION}  # squared error, and number of pixels

    def add(self, out: Frame, one: Frame, truth: Frame, two: Frame) -> None:
        """Counts the pixels of a result."""
        motion = self._flow(one, two) / 2
        error = np.square(out.astype(np.float32) - truth).mean(axis=2)
        for name, (least, most) in MOTION.items():
            chosen = (motion >= least) & (motion < most)
            self._sums[name] += error[chosen].sum(dtype=np.float64), chosen.sum()

    def results(self) -> Iterator[tuple[str, float, float]]:
        """For each class with pixels: its name, its share of all pixels, and its PSNR in dB."""
        total = sum(pixels for _, pixels in self._sums.values())
        for name, (error, pixels) in self._sums.items():
            if pixels:
                yield name, pixels / total, 10 * math.log10(255**2 * pixels / error) if error else math.inf


def _print_row(name: str, count: str, values: Sequence[float]) -> None:
    decibels, *features = values
    print(f"{name:40} {count} {decibels:8.3f} dB{''.join(f'{value:10.5f}' for value in features)}", flush=True)


def triplets(clip: Path) -> Iterator[tuple[Frame, Frame, Frame]]:
    """Yields one, truth and two of each triplet of a clip; see `validate`."""
    for first, _, frames in read_scenes(clip):
        for t in range(-first % EVERY, len(frames) - 2, EVERY):
            one, truth, two = frames[t : t + 3]
            if not (np.array_equal(one, truth) or np.array_equal(truth, two)):
                yield one, truth, two
