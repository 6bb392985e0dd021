"""Animated pictures as videos: WebP, of which FFmpeg decodes only single pictures, and how often any is shown."""

import contextlib
import struct
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from vfi.errors import VideoError, reason
from vfi.video.colour import Pixels, Tags
from vfi.video.frame import Frame

MILLISECOND = Fraction(1, 1000)
UNSPECIFIED = 100  # milliseconds for which browsers show frames without a duration


def is_animated_webp(path: Path) -> bool:
    """Whether a file is a WebP with an animation."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(21)
    return start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8X" and bool(start[20] & 2)


def plays_of(path: Path) -> int:
    """How many times an animated GIF, PNG or WebP is shown; 0 for endlessly, which is also what others are."""
    with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(path) as image:
        loops = image.info.get("loop")
        if image.format == "GIF":  # says how often it is repeated, nothing for once
            return 1 if loops is None else loops and loops + 1
        return loops or 0
    return 0


class AnimatedPicture:
    """An animated WebP as a video; the attributes are those of `VideoFile`.

    Raises:
        VideoError: the file is damaged.
    """

    deinterlace = interlaced = False
    aspect = None
    tags = Tags(1, 1, 1, 2)  # as of pictures
    film_rate = None
    notes = ()
    origin = start = Fraction(0)
    lost = lost_at_end = repeated = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = [path]
        self.plays = plays_of(path)
        self.light: dict[str, bytes] = {}
        durations = [duration or UNSPECIFIED for duration in _durations(path)]
        if not durations:
            raise VideoError(f"{path} has no frame")
        self.count = len(durations)
        self._times = [sum(durations[:number]) * MILLISECOND for number in range(self.count)]
        self.length = sum(durations) * MILLISECOND
        self.last = durations[-1] * MILLISECOND
        self.rate = 1 / self.last if len(set(durations)) == 1 else None
        self.time_base = self.last if self.rate else MILLISECOND
        first = next(self._pictures())
        self.width, self.height = first.size
        self.layout = Pixels(colour=True, alpha=first.mode == "RGBA", deep=False)
        self.icc_profile: bytes | None = first.info.get("icc_profile")

    def frames(self, start: Fraction = Fraction(0)) -> Generator[Frame, None, None]:
        """Yields each `Frame`; all of them, because every frame may be painted over those before it."""
        for time, picture in zip(self._times, self._pictures(), strict=True):
            yield Frame(time, [np.asarray(picture.convert("RGBA" if self.layout.alpha else "RGB"))], 8)

    def _pictures(self) -> Iterator[Image.Image]:
        try:
            with Image.open(self.path) as image:
                for number in range(self.count):
                    image.seek(number)
                    image.load()
                    yield image
        except (OSError, ValueError, EOFError, SyntaxError) as error:
            raise VideoError(f"{self.path} cannot be read: {reason(error)}") from error


def _durations(path: Path) -> Iterator[int]:
    """How long each frame is shown, in milliseconds, as the headers of its chunks say."""
    with path.open("rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            kind, size = struct.unpack("<4sI", header)
            if kind == b"ANMF":
                content = file.read(16)
                yield int.from_bytes(content[12:15], "little")
                file.seek(size - len(content), 1)
            else:
                file.seek(size, 1)
            file.seek(size % 2, 1)  # chunks begin at even places
