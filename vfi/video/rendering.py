"""Makes all frames of a new video in this process."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from vfi.video.background import WriteBehind
from vfi.video.plan import QUEUE, Plan
from vfi.video.render import Renderer

if TYPE_CHECKING:
    from vfi.video.job import Job, Progress


class Rendering:
    """Computes and writes all frames that are not finished yet.

    Attributes:
        plan: of the frames.
        reached: the time of the last frame that is written.
    """

    def __init__(self, job: Job, renderer: Renderer, progress: Progress | None) -> None:
        self.job, self.renderer, self.progress = job, renderer, progress
        self.plan = Plan(job.source, job.options)
        self.reached: Fraction | None = None

    def run(self) -> None:
        job, done = self.job, self.job.target.done
        self.reached = self.plan.time_of(done - 1) if done else None
        with WriteBehind(self._write, QUEUE) as encoder:
            for number, instant in self.plan.instants(done):
                encoder.put(self.renderer.planes(instant), instant.time)
                if self.progress:
                    self.progress(number + 1, job.expected)
                done = number + 1
        if not done:
            raise job.empty()
        with job.writing():
            job.target.close()

    def _write(self, planes: Any, time: Fraction) -> None:
        with self.job.writing():
            self.job.target.write(planes.arrays(), time - (self.plan.start or 0))
        self.reached = time
