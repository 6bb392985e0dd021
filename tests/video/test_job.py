"""How many frames a new video has, and when they are shown."""

from fractions import Fraction

import numpy as np
import pytest
from helpers.films import Film, grey, make, moving
from helpers.videos import NTSC, mean

from vfi.video import job as video


@pytest.mark.parametrize("rate", [NTSC, 25, Fraction(30000, 1001), Fraction(15, 2), 60])
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "ts"])
def test_twice_the_frames_at_exactly_twice_the_rate(suffix, rate, make_more):
    codec = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(suffix, "libx264")
    levels = [50, 60, 70, 80, 90]
    source = make(f"in.{suffix}", grey(levels), rate, codec)
    film, notes = make_more(source, f"out.{suffix}")
    assert notes == []
    assert film.count == 10
    if suffix in ("mp4", "mov", "avi"):
        assert film.rate == 2 * rate
    wanted = [film.times[0] + float(number / (2 * rate)) for number in range(10)]
    assert film.times == pytest.approx(wanted, abs=0.0011 if suffix in ("mkv", "webm") else 1e-4)
    expected = [50, 55, 60, 65, 70, 75, 80, 85, 90, 90]
    assert film.levels == pytest.approx(expected, abs=2)


def test_a_rate_rounded_by_matroska_is_restored(make_more):
    source = make("in.mkv", grey([50, 80, 120]), Fraction(60000, 1001))
    film, _ = make_more(source)
    assert film.rate == Fraction(120000, 1001)


def test_variable_rate_keeps_its_times(make_more):
    """Every new frame lies halfway between its neighbours."""
    times = [0, 100, 240, 250, 700, 1100]
    source = make("in.mp4", grey([50, 60, 70, 80, 90, 100]), times=times, time_base=Fraction(1, 1000))
    film, notes = make_more(source)
    assert notes == []
    halves = [0, 50, 100, 170, 240, 245, 250, 475, 700, 900, 1100, 1120]
    assert film.times == pytest.approx([half / 1000 for half in halves], abs=1e-6)
    assert film.levels == pytest.approx([50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100, 100], abs=1)


def test_b_frames_and_a_variable_rate(make_more):
    """Decoding times never decrease from one part to the next."""
    generator = np.random.default_rng(0)
    times = [0, *np.cumsum(generator.integers(1, 900, 29)).tolist()]
    source = make("in.mp4", moving(30), times=times, time_base=Fraction(1, 1000))
    for parts in (5, 7, 96):
        video.interpolate(source, "out.mp4", mean, note=print, part_frames=parts)
        film = Film("out.mp4")
        assert film.count == 60
        assert film.times[::2] == pytest.approx([time / 1000 for time in times], abs=1e-6)


@pytest.mark.parametrize("factor", [4, 8, 16])
def test_factors(factor, make_more):
    film, _ = make_more(make("in.mp4", grey([48, 64, 80]), NTSC), factor=factor)
    assert film.count == 3 * factor
    assert film.rate == NTSC * factor
    expected = [48 + 16 * min(number, 2 * factor) / factor for number in range(3 * factor)]
    assert film.levels == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("rate", "target", "count"),
    [(24, 60, 60), (NTSC, Fraction(60000, 1001), 60), (24, 25, 25), (60, 24, 10), (25, 50, 48)],
)
def test_a_target_rate(rate, target, count, make_more):
    calls = []

    def counting(one, two):
        calls.append(1)
        return mean(one, two)

    frames = 24 if count != 10 else 25
    film, _ = make_more(
        make("in.mp4", grey([60 + 4 * n for n in range(frames)]), rate), between=counting, rate=Fraction(target)
    )
    assert film.rate == target
    assert film.count == count
    exact = np.array([60 + 4 * min(number * float(Fraction(rate) / target), frames - 1) for number in range(count)])
    assert np.abs(np.array(film.levels) - exact).max() <= 4 / 16 + 1
    if target == 60:
        assert len(calls) == 4 * 23  # only the eighths that are shown, and those that are needed to compute them
    if target == 50:
        assert len(calls) == 23


def test_slow_motion(make_more):
    source = make("in.mp4", grey([50, 60, 70]), NTSC, sound=["aac"])
    film, notes = make_more(source, factor=4, slow_motion=True)
    assert (film.count, film.rate) == (12, NTSC)
    assert film.streams == [("video", "h264")]
    assert notes == ["left out: track 1 (sound, aac)"]
    assert film.levels == pytest.approx([50, 52.5, 55, 57.5, 60, 62.5, 65, 67.5, 70, 70, 70, 70], abs=1)
