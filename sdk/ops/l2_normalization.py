"""L2_NORMALIZATION over the last dimension."""

from __future__ import annotations

from collections.abc import Iterator

from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops import unary_f32
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

ARGS = Struct("ml_l2_normalization_args", (*fields("I", "rows", "depth", "shift_before"), *fields("i", "input_offset")))


def _kernel(number: int, dtype: DType) -> Kernel:
    name = f"l2_normalization_{dtype.suffix}"
    return Kernel(name, number, "l2_normalization.c", ARGS, (read("input", dtype), write("output", dtype)))


L2_S8 = _kernel(99, DType.INT8)
L2_F32 = _kernel(100, DType.FLOAT32)


class L2Normalization(Op):
    names = ("L2_NORMALIZATION",)
    kernels = (L2_S8, L2_F32)
    types = ("int8", "uint8", "float32")
    bound = Bound(0.0, 2.5e-7, "a sum in the oracle's order, a root and a quotient")

    def check(self, view: View) -> None:
        unary_f32.check_like(view, (DType.INT8, DType.UINT8, DType.FLOAT32))
        x, y = view.input(0), view.output()
        view.need(len(x.shape) > 0 and x.elements > 0, f"its input {x.label} is empty or a scalar")
        view.need(view.option("fused_activation_function") == 0, "it has a fused activation")
        if x.dtype is not DType.FLOAT32:
            fits = (y.scale, y.zero_point) == (1 / 128, 128 if x.dtype is DType.UINT8 else 0)
            view.need(fits, f"its output has the scale {y.scale} and zero point {y.zero_point}")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        args = {
            "rows": x.elements // x.shape[-1],
            "depth": x.shape[-1],
            # The kernel of uint8 models multiplies by 128 before it divides, the other one afterwards.
            "shift_before": 7 if view.option("legacy_uint8") else 0,
            "input_offset": 0 if x.dtype is DType.FLOAT32 else -x.zero_point,
        }
        kernel = L2_F32 if x.dtype is DType.FLOAT32 else L2_S8
        low.step(kernel, args, [low.value(x), low.value(y)], in_place=[(0, 1)])

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.UINT8, DType.FLOAT32):
            for shape in ((1, 10), (3, 7), (4, 1), (2, 2, 3, 5), (2, 300)):
                for zero in (-128, 3) if dtype is not DType.FLOAT32 else (0,):
                    g = CaseGraph()
                    quantized = dtype is not DType.FLOAT32
                    middle = 128 if dtype is DType.UINT8 else 0
                    x = g.input(shape, dtype, 0.1 if quantized else None, middle + zero)
                    y = g.output(shape, dtype, 1 / 128 if quantized else None, middle)
                    options = {"fused_activation_function": 0}
                    name = f"{dtype.suffix}-{list(shape)}-{zero}".replace(" ", "")
                    yield g.case(name, "L2_NORMALIZATION", [x], [y], options)


OPS = [L2Normalization()]
