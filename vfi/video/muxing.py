"""The parts of a new video and what the source has besides pictures, to one file.

Sound, subtitles, cover pictures and attachments are copied packet by packet where the container takes them; sound and
subtitles that it does not take are encoded anew as what it takes.
"""

import contextlib
import heapq
import io
import math
from dataclasses import dataclass
from fractions import Fraction

import av

from vfi.errors import UsageError, VideoError, reason
from vfi.files import atomic_write
from vfi.video.reader import VideoFile, is_cover

# Facts about the source's container or encoder that are not true of the new file.
NOT_COPIED = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration", "rotate", "alpha_mode"}
# What MP4's ordinary metadata have a place for; anything else there needs QuickTime's keys.
ORDINARY = {
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping",
    "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "track", "disc", "creation_time",
    "location", "media_type", "hd_video", "gapless_playback", "compilation", "encoder", "timecode",
}  # fmt: skip
SUBTITLE_TEXT = ("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text")
FASTEST_TIMECODE = 255  # frames per second: MP4 counts them in a byte
HEVC = ("libx265", "hevc_nvenc")
PRECISION = Fraction(1, 50000)  # seconds: of where the video begins on the clock of the sound
SLACK = 10  # seconds by which packets of one time may lie apart in a file


@dataclass(frozen=True)
class Span:
    """The piece of the source that the new video is of, on the source's own clock, in seconds.

    Attributes:
        start, end: None for all there is.
        shift: what is added to the source's times, after stretching.
        stretch: how many times as slow the new video is.
        shown: when its first frame is shown.
    """

    start: Fraction | None
    end: Fraction | None
    shift: Fraction
    stretch: int
    shown: Fraction

    def moved(self, time):
        return time * self.stretch + self.shift


def check(source, encoding, span, sound=True):
    """Finds out early whether `join` will do; returns what it will have to leave out or change, as phrases.

    Raises:
        UsageError: the container does not take the video.
    """
    with _opened(source) as container:
        out = av.open(io.BytesIO(), "w", format=encoding.container.name, metadata_errors="surrogateescape")
        try:
            _, _, notes = _lay_out(out, container, source, encoding, span, sound)
            out.start_encoding()
        except av.FFmpegError as error:
            raise UsageError(f"{encoding.container.name} does not take {encoding.codec}: {reason(error)}") from error
        finally:
            with contextlib.suppress(av.FFmpegError):  # some complain that there is nothing in it
                out.close()
    return notes


def join(target, source, encoding, parts, end, span, sound=True, beside=None):
    """Writes the file, whole or not at all.

    Args:
        parts: `Parts`.
        end: when the last frame is no longer shown, in ticks of the encoding's time base.
        sound: whether to take the source's.
        beside: what the file is called until it is whole; see `atomic_write`.

    Raises:
        VideoError: the disk or the container refuses; says why, not what.
    """
    try:
        with (
            atomic_write(target, beside) as new,
            _opened(source) as container,
            av.open(str(new), "w", format=encoding.container.name, metadata_errors="surrogateescape") as out,
        ):
            video, others, _ = _lay_out(out, container, source, encoding, span, sound)
            out.start_encoding()
            pictures = _placed(parts.packets(end), video, encoding.time_base, _shown(encoding, span))
            for packet in _by_time(pictures, _other_packets(container, source, others, span)):
                out.mux(packet)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(reason(error)) from error


def _opened(source):
    return source.open() if isinstance(source, VideoFile) else contextlib.nullcontext()


def _lay_out(out, container, source, encoding, span, sound):
    """Gives an output its streams and metadata.

    Returns:
        The stream of the video; {index of a stream of the source: `_Copied`, `_Heard` or `_Read`}; and what had to be
        left out or changed, as phrases.
    """
    notes, others = [], {}
    if encoding.container.name == "avi":
        out.container_options["avoid_negative_ts"] = (
            "disabled"  # it would move the video, too, to where no frame can be
        )
    video = _video_stream(out, encoding, _shown(encoding, span))
    if container is None:
        return video, others, notes
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
            continue  # MP4 has chapters and time codes in tracks, which the new file gets anew
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


def _video_stream(out, encoding, shown):
    """A stream that looks as if an encoder of its own stood behind it: parts have the packets."""
    try:
        video = out.add_stream(encoding.codec, rate=encoding.rate)
    except ValueError as error:
        raise UsageError(f"{encoding.container.name} does not take {encoding.codec}") from error
    encoding.configure(video.codec_context)
    if encoding.container.name in ("mp4", "mov") and video.codec_context.name in HEVC:
        video.codec_context.codec_tag = "hvc1"  # Apple's players know no other
    video.time_base = encoding.time_base
    if shown % encoding.time_base:  # sound may begin a fraction of a frame earlier
        video.time_base /= math.ceil(encoding.time_base / PRECISION)
    return video


def _shown(encoding, span):
    """When the first frame is shown; AVI only has whole frames, and would show the first one twice."""
    return span.shown - (span.shown % encoding.time_base if encoding.container.name == "avi" else 0)


def _metadata(of):
    known = {name.lower(): name for name in of.metadata}
    return {
        known[name]: of.metadata[known[name]]
        for name in known
        if name not in NOT_COPIED and not name.startswith(("_statistics", "number_of_", "bps", "duration"))
    }


def _name(stream):
    kind = {"audio": "sound", "subtitle": "subtitles", "video": "a second video"}.get(stream.type, stream.type)
    codec = stream.codec_context.name if stream.codec_context else None
    return f"track {stream.index} ({kind}{', ' + codec if codec else ''})"


def _chapters(container, span):
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


def _stream_for(out, stream, kind, source):
    """What carries a stream of the source over, or None, and what is to be said of it."""
    if stream.type == "video" and not is_cover(stream):
        return None, None
    if stream.type not in ("audio", "subtitle", "video", "attachment"):
        return None, None
    if _takes(kind, stream, source):
        return _Copied(out.add_stream_from_template(stream, opaque=True)), None
    refused = f"{kind.name} does not take {_name(stream)}"
    if stream.type == "audio" and kind.audio and stream.codec_context:
        return _Heard(out, stream, kind.audio), f"{refused}: encoded anew as {kind.audio}"
    if stream.type == "subtitle" and kind.subtitles and _is_text(stream):
        return _Read(out, stream, kind.subtitles), f"{refused}: encoded anew as {kind.subtitles}"
    return None, f"{refused}: left out"


def _takes(kind, stream, source):
    """Whether a container takes a stream as it is: some say so and refuse it later, so it is tried."""
    try:
        with source.open() as again, av.open(io.BytesIO(), "w", format=kind.name) as out:
            new = out.add_stream_from_template(stream, opaque=True)
            out.start_encoding()
            if stream.type == "audio":  # some refuse it only when all is written
                for packet in again.demux(again.streams[stream.index]):
                    if packet.size:
                        packet.stream = new
                        out.mux(packet)
                        break
    except (ValueError, av.FFmpegError):
        return False
    return True


def _is_text(stream):
    return stream.codec_context is not None and stream.codec_context.name in SUBTITLE_TEXT


class _Carried:
    """How a stream of the source gets into the new file: `packets` gives the new packets for one of the source's.

    Attributes:
        out: the new stream.
        reached: the time of decoding of its last packet.
    """

    reached = -math.inf


class _Copied(_Carried):
    """A stream whose packets are taken as they are."""

    def __init__(self, out):
        self.out = out

    def packets(self, packet):
        """The new packets for one of the source's, or for None at the end."""
        if packet is None or (packet.stream.codec_context.name == "mov_text" and bytes(packet) == b"\0\0"):
            return []  # such a packet is a pause between subtitles, which the new container makes anew
        return [packet]


class _Heard(_Carried):
    """Sound that is encoded anew."""

    def __init__(self, out, stream, codec):
        self.source = stream
        most = 2 if codec == "libmp3lame" else 8
        heard = stream.codec_context
        layout = heard.layout.name.replace("(side)", "") if heard.channels <= most else "stereo"
        layout = layout if _knows_layout(codec, layout) else "stereo"
        rates = av.codec.Codec(codec, "w").audio_rates or [heard.sample_rate]
        rate = min(rates, key=lambda rate: (rate < heard.sample_rate, abs(rate - heard.sample_rate)))
        self.out = out.add_stream(codec, rate=rate, layout=layout)
        self.out.bit_rate = 96000 * len(av.AudioLayout(layout).channels)
        self._resampler, self._heard = None, None

    def packets(self, packet):
        try:
            frames = self.source.decode(packet)
        except av.FFmpegError:
            return []
        made = [new for frame in frames for even in self._even(frame) for new in self.out.encode(even)]
        if packet is None:
            made += [new for even in self._rest() for new in self.out.encode(even)]
            made += self.out.encode(None)
        return made

    def _even(self, frame):
        """Frames as the encoder wants them; in transport streams the kind of sound may change."""
        heard = (frame.format.name, frame.layout.name, frame.sample_rate)
        rest = self._rest() if heard != self._heard else []
        if self._resampler is None:
            encoder = self.out.codec_context
            form = (encoder.format, encoder.layout, encoder.sample_rate, encoder.frame_size or None)
            self._resampler, self._heard = av.AudioResampler(*form), heard
        return rest + self._resampler.resample(frame)

    def _rest(self):
        resampler, self._resampler = self._resampler, None
        return resampler.resample(None) if resampler else []


def _knows_layout(codec, layout):
    encoder = av.CodecContext.create(codec, "w")
    kind = av.codec.Codec(codec, "w")
    encoder.format, encoder.layout = kind.audio_formats[0], layout
    encoder.sample_rate = (kind.audio_rates or [48000])[0]
    encoder.time_base = Fraction(1, encoder.sample_rate)
    try:
        encoder.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


class _Read(_Carried):
    """Subtitles of text that are encoded anew."""

    def __init__(self, out, stream, codec):
        self.source = stream
        self.out = out.add_stream(codec)
        stream.codec_context.open(strict=False)  # only then has it a header
        self.out.codec_context.subtitle_header = stream.codec_context.subtitle_header
        self.out.codec_context.time_base = Fraction(1, 1000)

    def packets(self, packet):
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


def _placed(packets, video, time_base, shown):
    """Packets of the video, in its stream and moved to its place in time."""
    parts = time_base / video.time_base
    for packet in packets:
        packet.pts, packet.dts = (int(time * parts + shown / video.time_base) for time in (packet.pts, packet.dts))
        packet.duration = int(packet.duration * parts)
        packet.time_base, packet.stream = video.time_base, video
        yield packet


def _other_packets(container, source, others, span):
    """Packets of all that is not the video, of the span alone, on the clock of the new video."""
    if not others:
        return
    for stream in container.streams:
        if stream.index not in others:
            stream.discard = av.stream.Discard.all
    if span.start is not None:
        container.seek(int(max(span.start - SLACK, source.start) * av.time_base))
    try:
        for packet in container.demux([container.streams[index] for index in others]):
            if not packet.size:
                continue
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None:
                time *= packet.time_base
                if span.end is not None and time >= span.end + SLACK:
                    break
                if not _is_within(packet, time, span):
                    continue
            yield from _moved(others[packet.stream.index], packet, span)
    except av.FFmpegError:
        pass  # the file is damaged here: there is no more
    for other in others.values():
        yield from _moved(other, None, span)


def _is_within(packet, time, span):
    """Whether a packet belongs to the span; subtitles that began before it do as long as they are shown in it."""
    if packet.stream.type == "video":
        return True
    if packet.stream.type == "subtitle" and span.start is not None and time < span.start and packet.duration:
        rest = time + packet.duration * packet.time_base - span.start
        if rest > 0:
            packet.pts = packet.dts = round(span.start / packet.time_base)
            packet.duration = round(rest / packet.time_base)
            return True
    return (span.start is None or time >= span.start) and (span.end is None or time < span.end)


def _moved(other, packet, span):
    for new in other.packets(packet):
        base = new.time_base
        for name in ("pts", "dts"):
            if getattr(new, name) is not None:
                setattr(new, name, round(span.moved(getattr(new, name) * base) / base))
        if new.duration:
            new.duration *= span.stretch
        new.stream = other.out
        if new.dts is not None:
            if new.dts < other.reached:
                continue  # as in transport streams that were put together: no container takes it
            other.reached = new.dts
        yield new


def _by_time(one, two):
    """Both streams of packets as one, by the time of decoding: what a container wants to be given."""

    def timed(packets):
        time = 0
        for packet in packets:
            given = packet.dts if packet.dts is not None else packet.pts
            time = time if given is None else given * packet.time_base
            yield time, packet

    for _, packet in heapq.merge(timed(one), timed(two), key=lambda pair: pair[0]):
        yield packet
