"""Squares of pixels, cut out of frames that lie one after the other in memory."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

BGR = (2, 1, 0)  # the network's order of channels, as indices of the footage's


class Pixels:
    """The pixels of a `Footage` on a device.

    Args:
        pixels: (P, 3), uint8, RGB.
    """

    def __init__(self, pixels: Tensor, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._pixels = pixels.to(device)

    def cut(self, cuts: Array, size: int) -> Tensor:
        """The pixels of `cuts`, as `turned_cuts` makes them: (N, pictures, 3, size, size), float32, 0 to 255."""
        table = torch.from_numpy(cuts).to(self.device, non_blocking=True)
        pictures = table.shape[1] - 5
        first, down, across, channels = table.split([pictures, 1, 1, 3], dim=1)
        steps = torch.arange(size, device=self.device)
        square = down[..., None] * steps[:, None] + across[..., None] * steps  # (N, size, size)
        at = first[..., None, None] + square[:, None]  # (N, pictures, size, size)
        pixels = self._pixels.index_select(0, at.flatten()).view(*at.shape, 3).movedim(-1, 2)
        planes = torch.arange(first.numel(), device=self.device).view(-1, pictures, 1) * 3 + channels[:, None]
        return pixels.reshape(-1, size, size).index_select(0, planes.flatten()).float().view(pixels.shape)


def turned_cuts(rng: np.random.Generator, first: Array, width: Array, size: int, plain: bool = False) -> Array:
    """Cuts that begin at the pixels `first` (N, pictures), mirrored, transposed, and their channels exchanged.

    Args:
        width: (N,), of the frames.
        plain: only cut.

    Returns:
        (N, pictures + 5) whole numbers: the first pixel of each picture, how far from it the pixels below it and beside
        it are, and the order of the channels.
    """
    total = len(first)
    upside_down, mirrored, transposed, recoloured = rng.random((4, total)) < (0 if plain else 0.5)
    first = first + ((size - 1) * (upside_down * width + mirrored))[:, None]
    down, across = np.where(upside_down, -width, width), np.where(mirrored, -1, 1)
    down, across = np.where(transposed, across, down), np.where(transposed, down, across)
    channels = np.tile(BGR, (total, 1))
    channels = np.where(recoloured[:, None], rng.permuted(channels, axis=1), channels)
    return np.column_stack([first, down, across, channels])


def choose(rng: np.random.Generator, table: Array, chances: Array, *shape: int) -> Array:
    """Draws rows of a table by their cumulative chances; returns the columns of the table, each of this shape."""
    drawn = np.searchsorted(chances, rng.random(shape) * chances[-1], side="right")
    return np.moveaxis(table[drawn], -1, 0)
