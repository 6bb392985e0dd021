"""The op on the CPU: Numba kernels behind `sepconv::sepconv` and `sepconv::sepconv_backward`.

The arithmetic is K * K * C multiply-adds for every pixel; what decides the speed is how many loads each of them
costs. As in a matrix product, the work is therefore cut into tiles that live in registers:

* a tile is a few rows times one vector (`LANES` neighbouring pixels of a row) times a group of channels. Walking
  down the frame row by row, one load of the frame serves all rows of the tile, and one load of a horizontal kernel
  serves all channels;
* everything that a tile reads is first packed into small contiguous buffers, and what it writes is unpacked from
  one. Packing is where strides, 16-bit types and ragged edges are dealt with: the inner loops know none of them.

The inner loops are emitted as LLVM vector instructions (`numba.extending.intrinsic`), because no vectoriser finds
this blocking by itself. Threads are Python threads over kernels that release the GIL: unlike Numba's own pool they
may be entered from several threads at once, and they follow `torch.set_num_threads`. Each element is summed by one
thread in one order, so that results do not depend on the number of threads.

Shapes are those of sepconv.py. Arrays are addressed in bytes, so that one compiled kernel serves all strides.
"""

import contextlib
import inspect
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, wraps
from itertools import pairwise

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

_FEATURES = get_host_cpu_features() if numba.config.CPU_FEATURES is None else numba.config.CPU_FEATURES
_ARM = platform.machine() in ("arm64", "aarch64")
_MANY_REGISTERS = "+avx512f" in _FEATURES or _ARM  # 32 of them, not 16

_HALF_INSTRUCTIONS = "+f16c" in _FEATURES or _ARM  # what every processor since 2013 has

VECTOR_BYTES = 64 if "+avx512f" in _FEATURES else 16 if _ARM else 32
ROWS = 6 if _MANY_REGISTERS else 4  # of a tile: times 3 channels, 18 (12) registers hold its sums
GRADIENT_ROWS = 4 if _MANY_REGISTERS else 2  # likewise, where kernel gradients are summed
GROUP = 4  # channels of a tile, at most
CHUNK = 512  # pixels of a row in one task: bounds the packed part of the frame to what an L2 cache holds


# --- Vector instructions ---------------------------------------------------------------------------------------


def _index(value):
    return ir.Constant(ir.IntType(64), value)


def _splat(kind, value):
    """A constant of a scalar or a vector type."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def _widen(builder, bits, dtype, shape):
    """What lies in memory -> numbers to reckon with; `shape` makes a scalar type itself or a vector of it.

    uint16 stands for the bits of a float16, int16 for those of a bfloat16; both become float32.
    """
    if dtype == types.uint16:
        return builder.fpext(builder.bitcast(bits, shape(ir.HalfType())), shape(ir.FloatType()))
    if dtype == types.int16:
        wide = shape(ir.IntType(32))
        return builder.bitcast(builder.shl(builder.zext(bits, wide), _splat(wide, 16)), shape(ir.FloatType()))
    return bits


def _narrow(builder, values, dtype, shape):
    """The inverse of `_widen`, rounding to nearest even."""
    if dtype == types.uint16:
        return builder.bitcast(builder.fptrunc(values, shape(ir.HalfType())), shape(ir.IntType(16)))
    if dtype == types.int16:
        wide = shape(ir.IntType(32))
        bits = builder.bitcast(values, wide)
        odd = builder.and_(builder.lshr(bits, _splat(wide, 16)), _splat(wide, 1))
        rounded = builder.add(bits, builder.add(odd, _splat(wide, 0x7FFF)))
        nan = builder.fcmp_unordered("uno", values, values)  # rounding could carry its bits into the sign
        rounded = builder.select(nan, _splat(wide, 0x7FC00000), rounded)
        return builder.trunc(builder.lshr(rounded, _splat(wide, 16)), shape(ir.IntType(16)))
    return values


class _Array:
    """An array of any type in generated code: reads and writes vectors (or single values) of it at a byte offset."""

    def __init__(self, context, builder, array_type, array, lanes=1):
        self.builder, self.dtype = builder, array_type.dtype
        self.data = context.make_array(array_type)(context, builder, array).data
        self.shape = (lambda scalar: scalar) if lanes == 1 else (lambda scalar: ir.VectorType(scalar, lanes))
        self.memory = self.shape(self.data.type.pointee)
        self.align = array_type.dtype.bitwidth // 8

    def _at(self, offset):
        return cgutils.pointer_add(self.builder, self.data, offset, self.memory.as_pointer())

    def load(self, offset):
        bits = self.builder.load(self._at(offset), align=self.align)
        return _widen(self.builder, bits, self.dtype, self.shape)

    def store(self, values, offset):
        bits = _narrow(self.builder, values, self.dtype, self.shape)
        self.builder.store(bits, self._at(offset), align=self.align)


def _lanes(array_type):
    return VECTOR_BYTES * 8 // array_type.dtype.bitwidth


@intrinsic
def _load(typingctx, array, offset):
    """The value `offset` bytes into an array."""
    result = array.dtype if isinstance(array.dtype, types.Float) else types.float32

    def codegen(context, builder, signature, args):
        return _Array(context, builder, signature.args[0], args[0]).load(args[1])

    return result(array, offset), codegen


@intrinsic
def _store(typingctx, array, offset, value):
    """The inverse of `_load`."""

    def codegen(context, builder, signature, args):
        _Array(context, builder, signature.args[0], args[0]).store(args[2], args[1])
        return context.get_dummy_value()

    return types.void(array, offset, value), codegen


@intrinsic
def _copy(typingctx, target, target_offset, source, source_offset, lanes_of):
    """target[x] = source[x] for LANES neighbours x (as many as a vector of `lanes_of` holds)."""
    signature = types.void(target, target_offset, source, source_offset, lanes_of)

    def codegen(context, builder, signature, args):
        lanes = _lanes(signature.args[4])
        values = _Array(context, builder, signature.args[2], args[2], lanes).load(args[3])
        _Array(context, builder, signature.args[0], args[0], lanes).store(values, args[1])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _transpose(typingctx, target, target_offset, target_stride, source, source_offset, source_stride, lanes_of):
    """target[j, i] = source[i, j] for LANES x LANES values; the strides are those between rows."""
    signature = types.void(target, target_offset, target_stride, source, source_offset, source_stride, lanes_of)

    def codegen(context, builder, signature, args):
        target, target_offset, target_stride, source, source_offset, source_stride, _ = args
        lanes = _lanes(signature.args[6])
        source = _Array(context, builder, signature.args[3], source, lanes)
        target = _Array(context, builder, signature.args[0], target, lanes)

        def place(offset, stride, row):
            return builder.add(offset, builder.mul(stride, _index(row)))

        rows = [source.load(place(source_offset, source_stride, row)) for row in range(lanes)]
        size = lanes // 2
        while size:  # exchange the off-diagonal quarters of every block of 2 size x 2 size
            upper = [lanes + lane - size if lane & size else lane for lane in range(lanes)]
            lower = [lanes + lane if lane & size else lane + size for lane in range(lanes)]
            kind = ir.VectorType(ir.IntType(32), lanes)
            for row in range(lanes):
                if not row & size:
                    pair = rows[row], rows[row | size]
                    rows[row] = builder.shuffle_vector(*pair, ir.Constant(kind, upper))
                    rows[row | size] = builder.shuffle_vector(*pair, ir.Constant(kind, lower))
            size //= 2
        for row in range(lanes):
            target.store(rows[row], place(target_offset, target_stride, row))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _prefetch(typingctx, array, offset):
    """Asks for the cache line `offset` bytes into an array (or behind its end, which does nothing)."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, number, number, number]), "llvm.prefetch.p0"
        )
        read, keep, data_cache = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(function, [cgutils.pointer_add(builder, data, args[1], byte), read, keep, data_cache])
        return context.get_dummy_value()

    return types.void(array, offset), codegen


# --- Tiles -----------------------------------------------------------------------------------------------------
#
# Packed buffers are sequences of vectors, and "at" counts vectors in what follows. The layouts:
#   sums, gradients of the output        [group][row][channel]
#   horizontal kernels, their gradients  [tap][row]
#   vertical kernels, their gradients    [tap + row][row]: what meets one row of the frame lies together
# The channels of a frame are cut into equal groups. `group` is a tuple as long as one of them: its length, unlike
# a number, is known when the loop is compiled.


class _Tile:
    """The vocabulary of the three inner loops: vectors of packed buffers, multiply-adds, a loop over the taps."""

    def __init__(self, context, builder, buffer_type):
        self.context, self.builder, self.buffer_type = context, builder, buffer_type
        self.lanes = _lanes(buffer_type)
        self.zero = _splat(ir.VectorType(context.get_value_type(buffer_type.dtype), self.lanes), 0.0)

    def buffer(self, array):
        """Functions that read and write the vector at an index, unaligned by `element` values."""
        memory = _Array(self.context, self.builder, self.buffer_type, array, self.lanes)
        size = self.buffer_type.dtype.bitwidth // 8
        zero = _index(0)

        def offset(at, element):
            return self.builder.add(self.builder.mul(at, _index(VECTOR_BYTES)), self.builder.mul(element, _index(size)))

        def load(at, element=zero):
            return memory.load(offset(at, element))

        def store(values, at):
            memory.store(values, offset(at, zero))

        return load, store

    def at(self, start, *terms):
        """start + the sum of products `terms`, as an index."""
        total = start
        for factors in terms:
            a, b = (_index(factor) if isinstance(factor, int) else factor for factor in factors)
            total = self.builder.add(total, self.builder.mul(a, b))
        return total

    def add(self, a, b):
        return self.builder.fadd(a, b)

    def multiply(self, a, b):
        return self.builder.fmul(a, b, flags=("contract",))

    def multiply_add(self, a, b, c):
        """a * b + c, fused where the processor can."""
        return self.builder.fadd(self.multiply(a, b), c, flags=("contract",))

    def loop(self, taps, rows, limit, start, step, finish):
        """Emits a loop over the taps for every number of rows up to `limit`, and the choice between them.

        `start(rows)` gives the values that the loop carries, `step(rows, tap, values)` their successors, and
        `finish(rows, values)` uses them.
        """
        builder = self.builder
        done = builder.append_basic_block()
        choice = builder.switch(rows, done)
        for count in range(1, limit + 1):
            before, body, after = (builder.append_basic_block() for _ in range(3))
            choice.add_case(_index(count), before)
            builder.position_at_end(before)
            initial = [_index(0), *start(count)]
            builder.branch(body)
            builder.position_at_end(body)
            carried = [builder.phi(value.type) for value in initial]
            tap, *values = carried
            following = [builder.add(tap, _index(1)), *step(count, tap, values)]
            for value, first, later in zip(carried, initial, following, strict=True):
                value.add_incoming(first, before)
                value.add_incoming(later, body)
            builder.cbranch(builder.icmp_signed("<", following[0], taps), body, after)
            builder.position_at_end(after)
            finish(count, following[1:])
            builder.branch(done)
        builder.position_at_end(done)


def _tile_loop(emit):
    """An intrinsic without a result, made of the function that emits its code: emit(tile, group, *arguments).

    Compiled kernels call it with the same arguments and the group behind them; the first is a packed buffer, from
    which the type of the sums is taken.
    """

    def declare(typingctx, *arguments):
        def codegen(context, builder, signature, values):
            emit(_Tile(context, builder, signature.args[0]), signature.args[-1].count, *values[:-1])
            return context.get_dummy_value()

        return types.void(*arguments), codegen

    names = ["typingctx", *list(inspect.signature(emit).parameters)[2:], "group"]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    declare.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    declare.__name__ = emit.__name__
    return intrinsic(declare)


@_tile_loop
def _add_row(tile, group, sums, sums_at, frame, frame_at, pitch, vertical, vertical_at, horizontal, first, rows, taps):
    """sums[y, c] += vertical[i, y] * sum_j frame[c, x + j] * horizontal[j, y] for rows first <= y < first + rows.

    `frame_at` is where the frame's row begins (in values); `pitch` leads to the next channel.
    """
    load_sum, store_sum = tile.buffer(sums)
    load_frame, _ = tile.buffer(frame)
    load_vertical, _ = tile.buffer(vertical)
    load_horizontal, _ = tile.buffer(horizontal)

    def start(rows):
        return [tile.zero] * (rows * group)

    def step(rows, tap, values):
        pixels = [load_frame(_index(0), tile.at(frame_at, (1, tap), (c, pitch))) for c in range(group)]
        results = []
        for row in range(rows):
            weight = load_horizontal(tile.at(first, (ROWS, tap), (1, row)))
            results += [tile.multiply_add(pixels[c], weight, values[row * group + c]) for c in range(group)]
        return results

    def finish(rows, values):
        for row in range(rows):
            weight = load_vertical(tile.at(first, (1, vertical_at), (1, row)))
            for c in range(group):
                at = tile.at(sums_at, (group, first), (1, row * group + c))
                store_sum(tile.multiply_add(values[row * group + c], weight, load_sum(at)), at)

    tile.loop(taps, rows, ROWS, start, step, finish)


@_tile_loop
def _add_row_to_kernel_gradients(
    tile, group, grad_vertical, grad_horizontal, grad_out, grad_out_at, frame, frame_at, pitch,
    vertical, vertical_at, horizontal, first, rows, taps,
):  # fmt: skip
    """With s[j] = sum_c grad_out[y, c] * frame[c, x + j], for rows first <= y < first + rows:

    grad_vertical[i, y] += sum_j s[j] * horizontal[j, y] and grad_horizontal[j, y] += s[j] * vertical[i, y].
    """
    load_grad_vertical, store_grad_vertical = tile.buffer(grad_vertical)
    load_grad_horizontal, store_grad_horizontal = tile.buffer(grad_horizontal)
    load_grad_out, _ = tile.buffer(grad_out)
    load_frame, _ = tile.buffer(frame)
    load_vertical, _ = tile.buffer(vertical)
    load_horizontal, _ = tile.buffer(horizontal)
    gradients, weights = [], []  # of the tile's rows: kept in registers while the loop runs

    def start(rows):
        gradients[:] = [load_grad_out(tile.at(grad_out_at, (group, first), (1, at))) for at in range(rows * group)]
        weights[:] = [load_vertical(tile.at(first, (1, vertical_at), (1, row))) for row in range(rows)]
        return [tile.zero] * rows

    def step(rows, tap, values):
        pixels = [load_frame(_index(0), tile.at(frame_at, (1, tap), (c, pitch))) for c in range(group)]
        results = []
        for row in range(rows):
            at = tile.at(first, (GRADIENT_ROWS, tap), (1, row))
            product = tile.multiply(pixels[0], gradients[row * group])
            for c in range(1, group):
                product = tile.multiply_add(pixels[c], gradients[row * group + c], product)
            results.append(tile.multiply_add(product, load_horizontal(at), values[row]))
            store_grad_horizontal(tile.multiply_add(product, weights[row], load_grad_horizontal(at)), at)
        return results

    def finish(rows, values):
        for row in range(rows):
            at = tile.at(first, (1, vertical_at), (1, row))
            store_grad_vertical(tile.add(values[row], load_grad_vertical(at)), at)

    tile.loop(taps, rows, GRADIENT_ROWS, start, step, finish)


@_tile_loop
def _add_row_to_frame_gradient(
    tile, group, sums, sums_at, grad_out, grad_out_at, vertical, horizontal, x, pitch, first, rows, taps
):
    """sums[y, c] += sum_j vertical[y, x - j] * horizontal[j, x - j] * grad_out[c, x - j], first <= y < first + rows.

    All three are rows of `pitch` values; `vertical` holds the kernel value with which each row of the tile was met.
    """
    load_sum, store_sum = tile.buffer(sums)
    load_grad_out, _ = tile.buffer(grad_out)
    load_vertical, _ = tile.buffer(vertical)
    load_horizontal, _ = tile.buffer(horizontal)

    def at(index):
        return tile.at(sums_at, (group, first), (1, index))

    def start(rows):
        return [load_sum(at(index)) for index in range(rows * group)]

    def step(rows, tap, values):
        here = tile.at(x, (-1, tap))
        weight = load_horizontal(_index(0), tile.at(here, (pitch, tap)))
        products = []
        for c in range(group):
            gradient = load_grad_out(_index(0), tile.at(here, (1, grad_out_at), (c, pitch)))
            products.append(tile.multiply(weight, gradient))
        results = []
        for row in range(rows):
            weight = load_vertical(_index(0), tile.at(here, (pitch, tile.at(first, (1, row)))))
            results += [tile.multiply_add(products[c], weight, values[row * group + c]) for c in range(group)]
        return results

    def finish(rows, values):
        for index, value in enumerate(values):
            store_sum(value, at(index))

    tile.loop(taps, rows, ROWS, start, step, finish)


# --- Kernels ---------------------------------------------------------------------------------------------------


class _Cache(FunctionCache):
    """Numba's cache on disk, for which a disk without room is no error: the next start compiles again."""

    def save_overload(self, sig, data):
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def _compiled(function, signature=None):
    """Compiled for one signature, or whatever types it is called with; kept on disk where there is a place for it."""
    dispatcher = numba.njit(nogil=True)(function)
    with contextlib.suppress(RuntimeError):  # neither this folder nor the user's cache can be written
        dispatcher._cache = _Cache(function)  # what njit(cache=True) does, with Numba's own
    if signature is not None:
        dispatcher.compile(signature)
        dispatcher.disable_compile()
    return dispatcher


@_compiled
def _scratch(size, dtype):
    """An uninitialised 1-D array that begins at a cache line, so that no packed vector crosses one."""
    array = np.empty(size + VECTOR_BYTES, dtype)
    start = (-array.ctypes.data % VECTOR_BYTES) // array.itemsize
    return array[start : start + size]


@_compiled
def _offset(array, n, c, y, x):
    """Where array[n, c, y, x] lies, in bytes from the array's beginning."""
    return n * array.strides[0] + c * array.strides[1] + y * array.strides[2] + x * array.strides[3]


@_compiled
def _pack_row(packed, start, array, offset, stride, count):
    """packed[start + x] = array[x] for x < count."""
    if stride == array.itemsize:
        for x in range(count):
            packed[start + x] = _load(array, offset + x * array.itemsize)
    else:
        for x in range(count):
            packed[start + x] = _load(array, offset + x * stride)


@_compiled
def _unpack_row(packed, start, array, offset, stride, count):
    """The inverse of `_pack_row`."""
    for x in range(count):
        _store(array, offset + x * stride, packed[start + x])


@_compiled
def _pack_frame(packed, pitch, channels, frame, sample, top, left, rows, count):
    """packed[row, c, x] = frame[sample, c, top + row, left + x] for x < count, in rows of `pitch` values.

    What there is not (channels that fill the last group, values behind the last) becomes zero.
    """
    for row in range(rows):
        for c in range(channels):
            start = (row * channels + c) * pitch
            present = count if c < frame.shape[1] else 0
            here = _offset(frame, sample, c, top + row, left)
            _pack_row(packed, start, frame, here, frame.strides[3], present)
            packed[start + present : start + pitch] = 0


@_compiled
def _move_kernels(packed, tile_rows, skew, array, sample, top, left, rows, count, unpack):
    """packed[tap + skew * row][row][x] = array[sample, tap, top + row, left + x], or back with `unpack`.

    `tile_rows` is how many rows the buffer has room for. Lanes from `count` on become zero.
    """
    taps = array.shape[1]
    _, tap_stride, row_stride, x_stride = array.strides
    offset = _offset(array, sample, 0, top, left)
    lanes = VECTOR_BYTES // packed.itemsize
    step = tile_rows * VECTOR_BYTES
    if count == lanes and x_stride == array.itemsize:
        for tap in range(taps):
            for row in range(rows):
                there = (tap + skew * row) * step + row * VECTOR_BYTES
                here = offset + tap * tap_stride + row * row_stride
                if unpack:
                    _copy(array, here, packed, there, packed)
                else:
                    _copy(packed, there, array, here, packed)
                    _prefetch(array, here + VECTOR_BYTES)  # the next tile's: taps lie far apart
    elif count == lanes and tap_stride == array.itemsize and taps >= lanes:  # channels_last
        for row in range(rows):
            for block in range((taps + lanes - 1) // lanes):
                tap = min(block * lanes, taps - lanes)  # the last overlaps the one before, so that none is ragged
                there = (tap + skew * row) * step + row * VECTOR_BYTES
                here = offset + tap * tap_stride + row * row_stride
                if unpack:
                    _transpose(array, here, x_stride, packed, there, step, packed)
                else:
                    _transpose(packed, there, step, array, here, x_stride, packed)
    else:
        for tap in range(taps):
            for row in range(rows):
                start = ((tap + skew * row) * tile_rows + row) * lanes
                here = offset + tap * tap_stride + row * row_stride
                if unpack:
                    _unpack_row(packed, start, array, here, x_stride, count)
                else:
                    _pack_row(packed, start, array, here, x_stride, count)
                    packed[start + count : start + lanes] = 0


@_compiled
def _place(task, height, width, tile_rows):
    """A task's sample, first row, number of rows, first and last column: strips of `tile_rows` rows, cut in chunks."""
    strips = (height + tile_rows - 1) // tile_rows
    chunks = (width + CHUNK - 1) // CHUNK
    # Even pieces, of whole vectors: a multiple of VECTOR_BYTES pixels is one for values of any size.
    chunk = ((width + chunks - 1) // chunks + VECTOR_BYTES - 1) // VECTOR_BYTES * VECTOR_BYTES
    top = task // chunks % strips * tile_rows
    left = task % chunks * chunk
    return task // (strips * chunks), top, min(tile_rows, height - top), left, min(left + chunk, width)


def _forward(begin, end, frame, vertical, horizontal, out, group, dtype):
    """`out` for the tasks begin <= task < end."""
    _, taps, height, width = vertical.shape
    groups = (out.shape[1] + len(group) - 1) // len(group)
    channels = groups * len(group)
    lanes = VECTOR_BYTES // np.empty(0, dtype).itemsize
    pitch = CHUNK + lanes + taps
    packed_frame = _scratch((ROWS + taps - 1) * channels * pitch, dtype)
    packed_vertical = _scratch((ROWS + taps - 1) * ROWS * lanes, dtype)
    packed_horizontal = _scratch(taps * ROWS * lanes, dtype)
    sums = _scratch(ROWS * channels * lanes, dtype)
    for task in range(begin, end):
        sample, top, rows, left, right = _place(task, height, width, ROWS)
        _pack_frame(packed_frame, pitch, channels, frame, sample, top, left, rows + taps - 1, right - left + taps - 1)
        for x in range(left, right, lanes):
            count = min(lanes, right - x)
            _move_kernels(packed_vertical, ROWS, 1, vertical, sample, top, x, rows, count, False)
            _move_kernels(packed_horizontal, ROWS, 0, horizontal, sample, top, x, rows, count, False)
            sums[:] = 0
            for row in range(rows + taps - 1):
                first = max(0, row - taps + 1)  # of the tile's rows that this row of the frame is part of
                active = min(rows, row + 1) - first
                for g in range(groups):
                    frame_at = (row * channels + g * len(group)) * pitch + x - left
                    _add_row(
                        sums,
                        g * ROWS * len(group),
                        packed_frame,
                        frame_at,
                        pitch,
                        packed_vertical,
                        row * ROWS,
                        packed_horizontal,
                        first,
                        active,
                        taps,
                        group,
                    )
            for row in range(rows):
                for c in range(out.shape[1]):
                    at = (c // len(group) * ROWS + row) * len(group) + c % len(group)
                    here = _offset(out, sample, c, top + row, x)
                    _unpack_row(sums, at * lanes, out, here, out.strides[3], count)


def _backward_kernels(
    begin, end, grad_out, frame, vertical, horizontal, grad_vertical, grad_horizontal, needed, group, dtype
):
    """Both kernel gradients for the tasks begin <= task < end, written where they are `needed`."""
    _, taps, height, width = vertical.shape
    groups = (frame.shape[1] + len(group) - 1) // len(group)
    channels = groups * len(group)
    lanes = VECTOR_BYTES // np.empty(0, dtype).itemsize
    pitch = CHUNK + lanes + taps
    packed_frame = _scratch((GRADIENT_ROWS + taps - 1) * channels * pitch, dtype)
    packed_grad_out = _scratch(GRADIENT_ROWS * channels * lanes, dtype)
    packed_vertical = _scratch((GRADIENT_ROWS + taps - 1) * GRADIENT_ROWS * lanes, dtype)
    packed_horizontal = _scratch(taps * GRADIENT_ROWS * lanes, dtype)
    vertical_sums = _scratch((GRADIENT_ROWS + taps - 1) * GRADIENT_ROWS * lanes, dtype)
    horizontal_sums = _scratch(taps * GRADIENT_ROWS * lanes, dtype)
    for task in range(begin, end):
        sample, top, rows, left, right = _place(task, height, width, GRADIENT_ROWS)
        _pack_frame(packed_frame, pitch, channels, frame, sample, top, left, rows + taps - 1, right - left + taps - 1)
        for x in range(left, right, lanes):
            count = min(lanes, right - x)
            _move_kernels(packed_vertical, GRADIENT_ROWS, 1, vertical, sample, top, x, rows, count, False)
            _move_kernels(packed_horizontal, GRADIENT_ROWS, 0, horizontal, sample, top, x, rows, count, False)
            for row in range(rows):
                for c in range(channels):
                    start = ((c // len(group) * GRADIENT_ROWS + row) * len(group) + c % len(group)) * lanes
                    present = count if c < frame.shape[1] else 0
                    here = _offset(grad_out, sample, c, top + row, x)
                    _pack_row(packed_grad_out, start, grad_out, here, grad_out.strides[3], present)
                    packed_grad_out[start + present : start + lanes] = 0
            vertical_sums[:] = 0
            horizontal_sums[:] = 0
            for row in range(rows + taps - 1):
                first = max(0, row - taps + 1)
                active = min(rows, row + 1) - first
                for g in range(groups):
                    frame_at = (row * channels + g * len(group)) * pitch + x - left
                    _add_row_to_kernel_gradients(
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


def _backward_frame(begin, end, grad_out, vertical, horizontal, grad_frame, group, dtype):
    """The frame's gradient for the tasks begin <= task < end: each pixel gathers from all that it went into."""
    _, taps, height, width = vertical.shape
    groups = (grad_frame.shape[1] + len(group) - 1) // len(group)
    channels = groups * len(group)
    lanes = VECTOR_BYTES // np.empty(0, dtype).itemsize
    pitch = CHUNK + lanes + taps  # a row begins taps - 1 pixels left of its chunk: what x - j can reach
    packed_grad_out = _scratch(channels * pitch, dtype)
    packed_vertical = _scratch(ROWS * pitch, dtype)
    packed_horizontal = _scratch(taps * pitch, dtype)
    sums = _scratch(CHUNK * ROWS * channels, dtype)
    for task in range(begin, end):
        sample, top, rows, left, right = _place(task, height + taps - 1, width + taps - 1, ROWS)
        x_first = max(0, left - taps + 1)
        count = min(width, right) - x_first
        start = x_first - (left - taps + 1)
        sums[:] = 0
        packed_grad_out[:] = 0  # and stay so outside the output, like the kernels
        packed_vertical[:] = 0
        packed_horizontal[:] = 0
        for y in range(max(0, top - taps + 1), min(height, top + rows)):
            for c in range(grad_frame.shape[1]):
                here = _offset(grad_out, sample, c, y, x_first)
                _pack_row(packed_grad_out, c * pitch + start, grad_out, here, grad_out.strides[3], count)
            for tap in range(taps):
                here = _offset(horizontal, sample, tap, y, x_first)
                _pack_row(packed_horizontal, tap * pitch + start, horizontal, here, horizontal.strides[3], count)
            first = max(0, y - top)
            active = min(rows, y - top + taps) - first
            for row in range(first, first + active):
                here = _offset(vertical, sample, top + row - y, y, x_first)
                _pack_row(packed_vertical, row * pitch + start, vertical, here, vertical.strides[3], count)
            for x in range(0, right - left, lanes):
                for g in range(groups):
                    _add_row_to_frame_gradient(
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
                    here = _offset(grad_frame, sample, c, top + row, left + x)
                    _unpack_row(sums, at * lanes, grad_frame, here, grad_frame.strides[3], min(lanes, right - left - x))


# --- Tensors ---------------------------------------------------------------------------------------------------


@lru_cache
def _pool(threads, process):
    """The worker threads; a forked child, which inherits none of them, gets its own by its process id."""
    return ThreadPoolExecutor(threads, thread_name_prefix="sepconv")


@lru_cache
def _specialised(kernel, argument_types):
    """A kernel compiled for arrays of any strides: left to itself, Numba would compile for each layout anew."""
    strided = [types.Array(t.dtype, t.ndim, "A") if isinstance(t, types.Array) else t for t in argument_types]
    return _compiled(kernel, types.void(types.int64, types.int64, *strided))


def _run(kernel, height, width, tile_rows, batch, *arguments):
    """Calls kernel(begin, end, *arguments) over ranges that cover all tasks, on PyTorch's number of threads."""
    kernel = _specialised(kernel, tuple(map(numba.typeof, arguments)))
    tasks = batch * -(-height // tile_rows) * -(-width // CHUNK)
    threads = min(torch.get_num_threads(), tasks)
    if threads <= 1:
        kernel(0, tasks, *arguments)
        return
    pieces = min(tasks, threads * 4)  # a few for each thread: who finishes early takes over
    bounds = [tasks * piece // pieces for piece in range(pieces + 1)]
    pool = _pool(threads, os.getpid())
    for done in [pool.submit(kernel, *piece, *arguments) for piece in pairwise(bounds)]:
        done.result()


def _array(tensor):
    """The tensor's memory as the kernels take it: see `_widen` for the 16-bit types."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy()
    if tensor.dtype == torch.float16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def _sizes(frame):
    """How the kernels are specialised: (a tuple as long as a group of channels, the type of the sums)."""
    channels = frame.shape[1]
    groups = -(-channels // GROUP)
    return (0,) * -(-channels // groups), np.dtype(np.float64 if frame.dtype == torch.float64 else np.float32)


def _convert_first(function):
    """For processors that cannot convert float16: has `function` fill float32 copies, and rounds them afterwards."""

    @wraps(function)
    def converting(targets, *arguments):
        if _HALF_INSTRUCTIONS or arguments[0].dtype != torch.float16:
            return function(targets, *arguments)
        copies = [target.float() for target in targets]
        function(copies, *(a.float() if isinstance(a, torch.Tensor) else a for a in arguments))
        for target, copy in zip(targets, copies, strict=True):
            target.copy_(copy)
        return None

    return converting


@_convert_first
def forward(results, frame, vertical, horizontal):
    """Fills the one tensor in `results`; all are checked CPU tensors."""
    (out,) = results
    if out.numel():
        batch, _, height, width = out.shape
        arrays = [_array(tensor) for tensor in (frame, vertical, horizontal, out)]
        _run(_forward, height, width, ROWS, batch, *arrays, *_sizes(frame))


@_convert_first
def backward(gradients, grad_out, frame, vertical, horizontal, output_mask):
    """Fills those of the three `gradients` that `output_mask` asks for; all are checked CPU tensors."""
    if not grad_out.numel():
        for gradient in gradients:
            gradient.zero_()
        return
    batch, _, height, width = grad_out.shape
    inputs = (frame, vertical, horizontal)
    # What is not wanted is not written to: its input stands in for the type.
    grad_frame, *grad_kernels = (
        _array(gradient if wanted else tensor)
        for gradient, tensor, wanted in zip(gradients, inputs, output_mask, strict=True)
    )
    grad_out, *inputs = (_array(tensor) for tensor in (grad_out, *inputs))
    sizes = _sizes(frame)
    if output_mask[0]:
        height_width = grad_frame.shape[2:]
        _run(_backward_frame, *height_width, ROWS, batch, grad_out, *inputs[1:], grad_frame, *sizes)
    if any(output_mask[1:]):
        needed = tuple(output_mask[1:])
        _run(_backward_kernels, height, width, GRADIENT_ROWS, batch, grad_out, *inputs, *grad_kernels, needed, *sizes)
