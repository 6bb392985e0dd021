"""A worker that makes parts of a video."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfi.cluster import sources
from vfi.cluster.crew import Crew, Note
from vfi.cluster.identity import Identity, identity
from vfi.cluster.machines import Machines
from vfi.interpolator import Interpolator
from vfi.video.job import Job
from vfi.video.part import Part, PartMaker, PartPlan
from vfi.video.targets import STATE


@dataclass(frozen=True)
class VideoTask:
    """What all workers have to know.

    Attributes:
        network: arguments of `Interpolator`; "precision" as it was chosen, not "auto".
        plan: of the video, with paths as on the machine where the video is put together.
        work: the folder of work on that machine.
        state: what is in STATE there; a machine that sees it writes its parts into the folder.
        sent: the source, for machines that do not see it; None if all do.
    """

    network: dict[str, Any]
    plan: PartPlan
    work: Path
    state: str
    sent: sources.Sent | None

    def identity(self, path: Path, settings: str) -> Identity:
        """What has to be the same on all machines, for a source at this path and a target with these settings."""
        of_programs = identity(self.network["model"], self.network["weights"])
        return of_programs | {"source": sources.fingerprint(path), "encoding": settings}


class VideoWork:
    """Makes parts of a video on the machine of a worker; see `crew.Work`."""

    def __init__(self, task: VideoTask) -> None:
        interpolator = Interpolator(**task.network)
        path = task.sent.received() if task.sent else task.plan.path
        plan = PartPlan(path, task.plan.target, task.plan.options, task.plan.part_frames)
        state = task.work / STATE
        sees_work = state.is_file() and state.read_text() == task.state
        self._identity, self._path, self._sent = task.identity, path, task.sent
        self._maker = PartMaker(plan, interpolator.middle, interpolator.device, task.work if sees_work else None)

    @property
    def done(self) -> int:
        return self._maker.done

    def identity(self) -> Identity:
        return self._identity(self._path, self._maker.target.settings)

    def do(self, task: int) -> Part:
        return self._maker.make(task)

    def close(self) -> None:
        if self._sent:
            self._sent.remove()


class VideoCrew:
    """Workers for a video; see `gathering.Workers`.

    Args:
        network: arguments of `Interpolator`, but for "precision", which may be "auto".
        sends_source: whether machines get the source through Ray, instead of reading its path.
        note, tell: see `Crew`.
    """

    def __init__(
        self, job: Job, network: dict[str, Any], machines: Machines, sends_source: bool, note: Note, tell: Note
    ) -> None:
        self._job = job
        self._network = network
        self._machines = machines
        self._sends_source = sends_source
        self._note, self._tell = note, tell

    def run(self, numbers: Iterator[int], tick: Callable[[int], None]) -> Iterator[Part]:
        job = self._job
        path = job.source.path.absolute()
        plan = PartPlan(path, job.path.absolute(), job.options, job.part_frames)
        sent = sources.send(path) if self._sends_source else None
        task = VideoTask(self._network, plan, job.work.absolute(), (job.work / STATE).read_text(), sent)
        identity = task.identity(path, job.target.settings)
        crew = Crew(self._machines, VideoWork, (task,), identity, "part", self._note, self._tell)
        yield from crew.run(numbers, tick)
