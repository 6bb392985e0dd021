"""Measures of how close a picture is to the truth, each under a name that tells it from its namesakes.

All of them take two uint8 pictures (H, W, 3) of the same shape, the truth last, and see all their pixels and channels.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from vfi.errors import MetricError

SMALLEST = 11  # pixels of a side: the window of the Gaussian SSIM has to fit
LPIPS_SMALLEST = 31  # likewise: with less, AlexNet has nothing left to pool
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # Wang et al. 2004


def psnr(picture, truth):
    """Peak signal-to-noise ratio in dB. Infinite for identical pictures."""
    error = np.mean(np.square(_difference(picture, truth)))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim_uniform(picture, truth):
    """SSIM of each channel in uniform windows of 7 x 7, as scikit-image computes it when told nothing else.

    That is what the first public code of this network reports.
    """
    return _ssim(picture, truth)


def ssim_gaussian(picture, truth):
    """SSIM of each channel in Gaussian windows (sigma 1.5, 11 x 11), as in Wang et al. 2004."""
    return _ssim(picture, truth, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)


def ssim_matlab(picture, truth):
    """SSIM as MATLAB's function ssim takes it of a colour picture, and with it most tables of frame interpolation.

    The Gaussian windows (sigma 1.5, 11 x 11 x 11) reach across the channels, as if these were the slices of a volume;
    beyond its borders stands what is at them. What sets the channels apart counts as structure, and two pictures
    mostly share it: the values are far above those of the other two. (The authors of DAIN say that theirs are
    MATLAB's, github.com/baowenbo/DAIN/issues/12; later papers port it to Python as ssim_matlab.)
    """
    from scipy.ndimage import gaussian_filter  # as skimage, below

    def blur(values):
        return gaussian_filter(values, sigma=1.5, radius=5, mode="nearest")

    x, y = picture.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    similar_means = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return float(np.mean(similar_means * (2 * covariance + SSIM_C2) / (variances + SSIM_C2)))


def ie_rms(picture, truth):
    """Interpolation error of the Middlebury benchmark: root of the mean over pixels of the squared colour difference.

    The difference of two colours is the length (L2) of that of their RGB vectors (Baker et al., IJCV 2011).
    """
    return float(np.sqrt(np.mean(np.sum(np.square(_difference(picture, truth)), axis=2))))


def ie_mean(picture, truth):
    """What papers since 2018 call the interpolation error: the mean absolute difference, in grey levels."""
    return float(np.mean(np.abs(_difference(picture, truth))))


def lpips(picture, truth):
    """LPIPS 0.1 with AlexNet (Zhang et al., CVPR 2018); the lower the better.

    Raises:
        MetricError: the pictures are too small for it, or as `load_lpips`.
    """
    if min(truth.shape[:2]) < LPIPS_SMALLEST:
        raise MetricError(f"LPIPS needs {LPIPS_SMALLEST} pixels or more to each side")
    pair = (torch.from_numpy(frame / np.float32(127.5) - 1).permute(2, 0, 1)[None] for frame in (picture, truth))
    with torch.inference_mode():
        return float(load_lpips()(*pair))


@functools.cache
def load_lpips():
    """The network behind `lpips`.

    Raises:
        MetricError: the package lpips is not installed or does not work, or the weights of AlexNet cannot be had.
    """
    try:
        from lpips import LPIPS  # not among the requirements: it brings torchvision
    except ModuleNotFoundError as error:
        raise MetricError(f"{str(error).lower()}: pip install lpips") from error
    except Exception as error:  # a torchvision that does not fit this PyTorch raises what it likes
        raise MetricError(f"the package lpips cannot be imported: {error}") from error
    try:
        return LPIPS(net="alex", verbose=False)
    except Exception as error:  # torchvision downloads AlexNet, and that fails in many ways
        raise MetricError(f"the weights of its AlexNet cannot be had: {error}") from error


def _difference(picture, truth):
    return picture.astype(np.float64) - truth


def _ssim(picture, truth, **window):
    from skimage.metrics import structural_similarity  # half a second that other programs do not spend

    return float(structural_similarity(picture, truth, channel_axis=2, data_range=255, **window))


@dataclass(frozen=True)
class Metric:
    """A column of a table: what it is called, how many decimals mean something, and what computes it."""

    title: str
    decimals: int
    function: Callable


METRICS = {
    "psnr": Metric("PSNR dB", 2, psnr),
    "ssim_uniform": Metric("SSIM uniform", 4, ssim_uniform),
    "ssim_gaussian": Metric("SSIM Gaussian", 4, ssim_gaussian),
    "ssim_matlab": Metric("SSIM MATLAB", 4, ssim_matlab),
    "ie_rms": Metric("IE RMS", 2, ie_rms),
    "ie_mean": Metric("IE mean", 2, ie_mean),
    "lpips": Metric("LPIPS", 4, lpips),
}
