"""Work beside the work: a generator that runs ahead, and a function that runs behind, each in a thread of its own.

Queues are short, so that memory stays what it is however long the video.
"""

import queue
import threading

_END = object()


def ahead(items, depth):
    """Yields what `items` yields, of which up to `depth` are made before they are asked for."""
    waiting = queue.Queue(depth)
    stopped = threading.Event()

    def put(item):
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
                break
            except queue.Full:
                continue

    def work():
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    break
        except BaseException as error:
            put((_END, error))
        else:
            put((_END, None))
        finally:
            items.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


class Behind:
    """A context in which `put` has `work` called with its arguments, in that order, up to `depth` calls later.

    What a call raises is raised by the next `put`, or at the end of the context, where all that was put is done.
    """

    def __init__(self, work, depth):
        self._work = work
        self._waiting = queue.Queue(depth)
        self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while (item := self._waiting.get()) is not _END:
            if self._error is None:
                try:
                    self._work(*item)
                except BaseException as error:
                    self._error = error

    def put(self, *item):
        if self._error:
            raise self._error
        self._waiting.put(item)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._waiting.put(_END)
        self._thread.join()
        if self._error and kind is None:
            raise self._error
