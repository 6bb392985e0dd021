"""Workers on many machines, and the tasks that they share.

A worker is an actor of Ray that is never restarted, and a task is never repeated by Ray itself: with endless restarts
and repetitions, Ray was seen to wait for ever after a machine had gone. Here, a worker that is lost is replaced, a task
that is lost with it is done by another, and both are counted.
"""

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from vfi.cluster.identity import Identity, difference
from vfi.cluster.machines import Machine, Machines
from vfi.errors import DataError, reason

ATTEMPTS = 3  # of a task, or of starting a worker on a machine
POLL = 0.5  # seconds between two looks at how far the workers are
RECRUIT = 2.0  # seconds between two looks at which machines there are
CLOSE = 2.0  # seconds that a worker has to tidy up

Note = Callable[[str], None]
Task = Any


class Work(Protocol):
    """What a worker does; it is made on the worker's machine."""

    @property
    def done(self) -> int:
        """How much of the current task is done."""

    def identity(self) -> Identity:
        """What has to be the same on all machines."""

    def do(self, task: Task) -> Any: ...

    def close(self) -> None:
        """Removes what the worker has left on its machine."""


class _Actor:
    """A worker's process: Ray calls its methods, `done` beside the others."""

    def __init__(self, make: Callable[..., Work], arguments: tuple[Any, ...], threads: int) -> None:
        self._make = make
        self._arguments = arguments
        self._threads = threads
        self._work: Work | None = None

    def prepare(self) -> Identity:
        import torch

        torch.set_num_threads(self._threads)
        self._work = self._make(*self._arguments)
        return self._work.identity()

    def do(self, task: Task) -> Any:
        assert self._work
        return self._work.do(task)

    def done(self) -> int:
        return self._work.done if self._work else 0

    def close(self) -> None:
        if self._work:
            self._work.close()


@dataclass
class _Worker:
    """A worker as the crew sees it.

    Attributes:
        pending: what Ray will answer; None while the worker has nothing to do.
        task: None while it gets ready, and while it has nothing to do.
        progress: Ray's answer to how much of the task is done, as soon as it is there.
    """

    machine: Machine
    number: int
    actor: Any
    pending: Any
    task: Task | None = None
    progress: Any = None
    done: int = 0

    @property
    def name(self) -> str:
        return f"worker {self.number} on {self.machine.address}"


class Crew:
    """Workers, of which all do the same kind of work.

    Args:
        machines: on which they are.
        make, arguments: make(*arguments) makes a worker's `Work`; both must be picklable.
        identity: what the workers' identities have to be; other machines are not used.
        what: what a task is, in the message about one that failed.
        note: called with what the user should know.
        tell: called with what happens to workers, too.
    """

    def __init__(
        self,
        machines: Machines,
        make: Callable[..., Work],
        arguments: tuple[Any, ...],
        identity: Identity,
        what: str,
        note: Note,
        tell: Note,
    ) -> None:
        self._machines = machines
        self._make, self._arguments = make, arguments
        self._identity = identity
        self._what = what
        self._note, self._tell = note, tell
        self._workers: list[_Worker] = []
        self._hired = 0
        self._again: list[Task] = []  # tasks that failed
        self._failures: defaultdict[Task, list[Machine]] = defaultdict(list)  # on which a task failed
        self._losses: Counter[str] = Counter()  # workers lost on a machine, since one there has done something
        self._refused: dict[str, str] = {}  # machines that are not used, and why
        self._looked = -RECRUIT

    def run(self, tasks: Iterator[Task], tick: Callable[[int], None] = lambda done: None) -> Iterator[Any]:
        """Yields the results of all tasks, in the order in which they are ready.

        Args:
            tasks: hashable; the next is taken when a worker is free.
            tick: called now and then with how much is done of the tasks that are being done.

        Raises:
            DataError: a task failed on several machines, or there is no machine that can be used.
        """
        import ray

        try:
            while True:
                self._recruit()
                self._assign(tasks)
                busy = [worker for worker in self._workers if worker.task is not None]
                if not busy and not self._again and self._is_idle_crew():
                    return
                pending = [worker.pending for worker in self._workers if worker.pending is not None]
                ready = ray.wait(pending, timeout=POLL)[0] if pending else []
                if not pending:
                    time.sleep(POLL)  # until there is a machine
                for worker in [worker for worker in self._workers if worker.pending in ready]:
                    yield from self._answer(worker)
                self._look_at_progress()
                tick(sum(worker.done for worker in self._workers))
        finally:
            self.dismiss()

    def dismiss(self) -> None:
        """Ends all workers."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            closing = [worker.actor.close.remote() for worker in self._workers]
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE) if closing else None
        for worker in self._workers:
            self._kill(worker)
        self._workers.clear()

    def _is_idle_crew(self) -> bool:
        """Whether a worker is ready, but found no task."""
        return any(worker.pending is None for worker in self._workers)

    def _recruit(self) -> None:
        """Fills the places of machines that came, and of workers that were lost."""
        if time.monotonic() - self._looked < RECRUIT:
            return
        self._looked = time.monotonic()
        machines = self._machines.alive()
        usable = [machine for machine in machines if machine.id not in self._refused]
        for machine in usable:
            present = sum(worker.machine.id == machine.id for worker in self._workers)
            for _ in range(machine.workers - present):
                if self._machines.workers is None or len(self._workers) < self._machines.workers:
                    self._hire(machine)
        if not self._workers and machines and not usable:
            raise DataError(f"no machine can be used: {', '.join(self._refused.values())}")

    def _hire(self, machine: Machine) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._hired += 1
        actor = (
            ray.remote(_Actor)
            .options(
                num_cpus=machine.cpus,
                num_gpus=machine.gpus,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=2,
                scheduling_strategy=NodeAffinitySchedulingStrategy(machine.id, soft=False),
            )
            .remote(self._make, self._arguments, machine.threads)
        )
        ready = actor.prepare.remote()  # type: ignore[attr-defined]  # Ray's proxy has it
        self._workers.append(_Worker(machine, self._hired, actor, ready))
        self._tell(f"{self._workers[-1].name} starts, with {machine.threads} threads")

    def _assign(self, tasks: Iterator[Task]) -> None:
        for worker in self._workers:
            if worker.pending is None:
                task = self._task_for(worker.machine, tasks)
                if task is not None:
                    worker.task, worker.pending, worker.done = task, worker.actor.do.remote(task), 0

    def _task_for(self, machine: Machine, tasks: Iterator[Task]) -> Task | None:
        """A task that failed, if possible elsewhere; otherwise the next."""
        present = {worker.machine.id for worker in self._workers}
        for task in self._again:
            failed = {place.id for place in self._failures[task]}
            if machine.id not in failed or present <= failed:
                self._again.remove(task)
                return task
        return next(tasks, None)

    def _answer(self, worker: _Worker) -> Iterator[Any]:
        """Deals with an answer, and yields it if it is the result of a task."""
        import ray

        task, pending = worker.task, worker.pending
        worker.task, worker.pending, worker.progress, worker.done = None, None, None, 0
        try:
            answer = ray.get(pending)
        except ray.exceptions.RayTaskError as error:
            cause = reason(error.cause if error.cause else error)
            if task is None:
                self._refuse(worker.machine, cause)
            else:
                self._fail(task, worker, cause)
            return
        except ray.exceptions.RayError as error:
            if getattr(error, "actor_init_failed", False):  # such as: No module named 'vfi'
                self._refuse(worker.machine, str(error).strip().rpartition("\n")[2])
            else:
                self._lose(worker, task, reason(error))
            return
        self._losses[worker.machine.id] = 0
        if task is not None:
            yield answer
        elif found := difference(answer, self._identity):
            self._refuse(worker.machine, found)
        else:
            self._tell(f"{worker.name} is ready")

    def _refuse(self, machine: Machine, cause: str) -> None:
        if machine.id not in self._refused:
            self._refused[machine.id] = f"{machine.address} ({cause})"
            self._note(f"machine {machine.address} is not used: {cause}")
        for worker in [worker for worker in self._workers if worker.machine.id == machine.id]:
            if worker.task is not None:
                self._again.append(worker.task)
            self._remove(worker)

    def _fail(self, task: Task, worker: _Worker, cause: str) -> None:
        failures = self._failures[task]
        failures.append(worker.machine)
        self._tell(f"{worker.name} failed at {self._what} {task}: {cause}")
        if len(failures) == ATTEMPTS:
            places = ", ".join(dict.fromkeys(place.address for place in failures))
            raise DataError(f"{self._what} {task} failed {ATTEMPTS} times ({places}): {cause}")
        self._again.append(task)

    def _lose(self, worker: _Worker, task: Task | None, cause: str) -> None:
        """A worker that has died is replaced, unless that goes on."""
        self._remove(worker)
        self._tell(f"{worker.name} is lost: {cause}")
        self._losses[worker.machine.id] += 1
        if task is not None:
            self._fail(task, worker, "its worker died, as when memory does not suffice")
        if self._losses[worker.machine.id] == ATTEMPTS:
            self._refuse(worker.machine, f"{ATTEMPTS} of its workers died")
        self._looked = -RECRUIT

    def _remove(self, worker: _Worker) -> None:
        self._kill(worker)
        self._workers.remove(worker)

    def _kill(self, worker: _Worker) -> None:
        import ray

        with contextlib.suppress(Exception):  # it may be dead, or the cluster gone
            ray.kill(worker.actor, no_restart=True)

    def _look_at_progress(self) -> None:
        import ray

        asked = [worker for worker in self._workers if worker.progress is not None]
        answers = [worker.progress for worker in asked]
        ready = ray.wait(answers, num_returns=len(answers), timeout=0)[0] if asked else []
        for worker in asked:
            if worker.progress in ready:
                with contextlib.suppress(ray.exceptions.RayError):  # the task's answer says so, too
                    worker.done = ray.get(worker.progress)
                worker.progress = None
        for worker in self._workers:
            if worker.task is not None and worker.progress is None:
                worker.progress = worker.actor.done.remote()
