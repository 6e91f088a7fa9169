"""ADD_N: the sum of any number of arrays of one shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sdk import numerics
from sdk.graph import DType
from sdk.lower import ABSENT, Lowering
from sdk.ops import arithmetic, broadcast
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

MOST = 7  # inputs of the int8 kernel
LEFT_SHIFT = 20
ADD_N_S8 = Kernel(
    "add_n_s8",
    85,
    "arithmetic.c",
    Struct(
        "ml_add_n_args",
        (*fields("I", "count", "left_shift"), *fields("i", "start", "multiplier", "shift", "offset", "low", "high")),
    ),
    (*(read(f"input{i}", DType.INT8, optional=i > 0) for i in range(MOST)), write("output", DType.INT8)),
)


class AddN(Op):
    names = ("ADD_N",)
    kernels = (ADD_N_S8, arithmetic.ARITHMETIC_F32, arithmetic.ARITHMETIC_S32)
    types = ("int8", "int32", "float32")
    limits = f"at most {MOST} inputs of int8"
    bound = Bound(0.0, 0.0, "summed in the oracle's order")

    def check(self, view: View) -> None:
        first, y = view.input(0), view.output()
        view.need(len(view.node.inputs) >= 2, "it has fewer than 2 inputs")
        for i in range(len(view.node.inputs)):
            x = view.input(i)
            view.need(x.shape == y.shape and x.dtype is y.dtype, f"its input {x.label} is not like its output")
            same = x.dtype is not DType.INT8 or view.same_quantization(x, first)
            view.need(same, f"its input {x.label} has another scale or zero point than its first")
        if y.dtype not in (DType.INT8, DType.INT32, DType.FLOAT32):
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        if y.dtype is DType.INT8 and len(view.node.inputs) > MOST:
            raise view.unsupported(f"has {len(view.node.inputs)} inputs; at most {MOST} are possible")
        if y.dtype is DType.INT8:
            _ = first.scale, y.scale

    def lower(self, view: View, low: Lowering) -> None:
        inputs, y = view.inputs, view.output()
        if y.dtype is DType.INT8:
            self._lower_s8(view, low)
            return
        shape = broadcast.walk(view, y.shape, (y.shape, y.shape))
        kernel, limits = arithmetic.ARITHMETIC_F32, {"low": -math.inf, "high": math.inf}
        if y.dtype is DType.INT32:
            kernel, limits = arithmetic.ARITHMETIC_S32, {**arithmetic.int32_range(-math.inf, math.inf)}
        args = {"shape": shape, "operation": arithmetic.OPERATIONS.index("ADD"), **limits}
        sum_so_far = low.value(inputs[0])
        for i, x in enumerate(inputs[1:]):
            in_place = [(0, 2), (1, 2)] if i == 0 else []
            low.step(kernel, args, [sum_so_far, low.value(x), low.value(y)], in_place=in_place)
            sum_so_far = low.value(y)

    def _lower_s8(self, view: View, low: Lowering) -> None:
        """Follows CalculateOpData (tensorflow/lite/micro/kernels/add_n.cc)."""
        inputs, y = view.inputs, view.output()
        x = inputs[0]
        multiplier, shift = numerics.quantize_multiplier(2 * x.scale / ((1 << LEFT_SHIFT) * y.scale))
        args = {
            "count": y.elements,
            "left_shift": LEFT_SHIFT - 1,  # half a scale is the common one
            # The oracle starts from the offset itself, not from zero.
            "start": -x.zero_point * (len(inputs) + 1),
            "multiplier": multiplier,
            "shift": shift,
            "offset": y.zero_point,
            "low": -128,
            "high": 127,
        }
        values = [low.value(each) for each in inputs] + [ABSENT] * (MOST - len(inputs))
        in_place = [(i, MOST) for i in range(len(inputs))]
        low.step(ADD_N_S8, args, [*values, low.value(y)], in_place=in_place)

    def cases(self) -> Iterator[Case]:
        for count in (2, 3, 5):
            for dtype in (DType.FLOAT32, DType.INT32):
                yield _case(dtype, count, 1.0, 0, 0)
            for zero, ratio in ((0, 1.0), (-7, 3.0), (100, 0.1)):
                yield _case(DType.INT8, count, ratio, zero, -zero)


def _case(dtype: DType, count: int, ratio: float, x_zero: int, y_zero: int) -> Case:
    g = CaseGraph()
    scale = 0.05 if dtype is DType.INT8 else None
    inputs = [g.input((3, 7), dtype, scale, x_zero) for _ in range(count)]
    y = g.output((3, 7), dtype, None if scale is None else scale * ratio, y_zero)
    return g.case(f"{dtype.suffix}-{count}-{ratio}-{x_zero}", "ADD_N", inputs, [y])


OPS = [AddN()]
