"""LOG_SOFTMAX over the last dimension."""

from __future__ import annotations

from collections.abc import Iterator

from sdk import numerics
from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops import softmax, unary_f32
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

S8_ARGS = Struct(
    "ml_log_softmax_s8_args",
    (
        *fields("I", "rows", "depth", "entries"),
        *fields("i", "multiplier", "shift", "reverse_multiplier", "reverse_shift"),
    ),
)
LOG_SOFTMAX_S8 = Kernel(
    "log_softmax_s8",
    97,
    "log_softmax.c",
    S8_ARGS,
    (read("input", DType.INT8), read("table", DType.INT32), write("output", DType.INT8)),
)
LOG_SOFTMAX_F32 = Kernel(
    "log_softmax_f32",
    98,
    "log_softmax.c",
    Struct("ml_log_softmax_f32_args", fields("I", "rows", "depth")),
    (read("input", DType.FLOAT32), write("output", DType.FLOAT32)),
)
OUTPUT_SCALE = 1.0 / 16.0


class LogSoftmax(Op):
    names = ("LOG_SOFTMAX",)
    kernels = (LOG_SOFTMAX_S8, LOG_SOFTMAX_F32)
    types = ("int8", "float32")
    bound = Bound(2e-6, 4e-7, "a sum of exponentials within 1.1 ulp, its logarithm, and two subtractions")

    def check(self, view: View) -> None:
        unary_f32.check_like(view, (DType.INT8, DType.FLOAT32))
        x, y = view.input(0), view.output()
        view.need(len(x.shape) > 0 and x.elements > 0, f"its input {x.label} is empty or a scalar")
        if x.dtype is DType.INT8:
            fits = (y.scale, y.zero_point) == (OUTPUT_SCALE, 127)
            view.need(fits, f"its output has the scale {y.scale} and zero point {y.zero_point}, not 1/16 and 127")
            view.need(x.scale * 2**26 > 1, f"its scale {x.scale} is too small")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        shape = {"rows": x.elements // x.shape[-1], "depth": x.shape[-1]}
        if x.dtype is DType.FLOAT32:
            low.step(LOG_SOFTMAX_F32, shape, [low.value(x), low.value(y)], in_place=[(0, 1)])
            return
        table = softmax.exp_table(x, 1.0)
        multiplier, shift = softmax.scaling(x, 1.0)
        # Follows PreprocessLogSoftmaxScalingExp (tensorflow/lite/kernels/internal/quantization_util.cc).
        reverse_multiplier, reverse_shift = numerics.quantize_multiplier((1 << (31 - shift)) / multiplier)
        args = shape | {
            "entries": len(table),
            "multiplier": multiplier,
            "shift": shift,
            "reverse_multiplier": reverse_multiplier,
            "reverse_shift": reverse_shift,
        }
        low.step(LOG_SOFTMAX_S8, args, [low.value(x), low.constant(table), low.value(y)], in_place=[(0, 2)])

    def cases(self) -> Iterator[Case]:
        for shape in ((1, 10), (3, 7), (1, 1), (2, 2, 3, 5), (2, 300)):
            for scale in (0.001, 0.02, 0.17, 1.5):
                g = CaseGraph()
                x = g.input(shape, DType.INT8, scale, 5)
                y = g.output(shape, DType.INT8, OUTPUT_SCALE, 127)
                yield g.case(f"s8-{list(shape)}-{scale}".replace(" ", ""), "LOG_SOFTMAX", [x], [y])
            g = CaseGraph()
            x = g.input(shape, DType.FLOAT32)
            y = g.output(shape, DType.FLOAT32)
            yield g.case(f"f32-{list(shape)}".replace(" ", ""), "LOG_SOFTMAX", [x], [y])


OPS = [LogSoftmax()]
