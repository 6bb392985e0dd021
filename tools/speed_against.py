"""Pairs of frames by this tree and by another commit, in turns, on a CPU: only the ratio counts."""

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vfi.errors import DataError

ROOT = Path(__file__).parent.parent
WORKER = Path(__file__).with_name("pair_worker.py")


def print_against(commit: str, model: str, precision: str, size: tuple[int, int], runs: int) -> None:
    """Prints how long a pair takes by each, and how many times as fast this tree is.

    Raises:
        DataError: there is no such commit, or it cannot interpolate.
    """
    width, height = size
    with _tree(commit) as tree:
        options = (model, precision, str(width), str(height))
        with _Worker(tree, commit, options) as other, _Worker(ROOT, "this tree", options) as ours:
            times = [(other.seconds(), ours.seconds()) for _ in range(runs)]
    before, now = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(old / new for old, new in times)
    print(
        f"\none {width}x{height} pair, convolutions in {precision}: {commit} {before:.3f} s, this tree {now:.3f} s, "
        f"{ratio:.2f} times as fast"
    )


@contextlib.contextmanager
def _tree(commit: str) -> Iterator[Path]:
    """The files of a commit, in a folder that exists for a while."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True)
        if archive.returncode:
            reason = archive.stderr.decode().strip().splitlines()[-1]
            raise DataError(f"--against {commit}: {reason}")
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


class _Worker:
    """A process that interpolates a pair whenever it is asked to."""

    def __init__(self, tree: Path, name: str, options: tuple[str, ...]) -> None:
        self._name = name
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(tree), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "_Worker":
        self.seconds()  # warms up
        return self

    def seconds(self) -> float:
        """The time of one pair."""
        requests, answers, errors = self._process.stdin, self._process.stdout, self._process.stderr
        assert requests is not None
        assert answers is not None
        assert errors is not None
        with contextlib.suppress(BrokenPipeError):
            print(file=requests, flush=True)
        answer = answers.readline()
        if not answer:
            *_, reason = errors.read().strip().splitlines() or ["it ended"]
            raise DataError(f"{self._name} cannot interpolate: {reason}")
        return float(answer)

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
