"""Fixtures of all tests: weights in the published format, pictures and clips."""

import os

# Workers share the cores: one thread for each, also in the programs that they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from helpers.clips import write_clip
from safetensors.torch import save_file

from vfi.interpolator import Interpolator
from vfi.network import Network
from vfi.weights import published_name


@pytest.fixture(scope="session")
def published_state():
    """A state dict like the published files': their names, random values, and kernels that give ordinary colours."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in Network().state_dict().items():
        scale = 0.1 if tensor.dim() == 1 else (2 / tensor[0].numel()) ** 0.5
        state[published_name(name)] = scale * torch.randn(tensor.shape, generator=generator)
    for head in ("Vertical1", "Vertical2", "Horizontal1", "Horizontal2"):
        state[f"module{head}.7.weight"] *= 0.05
        state[f"module{head}.7.bias"] = 0.01 * torch.randn(51, generator=generator) + 0.5**0.5 / 51
    return state


@pytest.fixture(scope="session")
def published_file(published_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "network-l1.pytorch"
    torch.save(published_state, path)
    return path


@pytest.fixture
def make_weights(published_state, tmp_path):
    """Writes a safetensors file with the given metadata, after `change` has modified the tensors."""

    def make(change=None, **metadata):
        state = dict(published_state)
        if change:
            change(state)
        path = tmp_path / "weights.safetensors"
        save_file(state, path, metadata)
        return path

    return make


@pytest.fixture(scope="session")
def noise():
    """Smooth random pictures, the same for the same arguments: noise(height, width, channels, seed) in [0, 1]."""

    def make(height, width, channels=3, seed=0):
        generator = np.random.default_rng(seed)
        coarse = torch.from_numpy(generator.random((1, channels, height // 4 + 2, width // 4 + 2), np.float32))
        smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
        return smooth[0].permute(1, 2, 0).numpy()

    return make


@pytest.fixture(scope="session")
def moving_frames(noise):
    """A texture that moves by `step` pixels per frame to the left, and by half as much upwards: uint8 RGB."""

    def make(count, height, width, seed=0, step=3):
        picture = noise(height + step * count // 2 + 1, width + step * count, seed=seed)
        corners = [(step * t // 2, step * t) for t in range(count)]
        return np.stack([(255 * picture[y : y + height, x : x + width]).astype(np.uint8) for y, x in corners])

    return make


@pytest.fixture
def make_clip(tmp_path):
    """Writes frames (T, H, W, 3) uint8 RGB without loss, 25 a second; returns the path."""

    def make(name, frames):
        path = tmp_path / name
        write_clip(path, frames)
        return path

    return make


@pytest.fixture
def pair(noise):
    """Two float32 frames (1, 3, H, W) with odd sides."""
    return [torch.from_numpy(noise(67, 131, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2)]


@pytest.fixture(scope="session")
def published(published_file):
    return Interpolator(weights=published_file, device="cpu", precision="float32")
