"""Puts a new video together of parts that workers make, in whatever order they are ready."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from vfi.files import atomic_write
from vfi.video.part import Part
from vfi.video.plan import Plan

if TYPE_CHECKING:
    from vfi.video.job import Job, Progress


class Workers(Protocol):
    """Those who make the parts; vfi/cluster has some."""

    def run(self, numbers: Iterator[int], tick: Callable[[int], None]) -> Iterator[Part]:
        """Makes parts by their numbers, of which the next is taken when a worker is free; yields them when ready.

        `tick` is called now and then with the number of frames of the parts that are being made.
        """


class Gathering:
    """Has all parts made that are not finished yet, and puts them into the folder of work.

    Attributes:
        plan: of the frames.
    """

    def __init__(self, job: Job, workers: Workers, progress: Progress | None) -> None:
        self.job, self.workers, self.progress = job, workers, progress
        self.plan = Plan(job.source, job.options)
        self._frames = 0  # of all parts that are there
        self._last: float = math.inf  # the number of the last part, once that is known
        self._notes: set[str] = set()
        self._lost = 0

    @property
    def reached(self) -> Fraction | None:
        """The time of the last frame before which none is missing; None if it is not known."""
        done = self.job.target.done
        return self.plan.time_of(done - 1) if done else None

    def run(self) -> None:
        for part in self.workers.run(self._missing(), self._tick):
            self._take(part)
            self._tick(0)
        if not self._frames:
            raise self.job.empty()
        self.job.source.lost += self._lost

    def _missing(self) -> Iterator[int]:
        target = self.job.target
        for number in itertools.count():
            if number > self._last:
                return
            if target.has(number):
                self._frames += self.job.part_frames
            else:
                yield number

    def _take(self, part: Part) -> None:
        job = self.job
        with job.writing():
            for name, content in part.contents.items():
                with atomic_write(job.work / name) as beside:
                    beside.write_bytes(content)
            job.target.adopt(part.names)
        if part.frames < job.part_frames:
            self._last = min(self._last, part.number)
        self._frames += part.frames
        self._lost += part.lost
        self.plan.start = part.start if self.plan.start is None else self.plan.start
        self.plan.end = part.end if self.plan.end is None else self.plan.end
        job.source.repeated = max(job.source.repeated, part.repeated)
        job.source.interlaced |= part.interlaced
        for phrase in sorted(set(part.notes) - self._notes):
            self._notes.add(phrase)
            job.note(phrase)

    def _tick(self, making: int) -> None:
        if self.progress and self._frames + making:
            self.progress(self._frames + making, self.job.expected)
