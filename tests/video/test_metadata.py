"""Metadata of frames: those that can be kept are kept, and a note says so of others."""

import io
import re
import subprocess
from fractions import Fraction

import av
import pytest
from av.bitstream import BitStreamFilterContext
from helpers.films import make, moving
from PIL import Image

QUIET = "log-level=none"


def deep(count):
    """Moving frames of 10 bits."""
    return [[4 * plane for plane in planes] for planes in moving(count)]


def chroma_locations(path, field):
    """What the headers of a video's first frame say about the place of chroma, as FFmpeg's tracer prints it."""
    av.logging.set_level(av.logging.INFO)
    try:
        with av.open(path) as container, av.logging.Capture() as lines:
            tracer = BitStreamFilterContext("trace_headers", container.streams.video[0])
            tracer.filter(next(container.demux(video=0)))
    finally:
        av.logging.set_level(None)
    return {int(line.split()[-1]) for _, _, line in lines if f" {field} " in line}


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize(("matrix", "location"), [(9, {2}), (1, set())])
def test_the_place_of_chroma_is_tagged_where_it_is_unusual(codec, matrix, location, make_more):
    """BT.2020 has it at the top left (2). Without a tag, players expect it on the left, where all others have it."""

    def tag(stream):
        stream.codec_context.colorspace = matrix

    make("in.mkv", deep(4), codec="ffv1", pixel_format="yuv420p10le", configure=tag)
    make_more("in.mkv", codec=codec)
    field = "chroma_sample_position" if codec == "libsvtav1" else "chroma_sample_loc_type_top_field"
    assert chroma_locations("out.mp4", field) - {0} == location


def with_units(path, target, before=b"", after=b""):
    """Copies raw HEVC, and puts units of its syntax before and after the first frame."""
    with av.open(path) as old, av.open(target, "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            copy = av.Packet(bytes(packet) if number else before + bytes(packet) + after)
            copy.pts = copy.dts = number
            copy.time_base, copy.stream = Fraction(1, 25), stream
            new.mux(copy)
    return target


def hdr10_plus():
    """A unit of HEVC with HDR10+ metadata: supplemental information, registered by ITU-T T.35."""
    fields = [(4, 8), (1, 8), (1, 2), (400, 27), (0, 1), *[(5000, 17)] * 3, (1000, 17), (0, 4), (10, 10), (0, 3)]
    bits = "".join(f"{value:0{size}b}" for value, size in fields)
    content = bytes.fromhex("b5003c0001") + int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
    return unit(39, bytes([4, len(content)]) + content + b"\x80")


def dolby_vision():
    """A unit of HEVC with the metadata of Dolby Vision, profile 8: the identity, without metadata of the display."""
    content = "19080908406136504f003ff801ffc00fffd000000800000680000040000034000002000000a6206a4a80"
    return unit(62, bytes.fromhex(content))


def unit(kind, content):
    """A unit of HEVC's syntax, in which no bytes look like the start of another."""
    return b"\0\0\0\1" + bytes([kind << 1, 1]) + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", content)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("HDR10+", hdr10_plus(), b""), ("Dolby Vision", b"", dolby_vision())],
)
def test_dynamic_metadata_are_left_out_with_a_note(name, before, after, make_more):
    make("plain.hevc", deep(4), codec="libx265", pixel_format="yuv420p10le", options={"x265-params": QUIET})
    with_units("plain.hevc", "in.hevc", before, after)
    _, notes = make_more("in.hevc")
    assert notes == [f"in.hevc: {name} metadata are left out"]


def test_frames_with_exif(make_more):
    """Cameras write it into motion JPEG. PyAV has no name for this kind of side data."""
    exif = Image.Exif()
    exif[0x112] = 6  # orientation: turned by 90 degrees
    with av.open("in.avi", "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(4):
            content = io.BytesIO()
            Image.new("RGB", (64, 48), (40 * number,) * 3).save(content, "JPEG", exif=exif)
            packet = av.Packet(content.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            out.mux(packet)
    film, notes = make_more("in.avi")
    assert notes == []
    assert (film.count, film.width, film.height) == (8, 48, 64)


def test_transparency_in_hevc_is_left_out_with_a_note(make_more):
    """PyAV decodes only the first layer. Its x265 writes no second one, so another FFmpeg does."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    words = (
        "-loglevel error -f lavfi -i testsrc2=s=64x48:d=0.2,format=yuva420p -c:v libx265 -x265-params log-level=none"
    )
    written = subprocess.run([ffmpeg, *words.split(), "-tag:v", "hvc1", "in.mov"], capture_output=True)
    if written.returncode:
        pytest.skip("this FFmpeg writes no HEVC with transparency")
    _, notes = make_more("in.mov")
    assert notes == ["in.mov: its transparency, a second layer of HEVC, cannot be read: left out"]
