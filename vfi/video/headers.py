"""What the headers of H.264, HEVC and AV1 say that PyAV has no name for, as FFmpeg's tracer prints it."""

import contextlib
import re
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

FIELD = re.compile(
    r"\d+\s+(\w+)\s+[01]+ = (-?\d+)\s*"
)  # the position in bits, the name of the field, its bits, its value


def read_headers(container: Any, stream: Any) -> dict[str, int]:
    """Reads the headers up to the first frame.

    Returns:
        {name of a field in the codec's specification: value of its last occurrence}; empty for other codecs.
    """
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as lines, contextlib.suppress(av.FFmpegError, ValueError):
            tracer = BitStreamFilterContext("trace_headers", stream)
            for packet in container.demux(stream):
                if packet.size:
                    tracer.filter(packet)
                    break
    finally:
        av.logging.set_level(level)
    fields = (FIELD.fullmatch(line) for _, _, line in lines)
    return {match[1]: int(match[2]) for match in fields if match}
