"""Animated pictures: WebP as a source, PNG and WebP as targets, and how often they are shown."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.films import make, moving
from helpers.videos import mean, refused
from PIL import Image

from vfi.video.animation import plays_of
from vfi.video.job import interpolate
from vfi.video.source import open_source


def write(path, levels, durations, alpha=False, loop=0):
    """Writes an animated picture of uniformly grey frames; with alpha, one pixel of each is transparent."""
    colour = (255,) if alpha else ()
    frames = [Image.new("RGBA" if alpha else "RGB", (64, 48), (level, level, level, *colour)) for level in levels]
    if alpha:
        for frame in frames:
            frame.putpixel((5, 5), (0, 0, 0, 0))
    options = {} if loop is None else {"loop": loop}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, lossless=True, **options)


def read(path):
    """The pixels (RGBA) and the durations (milliseconds) of the frames of an animated picture."""
    frames, durations = [], []
    with Image.open(path) as image:
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            frames.append(np.asarray(image.convert("RGBA")))
            durations.append(image.info["duration"])
    return frames, durations


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


@pytest.mark.parametrize("target", ["out.apng", "out.webp"])
@pytest.mark.parametrize("alpha", [False, True])
def test_animated_targets(target, alpha, make_more):
    """A transparent pixel stays transparent: frames replace the frame before."""
    write("in.webp", (50, 80, 110, 140), [40, 100, 60, 200], alpha)
    _, notes = make_more("in.webp", target)
    assert notes == []
    frames, durations = read(target)
    assert [int(frame[20, 20, 0]) for frame in frames] == pytest.approx([50, 65, 80, 95, 110, 125, 140, 140], abs=1)
    assert durations == [20, 20, 50, 50, 30, 30, 100, 100]
    assert {int(frame[5, 5, 3]) for frame in frames} == ({0} if alpha else {255})


def test_ffmpeg_reads_an_animated_png(make_more):
    make_more(make("in.mkv", moving(6)), "out.apng")
    source = open_source("out.apng")
    assert (source.rate, source.count) == (50, 12)
    assert len(list(source.frames())) == 12


@pytest.mark.parametrize("target", ["out.apng", "frames"])
def test_tracks_that_pictures_leave_out_are_noted(target, make_more):
    _, notes = make_more(make("in.mkv", moving(2), sound=["aac"]), target)
    assert notes == ["left out: track 1 (sound, aac)"]


def test_durations_in_milliseconds_do_not_drift(make_more):
    make_more(make("in.mkv", moving(24), rate=Fraction(24000, 1001)), "out.webp")
    durations = read("out.webp")[1]
    assert set(durations) == {20, 21}
    assert sum(durations) == round(24 * 1001 / 24)


def test_deep_colours(make_more):
    """PNG holds 16 bits; WebP holds 8, and a note says so."""
    frames = [[4 * plane for plane in planes] for planes in moving(2)]
    make("in.mkv", frames, codec="ffv1", pixel_format="yuv420p10le")
    assert make_more("in.mkv", "out.apng")[1] == []
    assert open_source("out.apng").layout.bits == 16
    (note,) = make_more("in.mkv", "out.webp")[1]
    assert "8 bits" in note


@pytest.mark.parametrize("target", ["gif", "apng", "webp"])
@pytest.mark.parametrize(
    ("source", "loop", "plays"),
    [("gif", None, 1), ("gif", 0, 0), ("gif", 2, 3), ("webp", 0, 0), ("webp", 3, 3), ("png", 1, 1), ("png", 4, 4)],
)
def test_the_number_of_times_that_an_animation_is_shown(source, loop, plays, target, make_more):
    """GIF says how often it is repeated, the others how often it is shown."""
    write(f"in.{source}", (50, 100, 150), 100, loop=loop)
    assert plays_of(Path(f"in.{source}")) == plays
    make_more(f"in.{source}", f"out.{target}")
    assert plays_of(Path(f"out.{target}")) == plays


def test_a_video_becomes_an_endless_animation(make_more):
    make("in.mkv", moving(2))
    for target in ("out.gif", "out.apng", "out.webp"):
        make_more("in.mkv", target)
        assert plays_of(Path(target)) == 0


@pytest.mark.parametrize("target", ["out.apng", "out.webp"])
def test_an_interrupted_animation_is_resumed(target, make_more):
    source = make("in.mkv", moving(6), times=[0, 40, 100, 120, 200, 240], time_base=Fraction(1, 1000))
    make_more(source, "whole" + target)
    calls = []

    def interrupted(one, two):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return mean(one, two)

    notes = []
    with pytest.raises(KeyboardInterrupt):
        interpolate(source, target, interrupted, note=notes.append)
    done = int(notes[-1].split()[0])
    assert notes == [f"{done} pictures are in {target}.partial; --resume continues from there"]
    with Path(f"{target}.partial/times").open("a") as file:
        file.write("1/3\n")  # as a killed run may leave it, without a picture
    interpolate(source, target, mean, resume=True, note=notes.append)
    assert len(calls) == 3
    assert Path(target).read_bytes() == Path("whole" + target).read_bytes()


def test_animations_have_no_codec():
    make("in.mkv", moving(2))
    refused("out.apng is for pictures, which have no codec", "in.mkv", "out.apng", usage=True, codec="libx264")
