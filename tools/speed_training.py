"""The speed of training on the sample clip: on a CPU where the time of a step goes, on a GPU samples per second."""

import functools
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch

from tools.speed_cuda import milliseconds_with_launches
from tools.speed_network import operator_seconds
from tools.stopwatch import seconds
from vfi.training.batches import Batches
from vfi.training.clips import Footage
from vfi.training.distributed import Processes
from vfi.training.recipe import Recipe, Sampling
from vfi.training.trainer import Trainer, averaging_network

VIDEOS = Path(__file__).parent.parent / "videos"
CPU_BATCH, CROP = 8, 128
CUDA_BATCHES = (32, 80)
CUDA_STEPS = 10  # between two looks at the clock
SAMPLING = Sampling(synthetic=0.2)  # synthetic motion costs more
DRAWN = 80  # samples in a step, for which is drawn at once
HALFWAY = 0.5  # of the budget is spent, which sets the learning rate


def print_training(precision: str, runs: int) -> None:
    """Prints samples per second, on a GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as cache:
        batches = Batches(Footage([VIDEOS], cache), CROP, sampling=SAMPLING, device=device)
        if device.type == "cuda":
            _print_on_cuda(batches, precision, runs)
        else:
            _print_on_cpu(batches, precision, runs)
        _print_drawing(batches)
        del batches  # it has files of the cache open, which Windows would not remove


def _print_on_cpu(batches: Batches, precision: str, runs: int) -> None:
    recipe = Recipe(batch=CPU_BATCH, crop=CROP, precision=precision)
    trainer = Trainer(averaging_network(0), torch.device("cpu"), recipe, Processes())
    trainer.train(*batches(0, CPU_BATCH), HALFWAY)
    rows = []
    for step in range(1, runs + 1):
        start = time.perf_counter()
        samples = batches(step, CPU_BATCH)
        data = time.perf_counter() - start
        spent = operator_seconds(functools.partial(trainer.train, *samples, HALFWAY))
        total = time.perf_counter() - start
        op = sum(value for name, value in spent.items() if "sepconv" in name) / sum(spent.values())
        rows.append((total, data / total, op * (1 - data / total)))
    total, data, op = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"\na step of {CPU_BATCH} crops of {CROP}x{CROP}, in {precision}: {CPU_BATCH / total:.1f} samples/s")
    for name, share in (("data", data), ("the op", op), ("network and optimizer", 1 - op - data)):
        print(f"{name:36} {share:6.1%}")


def _print_drawing(batches: Batches) -> None:
    """How long the numbers of a sample take that are drawn on the CPU, also in training on a GPU."""
    spent = min(seconds(functools.partial(batches.draw, step, DRAWN)) for step in range(5))
    print(f"drawing a sample {1e6 * spent / DRAWN:22.0f} microseconds")


def _print_on_cuda(batches: Batches, precision: str, runs: int) -> None:
    """Samples per second, data included, for some sizes of a step, without and with torch.compile."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # as in training
    try:
        for compiled, batch in itertools.product((False, True), CUDA_BATCHES):
            recipe = Recipe(batch=batch, crop=CROP, precision=precision)
            trainer = Trainer(averaging_network(0), torch.device("cuda"), recipe, Processes(), compiled)

            def train(trainer: Trainer = trainer, batch: int = batch) -> None:
                for step in range(CUDA_STEPS):
                    trainer.train(*batches(step, batch), HALFWAY)

            rate = 1e3 * CUDA_STEPS * batch / milliseconds_with_launches(train, runs)
            name = f"{batch} crops of {CROP}x{CROP} in a step, {precision}{', compiled' if compiled else ''}"
            print(f"{name:60} {rate:6.0f} samples/s")
    finally:
        torch.backends.cudnn.benchmark = before
