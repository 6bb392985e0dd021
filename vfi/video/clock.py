"""When the frames of a video file are shown, as its packets say before anything is decoded.

No header says whether the rate is constant, and times may be wrong in many ways: missing, repeated, in the order of
decoding, or begun anew where recordings were joined. Every frame that can be decoded gets its own time if possible.
"""

import bisect
import collections
import contextlib
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from vfi.errors import VideoError
from vfi.video.timing import exact_rate, seconds

FILM = Fraction(4, 5)  # of the rate of video that film is shown in
DEFAULT_RATE = Fraction(25)  # frames per second of pictures, and of files that do not state a rate
GAP = 1.5  # steps between frames: a longer one has room for another frame
PULLDOWN = 2.5  # fields of video for which a frame of film is shown, on average
FEWEST_OF_FILM = 10  # frames by which a film can be told from other videos of a varying rate
MOST_REORDERED = 16  # frames by which codecs move a frame from its place, at most
USEFUL = 0.9  # share of frames with a time of their own, below which the times of a file are not used


@dataclass(frozen=True)
class Restart:
    """A place in a file from which on times begin anew, as where recordings were joined.

    Attributes:
        position: in bytes.
        shift: seconds to add to all times from there on.
    """

    position: int
    shift: Fraction


@dataclass(frozen=True)
class Clock:
    """When the frames of a file are shown; the attributes that `VideoFile` has, too, are described there.

    Attributes:
        is_numbered: whether frames have no usable times: then they are numbered.
        in_decoding_order: whether times follow the order of decoding, not that in which frames are shown.
        places: for a time that is wrong, or that several frames have: when these frames are shown, in rising order.
        restarts: where times begin anew, in the order of the file.
        film_rate: see `_film_rate`.
        lost: how many frames only seem to be lost (0 or less).
    """

    rate: Fraction | None
    count: int
    last: Fraction
    length: Fraction
    origin: Fraction
    start: Fraction
    time_base: Fraction
    is_numbered: bool
    in_decoding_order: bool
    places: dict[int, list[int]]
    restarts: tuple[Restart, ...]
    film_rate: Fraction | None
    lost: int

    @property
    def can_seek(self) -> bool:
        """Whether a time leads to the right frame without reading all frames before."""
        return not self.is_numbered and not self.restarts

    def place(self, time: int, latest: int | None) -> int:
        """When a frame with this time is shown, after one that is shown at `latest`; in the stream's time base."""
        return next((place for place in self.places.get(time, ()) if latest is None or place > latest), time)

    def shift_at(self, position: int) -> Fraction:
        """Seconds to add to the time of a packet of any stream at this position in the file."""
        number = bisect.bisect_right(self.restarts, position, key=lambda restart: restart.position)
        return self.restarts[number - 1].shift if number else Fraction(0)


@dataclass(frozen=True)
class _Packet:
    """What a packet with a frame that is shown says; its time is in the stream's time base, None if it has none."""

    time: int | None
    is_key: bool
    position: int


@dataclass(frozen=True)
class _Packets:
    """What the packets of a video say.

    Attributes:
        shown: packets with a frame that is shown.
        unseen: how many packets have none.
        last: for how long the frame with the largest time is shown.
    """

    shown: list[_Packet]
    unseen: int
    last: int

    @property
    def times(self) -> list[int | None]:
        return [packet.time for packet in self.shown]


def read_clock(path: Path, container: Any, stream: Any, as_film: bool) -> Clock:
    """Reads all packets of a video, without decoding them.

    Args:
        as_film: if the video has a `Clock.film_rate`, this becomes its constant rate.
    """
    read = _read_packets(path, container, stream)
    base = stream.time_base
    rates = [exact_rate(rate) for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate) if rate]
    is_avi = container.format.name == "avi"
    unseen, lost = read.unseen, 0
    places: dict[int, list[int]] = {}
    restarts: list[Restart] = []
    rate: Fraction | None
    times = [time for time in read.times if time is not None]
    has_all = len(times) == len(read.shown)
    if has_all and not is_avi:
        placed, restarts = _without_restarts(read.shown, base, bool(stream.codec_context.has_b_frames))
        placed = _spaced(placed)
        places = _places(times, placed)
        times = placed
    known = sorted(set(times))
    # A raw stream has no times. If only a few times repeat, the second frame of such a time is not shown.
    is_numbered = not has_all or len(known) < USEFUL * len(read.shown)
    if is_numbered:
        rate = rates[0] if rates else DEFAULT_RATE
        origin = known[0] * base if known else Fraction(0)
        count = len(read.shown)
    else:
        if is_avi and len(known) > 1:
            known, unseen, lost = _times_of_avi(known)
            rate = rates[0]
        else:
            rate = _constant_rate(known, base, rates)
        origin = known[0] * base
        count = len(known)
    film_rate = None if rate else _film_rate(known, base)
    if film_rate and as_film:
        rate, count, is_numbered = film_rate, len(read.shown), True
    announced = max(0, stream.frames - unseen)
    if rate and not is_numbered and not places:
        announced = max(announced, _announced_by_matroska(stream, origin, rate, read.last * base or 1 / rate))
    count = max(count, announced)
    if rate:
        last = time_base = 1 / rate
        length = count / rate
    else:
        last = (read.last or known[-1] - known[-2]) * base
        time_base = base
        length = (known[-1] - known[0]) * base + last
    return Clock(
        rate=rate,
        count=count,
        last=last,
        length=length,
        origin=origin,
        start=Fraction(container.start_time or 0, av.time_base),
        time_base=time_base,
        is_numbered=is_numbered,
        in_decoding_order=is_avi and stream.codec_context.has_b_frames and not is_numbered,
        places=places,
        restarts=tuple(restarts),
        film_rate=film_rate,
        lost=lost,
    )


def _read_packets(path: Path, container: Any, stream: Any) -> _Packets:
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    shown, unseen, latest = [], 0, (0, 0)
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard and not _is_hidden(packet, stream):
                shown.append(_Packet(packet.pts, packet.is_keyframe, packet.pos or 0))
                latest = max(latest, (packet.pts or 0, packet.duration or 0))
            else:
                unseen += packet.dts is not None  # the final flush packet carries no data
    if not shown:
        raise VideoError(f"{path} has no frames")
    return _Packets(shown, unseen, latest[1])


def _usual_step(times: list[int]) -> int:
    """The usual distance of two frames; 0 if there is none. Only frames that are near in the file are compared."""
    near = [np.sort(times[begin : begin + MOST_REORDERED]) for begin in range(0, len(times), MOST_REORDERED)]
    steps = np.concatenate([np.diff(part) for part in near])
    return int(np.median(steps[steps > 0])) if (steps > 0).any() else 0


def _without_restarts(packets: list[_Packet], base: Fraction, is_reordered: bool) -> tuple[list[int], list[Restart]]:
    """The times of packets, moved so that every group follows the one before; and where the file's clock begins anew.

    Groups are single packets, or where codecs reorder frames, key frames with what follows. A group whose times are far
    below those of the group before begins a new section, unless that group is a single frame with a wild time.
    """
    times = [packet.time for packet in packets if packet.time is not None]
    usual = _usual_step(times)
    far = MOST_REORDERED * usual
    starts = [number for number, packet in enumerate(packets) if packet.is_key or not is_reordered or not number]
    first = times[: starts[1] if len(starts) > 1 else None]
    if len(first) > 1 and first[0] > max(first[1:]):
        starts.insert(1, 1)  # nothing is shown before the first key frame: its time is wild
    placed: list[int] = []
    sections = [(0, 0)]  # (the number of the first packet, what is added to its time)
    end: int | None = None  # of what is placed
    bounds = [*starts, len(times)]
    for number, (begin, until) in enumerate(itertools.pairwise(bounds)):
        group = times[begin:until]
        shift = sections[-1][1]
        # Only between two neighbours that fit together can a single frame be told from a new section.
        following = min(times[until : bounds[number + 2]]) if number + 2 < len(bounds) and len(group) == 1 else None
        if end is None:
            if following is not None and group[0] > following + far:
                shift = following - usual - group[0]
        elif (
            following is not None and following + shift > end and _is_far(group[0] + shift, end, following + shift, far)
        ):
            shift = end + usual - group[0]
        elif min(group) + shift < end - far:
            shift = end + usual - min(group)
            sections.append((begin, shift))
        placed += [time + shift for time in group]
        end = max(placed[begin:]) if end is None else max(end, *placed[begin:])
    # The longest section keeps its times, so that they fit those of the other streams.
    lengths = np.diff([begin for begin, _ in sections] + [len(times)])
    kept = sections[int(lengths.argmax())][1]
    placed = [time - kept for time in placed]
    if len(sections) == 1:
        return placed, []
    return placed, [Restart(packets[begin].position, (shift - kept) * base) for begin, shift in sections]


def _is_far(time: int, before: int, after: int, far: int) -> bool:
    """Whether a time lies far outside of that between two others."""
    return not before - far <= time <= after + far


def _spaced(times: list[int]) -> list[int]:
    """The same times, but the second of two equal ones is moved into the gap behind them, if there is one."""
    usual = _usual_step(times)
    order = np.argsort(times, kind="stable")
    spaced = list(times)
    for one, two, three in zip(order, order[1:], order[2:], strict=False):
        if times[one] == times[two] and times[three] - times[two] >= GAP * usual > 0:
            spaced[two] += usual
    return spaced


def _places(times: list[int], placed: list[int]) -> dict[int, list[int]]:
    """See `Clock.places`."""
    places = collections.defaultdict(list)
    for time, place in zip(times, placed, strict=True):
        places[time].append(place)
    return {time: sorted(found) for time, found in places.items() if found != [time]}


def _times_of_avi(times: list[int]) -> tuple[list[int], int, int]:
    """Times, unseen packets and lost frames of an AVI.

    Its times are numbers of frames. A number that is missing is an empty packet, which repeats the frame before. Before
    the first frame such packets stand for sound that begins earlier; that frame comes with a wrong number.
    """
    times[0] = max(times[0], times[1] - 1)
    return times, times[0], len(times) - (times[-1] - times[0] + 1)  # repeated frames are not lost


def _constant_rate(times: list[int], base: Fraction, rates: list[Fraction]) -> Fraction | None:
    """The rate at which all times are whole multiples, to one unit of their base; None if there is no such rate."""
    if len(times) == 1:
        return rates[0] if rates else DEFAULT_RATE
    offsets = np.array(times) - times[0]
    measured = exact_rate((len(times) - 1) / (int(offsets[-1]) * base))
    for rate in [*rates, measured]:
        steps = np.arange(len(times)) / float(rate * base)
        if np.abs(offsets - steps).max() <= min(1, 0.5 / float(rate * base)) + 1e-6 * len(times):
            return rate
    return None


def _film_rate(times: list[int], base: Fraction) -> Fraction | None:
    """The rate of a film whose frames are shown for two and three fields of video in turn; None for other times.

    That is soft telecine: the file has the frames of the film, with a mark on each that is shown longer. Some times in
    MPEG program streams are wrong by a few fields.
    """
    if len(times) < FEWEST_OF_FILM:
        return None
    offsets = np.array(times) - times[0]
    for rate in (Fraction(24000, 1001), Fraction(24)):
        fields = float(rate * base) * PULLDOWN
        off = np.abs(offsets * fields - PULLDOWN * np.arange(len(times)))
        steps = np.abs(np.diff(offsets) * fields - PULLDOWN)
        if np.quantile(off, 0.75) < 1 and off.max() < 2 * PULLDOWN and abs(np.median(steps) - 0.5) < 0.1:
            return rate
    return None


def _announced_by_matroska(stream: Any, origin: Fraction, rate: Fraction, last: Fraction) -> int:
    """The number of frames by the tag that Matroska has for the end of the last frame, shown for `last` seconds."""
    with contextlib.suppress(ValueError):  # the tag may hold anything
        if tag := stream.metadata.get("DURATION"):
            return round((seconds(tag) - origin - last) * rate) + 1
    return 0


def _is_hidden(packet: Any, stream: Any) -> bool:
    """Whether a packet is a frame of VP8 that is never shown, only referred to."""
    return stream.codec_context.name.startswith(("vp8", "libvpx")) and not bytes(packet)[0] & 0x10


def with_sorted_times(frames: Iterator[Any]) -> Iterator[Any]:
    """The frames with their times in rising order.

    A decoder returns frames in the order in which they are shown. AVI has no times but the numbers of its packets,
    which are in the order of decoding, so that frames come with times that are permuted among neighbours.
    """
    waiting: collections.deque[Any] = collections.deque()
    times: list[int] = []
    latest = -1

    def next_frame() -> Any:
        frame = waiting.popleft()
        frame.pts = heapq.heappop(times)
        return frame

    for frame in frames:
        waiting.append(frame)
        time = latest + 1 if frame.pts is None else frame.pts
        latest = max(latest, time)
        heapq.heappush(times, time)
        if len(waiting) > MOST_REORDERED:
            yield next_frame()
    while waiting:
        yield next_frame()
