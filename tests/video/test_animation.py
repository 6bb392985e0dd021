"""Animated WebP as a source."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.videos import refused
from PIL import Image

from vfi.video.source import open_source


def write(path, levels, durations, alpha=False):
    """Writes an animated WebP of uniformly grey frames; with alpha, one pixel of each is transparent."""
    colour = (255,) if alpha else ()
    frames = [Image.new("RGBA" if alpha else "RGB", (64, 48), (level, level, level, *colour)) for level in levels]
    if alpha:
        for frame in frames:
            frame.putpixel((5, 5), (0, 0, 0, 0))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, lossless=True, loop=0)


@pytest.mark.parametrize("alpha", [False, True])
def test_a_constant_rate(alpha, make_more):
    write("in.webp", range(50, 110, 10), 40, alpha)
    source = open_source("in.webp")
    assert (source.rate, source.count, source.length) == (25, 6, Fraction(6, 25))
    assert source.layout.alpha == alpha
    film, notes = make_more("in.webp", "out.mkv", codec="ffv1")
    assert notes == []
    assert (film.rate, film.count) == (50, 12)
    assert [frame.to_ndarray(format="rgb24")[20, 20, 0] for frame in film.frames][:5] == [50, 55, 60, 65, 70]


def test_frames_with_different_durations(make_more):
    """A frame whose duration is 0 is shown for 100 ms, as in browsers."""
    write("in.webp", (50, 60, 70, 80), [40, 100, 0, 60])
    film, _ = make_more("in.webp", "out.mkv")
    assert film.times[::2] == pytest.approx([0, 0.04, 0.14, 0.24], abs=1e-3)


def test_to_pictures_and_to_gif(make_more):
    write("in.webp", (50, 60, 70), 100)
    make_more("in.webp", "frames/%d.png")
    assert len(list(Path("frames").iterdir())) == 6
    film, _ = make_more("in.webp", "out.gif")
    assert film.count == 6


def test_a_truncated_file(make_more):
    write("whole.webp", (np.arange(40, 200, 10)).tolist(), 40)
    content = Path("whole.webp").read_bytes()
    Path("in.webp").write_bytes(content[: len(content) // 2])
    refused("in.webp", "in.webp", "out.mp4")
