"""Videos through the library, with the mean of two frames in the place of the network."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.films import Film, grey, make, moving

from vfi import pictures
from vfi.errors import DataError, PictureError, UsageError, VideoError
from vfi.pictures import Picture
from vfi.video import job as video
from vfi.video.job import VideoOptions

ROOT = Path(__file__).parent.parent.parent
NTSC = Fraction(24000, 1001)


def mean(one, two):
    return (one + two) / 2


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_more():
    """Makes a video of one, with what is wished for; returns what is in it, and the notes."""

    def make_more(path, target="out.mp4", between=mean, **wishes):
        notes = []
        video.interpolate(path, target, between, wishes=VideoOptions(**wishes), note=notes.append)
        assert not list(Path().rglob("*.partial*"))
        assert not list(Path().rglob("*.part"))
        return (Film(target) if Path(target).is_file() else None), notes

    return make_more


# --- Counts, rates and times ---


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


def test_a_rate_that_matroska_rounds_is_read_as_what_was_meant(make_more):
    source = make("in.mkv", grey([50, 80, 120]), Fraction(60000, 1001))
    film, _ = make_more(source)
    assert film.rate == Fraction(120000, 1001)


def test_variable_rate_keeps_its_times(make_more):
    """And every new frame sits halfway between its neighbours."""
    times = [0, 100, 240, 250, 700, 1100]
    source = make("in.mp4", grey([50, 60, 70, 80, 90, 100]), times=times, time_base=Fraction(1, 1000))
    film, notes = make_more(source)
    assert notes == []
    halves = [0, 50, 100, 170, 240, 245, 250, 475, 700, 900, 1100, 1120]
    assert film.times == pytest.approx([half / 1000 for half in halves], abs=1e-6)
    assert film.levels == pytest.approx([50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100, 100], abs=1)


def test_b_frames_and_a_variable_rate(make_more):
    """Times of decoding never go back from one part to the next."""
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
        assert len(calls) == 4 * 23  # of eighths, only those that are shown, and what they are made of
    if target == 50:
        assert len(calls) == 23


def test_slow_motion(make_more):
    source = make("in.mp4", grey([50, 60, 70]), NTSC, sound=["aac"])
    film, notes = make_more(source, factor=4, slow_motion=True)
    assert (film.count, film.rate) == (12, NTSC)
    assert film.streams == [("video", "h264")]
    assert notes == ["left out: track 1 (sound, aac)"]
    assert film.levels == pytest.approx([50, 52.5, 55, 57.5, 60, 62.5, 65, 67.5, 70, 70, 70, 70], abs=1)


# --- Sound, subtitles and all that ---


@pytest.mark.parametrize(
    ("source", "codec", "target"),
    [
        ("mp4", "aac", "mp4"),
        ("mp4", "aac", "mkv"),
        ("mkv", "libopus", "mkv"),
        ("mkv", "libopus", "webm"),
        ("mkv", "flac", "mp4"),
        ("mov", "pcm_s16le", "mov"),
        ("mov", "pcm_s16le", "mkv"),
        ("avi", "libmp3lame", "avi"),
        ("avi", "libmp3lame", "mp4"),
        ("mp4", "ac3", "ts"),
    ],
)
def test_sound_is_copied_byte_for_byte(source, codec, target, make_more):
    source = make(f"in.{source}", grey(range(50, 80)), codec="mpeg4" if source == "avi" else "libx264", sound=[codec])
    film, notes = make_more(source, f"out.{target}")
    before = Film(source)
    assert notes == []
    (old,), (new,) = before.of("audio"), film.of("audio")
    assert b"".join(film.packets[new]) == b"".join(before.packets[old])
    offset = film.times[2] - before.times[1]  # AVI gives the first a wrong one
    assert film.starts[new][:3] == pytest.approx([start + offset for start in before.starts[old][:3]], abs=0.0011)
    assert film.count == 2 * before.count


def test_sound_of_a_transport_stream(make_more):
    """There each packet has a header of seven bytes, which MP4 holds once for all."""
    source = make("in.ts", grey(range(50, 80)), sound=["aac"])
    film, notes = make_more(source)
    assert notes == []
    before = Film(source)
    assert [packet[7:] for packet in before.packets[1]] == film.packets[1]
    assert film.starts[1][0] - film.times[0] == pytest.approx(before.starts[1][0] - before.times[0], abs=1e-3)
    assert min(film.times[0], film.starts[1][0]) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(
    ("source", "codec", "target", "became"),
    [("mp4", "aac", "webm", "opus"), ("mkv", "libopus", "avi", "mp3float"), ("mkv", "libopus", "mov", "aac")],
)
def test_sound_that_the_container_does_not_take_is_encoded_anew(source, codec, target, became, make_more):
    source = make(f"in.{source}", grey(range(50, 75)), sound=[codec])
    film, notes = make_more(source, f"out.{target}")
    assert len(notes) == 1
    assert "encoded anew as" in notes[0]
    assert film.streams[1] == ("audio", became)
    with av.open(f"out.{target}") as container:
        samples = np.concatenate([frame.to_ndarray()[0].astype(float) for frame in container.decode(audio=0)])
    assert len(samples) == pytest.approx(48000, rel=0.06)
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * 48000 / len(samples) == pytest.approx(440, abs=3)


@pytest.mark.parametrize(
    ("sound", "target", "became"),
    [
        ("pcm_s16le 5.1", "mov", "pcm_s16le"),
        ("pcm_s16le 5.1", "mp4", "aac"),  # which says so only when all is written
        ("flac 4.0", "webm", "opus"),  # which has no such layout
    ],
)
def test_sound_of_many_channels(sound, target, became, make_more):
    source = make("in.mkv", grey(range(50, 60)), sound=[sound])
    film, notes = make_more(source, f"out.{target}")
    assert film.streams[1] == ("audio", became)
    assert len(notes) == (became not in sound)


def test_sound_that_begins_before_the_video_in_avi(make_more):
    """As AAC does, by a fraction of a frame: no frame is shown twice for that."""
    film, notes = make_more(make("in.mkv", grey(range(50, 60)), 20, sound=["aac"]), "out.avi")
    assert notes == []
    assert film.times == pytest.approx([number / 40 for number in range(20)], abs=1e-6)


def test_time_codes(make_more):
    """MP4 counts frames in a byte: at higher rates it has none."""
    source = make("in.mov", grey([50, 60, 70]), configure=lambda stream: stream.metadata.update(timecode="01:00:00:00"))
    for factor, kept in ((2, True), (16, False)):
        film, notes = make_more(source, "out.mov", factor=factor)
        assert notes == []
        assert ("timecode" in film.video_metadata) == kept


def test_tracks_titles_languages_and_chapters(make_more):
    metadata = {"title": "A film", "artist": "Nobody", "comment": "none"}
    chapters = [(0, 500, "One"), (500, 1000, "Two")]
    lines = [(0.1, 0.4, "first"), (0.5, 0.9, "second")]
    for suffix in ("mkv", "mp4"):
        source = make(
            f"in.{suffix}",
            grey(range(50, 75)),
            sound=["aac", "ac3"],
            subtitles=lines,
            metadata=metadata,
            chapters=chapters,
        )
        film, notes = make_more(source, f"out.{suffix}")
        before = Film(source)
        assert notes == []
        assert film.streams[:4] == before.streams[:4]
        assert film.languages[1:4] == before.languages[1:4] == ["eng", "deu", "eng"]
        assert all(film.packets[index] == before.packets[index] for index in (1, 2, 3))
        for name, value in metadata.items():
            assert {key.lower(): text for key, text in film.metadata.items()}[name] == value
        found = [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"]) for c in film.chapters
        ]
        assert found == [(0, Fraction(1, 2), "One"), (Fraction(1, 2), 1, "Two")]


def png_of(pixels):
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = pixels.shape[1], pixels.shape[0], "rgb24"
    encoder.time_base = Fraction(1, 25)
    return bytes(encoder.encode(av.VideoFrame.from_ndarray(pixels, "rgb24"))[0])


def test_a_cover_picture_is_no_video(make_more):
    """It comes first here, as in files from music shops, and is copied; what is doubled is the film."""
    cover = png_of(np.full((30, 40, 3), 77, np.uint8))
    make("film.mp4", grey(range(50, 60)), sound=["aac"])
    with av.open("film.mp4") as old, av.open("in.mp4", "w") as new:
        picture = new.add_stream("png", rate=25)
        picture.width, picture.height, picture.pix_fmt = 40, 30, "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        others = [new.add_stream_from_template(stream, opaque=True) for stream in old.streams]
        packet = av.Packet(cover)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = picture, 0, 0, True
        new.mux(packet)
        for packet in old.demux():
            if packet.size:
                packet.stream = others[packet.stream.index]
                new.mux(packet)
    film, notes = make_more("in.mp4")
    assert notes == []
    assert film.count == 20
    with av.open("out.mp4") as container:
        (shown,) = [s for s in container.streams.video if s.disposition & av.stream.Disposition.attached_pic]
        assert [bytes(packet) for packet in container.demux(shown) if packet.size] == [cover]


def test_attachments(make_more):
    """Fonts of subtitles, as Matroska holds them; MP4 does not, and that is said."""
    make("film.mkv", grey(range(50, 60)))
    with av.open("film.mkv") as old, av.open("in.mkv", "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        new.add_attachment("letters.ttf", "application/x-truetype-font", b"a font" * 100)
        for packet in old.demux():
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    _, notes = make_more("in.mkv", "out.mkv")
    assert notes == []
    with av.open("out.mkv") as container:
        (font,) = container.streams.attachments
        assert (font.name, font.mimetype, font.data) == (
            "letters.ttf",
            "application/x-truetype-font",
            b"a font" * 100,
        )
    _, notes = make_more("in.mkv", "out.mp4")
    assert [note for note in notes if "attachment" in note]


@pytest.mark.parametrize(
    ("source", "target", "codec"), [("mkv", "mp4", "mov_text"), ("mp4", "mkv", "subrip"), ("mkv", "webm", "webvtt")]
)
def test_subtitles_that_the_container_does_not_take_are_encoded_anew(source, target, codec, make_more):
    lines = [(0.1, 0.4, "first"), (0.5, 0.9, "second")]
    source = make(f"in.{source}", grey(range(50, 75)), subtitles=lines)
    film, notes = make_more(source, f"out.{target}")
    assert len(notes) == 1
    assert notes[0].endswith(f"encoded anew as {codec}")
    (index,) = film.of("subtitle")
    shown = [
        (start, packet)
        for start, packet in zip(film.starts[index], film.packets[index], strict=True)
        if len(packet) > 2
    ]
    assert [start for start, _ in shown] == pytest.approx([0.1, 0.5], abs=1e-3)
    assert b"first" in shown[0][1]
    assert b"second" in shown[1][1]


# --- Colours ---


def as_tagged(matrix, primaries, transfer, colour_range):
    def configure(stream):
        context = stream.codec_context
        context.colorspace, context.color_primaries = matrix, primaries
        context.color_trc, context.color_range = transfer, colour_range

    return configure


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [6, 1, 9], ids=["BT.601", "BT.709", "BT.2020"])
@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mkv", "ffv1", "yuv420p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("mkv", "ffv1", "yuv422p10le"),
    ],
)
def test_nothing_flickers_and_tags_are_kept(suffix, codec, pixel_format, matrix, full, make_more):
    """New frames between two of almost the same colour have that colour, also where RGB cannot hold it."""
    tags = (matrix, 9 if matrix == 9 else matrix, 14 if matrix == 9 else matrix, 2 if full else 1)
    scale = 4 if "10" in pixel_format else 1
    most, half = 256 * scale - 1, 2 if "420" in pixel_format else 1
    generator = np.random.default_rng(matrix)
    for luma, blue, red in (
        (0, 128, 128),
        (255, 128, 128),
        (16, 90, 170),
        (235, 30, 200),
        (120, 128, 128),
        (60, 240, 16),
    ):
        planes = [
            np.clip(np.full((48, 64), luma * scale) + generator.integers(0, 2, (48, 64)), 0, most),
            *(np.full((48 // half, 32), value * scale) for value in (blue, red)),
        ]
        other = [np.clip(planes[0] + generator.integers(0, 2, (48, 64)), 0, most), *planes[1:]]
        source = make(
            f"in.{suffix}",
            [planes, other, planes],
            25,
            codec,
            pixel_format,
            options={"crf": "4"} if "vp9" in codec else None,
            configure=as_tagged(*tags),
        )
        options = {"libx264": {"crf": 1}, "libvpx-vp9": {"crf": 2}}.get(codec, {"codec": codec})
        film, notes = make_more(source, f"out.{suffix}", **options)
        assert notes == []
        assert film.tags == tags
        assert film.format.replace("j", "") == pixel_format
        before = Film(source)
        for original, copy in zip(before.planes, film.planes[::2], strict=True):
            for plane, same in zip(original, copy, strict=True):
                assert np.abs(plane.astype(int) - same).mean() <= (0.5 if codec != "ffv1" else 0)
        for index in range(3):
            means = [planes[index].mean() for planes in film.planes]
            assert max(means) - min(means) < (1.1 if codec != "ffv1" else 0.6 if index == 0 else 0.01)


def test_unspecified_colours_stay_unspecified(make_more):
    film, _ = make_more(make("in.mkv", moving(3), codec="ffv1"), "out.mkv", codec="ffv1")
    assert film.tags[:3] == (2, 2, 2)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_ten_bits_and_hdr(codec, target, make_more):
    mastering = "G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50)"
    options = {"x265-params": f"lossless=1:log-level=none:hdr10=1:master-display={mastering}:max-cll=1000,400"}
    frames = [[plane * 4 for plane in planes] for planes in moving(4)]
    source = make("in.mkv", frames, 24, "libx265", "yuv420p10le", options=options, configure=as_tagged(9, 9, 16, 1))
    film, notes = make_more(source, f"out.{target}", codec=codec, crf=4)
    before = Film(source)
    assert notes == []
    assert film.format == "yuv420p10le"
    assert film.tags == (9, 9, 16, 1)
    assert np.abs(film.planes[2][0].astype(int) - before.planes[1][0]).mean() < 3
    assert len(np.unique(film.planes[1][0] % 4)) == 4
    kinds = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
    for kind in kinds:
        for frame in film.frames[:1]:
            old, new = (np.frombuffer(bytes(f.side_data[kind]), np.int32) for f in (before.frames[0], frame))
            if kind == kinds[0]:  # rationals, which may be written in more than one way
                old, new = (values[:20:2] / values[1:20:2] for values in (old, new))
            assert old == pytest.approx(new, abs=1e-4 if codec == "libsvtav1" else 0)  # AV1 has fractions of two


def test_what_a_codec_cannot_keep_is_noted(make_more):
    frames = [[plane * 16 for plane in planes] for planes in moving(3)]
    source = make("in.mkv", frames, 24, "ffv1", "yuv420p12le")
    film, notes = make_more(source)
    assert notes == ["libx264 gets 10 bits of each colour: the source's 12 were rounded"]
    assert film.format == "yuv420p10le"


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_phones_that_were_held_upright(degrees, mirrored, make_more):
    frames = [
        [np.pad(np.full((20, 30), 200), ((0, 28), (0, 34)), constant_values=40), *planes[1:]]
        for planes in grey([0] * 3)
    ]
    source = make("in.mp4", frames, configure=lambda stream: stream.set_display_rotation(degrees, hflip=mirrored))
    film, notes = make_more(source)
    assert notes == []
    assert (film.width, film.height) == ((48, 64) if degrees % 180 else (64, 48))
    assert all(frame.rotation == 0 for frame in film.frames)
    upright = np.rot90(frames[0][0], degrees // 90)  # both turn to the left
    upright = np.fliplr(upright) if mirrored else upright
    for planes in film.planes:
        assert np.abs(planes[0].astype(int) - upright).mean() < 3


def test_pixels_that_are_not_square(make_more):
    def anamorphic(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)

    assert make_more(make("in.mp4", grey([60, 64]), configure=anamorphic))[0].aspect == Fraction(64, 45)


@pytest.mark.parametrize(("width", "height"), [(63, 47), (64, 47), (63, 48)])
@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("mkv", "ffv1"), ("avi", "mpeg4")]
)
def test_odd_sizes(suffix, codec, width, height, make_more):
    frames = [
        [planes[0][:height, :width], *(np.full(((height + 1) // 2, (width + 1) // 2), value) for value in (110, 140))]
        for planes in moving(3)
    ]
    source = make("in.mkv", frames, codec="ffv1")
    film, notes = make_more(source, f"out.{suffix}", codec=codec)
    grown = codec == "libx264"
    assert (film.width, film.height) == ((64, 48) if grown else (width, height))
    assert len(notes) == grown
    assert film.count == 6
    assert np.abs(film.planes[0][0][:height, :width].astype(int) - frames[0][0]).mean() < 3


# --- Interlaced ---


@pytest.fixture
def interlaced():
    """Two fields of each frame are of different times, as cameras of old took them."""
    fields = moving(20, step=3)
    frames = []
    for top, bottom in zip(fields[::2], fields[1::2], strict=True):
        luma = top[0].copy()
        luma[1::2] = bottom[0][1::2]
        frames.append([luma, *top[1:]])
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "qp": "0", "preset": "ultrafast"}
    return make("in.mp4", frames, options=options)


def comb(plane):
    """How much odd rows differ from even ones, more than rows of the same parity do."""
    plane = plane.astype(int)
    return (
        np.abs(plane[1:-1] - (plane[:-2] + plane[2:]) / 2).mean()
        - np.abs(plane[2:-2] - (plane[:-4] + plane[4:]) / 2).mean() / 4
    )


def test_interlaced_sources_are_named_and_deinterlaced(interlaced, make_more):
    film, notes = make_more(interlaced, crf=4)
    kept, kept_notes = make_more(interlaced, deinterlace=False, crf=4)
    assert notes == ["in.mp4 is interlaced: its frames are deinterlaced"]
    assert kept_notes == ["in.mp4 is interlaced: its frames are taken as they are"]
    assert film.count == kept.count == 20
    assert film.rate == 50
    assert np.median([comb(planes[0]) for planes in kept.planes[::2]]) > 3 * np.median(
        [comb(planes[0]) for planes in film.planes[::2]]
    )


# --- Scenes and copies ---


def scenes_of(seeds, each):
    return [planes for seed in seeds for planes in moving(each, seed=seed)]


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_cuts_and_copies_are_found_in_any_depth(bits, make_more):
    frames = scenes_of((0, 1), 6)
    frames[3] = frames[2]
    frames = [[plane * 2 ** (bits - 8) for plane in planes] for planes in frames]
    depth = f"{bits}le" if bits > 8 else ""
    source = make("in.mkv", frames, codec="ffv1", pixel_format=f"yuv420p{depth}")
    film, _ = make_more(source, "out.mkv", codec="ffv1", duplicates="redistribute")
    stands = [np.array_equal(one[0], two[0]) for one, two in itertools.pairwise(film.planes)]
    assert [number for number, same in enumerate(stands) if same] == [10, 22]  # across the cut, and at the end


def test_ten_seconds_with_a_cut_every_two(make_more):
    """Across a cut nothing is morphed: the frame before it is shown once more."""
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


def test_across_a_cut_the_nearer_frame_is_shown(make_more):
    source = make("in.mkv", scenes_of((0, 1), 4), codec="ffv1")
    film, _ = make_more(source, "out.mkv", codec="ffv1", factor=4)
    before = Film(source)
    shown = [next(i for i in (3, 4) if np.array_equal(film.planes[n][0], before.planes[i][0])) for n in range(12, 17)]
    assert shown == [3, 3, 3, 4, 4]


def test_a_flash_is_no_cut(make_more):
    frames = moving(9)
    frames[4][0] = np.clip(frames[4][0] + 60, 0, 255)
    source = make("in.mkv", frames, codec="ffv1")
    film, _ = make_more(source, "out.mkv", codec="ffv1")
    for number in range(8):
        expected = (frames[number][0] + frames[number + 1][0]) / 2
        assert np.abs(film.planes[2 * number + 1][0] - expected).max() <= 1


def test_identical_neighbours_cost_nothing_and_stay(make_more):
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
    """Animation on twos and threes; a codec makes copies that are not quite the same."""
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
def test_a_film_at_a_rate_of_television_moves_evenly(cadence, wishes, make_more):
    """To a sixteenth of the time between two frames, before a still and after it."""
    lengths = [*cadence * 3, 5, *cadence * 3, 1]
    frames = grey([200 + 20 * number for number, length in enumerate(lengths) for _ in range(length)])
    source = make("in.mkv", frames, 30, "ffv1", "yuv420p10le")
    film, _ = make_more(source, "out.mkv", codec="ffv1", duplicates="redistribute", **wishes)
    expected = Fraction(len(cadence), sum(cadence)) * 30 / film.rate
    steps = np.diff(film.levels) / 20
    still = 3 * sum(cadence) * film.rate / 30
    for part in (steps[: math.floor(still)], steps[math.ceil(still + 5 * film.rate / 30) :]):
        moving = part[: -math.ceil(film.rate / 30)]  # the last frame is held
        assert len(moving) > 20
        assert np.abs(moving - float(expected)).max() < 1 / 16 + 1 / 20


def test_stills_longer_than_three_copies_stand_still(make_more):
    source = make("in.mkv", grey([60] * 6 + [72] * 2 + [84]), codec="ffv1")
    film, _ = make_more(source, duplicates="redistribute")
    assert film.levels == pytest.approx([60] * 11 + [66, 72, 75, 78, 81, 84, 84], abs=1)


# --- Codecs and files ---


@pytest.mark.parametrize(
    ("target", "wishes", "codec", "pixel_format"),
    [
        ("out.mp4", {}, "h264", "yuv420p"),
        ("out.mkv", {}, "h264", "yuv420p"),
        ("out.webm", {}, "vp9", "yuv420p"),
        ("out.avi", {}, "mpeg4", "yuv420p"),
        ("out.mp4", {"codec": "libx265", "crf": 20, "preset": "fast"}, "hevc", "yuv420p"),
        ("out.mp4", {"codec": "libsvtav1", "preset": "10"}, "libdav1d", "yuv420p"),
        ("out.mov", {"codec": "prores_ks"}, "prores", "yuv422p10le"),
        ("out.mkv", {"codec": "ffv1"}, "ffv1", "yuv420p"),
        ("out.mp4", {"pixel_format": "yuv444p"}, "h264", "yuv444p"),
        ("out.mp4", {"codec": "h264", "crf": 12}, "h264", "yuv420p"),
        ("out.mkv", {"codec": "ffv1", "pixel_format": "bgr0"}, "ffv1", "bgr0"),
        ("out.mov", {"codec": "png"}, "png", "rgb24"),
    ],
)
def test_codecs(target, wishes, codec, pixel_format, make_more):
    frames = moving(5)
    film, notes = make_more(make("in.mp4", frames), target, **wishes)
    assert notes == []
    assert (film.count, film.codec, film.format) == (10, codec, pixel_format)
    if codec == "hevc":
        with av.open(target) as container:
            assert container.streams.video[0].codec_tag == "hvc1"  # Apple's players know no other
    if pixel_format.startswith("yuv"):
        scale = 4 if "10" in pixel_format else 1
        assert np.abs(film.planes[2][0] / scale - frames[1][0]).mean() < 4


def test_ffv1_is_lossless(make_more):
    frames = moving(4)
    film, _ = make_more(make("in.mkv", frames, codec="ffv1"), "out.mkv", codec="ffv1")
    for planes, copy in zip(frames, film.planes[::2], strict=True):
        assert all(np.array_equal(plane, same) for plane, same in zip(planes, copy, strict=True))


def test_crf_and_preset(make_more):
    source = make("in.mp4", moving(8))
    sizes = []
    for crf in (5, 40):
        film, _ = make_more(source, crf=crf, preset="veryfast")
        sizes.append(sum(map(len, film.packets[0][1:])))
    assert sizes[0] > 2 * sizes[1]


def test_gif(make_more):
    frames = moving(40)
    film, notes = make_more(make("in.mp4", frames, 10), "out.gif")
    assert notes == []
    assert film.count == 80
    assert film.times == pytest.approx([number / 20 for number in range(80)])
    luma = [frame.reformat(format="gray").to_ndarray() for frame in film.frames[::2]]
    full = [(planes[0] - 16) * 255 / 219 for planes in frames]
    assert max(np.abs(new - old).mean() for new, old in zip(luma, full, strict=True)) < 8
    again, _ = make_more("out.gif", "again.mp4")
    assert again.count == 160


# --- Pictures ---


@pytest.fixture
def folder():
    """Writes pictures whose names sort by number, not by letter, among files that are none."""

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
    """Programs save black frames as grey, and opaque ones without alpha: nothing of the others is lost."""
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


def test_an_empty_folder_that_one_is_in(folder, monkeypatch):
    frames = folder().absolute()
    Path("more").mkdir()
    monkeypatch.chdir("more")
    video.interpolate(frames, ".", mean, note=print)
    assert len(os.listdir()) == 22
    assert sorted(os.listdir("..")) == ["frames", "more"]


def test_memory_does_not_grow_with_stills():
    """Each frame is converted here, and none is part of a pair."""
    make("in.mkv", grey([60] * 20), codec="ffv1", pixel_format="yuv420p")
    job = video.Job("in.mkv", "out.mkv", VideoOptions(pixel_format="yuv444p"), note=print)
    renderer = video.Renderer(job.source, job.layout, mean, "cpu")
    held = []

    class Watched:
        def planes(self, instant):
            planes = renderer.planes(instant)
            held.append(len(renderer._rgb))
            return planes

    job.work.mkdir()
    job._begin(False, "")
    job._render(Watched())
    assert len(held) == 40
    assert max(held) <= 2


def test_a_frame_of_another_size_is_named(folder, make_more):
    pictures.write(folder() / "frame 7.png", Picture(np.zeros((48, 60, 3), np.uint8)))
    with pytest.raises(VideoError, match=r"frames/frame 7.png is 60x48, frames/frame 0.png is 64x48"):
        make_more("frames", "more")


def test_a_picture_that_is_none_is_named(folder, make_more):
    (folder() / "frame 7.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"frames/frame 7.png is not a picture"):
        make_more("frames", "more")


# --- Pieces ---


@pytest.mark.parametrize("wishes", [{}, {"rate": Fraction(60)}, {"factor": 4}, {"duplicates": "redistribute"}], ids=str)
def test_pieces_have_together_the_frames_of_the_whole(wishes, make_more):
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


def test_a_piece_far_into_a_long_file_is_sought(make_more):
    """With frames that refer to others, and a picture that is decoded only from a key frame on."""
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
    """Where pieces meet, no packet is lost, and none is in both."""
    source = make("in.mkv", moving(48, step=1), 24, sound=["libmp3lame"])
    sound = []
    for start, end in itertools.pairwise([None, Fraction(7, 10), Fraction(14, 10), None]):
        piece, _ = make_more(source, "piece.mkv", start=start, end=end, rate=Fraction(25))
        sound += piece.packets[1]
    assert sound == Film(source).packets[1]


def test_a_piece_of_nothing(make_more):
    with pytest.raises(VideoError, match=r"in.mp4 has no frame between the start and the end"):
        make_more(make("in.mp4", grey([50, 60])), start=Fraction(5))
    assert [file.name for file in Path().iterdir()] == ["in.mp4"]


# --- Broken off, and gone on with ---

WORKER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from vfi.video import job as video
def mean(one, two):
    time.sleep(0.01)
    return (one + two) / 2
video.interpolate("in.mp4", sys.argv[2], mean, resume=True, note=lambda text: None, part_frames=8)
"""


def test_killed_at_ten_moments_and_resumed(make_more):
    source = make("in.mp4", moving(100), sound=["aac"])
    video.interpolate(source, "whole.mp4", mean, note=lambda text: None, part_frames=8)
    words = [sys.executable, "-c", WORKER, str(ROOT)]
    generator = np.random.default_rng(0)
    kills = 0
    for _ in range(100):
        process = subprocess.Popen([*words, "out.mp4"])
        if kills < 10:
            parts, already = Path("out.mp4.partial"), len(list(Path("out.mp4.partial").glob("*.part")))
            while process.poll() is None and len(list(parts.glob("*.part"))) < already + 1:
                time.sleep(0.01)
            time.sleep(generator.uniform(0, 0.15))
            process.kill()
            kills += process.wait() == -signal.SIGKILL
            assert not Path("out.mp4").exists() or kills >= 10
        elif process.wait() == 0:
            break
    assert kills == 10
    assert Path("out.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    assert sorted(file.name for file in Path().iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_pictures_are_resumed_too(folder):
    folder()
    given = []

    def breaks_off(one, two):
        given.append(1)
        if len(given) == 5:
            raise KeyboardInterrupt
        return mean(one, two)

    with pytest.raises(KeyboardInterrupt):
        video.interpolate("frames", "more", breaks_off, note=given.append)
    assert not Path("more").exists()
    assert len(list(Path("more.partial").glob("*.png"))) == 9
    video.interpolate("frames", "more", breaks_off, resume=True, note=given.append)
    assert "9 frames of more were finished before" in given
    assert len(list(Path("more").iterdir())) == 22


def broken_off(target, after=20, **arguments):
    """What is left of a run that Ctrl-C ended after some new frames; and what it said."""
    notes, calls = [], []

    def breaks_off(one, two):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return mean(one, two)

    with pytest.raises(KeyboardInterrupt):
        video.interpolate("in.mp4", target, breaks_off, note=notes.append, part_frames=16, **arguments)
    return notes


def test_ctrl_c_leaves_something_to_look_at():
    make("in.mp4", moving(50), sound=["aac"])
    notes = broken_off("out.mp4")
    assert notes == ["what is finished can be seen in out.partial.mp4; --resume goes on after 32 frames"]
    film = Film("out.partial.mp4")
    assert film.count == 41
    assert film.streams == [("video", "h264"), ("audio", "aac")]
    assert 0.7 < film.starts[1][-1] < 0.85
    video.interpolate("in.mp4", "out.mp4", mean, resume=True, note=notes.append, part_frames=16)
    assert notes[1:] == ["32 frames of out.mp4 were finished before"]
    video.interpolate("in.mp4", "whole.mp4", mean, note=notes.append, part_frames=16)
    assert Path("out.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    assert sorted(file.name for file in Path().iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_ctrl_c_before_the_first_part_is_whole():
    make("in.mp4", moving(50))
    notes = broken_off("out.mp4", after=3)
    anew = "too little for --resume, which begins anew"
    assert notes == [f"what is finished can be seen in out.partial.mp4; {anew}"]
    assert Film("out.partial.mp4").count == 7
    video.interpolate("in.mp4", "out.mp4", mean, resume=True, note=notes.append, part_frames=16)
    assert Film("out.mp4").count == 100
    assert sorted(file.name for file in Path().iterdir()) == ["in.mp4", "out.mp4"]


def test_what_was_broken_off_is_not_mixed_with_something_else():
    make("in.mp4", moving(50))
    broken_off("out.mp4")
    for what, arguments in {
        "factor, encoding": {"wishes": VideoOptions(factor=4)},
        "start": {"wishes": VideoOptions(start=Fraction(1))},
        "network": {"recipe": "another"},
    }.items():
        with pytest.raises(VideoError, match=f"the unfinished run in out.mp4.partial differs in {what}: start over"):
            video.interpolate("in.mp4", "out.mp4", mean, resume=True, part_frames=16, note=print, **arguments)
    state = json.loads(Path("out.mp4.partial/state.json").read_text())
    assert state["source"] == str(Path("in.mp4").resolve())
    make("in.mp4", moving(40))
    with pytest.raises(VideoError, match="differs in content of the source"):
        video.interpolate("in.mp4", "out.mp4", mean, resume=True, part_frames=16, note=print)
    Path("out.mp4.partial/state.json").write_text("{")
    with pytest.raises(VideoError, match=r"out.mp4.partial/state.json is damaged: start over without --resume"):
        video.interpolate("in.mp4", "out.mp4", mean, resume=True, part_frames=16, note=print)
    video.interpolate("in.mp4", "out.mp4", mean, part_frames=16, note=print)
    assert Film("out.mp4").count == 80
    assert not Path("out.mp4.partial").exists()


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from vfi.video import job as video
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    video.interpolate("in.mkv", sys.argv[2], lambda one, two: (one + two) / 2, note=print, part_frames=8)
except video.VideoError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
@pytest.mark.parametrize(
    ("target", "limit", "message"),
    [
        ("out.mkv", 4_000, "out.mkv cannot be written: file too large"),
        (
            "out.mkv",
            20_000,
            "out.mkv cannot be written: file too large; what is finished stays in out.mkv.partial for --resume",
        ),
        ("out", 1_000, "out cannot be written: file too large"),
    ],
)
def test_no_space(target, limit, message):
    """The first part, the whole, or a picture is more than may be written; nothing is lost, and nothing half there."""
    generator = np.random.default_rng(0)
    make("in.mkv", [[generator.integers(16, 235, (48, 64)), *planes[1:]] for planes in moving(20)], codec="ffv1")
    words = [sys.executable, "-c", LIMITED, str(ROOT), target, str(limit)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == f"{message}\n"
    left = [f"{target}.partial"] if "stays" in message else []
    assert sorted(os.listdir()) == ["in.mkv", *left]
    notes = []
    video.interpolate("in.mkv", target, mean, resume=True, note=notes.append, part_frames=8)
    assert notes[:1] == [f"{40 if left else 'no'} frames of {target} were finished before"]
    assert sorted(os.listdir()) == ["in.mkv", target]


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be held there")
def test_two_runs_for_one_target():
    """The second is refused, and the first goes on as if nothing had been."""
    make("in.mp4", moving(20))
    tried = []

    def between(one, two):
        if not tried:
            for resume in (False, True):
                with pytest.raises(VideoError) as caught:
                    video.interpolate("in.mp4", "out.mp4", mean, note=print, resume=resume)
                tried.append(str(caught.value))
        return mean(one, two)

    video.interpolate("in.mp4", "out.mp4", between, note=print)
    assert tried == ["another run is making out.mp4 at this moment: wait for it"] * 2
    assert Film("out.mp4").count == 40
    assert sorted(os.listdir()) == ["in.mp4", "out.mp4"]


def test_what_is_not_ours_stays():
    """Only what a broken-off run has left to look at is removed, and that run's own input is not taken for it."""
    make("in.mp4", moving(50))
    Path("out.partial.mp4").write_text("mine")
    notes = broken_off("out.mp4")
    assert notes == [
        "out.partial.mp4 is there, and not ours: what is finished is not shown; --resume goes on after 32 frames"
    ]
    video.interpolate("in.mp4", "out.mp4", mean, resume=True, part_frames=16, note=print)
    assert Path("out.partial.mp4").read_text() == "mine"
    Path("out.partial.mp4").unlink()
    broken_off("out.mp4")
    refused("out.partial.mp4 has the name of what a broken-off run leaves of out.mp4", "out.partial.mp4", usage=True)
    notes = broken_off("out.mp4")
    assert "what an earlier run had finished of out.mp4 was dropped: --resume would have kept it" in notes
    assert Film("out.partial.mp4").count == 41


def test_killed_while_it_joins():
    """Nothing of the half-written file stays beside the target."""
    make("in.mp4", moving(20))
    script = (
        "import sys, os; sys.path.insert(0, sys.argv[1]); from vfi.video import job as video, muxing as joining\n"
        "joining._by_time = lambda one, two: os.abort()\n"
        "video.interpolate('in.mp4', 'out.mp4', lambda one, two: (one + two) / 2, note=print, part_frames=8)"
    )
    process = subprocess.run([sys.executable, "-c", script, str(ROOT)], capture_output=True)
    assert process.returncode < 0
    assert sorted(os.listdir()) == ["in.mp4", "out.mp4.partial"]
    video.interpolate("in.mp4", "out.mp4", mean, resume=True, note=print, part_frames=8)
    assert sorted(os.listdir()) == ["in.mp4", "out.mp4"]


def test_killed_before_the_first_frame():
    make("in.mp4", moving(5))
    Path("out.mp4.partial").mkdir()
    Path("out.mp4.partial/.0123456789abcdef.part").write_text("{")
    video.interpolate("in.mp4", "out.mp4", mean, note=print)
    assert sorted(os.listdir()) == ["in.mp4", "out.mp4"]


def test_pictures_that_changed_are_not_gone_on_with(folder):
    folder()
    calls = []

    def breaks_off(one, two):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return mean(one, two)

    notes = []
    with pytest.raises(KeyboardInterrupt):
        video.interpolate("frames", "more", breaks_off, note=notes.append)
    assert notes == ["9 pictures are in more.partial; --resume goes on from there"]
    pictures.write("frames/frame 1.png", Picture(np.zeros((48, 64, 3), np.uint8)))
    with pytest.raises(VideoError, match="differs in content of the source"):
        video.interpolate("frames", "more", mean, resume=True, note=print)


def test_progress_is_of_what_is_made_now():
    make("in.mp4", moving(50))
    broken_off("out.mp4")
    seen = []
    video.interpolate("in.mp4", "out.mp4", mean, resume=True, part_frames=16, progress=lambda *at: seen.append(at))
    assert seen == [(number, 100) for number in range(33, 101)]


def test_a_folder_that_is_in_the_way():
    make("in.mp4", moving(5))
    Path("out.mp4.partial").mkdir()
    Path("out.mp4.partial/diary.txt").write_text("mine")
    with pytest.raises(VideoError, match=r"out.mp4.partial is in the way"):
        video.interpolate("in.mp4", "out.mp4", mean)
    assert Path("out.mp4.partial/diary.txt").read_text() == "mine"


# --- Faults ---


def refused(message, path="in.mp4", target="out.mp4", usage=False, **wishes):
    before = sorted(Path().rglob("*"))
    with pytest.raises(DataError, match=message) as caught:
        video.interpolate(path, target, mean, wishes=VideoOptions(**wishes), note=print)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UsageError) == usage
    assert sorted(Path().rglob("*")) == before


def test_what_is_no_video():
    Path("text.mp4").write_text("no video at all" * 100)
    Path("empty.mp4").write_bytes(b"")
    Path("empty").mkdir()
    refused("missing.mp4 cannot be read: no such file or directory", "missing.mp4")
    refused("text.mp4 is not a video, or damaged", "text.mp4")
    refused("empty.mp4 is empty", "empty.mp4")
    refused("there are no pictures in empty", "empty")
    refused(r"there are no pictures that match %03d.png in empty", "empty/%03d.png")
    with av.open("sound.mp4", "w") as out:
        track = out.add_stream("aac", rate=48000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        out.mux([*track.encode(frame), *track.encode(None)])
    refused("sound.mp4 has no video in it", "sound.mp4")
    with av.open("nothing.mkv", "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        out.start_encoding()
    refused("nothing.mkv is not a video, or damaged", "nothing.mkv")  # it ends where frames begin
    make("in.avi", moving(3), codec="mpeg4")
    with av.open("in.avi") as old, av.open("nothing.avi", "w") as new:
        new.add_stream_from_template(old.streams.video[0], opaque=True)
        new.start_encoding()
    refused("nothing.avi has no frames", "nothing.avi")


def test_targets_that_cannot_be_written():
    source = make("in.mp4", moving(3))
    Path("full").mkdir()
    Path("full/thing").write_text("")
    refused("in.mp4 is the input: it would be lost", target=source, usage=True)
    if sys.platform == "linux":  # where not even root can write
        refused("/proc/out.mp4 cannot be written: no ", target="/proc/out.mp4")
    refused("no/out.mp4 cannot be written: there is no folder no", target="no/out.mp4")
    refused("full is a folder that is not empty", target="full")
    Path("plain").write_text("")
    refused("plain is there, and neither a folder nor a video", target="plain")
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.mp4")
        refused("pipe.mp4 is there, and neither a folder nor a video", target="pipe.mp4")
    source = make("vfr.mp4", moving(3), times=[0, 5, 90], time_base=Fraction(1, 100))
    refused("has a rate that varies, which avi cannot hold", source, "out.avi")


@pytest.mark.parametrize(
    ("message", "wishes"),
    [
        ("the extension .txt is not known: use one of mp4, m4v, mov", {"target": "out.txt"}),
        ("more/%02d.txt: .txt is none of pictures: use one of png, jpg", {"target": "more/%02d.txt"}),
        ("%02d-%02d.png has more than one place for a number", {"target": "%02d-%02d.png"}),
        ("libvpx-vp9 does not know the pixel format yuva420p", {"target": "out.webm", "pixel_format": "yuva420p"}),
        ("more is for pictures, which have no codec", {"target": "more", "codec": "libx264"}),
        ("encoder libfoo is not in this build of FFmpeg", {"codec": "libfoo"}),
        ("encoder aac is not for video", {"codec": "aac"}),
        ("encoder ffv1 has no crf", {"target": "out.mkv", "codec": "ffv1", "crf": 3}),
        ("encoder libx264 has no preset sleepy: use one of ultrafast, ", {"preset": "sleepy"}),
        ("encoder libx264 does not know the pixel format pal8: use one of yuv420p, ", {"pixel_format": "pal8"}),
        ("webm does not take libx264", {"target": "out.webm", "codec": "libx264"}),
        ("is a file, which has a rate of its own", {"input_rate": Fraction(24)}),
        (
            "the pixel format foo is not in this build",
            {"target": "out.mkv", "codec": "rawvideo", "pixel_format": "foo"},
        ),
        ("more is for pictures, which have no codec", {"target": "more", "preset": "slow"}),
        ("factor is 3, expected one of 2, 4, 8, 16", {"factor": 3}),
        ("duplicates is 'foo', expected one of keep, redistribute", {"duplicates": "foo"}),
    ],
    ids=str,
)
def test_wishes_that_cannot_be_granted(message, wishes, capfd):
    make("in.mp4", moving(3))
    refused(message, usage=True, **wishes)
    assert capfd.readouterr().err == ""


def test_encoders_that_refuse():
    """Some at once, such as those for hardware that is not there, and one after the first frame."""
    make("in.mkv", moving(3), codec="ffv1")
    refused(
        "libsvtav1 cannot encode yuv420p of 64x48 with crf 24, preset 99: ", "in.mkv", codec="libsvtav1", preset="99"
    )
    make("odd.mkv", moving(3, 62, 48), codec="ffv1")
    refused("cljr cannot encode this: experimental", "odd.mkv", "out.avi", codec="cljr")
    if not torch.cuda.is_available():
        refused(
            "h264_nvenc cannot encode yuv420p of 64x48 with rc constqp, qp 23", "in.mkv", codec="h264_nvenc", crf=23
        )


def test_one_frame(make_more):
    film, notes = make_more(make("in.mp4", grey([60])))
    assert film.levels == pytest.approx([60, 60], abs=1)
    assert notes == ["in.mp4 has one frame: there is nothing between"]
    _, notes = make_more("in.mp4", factor=4)
    assert notes == ["in.mp4 has one frame: there is nothing between"]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_truncated_in_the_middle(suffix, make_more):
    """What there is is used; how much is lost is said where the file tells how much there was."""
    # Random pictures, for files long enough to be cut.
    generator = np.random.default_rng(0)
    frames = [[generator.integers(16, 235, (48, 64)), *planes[1:]] for planes in moving(40)]
    if suffix == "mp4":
        make("whole.mp4", frames)
        with av.open("whole.mp4") as old, av.open("in.mp4", "w", options={"movflags": "faststart"}) as new:
            stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
            for packet in old.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    new.mux(packet)
    else:
        make("in.mkv", frames)
    os.truncate(f"in.{suffix}", os.path.getsize(f"in.{suffix}") // 2)
    film, notes = make_more(f"in.{suffix}", scene_threshold=None)
    assert 30 < film.count < 50
    lost = [note for note in notes if "lost" in note]
    if suffix == "mp4":
        assert lost == [f"in.mp4 is damaged: {40 - film.count // 2} of 40 frames were lost"]


def test_corrupt_packets(make_more):
    """A frame that is lost is held, so that sound stays in time."""
    source = make("whole.mkv", moving(30), codec="ffv1", options={"slices": "4", "slicecrc": "1"})
    with av.open(source) as old, av.open("in.mkv", "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            damaged = av.Packet(b"\xff" * 5 if number in (10, 11) else bytes(packet))
            damaged.pts, damaged.dts, damaged.time_base = packet.pts, packet.dts, packet.time_base
            damaged.is_keyframe, damaged.stream = packet.is_keyframe, stream
            new.mux(damaged)
    film, notes = make_more("in.mkv")
    assert film.count == 60
    assert notes == ["in.mkv is damaged: 2 of 30 frames were lost"]


def test_a_size_that_changes(make_more):
    parts = [make("one.ts", moving(5)), make("two.ts", moving(5, 80, 64))]
    Path("in.ts").write_bytes(b"".join(Path(part).read_bytes() for part in parts))
    refused("in.ts changes its size from 64x48 to 80x64 after 5 frames", "in.ts")


def test_a_size_that_changes_behind_the_deinterlacer():
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "qp": "0", "preset": "ultrafast"}
    parts = [make(f"{width}.ts", moving(5, width, 64), options=options) for width in (80, 64)]
    Path("in.ts").write_bytes(b"".join(Path(part).read_bytes() for part in parts))
    refused("in.ts changes its size from 80x64 to 64x64 after 5 frames", "in.ts")


def test_a_time_that_is_there_twice(make_more):
    """The second frame of it is left out, and the others stay where they are."""
    times = [0, 100, 240, 240, 700, 900, 1000, 1210, 1300, 1420, 1600]
    moments = [*times[:3], 241, *times[4:]]
    source = make("whole.mkv", grey(range(50, 61)), codec="ffv1", times=moments, time_base=Fraction(1, 1000))
    with av.open(source) as old, av.open("in.mkv", "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = 240 if packet.pts == 241 else packet.pts
                packet.stream = stream
                new.mux(packet)
    film, _ = make_more("in.mkv")
    assert film.times[::2] == pytest.approx([time / 1000 for time in sorted(set(times))], abs=1e-6)


def test_a_variable_rate_whose_average_is_no_simple_fraction(make_more):
    """As of phones: with a fine unit of time and thousands of frames it is a fraction of large numbers."""
    times = np.cumsum(np.random.default_rng(0).integers(2990, 3010, 1500)).tolist()
    source = make("in.mp4", grey([60, 61] * 750, 16, 16), times=times, time_base=Fraction(1, 90000))
    film, notes = make_more(source, preset="ultrafast", scene_threshold=None)
    assert notes == []
    assert film.times[2::2] == pytest.approx([(time - times[0]) / 90000 for time in times[1:]], abs=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_memory_does_not_grow_with_length():
    script = (
        "import sys, resource; sys.path.insert(0, sys.argv[1]); from vfi.video import job as video\n"
        "video.interpolate(sys.argv[2], 'out.mp4', lambda one, two: (one + two) / 2)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (30, 600):
        make("in.mp4", moving(30, 160, 120) * (count // 30), options={"crf": "30", "preset": "ultrafast"})
        words = [sys.executable, "-c", script, ROOT, "in.mp4"]
        peaks.append(int(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] < 1.05 * peaks[0]
