"""Sound, subtitles, chapters, cover pictures and metadata."""

from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.films import Film, grey, make


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
    offset = film.times[2] - before.times[1]  # AVI gives the first packet a wrong time
    assert film.starts[new][:3] == pytest.approx([start + offset for start in before.starts[old][:3]], abs=0.0011)
    assert film.count == 2 * before.count


def test_sound_of_a_transport_stream(make_more):
    """In a transport stream, each packet of AAC has a header of seven bytes; MP4 stores it once for the track."""
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
def test_unsupported_sound_is_transcoded(source, codec, target, became, make_more):
    source = make(f"in.{source}", grey(range(50, 75)), sound=[codec])
    film, notes = make_more(source, f"out.{target}")
    assert len(notes) == 1
    assert "transcoded to" in notes[0]
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
        ("pcm_s16le 5.1", "mp4", "aac"),  # MP4 reports the problem only at the end
        ("flac 4.0", "webm", "opus"),  # Opus has no such layout
    ],
)
def test_sound_of_many_channels(sound, target, became, make_more):
    source = make("in.mkv", grey(range(50, 60)), sound=[sound])
    film, notes = make_more(source, f"out.{target}")
    assert film.streams[1] == ("audio", became)
    assert len(notes) == (became not in sound)


def test_sound_that_begins_before_the_video_in_avi(make_more):
    """AAC begins a fraction of a frame before the video: no frame is repeated to fill that time."""
    film, notes = make_more(make("in.mkv", grey(range(50, 60)), 20, sound=["aac"]), "out.avi")
    assert notes == []
    assert film.times == pytest.approx([number / 40 for number in range(20)], abs=1e-6)


def test_time_codes(make_more):
    """MP4 counts frames in a byte: at higher rates it has no time code."""
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


def test_a_cover_picture_is_not_the_video(make_more):
    """The cover is the first stream, as in files from music shops; it is copied, and the film is interpolated."""
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
    """Fonts of subtitles in Matroska; MP4 cannot hold them, and a note says so."""
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
def test_unsupported_subtitles_are_transcoded(source, target, codec, make_more):
    lines = [(0.1, 0.4, "first"), (0.5, 0.9, "second")]
    source = make(f"in.{source}", grey(range(50, 75)), subtitles=lines)
    film, notes = make_more(source, f"out.{target}")
    assert len(notes) == 1
    assert notes[0].endswith(f"transcoded to {codec}")
    (index,) = film.of("subtitle")
    shown = [
        (start, packet)
        for start, packet in zip(film.starts[index], film.packets[index], strict=True)
        if len(packet) > 2
    ]
    assert [start for start, _ in shown] == pytest.approx([0.1, 0.5], abs=1e-3)
    assert b"first" in shown[0][1]
    assert b"second" in shown[1][1]
