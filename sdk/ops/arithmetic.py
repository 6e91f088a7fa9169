"""ADD and SUB of arrays that are broadcast to one shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from sdk import fixed_point, numerics
from sdk.graph import DType
from sdk.lower import Lowering, Value
from sdk.ops import broadcast
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

# Values of `operation`.
OPERATIONS = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")

ADD_ARGS = Struct(
    "ml_add_args",
    (
        broadcast.walk_field(2),
        *fields("I", "left_shift", "subtract"),
        *fields("i", "offset_a", "multiplier_a", "right_shift_a", "offset_b", "multiplier_b", "right_shift_b"),
        *fields("i", "multiplier", "right_shift", "offset", "low", "high"),
    ),
)
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
    if a.dtype in (DType.INT8, DType.UINT8, DType.INT16):
        _ = a.scale, b.scale, y.scale


class Add(Op):
    names = ("ADD", "SUB")
    kernels = (ADD_S8, ADD_S16, ARITHMETIC_F32, ARITHMETIC_S32)
    types = ("int8", "uint8", "int16", "int32", "float32")
    bound = Bound(0.0, 0.0, "one addition")

    def check(self, view: View) -> None:
        check_binary(view, (DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.FLOAT32))

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        shape, values, in_place = operands(view, low)
        activation = view.option("fused_activation_function")
        args: dict[str, Any] = {"shape": shape}
        if x.dtype in (DType.FLOAT32, DType.INT32):
            kernel, least, most = plain_kernel(x.dtype, activation)
            args |= {"operation": OPERATIONS.index(view.node.op), "low": least, "high": most}
        else:
            args |= _quantized_args(view)
            args["low"], args["high"] = numerics.activation_range(activation, y)
            kernel = ADD_S16 if x.dtype is DType.INT16 else ADD_S8
        low.step(kernel, args, values, in_place=in_place)

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            for dtype in (DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.FLOAT32):
                yield from broadcast_cases(op, dtype)
                for activation in (numerics.RELU, numerics.RELU6, numerics.RELU_N1_TO_1):
                    if dtype is not DType.INT32:  # one oracle clamps them, the other does not
                        yield binary_case(op, dtype, (2, 5), (2, 5), activation=activation)
            for scales in ((1.0, 1e-3, 0.5), (0.03, 0.03, 1e-4), (0.01, 4.0, 0.02), (0.1, 0.1, 20.0)):
                yield binary_case(op, DType.INT8, (3, 11), (3, 11), scales=scales, zeros=(-128, 127, 3))
                yield binary_case(op, DType.INT16, (3, 11), (3, 11), scales=scales)


def plain_kernel(dtype: DType, activation: int) -> tuple[Kernel, float, float]:
    """The kernel for float32 or int32, and the range that the activation clamps to."""
    least, most = numerics.float_activation_range(activation)
    if dtype is DType.FLOAT32:
        return ARITHMETIC_F32, least, most
    least, most = (end if math.isfinite(end) else limit for end, limit in zip((least, most), INT32, strict=True))
    return ARITHMETIC_S32, int(least), int(most)


INT32 = (fixed_point.INT32_MIN, fixed_point.INT32_MAX)


def _quantized_args(view: View) -> dict[str, Any]:
    """Follows CalculateOpDataAdd (tensorflow/lite/micro/kernels/add_common.cc)."""
    a, b, y = view.input(0), view.input(1), view.output()
    left_shift = 15 if y.dtype is DType.INT16 else 20
    common = 2 * max(a.scale, b.scale)
    args = {"left_shift": left_shift, "subtract": int(view.node.op == "SUB"), "offset": y.zero_point}
    for name, tensor in (("_a", a), ("_b", b)):
        args["offset" + name] = -tensor.zero_point
        args["multiplier" + name], args["right_shift" + name] = _smaller_than_one(view, tensor.scale / common)
    args["multiplier"], args["right_shift"] = _smaller_than_one(view, common / ((1 << left_shift) * y.scale))
    return args


def _smaller_than_one(view: View, real: float) -> tuple[int, int]:
    """(multiplier, right shift) for 0 < `real` < 1: TensorFlow Lite stops at another one."""
    multiplier, shift = numerics.quantize_multiplier(real)
    view.need(0 < real < 1 and shift <= 0, "the scales of its inputs and output are too far apart")
    return multiplier, -shift


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


def broadcast_cases(op: str, dtype: DType, target: DType | None = None) -> Iterator[Case]:
    """A case of `op` for each way to broadcast."""
    for a, b in BROADCASTS:
        yield binary_case(op, dtype, a, b, target=target)


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
    name: str = "",
) -> Case:
    """A case of one binary node; quantized types take `scales` and `zeros`, of both inputs and the output."""
    g = CaseGraph()

    def quantization(index: int, of: DType) -> tuple[float | None, int]:
        if of not in (DType.INT8, DType.UINT8, DType.INT16):
            return None, 0
        zero = {DType.INT8: zeros[index], DType.UINT8: zeros[index] + 128}.get(of, 0)
        return scales[index] / (256 if of is DType.INT16 else 1), zero

    shape = broadcast.broadcast(a_shape, b_shape)
    assert shape is not None
    y_type = target or dtype
    a = g.input(a_shape, dtype, *quantization(0, dtype))
    b = g.input(b_shape, dtype, *quantization(1, dtype))
    y = g.output(shape, y_type, *quantization(2, y_type))
    options = {} if activation is None else {"fused_activation_function": activation, "pot_scale_int16": False}
    label = name or f"{list(a_shape)}-{list(b_shape)}-act{activation}-{list(scales)}"
    return g.case(f"{op}-{dtype.suffix}-{label}".replace(" ", ""), op, [a, b], [y], options)


OPS: list[Op] = [Add()]
