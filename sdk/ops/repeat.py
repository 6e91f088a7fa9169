"""TILE, BROADCAST_TO, FILL, ZEROS_LIKE: the same elements several times."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType
from sdk.ops.base import Case, CaseGraph, View
from sdk.ops.movement import Move, Movement, integers


class Tile(Movement):
    names = ("TILE",)
    parameters = (1,)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        times = integers(view, 1)
        view.need(
            len(times) == x[0].ndim and min(times, default=0) >= 0, f"it repeats {x[0].ndim} dimensions {times} times"
        )
        shape = tuple(n * size for n, size in zip(times, x[0].shape, strict=True))
        view.need(y[0].shape == shape, f"its output is {list(y[0].shape)}, not {list(shape)}")
        once = x[0].reshape([size for n in x[0].shape for size in (1, n)])
        repeated = [size for pair in zip(times, x[0].shape, strict=True) for size in pair]
        yield y[0].reshape(repeated), np.broadcast_to(once, repeated)

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.INT32, DType.INT64, DType.FLOAT32, DType.BOOL):
            for shape, times in (((2, 3), (1, 2)), ((2, 3), (3, 2)), ((1, 3, 1, 2), (2, 1, 4, 3)), ((4,), (3,))):
                yield _case("TILE", shape, [a * b for a, b in zip(shape, times, strict=True)], times, dtype)
        yield _case("TILE", (1, 2), (1, 4), (1, 2), DType.UINT8)


class BroadcastTo(Movement):
    """The shape is that of the output, whatever the shape operand is made of."""

    names = ("BROADCAST_TO",)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        yield y[0], np.broadcast_to(x[0], y[0].shape)

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.FLOAT32, DType.BOOL):
            for shape, after in (((3,), (2, 3)), ((2, 1, 3), (2, 4, 3)), ((1, 1), (3, 5)), ((2, 1), (3, 2, 4))):
                yield _case("BROADCAST_TO", shape, after, after, dtype)
        yield _case("BROADCAST_TO", (1, 2, 1, 3, 1), (2, 2, 3, 3, 2), (2, 2, 3, 3, 2), DType.INT8)


class Fill(Movement):
    names = ("FILL",)
    parameters = (0,)
    moved = (1,)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        view.need(x[1].size == 1, f"it fills with {x[1].size} values")
        fits = tuple(integers(view, 0)) == y[0].shape
        view.need(fits, f"its output {list(y[0].shape)} has not the shape that it names")
        yield y[0], np.broadcast_to(x[1].reshape(()), y[0].shape)

    def cases(self) -> Iterator[Case]:
        types = (DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.FLOAT32, DType.BOOL)
        for dtype, shape in itertools.product(types, ((5,), (2, 3, 1))):
            g = CaseGraph()
            scale = 0.5 if dtype in (DType.INT8, DType.INT16) else None
            dims, value = g.constant(np.array(shape), DType.INT32), g.input((), dtype, scale)
            y = g.output(shape, dtype, scale)
            yield g.case(f"{dtype.suffix}-{len(shape)}d", "FILL", [dims, value], [y])


class ZerosLike(Movement):
    names = ("ZEROS_LIKE",)
    moved = ()

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        view.need(x[0].shape == y[0].shape, f"it makes {list(y[0].shape)} of {list(x[0].shape)}")
        yield y[0], np.broadcast_to(np.zeros((), y[0].dtype), y[0].shape)

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.INT32, DType.INT64, DType.FLOAT32):
            g = CaseGraph()
            scale = 0.5 if dtype is DType.INT8 else None
            x = g.input((2, 3, 5), dtype, scale)
            y = g.output((2, 3, 5), dtype, scale)
            yield g.case(dtype.suffix, "ZEROS_LIKE", [x], [y])


def _case(op: str, before: Sequence[int], after: Sequence[int], numbers: Sequence[int], dtype: DType) -> Case:
    g = CaseGraph()
    scale = 0.5 if dtype in (DType.INT8, DType.UINT8, DType.INT16) else None
    inputs = [g.input(before, dtype, scale), g.constant(np.array(numbers), DType.INT32)]
    y = g.output(after, dtype, scale)
    return g.case(f"{dtype.suffix}-{'x'.join(map(str, before))}-{'x'.join(map(str, after))}", op, inputs, [y])


OPS = [Tile(), BroadcastTo(), Fill(), ZerosLike()]
