"""Pictures of every kind in and out; devices and precisions."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vfi.errors import DataError, UsageError
from vfi.interpolator import Interpolator

ROOT = Path(__file__).parent.parent


def scaled(picture, dtype):
    """A picture in [0, 1] in the range of a dtype."""
    white = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    return np.round(white * picture).astype(dtype) if white > 1 else picture.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2", np.float16, np.float32, np.float64], ids=str)
def test_arrays_keep_their_kind(published, noise, dtype):
    dtype = np.dtype(dtype)
    one, two = (scaled(noise(20, 30, seed=seed), dtype) for seed in (1, 2))
    between = published(one, two)
    assert between.dtype == dtype
    assert between.shape == one.shape
    expected = published(*(scaled(noise(20, 30, seed=seed), np.float64) for seed in (1, 2)))
    white = np.iinfo(dtype).max if dtype.kind == "u" else 1
    # Rounding of both pictures and of the result; the kernels amplify nothing.
    assert np.abs(between.astype(float) / white - expected).max() < {1: 1.2 / 255, 2: 1e-3}.get(dtype.itemsize, 1e-6)


def test_tensors_keep_their_kind(published, noise):
    one, two = (torch.from_numpy(noise(20, 30, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2))
    expected = published(*(frame[0].permute(1, 2, 0).numpy() for frame in (one, two)))
    between = published(one.clone().requires_grad_(), two)
    assert between.dtype == torch.float32
    assert not between.requires_grad
    assert not between.is_inference()
    assert np.array_equal(between[0].permute(1, 2, 0).numpy(), expected)
    channels_last = published(*(f.mul(255).round().byte().to(memory_format=torch.channels_last) for f in (one, two)))
    assert channels_last.dtype == torch.uint8


def test_identical_frames_never_reach_the_network(published, noise, monkeypatch):
    one, two = (scaled(noise(20, 30, seed=seed), np.uint16) for seed in (1, 2))
    frames = [torch.from_numpy(frame.copy()).permute(2, 0, 1) for frame in (one, two)]
    calls = []
    monkeypatch.setattr(published, "network", lambda one, *rest: calls.append(len(one)) or torch.zeros_like(one))
    same = published(one, one.copy())
    assert np.array_equal(same, one)
    assert same is not one
    assert calls == []
    mixed = published(torch.stack([frames[0]] * 3), torch.stack([frames[0], frames[1], frames[0]]))
    assert calls == [1]
    assert [torch.equal(frame, frames[0]) for frame in mixed] == [True, False, True]


def test_grey_is_computed_as_three_equal_channels(published, noise):
    one, two = (noise(20, 30, 1, seed=seed) for seed in (1, 2))
    expected = published(*(np.repeat(frame, 3, axis=2) for frame in (one, two)))
    assert np.array_equal(published(one, two), expected[..., :1])
    assert np.array_equal(published(one[..., 0], two[..., 0]), expected[..., 0])


def test_opaque_alpha_does_not_change_the_colours(published, noise):
    one, two = (scaled(noise(20, 30, seed=seed), np.uint8) for seed in (1, 2))
    opaque = [np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)]) for frame in (one, two)]
    between = published(*opaque)
    assert (between[..., 3] == 255).all()
    assert np.array_equal(between[..., :3], published(one, two))
    grey = published(*(frame[..., [0, 3]] for frame in opaque))
    assert (grey[..., 1] == 255).all()
    assert np.array_equal(grey[..., 0], published(one[..., 0], two[..., 0]))


def test_hidden_colours_do_not_bleed(published, noise):
    """Colours under full transparency make no difference."""
    pictures = [noise(20, 30, 4, seed=seed) for seed in (1, 2)]
    for picture in pictures:
        picture[:, :15, 3] = 0
    painted = [picture.copy() for picture in pictures]
    for picture in painted:
        picture[:, :15, :3] = 1
    assert np.allclose(published(*pictures), published(*painted), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (129, 2)], ids=str)
def test_any_size(published, noise, size):
    one, two = (noise(*size, seed=seed) for seed in (1, 2))
    between = published(one, two)
    assert between.shape == one.shape
    assert np.isfinite(between).all()


def test_results_are_clamped(published):
    black, white = np.zeros((8, 8, 3)), np.ones((8, 8, 3))
    between = published(black, white * 1000)
    assert between.min() >= 0
    assert between.max() <= 1


def test_padding_makes_a_difference(published_file, published, noise):
    paper = Interpolator(weights=published_file, device="cpu", precision="float32", padding="paper")
    one, two = (noise(40, 50, seed=seed) for seed in (1, 2))
    assert np.abs(paper(one, two) - published(one, two)).max() > 1e-3


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_16_bit_convolutions_stay_close(published_file, published, noise, precision):
    rough = Interpolator(weights=published_file, device="cpu", precision=precision)
    one, two = (scaled(noise(64, 64, seed=seed), np.uint8) for seed in (1, 2))
    difference = np.abs(rough(one, two).astype(float) - published(one, two))
    assert 0 < difference.mean() < 1


def test_auto_precision_without_kernel_normalization(published_file):
    """Without kernel normalization the effect of 16 bits has not been measured, so auto is float32."""
    assert Interpolator(weights=published_file, device="cpu").precision == "float32"
    expected = "bfloat16" if torch.cpu.get_capabilities().get("avx512_bf16") else "float32"
    if platform.machine() == "x86_64":
        assert Interpolator(device="cpu").precision == expected


def test_ensemble(published_file, pair):
    """The result of an ensemble does not depend on flips of the frames, nor on which of the two is first."""
    single, ensemble = (
        Interpolator(weights=published_file, device="cpu", precision="float32", ensemble=several)
        for several in (False, True)
    )
    one, two = pair
    result = ensemble(one, two)
    assert not torch.allclose(result, single(one, two), atol=1e-3)
    for dimension in (2, 3):
        flipped = ensemble(two.flip(dimension), one.flip(dimension)).flip(dimension)
        assert torch.allclose(flipped, result, atol=1e-5)
    expected = [
        single(*(frame.flip(flip) for frame in order)).flip(flip)
        for flip in ((), (2,), (3,), (2, 3))
        for order in ((one, two), (two, one))
    ]
    assert torch.allclose(torch.stack(expected).mean(0), result, atol=1e-5)
    assert torch.equal(ensemble(one, one), one)


def test_several_interpolators_at_once(published_file, published, noise):
    one, two = (noise(20, 30, seed=seed) for seed in (1, 2))
    expected = published(one, two)
    Interpolator(device="cpu", precision="bfloat16", padding="paper")(one, two)
    assert np.array_equal(published(one, two), expected)


ARRAY = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("one", "two", "error", "message"),
    [
        (ARRAY, torch.zeros(1, 3, 4, 4), TypeError, "one is a ndarray and two a Tensor"),
        ("one.png", "two.png", TypeError, "one is a str and two a str, expected two arrays or two tensors"),
        (ARRAY, ARRAY[1:], ValueError, r"one has shape \(4, 4, 3\), two has \(3, 4, 3\)"),
        (ARRAY, ARRAY / 255, ValueError, "one has dtype uint8, two has float64"),
        (ARRAY.astype(int), ARRAY.astype(int), ValueError, "one is int64, expected uint8, uint16 or floating"),
        (torch.zeros(1, 3, 4, 4).int(), torch.zeros(1, 3, 4, 4).int(), ValueError, "one is torch.int32"),
        (np.zeros((4, 4, 5), np.uint8), np.zeros((4, 4, 5), np.uint8), ValueError, "expected 1 to 4 channels"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), ValueError, "at least one pixel"),
        (np.zeros(4, np.uint8), np.zeros(4, np.uint8), ValueError, r"expected \(H, W\) or \(H, W, C\)"),
        (torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), ValueError, "expected 1 to 4 channels"),
        (ARRAY / 255, ARRAY * np.nan, ValueError, "two has values that are not finite"),
        (
            torch.full((1, 3, 4, 4), torch.inf),
            torch.zeros(1, 3, 4, 4),
            ValueError,
            "one has values that are not finite",
        ),
    ],
)
def test_invalid_pairs_are_named(published, one, two, error, message):
    with pytest.raises(error, match=message):
        published(one, two)


def test_devices_and_precisions_are_checked():
    with pytest.raises(UsageError, match="device 'tpu9' is not known"):
        Interpolator(device="tpu9")
    with pytest.raises(UsageError, match="device 'mps' is not supported"):
        Interpolator(device="mps")
    with pytest.raises(DataError, match=r"device 'cuda:99' is not available: PyTorch sees \d+ NVIDIA GPUs here"):
        Interpolator(device="cuda:99")
    with pytest.raises(UsageError, match="precision 'float8' is not known"):
        Interpolator(device="cpu", precision="float8")
    with pytest.raises(UsageError, match="padding 'none' is not known"):
        Interpolator(padding="none")


def test_memory_of_a_large_pair():
    """A 1920x1080 pair in float32 takes less than 2.5 GiB at its peak."""
    result = subprocess.run(
        [sys.executable, "-m", "tools.speed", "--memory", "1920x1080"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(result.stdout.split("peak memory ")[1].split(" GiB")[0]) < 2.5
