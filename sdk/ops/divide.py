"""DIV, FLOOR_DIV and FLOOR_MOD of arrays that are broadcast to one shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sdk import numerics
from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops import arithmetic, broadcast
from sdk.ops.base import Bound, Case, Kernel, Op, View, read, write
from sdk.program import Struct, fields

OPERATIONS = ("DIV", "FLOOR_DIV", "FLOOR_MOD")

F32_ARGS = Struct(
    "ml_divide_f32_args", (broadcast.walk_field(2), *fields("I", "operation"), *fields("f", "low", "high"))
)
S32_ARGS = Struct(
    "ml_divide_s32_args", (broadcast.walk_field(2), *fields("I", "operation"), *fields("i", "low", "high"))
)
S8_ARGS = Struct(
    "ml_div_s8_args",
    (broadcast.walk_field(2), *fields("i", "offset_a", "offset_b", "multiplier", "shift", "offset", "low", "high")),
)


def _kernel(name: str, number: int, args: Struct, dtype: DType) -> Kernel:
    return Kernel(name, number, "divide.c", args, (read("a", dtype), read("b", dtype), write("output", dtype)))


DIVIDE_F32 = _kernel("divide_f32", 78, F32_ARGS, DType.FLOAT32)
DIVIDE_S32 = _kernel("divide_s32", 79, S32_ARGS, DType.INT32)
DIV_S8 = _kernel("div_s8", 80, S8_ARGS, DType.INT8)


class Divide(Op):
    names = OPERATIONS
    kernels = (DIVIDE_F32, DIVIDE_S32, DIV_S8)
    types = ("int32", "float32", "DIV: int8, uint8")
    limits = "integers divided by zero give 0, where TensorFlow Lite stops or defines nothing"
    bound = Bound(0.0, 1.2e-7, "DIV and FLOOR_MOD are exact; quotients of FLOOR_DIV above 2^22 are rounded twice")

    def check(self, view: View) -> None:
        quantized = (DType.INT8, DType.UINT8) if view.node.op == "DIV" else ()
        arithmetic.check_binary(view, (DType.INT32, DType.FLOAT32, *quantized))

    def lower(self, view: View, low: Lowering) -> None:
        x = view.input(0)
        shape, values, in_place = arithmetic.operands(view, low)
        args: dict[str, Any] = {"shape": shape}
        if x.dtype is DType.INT8:
            low.step(DIV_S8, args | _quantized_args(view), values, in_place=in_place)
            return
        least, most = numerics.float_activation_range(view.option("fused_activation_function"))
        args["operation"] = OPERATIONS.index(view.node.op)
        if x.dtype is DType.FLOAT32:
            low.step(DIVIDE_F32, args | {"low": least, "high": most}, values, in_place=in_place)
        else:
            low.step(DIVIDE_S32, args | arithmetic.int32_range(least, most), values, in_place=in_place)

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            activation = 0 if op == "DIV" else None
            for dtype in (DType.INT32, DType.FLOAT32):
                for a, b in arithmetic.BROADCASTS:
                    values = _values(a, b, dtype)
                    yield arithmetic.binary_case(op, dtype, a, b, activation=activation, values=values)
        for dtype in (DType.INT8, DType.UINT8):
            for scales in ((0.05, 0.031, 0.7), (1.0, 0.1, 1.0), (0.01, 0.02, 0.004)):
                values = _values((3, 50), (3, 50), dtype)
                yield arithmetic.binary_case("DIV", dtype, (3, 50), (3, 50), scales=scales, values=values)
        for activation in (numerics.RELU, numerics.RELU6, numerics.RELU_N1_TO_1):
            for dtype in (DType.INT8, DType.FLOAT32):
                values = _values((2, 5), (2, 5), dtype)
                yield arithmetic.binary_case("DIV", dtype, (2, 5), (2, 5), activation=activation, values=values)


def _quantized_args(view: View) -> dict[str, Any]:
    """Follows CalculateOpDataDiv (tensorflow/lite/micro/kernels/div.cc)."""
    a, b, y = view.input(0), view.input(1), view.output()
    multiplier, shift = numerics.quantize_multiplier(a.scale / (b.scale * y.scale))
    least, most = numerics.activation_range(view.option("fused_activation_function"), y)
    return {
        "offset_a": -a.zero_point,
        "offset_b": -b.zero_point,
        "multiplier": multiplier,
        "shift": shift,
        "offset": y.zero_point,
        "low": least,
        "high": most,
    }


def _values(a: tuple[int, ...], b: tuple[int, ...], dtype: DType) -> list[tuple[Array, ...]]:
    """Random inputs of which no divisor stands for zero, and no 8-bit dividend for so little that the oracle, whose
    result is not defined then, gives anything but zero."""
    rng = np.random.default_rng(len(a) + len(b))
    result = []
    for spread in (5, 60, 1000):
        if dtype is DType.FLOAT32:
            pair = [(rng.normal(size=shape) * size).astype(np.float32) for shape, size in ((a, spread), (b, 3))]
        else:
            info = np.iinfo(dtype.numpy)
            zero = {DType.INT8: -9, DType.UINT8: 119}.get(dtype, 0)
            sizes = (max(info.min, -spread), min(info.max, spread))
            pair = [rng.integers(*sizes, shape, endpoint=True).astype(dtype.numpy) for shape in (a, b)]
            pair[1][pair[1] == zero] = zero + 1
            if info.bits == 8:
                pair[0] = rng.choice([*range(info.min, info.min + 90), *range(info.max - 75, info.max + 1)], a)
                pair[0] = pair[0].astype(dtype.numpy)
        result.append(tuple(pair))
    return result


OPS = [Divide()]
