"""Fixtures: videos with more frames, in a folder for each test."""

from pathlib import Path

import numpy as np
import pytest
from helpers.films import Film, moving
from helpers.videos import ROOT, mean

from vfi import pictures
from vfi.pictures import Picture
from vfi.video import job as video
from vfi.video.options import VideoOptions


@pytest.fixture(autouse=True)
def in_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for scripts that run in the temporary folder


@pytest.fixture
def make_more():
    """Interpolates a video; returns what is in the result (None of pictures and WebP), and the notes."""

    def make_more(path, target="out.mp4", between=mean, **wishes):
        notes = []
        video.interpolate(path, target, between, options=VideoOptions(**wishes), note=notes.append)
        assert not list(Path().rglob("*.partial*"))
        assert not list(Path().rglob("*.part"))
        return (Film(target) if Path(target).is_file() and Path(target).suffix != ".webp" else None), notes

    return make_more


@pytest.fixture
def folder():
    """Writes pictures whose names sort by number, not by letter, among files that are not pictures."""

    def make_folder(dtype=np.uint8, channels=3, name="frame {}.png", count=11):
        Path("frames").mkdir()
        most = np.iinfo(dtype).max
        for number in range(count):
            luma = moving(count)[number][0].astype(dtype) * (most // 255)
            pixels = np.repeat(luma[..., None], channels, axis=2)
            if channels == 4:
                pixels[..., 3] = most - luma
            pictures.write(Path("frames") / name.format(number), Picture(pixels if channels > 1 else pixels[..., 0]))
        (Path("frames") / ".hidden.png").write_bytes(b"no picture")
        (Path("frames") / "notes.txt").write_text("no picture")
        return Path("frames")

    return make_folder
