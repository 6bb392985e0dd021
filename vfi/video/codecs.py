"""Frames to files: which codec and pixel format suit a target, and encoding in parts.

A video is encoded in parts of a fixed number of frames, each by an encoder of its own, into files of packets beside
the target. A part that is there is whole. So a run that was broken off, however abruptly, can go on from its last
part, and comes to the same packets as one that was not. joining.py makes the target of them.
"""

import os
import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.codec.context import Flags

from vfi import pictures
from vfi.errors import UsageError, VideoError, reason
from vfi.files import atomic_write
from vfi.video.colour import BT709, FULL, LIMITED, UNSPECIFIED, Layout, Pixels, Tags, frame_of, layout_of
from vfi.video.reader import is_pattern, name_of, numbered

PART_FRAMES = 96  # in a part: what a kill costs at most, and how far apart key frames are


@dataclass(frozen=True)
class Container:
    """A kind of file: FFmpeg's name of it, and the codecs that suit it where the source's do not."""

    name: str
    video: str = "libx264"
    audio: str | None = "aac"
    subtitles: str | None = None


CONTAINERS = {
    ".mp4": Container("mp4", subtitles="mov_text"),
    ".m4v": Container("mp4", subtitles="mov_text"),
    ".mov": Container("mov", subtitles="mov_text"),
    ".mkv": Container("matroska", subtitles="subrip"),
    ".webm": Container("webm", "libvpx-vp9", "libopus", "webvtt"),
    ".avi": Container("avi", "mpeg4", "libmp3lame"),
    ".ts": Container("mpegts"),
    ".gif": Container("gif", "gif", None),
}

# With AVX-512, libx264's mbtree reads memory that nobody wrote, at widths such as 320: then two runs differ, and a
# run that is resumed could not give what an uninterrupted one does.
REPEATABLE = {"x264-params": "asm=AVX2"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}

NVENC = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
# Options that give a picture about as good as that of libx264 at its crf.
OPTIONS = {
    "libx264": {"crf": "18", **REPEATABLE},
    "libx265": {"crf": "20", "x265-params": "log-level=error"},
    "libvpx-vp9": {"crf": "24", "row-mt": "1"},
    "libsvtav1": {"crf": "24"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(2 * 118)},  # 118: FF_QP2LAMBDA
    "mjpeg": {"flags": "+qscale", "global_quality": str(2 * 118)},
    "ffv1": {"level": "3"},
    **{name: {"rc": "constqp", "qp": "20"} for name in NVENC},
}
# Of encoders that say of a wrong one only that it is wrong.
PRESETS = dict.fromkeys(
    ("libx264", "libx265"),
    ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"),
)
# To be played anywhere: 4:2:0 whatever the source has. All others keep what they can.
DELIVERY = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4", "mjpeg", *NVENC)
UNTAGGED = ("mpeg4",)  # what they make says nothing of colours: they must be what players guess
LIMITED_ONLY = ("prores_ks", "prores", "prores_aw", "dnxhd", "utvideo", "huffyuv")


@dataclass(frozen=True)
class Encoding:
    """All that makes packets of planes.

    Attributes:
        container: a `Container`.
        codec, options, pixel_format: FFmpeg's names.
        layout: of the planes that are given.
        width, height: of the planes.
        encoded: (width, height) of what is encoded, which may be larger by what the format needs.
        tags, aspect: as those of the source.
        time_base: the unit of time stamps.
        rate: frames per second; if they vary, on average.
    """

    container: Container
    codec: str
    options: tuple
    pixel_format: str
    layout: object
    width: int
    height: int
    encoded: tuple
    tags: Tags
    aspect: Fraction | None
    time_base: Fraction
    rate: Fraction

    def configure(self, context):
        """Sets what an encoder, or a stream that is to look as if it came from one, has to know."""
        context.width, context.height = self.encoded
        context.pix_fmt = self.pixel_format
        context.time_base = self.time_base
        context.framerate = self.rate
        if self.aspect:
            context.sample_aspect_ratio = self.aspect
        context.colorspace, context.color_primaries = self.tags.matrix, self.tags.primaries
        context.color_trc, context.color_range = self.tags.transfer, self.tags.range
        context.options = dict(self.options)
        context.gop_size = PART_FRAMES

    def open(self):
        """A new encoder.

        Raises:
            VideoError: the codec does not take what it is to be given.
        """
        if self.codec == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors alone: otherwise it describes itself with each part
        context = av.CodecContext.create(self.codec, "w")
        if av.ContainerFormat(self.container.name, "w").flags & av.format.Flags.global_header.value:
            context.flags |= Flags.global_header
        try:
            self.configure(context)
            context.open()
        except (av.FFmpegError, ValueError, OverflowError) as error:
            size = f"{self.encoded[0]}x{self.encoded[1]}"
            options = ", ".join(f"{name} {value}" for name, value in self.options if not name.endswith("-params"))
            raise VideoError(
                f"{self.codec} cannot encode {self.pixel_format} of {size}"
                + (f" with {options}" if options else "")
                + f": {reason(error)}"
            ) from error
        return context


def choose(target, source, time_base, rate, codec=None, crf=None, preset=None, pixel_format=None):
    """The `Encoding` for a target and a source, and what it cannot keep, as a list of phrases for the user.

    Raises:
        UsageError: an extension, codec, option or pixel format that is not to be had.
        VideoError: the codec does not take frames like these.
    """
    container = container_of(target)
    codec = codec or container.video
    formats = _formats(codec)
    codec = av.codec.Codec(codec, "w").name  # for h264, say, libx264
    options = dict(OPTIONS.get(codec, {}))
    knows = {option.name for option in av.CodecContext.create(codec, "w").supported_options.private}
    quality = "qp" if codec in NVENC else "crf"
    for wish, name, value in (("crf", quality, crf), ("preset", "preset", preset)):
        if value is not None and name not in knows:
            raise UsageError(f"encoder {codec} has no {wish}")
        if value is not None:
            options[name] = str(value)
    if preset is not None and preset not in PRESETS.get(codec, [preset]):
        raise UsageError(f"encoder {codec} has no preset {preset}: use one of {', '.join(PRESETS[codec])}")
    if pixel_format and formats and pixel_format not in formats:
        known = ", ".join(formats)
        raise UsageError(f"encoder {codec} does not know the pixel format {pixel_format}: use one of {known}")
    try:
        av.VideoFormat(pixel_format or "yuv420p", 2, 2)
    except ValueError as error:  # where the encoder does not say what it knows
        raise UsageError(f"the pixel format {pixel_format} is not in this build of FFmpeg") from error
    pixel_format = pixel_format or _best_format(codec, formats, source.layout)
    tags, layout = _colours(codec, pixel_format, source)
    notes = []
    if codec in HDR_PARAMETERS:
        options |= _hdr_options(codec, options, source.light)
    elif source.light:
        notes.append(f"{codec} has no place for HDR metadata (mastering display, content light): it was left out")
    if source.layout.bits > layout.bits and codec != "gif":
        notes.append(f"{codec} gets {layout.bits} bits of each colour: the source's {source.layout.bits} were rounded")
    if source.layout.alpha and not layout.alpha and codec != "gif":
        notes.append(
            f"{pixel_format} holds no transparency: the video was put on white (codecs that hold it: ffv1 in mkv, "
            "prores_ks and qtrle in mov)"
        )
    if codec == "gif" and rate > 50:
        notes.append("many programs show a GIF of more than 50 frames per second slowly")
    encoding = Encoding(
        container, codec, tuple(options.items()), pixel_format, layout, source.width, source.height,
        (source.width, source.height), tags, source.aspect, time_base, rate,
    )  # fmt: skip
    try:
        encoding.open()
    except VideoError:
        across, down = layout.chroma if layout.model == "yuv" else (1, 1)
        encoded = (-(-source.width // across) * across, -(-source.height // down) * down)
        if encoded == encoding.encoded:
            raise
        encoding = replace(encoding, encoded=encoded)
        encoding.open()
        notes.append(
            f"{codec} in {pixel_format} has no odd sizes: {source.width}x{source.height} became "
            f"{encoded[0]}x{encoded[1]}, by repeating the last row or column"
        )
    return encoding, notes


def container_of(target):
    container = CONTAINERS.get(target.suffix.lower())
    if container is None:
        known = ", ".join(suffix[1:] for suffix in CONTAINERS)
        also = "; for pictures name a folder, or a pattern such as frames/%05d.png"
        raise UsageError(f"{target}: the extension {target.suffix or '(none)'} is not known: use one of {known}{also}")
    return container


def _formats(codec):
    """The pixel formats of an encoder, without those that only say once more that the range is full, or that frames
    are on some device already."""
    try:
        described = av.codec.Codec(codec, "w")
    except (av.FFmpegError, ValueError) as error:
        raise UsageError(f"encoder {codec} is not in this build of FFmpeg") from error
    if described.type != "video":
        raise UsageError(f"encoder {codec} is not for video")
    kinds = [kind.name for kind in described.video_formats or [] if kind.components]
    if described.name.startswith("libvpx"):
        kinds = [name for name in kinds if "yuva" not in name]  # transparency is beside its packets: parts lack it
    return list(dict.fromkeys(kind.replace("yuvj", "yuv") for kind in kinds))


def _best_format(codec, formats, source):
    """What loses nothing of a layout, or the least; of those, what adds the least."""

    def area(layout):
        return layout.chroma[0] * layout.chroma[1] if getattr(layout, "model", "") == "yuv" else 1

    model = source.model if isinstance(source, Layout) else "rgb" if source.colour else "grey"

    def fitness(name):
        layout = layout_of(name)
        return (
            layout.model == "grey" != model,
            source.bits - layout.bits if source.bits > layout.bits else 0,
            max(0, area(layout) - area(source)),
            source.alpha and not layout.alpha,
            layout.model != model,
            layout.bits - source.bits,
            -area(layout),
            layout.alpha,
            layout.format != name,
        )

    if codec == "gif":
        return "pal8"
    if codec in DELIVERY:
        formats = [name for name in formats if layout_of(name).format.startswith("yuv420p")] or formats
    return min(formats, key=fitness) if formats else getattr(source, "format", "rgb24")


def _colours(codec, pixel_format, source):
    """Tags and layout of what is encoded: the source's, but for what the codec or the format does not know."""
    tags = source.tags
    layout = layout_of(pixel_format)
    if layout.model == "rgb":
        return replace(tags, matrix=0, range=FULL), layout
    from_pictures = not isinstance(source.layout, Layout) or source.layout.model == "rgb"
    if from_pictures:
        seen = [UNSPECIFIED, 0]
        tags = Tags(BT709, *(BT709 if tag in seen else tag for tag in (tags.primaries, tags.transfer)), LIMITED)
    elif source.layout.full:
        tags = replace(tags, range=FULL)
    if codec in UNTAGGED:
        tags = Tags()
    elif codec in LIMITED_ONLY:
        tags = replace(tags, range=LIMITED)
    elif codec == "mjpeg":
        tags = replace(tags, range=FULL)
    return tags, layout_of(pixel_format, tags, (source.width, source.height))


# FFmpeg's structures: an AVMasteringDisplayMetadata has ten rationals (red, green, blue, white point: x and y; the
# least and the largest luminance) and two flags; an AVContentLightMetadata two numbers.
HDR_PARAMETERS = {
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libx265": ("x265-params", "master-display", "max-cll"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
}


def _hdr_options(codec, options, light):
    parameters, mastering, content = HDR_PARAMETERS[codec]
    given = [options[parameters]] if parameters in options else []
    if "mastering" in light:
        numbers = struct.unpack("20i", light["mastering"][:80])
        values = [Fraction(over, under or 1) for over, under in zip(numbers[::2], numbers[1::2], strict=True)]
        if codec == "libsvtav1":
            text = [f"{float(value):.5f}" for value in values]
        else:  # in units of 0.00002 for chromaticity, 0.0001 cd/m2 for luminance
            text = [str(round(value * (50000 if index < 8 else 10000))) for index, value in enumerate(values)]
        red, green, blue, white = (f"({x},{y})" for x, y in zip(text[0:8:2], text[1:8:2], strict=True))
        given.append(f"{mastering}=G{green}B{blue}R{red}WP{white}L({text[9]},{text[8]})")
    if "content" in light:
        given.append("{}={},{}".format(content, *struct.unpack("2I", light["content"][:8])))
    return {parameters: ":".join(given)} if given else {}


# --- Parts --------------------------------------------------------------------------------------------------------

_HEADER = struct.Struct("<q?I")  # of a packet in a part: time stamp, whether it is a key frame, bytes that follow


class Parts:
    """The parts of a video that is being made, in a folder of their own.

    Attributes:
        done: how many frames are in whole parts.
    """

    def __init__(self, folder, encoding, part_frames=PART_FRAMES):
        self.folder = folder
        self.encoding = encoding
        self.part_frames = part_frames
        self._whole = 0
        while self._path(self._whole).exists():
            self._whole += 1
        self._has_rest = False
        self._context, self._packets, self._given = None, [], 0

    @property
    def done(self):
        return self._whole * self.part_frames

    def _path(self, number, kind="part"):
        return self.folder / f"{number:06}.{kind}"

    def write(self, planes, tick):
        """Encodes a frame that is shown at `tick`, in units of the encoding's time base."""
        if self._context is None:
            self._context = self.encoding.open()
            self._palette = _palette_graph(self.encoding) if self.encoding.codec == "gif" else None
        frame = self._frame(planes)
        frame.pts, frame.time_base = tick, self.encoding.time_base
        self._encode(frame)
        self._given += 1
        if self._given == self.part_frames:
            self._save("part")
            self._whole += 1

    def _frame(self, planes):
        encoding = self.encoding
        if encoding.encoded != (encoding.width, encoding.height):
            sizes = encoding.layout.plane_sizes(*encoding.encoded[::-1])
            planes = [
                np.pad(plane, [(0, size - given) for size, given in zip(sizes_, plane.shape, strict=True)], "edge")
                for plane, sizes_ in zip(planes, sizes, strict=True)
            ]
        if not self._palette:
            return frame_of(planes, encoding.layout, encoding.pixel_format)
        self._palette.vpush(frame_of(planes, encoding.layout, "bgra" if encoding.layout.alpha else "bgr0"))
        return self._palette.vpull()

    def _encode(self, frame):
        try:
            packets = self._context.encode(frame)
        except av.FFmpegError as error:  # some find out only now
            raise VideoError(f"{self.encoding.codec} cannot encode this: {reason(error)}") from error
        self._packets += [(packet.pts, packet.is_keyframe, bytes(packet)) for packet in packets]

    def close(self):
        """Saves what is encoded and makes no whole part: at the end, or to be looked at; `done` does not count it."""
        if self._given:
            self._save("rest")
            self._has_rest = True

    def _save(self, kind):
        self._encode(None)
        with atomic_write(self._path(self._whole, kind)) as beside, open(beside, "wb") as file:
            for time, is_key, data in self._packets:
                file.write(_HEADER.pack(time, is_key, len(data)))
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._context, self._packets, self._given = None, [], 0

    def packets(self, end):
        """Yields PyAV's packets of all parts, in the order of decoding, with times for it that never go back.

        Args:
            end: the tick at which the last frame is no longer shown.
        """
        files = [self._path(number) for number in range(self._whole)]
        files += [self._path(self._whole, "rest")] * self._has_rest
        times = np.concatenate([[time for time, _, _ in _read_part(file, False)] for file in files])  # all in memory,
        order = np.argsort(times, kind="stable")  # eight bytes for a frame
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        shown = times[order]
        # By so many frames is decoding ahead of showing.
        delay = int((np.arange(len(rank)) - rank).max())
        step = int(shown[1] - shown[0]) if len(shown) > 1 else 1
        decoded = np.concatenate([shown[0] + step * np.arange(-delay, 0), shown[: len(shown) - delay]])
        ends = np.append(shown[1:], max(end, int(shown[-1]) + 1))[rank]
        number = 0
        for file in files:
            for time, is_key, data in _read_part(file):
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.duration = time, int(decoded[number]), int(ends[number]) - time
                packet.time_base, packet.is_keyframe = self.encoding.time_base, is_key
                yield packet
                number += 1


def _read_part(path, with_data=True):
    """Yields (time stamp, whether it is a key frame, bytes) of each packet."""
    with open(path, "rb") as file:
        while header := file.read(_HEADER.size):
            time, is_key, size = _HEADER.unpack(header)
            if with_data:
                yield time, is_key, file.read(size)
            else:
                file.seek(size, os.SEEK_CUR)
                yield time, is_key, None


def _palette_graph(encoding):
    """FFmpeg's palettes for GIF: 256 colours of its own for each frame."""
    graph = av.filter.Graph()
    kind = av.VideoFormat("bgra" if encoding.layout.alpha else "bgr0", *encoding.encoded)
    source = graph.add_buffer(width=kind.width, height=kind.height, format=kind, time_base=encoding.time_base)
    split = graph.add("split")
    palette = graph.add("palettegen", stats_mode="single")
    use = graph.add("paletteuse", new="1")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


# --- Pictures -----------------------------------------------------------------------------------------------------

NAMES = "%06d.png"  # in a folder


def is_pictures(target):
    """Whether a target is a folder of pictures, or a pattern of their names, instead of a file."""
    return is_pattern(target) or target.is_dir() or not target.suffix


class PictureFolder:
    """Numbered pictures as they are made, in a folder of their own; looks like `Parts`."""

    def __init__(self, folder, target, icc_profile, note):
        self.folder = folder
        self.names = target.name if is_pattern(target) else NAMES
        self.icc_profile = icc_profile
        self._note = note
        self._noted = set()
        self.done = 0
        while self._path(self.done).exists():
            self.done += 1

    def _path(self, number):
        return self.folder / numbered(self.names, number + 1)

    def write(self, planes, tick):
        """Writes a picture; `tick` is not kept: pictures have no times."""
        picture = pictures.Picture(planes[0], self.icc_profile)
        for loss in set(pictures.write(self._path(self.done), picture)) - self._noted:
            self._noted.add(loss)
            self._note(loss)
        self.done += 1

    def close(self):
        """Nothing is open."""

    def move(self, target):
        """Puts the pictures where they belong."""
        home = target.parent if is_pattern(target) else target
        home.mkdir(exist_ok=True)
        for number in range(self.done):
            os.replace(self._path(number), home / self._path(number).name)


def present(pattern):
    """Whether there are files that match a pattern."""
    return any(name_of(pattern).fullmatch(file.name) for file in pattern.parent.iterdir())


def picture_layout(target, source):
    """What pictures hold that are made of a source."""
    name = target.name if is_pattern(target) else NAMES
    if is_pattern(Path(numbered(name, 1))):
        raise UsageError(f"{target} has more than one place for a number")
    suffix = Path(name).suffix.lower()
    if suffix not in pictures.FORMATS:
        known = ", ".join(known[1:] for known in pictures.FORMATS)
        raise UsageError(f"{target}: {suffix or 'no extension'} is none of pictures: use one of {known}")
    if isinstance(source.layout, Pixels):
        return source.layout
    return Pixels(source.layout.model != "grey", source.layout.alpha, source.layout.bits > 8)
