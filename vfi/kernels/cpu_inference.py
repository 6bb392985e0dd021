"""The end of the network on the CPU, for inference: the op on both frames, their sum and its normalization in one pass.

Kernels of 16 bits are read as they are, beside frames in float32: a copy of them in float32, and their sums, would take
longer than the op itself. The Numba kernel is made of the parts of cpu.py; shapes are those of sepconv.py.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from vfi.kernels.cpu import (
    CHUNK,
    add_frame,
    array_of,
    byte_offset,
    compiled,
    move_kernels,
    pack_frame,
    place,
    run,
    scratch,
    sizes_of,
    unpack_row,
)
from vfi.kernels.cpu_tiles import ROWS


def filter_pair(
    out: Tensor, frames: Sequence[Tensor], kernels: Sequence[Tensor], normalizes: bool, least_weight: float
) -> None:
    """Fills `out` with sepconv(one, vertical1, horizontal1) + sepconv(two, vertical2, horizontal2).

    Args:
        out: (N, C, H, W), float32.
        frames: one and two, (N, C, H + K - 1, W + K - 1), float32.
        kernels: vertical1, horizontal1, vertical2, horizontal2, (N, K, H, W), of 16 or 32 bits, which `cpu.supports`.
        normalizes: whether each pixel is divided by the sum of the weights of its kernels.
        least_weight: sums that are nearer to zero count as 1.
    """
    batch, _, height, width = out.shape
    arrays = [array_of(tensor) for tensor in (*frames, *kernels, out)]
    run(_filter_pair, height, width, ROWS, batch, *arrays, normalizes, least_weight, *sizes_of(frames[0]))


@compiled
def _add_weights(weights, packed_vertical, packed_horizontal, rows, taps, lanes):
    """weights[row, x] += the sum of a vertical kernel times that of a horizontal one; both packed."""
    for row in range(rows):
        for x in range(lanes):
            vertical = np.float32(0)
            horizontal = np.float32(0)
            for tap in range(taps):
                vertical += packed_vertical[((tap + row) * ROWS + row) * lanes + x]
                horizontal += packed_horizontal[(tap * ROWS + row) * lanes + x]
            weights[row * lanes + x] += vertical * horizontal


def _filter_pair(
    begin, end, one, two, vertical1, horizontal1, vertical2, horizontal2, out, normalizes, least_weight,
    group, dtype, lanes,
):  # fmt: skip
    """`out` for the tasks begin <= task < end."""
    _, taps, height, width = vertical1.shape
    groups = (out.shape[1] + len(group) - 1) // len(group)
    channels = groups * len(group)
    pitch = CHUNK + lanes + taps
    frame1 = scratch((ROWS + taps - 1) * channels * pitch, dtype)
    frame2 = scratch((ROWS + taps - 1) * channels * pitch, dtype)
    packed_vertical = scratch((ROWS + taps - 1) * ROWS * lanes, dtype)
    packed_horizontal = scratch(taps * ROWS * lanes, dtype)
    sums = scratch(ROWS * channels * lanes, dtype)
    weights = scratch(ROWS * lanes, dtype)
    for task in range(begin, end):
        sample, top, rows, left, right = place(task, height, width, ROWS)
        reached = right - left + taps - 1
        pack_frame(frame1, pitch, channels, one, sample, top, left, rows + taps - 1, reached)
        pack_frame(frame2, pitch, channels, two, sample, top, left, rows + taps - 1, reached)
        for x in range(left, right, lanes):
            count = min(lanes, right - x)
            sums[:] = 0
            weights[:] = 0
            move_kernels(packed_vertical, ROWS, 1, vertical1, sample, top, x, rows, count, False)
            move_kernels(packed_horizontal, ROWS, 0, horizontal1, sample, top, x, rows, count, False)
            add_frame(sums, frame1, packed_vertical, packed_horizontal, pitch, x - left, rows, taps, groups, group)
            if normalizes:
                _add_weights(weights, packed_vertical, packed_horizontal, rows, taps, lanes)
            move_kernels(packed_vertical, ROWS, 1, vertical2, sample, top, x, rows, count, False)
            move_kernels(packed_horizontal, ROWS, 0, horizontal2, sample, top, x, rows, count, False)
            add_frame(sums, frame2, packed_vertical, packed_horizontal, pitch, x - left, rows, taps, groups, group)
            if normalizes:
                _add_weights(weights, packed_vertical, packed_horizontal, rows, taps, lanes)
                for k in range(rows * lanes):
                    if abs(weights[k]) < least_weight:
                        weights[k] = 1
            for row in range(rows):
                for c in range(out.shape[1]):
                    at = (c // len(group) * ROWS + row) * len(group) + c % len(group)
                    if normalizes:
                        for k in range(lanes):
                            sums[at * lanes + k] /= weights[row * lanes + k]
                    here = byte_offset(out, sample, c, top + row, x)
                    unpack_row(sums, at * lanes, out, here, out.strides[3], count)
