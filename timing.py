"""Which frames a new video has, and when: a stream of source frames to a stream of instants.

The network knows the middle of two frames. Every other moment is reached by halving again and again, so that moments
lie on a grid of halves, quarters, eighths or sixteenths of the time between two frames. Where a moment is not on it,
the nearest eighth is taken: it is never off by more than a sixteenth of that time.
"""

import collections
import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

from decoding import Frame

FACTORS = (2, 4, 8, 16)
GRID = 8  # parts of the time between two frames, for moments that lie on no grid of up to the largest factor
FINE_GRID = 16  # likewise, where motion is spread over copies: thirds and sixths are to be even
LONGEST_RUN = 3  # copies of a frame, itself included, that motion may be computed across
CONTEXT = LONGEST_RUN  # frames on either side by which a cut is told from motion: there one is that is no copy


@dataclass(frozen=True)
class Instant:
    """A frame of the new video.

    Attributes:
        time: in seconds from the first frame of the source; where time is stretched, times that.
        one, two: the frames of the source that it lies between; two is None after the last.
        share: of the way from one to two: 0 is one itself.
        base: the time of the last frame of the source that is not later.
    """

    time: Fraction
    one: Frame
    two: Frame | None
    share: Fraction
    base: Fraction


@dataclass(frozen=True)
class Pair:
    """Neighbouring frames, and when the source shows a frame from one up to two, copies of one included.

    `times` ends with the time of two or, after the last frame, with the end of the video.
    """

    one: Frame
    two: Frame | None
    times: tuple
    is_cut: bool = False


def pairs(frames, last, is_cut=None, is_copy=None):
    """Yields a `Pair` for each frame.

    Args:
        frames: an iterable of `Frame`.
        last: for how long the last one is shown.
        is_cut: asked with two neighbours in the middle of `CONTEXT` more on either side (None where there are no more)
            whether the scene changes between the two.
        is_copy: asked with two neighbours whether they show the same; if given, copies of a frame, up to three in a
            row, become one `Pair`.
    """
    pending = []  # the frames of the pair so far: one, and its copies
    is_still = False
    for around in _surroundings(frames):
        one, two = around[CONTEXT : CONTEXT + 2]
        pending.append(one)
        cut = two is not None and is_cut is not None and is_cut(around)
        copies = two is not None and not cut and is_copy is not None and is_copy(one, two)
        if copies and not is_still and len(pending) < LONGEST_RUN:
            continue
        is_still = copies
        if copies:  # a run that is longer stands still: it has no motion to spread
            for frame, following in zip(pending, [*pending[1:], two], strict=True):
                yield Pair(frame, following, (frame.time, following.time))
        else:
            end = two.time if two else one.time + last
            yield Pair(pending[0], two, (*(frame.time for frame in pending), end), cut)
        pending = []


def _surroundings(frames):
    """For each frame a list: `CONTEXT` frames before, itself, the next, and as many after that; None where none is."""
    around = collections.deque([None] * CONTEXT, maxlen=2 * CONTEXT + 2)
    for frame in itertools.chain(frames, [None] * (CONTEXT + 1)):
        around.append(frame)
        if len(around) == around.maxlen and around[CONTEXT] is not None:
            yield list(around)


def multiplied(pairs, factor):
    """Yields `factor` instants for each frame of the source, evenly spread up to the next."""
    for pair in pairs:
        for start, end in itertools.pairwise(pair.times):
            for step in range(factor):
                time = start + (end - start) * Fraction(step, factor)
                yield _instant(pair, time, start)


def resampled(pairs, rate):
    """Yields instants at a constant rate, from the first frame of the source to its end."""
    tick = None
    for pair in pairs:
        for start, end in itertools.pairwise(pair.times):
            tick = math.ceil(start * rate) if tick is None else tick
            while tick / rate < end:
                if tick / rate >= start:
                    yield _instant(pair, tick / rate, start)
                tick += 1


def _instant(pair, time, base):
    if pair.two is None:
        return Instant(time, pair.one, None, Fraction(0), base)
    share = (time - pair.one.time) / (pair.two.time - pair.one.time)
    share = on_grid(share, GRID if len(pair.times) == 2 else FINE_GRID)
    if pair.is_cut:  # nothing is morphed: the nearer one is shown
        share = Fraction(share > Fraction(1, 2))
    return Instant(time, pair.one, pair.two, share, base)


def on_grid(share, grid=GRID):
    """The share of the way that can be computed, nearest to the one that is wanted."""
    if share.denominator in (1, *FACTORS):
        return share
    return Fraction(round(share * grid), grid)


def between(one, two, share, halfway, known):
    """What lies at `share` of the way from one to two, by halving.

    Args:
        halfway: computes the middle of two.
        known: {share: frame} of this pair, which is added to.
    """
    low, high = Fraction(0), Fraction(1)
    known.setdefault(low, one)
    known.setdefault(high, two)
    while share not in known:
        middle = (low + high) / 2
        if middle not in known:
            known[middle] = halfway(known[low], known[high])
        if share < middle:
            high = middle
        else:
            low = middle
    return known[share]
