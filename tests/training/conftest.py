"""Fixtures: a clip with motion, frames to overfit, and a training run on them."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.clips import write_clip
from helpers.training import ROOT

from vfi.files import locked


@pytest.fixture(scope="session")
def film(tmp_path_factory, moving_frames):
    """A folder with one short clip of a texture that moves by five pixels from frame to frame."""
    folder = tmp_path_factory.mktemp("film")
    write_clip(folder / "film.mp4", moving_frames(12, 180, 200, step=5))
    return folder


@pytest.fixture(scope="session")
def frames(noise):
    """Three grey frames with room for one crop only. Their texture moves diagonally by three pixels per frame."""
    picture = (255 * noise(91, 91)).astype(np.uint8)[..., :1].repeat(3, axis=2)
    return np.stack([picture[3 * t :, 3 * t :][:82, :82] for t in range(3)])


@pytest.fixture(scope="session")
def trained(frames, tmp_path_factory):
    """A training run that overfits `frames`; returns its folder, the clip's folder, and what it printed.

    All workers of pytest share the run. The first worker that needs it starts it.
    """
    temporary = tmp_path_factory.getbasetemp()
    folder = (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / "trained"
    folder.mkdir(exist_ok=True)
    printed = folder / "printed.txt"
    with locked(folder, wait=True):
        if not printed.exists():
            printed.write_text(_train(folder, frames))
    return folder / "run", folder / "film", printed.read_text()


def _train(folder, frames):
    for name in ("film", "held out"):
        write_clip(folder / name / f"{name}.mp4", frames)
    words = ["--data", "film", "--out", "run", "--held-out", "held out", "--steps", "120", "--batch", "4"]
    words += ["--crop", "32", "--learning-rate", "1e-3", "--average", "0.9", "--report", "5"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout
