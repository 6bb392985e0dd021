"""Invalid times: every frame that can be decoded is shown, in the right order, at a constant rate."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.films import Film, grey, make, moving

from vfi.video.source import open_source

LEVELS = list(range(50, 80))  # the grey level of each frame, which identifies it
PICTURE = b"\0\0\1\xb6"  # begins each picture of MPEG-4
B_FRAMES = {"preset": "medium", "qp": "10", "bf": "3", "g": "30"}


def levels(path):
    """Opens a video; returns the grey level of each frame, their times, and the source."""
    source = open_source(path)
    frames = list(source.frames())
    return [round(float(frame.planes[0].mean())) for frame in frames], [frame.time for frame in frames], source


def remuxed(path, target, change):
    """Copies the packets of a video to `target`; change(number, packet) changes the times of each."""
    with av.open(path) as old, av.open(target, "w", options={"avoid_negative_ts": "disabled"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            change(number, packet)
            packet.stream = stream
            new.mux(packet)
    return target


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("in.avi", "libx264", B_FRAMES),
        ("in.avi", "mpeg4", {"bf": "2"}),
        ("in.mpg", "mpeg2video", {"bf": "2"}),
        ("in.mpg", "mpeg1video", {"bf": "2"}),
        ("in.mov", "mpeg4", {"bf": "2"}),
        ("in.flv", "libx264", B_FRAMES),
        ("in.ts", "libx264", B_FRAMES),
        ("in.h264", "libx264", B_FRAMES),
        ("in.mkv", "libx265", {"x265-params": "log-level=none:bframes=4"}),
    ],
)
def test_frames_stored_in_decoding_order(name, codec, options, make_more):
    """AVI stores only the order of decoding; other containers store times, and raw streams store neither."""
    source = make(name, grey(LEVELS), codec=codec, options=options)
    found, times, opened = levels(source)
    assert np.abs(np.array(found) - LEVELS).max() <= 3
    assert found == sorted(found)
    assert times == [Fraction(number, 25) for number in range(30)]
    assert opened.lost == opened.repeated == 0
    film, notes = make_more(source)
    assert notes == []
    assert (film.count, film.rate) == (60, 50)


def test_avi_with_b_frames_and_empty_packets(make_more):
    """A number without a packet means that the frame before is repeated: these repeats keep their place."""
    source = make("whole.avi", moving(12), options=B_FRAMES)

    def shift(number, packet):
        packet.dts += 2 * (number >= 8)
        packet.pts = packet.dts

    _, times, opened = levels(remuxed(source, "gap.avi", shift))
    assert len(times) == 14
    assert times == [Fraction(number, 25) for number in range(14)]
    assert opened.lost == 0


@pytest.mark.parametrize("options", [{"qp": "10", "bf": "0"}, B_FRAMES])
def test_a_repeated_time_is_moved_into_the_gap_behind_it(options, make_more):
    """The frame is not dropped, and the rate stays constant. Some Matroska files have such a packet."""
    source = make("whole.mkv", grey(LEVELS), options=options)
    wrong = Fraction(6, 25)

    def repeat(number, packet):
        if packet.pts * packet.time_base == wrong:
            packet.pts -= round(Fraction(1, 25) / packet.time_base)
            packet.dts = min(packet.dts, packet.pts)

    found, times, opened = levels(remuxed(source, "in.mkv", repeat))
    assert len(found) == 30
    assert times == [Fraction(number, 25) for number in range(30)]
    assert opened.rate == 25
    assert opened.lost == opened.repeated == 0
    if options["bf"] == "0":
        assert found == sorted(found)


def test_durations_longer_than_the_frame_spacing(make_more):
    """No frame counts as lost. Matroska made from packets without times has frames 1 ms apart that last 40 ms."""
    source = make("whole.mkv", grey(LEVELS), options={"qp": "10", "bf": "0"})

    def squeeze(number, packet):
        packet.pts = packet.dts = number
        packet.duration = 40

    _, times, opened = levels(remuxed(source, "in.mkv", squeeze))
    assert len(times) == 30
    assert opened.lost == 0


def test_times_that_wrap_around_in_a_transport_stream(make_more):
    """Times in a transport stream have 33 bits: after 26.5 hours they start again at zero."""
    wrap = (2**33 - 27000) / 90000  # in seconds: 0.3 s before the times start again
    source = make("whole.ts", grey(LEVELS), options=B_FRAMES)
    with av.open(source) as old, av.open("in.ts", "w", options={"output_ts_offset": f"{wrap:.6f}"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    found, times, opened = levels("in.ts")
    assert found == sorted(found)
    assert times == [Fraction(number, 25) for number in range(30)]
    assert opened.lost == opened.repeated == 0


def test_concatenated_transport_streams(make_more):
    """The times start again in the middle of the file, as in files of some recorders and editors."""
    make("one.ts", grey(LEVELS[:15]), options=B_FRAMES)
    make("two.ts", grey(LEVELS[15:]), options=B_FRAMES)
    with open("in.ts", "wb") as file:
        for name in ("one.ts", "two.ts"):
            with open(name, "rb") as part:
                file.write(part.read())
    found, times, opened = levels("in.ts")
    assert found == sorted(found)
    assert len(found) == 30
    assert np.diff(np.array([float(time) for time in times])).max() < 0.1
    assert opened.lost == 0


def test_joined_recordings_keep_their_sound(make_more):
    """The clock of the second recording begins anew, for its sound, too."""
    make("one.ts", grey(range(40, 80)), options=B_FRAMES, sound=["aac"])
    part = Path("one.ts").read_bytes()
    Path("in.ts").write_bytes(part + part)
    film, notes = make_more("in.ts")
    assert notes == []
    assert film.count == 160
    assert len(film.packets[1]) == 2 * len(Film("one.ts").packets[1])
    assert np.diff(film.starts[1]).max() < 0.1  # seconds
    piece, _ = make_more("in.ts", start=Fraction(2), end=Fraction(5, 2))  # in the second recording
    assert 25 <= piece.count <= 26
    assert 0.4 < len(piece.packets[1]) * 1024 / 48000 < 0.6  # seconds


@pytest.mark.parametrize("options", [{"qp": "10", "bf": "0", "g": "5"}, B_FRAMES | {"g": "10"}])
def test_times_that_fall_back_in_matroska(options, make_more):
    """From the twentieth frame on, times are 0.8 seconds less. All frames are shown, one after the other."""
    source = make("whole.mkv", grey(LEVELS), options=options)

    def fall_back(number, packet):
        packet.dts = number - 10**6
        packet.pts -= round(Fraction(4, 5) / packet.time_base) * (number >= 20)

    found, times, opened = levels(remuxed(source, "in.mkv", fall_back))
    assert found == sorted(found)
    assert times == [Fraction(number, 25) for number in range(30)]
    assert opened.lost == opened.repeated == 0


@pytest.mark.parametrize(("wild", "shift"), [(0, 1000), (0, 30), (15, 1000), (28, -1)])
def test_a_single_wild_time(wild, shift, make_more):
    """One frame has a time that is wrong by seconds. It is shown in its place."""
    source = make("whole.mkv", grey(LEVELS), options={"qp": "10", "bf": "0", "g": "5"})

    def disturb(number, packet):
        packet.dts = number - 10**6
        packet.pts += round(shift / packet.time_base) * (number == wild)

    found, times, opened = levels(remuxed(source, "in.mkv", disturb))
    assert found == sorted(found)
    assert times == [Fraction(number, 25) for number in range(30)]
    assert opened.lost == opened.repeated == 0


def test_a_wild_first_time_with_b_frames(make_more):
    source = make("whole.mkv", grey(LEVELS), options=B_FRAMES)

    def disturb(number, packet):
        packet.dts = number - 10**6
        packet.pts += round(1000 / packet.time_base) * (number == 0)

    found, times, _ = levels(remuxed(source, "in.mkv", disturb))
    assert found == sorted(found)
    assert times == [Fraction(number, 25) for number in range(30)]


def test_packed_b_frames_in_avi(make_more):
    """XviD and DivX put a B-frame into the packet of the frame after it, and then an empty packet."""
    source = make(
        "whole.avi",
        grey(LEVELS),
        codec="mpeg4",
        options={"bf": "1", "b_strategy": "0", "sc_threshold": "1000000000", "g": "30"},
    )
    with av.open(source) as old:
        packets = [bytes(packet) for packet in old.demux(video=0) if packet.size]
        kinds = ["IPB"[packet[packet.find(PICTURE) + 4] >> 6] for packet in packets]
        assert "".join(kinds[:5]) == "IPBPB"
        start = packets[0].find(PICTURE)
        packets[0] = packets[0][:start] + b"\0\0\1\xb2DivX503b1393p\0" + packets[0][start:]  # says that it is packed
        packed = []
        for packet, kind in zip(packets, kinds, strict=True):
            if kind == "B":
                packed[-1] += packet
                packed.append(PICTURE + b"\x50\x7f")  # a picture that is not coded
            else:
                packed.append(packet)
        with av.open("in.avi", "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for number, content in enumerate(packed):
                packet = av.Packet(content)
                packet.pts = packet.dts = number
                packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, number == 0
                new.mux(packet)
    found, times, opened = levels("in.avi")
    assert np.abs(np.array(found) - LEVELS).max() <= 3
    assert found == sorted(found)
    assert times == [Fraction(number, 25) for number in range(30)]
    assert opened.lost == opened.repeated == 0
