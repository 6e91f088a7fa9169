"""CONCATENATION and PACK: inputs one after the other along an axis of the output."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType, Tensor
from sdk.lower import Lowering
from sdk.ops import lut
from sdk.ops.base import Case, CaseGraph, View
from sdk.ops.movement import STRIDED_COPY, Move, Movement, along, axis_of

SHIFT = 128  # of uint8 to int8 values, by the legacy-uint8 pass


class Concatenation(Movement):
    names = ("CONCATENATION",)
    kernels = (STRIDED_COPY, lut.LUT_B8)
    limits = "no fused activation"

    def check(self, view: View) -> None:
        y = view.output()
        view.need(not view.option("fused_activation_function"), "it has a fused activation")
        for x in view.inputs:
            view.need(x.dtype is y.dtype, f"it makes {y.dtype.numpy_name} of {x.dtype.numpy_name}, {x.label}")
            if y.dtype is DType.INT8 and y.quantization is not None and not view.option("legacy_uint8"):
                view.need(view.same_quantization(x, y), f"{x.label} has another scale than its output")
        super().check(view)

    def lower(self, view: View, low: Lowering) -> None:
        changed = {}
        for x in _rescaled(view) if view.option("legacy_uint8") else []:
            changed[x.id] = low.scratch(x.bytes)
            table = low.constant(rescaled(lut.values_of(x.dtype), x, view.output()))
            low.step(lut.LUT_B8, {"count": x.elements}, [low.value(x), table, changed[x.id]])
        self.add_moves(view, low, changed)

    def reserve(self, view: View, low: Lowering) -> None:
        if not (view.option("legacy_uint8") and _rescaled(view)):
            super().reserve(view, low)

    def fold(self, view: View, inputs: Sequence[Array]) -> Sequence[Array] | None:
        return None if view.output().dtype is DType.UINT8 and _rescaled(view) else super().fold(view, inputs)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        axis = axis_of(view, view.option("axis"), y[0].ndim)
        start = 0
        for array in x:
            view.need(array.ndim == y[0].ndim, f"its input {list(array.shape)} has not {y[0].ndim} dimensions")
            end = start + array.shape[axis]
            yield along(y[0], axis, slice(start, end)), array
            start = end
        view.need(start == y[0].shape[axis], f"its inputs have {start} of {y[0].shape[axis]} along dimension {axis}")

    def cases(self) -> Iterator[Case]:
        for dtype, axis in itertools.product(
            (DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.FLOAT32), range(-1, 3)
        ):
            yield _concatenation((2, 3, 4), axis, (4, 1, 3), dtype)
        for axis in range(4):
            yield _concatenation((1, 3, 2, 5), axis, (1, 2), DType.INT8)
        yield _concatenation((7,), 0, tuple(range(1, 10)), DType.INT8)
        yield _concatenation((2, 3), 1, (3,), DType.INT8)
        yield _concatenation((2, 3), 1, (3, 5), DType.BOOL)
        yield _concatenation((2, 2, 1, 2, 3), -4, (3, 5), DType.INT8)
        yield _concatenation((1, 2, 2, 3), 3, (3, 2), DType.UINT8)
        for scales in ((0.5, 0.37, 0.5), (0.01, 2.0, 0.5), (0.5, 0.5, 0.5)):
            yield _concatenation((16, 16), 1, (16, 16, 2), DType.UINT8, scales)


def _rescaled(view: View) -> list[Tensor]:
    """The inputs that have another scale than the output, each once."""
    inputs = {x.id: x for x in view.inputs if not view.same_quantization(x, view.output())}
    return list(inputs.values())


def rescaled(values: Array, x: Tensor, y: Tensor) -> Array:
    """uint8 `values` of `x`, shifted to int8, in the scale of `y`. Follows ConcatenationWithScaling
    (tensorflow/lite/kernels/internal/reference/concatenation.h), in float32 and before the shift."""
    scale = np.float32(x.scale) * (np.float32(1) / np.float32(y.scale))
    bias = np.float32(-(x.zero_point + SHIFT)) * scale
    real = ((values.astype(np.float32) + np.float32(SHIFT)) * scale + bias).astype(np.float64)
    rounded = np.copysign(np.floor(np.abs(real) + 0.5), real).astype(np.int64)
    return (np.clip(rounded + y.zero_point + SHIFT, 0, 255) - SHIFT).astype(np.int8)


def _concatenation(
    shape: Sequence[int], axis: int, sizes: Sequence[int], dtype: DType, scales: Sequence[float] = ()
) -> Case:
    """Inputs of `shape` but for their `sizes` along `axis`; zero points that differ where `scales` are given."""
    g = CaseGraph()
    scale = 0.5 if dtype in (DType.INT8, DType.UINT8, DType.INT16) else None
    shapes = []
    for size in (*sizes, sum(sizes)):
        shapes.append(list(shape))
        shapes[-1][axis] = size
    zeros = range(100, 200, 30) if scales else [0] * len(sizes)
    scale_of = dict(enumerate(scales))
    inputs = [g.input(part, dtype, scale_of.get(i, scale), zeros[i]) for i, part in enumerate(shapes[:-1])]
    y = g.output(shapes[-1], dtype, scale, 130 if scales else 0)
    name = f"{dtype.suffix}-{'x'.join(map(str, shape))}-axis{axis}-{len(sizes)}" + "".join(f"-{s}" for s in scales)
    return g.case(name, "CONCATENATION", inputs, [y], {"axis": axis, "fused_activation_function": 0})


class Pack(Movement):
    names = ("PACK",)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        axis = axis_of(view, view.option("axis"), y[0].ndim)
        view.need(len(x) == y[0].shape[axis], f"it packs {len(x)} inputs into {y[0].shape[axis]}")
        for i, array in enumerate(x):
            view.need(array.dtype == y[0].dtype, f"its input {i} is {array.dtype}, its output {y[0].dtype}")
            yield along(y[0], axis, i), array

    def cases(self) -> Iterator[Case]:
        for dtype, axis in itertools.product((DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32), range(-1, 3)):
            yield _pack((2, 3), axis, 3, dtype)
        yield _pack((), 0, 4, DType.INT32)
        yield _pack((1, 5), 2, 1, DType.INT64)
        yield _pack((2, 1, 3), -4, 2, DType.INT8)


def _pack(shape: Sequence[int], axis: int, count: int, dtype: DType) -> Case:
    g = CaseGraph()
    scale = 0.5 if dtype in (DType.INT8, DType.INT16) else None
    inputs = [g.input(shape, dtype, scale) for _ in range(count)]
    packed = list(shape)
    packed.insert(axis % (len(shape) + 1), count)
    y = g.output(packed, dtype, scale)
    return g.case(
        f"{dtype.suffix}-{len(shape)}d-axis{axis}", "PACK", inputs, [y], {"values_count": count, "axis": axis}
    )


OPS = [Concatenation(), Pack()]
