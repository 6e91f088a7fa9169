"""Functions of one element that exist for quantized types too: activations, ABS, EXP, RSQRT.

Those of 8-bit types are tables of 256 results, made here by TensorFlow Lite's own arithmetic for each function.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from sdk import fixed_point, numerics, tables
from sdk.fixed_point import Int64
from sdk.graph import ZERO_POINT_RANGE, DType, Tensor
from sdk.lower import Lowering
from sdk.ops import lut, unary_f32
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

LINES_S16 = Kernel(
    "lines_s16",
    92,
    "unary_s16.c",
    Struct(
        "ml_lines_s16_args",
        (
            *fields("I", "count"),
            *fields("i", "input_offset", "multiplier", "shift", "multiplier_below", "shift_below"),
            *fields("i", "sign_before", "sign_after"),  # of values below zero: before and after they are scaled
            *fields("i", "offset", "low", "high"),
        ),
    ),
    (read("input", DType.INT16), write("output", DType.INT16)),
)

TABLE_S16 = Kernel(
    "table_s16",
    102,
    "unary_s16.c",
    Struct("ml_table_s16_args", fields("I", "count")),
    (read("input", DType.INT16), read("table", DType.INT16), write("output", DType.INT16)),
)

BYTES = (DType.INT8, DType.UINT8)
QUANTIZED = (*BYTES, DType.INT16)


class Unary(Op):
    """An operator of one input. Subclasses define `stored` for 8-bit types, and steps for the others."""

    types: ClassVar[tuple[str, ...]] = ("int8", "uint8", "float32")
    dtypes: ClassVar[tuple[DType, ...]] = (*BYTES, DType.FLOAT32)

    def check(self, view: View) -> None:
        unary_f32.check_like(view, self.dtypes)

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        if x.dtype is DType.FLOAT32:
            self.lower_f32(view, low)
        elif x.dtype is DType.INT16:
            self.lower_s16(view, low)
        else:
            unclamped = self.stored(view, lut.values_of(x.dtype).astype(np.int64) - x.zero_point)
            lut.by_table(low, x, y, np.clip(unclamped, *ZERO_POINT_RANGE[y.dtype]))

    def lower_f32(self, view: View, low: Lowering) -> None:
        unary_f32.lower(view, low)

    def lower_s16(self, view: View, low: Lowering) -> None:
        raise NotImplementedError

    def stored(self, view: View, x: Int64) -> Int64:
        """The stored results, before they are clamped, for stored values less the zero point."""
        raise NotImplementedError


def _scaled(x: Int64, real: float) -> Int64:
    return fixed_point.requantize(x, *numerics.quantize_multiplier(real))


def in_f32(x: Tensor, y: Tensor, values: Int64, function: Any) -> Int64:
    """Stored results of a real function. Follows LUTPopulateInt8 (tensorflow/lite/kernels/internal/common.h)."""
    f32 = np.float32
    real = f32(x.scale) * values.astype(f32)
    with np.errstate(over="ignore"):  # infinity is what the oracle gets, too
        exact = np.asarray(function(real.astype(np.float64))).astype(f32)
        scaled = (exact * (f32(1) / f32(y.scale))).astype(np.float64)
    rounded = np.trunc(scaled + np.copysign(0.5, scaled)).astype(f32) + f32(y.zero_point)
    # Beyond int32, where the oracle's conversion is not defined, the largest result is.
    return fixed_point.wide(np.clip(rounded.astype(np.float64), fixed_point.INT32_MIN, fixed_point.INT32_MAX))


class Relu(Unary):
    """RELU, RELU6, RELU_N1_TO_1: what is clamped is the result at the output's scale."""

    names = ("RELU", "RELU6", "RELU_N1_TO_1")
    kernels = (lut.LUT_B8, LINES_S16, unary_f32.RELU)
    types = ("int8", "uint8", "int16", "float32")
    dtypes = (*QUANTIZED, DType.FLOAT32)
    bound = Bound(0.0, 0.0, "no arithmetic")
    activations: ClassVar[dict[str, int]] = {
        "RELU": numerics.RELU,
        "RELU6": numerics.RELU6,
        "RELU_N1_TO_1": numerics.RELU_N1_TO_1,
    }

    def lower_f32(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        least, most = numerics.float_activation_range(self.activations[view.node.op])
        args = {"count": x.elements, "slope": 1.0, "low": least, "high": most}
        low.step(unary_f32.RELU, args, [low.value(x), low.value(y)], in_place=[(0, 1)])

    def stored(self, view: View, x: Int64) -> Int64:
        """Follows ReluPrepare and QuantizedReluX (tensorflow/lite/kernels/activations.cc)."""
        y = view.output()
        least, most = numerics.activation_range(self.activations[view.node.op], y)
        return fixed_point.wide(np.clip(_scaled(x, view.input(0).scale / y.scale) + y.zero_point, least, most))

    def lower_s16(self, view: View, low: Lowering) -> None:
        least, most = numerics.activation_range(self.activations[view.node.op], view.output())
        real = view.input(0).scale / view.output().scale
        _lines_s16(view, low, real, real, low=least, high=most)

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            for dtype in (*QUANTIZED, DType.FLOAT32):
                if dtype is DType.FLOAT32:
                    yield unary_f32.case(op)
                    continue
                if op == "RELU_N1_TO_1" and dtype is DType.INT16:
                    continue  # no oracle has it
                fine = 256 if dtype is DType.INT16 else 1
                yield case(op, dtype, 0.05 / fine, 9, 0.05 / fine, 9)
                if op == "RELU6" and dtype is not DType.UINT8:
                    continue  # tflite-micro leaves the scale as it is
                yield case(op, dtype, 0.05 / fine, 9, 0.023 / fine, -128)
                yield case(op, dtype, 0.01 / fine, -20, 0.8 / fine, 3)


def _lines_s16(view: View, lowering: Lowering, above: float, below: float, **given: int) -> None:
    """Adds the step that scales values above and below zero by two factors; a negative one flips signs afterwards."""
    x, y = view.input(0), view.output()
    multiplier, shift = numerics.quantize_multiplier(above)
    multiplier_below, shift_below = numerics.quantize_multiplier(abs(below))
    args = {
        "count": x.elements,
        "input_offset": -x.zero_point,
        "multiplier": multiplier,
        "shift": shift,
        "multiplier_below": multiplier_below,
        "shift_below": shift_below,
        "sign_before": 1,
        "sign_after": -1 if below < 0 else 1,
        "offset": y.zero_point,
        "low": -32768,
        "high": 32767,
    }
    lowering.step(LINES_S16, args | given, [lowering.value(x), lowering.value(y)], in_place=[(0, 1)])


class LeakyRelu(Unary):
    names = ("LEAKY_RELU",)
    kernels = (lut.LUT_B8, LINES_S16, unary_f32.RELU)
    types = ("int8", "uint8", "int16", "float32")
    dtypes = (*QUANTIZED, DType.FLOAT32)
    bound = Bound(0.0, 0.0, "one multiplication")

    def lower_f32(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        args = {"count": x.elements, "slope": view.option("alpha"), "low": -math.inf, "high": math.inf}
        low.step(unary_f32.RELU, args, [low.value(x), low.value(y)], in_place=[(0, 1)])

    def stored(self, view: View, x: Int64) -> Int64:
        """Follows QuantizeLeakyRelu (tensorflow/lite/kernels/internal/reference/leaky_relu.h)."""
        y = view.output()
        above, below = self._factors(view)
        scaled_below = _scaled(x, abs(below)) * (-1 if below < 0 else 1)
        return np.where(x >= 0, _scaled(x, above), scaled_below) + y.zero_point

    def lower_s16(self, view: View, low: Lowering) -> None:
        _lines_s16(view, low, *self._factors(view))

    @staticmethod
    def _factors(view: View) -> tuple[float, float]:
        x, y = view.input(0), view.output()
        return x.scale / y.scale, x.scale * float(view.option("alpha")) / y.scale

    def cases(self) -> Iterator[Case]:
        for dtype in QUANTIZED:
            fine = 256 if dtype is DType.INT16 else 1
            for alpha in (0.1, 0.0, 1.7, -0.3):
                yield case("LEAKY_RELU", dtype, 0.05 / fine, 9, 0.023 / fine, -6, {"alpha": alpha})
        for alpha in (0.1, -0.3):
            yield unary_f32.case("LEAKY_RELU", options={"alpha": alpha})


class Elu(Unary):
    names = ("ELU",)
    kernels = (lut.LUT_B8, unary_f32.EXPONENTIAL)
    types = ("int8", "float32")
    dtypes = (DType.INT8, DType.FLOAT32)
    bound = Bound(2e-7, 4e-7, "an exponential within 1.1 ulp, less 1")

    def stored(self, view: View, x: Int64) -> Int64:
        one = np.float32(1)

        def elu(values: Any) -> Any:
            # The oracle subtracts in float32.
            return np.where(values < 0, np.exp(values).astype(np.float32) - one, values)

        return in_f32(view.input(0), view.output(), x, elu)

    def cases(self) -> Iterator[Case]:
        for x_scale, y_scale in ((0.05, 0.05), (0.01, 0.02), (0.5, 0.1)):
            yield case("ELU", DType.INT8, x_scale, 3, y_scale, -60)
        yield unary_f32.case("ELU")


class Exp(Unary):
    names = ("EXP",)
    kernels = (lut.LUT_B8, TABLE_S16, unary_f32.EXPONENTIAL)
    types = ("int8", "int16", "float32")
    dtypes = (DType.INT8, DType.INT16, DType.FLOAT32)
    bound = Bound(0.0, 4e-7, "within 1.1 ulp, as the oracle's is within 1")

    def stored(self, view: View, x: Int64) -> Int64:
        return in_f32(view.input(0), view.output(), x, np.exp)

    def lower_s16(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        scales = [np.float32(tensor.scale) for tensor in (x, y)]
        table = tables.interpolated(np.exp, scales[0], x.zero_point, scales[1], y.zero_point)
        low.step(TABLE_S16, {"count": x.elements}, [low.value(x), low.constant(table), low.value(y)], in_place=[(0, 2)])

    def cases(self) -> Iterator[Case]:
        for x_scale, y_scale in ((0.05, 0.05), (0.01, 0.02), (0.03, 1.0)):
            for dtype in (DType.INT8, DType.INT16):
                fine = 256 if dtype is DType.INT16 else 1
                yield case("EXP", dtype, x_scale / fine, 3, y_scale / fine, -60)
        yield unary_f32.case("EXP")
        yield unary_f32.case("EXP", 30.0)


class Abs(Unary):
    names = ("ABS",)
    kernels = (lut.LUT_B8, LINES_S16, unary_f32.PLAIN)
    types = ("int8", "int16", "float32")
    dtypes = (DType.INT8, DType.INT16, DType.FLOAT32)
    bound = Bound(0.0, 0.0, "no arithmetic")

    def stored(self, view: View, x: Int64) -> Int64:
        y = view.output()
        return _scaled(np.abs(x), view.input(0).scale / y.scale) + y.zero_point

    def lower_s16(self, view: View, low: Lowering) -> None:
        real = view.input(0).scale / view.output().scale
        _lines_s16(view, low, real, real, sign_before=-1)

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.INT16):
            fine = 256 if dtype is DType.INT16 else 1
            for x_scale, y_scale in ((0.05, 0.05), (0.05, 0.023), (0.01, 0.8)):
                yield case("ABS", dtype, x_scale / fine, 9, y_scale / fine, -100)
        yield unary_f32.case("ABS")


class Rsqrt(Unary):
    names = ("RSQRT",)
    kernels = (lut.LUT_B8, unary_f32.ROOT)
    types = ("int8", "float32")
    dtypes = (DType.INT8, DType.FLOAT32)
    limits = "quantized values below the zero point, which TensorFlow Lite stops at, give the largest result"
    bound = Bound(0.0, 0.0, "a root and a quotient, rounded as IEEE 754 asks")

    def stored(self, view: View, x: Int64) -> Int64:
        """Follows RsqrtEvalQuantized (tensorflow/lite/kernels/elementwise.cc)."""
        y = view.output()
        bits = 20  # that keep the reciprocal an integer
        f32 = np.float32
        root = float(np.sqrt(f32(view.input(0).scale)) * f32(y.scale))
        multiplier, shift = numerics.quantize_multiplier(1.0 / root)

        def one(value: int) -> int:
            if value <= 0:
                return 127
            inverse, inverse_shift = fixed_point.inverse_root(value)
            data = fixed_point.requantize(1, inverse, inverse_shift + bits)
            return int(fixed_point.requantize(data, multiplier, shift - bits)) + y.zero_point

        return np.array([one(int(value)) for value in x], np.int64)

    def cases(self) -> Iterator[Case]:
        for x_scale, y_scale in ((0.05, 0.05), (0.01, 0.03), (0.5, 0.01)):
            yield case("RSQRT", DType.INT8, x_scale, -128, y_scale, -100)
        yield unary_f32.case("RSQRT", positive=True)


def case(
    op: str,
    dtype: DType,
    x_scale: float,
    x_zero: int,
    y_scale: float,
    y_zero: int,
    options: dict[str, Any] | None = None,
) -> Case:
    """A case that takes an 8-bit type through all its values, and int16 through a part of them.

    Zero points are those of int8; the output's of LOGISTIC and TANH is given as it is.
    """
    if dtype is DType.INT16:
        x_zero = y_zero = 0
    if dtype is DType.UINT8:
        x_zero, y_zero = x_zero + 128, y_zero if op in ("LOGISTIC", "TANH") else y_zero + 128
    g = CaseGraph()
    values = lut.values_of(dtype) if dtype in BYTES else np.arange(-32768, 32768, 29).astype(np.int16)[:2256]
    shape = (16, len(values) // 16)
    x = g.input(shape, dtype, x_scale, x_zero)
    y = g.output(shape, dtype, y_scale, y_zero)
    label = "-".join(str(part) for part in (x_scale, x_zero, y_scale, y_zero, *(options or {}).values()))
    return g.case(f"{op}_{dtype.suffix}-{label}", op, [x], [y], options, [(values.reshape(shape),)])


OPS: list[Op] = [Relu(), LeakyRelu(), Elu(), Exp(), Abs(), Rsqrt()]
