"""Codecs, their options, and containers."""

import av
import numpy as np
import pytest
from helpers.films import make, moving


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
            assert container.streams.video[0].codec_tag == "hvc1"  # the tag that Apple's players need
    if pixel_format.startswith("yuv"):
        scale = 4 if "10" in pixel_format else 1
        assert np.abs(film.planes[2][0] / scale - frames[1][0]).mean() < 4


@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv"])
@pytest.mark.parametrize(("pixel_format", "bits"), [("yuv420p", 8), ("yuv420p10le", 10), ("yuv420p12le", 10)])
def test_ten_bits_become_hevc(target, pixel_format, bits, make_more):
    """Players that support 10 bits support them in HEVC; 8 bits stay in H.264, which every player supports."""
    scale = 1 if pixel_format == "yuv420p" else 4 if pixel_format == "yuv420p10le" else 16
    frames = [[plane * scale for plane in planes] for planes in moving(3)]
    film, notes = make_more(make("in.mkv", frames, 24, "ffv1", pixel_format), target)
    rounded = ["libx265 encodes 10 bits for each colour: the source's 12 bits were rounded"]
    assert notes == (rounded if pixel_format == "yuv420p12le" else [])
    assert film.streams == [("video", "h264" if bits == 8 else "hevc")]
    assert film.format == ("yuv420p" if bits == 8 else "yuv420p10le")
    if bits > 8 and target != "out.mkv":
        with av.open(target) as container:
            assert container.streams.video[0].codec_tag == "hvc1"


@pytest.mark.parametrize(
    ("pixel_format", "kept", "options"),
    [
        ("yuv444p", "yuv444p", {}),
        ("yuv422p", "yuv422p", {}),
        ("gbrp", "yuv444p", {}),
        ("yuv420p", None, {}),
        ("yuv444p", None, {"codec": "ffv1"}),
        ("yuv444p", None, {"pixel_format": "yuv420p"}),
    ],
)
def test_lost_chroma_resolution_is_noted(pixel_format, kept, options, make_more):
    planes = av.VideoFormat(pixel_format, 64, 48).components
    sizes = [(plane.height, plane.width) for plane in planes]
    frames = [[np.full(size, 90 + 5 * number) for size in sizes] for number in range(3)]
    codec = "libx265" if pixel_format == "gbrp" else "ffv1"
    _, notes = make_more(make("in.mkv", frames, 24, codec, pixel_format), "out.mkv", **options)
    lost = f"yuv420p has fewer samples of colour than the source's {pixel_format}"
    assert notes == ([f"{lost}; --pixel-format {kept} keeps them, but fewer players show it"] if kept else [])


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
