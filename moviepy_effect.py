"""More frames for those who edit with moviepy 2.

from moviepy import VideoFileClip
from moviepy_effect import SepConv
smooth = VideoFileClip("in.mp4").with_effects([SepConv(factor=2)])
"""

import math

from moviepy import Effect

from network import Interpolator


class SepConv(Effect):
    """A moviepy effect: `factor` times the frames per second, at the same length.

    Args:
        factor: 2, 4, 8 or 16.
        interpolator: an `Interpolator`, to share one among effects; otherwise one is made with what else is given.

    Raises:
        ValueError: another factor, or, when it is applied, a clip that has no rate.
    """

    def __init__(self, factor=2, interpolator=None, **network):
        if factor not in (2, 4, 8, 16):
            raise ValueError(f"factor is {factor}, expected 2, 4, 8 or 16")
        self.factor = factor
        self.interpolator = interpolator or Interpolator(**network)

    def apply(self, clip):
        """The clip with more frames; masks and sound are those of the clip."""
        rate = getattr(clip, "fps", None)
        if not rate:
            raise ValueError("the clip has no frames per second: set them with with_fps")
        last = math.ceil(clip.duration * rate - 1e-6) - 1 if clip.duration else math.inf
        known = {}  # {(number of a frame, in parts of the new rate): frame}, of the pair at hand

        def at(step):
            if step not in known:
                known[step] = clip.get_frame((step / self.factor + 1e-3) / rate)
            return known[step]

        def halfway(low, high, wanted):
            while True:
                middle = (low + high) // 2
                if middle not in known:
                    known[middle] = self.interpolator(at(low), at(high))
                if middle == wanted:
                    return known[middle]
                low, high = (low, middle) if wanted < middle else (middle, high)

        def frame(time):
            step = max(0, int(time * rate * self.factor + 1e-3))
            first = step - step % self.factor
            if first >= last * self.factor:  # after the last frame there is none to go to
                return at(last * self.factor)
            for old in [old for old in known if not first <= old <= first + self.factor]:
                del known[old]
            return at(first) if step == first else halfway(first, first + self.factor, step)

        return clip.with_updated_frame_function(frame).with_fps(rate * self.factor)
