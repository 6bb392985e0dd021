"""Which frames a new video has, and when: a stream of source frames becomes a stream of instants.

The network computes the middle of two frames. Every other moment is reached by halving again and again, so that moments
lie on a grid of halves, quarters, eighths or sixteenths of the time between two frames. A moment off this grid is
moved to the nearest eighth: by at most a sixteenth of that time.

Times are exact fractions. Nothing here decodes, and any object with a `time` is a frame.
"""

import bisect
import collections
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

from vfi.cuts import CONTEXT, LONGEST_RUN

FACTORS = (2, 4, 8, 16)
GRID = 8  # parts of the time between two frames, for moments that are on no grid of up to the largest factor
FINE_GRID = 16  # the same where motion is spread over copies, so that thirds and sixths are evenly spaced
# How many times the frames of a film are shown, in turn, where copies bring the film to a rate of television or of
# screens: from 25 frames per second to 60 and 30, from 24 to 30 and 60. Rotated so that no cadence matches a shifted
# copy of itself.
CADENCES = ([2, 2, 3, 2, 3], [1, 1, 1, 1, 2], [1, 1, 1, 2], [2, 3])
LONGEST_CADENCE = max(map(len, CADENCES))

# Before the first frame that is wanted: what filters, cut detection and cadences look back at.
LOOK_BACK = 2  # seconds, at least
LOOK_BACK_FRAMES = 32


class Timed(Protocol):
    """Anything that is shown from `time` on, in seconds from the first frame of the source."""

    @property
    def time(self) -> Fraction: ...


F = TypeVar("F", bound=Timed)


@dataclass(frozen=True)
class Instant(Generic[F]):
    """A frame of the new video.

    Attributes:
        time: seconds from the first frame of the source; if time is stretched, before stretching.
        one, two: the frames of the source before and after it; two is None after the last.
        share: of the way from one to two: 0 is one itself.
        base: the time of the last frame of the source that is not later.
    """

    time: Fraction
    one: F
    two: F | None
    share: Fraction
    base: Fraction


@dataclass(frozen=True)
class Pair(Generic[F]):
    """Two frames with motion from one to the other, and when.

    Attributes:
        one, two: frames of the source; two is None after the last.
        span: when the motion begins at one, and when it arrives at two; after the last frame, the end of the video.
        times: of the frames of the source that are shown meanwhile, and of the next.
        is_cut: whether the scene changes instead.
    """

    one: F
    two: F | None
    span: tuple[Fraction, Fraction]
    times: tuple[Fraction, ...]
    is_cut: bool = False


def pairs(
    frames: Iterable[F],
    last: Fraction,
    is_cut: Callable[[list[F | None]], bool] | None = None,
    is_copy: Callable[[F, F], bool] | None = None,
) -> Iterator[Pair[F]]:
    """Yields a `Pair` for each frame.

    Args:
        frames: in the order of their times.
        last: seconds for which the last frame is shown.
        is_cut: called with two neighbours and `CONTEXT` more frames on either side (None where there are no more);
            whether the scene changes in the middle.
        is_copy: called with two neighbours; whether they show the same. If given, up to three copies of a frame in a
            row become one `Pair`, and where copies come in the cadence of a film at a rate of television, the frames
            of that film are evenly spaced.
    """
    runs = _runs(frames, last, is_cut, is_copy)
    for run, following in itertools.pairwise(itertools.chain(_evened(runs) if is_copy else runs, [None])):
        assert run is not None  # only the last is
        end = following.begin if following else run.times[-1]
        yield Pair(run.one, following.one if following else None, (run.begin, end), run.times, run.is_cut)


@dataclass(frozen=True)
class _Run(Generic[F]):
    """A frame and its copies.

    Attributes:
        times: of each, and of what follows or, after the last, of the end of the video.
        begin: when motion from it begins.
        is_cut: whether the scene changes after it.
        is_still: whether it is one of so many copies that nothing moves.
    """

    one: F
    times: tuple[Fraction, ...]
    begin: Fraction
    is_cut: bool = False
    is_still: bool = False

    @property
    def length(self) -> int:
        """The number of frames, for comparison with a cadence; 0 where a cadence ends."""
        return 0 if self.is_cut or self.is_still else len(self.times) - 1


def _runs(
    frames: Iterable[F],
    last: Fraction,
    is_cut: Callable[[list[F | None]], bool] | None,
    is_copy: Callable[[F, F], bool] | None,
) -> Iterator[_Run[F]]:
    """Yields each `_Run`; without `is_copy`, every frame is one."""
    pending: list[F] = []  # a frame and its copies
    is_still = False
    for around in _surroundings(frames):
        one, two = around[CONTEXT : CONTEXT + 2]
        assert one is not None  # see _surroundings
        pending.append(one)
        cut = two is not None and is_cut is not None and is_cut(around)
        copies = two is not None and not cut and is_copy is not None and is_copy(one, two)
        if copies and not is_still and len(pending) < LONGEST_RUN:
            continue
        is_still = copies
        times = (*(frame.time for frame in pending), two.time if two else one.time + last)
        if copies:  # a longer run stands still: there is no motion to spread
            for frame, *shown in zip(pending, times, times[1:], strict=False):
                yield _Run(frame, tuple(shown), frame.time, is_still=True)
        else:
            yield _Run(pending[0], times, times[0], cut)
        pending = []


def _evened(runs: Iterator[_Run[F]]) -> Iterator[_Run[F]]:
    """The same runs; where a cadence occurs twice in a row, its runs begin at even intervals."""
    before: collections.deque[int] = collections.deque(maxlen=LONGEST_CADENCE)
    coming: collections.deque[_Run[F]] = collections.deque()
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


def _cadence(before: list[int], coming: list[int]) -> int:
    """How many of the coming lengths are a cadence that the lengths before, or after those, repeat; otherwise 1."""
    for cadence in CADENCES:
        count = len(cadence)
        if coming[:count] == cadence and cadence in (before[-count:], coming[count : 2 * count]):
            return count
    return 1


def _surroundings(frames: Iterable[F]) -> Iterator[list[F | None]]:
    """For each frame a list: `CONTEXT` frames before, itself, the next, and as many after that; None for no frame."""
    around: collections.deque[F | None] = collections.deque([None] * CONTEXT, maxlen=2 * CONTEXT + 2)
    for frame in itertools.chain(frames, [None] * (CONTEXT + 1)):
        around.append(frame)
        if len(around) == around.maxlen and around[CONTEXT] is not None:
            yield list(around)


def multiplied(pairs: Iterable[Pair[F]], factor: int) -> Iterator[Instant[F]]:
    """Yields `factor` instants for each frame of the source, evenly spread up to the next."""
    for pair in pairs:
        for start, end in itertools.pairwise(pair.times):
            for step in range(factor):
                time = start + (end - start) * Fraction(step, factor)
                if pair.span[0] <= time < pair.span[1]:
                    yield _instant(pair, time, start)


def resampled(pairs: Iterable[Pair[F]], rate: Fraction) -> Iterator[Instant[F]]:
    """Yields instants at a constant rate in frames per second, from the first frame of the source to its end."""
    tick = None
    for pair in pairs:
        for base, following in itertools.pairwise(pair.times):
            start, end = max(base, pair.span[0]), min(following, pair.span[1])
            tick = math.ceil(start * rate) if tick is None else tick
            while tick / rate < end:
                if tick / rate >= start:
                    yield _instant(pair, tick / rate, base)
                tick += 1


def _instant(pair: Pair[F], time: Fraction, base: Fraction) -> Instant[F]:
    if pair.two is None:
        return Instant(time, pair.one, None, Fraction(0), base)
    start, end = pair.span
    share = on_grid((time - start) / (end - start), GRID if pair.times == pair.span else FINE_GRID)
    if pair.is_cut:  # nothing is interpolated: the nearer frame is shown
        share = Fraction(share > Fraction(1, 2))
    return Instant(time, pair.one, pair.two, share, base)


def on_grid(share: Fraction, grid: int = GRID) -> Fraction:
    """The nearest share of the way that halving reaches."""
    if share.denominator in (1, *FACTORS):
        return share
    return Fraction(round(share * grid), grid)


def look_back(rate: Fraction | None) -> Fraction:
    """Seconds before the first frame that is wanted, from which on frames are needed."""
    return max(Fraction(LOOK_BACK), LOOK_BACK_FRAMES / rate) if rate else Fraction(LOOK_BACK)


def exact_rate(rate: Fraction | float) -> Fraction:
    """The rate that is meant: containers round 24000/1001 to what fits their fields."""
    rate = Fraction(rate)
    for exact in (Fraction(round(rate)), Fraction(round(rate * 1001 / 1000) * 1000, 1001)):
        if abs(rate - exact) < rate * Fraction(1, 500_000):
            return exact
    return rate


def seconds(text: str) -> Fraction:
    """Reads hh:mm:ss.fff, mm:ss.fff or seconds.

    Raises:
        ValueError: the text is nothing of this.
    """
    total = Fraction(0)
    for part in text.split(":"):
        total = 60 * total + Fraction(part)
    return total
