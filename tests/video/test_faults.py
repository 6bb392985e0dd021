"""Sources and targets that are damaged or cannot be used."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.films import grey, make, moving
from helpers.videos import refused


def test_files_that_are_not_videos():
    Path("text.mp4").write_text("no video at all" * 100)
    Path("empty.mp4").write_bytes(b"")
    Path("empty").mkdir()
    refused("missing.mp4 cannot be read: no such file or directory", "missing.mp4")
    refused("text.mp4 is not a video, is damaged", "text.mp4")
    content = Path(make("whole.mp4", grey([50, 60, 70]))).read_bytes()
    Path("unfinished.mp4").write_bytes(content[: content.index(b"moov") - 4])
    refused("unfinished.mp4 has no index", "unfinished.mp4")
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
    refused("nothing.mkv is not a video, is damaged", "nothing.mkv")  # it ends before the first frame
    make("in.avi", moving(3), codec="mpeg4")
    with av.open("in.avi") as old, av.open("nothing.avi", "w") as new:
        new.add_stream_from_template(old.streams.video[0], opaque=True)
        new.start_encoding()
    refused("nothing.avi has no frames", "nothing.avi")


def test_targets_that_cannot_be_written():
    source = make("in.mp4", moving(3))
    Path("full").mkdir()
    Path("full/thing").write_text("")
    refused("in.mp4 is the input, which it would replace: name another file", target=source, usage=True)
    if sys.platform == "linux":  # not even root can write to /proc
        refused("/proc/out.mp4 cannot be written: no ", target="/proc/out.mp4")
    refused("no/out.mp4 cannot be written: there is no folder no", target="no/out.mp4")
    refused("full is a folder that is not empty", target="full")
    Path("plain").write_text("")
    refused("plain exists, and is neither a folder nor a video", target="plain")
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.mp4")
        refused("pipe.mp4 exists, and is neither a folder nor a video", target="pipe.mp4")
    source = make("vfr.mp4", moving(3), times=[0, 5, 90], time_base=Fraction(1, 100))
    refused("has a rate that varies, which avi cannot hold", source, "out.avi")


@pytest.mark.parametrize(
    ("message", "wishes"),
    [
        ("the extension .txt is not known: use one of mp4, m4v, mov", {"target": "out.txt"}),
        ("more/%02d.txt: .txt is not an extension of pictures: use one of png, jpg", {"target": "more/%02d.txt"}),
        ("%02d-%02d.png has more than one place for a number", {"target": "%02d-%02d.png"}),
        ("libvpx-vp9 does not know the pixel format yuva420p", {"codec": "libvpx-vp9", "pixel_format": "yuva420p"}),
        ("more is for pictures, which have no codec", {"target": "more", "codec": "libx264"}),
        ("encoder libfoo is not in this build of FFmpeg", {"codec": "libfoo"}),
        ("encoder aac is not for video", {"codec": "aac"}),
        ("encoder ffv1 has no crf", {"target": "out.mkv", "codec": "ffv1", "crf": 3}),
        ("encoder libx264 has no preset sleepy: use one of ultrafast, ", {"preset": "sleepy"}),
        ("encoder libx264 does not know the pixel format pal8: use one of yuv420p, ", {"pixel_format": "pal8"}),
        ("webm does not accept libx264", {"target": "out.webm", "codec": "libx264"}),
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
def test_options_that_cannot_be_satisfied(message, wishes, capfd):
    make("in.mp4", moving(3))
    refused(message, usage=True, **wishes)
    assert capfd.readouterr().err == ""


def test_encoders_that_refuse_options_or_frames():
    """Some encoders fail when they are opened, such as those for missing hardware, and one at the first frame."""
    make("in.mkv", moving(3), codec="ffv1")
    refused(
        "libsvtav1 cannot encode yuv420p of 64x48 with crf 24, preset 99: ", "in.mkv", codec="libsvtav1", preset="99"
    )
    make("odd.mkv", moving(3, 62, 48), codec="ffv1")
    refused("cljr cannot encode the frames: experimental", "odd.mkv", "out.avi", codec="cljr")
    if not torch.cuda.is_available():
        refused(
            "h264_nvenc cannot encode yuv420p of 64x48 with rc constqp, qp 23", "in.mkv", codec="h264_nvenc", crf=23
        )


def test_one_frame(make_more):
    film, notes = make_more(make("in.mp4", grey([60])))
    assert film.levels == pytest.approx([60, 60], abs=1)
    assert notes == ["in.mp4 has only one frame: there is nothing to interpolate"]
    _, notes = make_more("in.mp4", factor=4)
    assert notes == ["in.mp4 has only one frame: there is nothing to interpolate"]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_files_truncated_in_the_middle(suffix, make_more):
    """The frames that can be decoded are used; if the file states its length, a note says how many are missing."""
    # Random pictures make the files large enough to be truncated.
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
    """The frame before a lost one is shown longer, so that sound stays in time."""
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


def test_a_change_of_size(make_more):
    parts = [make("one.ts", moving(5)), make("two.ts", moving(5, 80, 64))]
    Path("in.ts").write_bytes(b"".join(Path(part).read_bytes() for part in parts))
    refused("in.ts changes its size from 64x48 to 80x64 after 5 frames", "in.ts")


def test_a_change_of_size_of_interlaced_video():
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "qp": "0", "preset": "ultrafast"}
    parts = [make(f"{width}.ts", moving(5, width, 64), options=options) for width in (80, 64)]
    Path("in.ts").write_bytes(b"".join(Path(part).read_bytes() for part in parts))
    refused("in.ts changes its size from 80x64 to 64x64 after 5 frames", "in.ts")


@pytest.mark.parametrize(
    ("times", "moved"),
    [
        ([0, 100, 240, 240, 700, 900, 1000, 1210, 1300, 1420, 1600], 380),
        ([0, 100, 240, 240, 330, 500, 600, 710, 900, 1020, 1200], None),
    ],
)
def test_two_frames_with_the_same_time(times, moved, make_more):
    """If a gap follows, the second frame is shown in the gap; otherwise it is left out, and a note says so."""
    moments = [*times[:3], 241, *times[4:]]
    source = make("whole.mkv", grey(range(50, 61)), codec="ffv1", times=moments, time_base=Fraction(1, 1000))
    with av.open(source) as old, av.open("in.mkv", "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = 240 if packet.pts == 241 else packet.pts
                packet.stream = stream
                new.mux(packet)
    film, notes = make_more("in.mkv")
    lost = ["in.mkv: 1 frame with the time of the frame before could not be placed: left out"]
    assert notes == ([] if moved else lost)
    expected = sorted({*times, *([moved] if moved else [])})
    assert film.times[::2] == pytest.approx([time / 1000 for time in expected], abs=1e-6)


def test_a_variable_rate_with_a_complicated_average(make_more):
    """As in videos of phones: a fine time base and thousands of frames give a fraction of large numbers."""
    times = np.cumsum(np.random.default_rng(0).integers(2990, 3010, 1500)).tolist()
    source = make("in.mp4", grey([60, 61] * 750, 16, 16), times=times, time_base=Fraction(1, 90000))
    film, notes = make_more(source, preset="ultrafast", scene_threshold=None)
    assert notes == []
    assert film.times[2::2] == pytest.approx([(time - times[0]) / 90000 for time in times[1:]], abs=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_memory_does_not_grow_with_length():
    script = (
        "import sys, resource; from vfi.video import job as video\n"
        "video.interpolate(sys.argv[1], 'out.mp4', lambda one, two: (one + two) / 2)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (30, 600):
        make("in.mp4", moving(30, 160, 120) * (count // 30), options={"crf": "30", "preset": "ultrafast"})
        words = [sys.executable, "-c", script, "in.mp4"]
        peaks.append(int(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] < 1.05 * peaks[0]
