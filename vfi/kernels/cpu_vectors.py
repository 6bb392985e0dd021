"""Vectors of `LANES` values in kernels that Numba compiles: loads, stores and arithmetic as LLVM instructions.

They are intrinsics (`numba.extending.intrinsic`), which emit LLVM's vector instructions where they are called. Arrays
are addressed in bytes, so that one compiled kernel serves all strides. 16-bit types become float32 when they are read.
"""

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
MANY_REGISTERS = "+avx512f" in _FEATURES or _ARM  # 32 of them, not 16

HALF_INSTRUCTIONS = "+f16c" in _FEATURES or _ARM  # of every x86 processor since 2013

VECTOR_BYTES = 64 if "+avx512f" in _FEATURES else 16 if _ARM else 32


def constant(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


def splat(kind: Any, value: float) -> Any:
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
        return builder.bitcast(builder.shl(builder.zext(bits, wide), splat(wide, 16)), shape(ir.FloatType()))
    return bits


def _narrow(builder: Any, values: Any, dtype: Any, shape: Callable[[Any], Any]) -> Any:
    """The inverse of `_widen`, rounding to nearest even."""
    if dtype == types.uint16:
        return builder.bitcast(builder.fptrunc(values, shape(ir.HalfType())), shape(ir.IntType(16)))
    if dtype == types.int16:
        wide = shape(ir.IntType(32))
        bits = builder.bitcast(values, wide)
        odd = builder.and_(builder.lshr(bits, splat(wide, 16)), splat(wide, 1))
        rounded = builder.add(bits, builder.add(odd, splat(wide, 0x7FFF)))
        nan = builder.fcmp_unordered("uno", values, values)  # rounding could carry its bits into the sign
        rounded = builder.select(nan, splat(wide, 0x7FC00000), rounded)
        return builder.trunc(builder.lshr(rounded, splat(wide, 16)), shape(ir.IntType(16)))
    return values


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, fused where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


class Array:
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
        halves = self.builder.shl(pairs, splat(wide, 16)), self.builder.and_(pairs, splat(wide, 0xFFFF0000))
        return [self.builder.bitcast(half, ir.VectorType(ir.FloatType(), lanes)) for half in halves]

    def store(self, values, offset):
        bits = _narrow(self.builder, values, self.dtype, self.shape)
        self.builder.store(bits, self._at(offset), align=self.align)


def lanes_in(array_type: Any) -> int:
    return VECTOR_BYTES * 8 // array_type.dtype.bitwidth


@intrinsic
def load(typingctx, array, offset):
    """The value `offset` bytes into an array."""
    result = array.dtype if isinstance(array.dtype, types.Float) else types.float32

    def codegen(context, builder, signature, args):
        return Array(context, builder, signature.args[0], args[0]).load(args[1])

    return result(array, offset), codegen


@intrinsic
def store(typingctx, array, offset, value):
    """The inverse of `load`."""

    def codegen(context, builder, signature, args):
        Array(context, builder, signature.args[0], args[0]).store(args[2], args[1])
        return context.get_dummy_value()

    return types.void(array, offset, value), codegen


@intrinsic
def copy(typingctx, target, target_offset, source, source_offset, lanes_of):
    """target[x] = source[x] for LANES neighbours x (as many as a vector of `lanes_of` holds)."""
    signature = types.void(target, target_offset, source, source_offset, lanes_of)

    def codegen(context, builder, signature, args):
        lanes = lanes_in(signature.args[4])
        values = Array(context, builder, signature.args[2], args[2], lanes).load(args[3])
        Array(context, builder, signature.args[0], args[0], lanes).store(values, args[1])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def transpose(typingctx, target, target_offset, target_stride, source, source_offset, source_stride, lanes_of):
    """target[j, i] = source[i, j] for LANES x LANES values; the strides are those between rows."""
    signature = types.void(target, target_offset, target_stride, source, source_offset, source_stride, lanes_of)

    def codegen(context, builder, signature, args):
        target, target_offset, target_stride, source, source_offset, source_stride, _ = args
        lanes = lanes_in(signature.args[6])
        source = Array(context, builder, signature.args[3], source, lanes)
        target = Array(context, builder, signature.args[0], target, lanes)

        def place(offset, stride, row):
            return builder.add(offset, builder.mul(stride, constant(row)))

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
        lanes = lanes_in(signature.args[0])
        interleaved = interleaves(signature.args[2].dtype)
        target, source = (Array(context, builder, signature.args[at], args[at], lanes) for at in (0, 2))
        offsets, weights = (cgutils.unpack_tuple(builder, args[at]) for at in (3, 4))
        kind = target.memory
        weights = [_broadcast(builder, weight, kind) for weight in weights]
        step = 2 * lanes if interleaved else lanes
        with cgutils.for_range_slice(builder, constant(0), args[7], constant(step)) as (x, _):
            here = builder.mul(x, constant(4))
            parts = [builder.add(here, constant(VECTOR_BYTES * part)) for part in range(step // lanes)]
            if isinstance(signature.args[5], types.NoneType):
                sums = [splat(kind, 0.0)] * len(parts)
            else:
                start = Array(context, builder, signature.args[5], args[5], lanes)
                sums = [start.load(builder.add(args[6], part)) for part in parts]
            for offset, weight in zip(offsets, weights, strict=True):
                there = builder.add(offset, builder.mul(x, constant(source.align)))
                values = source.load_interleaved(there) if interleaved else [source.load(there)]
                sums = [multiply_add(builder, weight, value, total) for value, total in zip(values, sums, strict=True)]
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
    return builder.shuffle_vector(first, first, splat(ir.VectorType(ir.IntType(32), kind.count), 0))


@intrinsic
def add_positive(typingctx, target, target_offset, source, source_offset, count):
    """target[x] += max(source[x], 0) for `count` neighbours x, a multiple of the lanes; `source` is float32."""
    signature = types.void(target, target_offset, source, source_offset, count)

    def codegen(context, builder, signature, args):
        lanes = lanes_in(signature.args[2])
        target, source = (Array(context, builder, signature.args[at], args[at], lanes) for at in (0, 2))
        zero = splat(source.memory, 0.0)
        with cgutils.for_range_slice(builder, constant(0), args[4], constant(lanes)) as (x, _):
            values = source.load(builder.add(args[3], builder.mul(x, constant(4))))
            there = builder.add(args[1], builder.mul(x, constant(target.align)))
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
