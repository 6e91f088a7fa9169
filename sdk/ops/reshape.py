"""RESHAPE, SQUEEZE, EXPAND_DIMS: the same bytes under another shape; a view, which costs no step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops.base import Case, CaseGraph, Op, View


class Reshape(Op):
    names = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
    types = ("all",)

    def check(self, view: View) -> None:
        x, y = view.input(0), view.output()
        view.need(x.elements == y.elements, f"it makes {list(y.shape)} of {list(x.shape)}, another number of elements")
        view.need(x.dtype is y.dtype, f"it makes {y.dtype.numpy_name} of {x.dtype.numpy_name}")

    def lower(self, view: View, low: Lowering) -> None:
        low.alias(view.output(), low.value(view.input(0)))

    def fold(self, view: View, inputs: Sequence[Array]) -> Sequence[Array] | None:
        return [inputs[0]]

    def cases(self) -> Iterator[Case]:
        for dtype, scale in ((DType.INT8, 0.5), (DType.FLOAT32, None)):
            for before, after in (((2, 6), (3, 4)), ((1, 1, 5), (5,)), ((4,), (1, 2, 2, 1))):
                g = CaseGraph()
                x = g.input(before, dtype, scale, 0)
                shape = g.constant(np.array(after), DType.INT32)
                y = g.output(after, dtype, scale, 0)
                yield g.case(f"{dtype.suffix}-{before}-{after}", "RESHAPE", [x, shape], [y], {"new_shape": after})
        g = CaseGraph()
        x = g.input((1, 3, 1), DType.INT8, 0.5, 0)
        y = g.output((3,), DType.INT8, 0.5, 0)
        yield g.case("squeeze", "SQUEEZE", [x], [y], {"squeeze_dims": (0, 2)})
        g = CaseGraph()
        x = g.input((3, 2), DType.INT8, 0.5, 0)
        axis = g.constant(np.array(1), DType.INT32)
        y = g.output((3, 1, 2), DType.INT8, 0.5, 0)
        yield g.case("expand", "EXPAND_DIMS", [x, axis], [y])


OPS = [Reshape()]
