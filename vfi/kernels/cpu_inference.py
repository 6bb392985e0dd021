"""The end of the network on the CPU, for inference: from the products of its heads to the frame, in one pass.

Each tile of pixels gets its four kernels from the products (cpu_upsampling.py), applies them to both frames, adds up
and normalizes. So kernels never lie in memory as planes, which would take longer to write and read than the op itself.
"""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from vfi.kernels.cpu import (
    CHUNK,
    add_frame,
    array_of,
    byte_offset,
    compiled,
    count_tasks,
    pack_frame,
    place,
    run,
    scratch,
    sizes_of,
    unpack_row,
)
from vfi.kernels.cpu_tiles import ROWS, VECTOR_BYTES, prefetch, transpose
from vfi.kernels.cpu_upsampling import LANES, Blends, blend_columns, blend_rows

CACHE_LINE = 64  # bytes


def filter_pair(
    out: Tensor,
    frames: Sequence[Tensor],
    products: Sequence[Tensor],
    biases: Tensor,
    rows: Blends,
    columns: Blends,
    least_weight: float,
) -> None:
    """Fills `out` with sepconv(one, vertical1, horizontal1) + sepconv(two, vertical2, horizontal2).

    Args:
        out: (1, C, H, W), float32.
        frames: one and two, (1, C, H + K - 1, W + K - 1), float32.
        products: of the heads vertical1, horizontal1, vertical2, horizontal2, each (h, w, 3, pitch); dtypes that
            `cpu.supports`.
        biases: (4, K), float32; K is LANES or more.
        rows, columns: the blends of both sides of `out`, counted from the first row and column of the products.
        least_weight: each pixel is divided by the sum of the weights of its kernels, where that is not nearer to zero;
            zero for no division.
    """
    batch, _, height, width = out.shape
    taps = biases.shape[1]
    biases = F.pad(biases, [0, -taps % LANES])
    arrays = [array_of(tensor) for tensor in (*frames, *products, biases, out)]
    tasks = count_tasks(batch, height, width, ROWS)
    run(_filter_pair, tasks, *arrays, taps, *rows, *columns, least_weight, *sizes_of(frames[0]))


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


@compiled
def _make_kernels(
    kernels, blended, products, bias, taps, top, rows, left, count, row_blends, row_weights, column_blends,
    column_weights,
):  # fmt: skip
    """kernels[row, x, tap] of one head for a tile of `rows` x `count` pixels at (top, left)."""
    pitch = products.shape[3]
    first = column_blends[left, 0]
    last = column_blends[left + count - 1, 5]
    line = bias.shape[0]
    for row in range(rows):
        at = top + row
        blend_rows(blended, products, row_blends[at], row_weights[at], first, last)
        ahead = (row_blends[top, 0] + row) * products.strides[0] + (last + 1) * products.strides[1]
        step = products.strides[1] // 2
        for x in range(count):
            column = left + x
            for byte in range(x * step, (x + 1) * step, CACHE_LINE):
                prefetch(products, ahead + byte)
            blend_columns(
                kernels, (row * LANES + x) * line, blended, pitch, taps, first, column_blends[column],
                column_weights[column], bias,
            )  # fmt: skip


@compiled
def _pack_kernels(packed, skew, kernels, line, rows, taps):
    """packed[tap + skew * row][row][x] = kernels[row, x, tap], as `add_frame` takes them; taps are LANES or more."""
    step = ROWS * VECTOR_BYTES
    for row in range(rows):
        for block in range((taps + LANES - 1) // LANES):
            tap = min(block * LANES, taps - LANES)  # the last overlaps the one before, so that none is ragged
            there = (tap + skew * row) * step + row * VECTOR_BYTES
            transpose(packed, there, step, kernels, (row * LANES * line + tap) * 4, line * 4, packed)


def _filter_pair(
    begin, end, one, two, vertical1, horizontal1, vertical2, horizontal2, biases, out, taps,
    row_blends, row_weights, column_blends, column_weights, least_weight, group, dtype, lanes,
):  # fmt: skip
    """`out` for the tasks begin <= task < end."""
    _, _, height, width = out.shape
    groups = (out.shape[1] + len(group) - 1) // len(group)
    channels = groups * len(group)
    pitch = min(CHUNK, width) + lanes + taps
    frame1 = scratch((ROWS + taps - 1) * channels * pitch, dtype)
    frame2 = scratch((ROWS + taps - 1) * channels * pitch, dtype)
    packed_vertical = scratch((ROWS + taps - 1) * ROWS * lanes, dtype)
    packed_horizontal = scratch(taps * ROWS * lanes, dtype)
    sums = scratch(ROWS * channels * lanes, dtype)
    weights = scratch(ROWS * lanes, dtype)
    blended = scratch((lanes // 2 + 4) * vertical1.shape[3] + lanes, dtype)
    line = biases.shape[1]
    kernels = scratch(ROWS * lanes * line, dtype)
    for task in range(begin, end):
        sample, top, rows, left, right = place(task, height, width, ROWS)
        reached = right - left + taps - 1
        pack_frame(frame1, pitch, channels, one, sample, top, left, rows + taps - 1, reached)
        pack_frame(frame2, pitch, channels, two, sample, top, left, rows + taps - 1, reached)
        for x in range(left, right, lanes):
            count = min(lanes, right - x)
            sums[:] = 0
            weights[:] = 0
            for head in range(4):
                products = (vertical1, horizontal1, vertical2, horizontal2)[head]
                _make_kernels(
                    kernels, blended, products, biases[head], taps, top, rows, x, count,
                    row_blends, row_weights, column_blends, column_weights,
                )  # fmt: skip
                is_vertical = head % 2 == 0
                packed = packed_vertical if is_vertical else packed_horizontal
                _pack_kernels(packed, 1 if is_vertical else 0, kernels, line, rows, taps)
                if is_vertical:
                    continue
                frame = frame1 if head == 1 else frame2
                add_frame(sums, frame, packed_vertical, packed_horizontal, pitch, x - left, rows, taps, groups, group)
                if least_weight > 0:
                    _add_weights(weights, packed_vertical, packed_horizontal, rows, taps, lanes)
            if least_weight > 0:
                for k in range(rows * lanes):
                    if abs(weights[k]) < least_weight:
                        weights[k] = 1
            for row in range(rows):
                for c in range(out.shape[1]):
                    at = (c // len(group) * ROWS + row) * len(group) + c % len(group)
                    if least_weight > 0:
                        for k in range(lanes):
                            sums[at * lanes + k] /= weights[row * lanes + k]
                    here = byte_offset(out, sample, c, top + row, x)
                    unpack_row(sums, at * lanes, out, here, out.strides[3], count)
