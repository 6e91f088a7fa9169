"""SHAPE and RANK: what a tensor's shape is, which is known before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType
from sdk.ops.base import Case, CaseGraph, View
from sdk.ops.movement import Move, Movement


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


OPS = [Shape()]
