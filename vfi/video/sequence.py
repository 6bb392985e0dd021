"""Numbered pictures as a video, read and written: a folder, or a pattern such as frames/%05d.png."""

import os
import re
from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vfi import pictures
from vfi.errors import UsageError, VideoError
from vfi.files import natural
from vfi.video.colour import Layout, Pixels, Tags
from vfi.video.frame import Frame
from vfi.video.timing import look_back

_PATTERN = re.compile(r"(.*?)%0?(\d*)d(.*)", re.DOTALL)


def is_pattern(path: str | Path) -> bool:
    """Whether a path stands for numbered files, as frames/%05d.png does."""
    path = Path(path)
    return _PATTERN.fullmatch(path.name) is not None and not path.is_file()


def _split(name: str) -> tuple[str, str, str]:
    """The text before a pattern's number, the number of its digits, and the text after it."""
    match = _PATTERN.fullmatch(name)
    assert match  # is_pattern says so
    before, digits, after = match.groups()
    return before, digits, after


def _name_of(pattern: Path) -> re.Pattern[str]:
    """A regular expression for the names of a pattern's files."""
    before, digits, after = _split(pattern.name)
    return re.compile(f"{re.escape(before)}\\d{{{digits or 1},}}{re.escape(after)}")


def numbered(name: str, number: int) -> str:
    """The name of the file with this number, for the name of a pattern."""
    before, digits, after = _split(name)
    return f"{before}{number:0{digits or 1}}{after}"


class PictureFiles:
    """A folder of pictures, or the pictures of a pattern, as a video; the attributes are those of `VideoFile`.

    Raises:
        VideoError, PictureError: there are no pictures, they differ in size, or one cannot be read.
    """

    deinterlace = interlaced = False
    aspect = None
    tags = Tags(1, 1, 1, 2)  # BT.709: the best guess for pictures without a colour profile
    film_rate = None
    notes = ()
    plays = 0
    origin = start = Fraction(0)
    lost = lost_at_end = repeated = 0

    def __init__(self, path: str | Path, rate: Fraction) -> None:
        self.path = Path(path)
        self.rate = Fraction(rate)
        self.light: dict[str, bytes] = {}
        self.time_base = self.last = 1 / self.rate
        self.files = picture_files(self.path)
        self.count = len(self.files)
        self.length = self.count / self.rate
        # All are probed first, so that a picture that does not fit is found now, not in an hour.
        infos = [pictures.probe(file) for file in self.files]
        self.width, self.height = infos[0].width, infos[0].height
        for file, info in zip(self.files, infos, strict=True):
            if (info.width, info.height) != (self.width, self.height):
                raise VideoError(
                    f"{file} is {info.width}x{info.height}, {self.files[0]} is {self.width}x{self.height}: all frames "
                    "must have one size"
                )
        self.layout = Pixels(
            colour=any(info.is_colour for info in infos),
            alpha=any(info.has_alpha for info in infos),
            deep=any(info.is_deep for info in infos),
        )
        self.icc_profile = pictures.read(self.files[0]).icc_profile

    def frames(self, start: Fraction = Fraction(0)) -> Generator[Frame, None, None]:
        """Yields each `Frame` from shortly before `start`, in seconds, to the end."""
        first = max(0, int((start - look_back(self.rate)) * self.rate))
        for number, file in enumerate(self.files[first:], first):
            picture = pictures.read(file)
            if (picture.pixels.shape[1], picture.pixels.shape[0]) != (self.width, self.height):
                raise VideoError(f"{file} is {picture.size}, expected {self.width}x{self.height}")
            pixels = pictures.convert(
                picture, not self.layout.colour, self.layout.alpha, self.layout.dtype, picture.icc_profile
            ).pixels
            yield Frame(number / self.rate, [pixels], self.layout.bits)


def picture_files(path: Path) -> list[Path]:
    """The files of a folder or pattern, in the order in which people count: 2 before 10."""
    folder = path.parent if is_pattern(path) else path
    if not folder.is_dir():
        raise VideoError(f"there is no folder {folder}")
    if is_pattern(path):
        files = [file for file in folder.iterdir() if _name_of(path).fullmatch(file.name)]
    else:
        files = [file for file in folder.iterdir() if pictures.is_picture_name(file)]
    if not files:
        what = f"pictures that match {path.name}" if is_pattern(path) else "pictures"
        raise VideoError(f"there are no {what} in {folder}")
    return sorted(files, key=lambda file: natural(file.name.lower()))


NAMES = "%06d.png"  # names of pictures that are written into a folder


class PictureFolder:
    """Numbered pictures, in a folder of their own until all are written.

    Args:
        first: number of the picture to begin with, from 0; by default, the first that is not there.

    Attributes:
        done: the number of the picture to write next.
    """

    def __init__(
        self,
        folder: Path,
        target: Path,
        icc_profile: bytes | None,
        note: Callable[[str], None],
        first: int | None = None,
    ) -> None:
        self.folder = folder
        self.names = target.name if is_pattern(target) else NAMES
        self.icc_profile = icc_profile
        self._note = note
        self._noted: set[str] = set()
        self._first = self.done = first or 0
        if first is None:
            self.count()

    def count(self) -> None:
        """Counts the pictures that are there."""
        while self.has(self.done):
            self.done += 1

    def has(self, number: int) -> bool:
        return self._path(number).exists()

    def _path(self, number: int) -> Path:
        return self.folder / numbered(self.names, number + 1)

    @property
    def files(self) -> list[Path]:
        """The pictures that are written, from the first on."""
        return [self._path(number) for number in range(self._first, self.done)]

    def write(self, pixels: NDArray[Any]) -> None:
        """Writes the next picture; says once what its format cannot keep."""
        picture = pictures.Picture(pixels, self.icc_profile)
        for loss in set(pictures.write(self._path(self.done), picture)) - self._noted:
            self._noted.add(loss)
            self._note(loss)
        self.done += 1

    def move(self, target: Path) -> None:
        """Moves the pictures to the target, a folder or a pattern."""
        home = target.parent if is_pattern(target) else target
        home.mkdir(exist_ok=True)
        for file in self.files:
            os.replace(file, home / file.name)


def matches_exist(pattern: Path) -> bool:
    """Whether there are files that match a pattern."""
    return any(_name_of(pattern).fullmatch(file.name) for file in pattern.parent.iterdir())


def picture_layout(target: Path, layout: Layout | Pixels) -> Pixels:
    """The layout of the pictures that a source of this layout is written to.

    Raises:
        UsageError: the target's pattern or extension is not usable.
    """
    name = target.name if is_pattern(target) else NAMES
    if is_pattern(Path(numbered(name, 1))):
        raise UsageError(f"{target} has more than one place for a number")
    suffix = Path(name).suffix.lower()
    if suffix not in pictures.FORMATS:
        known = ", ".join(known[1:] for known in pictures.FORMATS)
        raise UsageError(f"{target}: {suffix or 'no extension'} is not an extension of pictures: use one of {known}")
    if isinstance(layout, Pixels):
        return layout
    return Pixels(layout.model != "grey", layout.alpha, layout.bits > 8)
