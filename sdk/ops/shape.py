"""SHAPE, RANK, BROADCAST_ARGS, RANGE: numbers that are known before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType
from sdk.ops.base import Case, CaseGraph, View
from sdk.ops.movement import Move, Movement, integers


class Shape(Movement):
    names = ("SHAPE", "RANK")
    moved = ()

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        view.need(y[0].dtype in (np.int32, np.int64), f"its output is {y[0].dtype}")
        numbers = x[0].shape if view.node.op == "SHAPE" else x[0].ndim
        yield y[0], np.array(numbers, y[0].dtype)

    def cases(self) -> Iterator[Case]:
        for shape in ((2, 3, 4), (5,), (1, 1, 1, 7)):
            for dtype, number in ((DType.INT32, 2), (DType.INT64, 4)):
                g = CaseGraph()
                x, y = g.input(shape, DType.FLOAT32), g.output((len(shape),), dtype)
                yield g.case(f"shape-{dtype.suffix}-{len(shape)}d", "SHAPE", [x], [y], {"out_type": number})
            g = CaseGraph()
            x, y = g.input(shape, DType.FLOAT32), g.output((), DType.INT32)
            yield g.case(f"rank-{len(shape)}d", "RANK", [x], [y])


class BroadcastArgs(Movement):
    """The shape that two shapes broadcast to; both are constants once the graph is folded."""

    names = ("BROADCAST_ARGS",)
    types = ("int32", "int64")
    limits = "shapes that do not depend on the inputs"
    parameters = (0, 1)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        shapes = [tuple(integers(view, i)) for i in (0, 1)]
        yield y[0], np.array(np.broadcast_shapes(*shapes), x[0].dtype)

    def cases(self) -> Iterator[Case]:
        for a, b in (((2, 1), (1, 3)), ((3,), (2, 1)), ((4, 1, 5), (4, 2, 1)), ((2, 3), (2, 3))):
            g = CaseGraph()
            inputs = [g.constant(np.array(each), DType.INT32) for each in (a, b)]
            y = g.output((max(len(a), len(b)),), DType.INT32)
            yield g.case(f"{a}-{b}", "BROADCAST_ARGS", inputs, [y])


class Range(Movement):
    names = ("RANGE",)
    types = ("int32", "int64", "float32")
    limits = "start, limit and delta do not depend on the inputs"
    parameters = (0, 1, 2)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        start, limit, delta = (view.constant(i).reshape(-1)[0] for i in (0, 1, 2))
        dtype = y[0].dtype
        view.need(delta != 0, "its delta is 0")
        count = max(int(np.ceil((limit - start) / delta)), 0)
        view.need(count == y[0].size, f"it makes {count} numbers for an output {list(y[0].shape)}")
        # The reference adds delta again and again, which rounds a float32 each time.
        yield y[0], np.cumsum(np.array([start, *[delta] * (count - 1)], dtype)[:count], dtype=dtype)

    def cases(self) -> Iterator[Case]:
        for whole in ((0, 5, 1), (3, -8, -2), (2, 3, 7)):
            yield _range_case(*whole, DType.INT32)
        for real in ((0.0, 1.0, 0.1), (1.5, -2.0, -0.3)):
            yield _range_case(*real, DType.FLOAT32)


def _range_case(start: float, limit: float, delta: float, dtype: DType) -> Case:
    g = CaseGraph()
    inputs = [g.constant(np.array(each), dtype) for each in (start, limit, delta)]
    numbers = [np.array(each, dtype.numpy) for each in (start, limit, delta)]
    y = g.output((int(np.ceil((numbers[1] - numbers[0]) / numbers[2])),), dtype)
    return g.case(f"{dtype.suffix}-{start}-{limit}-{delta}", "RANGE", inputs, [y])


OPS = [Shape(), BroadcastArgs(), Range()]
