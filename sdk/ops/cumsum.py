"""CUMSUM: running sums along one dimension."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from sdk import numerics
from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops import reduce, unary_f32
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

ARGS = Struct(
    "ml_cumsum_args",
    (
        *fields("I", "outer", "depth", "inner", "exclusive", "reverse", "left_shift"),
        *fields("i", "start", "input_offset", "multiplier", "shift", "offset", "low", "high"),
    ),
)


def _kernel(number: int, dtype: DType) -> Kernel:
    slots = (read("input", dtype), write("output", dtype))
    return Kernel(f"cumsum_{dtype.suffix}", number, "cumsum.c", ARGS, slots)


CUMSUM_S8 = _kernel(106, DType.INT8)
CUMSUM_F32 = _kernel(107, DType.FLOAT32)
LEFT_SHIFT = 20


class CumSum(Op):
    names = ("CUMSUM",)
    kernels = (CUMSUM_S8, CUMSUM_F32)
    types = ("int8", "float32")
    bound = Bound(0.0, 0.0, "summed in the oracle's order")

    def check(self, view: View) -> None:
        unary_f32.check_like(view, (DType.INT8, DType.FLOAT32))
        view.need(len(reduce.axes(view)) == 1, "it does not go along one dimension")
        view.need(view.output().elements > 0, "its output is empty")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        (axis,) = reduce.axes(view)
        args: dict[str, Any] = {item.name: 0 for item in ARGS.fields}
        args |= {"outer": math.prod(x.shape[:axis]), "depth": x.shape[axis], "inner": math.prod(x.shape[axis + 1 :])}
        args |= {"exclusive": int(view.option("exclusive")), "reverse": int(view.option("reverse"))}
        if x.dtype is DType.INT8:
            # Follows CalculateOpData (tensorflow/lite/micro/kernels/cumsum.cc), whose sums start from the input's
            # offset rather than from zero.
            multiplier, shift = numerics.quantize_multiplier(2 * x.scale / ((1 << LEFT_SHIFT) * y.scale))
            args |= {
                "left_shift": LEFT_SHIFT - 1,  # half a scale is the common one
                "start": -x.zero_point,
                "input_offset": -x.zero_point,
                "multiplier": multiplier,
                "shift": shift,
                "offset": y.zero_point,
                "low": -128,
                "high": 127,
            }
        kernel = CUMSUM_S8 if x.dtype is DType.INT8 else CUMSUM_F32
        low.step(kernel, args, [low.value(x), low.value(y)], in_place=[(0, 1)])

    def cases(self) -> Iterator[Case]:
        for exclusive, reverse in itertools.product((False, True), repeat=2):
            for dtype, shape, axis in itertools.product(
                (DType.INT8, DType.FLOAT32), ((2, 3, 4), (5, 1, 3)), (0, 1, -1)
            ):
                for zero, ratio in ((0, 1.0), (-20, 3.3)) if dtype is DType.INT8 else ((0, 1.0),):
                    g = CaseGraph()
                    scale = 0.1 if dtype is DType.INT8 else None
                    x = g.input(shape, dtype, scale, zero)
                    along = g.constant(np.array(axis), DType.INT32)
                    y = g.output(shape, dtype, None if scale is None else scale * ratio, -zero)
                    label = f"{list(shape)}-{axis}-{int(exclusive)}{int(reverse)}-{zero}".replace(" ", "")
                    options = {"exclusive": exclusive, "reverse": reverse}
                    yield g.case(f"{dtype.suffix}-{label}", "CUMSUM", [x, along], [y], options)


OPS = [CumSum()]
