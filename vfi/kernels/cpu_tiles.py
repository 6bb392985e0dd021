"""Vectors and register tiles of the op on the CPU, as LLVM instructions for the kernels in cpu.py.

The arithmetic is K * K * C multiply-adds for every pixel; what decides the speed is how many loads each of them
costs. As in a matrix product, the work is therefore cut into tiles that live in registers: a tile is a few rows times
one vector (`LANES` neighbouring pixels of a row) times a group of channels. Walking down the frame row by row, one load
of the frame serves all rows of the tile, and one load of a horizontal kernel serves all channels.

The inner loops are emitted as LLVM vector instructions (`numba.extending.intrinsic`), because no vectoriser finds this
blocking by itself. Arrays are addressed in bytes, so that one compiled kernel serves all strides.
"""

import inspect
import platform
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

_REQUESTED = numba.config.CPU_FEATURES  # type: ignore[attr-defined]  # by NUMBA_CPU_FEATURES, or None
_FEATURES = get_host_cpu_features() if _REQUESTED is None else _REQUESTED
_ARM = platform.machine() in ("arm64", "aarch64")
_MANY_REGISTERS = "+avx512f" in _FEATURES or _ARM  # 32 of them, not 16

HALF_INSTRUCTIONS = "+f16c" in _FEATURES or _ARM  # of every x86 processor since 2013

VECTOR_BYTES = 64 if "+avx512f" in _FEATURES else 16 if _ARM else 32
ROWS = 6 if _MANY_REGISTERS else 4  # of a tile: times 3 channels, 18 (12) registers hold its sums
GRADIENT_ROWS = 4 if _MANY_REGISTERS else 2  # likewise, where kernel gradients are summed


# --- Vector instructions ---------------------------------------------------------------------------------------


def _index(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


def _splat(kind: Any, value: float) -> Any:
    """A constant of a scalar or a vector type."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def _widen(builder: Any, bits: Any, dtype: Any, shape: Callable[[Any], Any]) -> Any:
    """Values in memory to values for arithmetic; `shape` makes a scalar type itself, or a vector of it.

    uint16 stands for the bits of a float16, int16 for those of a bfloat16; both become float32.
    """
    if dtype == types.uint16:
        return builder.fpext(builder.bitcast(bits, shape(ir.HalfType())), shape(ir.FloatType()))
    if dtype == types.int16:
        wide = shape(ir.IntType(32))
        return builder.bitcast(builder.shl(builder.zext(bits, wide), _splat(wide, 16)), shape(ir.FloatType()))
    return bits


def _narrow(builder: Any, values: Any, dtype: Any, shape: Callable[[Any], Any]) -> Any:
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


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, fused where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


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

    def load_interleaved(self, offset):
        """Two vectors of bfloat16, of which one value of each alternate in memory: one instruction widens each."""
        lanes = self.memory.count
        wide = ir.VectorType(ir.IntType(32), lanes)
        pointer = cgutils.pointer_add(self.builder, self.data, offset, wide.as_pointer())
        pairs = self.builder.load(pointer, align=self.align)
        halves = self.builder.shl(pairs, _splat(wide, 16)), self.builder.and_(pairs, _splat(wide, 0xFFFF0000))
        return [self.builder.bitcast(half, ir.VectorType(ir.FloatType(), lanes)) for half in halves]

    def store(self, values, offset):
        bits = _narrow(self.builder, values, self.dtype, self.shape)
        self.builder.store(bits, self._at(offset), align=self.align)


def _lanes(array_type: Any) -> int:
    return VECTOR_BYTES * 8 // array_type.dtype.bitwidth


@intrinsic
def load(typingctx, array, offset):
    """The value `offset` bytes into an array."""
    result = array.dtype if isinstance(array.dtype, types.Float) else types.float32

    def codegen(context, builder, signature, args):
        return _Array(context, builder, signature.args[0], args[0]).load(args[1])

    return result(array, offset), codegen


@intrinsic
def store(typingctx, array, offset, value):
    """The inverse of `load`."""

    def codegen(context, builder, signature, args):
        _Array(context, builder, signature.args[0], args[0]).store(args[2], args[1])
        return context.get_dummy_value()

    return types.void(array, offset, value), codegen


@intrinsic
def copy(typingctx, target, target_offset, source, source_offset, lanes_of):
    """target[x] = source[x] for LANES neighbours x (as many as a vector of `lanes_of` holds)."""
    signature = types.void(target, target_offset, source, source_offset, lanes_of)

    def codegen(context, builder, signature, args):
        lanes = _lanes(signature.args[4])
        values = _Array(context, builder, signature.args[2], args[2], lanes).load(args[3])
        _Array(context, builder, signature.args[0], args[0], lanes).store(values, args[1])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def transpose(typingctx, target, target_offset, target_stride, source, source_offset, source_stride, lanes_of):
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
def blend(typingctx, target, target_offset, source, offsets, weights, start, start_offset, count):
    """target[x] = start[x] + sum_k weights[k] * source_k[x] for `count` neighbours x, a multiple of the lanes.

    source_k begins `offsets[k]` bytes into `source`; `offsets` and `weights` are tuples. `target` and `start` are
    float32; None for `start` stands for zeros. A bfloat16 `source` is interleaved (see `interleaves`), and `count` then
    a multiple of twice the lanes.
    """
    signature = types.void(target, target_offset, source, offsets, weights, start, start_offset, count)

    def codegen(context, builder, signature, args):
        lanes = _lanes(signature.args[0])
        interleaved = interleaves(signature.args[2].dtype)
        target, source = (_Array(context, builder, signature.args[at], args[at], lanes) for at in (0, 2))
        offsets, weights = (cgutils.unpack_tuple(builder, args[at]) for at in (3, 4))
        kind = target.memory
        weights = [_broadcast(builder, weight, kind) for weight in weights]
        step = 2 * lanes if interleaved else lanes
        with cgutils.for_range_slice(builder, _index(0), args[7], _index(step)) as (x, _):
            here = builder.mul(x, _index(4))
            parts = [builder.add(here, _index(VECTOR_BYTES * part)) for part in range(step // lanes)]
            if isinstance(signature.args[5], types.NoneType):
                sums = [_splat(kind, 0.0)] * len(parts)
            else:
                start = _Array(context, builder, signature.args[5], args[5], lanes)
                sums = [start.load(builder.add(args[6], part)) for part in parts]
            for offset, weight in zip(offsets, weights, strict=True):
                there = builder.add(offset, builder.mul(x, _index(source.align)))
                values = source.load_interleaved(there) if interleaved else [source.load(there)]
                sums = [_multiply_add(builder, weight, value, total) for value, total in zip(values, sums, strict=True)]
            for part, total in zip(parts, sums, strict=True):
                target.store(total, builder.add(args[1], part))
        return context.get_dummy_value()

    return signature, codegen


def interleaves(dtype: Any) -> bool:
    """Whether `blend` reads a dtype in pairs of vectors whose values alternate, those of the first at even places."""
    return dtype == types.int16


def _broadcast(builder: Any, value: Any, kind: Any) -> Any:
    """A vector whose lanes are all `value`."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, _splat(ir.VectorType(ir.IntType(32), kind.count), 0))


@intrinsic
def add_positive(typingctx, target, target_offset, source, source_offset, count):
    """target[x] += max(source[x], 0) for `count` neighbours x, a multiple of the lanes; `source` is float32."""
    signature = types.void(target, target_offset, source, source_offset, count)

    def codegen(context, builder, signature, args):
        lanes = _lanes(signature.args[2])
        target, source = (_Array(context, builder, signature.args[at], args[at], lanes) for at in (0, 2))
        zero = _splat(source.memory, 0.0)
        with cgutils.for_range_slice(builder, _index(0), args[4], _index(lanes)) as (x, _):
            values = source.load(builder.add(args[3], builder.mul(x, _index(4))))
            there = builder.add(args[1], builder.mul(x, _index(target.align)))
            positive = builder.select(builder.fcmp_ordered("olt", values, zero), zero, values)
            target.store(builder.fadd(target.load(there), positive), there)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def prefetch(typingctx, array, offset):
    """Asks for the cache line `offset` bytes into an array (or behind its end, where it does nothing)."""

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
        return _multiply_add(self.builder, a, b, c)

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


def _tile_loop(emit: Callable[..., None]) -> Any:
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
    declare.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in names]
    )
    declare.__name__ = emit.__name__
    return intrinsic(declare)


@_tile_loop
def add_row(tile, group, sums, sums_at, frame, frame_at, pitch, vertical, vertical_at, horizontal, first, rows, taps):
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
def add_row_to_kernel_gradients(
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
def add_row_to_frame_gradient(
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
