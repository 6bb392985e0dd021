"""Transparency of videos: it is read, interpolated, and kept where the target can hold it; otherwise a note says so."""

import numpy as np
import pytest
from helpers.films import make, moving

from vfi.video.source import open_source

BLENDED = "holds no transparency: the video was blended with white"


def alpha_planes(count, scale=1):
    """A uniform alpha plane for each frame, with the values 20, 40, 60 and so on."""
    return [np.full((48, 64), scale * 20 * (number + 1)) for number in range(count)]


def transparent(name, codec, pixel_format="yuva420p", options=None):
    """Writes a video of four moving frames with transparency."""
    scale = 4 if "10" in pixel_format else 1
    frames = [[scale * plane for plane in planes] for planes in moving(4)]
    if "444" in pixel_format or pixel_format.startswith("gbr"):
        frames = [[luma, *(np.kron(plane, np.ones((2, 2), int)) for plane in chroma)] for luma, *chroma in frames]
    frames = [[*planes, alpha] for planes, alpha in zip(frames, alpha_planes(4, scale), strict=True)]

    def configure(stream):
        if codec.startswith("libvpx"):
            stream.metadata["alpha_mode"] = "1"

    return make(name, frames, codec=codec, pixel_format=pixel_format, options=options or {}, configure=configure)


def levels_of(path):
    """The mean transparency of each frame, in levels of 8 bits; None without transparency."""
    source = open_source(path)
    if not source.layout.alpha:
        return None
    scale = 2 ** (source.layout.bits - 8)
    planes = [frame.planes[-1] for frame in source.frames()]  # pictures have all channels in one plane
    return [float((plane[..., -1] if plane.ndim == 3 else plane).mean()) / scale for plane in planes]


VP9 = ("in.webm", "libvpx-vp9", "yuva420p", {"crf": "10"})
VP8 = ("in.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "b": "2M", "threads": "1"})
PRORES = ("in.mov", "prores_ks", "yuva444p10le", {"profile": "4444"})
FFV1 = ("in.mkv", "ffv1", "yuva420p", {})


UT = ("in.avi", "utvideo", "gbrap", {})


@pytest.mark.parametrize("source", [VP9, VP8, PRORES, FFV1, UT])
@pytest.mark.parametrize(
    ("target", "codec"),
    [
        ("out.webm", None),
        ("out.webm", "libvpx"),
        ("out.mkv", "libvpx-vp9"),
        ("out.mkv", "ffv1"),
        ("out.mov", "prores_ks"),
        ("out.mov", "qtrle"),
        ("frames/%d.png", None),
    ],
)
def test_transparency_is_kept(source, target, codec, make_more):
    path = transparent(*source)
    assert levels_of(path) == pytest.approx([20, 40, 60, 80], abs=3)
    _, notes = make_more(path, target, codec=codec)
    assert not [note for note in notes if BLENDED in note]
    assert levels_of(target) == pytest.approx([20, 30, 40, 50, 60, 70, 80, 80], abs=4)


@pytest.mark.parametrize("source", [VP9, VP8, PRORES, UT])
@pytest.mark.parametrize(("target", "codec"), [("out.mp4", None), ("out.mp4", "libvpx-vp9"), ("out.mkv", None)])
def test_lost_transparency_is_noted(source, target, codec, make_more):
    _, notes = make_more(transparent(*source), target, codec=codec)
    assert [note for note in notes if BLENDED in note]
    assert levels_of(target) is None
