"""SOFTMAX over the last dimension."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from sdk import fixed_point, numerics, tables
from sdk.graph import Array, DType, Tensor
from sdk.lower import Lowering
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

INTEGER_BITS = 5  # of a scaled difference in Q5.26; exp(-32) is nothing
ARGS = Struct("ml_softmax_args", fields("I", "rows", "depth", "entries"))
ARGS_S16 = Struct("ml_softmax_s16_args", (*fields("I", "rows", "depth"), *fields("i", "multiplier", "shift")))
ARGS_F32 = Struct("ml_softmax_f32_args", (*fields("I", "rows", "depth"), *fields("f", "beta")))


def _kernel_s8(name: str, number: int, target: DType) -> Kernel:
    # The table holds exp(-scale * beta * i) in Q0.31 for differences i from the largest value.
    slots = (read("input", DType.INT8), read("table", DType.INT32), write("output", target))
    return Kernel(name, number, "softmax.c", ARGS, slots)


SOFTMAX_S8 = _kernel_s8("softmax_s8", 66, DType.INT8)
SOFTMAX_S8_S16 = _kernel_s8("softmax_s8_s16", 67, DType.INT16)
SOFTMAX_S16 = Kernel(
    "softmax_s16",
    68,
    "softmax.c",
    ARGS_S16,
    (
        read("input", DType.INT16),
        read("exp_table", DType.INT16),
        read("reciprocal_table", DType.INT16),
        write("output", DType.INT16),
    ),
)
SOFTMAX_F32 = Kernel(
    "softmax_f32", 69, "softmax.c", ARGS_F32, (read("input", DType.FLOAT32), write("output", DType.FLOAT32))
)

BYTE_TYPES = (DType.INT8, DType.UINT8)
# (scale, zero point) that TensorFlow Lite asks of the output, by types.
OUTPUTS = {
    (DType.INT8, DType.INT8): (2.0**-8, -128),
    (DType.UINT8, DType.UINT8): (2.0**-8, 0),
    (DType.INT8, DType.INT16): (2.0**-16, -32768),
    (DType.INT16, DType.INT16): (2.0**-15, 0),
}


class Softmax(Op):
    names = ("SOFTMAX",)
    kernels = (SOFTMAX_S8, SOFTMAX_S8_S16, SOFTMAX_S16, SOFTMAX_F32)
    types = ("int8", "uint8", "int16", "int8 to int16", "float32")
    bound = Bound(1e-7, 1e-6, "exp is within 2 ulp of the oracle's, and a sum of them and a division follow")

    def check(self, view: View) -> None:
        x, y = view.input(0), view.output()
        view.need(x.shape == y.shape, f"it makes {list(y.shape)} of {list(x.shape)}")
        view.need(len(x.shape) > 0 and x.elements > 0, f"its input {x.label} is empty or a scalar")
        if (x.dtype, y.dtype) == (DType.FLOAT32, DType.FLOAT32):
            return
        if (x.dtype, y.dtype) not in OUTPUTS:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        beta = view.option("beta")
        view.need(beta * x.scale * 2**26 > 1, f"its scale {x.scale} times its beta {beta} is too small")
        scale, zero_point = OUTPUTS[x.dtype, y.dtype]
        fits = abs(y.scale - scale) <= 0.001 * scale and y.zero_point == zero_point
        view.need(fits, f"its output has the scale {y.scale} and zero point {y.zero_point}, not {scale}, {zero_point}")
        view.need(x.dtype is not DType.INT16 or x.zero_point == 0, "its int16 input has a zero point other than 0")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        beta = float(view.option("beta"))
        shape = {"rows": x.elements // x.shape[-1], "depth": x.shape[-1]}
        if x.dtype is DType.FLOAT32:
            low.step(SOFTMAX_F32, shape | {"beta": beta}, [low.value(x), low.value(y)], in_place=[(0, 1)])
        elif x.dtype is DType.INT16:
            multiplier, shift = numerics.quantize_multiplier(x.scale * beta / (10.0 / 65535.0))
            constants = [low.constant(table) for table in (_exp_table_s16(), _reciprocal_table_s16())]
            values = [low.value(x), *constants, low.value(y)]
            low.step(SOFTMAX_S16, shape | {"multiplier": multiplier, "shift": shift}, values, in_place=[(0, 3)])
        else:
            table = exp_table(x, beta)
            values = [low.value(x), low.constant(table), low.value(y)]
            same = y.dtype is DType.INT8
            kernel = SOFTMAX_S8 if same else SOFTMAX_S8_S16
            low.step(kernel, shape | {"entries": len(table)}, values, in_place=[(0, 2)] if same else [])

    def cases(self) -> Iterator[Case]:
        for shape in ((1, 10), (3, 7), (1, 1), (2, 2, 3, 5), (2, 300)):
            for scale in (0.02, 0.17, 1.5):
                for types in OUTPUTS:
                    yield _case(types, shape, scale / (64 if types[0] is DType.INT16 else 1), 1.0)
                yield _case((DType.FLOAT32, DType.FLOAT32), shape, scale, 1.0)
        for beta in (0.01, 0.5, 3.0, 40.0):
            for types in OUTPUTS:
                yield _case(types, (4, 9), 0.1 / (64 if types[0] is DType.INT16 else 1), beta)
            yield _case((DType.FLOAT32, DType.FLOAT32), (4, 9), 0.1, beta)


def exp_table(x: Tensor, beta: float) -> Array:
    """exp(-scale * beta * i) in Q0.31 for i = 0, 1, ... as long as the device would not take it for nothing.

    Follows CalculateInputRadius (tensorflow/lite/kernels/internal/quantization_util.cc).
    """
    multiplier, shift = scaling(x, beta)
    radius = math.floor(((1 << INTEGER_BITS) - 1) * (1 << (31 - INTEGER_BITS)) / 2.0**shift)
    differences = -np.arange(min(255, radius) + 1, dtype=np.int64)
    scaled = fixed_point.high_mul(fixed_point.wrap32(differences << shift), multiplier)
    return fixed_point.exp_of_negative(scaled, INTEGER_BITS).astype(np.int32)


def scaling(x: Tensor, beta: float) -> tuple[int, int]:
    """(multiplier, shift) from differences of `x` to Q5.26.

    Follows PreprocessSoftmaxScaling (tensorflow/lite/kernels/internal/quantization_util.cc).
    """
    return numerics.quantize_multiplier(min(beta * x.scale * (1 << (31 - INTEGER_BITS)), (1 << 31) - 1.0))


def _exp_table_s16() -> Array:
    """exp(x) for -10 <= x <= 0 in Q0.15."""
    return tables.interpolated(np.exp, np.float32(10) / tables.RANGE, 32767, np.float32(2) / tables.RANGE)


def _reciprocal_table_s16() -> Array:
    """1 / (1 + x) for 0 <= x <= 1 in Q0.15."""
    one = np.float32(1)
    return tables.interpolated(lambda x: one / (one + x), one / tables.RANGE, -32768, np.float32(2) / tables.RANGE)


def _case(types: tuple[DType, DType], shape: tuple[int, ...], scale: float, beta: float) -> Case:
    source, target = types
    g = CaseGraph()
    real = source is DType.FLOAT32
    y_scale, y_zero = OUTPUTS.get(types, (None, 0))
    zero = {DType.INT8: 5, DType.UINT8: 77}.get(source, 0)
    x = g.input(shape, source, None if real else scale, zero)
    y = g.output(shape, target, y_scale, y_zero)
    name = f"{source.suffix}-{target.suffix}-{list(shape)}-{scale}-{beta}".replace(" ", "")
    return g.case(name, "SOFTMAX", [x], [y], {"beta": beta})


OPS = [Softmax()]
