"""Colours, sizes and orientations are kept; interlaced sources are deinterlaced."""

from fractions import Fraction

import numpy as np
import pytest
from helpers.films import Film, grey, make, moving


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
    """New frames between two of almost the same colour have that colour, even if it lies outside RGB."""
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
            if kind == kinds[0]:  # rationals may be written in more than one way
                old, new = (values[:20:2] / values[1:20:2] for values in (old, new))
            assert old == pytest.approx(new, abs=1e-4 if codec == "libsvtav1" else 0)  # AV1 stores binary fractions


def test_a_note_names_what_a_codec_cannot_keep(make_more):
    frames = [[plane * 16 for plane in planes] for planes in moving(3)]
    source = make("in.mkv", frames, 24, "ffv1", "yuv420p12le")
    film, notes = make_more(source)
    assert notes == ["libx265 encodes 10 bits for each colour: the source's 12 bits were rounded"]
    assert film.format == "yuv420p10le"


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotated_videos_of_phones(degrees, mirrored, make_more):
    frames = [
        [np.pad(np.full((20, 30), 200), ((0, 28), (0, 34)), constant_values=40), *planes[1:]]
        for planes in grey([0] * 3)
    ]
    source = make("in.mp4", frames, configure=lambda stream: stream.set_display_rotation(degrees, hflip=mirrored))
    film, notes = make_more(source)
    assert notes == []
    assert (film.width, film.height) == ((48, 64) if degrees % 180 else (64, 48))
    assert all(frame.rotation == 0 for frame in film.frames)
    upright = np.rot90(frames[0][0], degrees // 90)  # both rotate counterclockwise
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


@pytest.fixture
def interlaced():
    """The two fields of each frame are of different times, as from interlaced cameras."""
    fields = moving(20, step=3)
    frames = []
    for top, bottom in zip(fields[::2], fields[1::2], strict=True):
        luma = top[0].copy()
        luma[1::2] = bottom[0][1::2]
        frames.append([luma, *top[1:]])
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "qp": "0", "preset": "ultrafast"}
    return make("in.mp4", frames, options=options)


def comb(plane):
    """How much more odd rows differ from even ones than rows of the same parity differ."""
    plane = plane.astype(int)
    return (
        np.abs(plane[1:-1] - (plane[:-2] + plane[2:]) / 2).mean()
        - np.abs(plane[2:-2] - (plane[:-4] + plane[4:]) / 2).mean() / 4
    )


def test_interlaced_sources_are_noted_and_deinterlaced(interlaced, make_more):
    film, notes = make_more(interlaced, crf=4)
    kept, kept_notes = make_more(interlaced, deinterlace=False, crf=4)
    assert notes == ["in.mp4 is interlaced: its frames are deinterlaced"]
    assert kept_notes == ["in.mp4 is interlaced: its frames are taken as they are"]
    assert film.count == kept.count == 20
    assert film.rate == 50
    assert np.median([comb(planes[0]) for planes in kept.planes[::2]]) > 3 * np.median(
        [comb(planes[0]) for planes in film.planes[::2]]
    )
