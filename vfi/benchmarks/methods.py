"""The methods that benchmark.py compares: the network, and two baselines.

Each method takes two frames, uint8 (H, W, 3), RGB, and returns the frame in the middle, float32 in the range [0, 255],
not rounded, of the same shape.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfi.errors import BenchmarkError
from vfi.interpolator import Interpolator

Frame = NDArray[np.uint8]
Result = NDArray[np.float32]
Interpolation = Callable[[Frame, Frame], Result]


# FFmpeg's motion compensation at its best, without its detection of scene changes
MINTERPOLATE = "fps=2:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=none"
MINTERPOLATE_SMALLEST = 32  # pixels of a side: two of its blocks


@dataclass(frozen=True)
class Method:
    """A method to measure.

    Attributes:
        label: its name in tables.
        settings: all that its pictures depend on, as JSON.
        interpolate: the function.
    """

    label: str
    settings: dict[str, Any]
    interpolate: Interpolation


def average(one: Frame, two: Frame) -> Result:
    """The mean of the two frames: interpolation without any knowledge of motion."""
    return (one.astype(np.float32) + two) / np.float32(2)


def minterpolate(one: Frame, two: Frame) -> Result:
    """FFmpeg's filter minterpolate, from the libraries that PyAV brings.

    The filter needs four frames around a gap. Each frame is therefore given twice: one, one, two, two at one frame per
    second, from which the filter makes five frames at two per second. The fourth is the middle.

    Raises:
        BenchmarkError: the frames are too small for it.
    """
    import av  # here: only this baseline needs its libraries

    height, width = one.shape[:2]
    if min(height, width) < MINTERPOLATE_SMALLEST:
        raise BenchmarkError(f"{width}x{height} is too small for minterpolate: {MINTERPOLATE_SMALLEST} pixels a side")
    graph: Any = av.filter.Graph()
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


def unrounded(interpolator: Interpolator) -> Interpolation:
    """The method of an `Interpolator`, without its rounding."""

    def interpolate(one: Frame, two: Frame) -> Result:
        middle: Result = interpolator(*(frame / np.float32(255) for frame in (one, two))) * np.float32(255)
        return middle

    return interpolate


BASELINES: dict[str, Interpolation] = {"average": average, "minterpolate": minterpolate}


def to_8_bits(picture: Result, truncate: bool = False) -> Frame:
    """Rounds a method's picture to uint8; `truncate` drops the fractions, as the first public code does."""
    picture = np.clip(picture, 0, 255)
    return (picture if truncate else np.rint(picture)).astype(np.uint8)
