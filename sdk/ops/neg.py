"""NEG: of float32 by a kernel of its own, of int32 as 0 - x."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops import arithmetic, broadcast, unary_f32
from sdk.ops.base import Bound, Case, CaseGraph, Op, View


class Neg(Op):
    names = ("NEG",)
    kernels = (unary_f32.PLAIN, arithmetic.ARITHMETIC_S32)
    types = ("int32", "float32")
    bound = Bound(0.0, 0.0, "no arithmetic")

    def check(self, view: View) -> None:
        unary_f32.check_like(view, (DType.INT32, DType.FLOAT32))
        view.need(view.output().elements > 0, "its output is empty")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        if x.dtype is DType.FLOAT32:
            unary_f32.lower(view, low)
            return
        args = {
            "shape": broadcast.walk(view, y.shape, ((), x.shape)),
            "operation": arithmetic.OPERATIONS.index("SUB"),
            **arithmetic.int32_range(-math.inf, math.inf),
        }
        zero = low.constant(np.zeros(1, np.int32))
        low.step(arithmetic.ARITHMETIC_S32, args, [zero, low.value(x), low.value(y)], in_place=[(1, 2)])

    def cases(self) -> Iterator[Case]:
        yield unary_f32.case("NEG")
        g = CaseGraph()
        x = g.input((3, 7), DType.INT32)
        y = g.output((3, 7), DType.INT32)
        yield g.case("s32", "NEG", [x], [y])


OPS = [Neg()]
