"""The processes of a run, one for each GPU: which of them this is, and what they agree on.

`torchrun --nproc-per-node 2 train.py ...` starts them and says in the environment who is who; a program that was
started alone is the only one, and everything here does nothing.
"""

import os
from datetime import timedelta

import torch
from torch import distributed

from vfi.errors import DataError

PATIENCE = timedelta(seconds=25)  # after which a process that does not answer counts as dead
WRITING = timedelta(minutes=10)  # for which the others wait for the first; its death they see at once
GATHERING = timedelta(minutes=10)  # until all processes have begun: PyTorch comes from a cold disk, perhaps far away
SETTING_UP = timedelta(days=1)  # decoding films takes as long as it takes; torchrun sees who dies meanwhile


_VARIABLES = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))  # that torchrun sets, and what they are without it


class Ranks:
    """This process among those of the run.

    Attributes:
        rank, count: which one it is, of how many.
        local: which one on this machine; also the number of its GPU.
        first: whether it is the one that speaks and writes.
    """

    def __init__(self):
        self.rank, self.count, self.local = (int(os.environ.get(name, default)) for name, default in _VARIABLES)
        self.first = self.rank == 0

    def __enter__(self):
        if self.count > 1:
            try:
                distributed.init_process_group("gloo", timeout=GATHERING)
            except (RuntimeError, ValueError) as error:
                raise DataError(
                    f"the {self.count} processes of this run have not found one another: start them with torchrun"
                ) from error
            self.preparations = distributed.new_group(backend="gloo", timeout=SETTING_UP)
            # The first, for whom the others wait while it measures and writes, never waits for long itself.
            self.words = distributed.new_group(backend="gloo", timeout=PATIENCE if self.first else WRITING)
        return self

    def __exit__(self, kind, error, trace):
        if self.count == 1:
            return
        if error is None or isinstance(error, (KeyboardInterrupt, SystemExit)):
            distributed.destroy_process_group()
        elif isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
            raise DataError("a process of this run has ended or hangs; --resume goes on from its checkpoint") from error

    def wait(self):
        """Returns when all have come here."""
        if self.count > 1:
            distributed.barrier(group=self.preparations)

    def parallel(self, network):
        """The network with gradients that are the means over all processes, each of which has to call this."""
        if self.count == 1:
            return network
        # Gradients go from GPU to GPU where there are some; what is agreed on never makes a GPU wait.
        on_gpu = next(network.parameters()).is_cuda and distributed.is_nccl_available()
        gradients = distributed.new_group(backend="nccl" if on_gpu else "gloo", timeout=PATIENCE)
        return torch.nn.parallel.DistributedDataParallel(network, process_group=gradients, gradient_as_bucket_view=True)

    def agree(self, progress, stop):
        """What the first process takes for the progress, and whether any wants to stop."""
        if self.count == 1:
            return progress, stop
        words = torch.tensor([progress if self.first else -1.0, float(stop)], dtype=torch.float64)
        distributed.all_reduce(words, distributed.ReduceOp.MAX, group=self.words)
        return words[0].item(), bool(words[1].item())
