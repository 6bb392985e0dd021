"""The effect for moviepy, on a generated clip."""

import numpy as np
import pytest
from moviepy import VideoClip

from vfi.moviepy_effect import SepConv


def clip():
    """A clip of ten frames per second, each brighter than the one before by ten levels."""
    frames = VideoClip(lambda time: np.full((48, 64, 3), 40 + 10 * int(time * 10 + 1e-6), np.uint8), duration=0.6)
    return frames.with_fps(10)


def mean(one, two):
    return ((one.astype(int) + two) // 2).astype(np.uint8)


@pytest.mark.parametrize("factor", [2, 4])
def test_more_frames_in_the_same_time(factor):
    smooth = clip().with_effects([SepConv(factor=factor, interpolator=mean)])
    assert (smooth.fps, smooth.duration) == (10 * factor, 0.6)
    levels = [int(frame[0, 0, 0]) for frame in smooth.iter_frames()]
    assert levels == [int(40 + 10 * min(number / factor, 5)) for number in range(6 * factor)]


def test_with_the_network():
    smooth = clip().with_effects([SepConv(model="l1", device="cpu")])
    assert int(smooth.get_frame(0.05).mean()) == pytest.approx(45, abs=2)


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="factor is 3, expected 2, 4, 8 or 16"):
        SepConv(factor=3)
    with pytest.raises(ValueError, match="has no frames per second"):
        VideoClip(lambda time: np.zeros((4, 4, 3), np.uint8), duration=1).with_effects([SepConv(interpolator=mean)])
