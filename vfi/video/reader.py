"""Videos as streams of frames: a file that FFmpeg reads, a folder of pictures, or a pattern of their names.

`open_source` gives one of two classes that look alike. Frames come upright, deinterlaced, at exact times, with the
planes that the decoder made; a damaged file gives what there is, and counts what is lost.
"""

import contextlib
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import numpy as np

from vfi import cuts as scenes
from vfi import pictures
from vfi.errors import UsageError, VideoError, reason
from vfi.files import natural
from vfi.video.colour import Pixels, Tags, layout_of, planes_of, turned

INPUT_RATE = Fraction(25)  # of pictures, where nothing else is said
# Before the first frame that is wanted: what filters, scene detection and cadences look back at.
SEEK_MARGIN = 2  # seconds, at least
SEEK_MARGIN_FRAMES = 32
USEFUL = 0.9  # share of frames that have a time of their own, below which times are not believed


@dataclass(eq=False)
class Frame:
    """A frame at `time` (a Fraction, in seconds from the first frame), as the decoder's planes, of so many bits."""

    time: Fraction
    planes: list
    bits: int

    @cached_property
    def luma(self):
        """(H, W), uint8 or uint16: what is compared of frames."""
        plane = self.planes[0]
        return plane if plane.ndim == 2 else plane[..., 1 if plane.shape[2] > 2 else 0]  # green, or grey

    @cached_property
    def thumbnail(self):
        return scenes.thumbnail(self.luma, self.bits)

    def is_copy_of(self, other):
        return scenes.is_copy(other.luma, self.luma, self.bits)

    def same_as(self, other):
        pairs = zip(self.planes, other.planes, strict=True)
        return self is other or all(np.array_equal(one, two) for one, two in pairs)


def open_source(path, input_rate=None, deinterlace=True):
    """What is at a path: a `VideoFile`, or `PictureFiles` if it is a folder or a pattern such as frames/%05d.png.

    Args:
        input_rate: frames per second of pictures.
        deinterlace: whether to make whole frames of interlaced ones.

    Raises:
        VideoError, PictureError: there is nothing, or nothing that can be read.
        UsageError: an input rate for what has its own.
    """
    path = Path(path)
    if path.is_dir() or is_pattern(path):
        return PictureFiles(path, input_rate or INPUT_RATE)
    if input_rate:
        raise UsageError(f"{path} is a file, which has a rate of its own: an input rate is for pictures")
    return VideoFile(path, deinterlace)


_PATTERN = re.compile(r"(.*?)%0?(\d*)d(.*)", re.DOTALL)


def is_pattern(path):
    """Whether a path stands for numbered files, as frames/%05d.png does."""
    path = Path(path)
    return _PATTERN.fullmatch(path.name) is not None and not path.is_file()


def name_of(pattern):
    """What matches the names of a pattern's files."""
    before, digits, after = _PATTERN.fullmatch(pattern.name).groups()
    return re.compile(f"{re.escape(before)}\\d{{{digits or 1},}}{re.escape(after)}")


def numbered(name, number):
    """The name of a pattern's file of this number."""
    before, digits, after = _PATTERN.fullmatch(name).groups()
    return f"{before}{number:0{digits or 1}}{after}"


# --- Files that FFmpeg reads --------------------------------------------------------------------------------------


class VideoFile:
    """A video file.

    Attributes:
        path, width, height: upright.
        files: all that it is read from.
        layout, tags: of the planes; see colour.py.
        rate: frames per second, exactly; None if it varies.
        count: of frames; as the file announces them, even if it breaks off.
        last: for how long the last frame is shown, in seconds.
        length: from the first frame to the end of the last, in seconds.
        origin: the time of the first frame on the file's own clock, on which its sound and subtitles are.
        start: the earliest time on that clock.
        time_base: a unit of which every frame's time is a whole multiple.
        aspect: of a sample, or None.
        light: HDR metadata, {"mastering": bytes, "content": bytes} as FFmpeg's structures, what there is of it.
        interlaced: whether the first frame is, or any so far.
        lost: how many frames could not be decoded, so far.
    """

    icc_profile = None

    def __init__(self, path, deinterlace=True):
        self.path = Path(path)
        self.files = [self.path]
        self.deinterlace = deinterlace
        self._size = None
        with self.open() as container:
            stream = self.stream_of(container)
            self._scan(container, stream)
        with self.open() as container:
            stream = self.stream_of(container)
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise VideoError(f"{path} has no frame that can be decoded")
            self._describe(first, stream)

    def open(self):
        """The container, from its beginning; to be closed."""
        if not self.path.exists():
            raise VideoError(f"{self.path} cannot be read: no such file or directory")
        if self.path.is_file() and not self.path.stat().st_size:
            raise VideoError(f"{self.path} is empty")
        try:  # bytes that are no UTF-8 are passed on as they are
            return av.open(str(self.path), metadata_errors="surrogateescape")
        except (av.InvalidDataError, av.EOFError) as error:
            raise VideoError(f"{self.path} is not a video, or damaged, or of a kind that is not supported") from error
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self.path} cannot be read: {reason(error)}") from error

    def stream_of(self, container):
        """The video that is meant: the first that is no cover picture."""
        streams = [stream for stream in container.streams.video if not is_cover(stream)]
        if not streams:
            raise VideoError(f"{self.path} has no video in it")
        if streams[0].codec_context is None:
            raise VideoError(f"{self.path}: no decoder is known for its video")
        streams[0].thread_type = "AUTO"
        return streams[0]

    def _scan(self, container, stream):
        """All times, by reading packets without decoding them: whether the rate is constant is in no header."""
        for other in container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        times, unseen, latest = [], 0, (0, 0)
        self.lost, self.interlaced = 0, False
        with contextlib.suppress(av.FFmpegError):
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard and not _is_hidden(packet, stream):
                    times.append(packet.pts)
                    latest = max(latest, (packet.pts or 0, packet.duration or 0))  # time and duration of the last
                else:
                    unseen += packet.dts is not None  # the last packet is no packet
        if not times:
            raise VideoError(f"{self.path} has no frames")
        base = stream.time_base
        self.start = Fraction(container.start_time or 0, av.time_base)
        rates = [exact_rate(rate) for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate) if rate]
        # A raw stream has none. Where but some are twice there, the second frame of such a time is not shown.
        if None in times or len(set(times)) < USEFUL * len(times):
            known = [time for time in times if time is not None]
            self.origin = min(known) * base if known else Fraction(0)
            self._numbered = True
            self.rate = rates[0] if rates else INPUT_RATE
        else:
            times = sorted(set(times))
            if container.format.name == "avi" and len(times) > 1:
                # Times are numbers; one that is missing is an empty packet, which says: the same frame again. Before
                # the first frame it is there for sound that begins earlier; that frame comes with a wrong number.
                times[0] = max(times[0], times[1] - 1)
                unseen = times[0]
                self.lost = len(times) - (times[-1] - times[0] + 1)  # those are not lost
                self.rate = rates[0]
            else:
                self.rate = self._constant_rate(times, base, rates)
            self.origin = times[0] * base
            self._numbered = False
        announced = max(0, stream.frames - unseen)
        if self.rate:
            if (tag := stream.metadata.get("DURATION")) and not self._numbered:  # Matroska's, of this stream alone
                with contextlib.suppress(ValueError):  # it may be anything
                    announced = max(announced, round((seconds(tag) - self.origin) * self.rate))
            self.time_base = 1 / self.rate
            self.last = 1 / self.rate
        else:
            self.time_base = base
            self.last = (latest[1] or times[-1] - times[-2]) * base
        self.count = max(len(times), announced)
        self.length = self.count / self.rate if self.rate else (times[-1] - times[0]) * base + self.last

    @staticmethod
    def _constant_rate(times, base, rates):
        """The rate at which all times are whole multiples, to a unit of their base; None if there is none."""
        if len(times) == 1:
            return rates[0] if rates else INPUT_RATE
        offsets = np.array(times) - times[0]
        measured = exact_rate((len(times) - 1) / (int(offsets[-1]) * base))
        for rate in [*rates, measured]:
            steps = np.arange(len(times)) / float(rate * base)
            if np.abs(offsets - steps).max() <= min(1, 0.5 / float(rate * base)) + 1e-6 * len(times):
                return rate
        return None

    def _packets(self, container, stream):
        """Packets up to the end, or to where the file is damaged; then None, at which a decoder gives what is left."""
        with contextlib.suppress(av.FFmpegError):
            yield from (packet for packet in container.demux(stream) if packet.size)
        yield None

    def _decoded(self, container, stream):
        """PyAV's frames; what cannot be decoded is left out."""
        graph, given = None, 0
        for packet in self._packets(container, stream):
            try:
                frames = stream.decode(packet)
            except av.FFmpegError:
                continue
            for frame in frames:
                if self._size and (frame.width, frame.height) != self._size:
                    raise VideoError(
                        f"{self.path} changes its size from {'x'.join(map(str, self._size))} to {frame.width}x"
                        f"{frame.height} after {given} frames: cut it there"
                    )
                given += 1
                frame.time_base = frame.time_base or stream.time_base  # at the end it has none
                self.interlaced |= frame.interlaced_frame
                if frame.interlaced_frame and self.deinterlace and graph is None:
                    graph = _deinterlacer(stream)
                yield from self._through(graph, frame) if graph else [frame]
        if graph:
            yield from self._through(graph, None)

    def _through(self, graph, frame):
        try:
            graph.vpush(frame)
            while True:
                yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        except av.FFmpegError as error:
            raise VideoError(f"{self.path} cannot be deinterlaced: {reason(error)}") from error

    def _describe(self, first, stream):
        self.interlaced |= self.deinterlace and stream.codec_context.field_order in (2, 3)
        self._size = (first.width, first.height)
        self.tags = Tags(first.colorspace, first.color_primaries, first.color_trc, first.color_range)
        self._stored = layout_of(first.format.name, self.tags, self._size)
        self.aspect = stream.sample_aspect_ratio or None
        self.light = {}
        for name, kind in (("mastering", "MASTERING_DISPLAY_METADATA"), ("content", "CONTENT_LIGHT_LEVEL")):
            if av.sidedata.sidedata.Type[kind] in first.side_data:
                self.light[name] = bytes(first.side_data[kind])
        self._matrix = None
        if av.sidedata.sidedata.Type.DISPLAYMATRIX in first.side_data:
            self._matrix = np.frombuffer(bytes(first.side_data["DISPLAYMATRIX"]), np.int32)[[0, 1, 3, 4]]
        self.layout, (self.width, self.height) = self._stored, self._size
        if self._is_turned:
            if self._stored.chroma == (4, 1):  # lying on its side it has no name
                self._stored = layout_of("yuv444p", self.tags, self._size)
            self.layout, (self.height, self.width) = turned(self._stored), self._size
            self.aspect = 1 / self.aspect if self.aspect else None

    @property
    def _is_turned(self):
        return self._matrix is not None and abs(self._matrix[1]) > abs(self._matrix[0])

    def _upright(self, plane):
        """A plane as the display matrix wants it seen: phones store what their sensor gives."""
        if self._matrix is None:
            return plane
        right, down = self._matrix[[2, 1]] if self._is_turned else self._matrix[[0, 3]]
        plane = plane.T if self._is_turned else plane
        return np.ascontiguousarray(plane[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])

    def frames(self, start=Fraction(0)):
        """Yields each `Frame` from shortly before `start` (in seconds from the first frame) to the end.

        Where the rate is constant and a frame is lost, the one before it is held, so that sound stays in time.
        """
        margin = _margin(self.rate)
        if start > margin and not self._numbered:
            with self.open() as container:
                stream = self.stream_of(container)
                wanted = self.origin + start - margin
                container.seek(int(wanted / stream.time_base), stream=stream)
                frames = self._timed(container, stream)
                first = next(frames, None)
                if first is not None and first.time <= start - margin / 2:  # else the index is wrong
                    yield first
                    yield from frames
                    return
        with self.open() as container:
            yield from self._timed(container, self.stream_of(container), from_first=True)

    def _timed(self, container, stream, from_first=False):
        frame, given, fill = None, 0, from_first
        for decoded in self._decoded(container, stream):
            planes = [self._upright(plane) for plane in planes_of(decoded, self._stored)]
            if self._numbered or decoded.pts is None:
                time = given * self.last
            else:
                time = decoded.pts * decoded.time_base - self.origin
            if self.rate:
                number = max(0, round(time * self.rate))
                while fill and given < number:
                    frame = Frame(given / self.rate, frame.planes if frame else planes, self.layout.bits)
                    self.lost += 1
                    given += 1
                    yield frame
                fill, time = True, number / self.rate
                if number < given and frame:
                    continue
                given = number
            elif frame and time <= frame.time:
                continue
            frame = Frame(time, planes, self.layout.bits)
            given += 1
            yield frame
        if self.rate or from_first:
            self.lost += max(0, self.count - given)


def _margin(rate):
    return max(SEEK_MARGIN, SEEK_MARGIN_FRAMES / rate) if rate else SEEK_MARGIN


def exact_rate(rate):
    """A rate as the fraction that is meant: containers round 24000/1001 to what fits their fields."""
    rate = Fraction(rate)
    for exact in (Fraction(round(rate)), Fraction(round(rate * 1001 / 1000) * 1000, 1001)):
        if abs(rate - exact) < rate * Fraction(1, 500_000):
            return exact
    return rate


def seconds(text):
    """hh:mm:ss.fff, mm:ss.fff or seconds, as a Fraction."""
    total = Fraction(0)
    for part in text.split(":"):
        total = 60 * total + Fraction(part)
    return total


def is_cover(stream):
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _is_hidden(packet, stream):
    """VP8 has frames that are only referred to, in packets of their own."""
    return stream.codec_context.name.startswith(("vp8", "libvpx")) and not bytes(packet)[0] & 0x10


def _deinterlacer(stream):
    """FFmpeg's bwdif: a whole frame for each one that is marked as interlaced."""
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream),
        graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


# --- Pictures -----------------------------------------------------------------------------------------------------


class PictureFiles:
    """A folder of pictures, or those of a pattern, as a video; attributes as those of `VideoFile`."""

    deinterlace = interlaced = False
    aspect = None
    tags = Tags(1, 1, 1, 2)  # BT.709, as pictures without a colour profile are best taken for
    origin = start = Fraction(0)
    lost = 0

    def __init__(self, path, rate):
        self.path = Path(path)
        self.rate = Fraction(rate)
        self.light = {}
        self.time_base = self.last = 1 / self.rate
        self.files = picture_files(self.path)
        self.count = len(self.files)
        self.length = self.count / self.rate
        # All are looked at before the first is worked on: what does not fit is said now, not in an hour.
        looks = [pictures.probe(file) for file in self.files]
        self.width, self.height = looks[0].width, looks[0].height
        for file, look in zip(self.files, looks, strict=True):
            if (look.width, look.height) != (self.width, self.height):
                raise VideoError(
                    f"{file} is {look.width}x{look.height}, {self.files[0]} is {self.width}x{self.height}: all frames "
                    "must have one size"
                )
        kind = [any(getattr(look, name) for look in looks) for name in ("is_colour", "has_alpha", "is_deep")]
        self.layout = Pixels(*kind)
        self.icc_profile = pictures.read(self.files[0]).icc_profile

    def frames(self, start=Fraction(0)):
        """Yields each `Frame` from shortly before `start` to the end."""
        first = max(0, int((start - _margin(self.rate)) * self.rate))
        for number, file in enumerate(self.files[first:], first):
            picture = pictures.read(file)
            if (picture.pixels.shape[1], picture.pixels.shape[0]) != (self.width, self.height):
                raise VideoError(f"{file} is {picture.size}, expected {self.width}x{self.height}")
            pixels = pictures.convert(
                picture, not self.layout.colour, self.layout.alpha, self.layout.dtype, picture.icc_profile
            ).pixels
            yield Frame(number / self.rate, [pixels], self.layout.bits)


def picture_files(path):
    """The files of a folder or pattern, in the order in which people count: 2 before 10."""
    folder = path.parent if is_pattern(path) else path
    if not folder.is_dir():
        raise VideoError(f"there is no folder {folder}")
    if is_pattern(path):
        files = [file for file in folder.iterdir() if name_of(path).fullmatch(file.name)]
    else:
        files = [file for file in folder.iterdir() if pictures.is_picture_name(file)]
    if not files:
        what = f"pictures that match {path.name}" if is_pattern(path) else "pictures"
        raise VideoError(f"there are no {what} in {folder}")
    return sorted(files, key=lambda file: natural(file.name.lower()))
