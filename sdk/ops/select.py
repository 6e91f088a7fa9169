"""SELECT and SELECT_V2: each element from one of two inputs, as a condition says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sdk.graph import DType, Tensor
from sdk.lower import Lowering
from sdk.ops import broadcast
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

# The kernel checks the alignment of its operands itself.
SELECT = Kernel(
    "select",
    84,
    "select.c",
    Struct("ml_select_args", (broadcast.walk_field(3), *fields("I", "bytes"))),
    (read("condition", DType.BOOL), read("a", DType.UINT8), read("b", DType.UINT8), write("output", DType.UINT8)),
)


class Select(Op):
    names = ("SELECT_V2", "SELECT")
    kernels = (SELECT,)
    types = ("all",)

    def check(self, view: View) -> None:
        condition, a, b, y = view.input(0), view.input(1), view.input(2), view.output()
        view.need(condition.dtype is DType.BOOL, f"its condition is {condition.dtype.numpy_name}, not bool")
        view.need(a.dtype is b.dtype is y.dtype, f"it makes {view.dtypes()}")
        if view.node.op == "SELECT":
            view.need(a.shape == b.shape == y.shape, "its inputs and its output have different shapes")
            rows = condition.shape == a.shape[:1] or condition.elements == 1
            view.need(rows or condition.shape == a.shape, f"its condition has the shape {list(condition.shape)}")
        else:
            broadcast.check(view, (condition, a, b))
        view.need(y.elements > 0, "its output is empty")
        if a.dtype in (DType.INT8, DType.UINT8, DType.INT16) and a.quantization is not None:
            same = view.same_quantization(a, b) and view.same_quantization(a, y)
            view.need(same, "its inputs and its output have different scales or zero points")

    def lower(self, view: View, low: Lowering) -> None:
        inputs = [view.input(i) for i in range(3)]
        y = view.output()
        shapes = [_condition_shape(view, inputs[0]), inputs[1].shape, inputs[2].shape]
        args = {"shape": broadcast.walk(view, y.shape, shapes), "bytes": y.dtype.bytes}
        in_place = [(i, 3) for i in (1, 2) if inputs[i].shape == y.shape]
        low.step(SELECT, args, [low.value(x) for x in (*inputs, y)], in_place=in_place)

    def cases(self) -> Iterator[Case]:
        f32, s8, s16, u8, s32, s64 = (
            DType.FLOAT32,
            DType.INT8,
            DType.INT16,
            DType.UINT8,
            DType.INT32,
            DType.INT64,
        )
        for dtype in (f32, s8, s16, u8, s32, s64):
            for shapes in (
                ((2, 3, 4), (2, 3, 4), (2, 3, 4)),
                ((1,), (3, 5), (3, 5)),
                ((3, 1), (1, 5), (3, 5)),
                ((2, 1, 3, 1), (4, 1, 5), (1,)),
            ):
                yield _case("SELECT_V2", dtype, *shapes)
            for condition in ((3, 5), (3,), ()):
                yield _case("SELECT", dtype, condition, (3, 5), (3, 5))


def _condition_shape(view: View, condition: Tensor) -> tuple[int, ...]:
    """The condition's shape for broadcasting: that of a SELECT with a vector chooses among the outermost dimension."""
    if view.node.op == "SELECT" and condition.shape == view.output().shape[:1]:
        return (*condition.shape, *(1 for _ in view.output().shape[1:]))
    return condition.shape


def _case(op: str, dtype: DType, condition: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> Case:
    g = CaseGraph()
    scale = 0.5 if dtype in (DType.INT8, DType.UINT8, DType.INT16) else None
    chosen = g.input(condition, DType.BOOL)
    inputs = [g.input(shape, dtype, scale) for shape in (a, b)]
    shape = broadcast.broadcast(condition if op == "SELECT_V2" else (), a, b)
    assert shape is not None
    y = g.output(shape, dtype, scale)
    rng = np.random.default_rng(5)
    values = [
        (
            rng.integers(0, 2, condition).astype(np.bool_),
            *(rng.integers(0, 100, each).astype(dtype.numpy) for each in (a, b)),
        )
        for _ in range(3)
    ]
    name = f"{op}_{dtype.suffix}-{list(condition)}-{list(a)}-{list(b)}".replace(" ", "")
    return g.case(name, op, [chosen, *inputs], [y], values=values)


OPS = [Select()]
