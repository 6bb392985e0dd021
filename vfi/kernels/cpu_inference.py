"""The end of the network on the CPU, for inference: from the products of its heads to the frame, in one pass.

Each tile of pixels gets its four kernels from the products (cpu_upsampling.py), applies them to both frames, adds up
and normalizes. So kernels never lie in memory as planes, which would take longer to write and read than the op itself.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from vfi.kernels.cpu import (
    add_frame,
    array_of,
    byte_offset,
    compiled,
    count_tasks,
    place,
    run,
    scratch,
    sizes_of,
    unpack_row,
)
from vfi.kernels.cpu_tiles import ROWS, add_weights
from vfi.kernels.cpu_upsampling import LANES, Blends, blend_columns, blend_rows
from vfi.kernels.cpu_vectors import VECTOR_BYTES, prefetch, transpose

CACHE_LINE = 64  # bytes
STRIP = 3 * ROWS  # of a task: tiles above one another are made of the same products, while these are in a cache


def pack(frame: Tensor, reach: int) -> Tensor:
    """A frame (1, C, H, W) as `filter_pair` reads it, with edges replicated by `reach`.

    Returns:
        (H + 2 reach, C', W'): C' is C rounded up to whole groups, and each row has room for a whole vector at its end.
    """
    rows = F.pad(frame, [reach, reach + LANES, reach, reach], mode="replicate")[0].transpose(0, 1)
    group, *_ = sizes_of(frame)
    missing = -frame.shape[1] % len(group)
    return F.pad(rows, [0, 0, 0, missing]).contiguous()


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
        frames: one and two, their rows that `out` is made of, H + K - 1 of what `pack` returns.
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
    arrays = [array_of(tensor) for tensor in (*(frame.flatten() for frame in frames), *products, biases, out)]
    tasks = count_tasks(batch, height, width, STRIP)
    run(_filter_pair, tasks, *arrays, taps, *rows, *columns, least_weight, *sizes_of(out))


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


@compiled
def _write_tile(out, sums, weights, sample, top, left, rows, count, least_weight, group, lanes):
    """The tile's part of `out`: its sums, divided by their weights if least_weight > 0."""
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
            here = byte_offset(out, sample, c, top + row, left)
            unpack_row(sums, at * lanes, out, here, out.strides[3], count)


def _filter_pair(
    begin, end, one, two, vertical1, horizontal1, vertical2, horizontal2, biases, out, taps,
    row_blends, row_weights, column_blends, column_weights, least_weight, group, dtype, lanes,
):  # fmt: skip
    """`out` for the tasks begin <= task < end."""
    _, _, height, width = out.shape
    groups = (out.shape[1] + len(group) - 1) // len(group)
    channels = groups * len(group)
    pitch = one.shape[0] // ((height + taps - 1) * channels)
    packed_vertical = scratch((ROWS + taps - 1) * ROWS * lanes, dtype)
    packed_horizontal = scratch(taps * ROWS * lanes, dtype)
    sums = scratch(ROWS * channels * lanes, dtype)
    weights = scratch(ROWS * lanes, dtype)
    blended = scratch((lanes // 2 + 4) * vertical1.shape[3] + lanes, dtype)
    line = biases.shape[1]
    kernels = scratch(ROWS * lanes * line, dtype)
    for task in range(begin, end):
        sample, strip, strip_rows, left, right = place(task, height, width, STRIP)
        for x in range(left, right, lanes):
            count = min(lanes, right - x)
            for top in range(strip, strip + strip_rows, ROWS):
                rows = min(ROWS, strip + strip_rows - top)
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
                    frame = one if head == 1 else two
                    at = top * channels * pitch + x
                    add_frame(sums, frame, packed_vertical, packed_horizontal, pitch, at, rows, taps, groups, group)
                    if least_weight > 0:
                        add_weights(weights, packed_vertical, packed_horizontal, rows, taps, group)
                _write_tile(out, sums, weights, sample, top, x, rows, count, least_weight, group, lanes)
