"""Makes parts of a new video, in any order: what a worker does, while gathering.py puts parts together elsewhere.

Part n has the frames from n * part_frames on. Its files are those that one process would have made of these frames.
"""

import contextlib
import tempfile
from collections.abc import Generator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import torch

from vfi.video.background import WriteBehind
from vfi.video.frame import Frame
from vfi.video.options import VideoOptions
from vfi.video.plan import QUEUE, Plan
from vfi.video.render import Middle, Planes, Renderer
from vfi.video.source import open_source
from vfi.video.targets import open_target
from vfi.video.timing import Instant

WORTH_SEEKING = 4  # parts: those that are nearer are reached by reading on


@dataclass(frozen=True)
class PartPlan:
    """What a worker has to know of the video.

    Attributes:
        path: of the source.
        target: of the new video. Its name says what is encoded; nothing is written there.
        part_frames: frames in a part.
    """

    path: Path
    target: Path
    options: VideoOptions
    part_frames: int


@dataclass
class Part:
    """A part that was made.

    Attributes:
        frames: how many it has. Only the last part of a video has fewer than the others, and those behind it none.
        names: of its files in the folder of work.
        contents: of the files, if they are not in that folder yet.
        start, end: as in `Plan`, as far as known.
        lost: frames of the source that could not be decoded, of those that the part shows.
        repeated: frames of the source so far that have no time of their own.
        interlaced: whether a frame of the source so far is interlaced.
        notes: what the user should know.
    """

    number: int
    frames: int = 0
    names: list[str] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    start: Fraction | None = None
    end: Fraction | None = None
    lost: int = 0
    repeated: int = 0
    interlaced: bool = False
    notes: list[str] = field(default_factory=list)


class PartMaker:
    """Makes parts of one video.

    Args:
        middle, device: see job.interpolate.
        work: the folder of work, if it is in reach: parts are written there. Otherwise `Part` has their contents.

    Attributes:
        done: frames of the current part that are computed.
    """

    def __init__(
        self, plan: PartPlan, middle: Middle, device: str | torch.device = "cpu", work: Path | None = None
    ) -> None:
        options = plan.options
        self._notes: list[str] = []
        self._part_frames = plan.part_frames
        self._work = work
        self.source = open_source(plan.path, options.input_rate, options.deinterlace, options.detelecine)
        self.target = open_target(plan.target, self.source, options, self._notes.append, plan.part_frames)
        self._plan = Plan(self.source, options)
        self._renderer = Renderer(self.source, self.target.layout, middle, device)
        self._instants: Generator[tuple[int, Instant[Frame]], None, None] | None = None
        self._next = 0  # the number of the instant that comes next
        self._shown: Frame | None = None  # the frame of the source at the instant before
        self.done = 0

    def make(self, number: int) -> Part:
        """Makes a part."""
        self._notes.clear()
        self.done = 0
        part = Part(number)
        with contextlib.nullcontext(self._work) if self._work else tempfile.TemporaryDirectory() as folder:
            self.target.begin(Path(folder), number)
            with WriteBehind(self._write, QUEUE) as encoder:
                for instant in self._of_part(number):
                    part.lost += instant.one is not self._shown and instant.one.is_lost
                    self._shown = instant.one
                    encoder.put(self._renderer.planes(instant), instant.time)
                    self.done += 1
            self.target.close()
            part.names = list(self.target.made)
            if not self._work:
                part.contents = {name: (Path(folder) / name).read_bytes() for name in part.names}
        source = self.source
        if self.done < self._part_frames and self._plan.end is None:  # the source has ended
            part.lost += source.lost_at_end
        part.frames, part.start, part.end = self.done, self._plan.start, self._plan.end
        part.repeated, part.interlaced, part.notes = source.repeated, source.interlaced, list(self._notes)
        return part

    def _of_part(self, number: int) -> Generator[Instant[Frame], None, None]:
        first, count = number * self._part_frames, self._part_frames
        gap = first - self._next
        if self._instants is None or gap < 0 or (self._plan.is_even and gap > WORTH_SEEKING * count):
            self.close()
            self._instants = self._plan.instants(max(0, first - 1))
        for index, instant in self._instants:
            self._next = index + 1
            if index >= first:
                yield instant
            else:
                self._shown = instant.one
            if self._next == first + count:
                return
        self._instants = None  # the source has ended

    def _write(self, planes: Planes, time: Fraction) -> None:
        self.target.write(planes.arrays(), time - (self._plan.start or 0))

    def close(self) -> None:
        """Closes the source."""
        if self._instants:
            self._instants.close()
