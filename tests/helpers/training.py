"""Command lines of tiny training runs, and what such runs write."""

import subprocess
from pathlib import Path

from safetensors.torch import load_file

from vfi.training.checkpoints import read_checkpoint

ROOT = Path(__file__).parent.parent.parent
TINY = ["--crop", "32", "--batch", "2", "--precision", "float32", "--device", "cpu"]


def command(film, out, *options):
    """The command line of a tiny run that prints a line for every step."""
    words = ["train.py", "--data", film, "--out", out, *TINY, "--report", 0, *options]
    return [str(word) for word in words]


def tensors(out):
    """All that a checkpoint holds, and the weights beside it."""
    checkpoint = read_checkpoint(out / "trained-l1.checkpoint")
    found = dict(load_file(out / "trained-l1.safetensors"))
    for part in ("network", "averaged"):
        found |= {f"{part}.{name}": tensor for name, tensor in checkpoint[part].items()}
    for index, state in checkpoint["optimizer"]["state"].items():
        found |= {f"{name} of {index}": tensor for name, tensor in state.items()}
    return found


def stopped_after(step, words, number):
    """Exit status, remaining output and errors of a program that receives a signal once it has reported a step."""
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if f"  step {step}  " in line:
                process.send_signal(number)
                break
        rest, errors = process.communicate()
    return process.returncode, rest, errors
