"""Each measure against its definition in plain loops; the SSIMs differ from one another."""

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vfi import metrics

ROOT = Path(__file__).parent.parent


@pytest.fixture
def pair(noise):
    """A picture and a similar truth, uint8, larger than all windows and not square."""
    truth, other = (np.rint(255 * noise(15, 19, seed=seed)).astype(np.uint8) for seed in (1, 2))
    return np.rint(0.7 * truth + 0.3 * other).astype(np.uint8), truth


def plain_ssim(picture, truth, weights, unbias=1):
    """Wang et al. 2004, equation 13: the mean over all windows that lie within arrays of any dimensions."""
    constants = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for corner in itertools.product(*(range(n - size + 1) for n, size in zip(truth.shape, weights.shape, strict=True))):
        window = tuple(slice(start, start + size) for start, size in zip(corner, weights.shape, strict=True))
        a, b = (frame[window].astype(float) for frame in (picture, truth))
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum() * unbias, (weights * (b - mean_b) ** 2).sum() * unbias
        both = (weights * (a - mean_a) * (b - mean_b)).sum() * unbias
        values.append(
            (2 * mean_a * mean_b + constants[0])
            * (2 * both + constants[1])
            / ((mean_a**2 + mean_b**2 + constants[0]) * (var_a + var_b + constants[1]))
        )
    return np.mean(values)


BELL = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
BELL /= BELL.sum()


def test_psnr():
    truth = np.full((4, 4, 3), 100, np.uint8)
    assert metrics.psnr(truth, truth) == float("inf")
    assert metrics.psnr(truth + 5, truth) == pytest.approx(10 * np.log10(255**2 / 25))
    assert metrics.psnr(truth, truth + 200) == metrics.psnr(truth + 200, truth)  # no wrap-around: 300 is 44 in uint8


def test_ssim_uniform(pair):
    exact = plain_ssim(*pair, np.full((7, 7, 1), 1 / 49), unbias=49 / 48)
    assert 0.2 < exact < 0.95
    assert metrics.ssim_uniform(*pair) == pytest.approx(exact, abs=1e-6)


def test_ssim_gaussian(pair):
    exact = plain_ssim(*pair, np.outer(BELL, BELL)[..., None])
    assert metrics.ssim_gaussian(*pair) == pytest.approx(exact, abs=1e-6)
    assert abs(metrics.ssim_uniform(*pair) - exact) > 1e-3  # the two measures differ


def test_ssim_matlab(pair):
    """The channels as the slices of a volume, all its sides continued by what is at them."""
    volumes = (np.pad(frame, 5, mode="edge") for frame in pair)
    exact = plain_ssim(*volumes, np.einsum("i,j,k->ijk", BELL, BELL, BELL))
    assert metrics.ssim_matlab(*pair) == pytest.approx(exact, abs=1e-6)
    assert metrics.ssim_matlab(*pair) > metrics.ssim_gaussian(*pair) + 0.01
    assert metrics.ssim_matlab(pair[1], pair[1]) == pytest.approx(1)


def test_interpolation_errors():
    truth = np.full((12, 12, 3), 250, np.uint8)
    picture = truth.copy()
    picture[:6] -= np.array([3, 4, 0], np.uint8)  # half of the pixels, by a distance of 5
    picture[:6, :, 2] += 5  # 255
    assert metrics.ie_rms(picture, truth) == pytest.approx(np.sqrt((3**2 + 4**2 + 5**2) / 2))
    assert metrics.ie_mean(picture, truth) == pytest.approx((3 + 4 + 5) / 3 / 2)


@pytest.mark.skipif(importlib.util.find_spec("lpips") is not None, reason="lpips is installed")
def test_missing_lpips_is_named():
    with pytest.raises(metrics.MetricError, match=r"^no module named 'lpips': pip install lpips$"):
        metrics.load_lpips()


def test_lpips_refuses_small_pictures(pair):
    small = np.zeros((30, 40, 3), np.uint8)
    with pytest.raises(metrics.MetricError, match="LPIPS needs 31 pixels or more to each side"):
        metrics.lpips(small, small)


def test_lpips(pair):
    try:
        metrics.load_lpips()
    except metrics.MetricError as error:
        pytest.skip(str(error))
    picture, truth = (np.kron(frame, np.ones((5, 5, 1), np.uint8)) for frame in pair)
    assert metrics.lpips(truth, truth) == 0
    assert metrics.lpips(picture, truth) > 0.01


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        ("benchmark", {"skimage", "scipy", "lpips", "av"}),
        ("run", {"skimage", "scipy", "lpips"}),
        ("train", {"skimage", "scipy", "lpips", "PIL", "pyvips", "moviepy", "cv2"}),
    ],
)
def test_programs_import_optional_packages_late(program, unwanted):
    code = f"import sys, {program}; print(sorted({unwanted} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
