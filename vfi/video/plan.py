"""The frames of a new video, by number: which instants of the source they show, from any number on.

Where frames follow one another at a constant rate, the instant of a number is known without reading what is before
it: then a run that is resumed, and each of many machines, reads only what it needs. Elsewhere the source is read from
its start, and frames are counted.
"""

import contextlib
import math
from collections.abc import Generator
from fractions import Fraction

from vfi import cuts
from vfi.video import timing
from vfi.video.background import prefetch
from vfi.video.frame import Frame
from vfi.video.options import VideoOptions
from vfi.video.source import Source

QUEUE = 4  # frames that are decoded ahead


class Plan:
    """The instants of a new video.

    Attributes:
        is_even: whether the instant of a number is known without reading what is before it.
        start: the time of frame 0, in seconds from the source's first frame; None before that is known.
        end: where the next piece begins, if the options end this one; None before that is known, and for the end of
            the source.
    """

    def __init__(self, source: Source, options: VideoOptions) -> None:
        self._source, self._options = source, options
        self._first = options.start or Fraction(0)
        self.is_even = source.rate is not None and options.duplicates == "keep"
        self.start: Fraction | None = None
        self.end: Fraction | None = None
        if source.rate and self.is_even:
            base = Fraction(math.ceil(self._first * source.rate)) / source.rate
            self.start = base if options.rate is None else self._tick_from(base) / options.rate

    def time_of(self, number: int) -> Fraction | None:
        """The time of a frame, as that of its `Instant`; None if it is not known without reading the source."""
        if self.start is None or not self.is_even:
            return None
        rate = self._options.rate
        if rate is None:
            assert self._source.rate
            rate = self._source.rate * self._options.factor
        return self.start + number / rate

    def _tick_from(self, time: Fraction) -> Fraction:
        assert self._options.rate
        return Fraction(math.ceil(time * self._options.rate))

    def instants(self, first: int = 0) -> Generator[tuple[int, timing.Instant[Frame]], None, None]:
        """Yields (number, `Instant`) from frame `first` on. Closing it stops what reads ahead."""
        number, base = self._begin_near(first)
        options, source = self._options, self._source
        finder = cuts.CutFinder(options.scene_threshold)
        frames = prefetch(finder.watch(source.frames(base)), QUEUE)
        is_copy = None if options.duplicates == "keep" else cuts.is_copy
        pairs = timing.pairs(frames, source.last, finder.is_cut, is_copy)
        instants = timing.resampled(pairs, options.rate) if options.rate else timing.multiplied(pairs, options.factor)
        with contextlib.closing(frames):
            for instant in instants:
                if instant.base < base:
                    continue
                if options.end is not None and instant.base >= options.end:
                    self.end = instant.time
                    return
                if self.start is None:
                    self.start = instant.time
                if number >= first:
                    yield number, instant
                number += 1

    def _begin_near(self, first: int) -> tuple[int, Fraction]:
        """A number up to `first`, and the time of the source's frame whose first instant it is."""
        rate, options = self._source.rate, self._options
        if not first or not rate or not self.is_even:
            return 0, self._first
        assert self.start is not None
        if options.rate is None:
            frames = first // options.factor
            return frames * options.factor, self.start + frames / rate
        time = self.start + first / options.rate
        base = Fraction(math.floor(time * rate)) / rate
        return int(self._tick_from(base) - self.start * options.rate), base
