"""Reads video files as streams of frames, by FFmpeg.

Frames come upright, deinterlaced, at exact times, with the planes that the decoder made. A damaged file gives the
frames that can be decoded, and counts those that are lost.
"""

import contextlib
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vfi.errors import UsageError, VideoError, reason
from vfi.video.clock import FILM, read_clock, with_sorted_times
from vfi.video.colour import planes_of
from vfi.video.form import read_form
from vfi.video.frame import Frame
from vfi.video.hevc import has_alpha_layer
from vfi.video.timing import look_back

WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # decoders, by the name of FFmpeg's own


class VideoFile:
    """A video file.

    Attributes:
        path: of the file.
        files: all files that it is read from.
        deinterlace: whether interlaced frames are deinterlaced.
        film_rate: frames per second of a film whose frames are marked to be shown for two and three fields of video in
            turn; None for other videos.
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
        notes: what cannot be kept, whatever the target is.
        plays: how many times an animated picture is shown; 0 for endlessly.
        interlaced: whether a frame so far is interlaced.
        lost: how many frames could not be decoded so far.
        lost_at_end: how many of them are missing at the end; known when the last frame was read.
        repeated: how many frames so far were dropped, because they have no time of their own.

    Args:
        detelecine: whether to restore the frames of a film, of which video shows five for four: joined again from the
            fields of these, or as the file has them, evenly. `rate`, `count` and `last` are then those of the film.

    Raises:
        VideoError: the file cannot be read, or has no frame that can be decoded.
        UsageError: `detelecine` for a rate that varies.
    """

    icc_profile = None

    def __init__(self, path: str | Path, deinterlace: bool = True, detelecine: bool = False) -> None:
        self.path = Path(path)
        self.files = [self.path]
        self.deinterlace = deinterlace
        self._size: tuple[int, int] | None = None  # width, height as stored; known from the first frame on
        self.interlaced = False
        self.repeated = self.lost_at_end = 0
        with self.open() as container:
            stream = self.stream_of(container)
            kind, codec = container.format.name, stream.codec_context.name
            self._clock = read_clock(self.path, container, stream, detelecine)
        clock = self._clock
        self.rate, self.count, self.last, self.length = clock.rate, clock.count, clock.last, clock.length
        self.origin, self.start, self.time_base, self.lost = clock.origin, clock.start, clock.time_base, clock.lost
        self.film_rate = clock.film_rate
        self._joins_fields = detelecine and not clock.film_rate
        if self._joins_fields:
            if not self.rate:
                raise UsageError(f"{path} has no constant rate: --detelecine is for film in 29.97 frames per second")
            self.rate *= FILM
            self.count -= self.count // 5
            self.last = self.time_base = 1 / self.rate
        has_alpha = False
        if codec == "hevc":
            with self.open() as container:
                has_alpha = has_alpha_layer(container, self.stream_of(container))
        with self.open() as container:
            stream = self.stream_of(container)
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise VideoError(f"{path} has no frame that can be decoded")
            self._size = (first.width, first.height)
            self.interlaced |= deinterlace and stream.codec_context.field_order in (2, 3)
            self._form = form = read_form(first, stream, has_alpha)
        self.tags, self.layout, self.aspect, self.light = form.tags, form.layout, form.aspect, form.light
        self.notes = form.notes
        self.plays = _plays_of(self.path) if kind in ("gif", "apng") else 0
        self.width, self.height = form.size

    @property
    def can_seek(self) -> bool:
        """Whether times lead to the right places in the file."""
        return self._clock.can_seek

    def shift_at(self, position: int) -> Fraction:
        """Seconds to add to the time of a packet at this position in the file, in bytes; see clock.Restart."""
        return self._clock.shift_at(position)

    def open(self) -> Any:
        """Opens PyAV's container, at its beginning; the caller closes it."""
        if not self.path.exists():
            raise VideoError(f"{self.path} cannot be read: no such file or directory")
        if self.path.is_file() and not self.path.stat().st_size:
            raise VideoError(f"{self.path} is empty")
        try:  # bytes in the metadata that are not UTF-8 are kept as they are
            return av.open(str(self.path), metadata_errors="surrogateescape")
        except (av.InvalidDataError, av.EOFError) as error:
            if _is_mp4(self.path):
                cause = "has no index (moov): its recording was not finished, or it is only a piece of a stream"
            else:
                cause = "is not a video, is damaged, or its kind is not supported"
            raise VideoError(f"{self.path} {cause}") from error
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
        graph = _detelecining(stream, self._clock.rate) if self._joins_fields else None
        frames = self._decode_packets(container, stream)
        if self._clock.in_decoding_order:
            frames = with_sorted_times(frames)
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
        if start > margin and self._clock.can_seek and not self._joins_fields:
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
        latest: int | None = None  # the time of the frame before, in the stream's time base
        for decoded in self._decoded(container, stream):
            planes = [self._form.upright(plane) for plane in planes_of(decoded, self._form.stored)]
            if self._clock.is_numbered or decoded.pts is None:
                time = given * self.last
            else:
                time = decoded.pts * decoded.time_base - self.origin
                if self._clock.places:  # a filter may count in other units than the stream
                    read = round(decoded.pts * decoded.time_base / stream.time_base)
                    latest = self._clock.place(read, latest)
                    time = latest * stream.time_base - self.origin
            if self.rate:
                number = max(0, round(time * self.rate))
                while fill and given < number:
                    is_lost = not self._joins_fields  # otherwise a filter left it out
                    frame = Frame(given / self.rate, frame.planes if frame else planes, self.layout.bits, is_lost)
                    self.lost += is_lost
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
        if (self.rate or from_first) and not self._joins_fields:
            self.lost_at_end = max(0, self.count - given)
            self.lost += self.lost_at_end


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


def _is_mp4(path: Path) -> bool:
    """Whether a file begins as MP4 and QuickTime do, though FFmpeg cannot open it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] in (b"ftyp", b"styp", b"moof", b"mdat", b"wide")


def _plays_of(path: Path) -> int:
    from vfi.video.animation import plays_of  # here: training reads videos where Pillow is not installed

    return plays_of(path)


def is_cover(stream: Any) -> bool:
    """Whether a stream is a picture of the cover, as music and some videos have."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


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
