"""Work in the background: a generator that is computed ahead, and a function whose calls are done later.

Each has one thread, and holds only a few items: memory does not grow with the length of the video.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
_END: Any = object()


def prefetch(items: Generator[T, None, None], depth: int) -> Generator[T, None, None]:
    """Yields what a generator yields, of which up to `depth` items are computed ahead, in a thread.

    An exception of the generator is raised here, after the items before it. The generator is closed in the end,
    however this one ends.
    """
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, items, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()
            thread.submit(items.close).result()


class WriteBehind:
    """A context in which `put` has `work` called with its arguments, in this order, in a thread.

    Up to `depth` calls wait; then `put` waits, too. What a call raises is raised by a later `put`, or at the end of the
    context, where all calls are done; after an error, `work` is not called again.
    """

    def __init__(self, work: Callable[..., None], depth: int) -> None:
        self._work = work
        self._depth = depth
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def _call(self, *arguments: Any) -> None:
        if self._failed:
            return
        try:
            self._work(*arguments)
        except BaseException:
            self._failed = True
            raise

    def put(self, *arguments: Any) -> None:
        self._waiting.append(self._thread.submit(self._call, *arguments))
        while len(self._waiting) > self._depth or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:
            for future in self._waiting:
                future.result()
