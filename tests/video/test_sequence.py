"""Folders and patterns of pictures, read and written."""

import os
from pathlib import Path

import numpy as np
import pytest
from helpers.films import grey, make, moving
from helpers.videos import NTSC, mean, scenes_of

from vfi import pictures
from vfi.errors import PictureError, VideoError
from vfi.pictures import Picture
from vfi.video import job as video
from vfi.video.options import VideoOptions
from vfi.video.render import Renderer


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_folders_of_pictures(channels, dtype, folder, make_more):
    _, notes = make_more(folder(dtype, channels), "more")
    assert notes == []
    old = [pictures.read(f"frames/frame {number}.png").pixels for number in range(11)]
    new = [pictures.read(file).pixels for file in sorted(Path("more").iterdir())]
    assert [file.name for file in sorted(Path("more").iterdir())][:2] == ["000001.png", "000002.png"]
    assert len(new) == 22
    for number in range(11):
        assert np.array_equal(new[2 * number], old[number])
        assert new[2 * number].dtype == dtype
    between = (old[3].astype(float) + old[4]) / 2
    assert np.abs(new[7] - between).max() <= 0.51


def test_patterns(folder, make_more):
    folder(name="f{:03}.tif", count=5)
    (Path("frames") / "g001.tif").write_bytes(b"no picture of the pattern")
    make_more("frames/f%03d.tif", "more/x%02d.png", factor=4)
    assert sorted(file.name for file in Path("more").iterdir()) == [f"x{number:02}.png" for number in range(1, 21)]


def test_pictures_to_a_video_and_back(folder, make_more):
    film, notes = make_more(folder(), "out.mp4", input_rate=NTSC, crf=4)
    assert notes == []
    assert (film.count, film.rate) == (22, 2 * NTSC)
    assert film.tags == (1, 1, 1, 1)
    make_more("out.mp4", "more", factor=2)
    assert len(list(Path("more").iterdir())) == 44
    old, new = pictures.read("frames/frame 1.png").pixels, pictures.read("more/000005.png").pixels
    assert np.abs(new.astype(int) - old).mean() < 4


def test_pictures_of_different_kinds(make_more):
    """Programs save black frames as grey, and opaque ones without alpha; other frames keep colour and alpha."""
    Path("frames").mkdir()
    kinds = [np.zeros((48, 64), np.uint8), np.full((48, 64, 3), 90, np.uint8), np.full((48, 64, 4), 60, np.uint8)]
    for number, pixels in enumerate(kinds):
        pictures.write(f"frames/{number}.png", Picture(pixels))
    make_more("frames", "more", scene_threshold=None)
    assert {pictures.read(file).pixels.shape for file in Path("more").iterdir()} == {(48, 64, 4)}
    assert (pictures.read("more/000003.png").pixels == [90, 90, 90, 255]).all()


def test_grey_pictures_with_alpha_have_cuts(make_more):
    Path("frames").mkdir()
    calls = []
    for number, planes in enumerate(scenes_of((0, 1), 6)):
        pixels = np.stack([planes[0], np.full_like(planes[0], 255)], axis=-1).astype(np.uint8)
        pictures.write(f"frames/{number:02}.png", Picture(pixels))
    make_more("frames", "more", between=lambda one, two: calls.append(1) or mean(one, two))
    assert len(calls) == 10


def test_names_with_a_percent_sign(folder, make_more):
    make("100%done.mp4", moving(3))
    assert make_more("100%done.mp4")[0].count == 6
    make_more(folder(), "100%_%03d.png")
    assert len(list(Path().glob("100%_???.png"))) == 22


def test_an_empty_current_folder(folder, monkeypatch):
    frames = folder().absolute()
    Path("more").mkdir()
    monkeypatch.chdir("more")
    video.interpolate(frames, ".", mean, note=print)
    assert len(os.listdir()) == 22
    assert sorted(os.listdir("..")) == ["frames", "more"]


def test_memory_does_not_grow_with_stills(monkeypatch):
    """Frames of a still are not interpolated, but each is converted to RGB; at most two are kept in memory."""
    make("in.mkv", grey([60] * 20), codec="ffv1", pixel_format="yuv420p")
    held = []

    class Watched(Renderer):
        def planes(self, instant):
            planes = super().planes(instant)
            held.append(len(self._rgb))
            return planes

    monkeypatch.setattr(video, "Renderer", Watched)
    video.interpolate("in.mkv", "out.mkv", mean, options=VideoOptions(pixel_format="yuv444p"), note=print)
    assert len(held) == 40
    assert max(held) <= 2


def test_a_frame_of_another_size_is_named(folder, make_more):
    pictures.write(folder() / "frame 7.png", Picture(np.zeros((48, 60, 3), np.uint8)))
    with pytest.raises(VideoError, match=r"frames/frame 7.png is 60x48, frames/frame 0.png is 64x48"):
        make_more("frames", "more")


def test_a_file_that_is_not_a_picture_is_named(folder, make_more):
    (folder() / "frame 7.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"frames/frame 7.png is not a picture"):
        make_more("frames", "more")
