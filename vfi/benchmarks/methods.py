"""The ways from two frames to the one between them that benchmark.py compares: the network and two yardsticks.

Each takes uint8 arrays (H, W, 3), RGB, and gives float32 in the range [0, 255], not rounded, of the same shape.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vfi.errors import PictureError

YARDSTICKS = ("average", "minterpolate")

# FFmpeg's motion compensation at its best, without its own idea of what a change of scene is.
MINTERPOLATE = "fps=2:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=none"
MINTERPOLATE_SMALLEST = 32  # pixels of a side: two of its blocks


@dataclass(frozen=True)
class Method:
    """What is measured: how people call it, all that its pictures depend on, and the function that makes them."""

    label: str
    settings: dict
    between: Callable


def average(one, two):
    """The mean of the two frames: what is left of a picture when nothing is known of its motion."""
    return (one.astype(np.float32) + two) / 2


def minterpolate(one, two):
    """FFmpeg's filter minterpolate, from the libraries that PyAV brings.

    It looks at four frames around a gap, so that each of the two is given twice: one, one, two, two at one frame a
    second, of which it makes five at two a second. The fourth is the middle.

    Raises:
        PictureError: the frames are too small for it.
    """
    import av  # a tenth of a second, and its libraries, for this yardstick alone

    height, width = one.shape[:2]
    if min(height, width) < MINTERPOLATE_SMALLEST:
        raise PictureError(f"{width}x{height} is too small for minterpolate: {MINTERPOLATE_SMALLEST} pixels a side")
    graph = av.filter.Graph()
    chain = [
        graph.add("buffer", f"video_size={width}x{height}:pix_fmt=rgb24:time_base=1/1:frame_rate=1/1"),
        graph.add("minterpolate", MINTERPOLATE),
        graph.add("format", "pix_fmts=rgb24"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*chain).configure()
    for second, pixels in enumerate((one, one, two, two)):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = second, Fraction(1)
        graph.push(frame)
    graph.push(None)
    for _ in range(3):
        graph.pull()
    return graph.pull().to_ndarray().astype(np.float32)


def network(interpolator):
    """An `Interpolator` without its rounding."""

    def between(one, two):
        return interpolator(*(frame / np.float32(255) for frame in (one, two))) * np.float32(255)

    return between


ENSEMBLE = 8  # calls of a method for one picture


def ensemble(between):
    """The mean of what `between` makes of the four flips of the frames, in both orders (arXiv 2011.01280)."""

    def averaged(one, two):
        pictures = []
        for rows, columns in itertools.product((1, -1), repeat=2):
            flip = np.s_[::rows, ::columns]
            for first, second in ((one, two), (two, one)):
                pictures.append(between(first[flip], second[flip])[flip])
        return np.mean(pictures, axis=0, dtype=np.float32)

    return averaged


def to_8_bits(picture, truncate=False):
    """What a file would hold of a method's picture; `truncate` drops the fractions, as the first public code does."""
    picture = np.clip(picture, 0, 255)
    return (picture if truncate else np.rint(picture)).astype(np.uint8)
