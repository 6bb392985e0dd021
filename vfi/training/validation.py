"""Measures weights on the frames of videos that they were not trained on."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from vfi.errors import ClipError, DataError, counted
from vfi.interpolator import Interpolator
from vfi.metrics import psnr
from vfi.training.clips import Frame, find_clips, read_scenes
from vfi.training.losses import FeatureDistance

EVERY = 15  # frames from one triplet to the next


def validate(
    weights: str, folders: Sequence[Path], model: str, device: str, precision: str, features: str | None = None
) -> None:
    """Prints the mean PSNR of each clip and of all clips; with `features`, the distance of features, too.

    Triplets (t, t + 1, t + 2) for every 15th t of a clip, if all three frames lie within a scene; frames with a short
    side of at most 360; whole frames, rounded to 8 bits. A triplet with a repeated frame is left out, because its
    middle frame does not lie in the middle.

    Raises:
        DataError: no clip could be used.
    """
    clips = find_clips(folders)
    interpolator = Interpolator(model, weights, device, precision=precision)
    distance = FeatureDistance(features).to(interpolator.device) if features else None

    def measure(one: Frame, truth: Frame, two: Frame) -> list[float]:
        out = interpolator(one, two)
        values = [psnr(out, truth)]
        if distance:
            pair = (torch.from_numpy(frame).to(interpolator.device) for frame in (out, truth))
            bgr = (frame.permute(2, 0, 1)[None].flip(1) / 255 for frame in pair)
            values.append(distance(*bgr).item())
        return values

    means = []
    for clip in clips:
        try:
            measured = [measure(*triplet) for triplet in triplets(clip)]
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
