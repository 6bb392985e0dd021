"""The op on the CPU: Numba kernels behind `sepconv::sepconv` and `sepconv::sepconv_backward`.

Everything that a register tile (cpu_tiles.py) reads is first packed into small contiguous buffers, and what it writes
is unpacked from one. Packing deals with strides, 16-bit types and ragged edges: the inner loops know none of them.

Threads are Python threads over kernels that release the GIL: unlike Numba's own pool they may be entered from several
threads at once, and they follow `torch.set_num_threads`. Each element is summed by one thread in one order, so that
results do not depend on the number of threads.

Shapes are those of sepconv.py.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba import types
from numba.core.caching import FunctionCache
from torch import Tensor

from vfi.kernels.cpu_tiles import (
    GRADIENT_ROWS,
    ROWS,
    add_row,
    add_row_to_frame_gradient,
    add_row_to_kernel_gradients,
)
from vfi.kernels.cpu_vectors import HALF_INSTRUCTIONS, VECTOR_BYTES, copy, load, prefetch, store, transpose

PIECES = 8  # of the tasks for each thread: threads that are held up leave the others more
GROUP = 4  # channels of a tile, at most
CHUNK = 512  # pixels of a row in one task: bounds the packed part of the frame to what an L2 cache holds


# --- Kernels ---------------------------------------------------------------------------------------------------


class _Cache(FunctionCache):
    """Numba's cache on disk. If the disk has no room, the next start compiles again."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # Numba compiles anew if the function's file has changed; here also if those that it calls have.
        files = [path.stat() for path in sorted(Path(__file__).parent.glob("*.py"))]
        changes = [(file.st_mtime, file.st_size) for file in files]
        self._cache_file._source_stamp = (self._cache_file._source_stamp, *changes)

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def compiled(function: Callable[..., Any], signature: Any = None) -> Any:
    """Compiles for one signature, or for the types of each call; keeps the result on disk if that is possible."""
    dispatcher: Any = numba.njit(nogil=True)(function)
    with contextlib.suppress(RuntimeError):  # neither this folder nor the user's cache can be written
        dispatcher._cache = _Cache(function)  # what njit(cache=True) does, with Numba's own
    if signature is not None:
        dispatcher.compile(signature)
        dispatcher.disable_compile()
    return dispatcher


@compiled
def scratch(size, dtype):
    """An uninitialised 1-D array that begins at a cache line, so that no packed vector crosses one."""
    array = np.empty(size + VECTOR_BYTES, dtype)
    start = (-array.ctypes.data % VECTOR_BYTES) // array.itemsize
    return array[start : start + size]


@compiled
def byte_offset(array, n, c, y, x):
    """Where array[n, c, y, x] lies, in bytes from the array's beginning."""
    return n * array.strides[0] + c * array.strides[1] + y * array.strides[2] + x * array.strides[3]


@compiled
def _pack_row(packed, start, array, offset, stride, count):
    """packed[start + x] = array[x] for x < count."""
    if stride == array.itemsize:
        for x in range(count):
            packed[start + x] = load(array, offset + x * array.itemsize)
    else:
        for x in range(count):
            packed[start + x] = load(array, offset + x * stride)


@compiled
def unpack_row(packed, start, array, offset, stride, count):
    """The inverse of `_pack_row`."""
    for x in range(count):
        store(array, offset + x * stride, packed[start + x])


@compiled
def pack_frame(packed, pitch, channels, frame, sample, top, left, rows, count):
    """packed[row, c, x] = frame[sample, c, top + row, left + x] for x < count, in rows of `pitch` values.

    Missing channels (which fill the last group) and values behind the last are zero-filled.
    """
    for row in range(rows):
        for c in range(channels):
            start = (row * channels + c) * pitch
            present = count if c < frame.shape[1] else 0
            here = byte_offset(frame, sample, c, top + row, left)
            _pack_row(packed, start, frame, here, frame.strides[3], present)
            packed[start + present : start + pitch] = 0


@compiled
def _move_kernels(packed, tile_rows, skew, array, sample, top, left, rows, count, unpack):
    """packed[tap + skew * row][row][x] = array[sample, tap, top + row, left + x], or back with `unpack`.

    `tile_rows` is how many rows the buffer has room for. Lanes from `count` on become zero.
    """
    taps = array.shape[1]
    _, tap_stride, row_stride, x_stride = array.strides
    offset = byte_offset(array, sample, 0, top, left)
    lanes = VECTOR_BYTES // packed.itemsize
    step = tile_rows * VECTOR_BYTES
    if count == lanes and x_stride == array.itemsize:
        for tap in range(taps):
            for row in range(rows):
                there = (tap + skew * row) * step + row * VECTOR_BYTES
                here = offset + tap * tap_stride + row * row_stride
                if unpack:
                    copy(array, here, packed, there, packed)
                else:
                    copy(packed, there, array, here, packed)
                    prefetch(array, here + VECTOR_BYTES)  # the next tile's: taps lie far apart
    elif count == lanes and tap_stride == array.itemsize and taps >= lanes:  # channels_last
        for row in range(rows):
            for block in range((taps + lanes - 1) // lanes):
                tap = min(block * lanes, taps - lanes)  # the last overlaps the one before, so that none is ragged
                there = (tap + skew * row) * step + row * VECTOR_BYTES
                here = offset + tap * tap_stride + row * row_stride
                if unpack:
                    transpose(array, here, x_stride, packed, there, step, packed)
                else:
                    transpose(packed, there, step, array, here, x_stride, packed)
    else:
        for tap in range(taps):
            for row in range(rows):
                start = ((tap + skew * row) * tile_rows + row) * lanes
                here = offset + tap * tap_stride + row * row_stride
                if unpack:
                    unpack_row(packed, start, array, here, x_stride, count)
                else:
                    _pack_row(packed, start, array, here, x_stride, count)
                    packed[start + count : start + lanes] = 0


@compiled
def place(task, height, width, tile_rows):
    """A task's sample, first row, number of rows, first and last column: strips of `tile_rows` rows, cut in chunks."""
    strips = (height + tile_rows - 1) // tile_rows
    chunks = (width + CHUNK - 1) // CHUNK
    # Even pieces, of whole vectors: a multiple of VECTOR_BYTES pixels is one for values of any size.
    chunk = ((width + chunks - 1) // chunks + VECTOR_BYTES - 1) // VECTOR_BYTES * VECTOR_BYTES
    top = task // chunks % strips * tile_rows
    left = task % chunks * chunk
    return task // (strips * chunks), top, min(tile_rows, height - top), left, min(left + chunk, width)


@compiled
def add_frame(sums, packed_frame, packed_vertical, packed_horizontal, pitch, at, rows, taps, groups, group):
    """Adds to the sums of a tile, which begins at column `at` of the packed frame, what the frame contributes."""
    channels = groups * len(group)
    for row in range(rows + taps - 1):
        first = max(0, row - taps + 1)  # of the tile's rows that this row of the frame is part of
        active = min(rows, row + 1) - first
        for g in range(groups):
            add_row(
                sums,
                g * ROWS * len(group),
                packed_frame,
                (row * channels + g * len(group)) * pitch + at,
                pitch,
                packed_vertical,
                row * ROWS,
                packed_horizontal,
                first,
                active,
                taps,
                group,
            )


def _forward(begin, end, frame, vertical, horizontal, out, group, dtype, lanes):
    """`out` for the tasks begin <= task < end."""
    _, taps, height, width = vertical.shape
    groups = (out.shape[1] + len(group) - 1) // len(group)
    channels = groups * len(group)
    pitch = CHUNK + lanes + taps
    packed_frame = scratch((ROWS + taps - 1) * channels * pitch, dtype)
    packed_vertical = scratch((ROWS + taps - 1) * ROWS * lanes, dtype)
    packed_horizontal = scratch(taps * ROWS * lanes, dtype)
    sums = scratch(ROWS * channels * lanes, dtype)
    for task in range(begin, end):
        sample, top, rows, left, right = place(task, height, width, ROWS)
        pack_frame(packed_frame, pitch, channels, frame, sample, top, left, rows + taps - 1, right - left + taps - 1)
        for x in range(left, right, lanes):
            count = min(lanes, right - x)
            _move_kernels(packed_vertical, ROWS, 1, vertical, sample, top, x, rows, count, False)
            _move_kernels(packed_horizontal, ROWS, 0, horizontal, sample, top, x, rows, count, False)
            sums[:] = 0
            add_frame(
                sums, packed_frame, packed_vertical, packed_horizontal, pitch, x - left, rows, taps, groups, group
            )
            for row in range(rows):
                for c in range(out.shape[1]):
                    at = (c // len(group) * ROWS + row) * len(group) + c % len(group)
                    here = byte_offset(out, sample, c, top + row, x)
                    unpack_row(sums, at * lanes, out, here, out.strides[3], count)


def _backward_kernels(
    begin, end, grad_out, frame, vertical, horizontal, grad_vertical, grad_horizontal, needed, group, dtype, lanes
):
    """Both kernel gradients for the tasks begin <= task < end, written where they are `needed`."""
    _, taps, height, width = vertical.shape
    groups = (frame.shape[1] + len(group) - 1) // len(group)
    channels = groups * len(group)
    pitch = CHUNK + lanes + taps
    packed_frame = scratch((GRADIENT_ROWS + taps - 1) * channels * pitch, dtype)
    packed_grad_out = scratch(GRADIENT_ROWS * channels * lanes, dtype)
    packed_vertical = scratch((GRADIENT_ROWS + taps - 1) * GRADIENT_ROWS * lanes, dtype)
    packed_horizontal = scratch(taps * GRADIENT_ROWS * lanes, dtype)
    vertical_sums = scratch((GRADIENT_ROWS + taps - 1) * GRADIENT_ROWS * lanes, dtype)
    horizontal_sums = scratch(taps * GRADIENT_ROWS * lanes, dtype)
    for task in range(begin, end):
        sample, top, rows, left, right = place(task, height, width, GRADIENT_ROWS)
        pack_frame(packed_frame, pitch, channels, frame, sample, top, left, rows + taps - 1, right - left + taps - 1)
        for x in range(left, right, lanes):
            count = min(lanes, right - x)
            _move_kernels(packed_vertical, GRADIENT_ROWS, 1, vertical, sample, top, x, rows, count, False)
            _move_kernels(packed_horizontal, GRADIENT_ROWS, 0, horizontal, sample, top, x, rows, count, False)
            for row in range(rows):
                for c in range(channels):
                    start = ((c // len(group) * GRADIENT_ROWS + row) * len(group) + c % len(group)) * lanes
                    present = count if c < frame.shape[1] else 0
                    here = byte_offset(grad_out, sample, c, top + row, x)
                    _pack_row(packed_grad_out, start, grad_out, here, grad_out.strides[3], present)
                    packed_grad_out[start + present : start + lanes] = 0
            vertical_sums[:] = 0
            horizontal_sums[:] = 0
            for row in range(rows + taps - 1):
                first = max(0, row - taps + 1)
                active = min(rows, row + 1) - first
                for g in range(groups):
                    frame_at = (row * channels + g * len(group)) * pitch + x - left
                    add_row_to_kernel_gradients(
                        vertical_sums,
                        horizontal_sums,
                        packed_grad_out,
                        g * GRADIENT_ROWS * len(group),
                        packed_frame,
                        frame_at,
                        pitch,
                        packed_vertical,
                        row * GRADIENT_ROWS,
                        packed_horizontal,
                        first,
                        active,
                        taps,
                        group,
                    )
            if needed[0]:
                _move_kernels(vertical_sums, GRADIENT_ROWS, 1, grad_vertical, sample, top, x, rows, count, True)
            if needed[1]:
                _move_kernels(horizontal_sums, GRADIENT_ROWS, 0, grad_horizontal, sample, top, x, rows, count, True)


def _backward_frame(begin, end, grad_out, vertical, horizontal, grad_frame, group, dtype, lanes):
    """The frame's gradient for the tasks begin <= task < end: each pixel gathers from all that it went into."""
    _, taps, height, width = vertical.shape
    groups = (grad_frame.shape[1] + len(group) - 1) // len(group)
    channels = groups * len(group)
    pitch = CHUNK + lanes + taps  # a row begins taps - 1 pixels left of its chunk: what x - j can reach
    packed_grad_out = scratch(channels * pitch, dtype)
    packed_vertical = scratch(ROWS * pitch, dtype)
    packed_horizontal = scratch(taps * pitch, dtype)
    sums = scratch(CHUNK * ROWS * channels, dtype)
    for task in range(begin, end):
        sample, top, rows, left, right = place(task, height + taps - 1, width + taps - 1, ROWS)
        x_first = max(0, left - taps + 1)
        count = min(width, right) - x_first
        start = x_first - (left - taps + 1)
        sums[:] = 0
        packed_grad_out[:] = 0  # and stay so outside the output, like the kernels
        packed_vertical[:] = 0
        packed_horizontal[:] = 0
        for y in range(max(0, top - taps + 1), min(height, top + rows)):
            for c in range(grad_frame.shape[1]):
                here = byte_offset(grad_out, sample, c, y, x_first)
                _pack_row(packed_grad_out, c * pitch + start, grad_out, here, grad_out.strides[3], count)
            for tap in range(taps):
                here = byte_offset(horizontal, sample, tap, y, x_first)
                _pack_row(packed_horizontal, tap * pitch + start, horizontal, here, horizontal.strides[3], count)
            first = max(0, y - top)
            active = min(rows, y - top + taps) - first
            for row in range(first, first + active):
                here = byte_offset(vertical, sample, top + row - y, y, x_first)
                _pack_row(packed_vertical, row * pitch + start, vertical, here, vertical.strides[3], count)
            for x in range(0, right - left, lanes):
                for g in range(groups):
                    add_row_to_frame_gradient(
                        sums,
                        (x // lanes * groups + g) * ROWS * len(group),
                        packed_grad_out,
                        g * len(group) * pitch,
                        packed_vertical,
                        packed_horizontal,
                        x + taps - 1,
                        pitch,
                        first,
                        active,
                        taps,
                        group,
                    )
        for x in range(0, right - left, lanes):
            for row in range(rows):
                for c in range(grad_frame.shape[1]):
                    at = ((x // lanes * groups + c // len(group)) * ROWS + row) * len(group) + c % len(group)
                    here = byte_offset(grad_frame, sample, c, top + row, left + x)
                    unpack_row(sums, at * lanes, grad_frame, here, grad_frame.strides[3], min(lanes, right - left - x))


# --- Tensors ---------------------------------------------------------------------------------------------------


@lru_cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """The worker threads. A forked child, which inherits none of them, gets its own by its process id."""
    return ThreadPoolExecutor(threads, thread_name_prefix="sepconv")


@lru_cache
def _specialised(kernel: Callable[..., None], argument_types: tuple[Any, ...]) -> Any:
    """A kernel compiled for arrays of any strides; otherwise Numba would compile it again for each layout."""
    strided = [types.Array(t.dtype, t.ndim, "A") if isinstance(t, types.Array) else t for t in argument_types]
    return compiled(kernel, types.void(types.int64, types.int64, *strided))


def count_tasks(batch: int, height: int, width: int, tile_rows: int) -> int:
    """The number of tasks for `place`."""
    return batch * -(-height // tile_rows) * -(-width // CHUNK)


def run(kernel: Callable[..., None], tasks: int, *arguments: Any) -> None:
    """Calls kernel(begin, end, *arguments) over ranges that cover all tasks, on PyTorch's number of threads."""
    specialised = _specialised(kernel, tuple(map(numba.typeof, arguments)))
    threads = min(torch.get_num_threads(), tasks)
    with torch.profiler.record_function(f"sepconv{kernel.__name__}"):  # PyTorch's profiler sees only its own operators
        if threads <= 1:
            specialised(0, tasks, *arguments)
            return
        pieces = min(tasks, threads * PIECES)  # a few for each thread, so that all finish at about the same time
        bounds = [tasks * piece // pieces for piece in range(pieces + 1)]
        pool = _pool(threads, os.getpid())
        for done in [pool.submit(specialised, *piece, *arguments) for piece in pairwise(bounds)]:
            done.result()


def array_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The tensor's memory as the kernels take it; 16-bit types as in cpu_vectors._widen."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy()
    if tensor.dtype == torch.float16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def sizes_of(frame: Tensor) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """How the kernels are specialised: (a tuple as long as a group of channels, the type of the sums, lanes)."""
    channels = frame.shape[1]
    groups = -(-channels // GROUP)
    dtype: np.dtype[Any] = np.dtype(np.float64 if frame.dtype == torch.float64 else np.float32)
    return (0,) * -(-channels // groups), dtype, VECTOR_BYTES // dtype.itemsize


def supports(dtype: torch.dtype) -> bool:
    """Whether this processor converts the dtype; float16 needs F16C, which x86 processors have since 2013."""
    return dtype != torch.float16 or HALF_INSTRUCTIONS


def forward(out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor) -> None:
    """Fills `out`; all are checked CPU tensors of a dtype that is supported."""
    if out.numel():
        batch, _, height, width = out.shape
        arrays = [array_of(tensor) for tensor in (frame, vertical, horizontal, out)]
        run(_forward, count_tasks(batch, height, width, ROWS), *arrays, *sizes_of(frame))


def backward(
    gradients: Sequence[Tensor],
    grad_out: Tensor,
    frame: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    output_mask: Sequence[bool],
) -> None:
    """Fills those of the three `gradients` that `output_mask` asks for; all as in `forward`."""
    if not grad_out.numel():
        for gradient in gradients:
            gradient.zero_()
        return
    batch, _, height, width = grad_out.shape
    tensors = (frame, vertical, horizontal)
    # A gradient that is not wanted is not written: its input stands in for its type.
    grad_frame, *grad_kernels = (
        array_of(gradient if wanted else tensor)
        for gradient, tensor, wanted in zip(gradients, tensors, output_mask, strict=True)
    )
    grads, *inputs = (array_of(tensor) for tensor in (grad_out, *tensors))
    sizes = sizes_of(frame)
    if output_mask[0]:
        tasks = count_tasks(batch, grad_frame.shape[2], grad_frame.shape[3], ROWS)
        run(_backward_frame, tasks, grads, *inputs[1:], grad_frame, *sizes)
    if any(output_mask[1:]):
        needed = tuple(output_mask[1:])
        tasks = count_tasks(batch, height, width, GRADIENT_ROWS)
        run(_backward_kernels, tasks, grads, *inputs, *grad_kernels, needed, *sizes)
