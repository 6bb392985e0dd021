"""Which frames a new video has, and when: a stream of source frames to a stream of instants.

The network knows the middle of two frames. Every other moment is reached by halving again and again, so that moments
lie on a grid of halves, quarters, eighths or sixteenths of the time between two frames. Where a moment is not on it,
the nearest eighth is taken: it is never off by more than a sixteenth of that time.
"""

import bisect
import collections
import itertools
import math
from dataclasses import dataclass, replace
from fractions import Fraction

from vfi.cuts import CONTEXT, LONGEST_RUN
from vfi.video.reader import Frame

FACTORS = (2, 4, 8, 16)
GRID = 8  # parts of the time between two frames, for moments that lie on no grid of up to the largest factor
FINE_GRID = 16  # likewise, where motion is spread over copies: thirds and sixths are to be even
# How often each frame of a film is shown, over and over, where copies bring it to a rate of television or of screens:
# of 25 frames per second to 60 and 30, of 24 to 30 and 60. Each begins so that it can be told from itself, shifted.
CADENCES = ([2, 2, 3, 2, 3], [1, 1, 1, 1, 2], [1, 1, 1, 2], [2, 3])
LONGEST_CADENCE = max(map(len, CADENCES))


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
    """Frames between which there is motion, and when.

    Attributes:
        one, two: frames of the source; two is None after the last.
        span: when the motion begins at one, and when it arrives at two; after the last frame, the end of the video.
        times: of the frames of the source that are shown meanwhile, and of the next.
        is_cut: whether there is none, but a change of scene.
    """

    one: Frame
    two: Frame | None
    span: tuple
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
            row, become one `Pair`, and where copies come in the rhythm of a film at a rate of television, that film's
            frames follow one another evenly.
    """
    runs = _runs(frames, last, is_cut, is_copy)
    for run, following in itertools.pairwise(itertools.chain(_evened(runs) if is_copy else runs, [None])):
        end = following.begin if following else run.times[-1]
        yield Pair(run.one, following and following.one, (run.begin, end), run.times, run.is_cut)


@dataclass(frozen=True)
class _Run:
    """A frame and its copies.

    Attributes:
        times: of each, and of what follows or, after the last, of the end of the video.
        begin: when motion from it begins.
        is_cut: whether the scene changes after it.
        is_still: whether it is one of so many copies that nothing moves.
    """

    one: Frame
    times: tuple
    begin: Fraction
    is_cut: bool = False
    is_still: bool = False

    @property
    def length(self):
        """By which a cadence is known: of how many frames it is; 0 at its end."""
        return 0 if self.is_cut or self.is_still else len(self.times) - 1


def _runs(frames, last, is_cut, is_copy):
    """Yields each `_Run`; without `is_copy`, every frame is one."""
    pending = []  # one, and its copies
    is_still = False
    for around in _surroundings(frames):
        one, two = around[CONTEXT : CONTEXT + 2]
        pending.append(one)
        cut = two is not None and is_cut is not None and is_cut(around)
        copies = two is not None and not cut and is_copy is not None and is_copy(one, two)
        if copies and not is_still and len(pending) < LONGEST_RUN:
            continue
        is_still = copies
        times = (*(frame.time for frame in pending), two.time if two else one.time + last)
        if copies:  # a run that is longer stands still: it has no motion to spread
            for frame, *shown in zip(pending, times, times[1:], strict=False):
                yield _Run(frame, tuple(shown), frame.time, is_still=True)
        else:
            yield _Run(pending[0], times, times[0], cut)
        pending = []


def _evened(runs):
    """The same runs; in a cadence that is there twice in a row, each begins as much after the one before as all do."""
    runs = iter(runs)
    before, coming = collections.deque(maxlen=LONGEST_CADENCE), collections.deque()
    while True:
        coming.extend(itertools.islice(runs, 2 * LONGEST_CADENCE - len(coming)))
        if not coming:
            return
        block = [coming.popleft() for _ in range(_cadence(list(before), [run.length for run in coming]))]
        before.extend(run.length for run in block)
        times = [time for run in block for time in run.times[:-1]] + [block[-1].times[-1]]
        begins = [times[0] + (times[-1] - times[0]) * Fraction(number, len(block)) for number in range(len(block) + 1)]
        for run, (begin, end) in zip(block, itertools.pairwise(begins), strict=True):
            shown = times[bisect.bisect_right(times, begin) - 1 : bisect.bisect_left(times, end) + 1]
            yield replace(run, begin=begin, times=tuple(shown))


def _cadence(before, coming):
    """How many of the coming lengths make a cadence that is also that of those before, or of those after; else 1."""
    for cadence in CADENCES:
        count = len(cadence)
        if coming[:count] == cadence and cadence in (before[-count:], coming[count : 2 * count]):
            return count
    return 1


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
                if pair.span[0] <= time < pair.span[1]:
                    yield _instant(pair, time, start)


def resampled(pairs, rate):
    """Yields instants at a constant rate, from the first frame of the source to its end."""
    tick = None
    for pair in pairs:
        for base, following in itertools.pairwise(pair.times):
            start, end = max(base, pair.span[0]), min(following, pair.span[1])
            tick = math.ceil(start * rate) if tick is None else tick
            while tick / rate < end:
                if tick / rate >= start:
                    yield _instant(pair, tick / rate, base)
                tick += 1


def _instant(pair, time, base):
    if pair.two is None:
        return Instant(time, pair.one, None, Fraction(0), base)
    start, end = pair.span
    share = on_grid((time - start) / (end - start), GRID if pair.times == pair.span else FINE_GRID)
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
