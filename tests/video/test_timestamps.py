"""Times that cannot be right: every frame that can be decoded is shown, in the right order, at a steady rate."""

from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.films import grey, make, moving

from vfi.video.source import open_source

LEVELS = list(range(50, 80))  # of grey, by which frames are known
B_FRAMES = {"preset": "medium", "qp": "10", "bf": "3", "g": "30"}


def levels(path):
    """What `open_source` gives: the grey level of each frame, the times, and the source."""
    source = open_source(path)
    frames = list(source.frames())
    return [round(float(frame.planes[0].mean())) for frame in frames], [frame.time for frame in frames], source


def remuxed(path, target, change):
    """Copies the packets of a video, with their times changed by change(number of the packet, packet)."""
    with av.open(path) as old, av.open(target, "w") as new:
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
def test_frames_that_are_stored_in_another_order(name, codec, options, make_more):
    """AVI stores no times but the order of decoding; other containers have times, or none at all."""
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
    """A number that no packet has repeats the frame before: such gaps stay where they are."""
    source = make("whole.avi", moving(12), options=B_FRAMES)

    def shift(number, packet):
        packet.dts += 2 * (number >= 8)
        packet.pts = packet.dts

    _, times, opened = levels(remuxed(source, "gap.avi", shift))
    assert len(times) == 14
    assert times == [Fraction(number, 25) for number in range(14)]
    assert opened.lost == 0


@pytest.mark.parametrize("options", [{"qp": "10", "bf": "0"}, B_FRAMES])
def test_a_repeated_time_before_a_gap_is_moved_into_it(options, make_more):
    """As a wrong packet of Matroska has it: the frame is not dropped, and the rate stays constant."""
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


def test_frames_that_are_shown_longer_than_they_last(make_more):
    """As in Matroska made of packets without times: a millisecond apart, but with the duration of the true rate."""
    source = make("whole.mkv", grey(LEVELS), options={"qp": "10", "bf": "0"})

    def squeeze(number, packet):
        packet.pts = packet.dts = number
        packet.duration = 40

    _, times, opened = levels(remuxed(source, "in.mkv", squeeze))
    assert len(times) == 30
    assert opened.lost == 0


def test_times_that_wrap_around_in_a_transport_stream(make_more):
    """Times there have 33 bits: after 26.5 hours they begin again at zero."""
    wrap = (2**33 - 27000) / 90000  # seconds; 0.3 s before the end
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


def test_a_transport_stream_that_begins_again(make_more):
    """Two streams one after the other, as some recorders and editors write them."""
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
