"""Work for a crew that takes no network, and fails as it is told; a cluster of two nodes on this machine."""

import contextlib
import os
import time

from vfi.errors import VideoError

IDENTITY = {"Python": "3", "weights": "a"}


class Doubling:
    """Doubles numbers, and does what `faults` says at some: raise an error, or end the process, always or once."""

    def __init__(self, faults, folder, identity=IDENTITY):
        self.faults, self.folder = faults, folder
        self.done = 0
        self._identity = identity

    def identity(self):
        return self._identity

    def do(self, task):
        fault = self.faults.get(task)
        if fault == "dies":
            os._exit(1)
        if fault == "dies once" and not os.path.exists(f"{self.folder}/{task}"):
            open(f"{self.folder}/{task}", "w").close()
            os._exit(1)
        if fault == "fails":
            raise VideoError(f"number {task} cannot be doubled")
        self.done = 1
        time.sleep(0.05)
        return 2 * task

    def close(self):
        pass


@contextlib.contextmanager
def two_nodes():
    """Ray's cluster of two nodes with one core each; yields it. Nodes can be added and removed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.second = cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()
