"""More frames for moviepy 2.

from moviepy import VideoFileClip
from vfi.moviepy_effect import SepConv
smooth = VideoFileClip("in.mp4").with_effects([SepConv(factor=2)])
"""

import math
from fractions import Fraction
from typing import Any

from moviepy import Effect
from numpy.typing import NDArray

from vfi.interpolator import Interpolator
from vfi.video.render import at
from vfi.video.timing import FACTORS

ROUNDING = 1e-3  # of a frame: how inexact moviepy's times, which are floating-point seconds, may be


class SepConv(Effect):
    """A moviepy effect: `factor` times the frames per second, at the same length.

    Args:
        factor: 2, 4, 8 or 16.
        interpolator: to share one among effects; by default, one is made with the other arguments.

    Raises:
        ValueError: another factor; or, when the effect is applied, a clip without a rate.
    """

    def __init__(self, factor: int = 2, interpolator: Interpolator | None = None, **network: Any) -> None:
        if factor not in FACTORS:
            raise ValueError(f"factor is {factor}, expected 2, 4, 8 or 16")
        self.factor = factor
        self.interpolator = interpolator or Interpolator(**network)

    def apply(self, clip: Any) -> Any:
        """The clip with more frames; its mask and its sound stay as they are."""
        rate = getattr(clip, "fps", None)
        if not rate:
            raise ValueError("the clip has no frames per second: set them with with_fps")
        last = math.ceil(clip.duration * rate - 1e-6) - 1 if clip.duration else math.inf
        originals: dict[int, NDArray[Any]] = {}  # {number: frame} of the current pair
        computed: dict[int, dict[Fraction, NDArray[Any]]] = {}  # {number of the pair: {share: frame}} of the same

        def original(number: int) -> NDArray[Any]:
            if number not in originals:
                originals[number] = clip.get_frame((number + ROUNDING) / rate)
            return originals[number]

        def frame(time: float) -> NDArray[Any]:
            number, part = divmod(max(0, int(time * rate * self.factor + ROUNDING)), self.factor)
            if number >= last:  # there is no frame after the last one
                number, part = int(last), 0
            for old in [old for old in originals if not number <= old <= number + 1]:
                del originals[old]
            if part == 0:
                return original(number)
            if number not in computed:
                computed.clear()
            known = computed.setdefault(number, {})
            return at(Fraction(part, self.factor), original(number), original(number + 1), self.interpolator, known)

        return clip.with_updated_frame_function(frame).with_fps(rate * self.factor)
