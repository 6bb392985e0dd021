"""Joins the parts of a new video, and everything else that the source holds, into one file.

Sound, subtitles, cover pictures and attachments are copied packet by packet if the container accepts them; otherwise
sound and subtitles are transcoded to a codec that it accepts.
"""

import contextlib
import heapq
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vfi.errors import UsageError, VideoError, reason
from vfi.files import atomic_write
from vfi.video.codecs import VPX, Container, Encoding
from vfi.video.reader import VideoFile, is_cover
from vfi.video.source import Source
from vfi.video.writer import Parts

# Metadata of the source that are not true of the new file: facts about its container or encoder
NOT_COPIED = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration", "rotate", "alpha_mode"}
# Names that MP4's ordinary metadata have a place for; other names need QuickTime's keys.
ORDINARY = {
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping",
    "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "track", "disc", "creation_time",
    "location", "media_type", "hd_video", "gapless_playback", "compilation", "encoder", "timecode",
}  # fmt: skip
KINDS = {"audio": "sound", "subtitle": "subtitles", "video": "a second video"}  # of tracks
SUBTITLE_TEXT = ("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text")
FASTEST_TIMECODE = 255  # frames per second: MP4 counts them in a byte
HEVC = ("libx265", "hevc_nvenc")
PRECISION = Fraction(1, 50000)  # seconds: how exactly the start of the video is placed on the clock of the sound
OVERLAP = Fraction(1, 5)  # seconds by which the sound of a recording may reach into that of a recording joined to it
SLACK = 10  # seconds by which packets of the same time may lie apart in a file


@dataclass(frozen=True)
class Span:
    """The piece of the source that is in the new video, on the source's own clock, in seconds.

    Attributes:
        start, end: of the piece; None for the start and the end of the source.
        shift: added to the source's times, after stretching.
        stretch: how many times as slow the new video is.
        shown: when the first frame of the new video is shown.
    """

    start: Fraction | None
    end: Fraction | None
    shift: Fraction
    stretch: int
    shown: Fraction

    def moved(self, time: Fraction) -> Fraction:
        """A time of the source on the clock of the new video."""
        return time * self.stretch + self.shift


def check(source: Source, encoding: Encoding, span: Span, sound: bool = True) -> list[str]:
    """Finds out early whether `join` will succeed; returns a note for each thing that it will leave out or change.

    Raises:
        UsageError: the container does not accept the video.
    """
    with _opened(source) as container:
        out = av.open(io.BytesIO(), "w", format=encoding.container.name, metadata_errors="surrogateescape")
        try:
            _, _, notes = _lay_out(out, container, source, encoding, span, sound)
            out.start_encoding()
        except av.FFmpegError as error:
            raise UsageError(f"{encoding.container.name} does not accept {encoding.codec}: {reason(error)}") from error
        finally:
            with contextlib.suppress(av.FFmpegError):  # some containers refuse to be empty
                out.close()
    return notes


def join(
    target: Path,
    source: Source,
    encoding: Encoding,
    parts: Parts,
    end: int,
    span: Span,
    sound: bool = True,
    beside: Path | None = None,
) -> None:
    """Writes the file, whole or not at all.

    Args:
        end: when the last frame is no longer shown, in ticks of the encoding's time base.
        sound: whether to take the source's sound.
        beside: the name of the file until it is whole; see `atomic_write`.

    Raises:
        VideoError: the file cannot be written; the message says why, and does not name the file.
    """
    try:
        with (
            atomic_write(target, beside) as new,
            _opened(source) as container,
            av.open(str(new), "w", format=encoding.container.name, metadata_errors="surrogateescape") as out,
        ):
            video, others, _ = _lay_out(out, container, source, encoding, span, sound)
            out.start_encoding()
            frames = _placed(parts.packets(end), video, encoding.time_base, _shown(encoding, span))
            for packet in _by_time(frames, _other_packets(container, source, others, span)):
                out.mux(packet)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(reason(error)) from error


def other_tracks(source: Source) -> list[str]:
    """The names of the tracks of a source but for the video; none of pictures."""
    with _opened(source) as container:
        if container is None:
            return []
        assert isinstance(source, VideoFile)  # only files have containers
        meant = source.stream_of(container)
        return [_name(stream) for stream in container.streams if stream is not meant and stream.type in KINDS]


def _opened(source: Source) -> Any:
    """The source's container; None for pictures, which have none."""
    return source.open() if isinstance(source, VideoFile) else contextlib.nullcontext()


def _lay_out(
    out: Any, container: Any, source: Source, encoding: Encoding, span: Span, sound: bool
) -> tuple[Any, dict[int, "_Carried"], list[str]]:
    """Gives an output its streams and metadata.

    Returns:
        The stream of the video; {index of a stream of the source: what carries it over}; and a note for each thing that
        is left out or changed.
    """
    notes: list[str] = []
    others: dict[int, _Carried] = {}
    if encoding.container.name == "avi":
        # Shifting would move the video, too, to times at which AVI cannot have a frame.
        out.container_options["avoid_negative_ts"] = "disabled"
    if encoding.container.name == "gif":
        repeats = {0: 0, 1: -1}.get(source.plays, source.plays - 1)  # 0: endlessly, -1: not at all
        out.container_options["loop"] = str(repeats)
    video = _video_stream(out, encoding, _shown(encoding, span))
    if container is None:
        return video, others, notes
    assert isinstance(source, VideoFile)  # only files have containers
    meant = source.stream_of(container)
    video.metadata.update(_metadata(meant))
    if encoding.rate > FASTEST_TIMECODE:
        video.metadata.pop("timecode", None)
    video.disposition = meant.disposition
    out.metadata.update(_metadata(container))
    if encoding.container.name in ("mp4", "mov") and set(out.metadata) - ORDINARY:
        out.container_options["movflags"] = "use_metadata_tags"
    left_out = []
    for stream in container.streams:
        if stream is meant:
            continue
        if stream.type == "data" and (container.chapters() or "timecode" in {**meant.metadata, **stream.metadata}):
            continue  # tracks of chapters and time codes, which MP4 has, are written anew
        if stream.type == "audio" and not sound:
            left_out.append(_name(stream))
            continue
        other, note = _stream_for(out, stream, encoding.container, source)
        if other:
            others[stream.index] = other
            other.out.metadata.update(_metadata(stream))
            other.out.disposition = stream.disposition
        elif not note:
            left_out.append(_name(stream))
        if note:
            notes.append(note)
    if left_out:
        notes.append(f"left out: {', '.join(left_out)}")
    out.set_chapters(_chapters(container, span))
    return video, others, notes


def _video_stream(out: Any, encoding: Encoding, shown: Fraction) -> Any:
    """Adds a stream with the settings of an encoder, for the packets of the parts."""
    try:
        video = out.add_stream(encoding.codec, rate=encoding.rate)
    except ValueError as error:
        raise UsageError(f"{encoding.container.name} does not accept {encoding.codec}") from error
    encoding.configure(video.codec_context)
    if encoding.layout.alpha and encoding.codec in VPX:
        video.metadata["alpha_mode"] = "1"
    if encoding.container.name in ("mp4", "mov") and video.codec_context.name in HEVC:
        video.codec_context.codec_tag = "hvc1"  # the only tag that Apple's players accept
    video.time_base = encoding.time_base
    if shown % encoding.time_base:  # sound may begin a fraction of a frame before the video
        video.time_base /= math.ceil(encoding.time_base / PRECISION)
    return video


def _shown(encoding: Encoding, span: Span) -> Fraction:
    """When the first frame is shown; at a whole frame in AVI, which would otherwise show the first frame twice."""
    return span.shown - (span.shown % encoding.time_base if encoding.container.name == "avi" else 0)


def _metadata(of: Any) -> dict[str, str]:
    """The metadata of a container or stream that are also true of the new file."""
    known = {name.lower(): name for name in of.metadata}
    return {
        known[name]: of.metadata[known[name]]
        for name in known
        if name not in NOT_COPIED and not name.startswith(("_statistics", "number_of_", "bps", "duration"))
    }


def _name(stream: Any) -> str:
    kind = KINDS.get(stream.type, stream.type)
    codec = stream.codec_context.name if stream.codec_context else None
    return f"track {stream.index} ({kind}{', ' + codec if codec else ''})"


def _chapters(container: Any, span: Span) -> list[dict[str, Any]]:
    """Chapters on the clock of the new video."""
    kept = []
    for chapter in container.chapters():
        base = chapter["time_base"]
        start, end = (chapter[name] * base for name in ("start", "end"))
        start = start if span.start is None else max(start, span.start)
        end = end if span.end is None else min(end, span.end)
        if start < end:
            start, end = (round(max(span.moved(time), 0) / base) for time in (start, end))
            kept.append(chapter | {"start": start, "end": end})
    return kept


def _stream_for(out: Any, stream: Any, kind: Container, source: VideoFile) -> tuple["_Carried | None", str | None]:
    """What carries a stream of the source over (or None), and a note (or None)."""
    if stream.type == "video" and not is_cover(stream):
        return None, None
    if stream.type not in ("audio", "subtitle", "video", "attachment"):
        return None, None
    if _accepts(kind, stream, source):
        return _Copied(out.add_stream_from_template(stream, opaque=True), stream), None
    refused = f"{kind.name} does not accept {_name(stream)}"
    if stream.type == "audio" and kind.audio and stream.codec_context:
        return _TranscodedAudio(out, stream, kind.audio), f"{refused}: transcoded to {kind.audio}"
    if stream.type == "subtitle" and kind.subtitles and _is_text(stream):
        return _TranscodedSubtitles(out, stream, kind.subtitles), f"{refused}: transcoded to {kind.subtitles}"
    return None, f"{refused}: left out"


def _accepts(kind: Container, stream: Any, source: VideoFile) -> bool:
    """Whether a container accepts a stream as it is. This is tried, because some containers refuse it only later."""
    try:
        with source.open() as again, av.open(io.BytesIO(), "w", format=kind.name) as out:
            new = out.add_stream_from_template(stream, opaque=True)
            out.start_encoding()
            if stream.type == "audio":  # some containers refuse it only with the first packet
                for packet in again.demux(again.streams[stream.index]):
                    if packet.size:
                        packet.stream = new
                        out.mux(packet)
                        break
    except (ValueError, av.FFmpegError):
        return False
    return True


def _is_text(stream: Any) -> bool:
    return stream.codec_context is not None and stream.codec_context.name in SUBTITLE_TEXT


class _Carried:
    """Carries a stream of the source over into the new file.

    Attributes:
        source, out: the stream, and the new stream.
        reached: the time of decoding of its last packet, in its time base.
        position: in the source, in bytes; several packets may be read from one place.
    """

    source: Any
    out: Any
    reached: float = -math.inf
    position: int = 0

    def packets(self, packet: Any) -> list[Any]:
        """The new packets for a packet of the source, or for None at the end."""
        raise NotImplementedError


class _Copied(_Carried):
    """A stream whose packets are copied."""

    def __init__(self, out: Any, stream: Any) -> None:
        self.out, self.source = out, stream

    def packets(self, packet: Any) -> list[Any]:
        if packet is None or (packet.stream.codec_context.name == "mov_text" and bytes(packet) == b"\0\0"):
            return []  # such a packet is a pause between subtitles, which the new container writes itself
        return [packet]


class _TranscodedAudio(_Carried):
    """Sound that is transcoded."""

    def __init__(self, out: Any, stream: Any, codec: str) -> None:
        self.source = stream
        most = 2 if codec == "libmp3lame" else 8
        decoder = stream.codec_context
        layout = decoder.layout.name.replace("(side)", "") if decoder.channels <= most else "stereo"
        layout = layout if _supports_layout(codec, layout) else "stereo"
        rates = av.codec.Codec(codec, "w").audio_rates or [decoder.sample_rate]
        rate = min(rates, key=lambda rate: (rate < decoder.sample_rate, abs(rate - decoder.sample_rate)))
        self.out = out.add_stream(codec, rate=rate, layout=layout)
        self.out.bit_rate = 96000 * len(av.AudioLayout(layout).channels)
        self._resampler: Any = None
        self._form: tuple[str, str, int] | None = None  # of the sound that the resampler takes

    def packets(self, packet: Any) -> list[Any]:
        try:
            frames = self.source.decode(packet)
        except av.FFmpegError:
            return []
        made = [new for frame in frames for even in self._resample(frame) for new in self.out.encode(even)]
        if packet is None:
            made += [new for even in self._rest() for new in self.out.encode(even)]
            made += self.out.encode(None)
        return made

    def _resample(self, frame: Any) -> list[Any]:
        """Frames in the encoder's form; in transport streams the form of the sound may change."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        rest = self._rest() if form != self._form else []
        if self._resampler is None:
            encoder = self.out.codec_context
            self._resampler = av.AudioResampler(
                encoder.format, encoder.layout, encoder.sample_rate, encoder.frame_size or None
            )
            self._form = form
        return rest + self._resampler.resample(frame)

    def _rest(self) -> list[Any]:
        """The samples that the resampler still holds."""
        resampler, self._resampler = self._resampler, None
        return resampler.resample(None) if resampler else []


def _supports_layout(codec: str, layout: str) -> bool:
    encoder: Any = av.CodecContext.create(codec, "w")
    kind: Any = av.codec.Codec(codec, "w")
    encoder.format, encoder.layout = kind.audio_formats[0], layout
    encoder.sample_rate = (kind.audio_rates or [48000])[0]
    encoder.time_base = Fraction(1, encoder.sample_rate)
    try:
        encoder.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


class _TranscodedSubtitles(_Carried):
    """Text subtitles that are transcoded."""

    def __init__(self, out: Any, stream: Any, codec: str) -> None:
        self.source = stream
        self.out = out.add_stream(codec)
        stream.codec_context.open(strict=False)  # it has a header only from then on
        self.out.codec_context.subtitle_header = stream.codec_context.subtitle_header
        self.out.codec_context.time_base = Fraction(1, 1000)

    def packets(self, packet: Any) -> list[Any]:
        if packet is None:
            return []
        try:
            read = self.source.codec_context.decode2(packet)
            if read is None or not len(read):
                return []
            new = self.out.codec_context.encode_subtitle(read)
        except av.FFmpegError:
            return []
        new.pts = new.dts = packet.pts
        new.duration, new.time_base = packet.duration, packet.time_base
        new.stream = self.out
        return [new]


def _placed(packets: Iterator[Any], video: Any, time_base: Fraction, shown: Fraction) -> Iterator[Any]:
    """Packets of the video, in its stream, moved to when it is shown."""
    parts = time_base / video.time_base
    for packet in packets:
        packet.pts, packet.dts = (int(time * parts + shown / video.time_base) for time in (packet.pts, packet.dts))
        packet.duration = int(packet.duration * parts)
        packet.time_base, packet.stream = video.time_base, video
        yield packet


def _other_packets(container: Any, source: Source, others: dict[int, _Carried], span: Span) -> Iterator[Any]:
    """Packets of the other streams, within the span, on the clock of the new video."""
    if not others:
        return
    for stream in container.streams:
        if stream.index not in others:
            stream.discard = av.stream.Discard.all
    assert isinstance(source, VideoFile)  # only files have other streams
    if span.start is not None and source.can_seek:
        container.seek(int(max(span.start - SLACK, source.start) * av.time_base))
    try:
        for packet in container.demux([container.streams[index] for index in others]):
            if not packet.size:
                continue
            other = others[packet.stream.index]
            other.position = other.position if packet.pos is None else packet.pos
            _shift(packet, source.shift_at(other.position))
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None:
                time *= packet.time_base
                if span.end is not None and time >= span.end + SLACK:
                    break
                if not _is_within(packet, time, span):
                    continue
            yield from _moved(other, packet, span)
    except av.FFmpegError:
        pass  # the file is damaged from here on
    for other in others.values():
        yield from _moved(other, None, span)


def _shift(packet: Any, shift: Fraction) -> None:
    """Adds `shift` seconds to the times of a packet."""
    if shift:
        for name in ("pts", "dts"):
            if getattr(packet, name) is not None:
                setattr(packet, name, getattr(packet, name) + round(shift / packet.time_base))


def _is_within(packet: Any, time: Fraction, span: Span) -> bool:
    """Whether a packet belongs to the span; subtitles that begin before it and are shown in it are cut to it."""
    if packet.stream.type == "video":
        return True
    if packet.stream.type == "subtitle" and span.start is not None and time < span.start and packet.duration:
        rest = time + packet.duration * packet.time_base - span.start
        if rest > 0:
            packet.pts = packet.dts = round(span.start / packet.time_base)
            packet.duration = round(rest / packet.time_base)
            return True
    return (span.start is None or time >= span.start) and (span.end is None or time < span.end)


def _moved(other: _Carried, packet: Any, span: Span) -> Iterator[Any]:
    """The new packets for a packet of another stream, on the clock of the new video."""
    for new in other.packets(packet):
        base = new.time_base
        for name in ("pts", "dts"):
            if getattr(new, name) is not None:
                setattr(new, name, round(span.moved(getattr(new, name) * base) / base))
        if new.duration:
            new.duration *= span.stretch
        new.stream = other.out
        if new.dts is not None:
            if other.source.type == "audio" and 0 <= other.reached - new.dts < OVERLAP / base:
                new.dts = int(other.reached) + 1
                new.pts = max(new.pts, new.dts)
            if new.dts < other.reached:
                continue  # no container accepts it
            other.reached = new.dts
        yield new


def _by_time(one: Iterator[Any], two: Iterator[Any]) -> Iterator[Any]:
    """Merges two streams of packets by the time of decoding, as containers require."""

    def timed(packets: Iterator[Any]) -> Iterator[tuple[Fraction, Any]]:
        time = Fraction(0)
        for packet in packets:
            given = packet.dts if packet.dts is not None else packet.pts
            time = time if given is None else given * packet.time_base
            yield time, packet

    for _, packet in heapq.merge(timed(one), timed(two), key=lambda pair: pair[0]):
        yield packet
