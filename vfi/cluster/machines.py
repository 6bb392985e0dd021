"""Ray, started on this machine or connected to, and how many workers each of its machines gets."""

import contextlib
import itertools
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vfi.errors import DataError, UsageError, reason
from vfi.interpolator import fast_precision
from vfi.network import Network

CPUS_OF_A_WORKER = 8  # cores beyond which another worker gains more than this one
OBJECT_BYTES = 512 * 2**20  # of results on their way, on this machine; Ray writes what is more to the disk
LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 5.0
# Ray's settings on this machine: every port on the loopback interface, no report of usage, no colours and no advice.
ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so that a machine by itself is at LOOPBACK, as on macOS
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "token",  # with a token of our own, so that other users of this machine are kept out
}


@dataclass(frozen=True)
class Machine:
    """A machine with workers.

    Attributes:
        id: Ray's.
        address: its IP address.
        workers: how many it gets.
        cpus, gpus: what Ray reserves for each of them.
        threads: of each of them.
    """

    id: str
    address: str
    workers: int
    cpus: float
    gpus: float
    threads: int


class Machines:
    """The machines that are alive.

    Args:
        workers: in all; None for as many as suit the machines.
        cores: of this machine, if it is the only one: Ray then counts workers instead of cores.
    """

    def __init__(self, workers: int | None, cores: int | None = None) -> None:
        self.workers = workers
        self._cores = cores

    def alive(self) -> list[Machine]:
        import ray

        nodes = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: str(node["NodeID"]))
        sizes = [tuple(int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU")) for node in nodes]
        has_gpus = any(gpus for _, gpus in sizes)
        machines = []
        for node, (cpus, gpus), count in zip(nodes, sizes, self._counts(sizes, has_gpus), strict=True):
            if count:
                share = cpus // count or cpus / count  # Ray wants whole numbers above 1
                threads = (self._cores or cpus) // count
                gpu_share = (gpus // count or gpus / count) if has_gpus else 0
                address = node["NodeManagerAddress"]
                machines.append(Machine(node["NodeID"], address, count, share, gpu_share, max(1, threads)))
        return machines

    def fast_precision(self, network: Network) -> str:
        """The precision that "auto" means on all of them; see `Interpolator`."""
        if any(machine.gpus for machine in self.alive()):
            return "float16" if network.kernel_normalization else "float32"
        return fast_precision(torch.device("cpu"), network)

    def _counts(self, sizes: Sequence[tuple[int, ...]], has_gpus: bool) -> list[int]:
        """Workers of each machine, for (cores, GPUs): those without GPUs get none where others have some."""
        if self.workers is None:
            return [gpus if has_gpus else -(-cpus // CPUS_OF_A_WORKER) for cpus, gpus in sizes]
        counts = [0] * len(sizes)
        most = [cpus if not has_gpus else max(cpus, gpus) if gpus else 0 for cpus, gpus in sizes]
        left = min(self.workers, sum(most))
        for place in itertools.cycle(range(len(sizes))):
            if not left:
                return counts
            if counts[place] < most[place]:
                counts[place] += 1
                left -= 1
        return counts


def default_workers() -> int:
    """Workers that suit this machine: one for each GPU, or for every few cores."""
    return torch.cuda.device_count() or -(-_cores() // CPUS_OF_A_WORKER)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def on_this_machine(workers: int | None) -> Iterator[Machines]:
    """Ray on this machine, for nobody else, until the end of the context.

    Args:
        workers: None for as many as suit the machine.

    Raises:
        UsageError: Ray is not installed.
        DataError: it cannot be started.
    """
    count = workers or default_workers()
    with tempfile.TemporaryDirectory(prefix="vfi-", ignore_cleanup_errors=True) as folder:
        arguments = {
            "address": "local",
            "num_cpus": count,
            "include_dashboard": False,
            "object_store_memory": _object_bytes(folder),
            "_temp_dir": folder,
            "_node_ip_address": LOOPBACK,
        }
        environment = ENVIRONMENT | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        with _environment(environment), _connected("Ray cannot be started", arguments):
            yield Machines(count, _cores())


def _object_bytes(folder: str) -> int:
    """What fits where Ray keeps results: in shared memory, or beside its logs."""
    place = "/dev/shm" if os.path.isdir("/dev/shm") else folder
    return max(80 * 2**20, min(OBJECT_BYTES, int(shutil.disk_usage(place).free * 0.6)))


@contextlib.contextmanager
def on_cluster(address: str, workers: int | None) -> Iterator[Machines]:
    """A cluster that is there, until the end of the context.

    Args:
        address: of its head, as host:port or ray://host:port; "auto" for the one of this machine, or of RAY_ADDRESS.
        workers: at most; None for as many as suit the machines.

    Raises:
        UsageError: Ray is not installed.
        DataError: the cluster cannot be reached, or has other versions.
    """
    what = f"--cluster {address}"
    hint = "; if it has a token, this machine needs it, too (docs/cluster.md)"
    if address == "auto":
        what += " needs RAY_ADDRESS, or a cluster that this machine is in (ray start)"
        hint = ""
    else:
        _check_reachable(address, what)
    with _connected(what, {"address": address}, hint):
        yield Machines(workers)


def _check_reachable(address: str, what: str) -> None:
    """Finds out in seconds that nobody listens there; Ray tries for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"{what} is no address: give host:port, such as head:6379, or auto")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise DataError(f"{what} cannot be reached: {reason(error)}") from error


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _connected(what: str, arguments: dict[str, Any], hint: str = "") -> Iterator[None]:
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"workers need the package ray: pip install 'ray>=2.52' ({error})") from error
    from ray._private import worker

    # Ray prints advice about dead workers on standard output, whatever is set; the crew says in a line what matters.
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        try:
            with _uninterrupted():
                ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **arguments)
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError, ray.exceptions.RayError) as error:
            raise DataError(f"{what}: {reason(error)}{hint}") from error
        yield
    finally:
        with _uninterrupted():
            ray.shutdown()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: within these calls it would crash Ray, and leave its processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
