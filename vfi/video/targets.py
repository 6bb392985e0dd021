"""What a video is written to: a video file, numbered pictures, or an animated picture; all have the same methods."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from vfi.errors import UsageError, VideoError, reason
from vfi.files import atomic_write
from vfi.video import codecs, muxing
from vfi.video.animation_writer import WRITERS
from vfi.video.colour import Layout, Pixels
from vfi.video.options import VideoOptions
from vfi.video.sequence import NAMES, PictureFolder, is_pattern, matches_exist, picture_layout
from vfi.video.source import Source
from vfi.video.writer import Parts

STATE = "state.json"  # file in the folder of work: what its parts are parts of
JOINED = "joined"  # file in the folder of work: the new video, until it is whole
SHOWN = "shown"  # file in the folder of work: says that the file that shows what is finished is ours
TIMES = "times"  # file in the folder of work: when each frame of an animation is shown
LARGEST_INTEGER = 2**31 - 1  # in FFmpeg's fractions

Note = Callable[[str], None]


@dataclass(frozen=True)
class Piece:
    """The piece of the source that is in the new video, in seconds from the source's first frame.

    Attributes:
        start: None or 0 for the first frame.
        end: when the last frame is no longer shown; None for the end of the source.
    """

    start: Fraction | None = None
    end: Fraction | None = None


@dataclass(frozen=True)
class Speed:
    """How the times of the source and of the new video correspond.

    Attributes:
        factor: frames of the new video for each frame of the source, unless `rate` says otherwise.
        rate: frames per second of the new video; None if they vary.
        stretch: how many times as long as the source the new video is.
    """

    factor: int
    rate: Fraction | None
    stretch: int


class Target(Protocol):
    """The new video, from the first frame to the finished file.

    Attributes:
        layout: of the planes that `write` takes.
        settings: all that the frames' encoding depends on, as text.
        done: how many frames an earlier run, or this one, has finished for good.
        made: names of the files in the folder of work that were made since `begin`.
    """

    layout: Layout | Pixels
    settings: str

    @property
    def done(self) -> int: ...

    @property
    def made(self) -> list[str]: ...

    def begin(self, work: Path, part: int | None = None) -> None:
        """Finds what an earlier run has finished in its folder of work; with `part`, that part is to be made there."""

    def has(self, part: int) -> bool:
        """Whether a whole part is in the folder of work."""

    def adopt(self, names: Iterable[str]) -> None:
        """Takes over files of a part that was made elsewhere, and that are in the folder of work now."""

    def write(self, planes: list[Any], time: Fraction) -> None:
        """Adds a frame that is shown `time` seconds of the source after the first frame."""

    def close(self) -> None:
        """Finishes what was written so far."""

    def finish(self, piece: Piece) -> None:
        """Puts the new video in its place."""

    def show(self, piece: Piece) -> None:
        """Makes what is finished so far something to look at, after an interruption, and says where it is."""

    def discard(self, work: Path) -> bool:
        """Removes what an earlier run has left; returns whether any frames were among it."""


def is_pictures(path: Path) -> bool:
    """Whether a target is a folder of pictures, or a pattern of their names, instead of a file."""
    return is_pattern(path) or path.is_dir() or not path.suffix


def is_animation(path: Path) -> bool:
    """Whether a target is an animated picture that is made of picture files."""
    return path.suffix.lower() in WRITERS


def check_target(path: Path, encoder: codecs.EncoderOptions) -> None:
    """Finds out early what would keep a target from being written.

    Raises:
        VideoError: something else is there.
        UsageError: an encoder was chosen for pictures.
    """
    if is_pattern(path) and path.parent.is_dir() and matches_exist(path):
        raise VideoError(f"there are pictures that match {path}: remove them, or choose another name")
    if path.exists() and not path.is_dir() and (is_pictures(path) or not path.is_file()):
        raise VideoError(f"{path} exists, and is neither a folder nor a video: choose another name")
    if path.is_dir() and any(path.iterdir()):
        raise VideoError(f"{path} is a folder that is not empty: choose another name")
    if (is_pictures(path) or is_animation(path)) and encoder != codecs.EncoderOptions():
        raise UsageError(f"{path} is for pictures, which have no codec")


def open_target(
    path: Path, source: Source, options: VideoOptions, note: Note, part_frames: int
) -> "VideoTarget | PictureTarget":
    """The target of this path: what is refused, is refused now."""
    if is_pictures(path):
        return PictureTarget(path, source, note, part_frames)
    if is_animation(path):
        return AnimationTarget(path, source, note, part_frames, options.stretch)
    speed = Speed(options.factor, options.rate_for(source), options.stretch)
    return VideoTarget(path, source, speed, options.encoder, note, part_frames)


@dataclass
class VideoTarget:
    """A video file; see `Target`.

    Frames are encoded into parts in the folder of work, which are joined with the source's sound in the end.
    """

    path: Path
    source: Source
    speed: Speed
    encoder: codecs.EncoderOptions
    note: Note
    part_frames: int
    encoding: codecs.Encoding = field(init=False)
    work: Path = field(init=False)
    parts: Parts = field(init=False)

    def __post_init__(self) -> None:
        source, speed = self.source, self.speed
        if speed.rate is None and self.path.suffix.lower() == ".avi":
            raise VideoError(f"{source.path} has a rate that varies, which avi cannot hold: use mp4 or mkv, or --fps")
        time_base = 1 / speed.rate if speed.rate else source.time_base * speed.stretch / speed.factor
        if time_base.denominator > LARGEST_INTEGER:
            time_base = Fraction(1, 1_000_000)
        average = source.count * speed.factor / (source.length * speed.stretch)
        rate = speed.rate or average.limit_denominator(1001)
        self.encoding, notes = codecs.choose(self.path, source, time_base, rate, self.encoder)
        notes += muxing.check(source, self.encoding, self._span(Piece()), self._has_sound)
        for phrase in notes:
            self.note(phrase)
        self.layout = self.encoding.layout
        self.settings = repr(self.encoding)

    @property
    def partial(self) -> Path:
        """The file that shows what is finished after an interruption."""
        return partial_name(self.path)

    @property
    def _has_sound(self) -> bool:
        return self.speed.stretch == 1

    @property
    def done(self) -> int:
        return self.parts.done

    @property
    def made(self) -> list[str]:
        return self.parts.made

    def begin(self, work: Path, part: int | None = None) -> None:
        self.work = work
        self.parts = Parts(work, self.encoding, self.part_frames, part)

    def has(self, part: int) -> bool:
        return self.parts.has(part)

    def adopt(self, names: Iterable[str]) -> None:
        self.parts.adopt(names)

    def write(self, planes: list[Any], time: Fraction) -> None:
        self.parts.write(planes, self._tick(time))

    def _tick(self, time: Fraction) -> int:
        return round(time * self.speed.stretch / self.encoding.time_base)

    def close(self) -> None:
        self.parts.close()

    def finish(self, piece: Piece) -> None:
        self._join(self.path, piece)
        if (self.work / SHOWN).exists():
            self.partial.unlink(missing_ok=True)

    def show(self, piece: Piece) -> None:
        can_resume = f"--resume continues after {self.done} frames"
        goes_on = can_resume if self.done else "too little for --resume, which begins anew"
        if self.partial.exists() and not (self.work / SHOWN).exists():
            self.note(f"{self.partial} exists, and is not ours: what is finished is not shown; {goes_on}")
            return
        try:
            (self.work / SHOWN).touch()
            self.parts.close()
            self._join(self.partial, piece)
        except (VideoError, OSError) as error:
            self.note(f"{self.partial} cannot be written: {reason(error)}; {goes_on}")
            return
        self.note(f"what is finished can be seen in {self.partial}; {goes_on}")

    def discard(self, work: Path) -> bool:
        if (work / SHOWN).exists():
            self.partial.unlink(missing_ok=True)
        return _clear(work)

    def _join(self, path: Path, piece: Piece) -> None:
        muxing.join(
            path, self.source, self.encoding, self.parts, self._tick(_length(piece, self.source)), self._span(piece),
            self._has_sound, _beside(path, self.work),
        )  # fmt: skip

    def _span(self, piece: Piece) -> muxing.Span:
        """The piece on the source's own clock, on which its sound is."""
        source, stretch = self.source, self.speed.stretch
        end = None if piece.end is None else source.origin + piece.end
        if not piece.start:
            shift = -max(Fraction(0), source.start) * stretch
            return muxing.Span(None, end, shift, stretch, source.origin * stretch + shift)
        start = source.origin + piece.start
        return muxing.Span(start, end, -start * stretch, stretch, Fraction(0))


@dataclass
class PictureTarget:
    """A folder of pictures, or a pattern of their names; see `Target`."""

    path: Path
    source: Source
    note: Note
    part_frames: int
    work: Path = field(init=False)
    pictures: PictureFolder = field(init=False)

    def __post_init__(self) -> None:
        self.layout = picture_layout(self.names, self.source.layout)
        self.settings = repr(self.layout)
        if tracks := muxing.other_tracks(self.source):
            self.note(f"left out: {', '.join(tracks)}")

    @property
    def names(self) -> Path:
        """A folder or a pattern that stands for the names of the pictures."""
        return self.path

    @property
    def done(self) -> int:
        return self.pictures.done

    @property
    def made(self) -> list[str]:
        return [file.name for file in self.pictures.files]

    def begin(self, work: Path, part: int | None = None) -> None:
        first = None if part is None else part * self.part_frames
        self.work = work
        self.pictures = PictureFolder(work, self.names, self.source.icc_profile, self.note, first)

    def has(self, part: int) -> bool:
        return all(map(self.pictures.has, range(part * self.part_frames, (part + 1) * self.part_frames)))

    def adopt(self, names: Iterable[str]) -> None:
        self.pictures.count()

    def write(self, planes: list[Any], time: Fraction) -> None:
        self.pictures.write(planes[0])

    def close(self) -> None:
        pass  # every picture is a file of its own

    def finish(self, piece: Piece) -> None:
        self.pictures.move(self.path)

    def show(self, piece: Piece) -> None:
        self.note(f"{self.done} pictures are in {self.work}; --resume continues from there")

    def discard(self, work: Path) -> bool:
        return _clear(work)


@dataclass
class AnimationTarget(PictureTarget):
    """An animated PNG or WebP; see `Target`. Its frames are pictures in the folder of work, until it is joined of them.

    When each is shown is in a file beside them, a line for each.
    """

    stretch: int  # how many times as long as the source the animation is

    @property
    def names(self) -> Path:
        _, suffix = WRITERS[self.path.suffix.lower()]
        return Path(NAMES).with_suffix(suffix)

    def begin(self, work: Path, part: int | None = None) -> None:
        super().begin(work, part)
        known = (work / TIMES).read_text().split() if (work / TIMES).exists() else []
        self.times = [Fraction(time) for time in known[: self.done]]
        with (work / TIMES).open("w") as file:  # a killed run may have left a time without its picture
            file.writelines(f"{time}\n" for time in self.times)

    def write(self, planes: list[Any], time: Fraction) -> None:
        with (self.work / TIMES).open("a") as file:
            file.write(f"{time}\n")
        self.times.append(time)
        super().write(planes, time)

    def finish(self, piece: Piece) -> None:
        write_animation, _ = WRITERS[self.path.suffix.lower()]
        times = [*self.times, _length(piece, self.source)]
        durations = [(following - time) * self.stretch for time, following in itertools.pairwise(times)]
        with atomic_write(self.path, _beside(self.path, self.work)) as new, new.open("wb") as file:
            write_animation(file, self.pictures.files, durations, self.source.plays)


def _length(piece: Piece, source: Source) -> Fraction:
    """Seconds from the first frame of a piece to its end."""
    return (source.length if piece.end is None else piece.end) - (piece.start or 0)


def _beside(path: Path, work: Path) -> Path | None:
    """The name of a file until it is whole: in the folder of work, unless a link may lead to another disk."""
    return None if path.is_symlink() else work / JOINED


def partial_name(path: Path) -> Path:
    """The name of the file that shows what is finished of a video: out.partial.mp4 for out.mp4."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def _clear(work: Path) -> bool:
    """Removes the files in the folder of work, but for STATE; returns whether frames were among them."""
    left = [file for file in work.iterdir() if file.name != STATE]
    for file in left:
        file.unlink()
    return any(file.name[0] != "." and file.name != SHOWN for file in left)
