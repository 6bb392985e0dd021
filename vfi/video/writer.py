"""Encodes frames into parts, from which a video that was interrupted goes on.

A video is encoded in parts of a fixed number of frames, each by an encoder of its own, into files of packets beside
the target. A part that exists is whole. So a run that was interrupted, however abruptly, goes on from its last part
and produces the same packets as one that was not. muxing.py joins them into the target.
"""

import itertools
import os
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.packet import PacketSideData
from numpy.typing import NDArray

from vfi.errors import VideoError, reason
from vfi.files import atomic_write
from vfi.video.codecs import PART_FRAMES, Encoding
from vfi.video.colour import frame_of

# Of a packet in a part: time stamp, whether it is a key frame, how many bytes follow, and how many of its side data.
_HEADER = struct.Struct("<q?II")
_BESIDE = "matroska_block_additional"  # side data: where WebM has the transparency of a VP9 frame


class _Packet(NamedTuple):
    """A packet in a part; `beside` is its side data."""

    time: int
    is_key: bool
    data: bytes
    beside: bytes


class Parts:
    """The parts of a video that is being made, in a folder of their own.

    Args:
        first: number of the part to begin with, from 0; by default, the first that is not there.

    Attributes:
        done: how many frames are in whole parts, from part 0 on.
        made: names of the files that were made.
    """

    def __init__(
        self, folder: Path, encoding: Encoding, part_frames: int = PART_FRAMES, first: int | None = None
    ) -> None:
        self.folder = folder
        self.encoding = encoding
        self.part_frames = part_frames
        self._whole = first or 0
        self.made: list[str] = []
        self._rest: Path | None = None  # the file of the last frames, which make no whole part
        if first is None:
            self._count()
        self._context: Any = None  # the encoder of the current part
        self._palette: Any = None  # the filter of the current part, for GIF
        self._packets: list[_Packet] = []
        self._given = 0  # frames of the current part

    def _count(self) -> None:
        while self.has(self._whole):
            self._whole += 1

    def has(self, number: int) -> bool:
        """Whether a part is there as a whole."""
        return self._path(number).exists()

    def adopt(self, names: Iterable[str]) -> None:
        """Takes over files that another `Parts` has made of a part, and that are in the folder now."""
        self._rest = next((self.folder / name for name in names if name.endswith(".rest")), self._rest)
        self._count()

    @property
    def done(self) -> int:
        return self._whole * self.part_frames

    def _path(self, number: int, kind: str = "part") -> Path:
        return self.folder / f"{number:06}.{kind}"

    def write(self, planes: list[NDArray[Any]], tick: int) -> None:
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

    def _frame(self, planes: list[NDArray[Any]]) -> Any:
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

    def _encode(self, frame: Any) -> None:
        try:
            packets = self._context.encode(frame)
        except av.FFmpegError as error:  # some encoders find out only now
            raise VideoError(f"{self.encoding.codec} cannot encode the frames: {reason(error)}") from error
        for packet in packets:
            beside = bytes(packet.get_sidedata(_BESIDE)) if packet.has_sidedata(_BESIDE) else b""
            self._packets.append(_Packet(packet.pts, packet.is_keyframe, bytes(packet), beside))

    def close(self) -> None:
        """Saves the last frames, which make no whole part; `done` does not count them."""
        if self._given:
            self._rest = self._save("rest")

    def _save(self, kind: str) -> Path:
        self._encode(None)
        path = self._path(self._whole, kind)
        with atomic_write(path) as beside, open(beside, "wb") as file:
            for packet in self._packets:
                file.write(_HEADER.pack(packet.time, packet.is_key, len(packet.data), len(packet.beside)))
                file.write(packet.data + packet.beside)
            file.flush()
            os.fsync(file.fileno())
        self._context, self._packets, self._given = None, [], 0
        self.made.append(path.name)
        return path

    def packets(self, end: int) -> Iterator[Any]:
        """Yields PyAV's packets of all parts in the order of decoding; their times of decoding never go back.

        Args:
            end: the tick at which the last frame is no longer shown.
        """
        files = [self._path(number) for number in range(self._whole)]
        if self._rest == self._path(self._whole, "rest"):
            files.append(self._rest)
        times = np.concatenate([[packet.time for packet in _read_part(file, False)] for file in files])
        order = np.argsort(times, kind="stable")  # all in memory: eight bytes for each frame
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        shown = times[order]
        # Frames by which decoding is ahead of showing
        delay = int((np.arange(len(rank)) - rank).max())
        step = int(shown[1] - shown[0]) if len(shown) > 1 else 1
        decoded = np.concatenate([shown[0] + step * np.arange(-delay, 0), shown[: len(shown) - delay]])
        ends = np.append(shown[1:], max(end, int(shown[-1]) + 1))[rank]
        number = 0
        for file in files:
            for kept in _read_part(file):
                packet = av.Packet(kept.data)
                packet.pts, packet.dts, packet.duration = kept.time, int(decoded[number]), int(ends[number]) - kept.time
                packet.time_base, packet.is_keyframe = self.encoding.time_base, kept.is_key
                if kept.beside:
                    packet.set_sidedata(_side_data(kept.beside))
                yield packet
                number += 1


def _read_part(path: Path, with_data: bool = True) -> Iterator[_Packet]:
    """Yields each packet; without its bytes if not `with_data`."""
    with open(path, "rb") as file:
        while header := file.read(_HEADER.size):
            time, is_key, size, size_beside = _HEADER.unpack(header)
            if with_data:
                yield _Packet(time, is_key, file.read(size), file.read(size_beside))
            else:
                file.seek(size + size_beside, os.SEEK_CUR)
                yield _Packet(time, is_key, b"", b"")


def _side_data(content: bytes) -> PacketSideData:
    data = PacketSideData(_number_of_side_data(), len(content))  # type: ignore[call-arg]  # stubs lack it
    data.update(content)
    return data


@cache
def _number_of_side_data() -> int:
    """FFmpeg's number of `_BESIDE`, which PyAV takes, but does not name."""
    kinds = (PacketSideData(number, 0).data_type for number in itertools.count())  # type: ignore[call-arg]
    return next(number for number, kind in enumerate(kinds) if kind == _BESIDE)


def _palette_graph(encoding: Encoding) -> Any:
    """FFmpeg's filters for GIF: a palette of 256 colours for each frame."""
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
