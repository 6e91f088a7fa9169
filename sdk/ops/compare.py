"""Comparisons, and LOGICAL_AND, LOGICAL_OR and LOGICAL_NOT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sdk import numerics
from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops import arithmetic, broadcast, lut
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

# The results that make each comparison true, as bits: less, equal, greater, unordered (one is not a number).
TRUTH = {
    "EQUAL": 0b0010,
    "NOT_EQUAL": 0b1101,
    "LESS": 0b0001,
    "LESS_EQUAL": 0b0011,
    "GREATER": 0b0100,
    "GREATER_EQUAL": 0b0110,
}
LEFT_SHIFT = 8  # bits that quantized values have to spare

ARGS = Struct(
    "ml_compare_args",
    (
        broadcast.walk_field(2),
        *fields("I", "type", "truth", "scaled", "left_shift"),
        *fields("i", "offset_a", "multiplier_a", "right_shift_a", "offset_b", "multiplier_b", "right_shift_b"),
    ),
)
PLAIN_ARGS = Struct("ml_compare_plain_args", (broadcast.walk_field(2), *fields("I", "truth")))
LOGICAL_ARGS = Struct("ml_logical_args", (broadcast.walk_field(2), *fields("I", "needed")))


def _kernel(name: str, number: int, args: Struct, dtype: DType) -> Kernel:
    return Kernel(name, number, "compare.c", args, (read("a", dtype), read("b", dtype), write("output", DType.BOOL)))


# Its inputs' type is an argument; the kernel checks their alignment itself.
COMPARE = _kernel("compare", 81, ARGS, DType.INT8)
COMPARE_F32 = _kernel("compare_f32", 82, PLAIN_ARGS, DType.FLOAT32)
COMPARE_S64 = _kernel("compare_s64", 0xC2, PLAIN_ARGS, DType.INT64)
LOGICAL = _kernel("logical", 83, LOGICAL_ARGS, DType.BOOL)

SCALED = (DType.INT8, DType.UINT8)
EQUALITIES = ("EQUAL", "NOT_EQUAL")


class Compare(Op):
    names = tuple(TRUTH)
    kernels = (COMPARE, COMPARE_F32, COMPARE_S64)
    types = ("int8", "uint8", "int32", "int64", "float32", "EQUAL, NOT_EQUAL: bool")

    def check(self, view: View) -> None:
        a, b, y = view.input(0), view.input(1), view.output()
        view.need(a.dtype is b.dtype, f"its inputs are {a.dtype.numpy_name} and {b.dtype.numpy_name}")
        view.need(y.dtype is DType.BOOL, f"its output is {y.dtype.numpy_name}, not bool")
        broadcast.check(view, (a, b))
        plain = (DType.INT32, DType.INT64, DType.FLOAT32, *((DType.BOOL,) if view.node.op in EQUALITIES else ()))
        if a.dtype not in (*SCALED, *plain):
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        if a.dtype in SCALED:
            view.need(max(a.scale, b.scale) < 1, "an input has a scale of 1 or more")

    def lower(self, view: View, low: Lowering) -> None:
        x = view.input(0)
        shape, values, in_place = arithmetic.operands(view, low)
        args: dict[str, Any] = {"shape": shape, "truth": TRUTH[view.node.op]}
        if x.dtype in (DType.FLOAT32, DType.INT64):
            kernel = COMPARE_F32 if x.dtype is DType.FLOAT32 else COMPARE_S64
            low.step(kernel, args, values, in_place=in_place)
            return
        args |= {"type": (DType.INT8 if x.dtype is DType.BOOL else x.dtype).number, "left_shift": LEFT_SHIFT}
        args["scaled"] = int(x.dtype is DType.INT8)
        for name, tensor in (("_a", view.input(0)), ("_b", view.input(1))):
            offset, multiplier, shift = 0, 0, 0
            if x.dtype is DType.INT8:
                multiplier, shift = numerics.quantize_multiplier(tensor.scale)
                offset = -tensor.zero_point
            args |= {"offset" + name: offset, "multiplier" + name: multiplier, "right_shift" + name: -shift}
        low.step(COMPARE, args, values, in_place=in_place)

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            for dtype in (
                *SCALED,
                DType.INT32,
                DType.INT64,
                DType.FLOAT32,
                *((DType.BOOL,) if op in EQUALITIES else ()),
            ):
                for a, b in arithmetic.BROADCASTS[:7:2]:
                    values = _values(a, b, dtype)
                    yield arithmetic.binary_case(op, dtype, a, b, activation=None, target=DType.BOOL, values=values)
                if dtype in SCALED:
                    for scales in ((0.05, 0.05, 1.0), (0.9, 0.001, 1.0)):
                        yield arithmetic.binary_case(
                            op, dtype, (200,), (200,), activation=None, target=DType.BOOL, scales=scales
                        )


def _values(a: tuple[int, ...], b: tuple[int, ...], dtype: DType) -> list[tuple[Array, ...]]:
    """Inputs that are often equal."""
    rng = np.random.default_rng(7)
    middle = 128 if dtype is DType.UINT8 else 0
    low, high = (0, 2) if dtype is DType.BOOL else (middle - 3, middle + 4)
    # Values of 64 bits differ in their upper halves alone.
    scale = 1 << 40 if dtype is DType.INT64 else 1
    return [tuple((rng.integers(low, high, shape) * scale).astype(dtype.numpy) for shape in (a, b)) for _ in range(2)]


class Logical(Op):
    names = ("LOGICAL_AND", "LOGICAL_OR")
    kernels = (LOGICAL,)
    types = ("bool",)

    def check(self, view: View) -> None:
        arithmetic.check_binary(view, (DType.BOOL,))

    def lower(self, view: View, low: Lowering) -> None:
        shape, values, in_place = arithmetic.operands(view, low)
        needed = 2 if view.node.op == "LOGICAL_AND" else 1
        low.step(LOGICAL, {"shape": shape, "needed": needed}, values, in_place=in_place)

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            yield from arithmetic.broadcast_cases(op, DType.BOOL, activation=None)


class LogicalNot(Op):
    names = ("LOGICAL_NOT",)
    kernels = (lut.FLIP_B8,)
    types = ("bool",)

    def check(self, view: View) -> None:
        x, y = view.input(0), view.output()
        view.need(x.shape == y.shape, f"it makes {list(y.shape)} of {list(x.shape)}")
        view.need(x.dtype is y.dtype is DType.BOOL, f"it makes {y.dtype.numpy_name} of {x.dtype.numpy_name}")

    def lower(self, view: View, low: Lowering) -> None:
        lut.flip(low, view.input(0), view.output(), 1)

    def cases(self) -> Iterator[Case]:
        for shape in ((1,), (3, 7), (2, 1, 3, 5)):
            g = CaseGraph()
            x = g.input(shape, DType.BOOL)
            y = g.output(shape, DType.BOOL)
            yield g.case(f"{list(shape)}".replace(" ", ""), "LOGICAL_NOT", [x], [y])


OPS: list[Op] = [Compare(), Logical(), LogicalNot()]
