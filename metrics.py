"""Measures of how close a picture is to the truth."""

import numpy as np


def psnr(picture, truth):
    """Peak signal-to-noise ratio in dB of two uint8 pictures of the same shape, over all pixels and channels.

    Infinite for identical pictures.
    """
    error = np.mean(np.square(picture.astype(np.float64) - truth))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
