"""Bilinear upsampling by two and the convolution of 3 x 3 pixels behind it on the CPU, for inference, as one operation.

Both are linear, so that they can change places: with W_ij the weights of tap (i, j), a matrix of channels,

    conv(up(f))[y, x] = bias + sum_i sum_j  up(W_ij f)[y + i - 1, x + j - 1]

The products W_ij f are computed at the small size by one matrix product: a quarter of the multiply-adds, and nothing of
the large size is written or read. What remains is to blend, for every result, 9 x 4 products; rows first, then columns,
that is 6 + 6 multiply-adds. Taps beyond the edge are left out, as the convolution's padding with zeros demands.

    products  (h, w, 3, pitch)  [y, x, i, j * C + c]; `pitch` is 3 C rounded up, in the order of `_interleaved`
    out       (2 h, 2 w, C)
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vfi.kernels.cpu import array_of, compiled, run, scratch
from vfi.kernels.cpu_vectors import VECTOR_BYTES, add_positive, blend

LANES = VECTOR_BYTES // 4  # values of a vector of float32
BLENDED = 2**15  # float32 values of blended rows that one step holds: what an L2 cache has room for


class Blends(NamedTuple):
    """What each of 2 n rows (or columns) of a result is made of: three taps, each of which lies between two of n."""

    sources: NDArray[np.int64]  # (2 n, 6)
    weights: NDArray[np.float32]  # (2 n, 6)

    def reach(self, begin: int, end: int) -> tuple[int, int]:
        """Which of n the results begin <= x < end are made of: the first, and the one behind the last."""
        return int(self.sources[begin, 0]), int(self.sources[end - 1, 5]) + 1

    def part(self, begin: int, end: int) -> "Blends":
        """The blends of the results begin <= x < end, whose sources are counted from the first of their reach."""
        return Blends(self.sources[begin:end] - self.sources[begin, 0], self.weights[begin:end])


@lru_cache(maxsize=64)
def blends(size: int) -> Blends:
    """The blends along a side of `size`; with align_corners=True, and positions in float32 as PyTorch computes them."""
    results = np.arange(2 * size)[:, None] + np.arange(-1, 2)  # (2 size, 3), of the upsampled picture
    inside = (results >= 0) & (results < 2 * size)
    positions = np.where(inside, results, 0).astype(np.float32) * np.float32((size - 1) / (2 * size - 1))
    lower = positions.astype(np.int64)
    upper = np.minimum(lower + 1, size - 1)
    shares = positions - lower.astype(np.float32)
    # A tap outside has no weight. Its sources are those of its neighbour, so that no blend reaches further for it.
    nearest = np.clip(np.arange(3), 1 - inside[:, :1], 1 + inside[:, 2:])
    sources = np.take_along_axis(np.stack([lower, upper], axis=2), nearest[:, :, None], axis=1)
    weights = np.stack([1 - shares, shares], axis=2) * inside[:, :, None]
    return Blends(sources.reshape(-1, 6), weights.astype(np.float32).reshape(-1, 6))


def product_pitch(channels: int) -> int:
    """Values of the products of a row of taps, with padding: whole pairs of vectors."""
    return -(-3 * channels // (2 * LANES)) * 2 * LANES


def product_weights(weight: Tensor) -> Tensor:
    """The matrix (D, 3 * pitch) that makes the products of (h * w, D) pixels, for a convolution (C, D, 3, 3)."""
    channels, inputs = weight.shape[:2]
    rows = weight.permute(1, 2, 3, 0).reshape(inputs, 3, 3 * channels)
    rows = F.pad(rows, [0, product_pitch(channels) - 3 * channels])
    if weight.dtype == torch.bfloat16:
        rows = _interleaved(rows)
    return rows.reshape(inputs, -1).contiguous()


def _interleaved(values: Tensor) -> Tensor:
    """The order in memory in which `blend` reads bfloat16: the values of two neighbouring vectors alternate."""
    return values.unflatten(-1, (-1, 2, LANES)).transpose(-1, -2).flatten(-3)


def add_upsampled(out: Tensor, products: Tensor, bias: Tensor, rows: Blends, columns: Blends) -> None:
    """out += relu(conv(up(f))); see the formula at the top.

    Args:
        out: (H, W, C), any part of the large size; C a multiple of LANES, in memory side by side.
        products: (h, w, 3, pitch), the part of the small size that `out` is made of, of the type of `out`.
        bias: (C,), float32.
        rows, columns: the blends of the part.
    """
    arrays = array_of(out), array_of(products), array_of(bias)
    run(_add_upsampled, out.shape[0], *arrays, *rows, *columns)


@compiled
def blend_rows(blended, products, sources, weights, first, last):
    """blended[x - first, j, c] = what one row of the result takes from row after row of products, first <= x <= last.

    `sources` and `weights` are those of the row.
    """
    row, column, tap, _ = products.strides
    offsets = (
        sources[0] * row,
        sources[1] * row,
        sources[2] * row + tap,
        sources[3] * row + tap,
        sources[4] * row + 2 * tap,
        sources[5] * row + 2 * tap,
    )
    shares = (weights[0], weights[1], weights[2], weights[3], weights[4], weights[5])
    pitch = products.shape[3]
    for x in range(first, last + 1):
        here = x * column
        pixels = (
            offsets[0] + here,
            offsets[1] + here,
            offsets[2] + here,
            offsets[3] + here,
            offsets[4] + here,
            offsets[5] + here,
        )
        blend(blended, (x - first) * pitch * 4, products, pixels, shares, None, 0, pitch)


@compiled
def blend_columns(out, at, blended, pitch, channels, first, sources, weights, bias):
    """out[at + c] = bias[c] + what one pixel takes from column after column of blended rows, which begin at `first`.

    `sources` and `weights` are those of the pixel's column; c goes up to `channels`, rounded up to whole vectors.
    """
    pixels = (
        (sources[0] - first) * pitch * 4,
        (sources[1] - first) * pitch * 4,
        ((sources[2] - first) * pitch + channels) * 4,
        ((sources[3] - first) * pitch + channels) * 4,
        ((sources[4] - first) * pitch + 2 * channels) * 4,
        ((sources[5] - first) * pitch + 2 * channels) * 4,
    )
    shares = (weights[0], weights[1], weights[2], weights[3], weights[4], weights[5])
    blend(out, at * 4, blended, pixels, shares, bias, 0, (channels + LANES - 1) // LANES * LANES)


def _add_upsampled(begin, end, out, products, bias, rows, row_weights, columns, column_weights):
    """The rows begin <= y < end of `out`."""
    _, width, channels = out.shape
    pitch = products.shape[3]
    chunk = max(1, BLENDED // pitch - 3) * 2
    blended = scratch(max(BLENDED, 4 * pitch) + LANES, np.float32)
    line = scratch(channels + LANES, np.float32)
    for y in range(begin, end):
        for left in range(0, width, chunk):
            right = min(left + chunk, width)
            first = columns[left, 0]
            blend_rows(blended, products, rows[y], row_weights[y], first, columns[right - 1, 5])
            for x in range(left, right):
                blend_columns(line, 0, blended, pitch, channels, first, columns[x], column_weights[x], bias)
                add_positive(out, y * out.strides[0] + x * out.strides[1], line, 0, channels)
