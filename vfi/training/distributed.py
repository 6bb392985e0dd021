"""The processes of a run, one for each GPU: which of them this is, and what they agree on.

`torchrun --nproc-per-node 2 train.py ...` starts them, and tells each in the environment which one it is. A program
that was started alone is the only process, and everything here does nothing.

Time-outs, after which a process that does not answer ends the run:

    gathering     10 min    until all processes have begun: PyTorch may come from a cold or distant disk
    preparations  1 day     decoding takes as long as it takes; torchrun sees meanwhile if a process dies
    control       25 s      for the first process, which never waits for long itself
                  10 min    for the others, which wait while the first process measures and writes
    gradients     25 s      for all
"""

import os
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import torch
from torch import distributed, nn

from vfi.errors import DataError

PATIENCE = timedelta(seconds=25)
WRITING = timedelta(minutes=10)
GATHERING = timedelta(minutes=10)
PREPARING = timedelta(days=1)

_VARIABLES = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))  # set by torchrun; values without torchrun


class Processes:
    """This process among those of the run; a context.

    Attributes:
        rank, count: its number, of how many.
        local: its number on this machine; also the number of its GPU.
        first: whether it is the process that prints and writes.

    Raises:
        DataError: the processes do not find one another; or, at the end of the context, one has ended or hangs.
    """

    def __init__(self) -> None:
        self.rank, self.count, self.local = (int(os.environ.get(name, default)) for name, default in _VARIABLES)
        self.first = self.rank == 0
        self._preparations: Any = None  # the process groups
        self._control: Any = None

    def __enter__(self) -> Self:
        if self.count > 1:
            try:
                distributed.init_process_group("gloo", timeout=GATHERING)
            except (RuntimeError, ValueError) as error:
                raise DataError(
                    f"the {self.count} processes of this run have not found one another: start them with torchrun"
                ) from error
            self._preparations = distributed.new_group(backend="gloo", timeout=PREPARING)
            self._control = distributed.new_group(backend="gloo", timeout=PATIENCE if self.first else WRITING)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.count == 1:
            return
        if error is None or isinstance(error, (KeyboardInterrupt, SystemExit)):
            distributed.destroy_process_group()
        elif isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
            raise DataError("a process of this run ended or hangs; --resume continues from its checkpoint") from error

    def wait(self) -> None:
        """Returns when all processes have called this."""
        if self.count > 1:
            distributed.barrier(group=self._preparations)

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network with gradients that are the means over all processes, each of which has to call this."""
        if self.count == 1:
            return network
        # Gradients go from GPU to GPU if possible; what processes agree on never makes a GPU wait.
        on_gpu = next(network.parameters()).is_cuda and distributed.is_nccl_available()
        gradients = distributed.new_group(backend="nccl" if on_gpu else "gloo", timeout=PATIENCE)
        return torch.nn.parallel.DistributedDataParallel(network, process_group=gradients, gradient_as_bucket_view=True)

    def agree(self, progress: float, stop: bool) -> tuple[float, bool]:
        """The progress as the first process measures it, and whether any process wants to stop."""
        if self.count == 1:
            return progress, stop
        values = torch.tensor([progress if self.first else -1.0, float(stop)], dtype=torch.float64)
        distributed.all_reduce(values, distributed.ReduceOp.MAX, group=self._control)
        return values[0].item(), bool(values[1].item())
