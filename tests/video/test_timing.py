"""Cuts, repeated frames (copies), and the cadences in which films are repeated for television."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from helpers.films import Film, grey, make, moving
from helpers.videos import scenes_of


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_cuts_and_copies_are_found_at_any_bit_depth(bits, make_more):
    frames = scenes_of((0, 1), 6)
    frames[3] = frames[2]
    frames = [[plane * 2 ** (bits - 8) for plane in planes] for planes in frames]
    depth = f"{bits}le" if bits > 8 else ""
    source = make("in.mkv", frames, codec="ffv1", pixel_format=f"yuv420p{depth}")
    film, _ = make_more(source, "out.mkv", codec="ffv1", duplicates="redistribute")
    stands = [np.array_equal(one[0], two[0]) for one, two in itertools.pairwise(film.planes)]
    assert [number for number, same in enumerate(stands) if same] == [10, 22]  # across the cut, and at the end


def test_a_cut_every_two_seconds(make_more):
    """No frame is interpolated across a cut: the frame before the cut is repeated."""
    frames = scenes_of(range(5), 50)
    source = make("in.mp4", frames, options={"crf": "10", "preset": "ultrafast"})
    film, notes = make_more(source, crf=10, preset="ultrafast")
    assert notes == []
    assert film.count == 500
    levels = np.array([planes[0] for planes in film.planes], float)
    before = np.array([planes[0] for planes in Film(source).planes], float)
    for number in range(249):
        new, one, two = levels[2 * number + 1], before[number], before[number + 1]
        expected = one if number % 50 == 49 else (one + two) / 2
        assert np.abs(new - expected).mean() < 4, number
    morphed, _ = make_more(source, crf=10, preset="ultrafast", scene_threshold=None)
    assert np.abs(morphed.planes[99][0] - (before[49] + before[50]) / 2).mean() < 4


def test_the_nearer_frame_is_shown_across_a_cut(make_more):
    source = make("in.mkv", scenes_of((0, 1), 4), codec="ffv1")
    film, _ = make_more(source, "out.mkv", codec="ffv1", factor=4)
    before = Film(source)
    shown = [next(i for i in (3, 4) if np.array_equal(film.planes[n][0], before.planes[i][0])) for n in range(12, 17)]
    assert shown == [3, 3, 3, 4, 4]


def test_a_flash_is_not_a_cut(make_more):
    frames = moving(9)
    frames[4][0] = np.clip(frames[4][0] + 60, 0, 255)
    source = make("in.mkv", frames, codec="ffv1")
    film, _ = make_more(source, "out.mkv", codec="ffv1")
    for number in range(8):
        expected = (frames[number][0] + frames[number + 1][0]) / 2
        assert np.abs(film.planes[2 * number + 1][0] - expected).max() <= 1


def test_nothing_is_computed_between_identical_frames(make_more):
    calls = []

    def counting(one, two):
        calls.append(1)
        return one * 0

    frames = moving(4)
    source = make("in.mkv", [frames[0], frames[0], frames[1], frames[1], frames[1], frames[2]], codec="ffv1")
    film, _ = make_more(source, "out.mkv", counting, codec="ffv1")
    assert len(calls) == 2
    for number, index in ((0, 0), (1, 0), (2, 0), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (10, 2), (11, 2)):
        assert np.array_equal(film.planes[number][0], frames[index][0])


@pytest.mark.parametrize("copies", [2, 3])
def test_motion_is_spread_over_copies(copies, make_more):
    """Animation that shows each drawing for two or three frames; the copies differ slightly, as after compression."""
    levels = [60, 72, 84, 96, 108]
    frames = grey([level for level in levels for _ in range(copies)])
    generator = np.random.default_rng(0)
    for planes in frames:
        planes[0] = planes[0] + generator.integers(-1, 2, planes[0].shape)
    source = make("in.mkv", frames, codec="ffv1")
    film, _ = make_more(source, duplicates="redistribute")
    steps = np.diff(film.levels)[: 8 * copies - 1]
    assert steps == pytest.approx(12 / (2 * copies), abs=0.8)
    kept, _ = make_more(source)
    assert np.diff(kept.levels).max() > 5


@pytest.mark.parametrize("wishes", [{}, {"factor": 4}, {"rate": Fraction(50)}], ids=str)
@pytest.mark.parametrize(
    "cadence", [(1, 1, 1, 2), (2, 3), (1, 1, 1, 1, 2), (2, 2, 3, 2, 3)], ids=["24in30", "24in60", "25in30", "25in60"]
)
def test_a_film_at_a_television_rate_moves_evenly(cadence, wishes, make_more):
    """Steps are equal to within a sixteenth of the time between two film frames, before and after a still."""
    lengths = [*cadence * 3, 5, *cadence * 3, 1]
    frames = grey([200 + 20 * number for number, length in enumerate(lengths) for _ in range(length)])
    source = make("in.mkv", frames, 30, "ffv1", "yuv420p10le")
    film, _ = make_more(source, "out.mkv", codec="ffv1", duplicates="redistribute", **wishes)
    expected = Fraction(len(cadence), sum(cadence)) * 30 / film.rate
    steps = np.diff(film.levels) / 20
    still = 3 * sum(cadence) * film.rate / 30
    for part in (steps[: math.floor(still)], steps[math.ceil(still + 5 * film.rate / 30) :]):
        moving = part[: -math.ceil(film.rate / 30)]  # the last frame is repeated
        assert len(moving) > 20
        assert np.abs(moving - float(expected)).max() < 1 / 16 + 1 / 20


def test_stills_longer_than_three_copies_stand_still(make_more):
    source = make("in.mkv", grey([60] * 6 + [72] * 2 + [84]), codec="ffv1")
    film, _ = make_more(source, duplicates="redistribute")
    assert film.levels == pytest.approx([60] * 11 + [66, 72, 75, 78, 81, 84, 84], abs=1)
