"""Whether a stream of HEVC has a second layer with transparency, which no decoder of PyAV returns."""

import re
from collections.abc import Iterator
from typing import Any

# A unit of supplemental information about the first layer, and the number of the information that there is such a layer
# (H.265, sections 7.3.1.2 and F.14.2)
ALPHA_CHANNEL_INFORMATION = b"\x4e\x01\xa5"
START = re.compile(b"\0\0\1")  # before each unit of a raw stream


def has_alpha_layer(container: Any, stream: Any) -> bool:
    """Reads the first packet of a stream of HEVC."""
    extradata = stream.codec_context.extradata or b""
    if ALPHA_CHANNEL_INFORMATION in extradata:
        return True
    first = next((bytes(packet) for packet in container.demux(stream) if packet.size), b"")
    is_raw = not extradata.startswith(b"\1")  # otherwise, as in MP4 and Matroska, the size is before each unit
    units = START.split(first) if is_raw else _sized_units(first, (extradata[21] & 3) + 1)
    return any(unit.startswith(ALPHA_CHANNEL_INFORMATION) for unit in units)


def _sized_units(packet: bytes, size_bytes: int) -> Iterator[bytes]:
    begin = 0
    while begin + size_bytes <= len(packet):
        size = int.from_bytes(packet[begin : begin + size_bytes])
        begin += size_bytes
        yield packet[begin : begin + size]
        begin += size
