"""Telecined film, 29.97 frames per second: four film frames become three whole frames and two mixed from fields."""

import contextlib
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.films import grey, make, moving
from helpers.videos import ROOT, refused

import run
from vfi.video.source import open_source

FILM, VIDEO = Fraction(24000, 1001), Fraction(30000, 1001)


@pytest.fixture
def film():
    """The frames of the sample clip as PyAV's frames, scaled to 160x96."""
    with av.open(str(ROOT / "videos" / "bunny.mp4")) as container:
        return [frame.reformat(160, 96, "yuv420p") for frame in container.decode(video=0)]


def telecined(name, film):
    """Writes frames of film as telecined video, with FFmpeg's filter and without loss."""
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add("buffer", f"video_size=160x96:pix_fmt=yuv420p:time_base={1 / FILM}:frame_rate={FILM}"),
        graph.add("telecine", "pattern=23"),
        graph.add("setfield", "tff"),
        graph.add("buffersink"),
    ).configure()
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "qp": "0", "preset": "ultrafast"}
    with av.open(name, "w") as out:
        stream = out.add_stream("libx264", rate=VIDEO, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number, frame in enumerate([*film, None]):
            if frame:
                frame.pts, frame.time_base = number, 1 / FILM
            graph.vpush(frame)
            with contextlib.suppress(av.BlockingIOError, av.EOFError):
                while True:
                    shown = graph.vpull()
                    shown.time_base, shown.pts = 1 / VIDEO, round(shown.pts * shown.time_base * VIDEO)
                    out.mux(stream.encode(shown))
        out.mux(stream.encode(None))
    return name


def test_the_frames_of_the_film_are_restored(film):
    source = open_source(telecined("in.mkv", film), detelecine=True)
    frames = list(source.frames())
    assert source.rate == FILM
    assert [frame.time for frame in frames] == [number / FILM for number in range(len(film))]
    for frame, original in zip(frames, film, strict=True):
        assert np.array_equal(frame.planes[0], original.to_ndarray()[:96])
    assert source.count == len(film)
    assert source.lost == 0


def test_a_telecined_film_is_interpolated(film, make_more):
    path = telecined("in.mkv", film)
    result, notes = make_more(path, detelecine=True)
    assert notes == []
    assert result.rate == 2 * FILM
    assert result.count == 2 * len(film)
    _, notes = make_more(path)
    assert notes == [
        "in.mkv is interlaced: its frames are deinterlaced; if it is film, --detelecine restores its frames"
    ]


def test_detelecine_refuses_unsuitable_sources(folder, capsys):
    folder()
    refused("frames: --detelecine is for video files", "frames", usage=True, detelecine=True)
    make("vary.mkv", grey(range(50, 56)), times=[0, 40, 90, 100, 170, 200], time_base=Fraction(1, 1000))
    refused("vary.mkv has no constant rate", "vary.mkv", usage=True, detelecine=True)
    with pytest.raises(SystemExit):
        run.main(["--video", "vary.mkv", "--detelecine", "--no-deinterlace"])
    assert "--detelecine and --no-deinterlace exclude each other" in capsys.readouterr().err


def test_video_without_telecine_is_not_reported_as_damaged(make_more):
    """FFmpeg's filter drops every fifth frame of any video; these frames must not count as lost."""
    _, notes = make_more(make("in.mkv", moving(15)), detelecine=True)
    assert notes == []
