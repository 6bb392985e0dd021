"""Helpers of the tests of videos: the mean of two frames instead of the network, and videos with cuts."""

from fractions import Fraction
from pathlib import Path

import pytest
from helpers.films import moving

from vfi.errors import UsageError, UserError
from vfi.video import job as video
from vfi.video.options import VideoOptions

ROOT = Path(__file__).parent.parent.parent
NTSC = Fraction(24000, 1001)


def mean(one, two):
    return (one + two) / 2


def scenes_of(seeds, each):
    return [planes for seed in seeds for planes in moving(each, seed=seed)]


def refused(message, path="in.mp4", target="out.mp4", usage=False, **wishes):
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError, match=message) as caught:
        video.interpolate(path, target, mean, options=VideoOptions(**wishes), note=print)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UsageError) == usage
    assert sorted(Path().rglob("*")) == before
