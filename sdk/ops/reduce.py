"""MEAN, SUM and other reductions over any dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from sdk import fixed_point, numerics
from sdk.graph import ZERO_POINT_RANGE, Array, DType
from sdk.lower import Lowering
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Field, Struct, fields

DIMS = 4  # ML_REDUCE_DIMS
SHAPE = Field("shape", "I", 4 * DIMS)

SUM_ARGS = Struct("ml_reduce_sum_args", (SHAPE, *fields("i", "start", "multiplier", "shift", "offset", "low", "high")))
INTEGERS_ARGS = Struct("ml_reduce_integers_args", (SHAPE, *fields("I", "type", "operation"), *fields("i", "start")))
F32_ARGS = Struct("ml_reduce_f32_args", (SHAPE, *fields("I", "operation"), *fields("f", "start", "divisor")))
# Values of `operation`.
SUM, PRODUCT, MAXIMUM, MINIMUM = range(4)


def _kernel(name: str, number: int, args: Struct, dtype: DType) -> Kernel:
    return Kernel(name, number, "reductions.c", args, (read("input", dtype), write("output", dtype)))


SUM_S8 = _kernel("reduce_sum_s8", 63, SUM_ARGS, DType.INT8)
SUM_S16 = _kernel("reduce_sum_s16", 64, SUM_ARGS, DType.INT16)
REDUCE_F32 = _kernel("reduce_f32", 65, F32_ARGS, DType.FLOAT32)
# Its type is an argument; the kernel checks the alignment of its operands itself.
REDUCE_INTEGERS = _kernel("reduce_integers", 103, INTEGERS_ARGS, DType.INT8)


QUANTIZED = (DType.INT8, DType.UINT8, DType.INT16)


def axes(view: View) -> tuple[int, ...]:
    """The dimensions that the node reduces, each once, in rising order."""
    x = view.input(0)
    given = view.constant(1)
    view.need(given.dtype == np.int32, f"its axes {view.input(1).label} are {given.dtype}, not int32")
    rank = len(x.shape)
    chosen = set()
    for axis in given.reshape(-1).tolist():
        # A scalar has no dimension; TensorFlow Lite ignores the axes then.
        view.need(-rank <= axis < rank or rank == 0, f"it reduces dimension {axis} of {rank}")
        chosen.add(axis % rank if rank else 0)
    return tuple(sorted(chosen)) if rank else ()


def check(view: View) -> None:
    """ModelError unless the output has the shape that the axes leave."""
    x, y = view.input(0), view.output()
    reduced = axes(view)
    kept = [size for axis, size in enumerate(x.shape) if axis not in reduced]
    full = [1 if axis in reduced else size for axis, size in enumerate(x.shape)]
    view.need(list(y.shape) in (kept, full), f"its output {list(y.shape)} is neither {kept} nor {full}")
    view.need(x.elements > 0, f"its input {x.label} is empty")
    view.need(x.dtype is y.dtype, f"it makes {y.dtype.numpy_name} of {x.dtype.numpy_name}")


def shape_argument(view: View) -> list[int]:
    """Kept dimensions, their strides, reduced dimensions, their strides: four of each, neighbours of a kind merged."""
    x = view.input(0)
    reduced = axes(view)
    merged: list[tuple[bool, int, int]] = []  # (whether reduced, size, stride), innermost first
    stride = 1
    for axis in reversed(range(len(x.shape))):
        size = x.shape[axis]
        if size == 1:
            continue
        if merged and merged[-1][0] == (axis in reduced):
            merged[-1] = (merged[-1][0], merged[-1][1] * size, merged[-1][2])
        else:
            merged.append((axis in reduced, size, stride))
        stride *= size
    result: list[int] = []
    for kind in (False, True):
        group = [(size, step) for which, size, step in merged if which is kind][::-1]
        empty = DIMS - len(group)
        result += [1] * empty + [size for size, _ in group] + [0] * empty + [step for _, step in group]
    return result


class Sum(Op):
    """Subclasses differ by what the sum is divided by."""

    kernels: ClassVar[tuple[Kernel, ...]] = (SUM_S8, SUM_S16, REDUCE_F32)
    types: ClassVar[tuple[str, ...]] = ("int8", "uint8", "int16", "float32")
    bound = Bound(0.0, 0.0, "summed in the oracle's order, divided once")
    mean = False

    def check(self, view: View) -> None:
        check(view)
        x, y = view.input(0), view.output()
        if x.dtype not in (*QUANTIZED, DType.FLOAT32, *(() if self.mean else (DType.INT32,))):
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        if x.dtype in QUANTIZED:
            _ = x.scale, y.scale

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        count = math.prod(x.shape[axis] for axis in axes(view))
        args: dict[str, Any] = {"shape": shape_argument(view)}
        values = [low.value(x), low.value(y)]
        if x.dtype is DType.FLOAT32:
            args |= {"operation": SUM, "start": 0.0, "divisor": float(count) if self.mean else 1.0}
            low.step(REDUCE_F32, args, values)
            return
        if x.dtype is DType.INT32:
            low.step(REDUCE_INTEGERS, args | {"type": x.dtype.number, "operation": SUM, "start": 0}, values)
            return
        multiplier, shift = numerics.quantize_multiplier(x.scale / y.scale)
        if self.mean:
            multiplier, shift = _divided(multiplier, shift, count)
        least, most = ZERO_POINT_RANGE[y.dtype]
        args |= {
            "start": int(fixed_point.wrap32(-x.zero_point * count)),
            "multiplier": multiplier,
            "shift": shift,
            "offset": y.zero_point,
            "low": least,
            "high": most,
        }
        low.step(SUM_S16 if x.dtype is DType.INT16 else SUM_S8, args, values)

    def cases(self) -> Iterator[Case]:
        op = self.names[0]
        for dtype in (*QUANTIZED, DType.FLOAT32, *(() if self.mean else (DType.INT32,))):
            for shape, over in SHAPES:
                for keep in (False, True):
                    yield reduce_case(op, dtype, shape, over, keep)
        for x_zero, y_zero, ratio in ((-128, 127, 1.0), (127, -128, 0.3), (0, 0, 4.0), (-3, 5, 1e-3)):
            yield reduce_case(op, DType.INT8, (1, 7, 7, 5), (1, 2), True, x_zero, y_zero, ratio)


class Mean(Sum):
    names = ("MEAN",)
    mean = True


class PlainSum(Sum):
    names = ("SUM",)
    kernels = (*Sum.kernels, REDUCE_INTEGERS)
    types = (*Sum.types, "int32")


class Reduce(Op):
    """Reductions that need no scaling: of quantized values, those that pick one."""

    names = ("REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
    kernels = (REDUCE_INTEGERS, REDUCE_F32)
    types = ("int32", "float32", "REDUCE_MAX, REDUCE_MIN: int8, uint8, int16")
    bound = Bound(0.0, 0.0, "in the oracle's order")
    operations: ClassVar[dict[str, int]] = {"REDUCE_MAX": MAXIMUM, "REDUCE_MIN": MINIMUM, "REDUCE_PROD": PRODUCT}

    def check(self, view: View) -> None:
        check(view)
        x, y = view.input(0), view.output()
        if x.dtype not in (DType.INT32, DType.FLOAT32, *(() if view.node.op == "REDUCE_PROD" else QUANTIZED)):
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        same = x.dtype not in QUANTIZED or view.same_quantization(x, y)
        view.need(same, "its input and output have different scales or zero points")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        operation = self.operations[view.node.op]
        args: dict[str, Any] = {"shape": shape_argument(view), "operation": operation}
        values = [low.value(x), low.value(y)]
        if x.dtype is DType.FLOAT32:
            start = {MAXIMUM: -math.inf, MINIMUM: math.inf, PRODUCT: 1.0}[operation]
            low.step(REDUCE_F32, args | {"start": start, "divisor": 1.0}, values)
        else:
            limit = {MAXIMUM: -(2**31), MINIMUM: 2**31 - 1, PRODUCT: 1}[operation]
            low.step(REDUCE_INTEGERS, args | {"type": x.dtype.number, "start": limit}, values)

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            for dtype in (DType.INT32, DType.FLOAT32, *(() if op == "REDUCE_PROD" else QUANTIZED)):
                for i, (shape, over) in enumerate(SHAPES):
                    yield reduce_case(op, dtype, shape, over, i % 2 == 0, 4, 4, 1.0)


class AnyAll(Op):
    """Of bools, stored as 0 and 1: the largest and the smallest."""

    names = ("REDUCE_ANY", "REDUCE_ALL")
    kernels = (REDUCE_INTEGERS,)
    types = ("bool",)

    def check(self, view: View) -> None:
        check(view)
        if view.input(0).dtype is not DType.BOOL:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def lower(self, view: View, low: Lowering) -> None:
        largest = view.node.op == "REDUCE_ANY"
        args = {
            "shape": shape_argument(view),
            "type": DType.UINT8.number,
            "operation": MAXIMUM if largest else MINIMUM,
            "start": 0 if largest else 1,
        }
        low.step(REDUCE_INTEGERS, args, [low.value(view.input(0)), low.value(view.output())])

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            for i, (shape, over) in enumerate(SHAPES):
                yield reduce_case(op, DType.BOOL, shape, over, i % 2 == 0)


SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((1, 4, 5, 3), (1, 2)),
    ((2, 3, 4, 5), (-1,)),
    ((2, 3, 4, 5), (0, 2)),
    ((2, 3, 4, 5), (1, -1)),
    ((3, 2, 2, 3), (0, 1, 2, 3)),
    ((7, 9), (0, 0)),
    ((4, 1, 3), (1,)),
    ((5,), (0,)),
    ((2, 3, 2, 3, 2), (-4, 3)),
)


def _divided(multiplier: int, shift: int, count: int) -> tuple[int, int]:
    """(multiplier, shift) / count, as QuantizedMeanOrSum makes it (kernels/internal/reference/reduce.h)."""
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << extra) // count, shift - extra


def reduce_case(
    op: str,
    dtype: DType,
    shape: Sequence[int],
    over: Sequence[int],
    keep: bool,
    x_zero: int = 4,
    y_zero: int = -2,
    ratio: float = 0.7,
) -> Case:
    """A case of one reduction; zero points are those of int8."""
    g = CaseGraph()
    scale: float | None = 0.02
    if dtype not in QUANTIZED:
        scale, x_zero, y_zero = None, 0, 0
    elif dtype is DType.INT16:
        x_zero = y_zero = 0
    elif dtype is DType.UINT8:
        x_zero, y_zero = x_zero + 128, y_zero + 128
    x = g.input(shape, dtype, scale, x_zero)
    axis = g.constant(np.array(over), DType.INT32)
    rank = len(shape)
    reduced = {a % rank for a in over}
    out = [1 if i in reduced else size for i, size in enumerate(shape) if keep or i not in reduced]
    y = g.output(out, dtype, None if scale is None else scale * ratio, y_zero)
    name = f"{op}_{dtype.suffix}-{list(shape)}-{list(over)}-keep{int(keep)}-{x_zero}-{y_zero}-{ratio}"
    values = _values(shape, dtype) if op in ("REDUCE_ANY", "REDUCE_ALL", "REDUCE_PROD") else ()
    return g.case(name.replace(" ", ""), op, [x, axis], [y], {"keep_dims": keep}, values)


def _values(shape: Sequence[int], dtype: DType) -> list[tuple[Array, ...]]:
    """Inputs whose products do not overflow, and bools of which few or most are true."""
    rng = np.random.default_rng(1)
    if dtype is DType.FLOAT32:
        return [(rng.uniform(0.5, 2.0, shape).astype(np.float32),)]
    if dtype is DType.INT32:
        return [(rng.choice([-2, -1, 1, 1, 1, 1, 1, 1, 1, 1], shape).astype(np.int32),)]
    return [(rng.random(shape) < share,) for share in (0.1, 0.9)]


OPS: list[Op] = [Mean(), PlainSum(), Reduce(), AnyAll()]
