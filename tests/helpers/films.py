"""Makes small videos of every kind, and reads everything that is in a video."""

from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT = 64, 48
LOSSLESS = {"libx264": {"qp": "0", "preset": "ultrafast"}, "libx265": {"x265-params": "lossless=1:log-level=none"}}


def grey(values, width=WIDTH, height=HEIGHT):
    """Frames of one grey each, as (Y, U, V)."""
    return [[np.full((height, width), value), *[np.full((height // 2, width // 2), 128)] * 2] for value in values]


def moving(count, width=WIDTH, height=HEIGHT, step=2, seed=0):
    """Frames of a smooth pattern that moves to the left, as (Y, U, V)."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(40, 216, (height // 8 + 1, (width + step * count) // 8 + 2))
    wide = np.kron(coarse, np.ones((8, 8), int))
    kernel = np.ones(7) / 7
    for axis in (0, 1):
        wide = np.apply_along_axis(np.convolve, axis, wide, kernel, "same")
    chroma = [np.full((height // 2, width // 2), value) for value in (110, 140)]
    return [[wide[:height, step * i : step * i + width].astype(int), *chroma] for i in range(count)]


def frame_of(planes, pixel_format):
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        dtype = np.uint8 if plane.line_size < 2 * plane.width or pixel_format in ("rgb24", "bgra") else np.uint16
        lines = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        lines[:, : values.shape[1]] = values[: plane.height]
    return frame


def make(
    path, frames, rate=25, codec="libx264", pixel_format="yuv420p", times=None, time_base=None, options=None,
    sound=(), subtitles=None, metadata=None, chapters=None, configure=None, mark=None,
):  # fmt: skip
    """Writes a video.

    Args:
        frames: lists of planes.
        times: of the frames, in units of time_base; by default one after the other at the rate.
        sound: names of codecs, one for each track, with a layout if it is not stereo, as in "flac 5.1".
        subtitles: [(start, end, text)] in seconds.
        configure: called with the video's stream; mark: with each frame.
    """
    rate = Fraction(rate)
    time_base = time_base or 1 / rate
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=rate)
        video.width, video.height = frames[0][0].shape[1], frames[0][0].shape[0]
        video.pix_fmt = pixel_format
        video.codec_context.time_base = time_base
        video.options = dict(options if options is not None else LOSSLESS.get(codec, {}))
        if configure:
            configure(video)
        tracks = []
        for number, name in enumerate(sound):
            codec, _, layout = name.partition(" ")
            track = out.add_stream(codec, rate=48000, layout=layout or "stereo")
            track.metadata["language"] = ("eng", "deu", "fra")[number]
            tracks.append(track)
        text = None
        if subtitles:
            text = out.add_stream("subrip" if out.format.name.startswith("matroska") else "mov_text")
            text.codec_context.subtitle_header = b"[Script Info]\n[V4+ Styles]\n[Events]\n"
            text.codec_context.time_base = Fraction(1, 1000)
            text.metadata["language"] = "eng"
        out.metadata.update(metadata or {})
        if chapters:
            out.set_chapters(
                [
                    {"id": i, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                    for i, (a, b, title) in enumerate(chapters)
                ]
            )
        out.start_encoding()
        packets = []
        for number, planes in enumerate(frames):
            frame = frame_of(planes, pixel_format)
            frame.pts, frame.time_base = (times[number] if times else number), time_base
            if mark:
                mark(frame)
            packets += video.encode(frame)
        packets += video.encode(None)
        length = float((times[-1] if times else len(frames)) * time_base)
        for number, track in enumerate(tracks):
            packets += _tone(track, length, 440 * (number + 1))
        for start, end, line in subtitles or ():
            event = av.subtitles.subtitle.SubtitleSet.create(
                f"0,0,Default,,0,0,0,,{line}".encode(), 0, int((end - start) * 1000), int(start * 10**6)
            )
            packet = text.codec_context.encode_subtitle(event)
            packet.pts = packet.dts = int(start * 1000)
            packet.duration, packet.time_base, packet.stream = int((end - start) * 1000), Fraction(1, 1000), text
            packets.append(packet)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


def _tone(track, length, pitch):
    encoder = track.codec_context
    resampler = av.AudioResampler(encoder.format, encoder.layout, encoder.sample_rate, encoder.frame_size or 1024)
    time = np.arange(int(length * 48000)) / 48000
    samples = (8000 * np.sin(2 * np.pi * pitch * time)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(samples, 2)[None], "s16", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    packets = []
    for even in [*resampler.resample(frame), *resampler.resample(None)]:
        packets += track.encode(even)
    return packets + track.encode(None)


class Film:
    """Everything that is in a video file.

    Attributes:
        rate, count, times (in seconds), planes (lists of arrays), frames (PyAV's), streams ([(type, codec)]),
        packets ({index: [bytes]}), starts ({index: [seconds]}), metadata, chapters, languages.
    """

    def __init__(self, path):
        with av.open(str(path)) as container:
            video = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
            self.rate, self.codec = video.average_rate, video.codec_context.name
            self.metadata, self.chapters = dict(container.metadata), container.chapters()
            self.video_metadata = dict(video.metadata)
            self.format, self.aspect = video.codec_context.pix_fmt, video.sample_aspect_ratio
            self.width, self.height = video.width, video.height
            self.streams = [(s.type, s.codec_context and s.codec_context.name) for s in container.streams]
            self.languages = [s.metadata.get("language") for s in container.streams]
            self.packets = {s.index: [] for s in container.streams}
            self.starts = {s.index: [] for s in container.streams}
            self.frames = []
            for packet in container.demux():
                if packet.size:
                    self.packets[packet.stream.index].append(bytes(packet))
                    self.starts[packet.stream.index].append(float((packet.pts or 0) * packet.time_base))
                if packet.stream is video:
                    for frame in packet.decode():
                        frame.time_base = frame.time_base or video.time_base
                        self.frames.append(frame)
            self.times = [float(frame.pts * frame.time_base) for frame in self.frames]
            self.tags = (video.colorspace, video.color_primaries, video.color_trc, video.color_range)
        self.planes = [planes_of(frame) for frame in self.frames]
        self.count = len(self.frames)
        self.levels = [float(planes[0].mean()) for planes in self.planes]

    def of(self, kind):
        """Indices of the streams of a type."""
        return [index for index, (name, _) in enumerate(self.streams) if name == kind]


def planes_of(frame):
    planes = []
    for plane in frame.planes:
        dtype = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        lines = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        planes.append(lines[:, : plane.width * (3 if frame.format.name == "rgb24" else 1)].copy())
    return planes
