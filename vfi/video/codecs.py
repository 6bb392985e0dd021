"""Which codec, options and pixel format suit a target and a source, and how an encoder is opened."""

import os
import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import torch
from av.codec.context import Flags

from vfi.errors import UsageError, VideoError, reason
from vfi.video import animation_writer
from vfi.video.colour import BT709, FULL, LIMITED, UNSPECIFIED, Layout, Pixels, Tags, layout_of

if TYPE_CHECKING:
    from vfi.video.source import Source

PART_FRAMES = 96  # frames in a part: what a killed run loses at most, and how far apart key frames are


@dataclass(frozen=True)
class Container:
    """A kind of file: FFmpeg's name for it, and encoders for it; None if it cannot hold such a stream."""

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

# With AVX-512, libx264's mbtree reads uninitialised memory at widths such as 320: then two runs differ, and a resumed
# run could not give what an uninterrupted one gives.
REPEATABLE = {"x264-params": "asm=AVX2"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}

NVENC = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
# Options that give about the quality of libx264 at its crf.
OPTIONS = {
    "libx264": {"crf": "18", **REPEATABLE},
    "libx265": {"crf": "20", "x265-params": "log-level=error"},
    "libvpx": {"threads": "1"},  # of two and more, one sometimes waits for another for ever
    "libvpx-vp9": {"crf": "24", "row-mt": "1"},
    "libsvtav1": {"crf": "24"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(2 * 118)},  # 118: FF_QP2LAMBDA
    "mjpeg": {"flags": "+qscale", "global_quality": str(2 * 118)},
    "ffv1": {"level": "3"},
    **{name: {"rc": "constqp", "qp": "20"} for name in NVENC},
}
# Encoders whose error does not list the valid presets.
PRESETS = dict.fromkeys(
    ("libx264", "libx265"),
    ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"),
)
# For players everywhere: 4:2:0, whatever the source has. All other encoders keep what they can.
DELIVERY = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4", "mjpeg", *NVENC)
DELIVERED_BITS = 10  # for each colour, likewise
VPX = ("libvpx", "libvpx-vp9")  # their transparency is a second video, beside the packets of the first
VPX_ALPHA = ("yuva420p",)
ALPHA_BESIDE = ("webm", "matroska")  # containers that hold it there
UNTAGGED = ("mpeg4",)  # their files do not name the colours: they must be those that players assume
LIMITED_ONLY = ("prores_ks", "prores", "prores_aw", "dnxhd", "utvideo", "huffyuv")


@dataclass(frozen=True)
class EncoderOptions:
    """What the user asks of the encoder; None for what suits the target."""

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pixel_format: str | None = None


@dataclass(frozen=True)
class Encoding:
    """Everything that an encoder has to know.

    Attributes:
        container: of the file.
        codec, options, pixel_format: FFmpeg's names.
        layout: of the planes to encode.
        width, height: of the planes, in pixels.
        encoded: (width, height) of the encoded picture; larger where the pixel format needs whole samples of chroma.
        tags, aspect: those of the source, where the codec knows them.
        time_base: the unit of time stamps, in seconds.
        rate: frames per second; the average if they vary.
    """

    container: Container
    codec: str
    options: tuple[tuple[str, str], ...]
    pixel_format: str
    layout: Layout
    width: int
    height: int
    encoded: tuple[int, int]
    tags: Tags
    aspect: Fraction | None
    time_base: Fraction
    rate: Fraction

    def configure(self, context: Any) -> None:
        """Sets the attributes of an encoder's context, or of a stream that holds packets of such an encoder."""
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

    def open(self) -> Any:
        """Opens a new encoder.

        Raises:
            VideoError: the codec does not accept such frames or options.
        """
        if self.codec == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # only errors: otherwise it prints a description for each part
        context = av.CodecContext.create(self.codec, "w")
        container: Any = av.ContainerFormat(self.container.name, "w")
        if container.flags & av.format.Flags.global_header.value:
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


def choose(
    target: Path, source: "Source", time_base: Fraction, rate: Fraction, encoder: EncoderOptions = EncoderOptions()
) -> tuple[Encoding, list[str]]:
    """Chooses the `Encoding` for a target and a source; returns it with a note for each thing that it cannot keep.

    Args:
        time_base, rate: see `Encoding`.
        encoder: what the user asks for.

    Raises:
        UsageError: this build of FFmpeg lacks the extension, codec, option or pixel format.
        VideoError: the codec does not accept frames like these.
    """
    container = container_of(target)
    codec = encoder.codec or _default_codec(container, source)
    formats = _formats(codec)
    codec = av.codec.Codec(codec, "w").name  # libx264 for h264, for example
    formats = [name for name in formats if not layout_of(name).alpha or _holds_alpha(name, codec, container)]
    options = _options(codec, encoder)
    pixel_format = encoder.pixel_format
    if pixel_format and formats and pixel_format not in formats:
        known = ", ".join(formats)
        raise UsageError(f"encoder {codec} does not know the pixel format {pixel_format}: use one of {known}")
    try:
        av.VideoFormat(pixel_format or "yuv420p", 2, 2)
    except ValueError as error:  # the encoder has no list of its formats
        raise UsageError(f"the pixel format {pixel_format} is not in this build of FFmpeg") from error
    pixel_format = pixel_format or _best_format(codec, formats, source.layout)
    tags, layout = _colours(codec, pixel_format, source)
    notes = _losses(codec, pixel_format, layout, source, rate)
    if not encoder.pixel_format:
        notes += _loss_of_chroma(pixel_format, formats, layout, source)
    if layout.alpha and codec in VPX:
        options["auto-alt-ref"] = "0"  # libvpx refuses to combine both
    if codec in TAG_PARAMETERS:
        options |= _tag_options(codec, options, source.light, layout)
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


def _holds_alpha(pixel_format: str, codec: str, container: Container) -> bool:
    """Whether a format with transparency, which the encoder knows, can be used in a container."""
    if codec in VPX:
        return pixel_format in VPX_ALPHA and container.name in ALPHA_BESIDE
    if codec != "libx265":
        return True
    # The encoder knows the format even if its library was built without transparency.
    context: Any = av.CodecContext.create(codec, "w")
    context.width = context.height = 64
    context.pix_fmt, context.time_base, context.options = pixel_format, Fraction(1), dict(OPTIONS[codec])
    try:
        context.open()
    except (av.FFmpegError, OSError):
        return False
    return True


def _default_codec(container: Container, source: "Source") -> str:
    """The container's codec; for more than 8 bits HEVC instead of H.264, whose 10 bits hardly any player shows."""
    return "libx265" if container.video == "libx264" and source.layout.bits > 8 else container.video


def _options(codec: str, encoder: EncoderOptions) -> dict[str, str]:
    """The options of a codec: those that the user asks for, otherwise those of OPTIONS."""
    options = dict(OPTIONS.get(codec, {}))
    known = {option.name for option in av.CodecContext.create(codec, "w").supported_options.private}
    quality = "qp" if codec in NVENC else "crf"
    for option, name, value in (("crf", quality, encoder.crf), ("preset", "preset", encoder.preset)):
        if value is not None and name not in known:
            raise UsageError(f"encoder {codec} has no {option}")
        if value is not None:
            options[name] = str(value)
    if encoder.preset is not None and encoder.preset not in PRESETS.get(codec, [encoder.preset]):
        raise UsageError(f"encoder {codec} has no preset {encoder.preset}: use one of {', '.join(PRESETS[codec])}")
    return options


def _losses(codec: str, pixel_format: str, layout: Layout, source: "Source", rate: Fraction) -> list[str]:
    """A note for each thing that this codec and format cannot keep of a source."""
    notes = []
    if source.light and codec not in TAG_PARAMETERS:
        notes.append(f"{codec} has no place for HDR metadata (mastering display, content light): they were left out")
    if source.layout.bits > layout.bits and codec != "gif":
        notes.append(
            f"{codec} encodes {layout.bits} bits for each colour: the source's {source.layout.bits} bits were rounded"
        )
    if source.layout.alpha and not layout.alpha and codec != "gif":
        notes.append(
            f"{pixel_format} holds no transparency: the video was blended with white (webm holds it; so do ffv1 in "
            "mkv, prores_ks and qtrle in mov)"
        )
    if codec == "gif" and rate > 50:
        notes.append("many programs show a GIF of more than 50 frames per second slowly")
    return notes


def _loss_of_chroma(pixel_format: str, formats: list[str], layout: Layout, source: "Source") -> list[str]:
    """A note if a video has fewer samples of colour than its source; pictures become videos in the usual format."""
    if isinstance(source.layout, Pixels) or _chroma_area(layout) <= _chroma_area(source.layout):
        return []
    note = f"{pixel_format} has fewer samples of colour than the source's {source.layout.format}"
    best = _least_loss(formats, source.layout) if formats else pixel_format
    kept = layout_of(best)
    if _chroma_area(kept) <= _chroma_area(source.layout) and kept.alpha >= layout.alpha:
        note += f"; --pixel-format {best} keeps them, but fewer players show it"
    return [note]


def container_of(target: Path) -> Container:
    """The kind of file that a target's extension stands for; raises UsageError for an unknown one."""
    container = CONTAINERS.get(target.suffix.lower())
    if container is None:
        known = ", ".join(suffix[1:] for suffix in (*CONTAINERS, *animation_writer.WRITERS))
        also = "; for pictures name a folder, or a pattern such as frames/%05d.png"
        raise UsageError(f"{target}: the extension {target.suffix or '(none)'} is not known: use one of {known}{also}")
    return container


def _formats(codec: str) -> list[str]:
    """The pixel formats of an encoder, without yuvj formats (which only repeat that the range is full) and without
    formats of frames on other devices."""
    try:
        described = av.codec.Codec(codec, "w")
    except (av.FFmpegError, ValueError) as error:
        raise UsageError(f"encoder {codec} is not in this build of FFmpeg") from error
    if described.type != "video":
        raise UsageError(f"encoder {codec} is not for video")
    kinds = [kind.name for kind in described.video_formats or [] if kind.components]
    return list(dict.fromkeys(kind.replace("yuvj", "yuv") for kind in kinds))


def _best_format(codec: str, formats: list[str], source: Layout | Pixels) -> str:
    """The format for a codec: the one that loses least of a layout, of those that players show."""
    if codec == "gif":
        return "pal8"
    if codec in DELIVERY:
        usual = [name for name in formats if layout_of(name).format.startswith("yuv420p")]
        if source.alpha:
            usual = [name for name in formats if name.startswith("yuva420p")] or usual
        formats = [name for name in usual if layout_of(name).bits <= DELIVERED_BITS] or usual or formats
    return _least_loss(formats, source) if formats else getattr(source, "format", "rgb24")


def _chroma_area(layout: Layout | Pixels) -> int:
    """How many pixels share one sample of colour."""
    return layout.chroma[0] * layout.chroma[1] if isinstance(layout, Layout) and layout.model == "yuv" else 1


def _least_loss(formats: list[str], source: Layout | Pixels) -> str:
    """The format that loses least of a layout; among equals, the one that adds least."""
    model = source.model if isinstance(source, Layout) else "rgb" if source.colour else "grey"

    def losses(name: str) -> tuple[Any, ...]:
        layout = layout_of(name)
        return (
            layout.model == "grey" != model,
            source.bits - layout.bits if source.bits > layout.bits else 0,
            max(0, _chroma_area(layout) - _chroma_area(source)),
            source.alpha and not layout.alpha,
            layout.model != model,
            layout.bits - source.bits,
            -_chroma_area(layout),
            layout.alpha,
            layout.format != name,
        )

    return min(formats, key=losses)


def _colours(codec: str, pixel_format: str, source: "Source") -> tuple[Tags, Layout]:
    """Tags and layout of the encoded planes: the source's, unless the codec or the format does not know them."""
    tags = source.tags
    layout = layout_of(pixel_format)
    if layout.model == "rgb":
        return replace(tags, matrix=0, range=FULL), layout
    if isinstance(source.layout, Pixels) or source.layout.model == "rgb":
        primaries, transfer = (BT709 if tag in (UNSPECIFIED, 0) else tag for tag in (tags.primaries, tags.transfer))
        tags = Tags(BT709, primaries, transfer, LIMITED)
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
# least and the largest luminance) and two flags; an AVContentLightMetadata has two numbers.
TAG_PARAMETERS = {
    "libx264": ("x264-params", "mastering-display", "cll", "chromaloc"),
    "libx265": ("x265-params", "master-display", "max-cll", "chromaloc"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light", "chroma-sample-position"),
}
TOP_LEFT = "2"  # where chroma lies, in H.273 and in AV1


def _tag_options(codec: str, options: dict[str, str], light: dict[str, bytes], layout: Layout) -> dict[str, str]:
    """The encoder's option for HDR metadata and the location of chroma, added to its other parameters."""
    parameters, mastering, content, location = TAG_PARAMETERS[codec]
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
    if layout.chroma == (2, 2) and layout.centred == (False, False):  # players would expect it on the left
        given.append(f"{location}={TOP_LEFT}")
    return {parameters: ":".join(given)} if given else {}
