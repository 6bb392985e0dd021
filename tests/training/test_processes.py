"""train.py in several processes: they learn what one process with a larger batch learns, and end together."""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from helpers.training import ROOT, command

from vfi.errors import DataError
from vfi.training import distributed
from vfi.training.checkpoints import read_checkpoint
from vfi.training.distributed import Processes


def torchrun(count):
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]


# Runs train.py in float64. Samples are made in float32, as always: they do not depend on the process.
EXACT = """
import sys
import torch
import train
from vfi.training import loop
from vfi.training.batches import Batches

class Exact(Batches):
    def __call__(self, *arguments):
        torch.set_default_dtype(torch.float32)
        samples = super().__call__(*arguments)
        torch.set_default_dtype(torch.float64)
        return [frames.double() for frames in samples]

torch.set_default_dtype(torch.float64)
loop.Batches = Exact
sys.exit(train.main())
"""


def test_two_processes_equal_one_with_twice_the_batch(film, tmp_path):
    """The weights are equal except for rounding errors.

    In float64, rounding errors are far smaller than the effects of mistakes. Sums in another order differ by 1e-16.
    AdamW divides small gradients by their own size, which enlarges this difference to at most 2e-13 in four steps. In
    float32, it enlarges 1e-7 to between 2e-5 and 6e-2, depending on the learning rate.
    """
    (tmp_path / "exact.py").write_text(EXACT)
    alone, together = tmp_path / "alone", tmp_path / "together"
    program = [str(tmp_path / "exact.py")]
    steps = ["--steps", 4, "--synthetic", 0.5, "--learning-rate", 3e-3]
    for launcher, out, batch, what in (([sys.executable], alone, 4, "1 x 4"), (torchrun(2), together, 2, "2 x 2")):
        words = [*launcher, *program, *command(film, out, *steps, "--batch", batch)[1:]]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert f"{what} crops" in done.stdout
        assert done.stdout.count("  step 4  ") == 1  # only one process reports
    expected, found = (read_checkpoint(out / "trained-l1.checkpoint") for out in (alone, together))
    for part in ("network", "averaged"):
        for name, tensor in expected[part].items():
            assert tensor.dtype == torch.float64
            assert (tensor - found[part][name]).norm() < 1e-11 * tensor.norm()
    moments = [state["optimizer"]["state"] for state in (expected, found)]
    assert len(moments[0]) == len(expected["network"])
    for index, state in moments[0].items():
        for name in ("exp_avg", "exp_avg_sq"):
            assert state[name].norm() > 0
            assert (state[name] - moments[1][index][name]).norm() < 1e-9 * state[name].norm()


def test_the_run_ends_when_a_process_dies(film, tmp_path):
    words = [*torchrun(2), *command(film, tmp_path, "--minutes", 10)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        for line in launcher.stdout:
            if "  step 2  " in line:
                break
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(launcher.pid)], capture_output=True, text=True)
        os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
        launcher.communicate(timeout=30)
    assert launcher.returncode not in (0, None)


@pytest.mark.parametrize("address", [{}, {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}])
def test_processes_that_cannot_connect(monkeypatch, address):
    monkeypatch.setattr(distributed, "GATHERING", timedelta(seconds=1))
    for name, value in ({"WORLD_SIZE": "2"} | address).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match="the 2 processes of this run have not found one another"), Processes():
        pass


def test_agree_in_a_single_process_returns_its_values():
    with Processes() as alone:
        assert (alone.rank, alone.count, alone.first) == (0, 1, True)
        assert alone.agree(0.25, False) == (0.25, False)
