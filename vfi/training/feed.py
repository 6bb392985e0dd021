"""The batches of a process on its device, cut ahead of time; and how much of the time they take."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from vfi.training.batches import Batches, Samples


class Feed:
    """The batches of this process, on its device.

    Frames that are kept on another device are cut ahead of time, so that no GPU waits. A CPU that does both would gain
    nothing from that.

    Args:
        total: crops in a step, of all processes.
        begin, count: those of this process.
    """

    def __init__(self, batches: Batches, device: torch.device, total: int, begin: int, count: int) -> None:
        self.batches, self.device = batches, device
        self.range = (total, begin, begin + count)
        self.thread = None if batches.device == device else ThreadPoolExecutor(1)
        self._coming: tuple[int, Future[Samples]] | None = None  # the next step, and its batch

    def __call__(self, step: int) -> Samples:
        """one, truth and two of a step; see `Batches`."""
        if not self.thread:
            return self.batches(step, *self.range)
        if self._coming and self._coming[0] == step:
            batch = self._coming[1]
        else:
            batch = self.thread.submit(self.batches, step, *self.range)
        self._coming = (step + 1, self.thread.submit(self.batches, step + 1, *self.range))
        one, truth, two = (frames.to(self.device, non_blocking=True) for frames in batch.result())
        return one, truth, two


class Clock:
    """Measures the share of its time that a device spends on a part of the work, or waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._now: Callable[[], Any] = _record_event if device.type == "cuda" else time.perf_counter
        self._on_gpu = device.type == "cuda"
        self._begin = self._now()
        self._parts: list[tuple[Any, Any]] = []

    def measure(self, work: Callable[[], Samples]) -> Samples:
        """Calls `work`, and counts its time."""
        begin = self._now()
        result = work()
        self._parts.append((begin, self._now()))
        return result

    def share(self) -> float:
        """The share of the time since the clock was made that was spent in `measure`."""
        end = self._now()
        if self._on_gpu:
            torch.cuda.synchronize()
        return sum(self._elapsed(*part) for part in self._parts) / self._elapsed(self._begin, end)

    def _elapsed(self, begin: Any, end: Any) -> float:
        elapsed: float = begin.elapsed_time(end) if self._on_gpu else end - begin
        return elapsed


def _record_event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
