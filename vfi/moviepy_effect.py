"""More frames for those who edit with moviepy 2.

from moviepy import VideoFileClip
from vfi.moviepy_effect import SepConv
smooth = VideoFileClip("in.mp4").with_effects([SepConv(factor=2)])
"""

import math
from fractions import Fraction

from moviepy import Effect

from vfi.interpolator import Interpolator
from vfi.video import timing


class SepConv(Effect):
    """A moviepy effect: `factor` times the frames per second, at the same length.

    Args:
        factor: 2, 4, 8 or 16.
        interpolator: an `Interpolator`, to share one among effects; otherwise one is made with what else is given.

    Raises:
        ValueError: another factor, or, when it is applied, a clip that has no rate.
    """

    def __init__(self, factor=2, interpolator=None, **network):
        if factor not in timing.FACTORS:
            raise ValueError(f"factor is {factor}, expected 2, 4, 8 or 16")
        self.factor = factor
        self.interpolator = interpolator or Interpolator(**network)

    def apply(self, clip):
        """The clip with more frames; masks and sound are those of the clip."""
        rate = getattr(clip, "fps", None)
        if not rate:
            raise ValueError("the clip has no frames per second: set them with with_fps")
        last = math.ceil(clip.duration * rate - 1e-6) - 1 if clip.duration else math.inf
        originals = {}  # {number: frame}, of the pair at hand
        between = {}  # {number of the pair: {share: frame}}, likewise

        def original(number):
            if number not in originals:
                originals[number] = clip.get_frame((number + 1e-3) / rate)
            return originals[number]

        def frame(time):
            number, part = divmod(max(0, int(time * rate * self.factor + 1e-3)), self.factor)
            if number >= last:  # after the last frame there is none to go to
                number, part = last, 0
            for old in [old for old in originals if not number <= old <= number + 1]:
                del originals[old]
            if part == 0:
                return original(number)
            if number not in between:
                between.clear()
            known = between.setdefault(number, {})
            share = Fraction(part, self.factor)
            return timing.between(original(number), original(number + 1), share, self.interpolator, known)

        return clip.with_updated_frame_function(frame).with_fps(rate * self.factor)
