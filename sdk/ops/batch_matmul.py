"""BATCH_MATMUL: y[..., i, j] = sum_k a[..., i, k] * b[..., k, j]; either may be given transposed, batches broadcast."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdk import numerics
from sdk.graph import DType, Tensor
from sdk.lower import Lowering, Value
from sdk.ops import convolution as conv
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Field, Struct, embed, fields

BATCH_DIMENSIONS = 3

SHAPE = Struct(
    "ml_batch_matmul_shape",
    (
        # `batches` of the output; those of a and b are the same or 1, dimension by dimension.
        *(Field(name, "I", BATCH_DIMENSIONS) for name in ("batches", "a_batches", "b_batches")),
        *fields("I", "rows", "columns", "depth"),
        *fields("H", "a_transposed", "b_transposed"),  # a: [depth][rows], b: [columns][depth]
    ),
)
ARGS_QUANTIZED = Struct(
    "ml_batch_matmul_s8_args",
    (*embed("shape", SHAPE), *embed("quantized", conv.QUANTIZED), *fields("i", "multiplier", "shift")),
)
ARGS_F32 = Struct("ml_batch_matmul_f32_args", embed("shape", SHAPE))


def _kernel(dtype: DType, number: int, args: Struct) -> Kernel:
    slots = (read("a", dtype), read("b", dtype), write("output", dtype))
    return Kernel(f"batch_matmul_{dtype.suffix}", number, "batch_matmul.c", args, slots)


KERNELS = {
    DType.INT8: _kernel(DType.INT8, 40, ARGS_QUANTIZED),
    DType.INT16: _kernel(DType.INT16, 41, ARGS_QUANTIZED),
    DType.FLOAT32: _kernel(DType.FLOAT32, 42, ARGS_F32),
}


@dataclass(frozen=True)
class _Sizes:
    """A node's shapes, with as many batch dimensions as the kernels take."""

    batches: tuple[int, ...]
    a_batches: tuple[int, ...]
    b_batches: tuple[int, ...]
    rows: int
    columns: int
    depth: int


class BatchMatMul(Op):
    names = ("BATCH_MATMUL",)
    kernels = tuple(KERNELS.values())
    types = ("int8", "int16", "float32")
    limits = "at most 5 dimensions"
    bound = conv.FLOAT_BOUND

    def check(self, view: View) -> None:
        sizes = _sizes(view)
        rank = max(len(view.input(0).shape), len(view.input(1).shape))
        expected = (*sizes.batches[BATCH_DIMENSIONS - (rank - 2) :], sizes.rows, sizes.columns)
        view.need(view.output().shape == expected, f"its output {list(view.output().shape)} should be {list(expected)}")

    def macs(self, view: View) -> int:
        return view.output().elements * _sizes(view).depth

    def lower(self, view: View, low: Lowering) -> None:
        a, b, y = view.input(0), view.input(1), view.output()
        if a.dtype not in KERNELS or not a.dtype is b.dtype is y.dtype:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        sizes = _sizes(view)
        b_value, b_transposed = _second(view, low)
        shape = vars(sizes) | {"a_transposed": int(view.option("adj_x", False)), "b_transposed": int(b_transposed)}
        args: dict[str, Any] = {"shape": shape}
        if a.dtype is not DType.FLOAT32:
            args |= _quantized(view)
        low.step(KERNELS[a.dtype], args, [low.value(a), b_value, low.value(y)])

    def cases(self) -> Iterator[Case]:
        for dtype, adj_x, adj_y in itertools.product(KERNELS, (False, True), (False, True)):
            yield _case(dtype, (3, 5), (5, 4), adj_x, adj_y)
            yield _case(dtype, (2, 3, 7), (2, 7, 5), adj_x, adj_y)
            yield _case(dtype, (2, 3, 7), (2, 7, 5), adj_x, adj_y, constant=True)
        for dtype in KERNELS:
            yield _case(dtype, (2, 1, 3, 7), (1, 4, 7, 5))
            yield _case(dtype, (3, 1, 2, 4, 2), (1, 2, 2, 2, 3))
            yield _case(dtype, (4, 2), (3, 2, 2, 1))
            yield _case(dtype, (2, 3, 1, 1), (1, 4))
            yield _case(dtype, (1, 1, 600), (600, 1))
        for a_zero, b_zero, y_zero, scale in itertools.product((-128, 127), (-128, 5), (-128, 127), (1e-6, 0.05)):
            yield _case(DType.INT8, (2, 3), (3, 2), zeros=(a_zero, b_zero, y_zero), scale=scale)
        yield _case(DType.INT16, (2, 3), (3, 2), scale=30.0)


def _sizes(view: View) -> _Sizes:
    """ModelError where the shapes do not make a product."""
    a, b = view.input(0), view.input(1)
    for tensor in (a, b):
        view.need(
            2 <= len(tensor.shape) <= BATCH_DIMENSIONS + 2, f"tensor {tensor.label} does not have 2 to 5 dimensions"
        )
        view.need(tensor.elements > 0, f"tensor {tensor.label} is empty: {list(tensor.shape)}")
    rows, depth = reversed(a.shape[-2:]) if view.option("adj_x", False) else a.shape[-2:]
    columns, b_depth = b.shape[-2:] if view.option("adj_y", False) else reversed(b.shape[-2:])
    view.need(depth == b_depth, f"its inputs {list(a.shape)} and {list(b.shape)} do not fit each other")
    a_batches, b_batches = _batches(a), _batches(b)
    pairs = list(zip(a_batches, b_batches, strict=True))
    view.need(
        all(m == n or 1 in (m, n) for m, n in pairs),
        f"the batches of {list(a.shape)} and {list(b.shape)} do not broadcast",
    )
    return _Sizes(tuple(max(pair) for pair in pairs), a_batches, b_batches, rows, columns, depth)


def _batches(tensor: Tensor) -> tuple[int, ...]:
    return (1,) * (BATCH_DIMENSIONS + 2 - len(tensor.shape)) + tensor.shape[:-2]


def _second(view: View, low: Lowering) -> tuple[Value, bool]:
    """(b, whether it is transposed); a constant is made so, as its rows are then read one after the other."""
    b, transposed = view.input(1), bool(view.option("adj_y", False))
    if b.data is None or transposed:
        return low.value(b), transposed
    return low.constant(np.swapaxes(b.data, -1, -2)), True


def _quantized(view: View) -> dict[str, Any]:
    a, b, y = view.input(0), view.input(1), view.output()
    multiplier, shift = numerics.convolution_multipliers(a, b, y, product_in_float32=True)[0]
    wide = a.dtype is DType.INT16
    if wide:
        view.need(a.zero_point == b.zero_point == y.zero_point == 0, "its int16 tensors have zero points other than 0")
        multiplier, shift = numerics.short_multiplier(multiplier, shift)
    low, high = numerics.activation_range(numerics.ACTIVATION_NONE, y)
    values = {
        "output_offset": y.zero_point,
        "low": low,
        "high": high,
        "input_zero_point": a.zero_point,
        "weights_offset": -b.zero_point,
        "scale_stride": 0,
        "sums_s64": int(wide),
    }
    return {"quantized": values, "multiplier": multiplier, "shift": shift}


def _case(
    dtype: DType,
    a_shape: Sequence[int],
    b_shape: Sequence[int],
    adj_x: bool = False,
    adj_y: bool = False,
    *,
    constant: bool = False,
    zeros: tuple[int, int, int] = (3, -7, 5),
    scale: float = 0.05,
) -> Case:
    """Of a_shape * b_shape, as they are before they are transposed."""
    g = CaseGraph()
    batches = np.broadcast_shapes(tuple(a_shape[:-2]), tuple(b_shape[:-2]))
    y_shape = (*batches, a_shape[-2], b_shape[-1])
    a_stored = (*a_shape[:-2], a_shape[-1], a_shape[-2]) if adj_x else tuple(a_shape)
    b_stored = (*b_shape[:-2], b_shape[-1], b_shape[-2]) if adj_y else tuple(b_shape)
    a_zero, b_zero, y_zero = zeros if dtype is DType.INT8 else (0, 0, 0)
    in_scale = None if dtype is DType.FLOAT32 else 0.02 if dtype is DType.INT8 else 0.001
    a = g.input(a_stored, dtype, in_scale, a_zero)
    if constant:
        data = np.random.default_rng(len(b_stored)).integers(-127, 128, b_stored)
        b = g.constant(data, dtype, in_scale, b_zero)
    else:
        b = g.input(b_stored, dtype, in_scale, b_zero)
    y = g.output(y_shape, dtype, None if dtype is DType.FLOAT32 else scale, y_zero)
    shapes = f"{'x'.join(map(str, a_shape))}-by-{'x'.join(map(str, b_shape))}"
    flags = "".join(f"-{name}" for name, on in (("adj_x", adj_x), ("adj_y", adj_y), ("constant", constant)) if on)
    name = f"{dtype.suffix}-{shapes}{flags}-zeros{a_zero}-{b_zero}-{y_zero}-scale{scale}"
    options = {"adj_x": adj_x, "adj_y": adj_y, "asymmetric_quantize_inputs": False}
    return g.case(name, "BATCH_MATMUL", [a, b], [y], options)


OPS = [BatchMatMul()]
