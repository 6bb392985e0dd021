"""Telecined film, 29.97 frames per second: four film frames become three whole frames and two mixed from fields."""

import contextlib
import re
from fractions import Fraction
from pathlib import Path

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


def soft_telecined(name, levels):
    """Writes film in MPEG-2 whose frames are marked: every second one is shown for three fields instead of two."""
    make("film.ts", grey(levels), rate=FILM, codec="mpeg2video", options={"bf": "0", "g": "12", "qscale": "2"})
    with av.open("film.ts") as film:
        content = bytearray(b"".join(bytes(packet) for packet in film.demux(video=0)))
    for start in positions(content, b"\0\0\1\xb3"):  # sequence header: the rate
        content[start + 7] = content[start + 7] & 0xF0 | 4  # 30000/1001
    for start in positions(content, b"\0\0\1\xb5\x14"):  # sequence extension
        content[start + 5] &= ~0x08  # not only whole frames
    for number, start in enumerate(positions(content, b"\0\0\1\xb5\x8f")):  # extension of a picture
        starts_at_top, has_third_field = number % 4 in (0, 1), number % 2 == 0
        content[start + 7] = content[start + 7] & 0x7D | starts_at_top << 7 | has_third_field << 1
        content[start + 8] |= 0x80  # a whole frame
    Path("film.m2v").write_bytes(content)
    with av.open("film.m2v") as stream, av.open(name, "w") as out:
        video = out.add_stream_from_template(stream.streams.video[0])
        for number, packet in enumerate(packet for packet in stream.demux(video=0) if packet.size):
            packet.pts = packet.dts = number * 5 // 2 + number % 2  # fields: 0, 3, 5, 8, 10
            packet.time_base, packet.stream = 1 / VIDEO / 2, video
            out.mux(packet)
    return name


def positions(content, pattern):
    return [match.start() for match in re.finditer(re.escape(pattern), bytes(content))]


@pytest.mark.parametrize("name", ["in.mkv", "in.ts"])
def test_soft_telecine(name, make_more):
    """The file has the frames of the film, to be shown for three and two fields in turn: they can be shown evenly."""
    levels = list(range(50, 90))
    path = soft_telecined(name, levels)
    source = open_source(path)
    assert (source.rate, source.film_rate) == (None, FILM)
    _, notes = make_more(path)
    assert notes == [
        f"{name} is film in video: its frames are shown for two and three fields in turn; --detelecine shows "
        "them evenly, 23.976 per second"
    ]
    result, notes = make_more(path, detelecine=True)
    assert notes == []
    assert (result.rate, result.count) == (2 * FILM, 80)
    found = [float(planes[0].mean()) for planes in result.planes[::2]]
    assert np.abs(np.array(found) - levels).max() < 2


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
