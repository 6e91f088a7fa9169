"""ONE_HOT: a vector for each index, all `off` but for one `on`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.ops.movement import axis_of, number
from sdk.program import Struct, fields

ONE_HOT = Kernel(
    "one_hot",
    139,
    "one_hot.c",
    Struct("ml_one_hot_args", fields("I", "prefix", "depth", "suffix", "run", "index_words")),
    (read("indices", DType.INT32), read("on", DType.INT8), read("off", DType.INT8), write("output", DType.INT8)),
)


class OneHot(Op):
    names = ("ONE_HOT",)
    kernels = (ONE_HOT,)
    types = ("all",)

    def check(self, view: View) -> None:
        indices, on, off, y = view.input(0), view.input(2), view.input(3), view.output()
        view.need(indices.dtype in (DType.INT32, DType.INT64), f"its indices are {indices.dtype.numpy_name}")
        for each in (on, off):
            fits = each.elements == 1 and each.dtype is y.dtype
            view.need(fits, f"its value {each.label} is not one {y.dtype.numpy_name}")
        shape = list(indices.shape)
        axis = axis_of(view, view.option("axis"), len(shape) + 1)
        view.need(axis < len(y.shape), f"its output {list(y.shape)} has no dimension {axis}")
        shape.insert(axis, y.shape[axis] if view.input(1).data is None else number(view, 1))
        view.need(list(y.shape) == shape, f"its output is {list(y.shape)}, not {shape}")

    def lower(self, view: View, low: Lowering) -> None:
        indices, y = view.input(0), view.output()
        self.check(view)
        number(view, 1)
        axis = axis_of(view, view.option("axis"), len(y.shape))
        if y.elements == 0:
            return
        args = {
            "prefix": math.prod(y.shape[:axis]),
            "depth": y.shape[axis],
            "suffix": math.prod(y.shape[axis + 1 :]),
            "run": y.dtype.bytes,
            "index_words": indices.dtype.bytes // 4,
        }
        low.step(ONE_HOT, args, [low.value(tensor) for tensor in (indices, view.input(2), view.input(3), y)])

    def cases(self) -> Iterator[Case]:
        for dtype, axis in itertools.product((DType.FLOAT32, DType.INT8, DType.INT32, DType.BOOL), (-1, 0, 1)):
            yield _case((2, 3), axis, dtype, DType.INT32)
        yield _case((4,), -1, DType.INT64, DType.INT64)
        yield _case((), -1, DType.FLOAT32, DType.INT32)


def _case(shape: Sequence[int], axis: int, dtype: DType, index: DType) -> Case:
    g = CaseGraph()
    scale = 0.5 if dtype is DType.INT8 else None
    depth = g.constant(np.array(4), DType.INT32)
    inputs = [g.input(shape, index), depth, *(g.constant(np.array(n), dtype, scale) for n in (1, 0))]
    after = list(shape)
    after.insert(axis % (len(shape) + 1), 4)
    y = g.output(after, dtype, scale)
    values = [(np.resize(np.array(each), shape).astype(index.numpy),) for each in ((0, 3, 1, 2), (-1, 4, 3, 100))]
    return g.case(f"{dtype.suffix}-{len(shape)}d-axis{axis}", "ONE_HOT", inputs, [y], {"axis": axis}, values)


OPS = [OneHot()]
