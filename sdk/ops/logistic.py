"""LOGISTIC and TANH."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from sdk import fixed_point, numerics
from sdk.fixed_point import Int64
from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops import lut, unary_f32
from sdk.ops.base import Bound, Case, Kernel, View, read, write
from sdk.ops.unary import QUANTIZED, Unary, case, in_f32
from sdk.program import Struct, fields

LOGISTIC_S16 = Kernel(
    "logistic_s16",
    93,
    "unary_s16.c",
    Struct("ml_logistic_s16_args", (*fields("I", "count", "tanh", "right_shift"), *fields("i", "multiplier"))),
    (read("input", DType.INT16), read("table", DType.UINT16), write("output", DType.INT16)),
)


class Sigmoid(Unary):
    """LOGISTIC and TANH: int8 through Q4.27, uint8 through float32, int16 through the table that LSTM cells use too."""

    names = ("LOGISTIC", "TANH")
    kernels = (lut.LUT_B8, LOGISTIC_S16, unary_f32.EXPONENTIAL)
    types = ("int8", "uint8", "int16", "float32")
    dtypes = (*QUANTIZED, DType.FLOAT32)
    bound = Bound(2e-7, 4e-7, "within 2 ulp, as the oracle's are within 1")

    def check(self, view: View) -> None:
        super().check(view)
        x, y = view.input(0), view.output()
        if x.dtype is DType.FLOAT32:
            return
        scale, zero_point = _sigmoid_output(view.node.op, x.dtype)
        fits = abs(y.scale - scale) <= 0.001 * scale and y.zero_point == zero_point
        view.need(fits, f"its output has the scale {y.scale} and zero point {y.zero_point}, not {scale}, {zero_point}")
        view.need(x.dtype is not DType.INT16 or x.zero_point == 0, "its int16 input has a zero point other than 0")

    def stored(self, view: View, x: Int64) -> Int64:
        """Follows reference_integer_ops::Logistic and Tanh (kernels/internal/reference/integer_ops)."""
        if view.option("legacy_uint8"):
            return in_f32(view.input(0), view.output(), x, _logistic if view.node.op == "LOGISTIC" else np.tanh)
        integer_bits = 4
        multiplier, shift = numerics.quantize_multiplier(view.input(0).scale * (1 << (31 - integer_bits)))
        radius = math.floor(((1 << integer_bits) - 1) * (1 << (31 - integer_bits)) / 2.0**shift)
        inside = np.where(np.abs(x) < radius, x, 0)
        scaled = fixed_point.requantize(inside, multiplier, shift)
        if view.node.op == "LOGISTIC":
            result = fixed_point.round_shift(fixed_point.logistic(scaled, integer_bits), 31 - 8) - 128
        else:
            result = fixed_point.round_shift(fixed_point.tanh(scaled, integer_bits), 31 - 7)
        return np.where(x <= -radius, -128, np.where(x >= radius, 127, result))

    def lower_s16(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        multiplier, right = _sigmoid_multiplier(x.scale, view.node.op == "TANH")
        args = {
            "count": x.elements,
            "tanh": int(view.node.op == "TANH"),
            "right_shift": right,
            "multiplier": multiplier,
        }
        values = [low.value(x), low.constant(numerics.sigmoid_table()), low.value(y)]
        low.step(LOGISTIC_S16, args, values, in_place=[(0, 2)])

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            for dtype in QUANTIZED:
                for scale in (1e-4, 0.01, 0.047, 0.125, 1.0):
                    scale = scale / 256 if dtype is DType.INT16 else scale
                    yield case(op, dtype, scale, 7, *_sigmoid_output(op, dtype))
            for exponent in (-11, -12, -13):
                yield case(op, DType.INT16, 2.0**exponent, 0, *_sigmoid_output(op, DType.INT16))
            yield unary_f32.case(op)


def _logistic(x: Any) -> Any:
    """As the oracle of uint8 models computes it, in float32."""
    one = np.float32(1)
    return one / (one + np.exp(-x).astype(np.float32))


def _sigmoid_output(op: str, dtype: DType) -> tuple[float, int]:
    """(scale, zero point) that TensorFlow Lite asks of the output."""
    if dtype is DType.INT16:
        return 2.0**-15, 0
    middle = 128 if dtype is DType.UINT8 else 0
    return (2.0**-8, middle - 128) if op == "LOGISTIC" else (2.0**-7, middle)


def _sigmoid_multiplier(scale: float, tanh: bool) -> tuple[int, int]:
    """(multiplier, right shift) that bring int16 at `scale` to the table's.

    Follows CalculateArithmeticOpDataLogistic (tensorflow/lite/micro/kernels/logistic_common.cc) and its like for TANH.
    """
    mantissa, exponent = math.frexp(scale)
    left = 12 + exponent - 1
    if mantissa == 0.5 and left in ((0, 1) if tanh else (0,)):
        return 3 << left, 0
    real = scale * 4096.0 * 3.0
    right = 0
    while real <= 32767.0 / 2.0 and right <= 30:
        right += 1
        real *= 2.0
    return int(real), right


OPS = [Sigmoid()]
