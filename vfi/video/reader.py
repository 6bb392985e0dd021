"""Reads video files as streams of frames, by FFmpeg.

Frames come upright, deinterlaced, at exact times, with the planes that the decoder made. A damaged file gives the
frames that can be decoded, and counts those that are lost.
"""

import collections
import contextlib
import heapq
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from numpy.typing import NDArray

from vfi.errors import UsageError, VideoError, reason
from vfi.video.colour import Layout, Tags, layout_of, planes_of, turned
from vfi.video.frame import Frame
from vfi.video.timing import exact_rate, look_back, seconds

FILM = Fraction(4, 5)  # of the rate of video that film is shown in
DEFAULT_RATE = Fraction(25)  # frames per second of pictures, and of files that do not state a rate
GAP = 1.5  # steps between frames: a longer one has room for another frame
MOST_REORDERED = 16  # frames by which codecs move a frame from its place, at most
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # decoders, by the name of FFmpeg's own
USEFUL = 0.9  # share of frames with a time of their own, below which the times of a file are not used


class VideoFile:
    """A video file.

    Attributes:
        path: of the file.
        files: all files that it is read from.
        deinterlace: whether interlaced frames are deinterlaced.
        detelecine: whether the frames of a film are restored, of which video shows five for four; `rate`, `count` and
            `last` are then those of the film.
        layout, tags: of the planes; see colour.py.
        width, height: in pixels, upright.
        rate: frames per second, exactly; None if it varies.
        count: number of frames; as the file announces them, even if it breaks off.
        last: seconds for which the last frame is shown.
        length: seconds from the first frame to the end of the last.
        origin: seconds at the first frame on the file's own clock, on which its sound and subtitles are.
        start: the earliest time on that clock.
        time_base: a unit, in seconds, of which the time of every frame is a whole multiple.
        aspect: of a sample, or None.
        light: HDR metadata, {"mastering": bytes, "content": bytes} as FFmpeg's structures; empty if there are none.
        interlaced: whether a frame so far is interlaced.
        lost: how many frames could not be decoded so far.
        repeated: how many frames so far were dropped, because they have no time of their own.

    Raises:
        VideoError: the file cannot be read, or has no frame that can be decoded.
        UsageError: `detelecine` for a rate that varies.
    """

    icc_profile = None

    def __init__(self, path: str | Path, deinterlace: bool = True, detelecine: bool = False) -> None:
        self.path = Path(path)
        self.files = [self.path]
        self.deinterlace, self.detelecine = deinterlace, detelecine
        self._size: tuple[int, int] | None = None  # width, height as stored; known from the first frame on
        self.interlaced = False
        self.repeated = 0
        with self.open() as container:
            self._clock = _read_clock(self.path, container, self.stream_of(container))
        clock = self._clock
        self.rate, self.count, self.last, self.length = clock.rate, clock.count, clock.last, clock.length
        self.origin, self.start, self.time_base, self.lost = clock.origin, clock.start, clock.time_base, clock.lost
        if detelecine:
            if not self.rate:
                raise UsageError(f"{path} has no constant rate: --detelecine is for film in 29.97 frames per second")
            self.rate *= FILM
            self.count -= self.count // 5
            self.last = self.time_base = 1 / self.rate
        with self.open() as container:
            stream = self.stream_of(container)
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise VideoError(f"{path} has no frame that can be decoded")
            self._size = (first.width, first.height)
            self.interlaced |= deinterlace and stream.codec_context.field_order in (2, 3)
            self._form = _read_form(first, stream)
        form = self._form
        self.tags, self.layout, self.aspect, self.light = form.tags, form.layout, form.aspect, form.light
        self.width, self.height = form.size

    def open(self) -> Any:
        """Opens PyAV's container, at its beginning; the caller closes it."""
        if not self.path.exists():
            raise VideoError(f"{self.path} cannot be read: no such file or directory")
        if self.path.is_file() and not self.path.stat().st_size:
            raise VideoError(f"{self.path} is empty")
        try:  # bytes in the metadata that are not UTF-8 are kept as they are
            return av.open(str(self.path), metadata_errors="surrogateescape")
        except (av.InvalidDataError, av.EOFError) as error:
            raise VideoError(f"{self.path} is not a video, is damaged, or its kind is not supported") from error
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self.path} cannot be read: {reason(error)}") from error

    def stream_of(self, container: Any) -> Any:
        """The stream to interpolate: the first video that is not a cover picture."""
        streams = [stream for stream in container.streams.video if not is_cover(stream)]
        if not streams:
            raise VideoError(f"{self.path} has no video in it")
        if streams[0].codec_context is None:
            raise VideoError(f"{self.path}: no decoder is known for its video")
        streams[0].thread_type = "AUTO"
        return streams[0]

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """Packets up to the end, or to where the file is damaged; then None, at which a decoder returns the rest."""
        with contextlib.suppress(av.FFmpegError):
            yield from (packet for packet in container.demux(stream) if packet.size)
        yield None

    def _decode_packets(self, container: Any, stream: Any) -> Iterator[Any]:
        decoder = _decoder_of(stream)
        for packet in self._packets(container, stream):
            with contextlib.suppress(av.FFmpegError):
                yield from decoder.decode(packet)

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """PyAV's frames as they are shown; frames that cannot be decoded are left out."""
        graph = _detelecining(stream, self._clock.rate) if self.detelecine else None
        frames = self._decode_packets(container, stream)
        if self._clock.in_decoding_order:
            frames = _with_sorted_times(frames)
        for given, frame in enumerate(frames):
            if self._size and (frame.width, frame.height) != self._size:
                raise VideoError(
                    f"{self.path} changes its size from {'x'.join(map(str, self._size))} to {frame.width}x"
                    f"{frame.height} after {given} frames: cut it there"
                )
            frame.time_base = frame.time_base or stream.time_base  # the last frames have none
            self.interlaced |= frame.interlaced_frame
            if frame.interlaced_frame and self.deinterlace and graph is None:
                graph = _deinterlacer(stream)
            yield from self._through(graph, frame) if graph else [frame]
        if graph:
            yield from self._through(graph, None)

    def _through(self, graph: Any, frame: Any) -> Iterator[Any]:
        """What a filter returns for a frame, or for the end of the video (None)."""
        try:
            graph.vpush(frame)
            while True:
                yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        except av.FFmpegError as error:
            raise VideoError(f"{self.path} cannot be filtered: {reason(error)}") from error

    def frames(self, start: Fraction = Fraction(0)) -> Generator[Frame, None, None]:
        """Yields each `Frame` from shortly before `start` (in seconds from the first frame) to the end.

        Where the rate is constant and a frame is lost, the frame before it is repeated, so that sound stays in time.
        """
        margin = look_back(self.rate)
        # Which frames are dropped depends on all frames before.
        if start > margin and not self._clock.is_numbered and not self.detelecine:
            with self.open() as container:
                stream = self.stream_of(container)
                wanted = self.origin + start - margin
                container.seek(int(wanted / stream.time_base), stream=stream)
                frames = self._timed(container, stream)
                first = next(frames, None)
                if first is not None and first.time <= start - margin / 2:  # otherwise the index is wrong
                    yield first
                    yield from frames
                    return
        with self.open() as container:
            yield from self._timed(container, self.stream_of(container), from_first=True)

    def _timed(self, container: Any, stream: Any, from_first: bool = False) -> Iterator[Frame]:
        frame: Frame | None = None
        given, fill = 0, from_first
        before: int | None = None  # the time of the frame before, as the file has it
        for decoded in self._decoded(container, stream):
            planes = [self._form.upright(plane) for plane in planes_of(decoded, self._form.stored)]
            if self._clock.is_numbered or decoded.pts is None:
                time = given * self.last
            else:
                is_second = decoded.pts == before
                before = decoded.pts
                pts = self._clock.moved.get(before, before) if is_second else before
                time = pts * decoded.time_base - self.origin
            if self.rate:
                number = max(0, round(time * self.rate))
                while fill and given < number:
                    frame = Frame(given / self.rate, frame.planes if frame else planes, self.layout.bits)
                    self.lost += not self.detelecine  # a filter left it out
                    given += 1
                    yield frame
                fill, time = True, number / self.rate
                if number < given and frame:
                    self.repeated += 1
                    continue
                given = number
            elif frame and time <= frame.time:
                self.repeated += 1
                continue
            frame = Frame(time, planes, self.layout.bits)
            given += 1
            yield frame
        if (self.rate or from_first) and not self.detelecine:
            self.lost += max(0, self.count - given)


def _with_sorted_times(frames: Iterator[Any]) -> Iterator[Any]:
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


# --- What a file says about its times, before anything is decoded ---


@dataclass(frozen=True)
class _Clock:
    """When the frames of a file are shown; the attributes that `VideoFile` has, too, are described there.

    Attributes:
        is_numbered: whether frames have no usable times: then they are numbered.
        in_decoding_order: whether times follow the order of decoding, not that in which frames are shown.
        moved: for a time that two frames have, when the second is shown.
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
    moved: dict[int, int]
    lost: int


@dataclass(frozen=True)
class _Times:
    """What the packets of a video say.

    Attributes:
        times: of the packets with a frame that is shown, in the stream's time base; None where a packet has none.
        unseen: how many packets have no frame that is shown.
        last: for how long the frame with the largest time is shown.
    """

    times: list[int | None]
    unseen: int
    last: int


def _read_times(path: Path, container: Any, stream: Any) -> _Times:
    """Reads the packets of a video without decoding them: no header says whether the rate is constant."""
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    times, unseen, latest = [], 0, (0, 0)
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard and not _is_hidden(packet, stream):
                times.append(packet.pts)
                latest = max(latest, (packet.pts or 0, packet.duration or 0))
            else:
                unseen += packet.dts is not None  # the final flush packet carries no data
    if not times:
        raise VideoError(f"{path} has no frames")
    return _Times(times, unseen, latest[1])


def _read_clock(path: Path, container: Any, stream: Any) -> _Clock:
    read = _read_times(path, container, stream)
    base = stream.time_base
    rates = [exact_rate(rate) for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate) if rate]
    known = sorted({time for time in read.times if time is not None})
    unseen, lost = read.unseen, 0
    moved: dict[int, int] = {}
    rate: Fraction | None
    # A raw stream has no times. If only a few times repeat, the second frame of such a time is not shown.
    is_numbered = None in read.times or len(known) < USEFUL * len(read.times)
    if is_numbered:
        rate = rates[0] if rates else DEFAULT_RATE
        origin = known[0] * base if known else Fraction(0)
        count = len(read.times)
    else:
        if container.format.name == "avi" and len(known) > 1:
            known, unseen, lost = _times_of_avi(known)
            rate = rates[0]
        else:
            moved = _space_repeated_times(read.times)
            known = sorted({*known, *moved.values()})
            rate = _constant_rate(known, base, rates)
        origin = known[0] * base
        count = len(known)
    announced = max(0, stream.frames - unseen)
    if rate and not is_numbered:
        announced = max(announced, _announced_by_matroska(stream, origin, rate, read.last * base or 1 / rate))
    count = max(count, announced)
    if rate:
        last = time_base = 1 / rate
        length = count / rate
    else:
        last = (read.last or known[-1] - known[-2]) * base
        time_base = base
        length = (known[-1] - known[0]) * base + last
    start = Fraction(container.start_time or 0, av.time_base)
    in_decoding_order = container.format.name == "avi" and stream.codec_context.has_b_frames and not is_numbered
    return _Clock(rate, count, last, length, origin, start, time_base, is_numbered, in_decoding_order, moved, lost)


def _space_repeated_times(times: list[int | None]) -> dict[int, int]:
    """New times for frames with the time of the frame before, if there is a gap behind them; see `_Clock.moved`."""
    shown = sorted(time for time in times if time is not None)
    steps = np.diff(shown)
    usual = int(np.median(steps[steps > 0])) if (steps > 0).any() else 0
    moved: dict[int, int] = {}
    for time, step, following in zip(shown, steps, steps[1:], strict=False):
        if not step and following >= GAP * usual > 0:
            moved[time] = time + usual
    return moved


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


def _announced_by_matroska(stream: Any, origin: Fraction, rate: Fraction, last: Fraction) -> int:
    """The number of frames by the tag that Matroska has for the end of the last frame, shown for `last` seconds."""
    with contextlib.suppress(ValueError):  # the tag may hold anything
        if tag := stream.metadata.get("DURATION"):
            return round((seconds(tag) - origin - last) * rate) + 1
    return 0


# --- What the first frame says about all frames ---


@dataclass(frozen=True)
class _Form:
    """The form of the frames: as the decoder stores them, and upright.

    Attributes:
        size: (width, height), upright.
        tags, aspect, light: see `VideoFile`.
        stored: layout of the decoder's planes.
        layout: of the upright planes.
        matrix: the display matrix's four numbers of rotation and mirroring, or None.
    """

    size: tuple[int, int]
    tags: Tags
    stored: Layout
    layout: Layout
    aspect: Fraction | None
    light: dict[str, bytes]
    matrix: NDArray[np.int32] | None

    @property
    def is_turned(self) -> bool:
        return _is_turned(self.matrix)

    def upright(self, plane: NDArray[Any]) -> NDArray[Any]:
        """A plane as the display matrix turns it: phones store frames as their sensor gives them."""
        if self.matrix is None:
            return plane
        right, down = self.matrix[[2, 1]] if self.is_turned else self.matrix[[0, 3]]
        plane = plane.T if self.is_turned else plane
        return np.ascontiguousarray(plane[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


def _is_turned(matrix: NDArray[np.int32] | None) -> bool:
    """Whether a display matrix exchanges width and height."""
    return matrix is not None and bool(abs(matrix[1]) > abs(matrix[0]))


def _read_form(first: Any, stream: Any) -> _Form:
    size = (first.width, first.height)
    tags = Tags(first.colorspace, first.color_primaries, first.color_trc, first.color_range)
    stored = layout_of(first.format.name, tags, size)
    aspect = stream.sample_aspect_ratio or None
    light = {
        name: bytes(first.side_data[kind])
        for name, kind in (("mastering", "MASTERING_DISPLAY_METADATA"), ("content", "CONTENT_LIGHT_LEVEL"))
        if SideData[kind] in first.side_data
    }
    matrix = None
    if SideData.DISPLAYMATRIX in first.side_data:
        matrix = np.frombuffer(bytes(first.side_data["DISPLAYMATRIX"]), np.int32)[[0, 1, 3, 4]]
    if not _is_turned(matrix):
        return _Form(size, tags, stored, stored, aspect, light, matrix)
    if stored.chroma == (4, 1):  # FFmpeg has no name for this subsampling turned on its side
        stored = layout_of("yuv444p", tags, size)
    return _Form(size[::-1], tags, stored, turned(stored), 1 / aspect if aspect else None, light, matrix)


def _decoder_of(stream: Any) -> Any:
    """The decoder of a stream: FFmpeg's own, but for VP8 and VP9 with transparency, which only libvpx decodes."""
    names = {name.lower(): value for name, value in stream.metadata.items()}
    other = WITH_ALPHA.get(stream.codec_context.name) if names.get("alpha_mode") == "1" else None
    if other is None:
        return stream.codec_context
    try:
        decoder: Any = av.CodecContext.create(other, "r")
    except (av.FFmpegError, ValueError):  # this build of FFmpeg lacks it
        return stream.codec_context
    decoder.thread_type = "AUTO"
    return decoder


def is_cover(stream: Any) -> bool:
    """Whether a stream is a picture of the cover, as music and some videos have."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _is_hidden(packet: Any, stream: Any) -> bool:
    """Whether a packet is a frame of VP8 that is never shown, only referred to."""
    return stream.codec_context.name.startswith(("vp8", "libvpx")) and not bytes(packet)[0] & 0x10


def _detelecining(stream: Any, rate: Fraction | None) -> Any:
    """FFmpeg's filters that put the fields of film frames together again, and drop the fifth, repeated frame.

    What does not fit together, such as titles in video, is deinterlaced.
    """
    graph = av.filter.Graph()
    context = stream.codec_context
    description = (
        f"video_size={context.width}x{context.height}:pix_fmt={context.pix_fmt}:time_base={stream.time_base}"
        f":frame_rate={rate}"
    )
    graph.link_nodes(
        graph.add("buffer", description),
        graph.add("fieldmatch"),
        graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced"),
        graph.add("decimate"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _deinterlacer(stream: Any) -> Any:
    """FFmpeg's filter bwdif: a whole frame for each frame that is marked as interlaced."""
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream),
        graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph
