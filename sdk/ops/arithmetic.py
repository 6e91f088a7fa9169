"""ADD, SUB, MUL, MAXIMUM, MINIMUM and SQUARED_DIFFERENCE of arrays that are broadcast to one shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from sdk import fixed_point, numerics
from sdk.graph import ZERO_POINT_RANGE, Array, DType
from sdk.lower import Lowering, Value
from sdk.ops import broadcast
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

QUANTIZED = (DType.INT8, DType.UINT8, DType.INT16)
# Values of `operation`.
OPERATIONS = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")

ADD_ARGS = Struct(
    "ml_add_args",
    (
        broadcast.walk_field(2),
        *fields("I", "operation", "left_shift"),
        *fields("i", "offset_a", "multiplier_a", "right_shift_a", "offset_b", "multiplier_b", "right_shift_b"),
        *fields("i", "multiplier", "shift", "offset", "low", "high"),
    ),
)
MUL_ARGS = Struct(
    "ml_mul_args",
    (broadcast.walk_field(2), *fields("i", "offset_a", "offset_b", "multiplier", "shift", "offset", "low", "high")),
)
EXTREME_ARGS = Struct("ml_extreme_args", (broadcast.walk_field(2), *fields("I", "operation")))
F32_ARGS = Struct(
    "ml_arithmetic_f32_args", (broadcast.walk_field(2), *fields("I", "operation"), *fields("f", "low", "high"))
)
S32_ARGS = Struct(
    "ml_arithmetic_s32_args", (broadcast.walk_field(2), *fields("I", "operation"), *fields("i", "low", "high"))
)


def _kernel(name: str, number: int, args: Struct, dtype: DType) -> Kernel:
    return Kernel(name, number, "arithmetic.c", args, (read("a", dtype), read("b", dtype), write("output", dtype)))


ADD_S8 = _kernel("add_s8", 70, ADD_ARGS, DType.INT8)
ADD_S16 = _kernel("add_s16", 71, ADD_ARGS, DType.INT16)
ARITHMETIC_F32 = _kernel("arithmetic_f32", 72, F32_ARGS, DType.FLOAT32)
ARITHMETIC_S32 = _kernel("arithmetic_s32", 73, S32_ARGS, DType.INT32)
MUL_S8 = _kernel("mul_s8", 74, MUL_ARGS, DType.INT8)
MUL_S16 = _kernel("mul_s16", 75, MUL_ARGS, DType.INT16)
EXTREME_S8 = _kernel("extreme_s8", 76, EXTREME_ARGS, DType.INT8)
EXTREME_S16 = _kernel("extreme_s16", 77, EXTREME_ARGS, DType.INT16)


def operands(view: View, low: Lowering) -> tuple[list[int], list[Value], list[tuple[int, int]]]:
    """The walk's shape, the operands, and which inputs the output may lie over: those of its own shape."""
    a, b, y = view.input(0), view.input(1), view.output()
    in_place = [(i, 2) for i, x in enumerate((a, b)) if x.shape == y.shape]
    return broadcast.walk(view, y.shape, (a.shape, b.shape)), [low.value(x) for x in (a, b, y)], in_place


def check_binary(view: View, dtypes: Sequence[DType]) -> None:
    """ModelError or UnsupportedError unless both inputs and the output are of one of `dtypes` and their shapes fit."""
    a, b, y = view.input(0), view.input(1), view.output()
    view.need(a.dtype is b.dtype, f"its inputs are {a.dtype.numpy_name} and {b.dtype.numpy_name}")
    broadcast.check(view, (a, b))
    if a.dtype not in dtypes or y.dtype is not a.dtype:
        raise view.unsupported(f"has no kernel for {view.dtypes()}")
    if a.dtype in QUANTIZED:
        _ = a.scale, b.scale, y.scale


class Binary(Op):
    """Subclasses say which kernels compute the quantized types, and with which arguments."""

    types: ClassVar[tuple[str, ...]] = ("int8", "uint8", "int16", "int32", "float32")
    bound = Bound(0.0, 0.0, "one operation, the same as the oracle's")

    def check(self, view: View) -> None:
        check_binary(view, (*QUANTIZED, DType.INT32, DType.FLOAT32))

    def lower(self, view: View, low: Lowering) -> None:
        x = view.input(0)
        shape, values, in_place = operands(view, low)
        kernel, args = self.plain(view) if x.dtype not in QUANTIZED else self.quantized(view)
        low.step(kernel, {"shape": shape, **args}, values, in_place=in_place)

    def plain(self, view: View) -> tuple[Kernel, dict[str, Any]]:
        """The kernel for float32 or int32 and its arguments."""
        low, high = numerics.float_activation_range(view.option("fused_activation_function"))
        operation = OPERATIONS.index(view.node.op)
        if view.input(0).dtype is DType.FLOAT32:
            return ARITHMETIC_F32, {"operation": operation, "low": low, "high": high}
        return ARITHMETIC_S32, {"operation": operation, **int32_range(low, high)}

    def quantized(self, view: View) -> tuple[Kernel, dict[str, Any]]:
        """The kernel for the node's quantized type and its arguments."""
        raise NotImplementedError


class Add(Binary):
    names = ("ADD", "SUB")
    kernels = (ADD_S8, ADD_S16, ARITHMETIC_F32, ARITHMETIC_S32)

    def quantized(self, view: View) -> tuple[Kernel, dict[str, Any]]:
        y = view.output()
        left_shift = 15 if y.dtype is DType.INT16 else 20
        args = _at_common_scale(view, left_shift)
        low, high = numerics.activation_range(view.option("fused_activation_function"), y)
        return ADD_S16 if y.dtype is DType.INT16 else ADD_S8, args | {"low": low, "high": high}

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            for dtype in (*QUANTIZED, DType.INT32, DType.FLOAT32):
                yield from broadcast_cases(op, dtype)
                yield from activation_cases(op, dtype)
            for scales in ((1.0, 1e-3, 0.5), (0.03, 0.03, 1e-4), (0.01, 4.0, 0.02), (0.1, 0.1, 20.0)):
                yield binary_case(op, DType.INT8, (3, 11), (3, 11), scales=scales, zeros=(-128, 127, 3))
                yield binary_case(op, DType.INT16, (3, 11), (3, 11), scales=scales)
            # Long enough for kernels that prepare something.
            for scales, zeros in (((0.05, 0.03, 0.04), (5, -9, -128)), ((0.01, 0.03, 0.03), (-128, 127, 3))):
                for activation in (numerics.ACTIVATION_NONE, numerics.RELU):
                    options: dict[str, Any] = {"scales": scales, "zeros": zeros, "activation": activation}
                    yield binary_case(op, DType.INT8, (3, 171), (3, 171), kind="_long", **options)


class Multiply(Binary):
    names = ("MUL",)
    kernels = (MUL_S8, MUL_S16, ARITHMETIC_F32, ARITHMETIC_S32)

    def quantized(self, view: View) -> tuple[Kernel, dict[str, Any]]:
        a, b, y = view.input(0), view.input(1), view.output()
        multiplier, shift = numerics.quantize_multiplier(a.scale * b.scale / y.scale)
        low, high = numerics.activation_range(view.option("fused_activation_function"), y)
        args = {
            "offset_a": -a.zero_point,
            "offset_b": -b.zero_point,
            "multiplier": multiplier,
            "shift": shift,
            "offset": y.zero_point,
            "low": low,
            "high": high,
        }
        return MUL_S16 if y.dtype is DType.INT16 else MUL_S8, args

    def cases(self) -> Iterator[Case]:
        for dtype in (*QUANTIZED, DType.INT32, DType.FLOAT32):
            yield from broadcast_cases("MUL", dtype)
            yield from activation_cases("MUL", dtype)
        for scales in ((1.0, 1e-3, 0.5), (0.5, 0.5, 0.25), (0.01, 0.02, 1e-5), (0.1, 0.1, 200.0)):
            yield binary_case("MUL", DType.INT8, (3, 11), (3, 11), scales=scales, zeros=(-128, 127, 3))
            yield binary_case("MUL", DType.INT16, (3, 11), (3, 11), scales=scales)


class Extreme(Binary):
    names = ("MAXIMUM", "MINIMUM")
    kernels = (EXTREME_S8, EXTREME_S16, ARITHMETIC_F32, ARITHMETIC_S32)

    def check(self, view: View) -> None:
        super().check(view)
        a, b, y = view.input(0), view.input(1), view.output()
        if a.dtype in QUANTIZED:
            same = view.same_quantization(a, b) and view.same_quantization(a, y)
            if not same:
                # TensorFlow Lite compares the stored values all the same.
                raise view.unsupported("has inputs and an output of different scales or zero points")

    def quantized(self, view: View) -> tuple[Kernel, dict[str, Any]]:
        args = {"operation": OPERATIONS.index(view.node.op)}
        return EXTREME_S16 if view.input(0).dtype is DType.INT16 else EXTREME_S8, args

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            for dtype in (*QUANTIZED, DType.INT32, DType.FLOAT32):
                yield from broadcast_cases(op, dtype, scales=(0.05, 0.05, 0.05), zeros=(3, 3, 3), activation=None)


class SquaredDifference(Binary):
    names = ("SQUARED_DIFFERENCE",)
    kernels = (ADD_S8, ADD_S16, ARITHMETIC_F32, ARITHMETIC_S32)
    types = ("int8", "int16", "int32", "float32")

    def check(self, view: View) -> None:
        check_binary(view, (DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32))

    def quantized(self, view: View) -> tuple[Kernel, dict[str, Any]]:
        y = view.output()
        low, high = ZERO_POINT_RANGE[y.dtype]
        args = _at_common_scale(view, 0 if y.dtype is DType.INT16 else 7)
        return ADD_S16 if y.dtype is DType.INT16 else ADD_S8, args | {"low": low, "high": high}

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32):
            yield from broadcast_cases("SQUARED_DIFFERENCE", dtype, activation=None)
        for scales in ((1.0, 1e-3, 5.0), (0.5, 0.5, 0.25), (0.01, 0.02, 1e-3), (0.1, 0.1, 20.0)):
            for dtype in (DType.INT8, DType.INT16):
                yield binary_case("SQUARED_DIFFERENCE", dtype, (3, 11), (3, 11), scales=scales, activation=None)


def int32_range(low: float, high: float) -> dict[str, int]:
    """The arguments `low` and `high` for int32."""
    return {
        "low": int(low) if math.isfinite(low) else fixed_point.INT32_MIN,
        "high": int(high) if math.isfinite(high) else fixed_point.INT32_MAX,
    }


def _at_common_scale(view: View, left_shift: int) -> dict[str, Any]:
    """Arguments that bring both inputs to twice the larger scale, and what they make to the output's.

    Follows CalculateOpDataAdd and SquaredDifferencePrepare (tensorflow/lite/micro/kernels/add_common.cc,
    squared_difference.cc).
    """
    a, b, y = view.input(0), view.input(1), view.output()
    common = 2 * max(a.scale, b.scale)
    args: dict[str, Any] = {"operation": OPERATIONS.index(view.node.op), "left_shift": left_shift}
    for name, tensor in (("_a", a), ("_b", b)):
        args["offset" + name] = -tensor.zero_point
        args["multiplier" + name], shift = _smaller_than_one(view, tensor.scale / common)
        args["right_shift" + name] = -shift
    if view.node.op == "SQUARED_DIFFERENCE":
        ratio = common * common / ((1 << 2 * left_shift) * y.scale)
        args["multiplier"], args["shift"] = numerics.quantize_multiplier(ratio)
    else:
        args["multiplier"], args["shift"] = _smaller_than_one(view, common / ((1 << left_shift) * y.scale))
    return args | {"offset": y.zero_point}


def _smaller_than_one(view: View, real: float) -> tuple[int, int]:
    """(multiplier, shift) for 0 < `real` < 1: TensorFlow Lite stops at another one."""
    multiplier, shift = numerics.quantize_multiplier(real)
    view.need(0 < real < 1 and shift <= 0, "the scales of its inputs and output are too far apart")
    return multiplier, shift


BROADCASTS: tuple[tuple[broadcast.Shape, broadcast.Shape], ...] = (
    ((1, 3, 4, 5), (1, 3, 4, 5)),
    ((17,), (17,)),
    ((2, 3, 4), (1,)),
    ((1, 1), (3, 7)),
    ((2, 3, 4, 5), (5,)),
    ((4, 1), (2, 4, 3)),
    ((1, 3, 1, 5), (2, 1, 4, 1)),
    ((2, 3, 1, 1), (1, 1, 4, 5)),
)


def broadcast_cases(op: str, dtype: DType, **options: Any) -> Iterator[Case]:
    """A case of `op` for each way to broadcast."""
    for a, b in BROADCASTS:
        yield binary_case(op, dtype, a, b, **options)


def activation_cases(op: str, dtype: DType) -> Iterator[Case]:
    """A case of `op` for each activation; none for int32, which one oracle clamps and the other does not."""
    for activation in (numerics.RELU, numerics.RELU6, numerics.RELU_N1_TO_1):
        if dtype is not DType.INT32:
            yield binary_case(op, dtype, (2, 5), (2, 5), activation=activation)


def binary_case(
    op: str,
    dtype: DType,
    a_shape: broadcast.Shape,
    b_shape: broadcast.Shape,
    *,
    activation: int | None = 0,
    scales: tuple[float, float, float] = (0.05, 0.031, 0.07),
    zeros: tuple[int, int, int] = (3, -9, 5),
    target: DType | None = None,
    values: Sequence[tuple[Array, ...]] = (),
    kind: str = "",
) -> Case:
    """A case of one binary node; quantized types take `scales` and `zeros`, of both inputs and the output."""
    g = CaseGraph()

    def quantization(index: int, of: DType) -> tuple[float | None, int]:
        if of not in QUANTIZED:
            return None, 0
        zero = {DType.INT8: zeros[index], DType.UINT8: zeros[index] + 128}.get(of, 0)
        return scales[index] / (256 if of is DType.INT16 else 1), zero

    shape = broadcast.broadcast(a_shape, b_shape)
    assert shape is not None
    y_type = target or dtype
    a = g.input(a_shape, dtype, *quantization(0, dtype))
    b = g.input(b_shape, dtype, *quantization(1, dtype))
    y = g.output(shape, y_type, *quantization(2, y_type))
    options: dict[str, Any] = {} if activation is None else {"fused_activation_function": activation}
    if op in ("ADD", "SUB"):
        options["pot_scale_int16"] = False
    label = f"{list(a_shape)}-{list(b_shape)}-act{activation}-{list(scales)}"
    return g.case(f"{op}_{dtype.suffix}{kind}-{label}".replace(" ", ""), op, [a, b], [y], options, values)


OPS: list[Op] = [Add(), Multiply(), Extreme(), SquaredDifference()]
