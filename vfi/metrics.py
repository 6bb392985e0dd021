"""Metrics of how close a picture is to the truth. Where a metric has variants, its name tells which one it is.

All metrics take two pictures, uint8 (H, W, 3), of the same shape, the truth last, and use all pixels and channels.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vfi.errors import MetricError

Picture = NDArray[np.uint8]

SMALLEST = 11  # pixels of a side: the window of the Gaussian SSIM must fit
LPIPS_SMALLEST = 31  # pixels of a side: with fewer, AlexNet has nothing left to pool
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # Wang et al. 2004


def psnr(picture: Picture, truth: Picture) -> float:
    """Peak signal-to-noise ratio in dB. Infinite for identical pictures."""
    error = np.mean(np.square(_difference(picture, truth)))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim_uniform(picture: Picture, truth: Picture) -> float:
    """SSIM of each channel in uniform windows of 7 x 7: the default of scikit-image.

    The first public code of this network reports this one.
    """
    return _ssim(picture, truth)


def ssim_gaussian(picture: Picture, truth: Picture) -> float:
    """SSIM of each channel in Gaussian windows (sigma 1.5, 11 x 11), as in Wang et al. 2004."""
    return _ssim(picture, truth, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)


def ssim_matlab(picture: Picture, truth: Picture) -> float:
    """SSIM as MATLAB's function ssim computes it for a colour picture; most tables of papers have this one.

    The Gaussian windows (sigma 1.5, 11 x 11 x 11) reach across the channels, as if these were slices of a volume; its
    edges are replicated. The differences of the channels count as structure, which two pictures mostly share: the
    values are far above those of the other two. (The authors of DAIN say that their values are MATLAB's,
    github.com/baowenbo/DAIN/issues/12; later papers port it to Python as ssim_matlab.)
    """
    from scipy.ndimage import gaussian_filter  # here: see _ssim

    def blur(values: NDArray[Any]) -> NDArray[Any]:
        return gaussian_filter(values, sigma=1.5, radius=5, mode="nearest")

    x, y = picture.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    similar_means = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return float(np.mean(similar_means * (2 * covariance + SSIM_C2) / (variances + SSIM_C2)))


def ie_rms(picture: Picture, truth: Picture) -> float:
    """Interpolation error of the Middlebury benchmark: root of the mean over pixels of the squared colour difference.

    The difference of two colours is the length (L2) of the difference of their RGB vectors (Baker et al., IJCV 2011).
    """
    return float(np.sqrt(np.mean(np.sum(np.square(_difference(picture, truth)), axis=2))))


def ie_mean(picture: Picture, truth: Picture) -> float:
    """Interpolation error of papers since 2018: the mean absolute difference, in grey levels."""
    return float(np.mean(np.abs(_difference(picture, truth))))


def lpips(picture: Picture, truth: Picture) -> float:
    """LPIPS 0.1 with AlexNet (Zhang et al., CVPR 2018); lower is better.

    Raises:
        MetricError: the pictures are too small; or see `load_lpips`.
    """
    if min(truth.shape[:2]) < LPIPS_SMALLEST:
        raise MetricError(f"LPIPS needs {LPIPS_SMALLEST} pixels or more to each side")
    pair = (torch.from_numpy(frame / np.float32(127.5) - 1).permute(2, 0, 1)[None] for frame in (picture, truth))
    with torch.inference_mode():
        return float(load_lpips()(*pair))


@functools.cache
def load_lpips() -> Any:
    """Loads the network of `lpips`.

    Raises:
        MetricError: the package lpips is not installed or does not work, or AlexNet's weights cannot be loaded.
    """
    try:
        from lpips import LPIPS  # here: it is not among the requirements, because it brings torchvision
    except ModuleNotFoundError as error:
        raise MetricError(f"{str(error).lower()}: pip install lpips") from error
    except Exception as error:  # a torchvision for another PyTorch raises anything
        raise MetricError(f"the package lpips cannot be imported: {error}") from error
    try:
        return LPIPS(net="alex", verbose=False)
    except Exception as error:  # torchvision downloads AlexNet, which fails in many ways
        raise MetricError(f"the weights of its AlexNet cannot be loaded: {error}") from error


def _difference(picture: Picture, truth: Picture) -> NDArray[np.float64]:
    return picture.astype(np.float64) - truth


def _ssim(picture: Picture, truth: Picture, **window: Any) -> float:
    from skimage.metrics import structural_similarity  # here: half a second that only benchmarks spend

    return float(structural_similarity(picture, truth, channel_axis=2, data_range=255, **window))


@dataclass(frozen=True)
class Metric:
    """A metric: its title in tables, the number of decimals to print, and the function."""

    title: str
    decimals: int
    function: Callable[[Picture, Picture], float]


METRICS = {
    "psnr": Metric("PSNR dB", 2, psnr),
    "ssim_uniform": Metric("SSIM uniform", 4, ssim_uniform),
    "ssim_gaussian": Metric("SSIM Gaussian", 4, ssim_gaussian),
    "ssim_matlab": Metric("SSIM MATLAB", 4, ssim_matlab),
    "ie_rms": Metric("IE RMS", 2, ie_rms),
    "ie_mean": Metric("IE mean", 2, ie_mean),
    "lpips": Metric("LPIPS", 4, lpips),
}
