"""TRANSPOSE and REVERSE_V2: the same elements in another order of dimensions, or backwards along some."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType
from sdk.ops.base import Case, CaseGraph, View
from sdk.ops.movement import Move, Movement, axis_of, integers


class Transpose(Movement):
    names = ("TRANSPOSE",)
    parameters = (1,)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        view.need(view.input(1).dtype is DType.INT32, "its order is not int32")
        order = [axis_of(view, axis, x[0].ndim) for axis in integers(view, 1)]
        view.need(sorted(order) == list(range(x[0].ndim)), f"its {order} is no order of {x[0].ndim} dimensions")
        yield y[0], x[0].transpose(order)

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.INT16, DType.FLOAT32):
            for axes in ((0, 2, 1), (1, 2, 0), (2, 1, 0), (0, 1, 2)):
                yield _transpose((3, 5, 2), axes, dtype)
        for order in itertools.permutations(range(4)):
            yield _transpose((2, 3, 4, 5), order, DType.INT8)
        yield _transpose((5, 1, 4, 1), (2, 3, 0, 1), DType.INT8)
        yield _transpose((7, 3), (1, -2), DType.FLOAT32)
        yield _transpose((7, 3), (1, 0), DType.INT64)
        yield _transpose((7, 3), (1, 0), DType.UINT8)
        yield _transpose((2, 3, 2, 3, 2), (4, 1, 3, 0, 2), DType.INT8)
        yield _transpose((2, 3, 2, 3, 2, 3), (5, 3, 1, 4, 2, 0), DType.FLOAT32)  # more loops than a step has


class Reverse(Movement):
    names = ("REVERSE_V2",)
    parameters = (1,)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        axes = {axis_of(view, axis, x[0].ndim) for axis in integers(view, 1)}
        yield y[0], np.flip(x[0], sorted(axes))

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.FLOAT32, DType.BOOL):
            for axes in ((0,), (1,), (2,)):
                yield _reverse((3, 4, 5), axes, dtype)
        yield _reverse((6,), (0,), DType.FLOAT32)
        yield _reverse((2, 1, 3), (1,), DType.INT8)


def _case(op: str, shape: Sequence[int], after: Sequence[int], numbers: Sequence[int], dtype: DType) -> Case:
    g = CaseGraph()
    scale = 0.5 if dtype in (DType.INT8, DType.UINT8, DType.INT16) else None
    inputs = [g.input(shape, dtype, scale), g.constant(np.array(numbers), DType.INT32)]
    y = g.output(after, dtype, scale)
    return g.case(f"{dtype.suffix}-{'x'.join(map(str, shape))}-{''.join(map(str, numbers))}", op, inputs, [y])


def _transpose(shape: Sequence[int], order: Sequence[int], dtype: DType) -> Case:
    return _case("TRANSPOSE", shape, [shape[axis] for axis in order], order, dtype)


def _reverse(shape: Sequence[int], axes: Sequence[int], dtype: DType) -> Case:
    return _case("REVERSE_V2", shape, shape, axes, dtype)


OPS = [Transpose(), Reverse()]
