"""Joins pictures into an animated PNG or WebP.

Both formats hold whole pictures, so the chunks of the pictures' files are copied one after the other: memory does not
grow with the number of frames, and frames are compressed as pictures are.

Specifications: PNG, third edition (W3C, 2025), sections 5.3 and 11.3.6; WebP (RFC 9649), section 2.7.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from vfi.errors import VideoError

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST_SHORT = 2**16 - 1
MILLISECOND = Fraction(1, 1000)
LARGEST_DURATION = 2**24 - 1  # milliseconds
LARGEST_FILE = 2**32 - 2  # bytes, without the first eight
HAS_PROFILE, HAS_ALPHA, IS_ANIMATED = 0x20, 0x10, 0x02  # flags of WebP's header
NOT_BLENDED = 0x02  # flag of a frame: it replaces the one before
LOSSLESS_HAS_ALPHA = 0x10  # in the fifth byte of a lossless picture


def write_apng(file: BinaryIO, pictures: Sequence[Path], durations: Sequence[Fraction], plays: int) -> None:
    """Writes an animated PNG.

    Args:
        file: open for writing, empty.
        pictures: PNG files of the same size and kind.
        durations: for how many seconds each is shown.
        plays: how many times all are shown; 0 for endlessly.
    """
    file.write(PNG)
    number = 0  # of a chunk that the animation adds
    for order, (picture, duration) in enumerate(zip(pictures, durations, strict=True)):
        chunks = list(_png_chunks(picture))
        size = chunks[0][1][:8]
        if not order:
            file.write(_png_chunk(*chunks[0]))
            file.write(_png_chunk(b"acTL", struct.pack(">II", len(pictures), plays)))
            for chunk in chunks[1:]:
                if chunk[0] not in (b"IDAT", b"IEND"):  # such as the colour profile
                    file.write(_png_chunk(*chunk))
        place_and_blending = struct.pack(">IIHHBB", 0, 0, *_short_fraction(duration), 0, 0)
        file.write(_png_chunk(b"fcTL", struct.pack(">I", number) + size + place_and_blending))
        number += 1
        for kind, content in chunks:
            if kind == b"IDAT" and not order:
                file.write(_png_chunk(kind, content))
            elif kind == b"IDAT":
                file.write(_png_chunk(b"fdAT", struct.pack(">I", number) + content))
                number += 1
    file.write(_png_chunk(b"IEND", b""))


def _png_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The kind and the content of each chunk."""
    with path.open("rb") as file:
        file.seek(len(PNG))
        while len(start := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", start)
            yield kind, file.read(size)
            file.seek(4, 1)  # the checksum


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _short_fraction(duration: Fraction) -> tuple[int, int]:
    """The two numbers of 16 bits whose quotient is nearest to a duration."""
    near = duration.limit_denominator(max(1, int(LARGEST_SHORT / max(duration, Fraction(1)))))
    return min(near.numerator, LARGEST_SHORT), near.denominator


def write_webp(file: BinaryIO, pictures: Sequence[Path], durations: Sequence[Fraction], plays: int) -> None:
    """Writes an animated WebP of WebP files; see `write_apng`. Rounding errors of durations do not add up.

    Raises:
        VideoError: the file would be too large.
    """
    file.write(b"RIFF\0\0\0\0WEBP" + _webp_chunk(b"VP8X", bytes(10)))
    flags, canvas = IS_ANIMATED, b""
    exact, rounded = Fraction(0), 0
    for order, (picture, duration) in enumerate(zip(pictures, durations, strict=True)):
        chunks = dict(_webp_chunks(picture))
        canvas = _canvas(chunks)
        if not order:
            if b"ICCP" in chunks:
                flags |= HAS_PROFILE
                file.write(_webp_chunk(b"ICCP", chunks[b"ICCP"]))
            file.write(_webp_chunk(b"ANIM", struct.pack("<IH", 0, min(plays, LARGEST_SHORT))))
        if b"ALPH" in chunks or (b"VP8L" in chunks and chunks[b"VP8L"][4] & LOSSLESS_HAS_ALPHA):
            flags |= HAS_ALPHA
        exact += duration / MILLISECOND
        shown = min(max(1, round(exact) - rounded), LARGEST_DURATION)
        rounded += shown
        place = bytes(6) + canvas + shown.to_bytes(3, "little") + bytes([NOT_BLENDED])
        data = [_webp_chunk(kind, chunks[kind]) for kind in (b"ALPH", b"VP8 ", b"VP8L") if kind in chunks]
        file.write(_webp_chunk(b"ANMF", place + b"".join(data)))
    size = file.tell() - 8
    if size > LARGEST_FILE:
        raise VideoError("an animated WebP holds at most 4 GiB")
    file.seek(4)
    file.write(struct.pack("<I", size))
    file.seek(20)
    file.write(bytes([flags, 0, 0, 0]) + canvas)


def _webp_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The kind and the content of each chunk."""
    with path.open("rb") as file:
        file.seek(12)
        while len(start := file.read(8)) == 8:
            kind, size = struct.unpack("<4sI", start)
            yield kind, file.read(size)
            file.seek(size % 2, 1)  # chunks begin at even places


def _webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _canvas(chunks: dict[bytes, bytes]) -> bytes:
    """The size of a picture, as animations say it: width - 1 and height - 1, in three bytes each."""
    if b"VP8X" in chunks:
        return chunks[b"VP8X"][4:10]
    if b"VP8L" in chunks:  # 14 bits for each, after a byte
        bits = int.from_bytes(chunks[b"VP8L"][1:5], "little")
        width, height = (bits & 0x3FFF), (bits >> 14 & 0x3FFF)
    else:
        width, height = ((number & 0x3FFF) - 1 for number in struct.unpack("<HH", chunks[b"VP8 "][6:10]))
    return width.to_bytes(3, "little") + height.to_bytes(3, "little")


Writer = Callable[[BinaryIO, Sequence[Path], Sequence[Fraction], int], None]
# By the extension of the target: what writes it, and the pictures that it is made of
WRITERS: dict[str, tuple[Writer, str]] = {".apng": (write_apng, ".png"), ".webp": (write_webp, ".webp")}
