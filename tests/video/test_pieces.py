"""Pieces of a video, from a start to an end."""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.films import Film, grey, make, moving
from helpers.videos import scenes_of

from vfi.errors import VideoError


@pytest.mark.parametrize("wishes", [{}, {"rate": Fraction(60)}, {"factor": 4}, {"duplicates": "redistribute"}], ids=str)
def test_pieces_together_have_the_frames_of_the_whole(wishes, make_more):
    times = [1 + number % 4 // 3 for number in range(32)] if "duplicates" in wishes else [1] * 40
    frames = [planes for planes, count in zip(moving(len(times), step=1), times, strict=True) for _ in range(count)]
    frames += scenes_of((5,), 80 - len(frames))
    source = make("in.mkv", frames, 24, "ffv1", sound=["flac"])
    whole, _ = make_more(source, "whole.mkv", codec="ffv1", **wishes)
    limits = [None, Fraction(7, 10), Fraction(7, 5), Fraction(14, 5), None]
    pieces, sound, beginnings = [], [], []
    for number, (start, end) in enumerate(itertools.pairwise(limits)):
        piece, _ = make_more(source, f"piece{number}.mkv", codec="ffv1", start=start, end=end, **wishes)
        pieces += piece.planes
        sound += piece.packets[1]
        beginnings.append(piece.times[0])
        if piece.starts[1]:
            assert abs(piece.starts[1][0]) < 0.11
    assert beginnings == [0] * 4
    assert len(pieces) == whole.count
    for one, two in zip(pieces, whole.planes, strict=True):
        assert all(np.array_equal(plane, same) for plane, same in zip(one, two, strict=True))
    assert sound == Film(source).packets[1] == whole.packets[1]


def test_a_piece_deep_in_a_long_file_is_found_by_seeking(make_more):
    """Frames depend on other frames, so that decoding must start at the key frame before the piece."""
    source = make("in.mp4", moving(240, step=1), options={"crf": "10", "g": "30"}, sound=["aac"])
    whole, _ = make_more(source)
    piece, notes = make_more(source, "piece.mp4", start=Fraction(7), end=Fraction(8), crf=10)
    assert notes == []
    assert piece.count == 50
    for one, two in zip(piece.planes, whole.planes[350:400], strict=True):
        assert np.abs(one[0].astype(int) - two[0]).mean() < 2
    chosen = [packet for packet, time in zip(whole.packets[1], whole.starts[1], strict=True) if 7 <= time < 8]
    assert piece.packets[1] == chosen


def test_subtitles_of_a_piece(make_more):
    source = make(
        "in.mkv", grey(range(50, 125)), subtitles=[(0.1, 0.4, "before"), (0.8, 1.4, "into"), (2.5, 2.8, "after")]
    )
    film, _ = make_more(source, "out.mkv", start=Fraction(1), end=Fraction(2))
    assert film.packets[1] == [b"into"]
    assert film.starts[1] == [0]


def test_sound_of_pieces_at_another_rate(make_more):
    """Where two pieces meet, each packet is in exactly one of them."""
    source = make("in.mkv", moving(48, step=1), 24, sound=["libmp3lame"])
    sound = []
    for start, end in itertools.pairwise([None, Fraction(7, 10), Fraction(14, 10), None]):
        piece, _ = make_more(source, "piece.mkv", start=start, end=end, rate=Fraction(25))
        sound += piece.packets[1]
    assert sound == Film(source).packets[1]


def test_an_empty_piece_is_refused(make_more):
    with pytest.raises(VideoError, match=r"in.mp4 has no frame between the start and the end"):
        make_more(make("in.mp4", grey([50, 60])), start=Fraction(5))
    assert [file.name for file in Path().iterdir()] == ["in.mp4"]
