"""Register tiles of the op on the CPU: the inner loops of the kernels in cpu.py and cpu_inference.py.

The arithmetic is K * K * C multiply-adds for every pixel; what decides the speed is how many loads each of them
costs. As in a matrix product, the work is therefore cut into tiles that live in registers: a tile is a few rows times
one vector (`LANES` neighbouring pixels of a row) times a group of channels. Walking down the frame row by row, one load
of the frame serves all rows of the tile, and one load of a horizontal kernel serves all channels.

The inner loops are emitted as LLVM vector instructions (cpu_vectors.py), because no vectoriser finds this blocking by
itself.
"""

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vfi.kernels.cpu_vectors import MANY_REGISTERS, VECTOR_BYTES, Array, constant, lanes_in, multiply_add, splat

ROWS = 6 if MANY_REGISTERS else 4  # of a tile: times 3 channels, 18 (12) registers hold its sums
GRADIENT_ROWS = 4 if MANY_REGISTERS else 2  # likewise, where kernel gradients are summed

# Packed buffers are sequences of vectors, and "at" counts vectors in what follows. The layouts:
#   sums, gradients of the output        [group][row][channel]
#   horizontal kernels, their gradients  [tap][row]
#   vertical kernels, their gradients    [tap + row][row]: what meets one row of the frame lies together
# The channels of a frame are cut into equal groups. `group` is a tuple as long as one of them: its length, unlike
# a number, is known when the loop is compiled.


class _Tile:
    """The vocabulary of the inner loops: vectors of packed buffers, multiply-adds, a loop over the taps."""

    def __init__(self, context, builder, buffer_type):
        self.context, self.builder, self.buffer_type = context, builder, buffer_type
        self.lanes = lanes_in(buffer_type)
        self.zero = splat(ir.VectorType(context.get_value_type(buffer_type.dtype), self.lanes), 0.0)

    def buffer(self, array):
        """Functions that read and write the vector at an index, unaligned by `element` values."""
        memory = Array(self.context, self.builder, self.buffer_type, array, self.lanes)
        size = self.buffer_type.dtype.bitwidth // 8
        zero = constant(0)

        def offset(at, element):
            return self.builder.add(
                self.builder.mul(at, constant(VECTOR_BYTES)), self.builder.mul(element, constant(size))
            )

        def load(at, element=zero):
            return memory.load(offset(at, element))

        def store(values, at):
            memory.store(values, offset(at, zero))

        return load, store

    def at(self, start, *terms):
        """start + the sum of products `terms`, as an index."""
        total = start
        for factors in terms:
            a, b = (constant(factor) if isinstance(factor, int) else factor for factor in factors)
            total = self.builder.add(total, self.builder.mul(a, b))
        return total

    def add(self, a, b):
        return self.builder.fadd(a, b)

    def multiply(self, a, b):
        return self.builder.fmul(a, b, flags=("contract",))

    def multiply_add(self, a, b, c):
        return multiply_add(self.builder, a, b, c)

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
            choice.add_case(constant(count), before)
            builder.position_at_end(before)
            initial = [constant(0), *start(count)]
            builder.branch(body)
            builder.position_at_end(body)
            carried = [builder.phi(value.type) for value in initial]
            tap, *values = carried
            following = [builder.add(tap, constant(1)), *step(count, tap, values)]
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
        pixels = [load_frame(constant(0), tile.at(frame_at, (1, tap), (c, pitch))) for c in range(group)]
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
def add_weights(tile, group, weights, vertical, horizontal, rows, taps):
    """weights[y] += the sum of the vertical kernel of row y times that of the horizontal one, for y < rows."""
    load_weight, store_weight = tile.buffer(weights)
    load_vertical, _ = tile.buffer(vertical)
    load_horizontal, _ = tile.buffer(horizontal)

    def start(rows):
        return [tile.zero] * (2 * rows)

    def step(rows, tap, values):
        at = tile.at(constant(0), (ROWS, tap))
        weights = [load_vertical(tile.at(at, (ROWS + 1, row))) for row in range(rows)]
        weights += [load_horizontal(tile.at(at, (1, row))) for row in range(rows)]
        return [tile.add(value, weight) for value, weight in zip(values, weights, strict=True)]

    def finish(rows, values):
        for row in range(rows):
            store_weight(tile.multiply_add(values[row], values[rows + row], load_weight(constant(row))), constant(row))

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
        pixels = [load_frame(constant(0), tile.at(frame_at, (1, tap), (c, pitch))) for c in range(group)]
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
        weight = load_horizontal(constant(0), tile.at(here, (pitch, tap)))
        products = []
        for c in range(group):
            gradient = load_grad_out(constant(0), tile.at(here, (1, grad_out_at), (c, pitch)))
            products.append(tile.multiply(weight, gradient))
        results = []
        for row in range(rows):
            weight = load_vertical(constant(0), tile.at(here, (pitch, tile.at(first, (1, row)))))
            results += [tile.multiply_add(products[c], weight, values[row * group + c]) for c in range(group)]
        return results

    def finish(rows, values):
        for index, value in enumerate(values):
            store_sum(value, at(index))

    tile.loop(taps, rows, ROWS, start, step, finish)
