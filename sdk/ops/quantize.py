"""QUANTIZE and DEQUANTIZE: stored = round(real / scale) + zero point, and back; and from one scale to another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sdk import fixed_point, numerics
from sdk.graph import ZERO_POINT_RANGE, Array, DType, Tensor
from sdk.lower import Lowering
from sdk.ops import lut
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.overlap import elementwise
from sdk.program import Struct, fields

QUANTIZE_ARGS = Struct(
    "ml_quantize_args", (*fields("I", "count"), *fields("f", "scale"), *fields("i", "offset", "low", "high"))
)
DEQUANTIZE_ARGS = Struct(
    "ml_dequantize_args", (*fields("I", "count", "flip"), *fields("f", "scale"), *fields("i", "offset"))
)
RESCALE_ARGS = Struct(
    "ml_rescale_args",
    (
        *fields("I", "count", "input_type", "output_type"),  # types: ml_dtype
        *fields("i", "input_offset", "multiplier", "shift", "output_offset", "low", "high"),
    ),
)


def _kernel(name: str, number: int, args: Struct, source: DType, target: DType) -> Kernel:
    return Kernel(name, number, "quantize.c", args, (read("input", source), write("output", target)))


QUANTIZE_B8 = _kernel("quantize_b8", 52, QUANTIZE_ARGS, DType.FLOAT32, DType.INT8)
QUANTIZE_S16 = _kernel("quantize_s16", 53, QUANTIZE_ARGS, DType.FLOAT32, DType.INT16)
DEQUANTIZE_B8 = _kernel("dequantize_b8", 54, DEQUANTIZE_ARGS, DType.INT8, DType.FLOAT32)
DEQUANTIZE_S16 = _kernel("dequantize_s16", 55, DEQUANTIZE_ARGS, DType.INT16, DType.FLOAT32)
# Its operands' types are arguments; the kernel checks their alignment itself.
RESCALE = _kernel("rescale", 56, RESCALE_ARGS, DType.INT8, DType.INT8)

BYTE_TYPES = (DType.INT8, DType.UINT8)
INTEGERS = (*BYTE_TYPES, DType.INT16, DType.INT32)


def _range(dtype: DType) -> tuple[int, int]:
    return ZERO_POINT_RANGE.get(dtype, (fixed_point.INT32_MIN, fixed_point.INT32_MAX))


class Quantize(Op):
    names = ("QUANTIZE",)
    kernels = (QUANTIZE_B8, QUANTIZE_S16, RESCALE, lut.LUT_B8, lut.FLIP_B8)
    types = ("float32 to int8, uint8, int16", "any of int8, uint8, int16, int32 to any other")

    def check(self, view: View) -> None:
        x, y = view.input(0), view.output()
        view.need(x.elements == y.elements, f"it makes {list(y.shape)} of {list(x.shape)}")
        _ = y.scale, y.zero_point
        if x.dtype is not DType.FLOAT32:
            _ = x.scale, x.zero_point
        elif y.dtype not in (*BYTE_TYPES, DType.INT16):
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        if x.dtype not in (*INTEGERS, DType.FLOAT32) or y.dtype not in INTEGERS:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        if x.dtype is DType.FLOAT32:
            least, most = _range(y.dtype)
            args = {"count": x.elements, "scale": y.scale, "offset": y.zero_point, "low": least, "high": most}
            kernel = QUANTIZE_S16 if y.dtype is DType.INT16 else QUANTIZE_B8
            low.step(kernel, args, [low.value(x), low.value(y)], overlaps=[elementwise(x, y)])
        elif x.dtype in BYTE_TYPES and y.dtype in BYTE_TYPES:
            self._lower_bytes(low, x, y)
        else:
            self._lower_rescale(low, x, y)

    def _lower_bytes(self, low: Lowering, x: Tensor, y: Tensor) -> None:
        table = _requantized(lut.values_of(x.dtype), x, y).view(np.uint8)
        plain = np.arange(256, dtype=np.uint8)
        if np.array_equal(table, plain):
            low.alias(y, low.value(x))
        elif np.array_equal(table, plain ^ 0x80):
            lut.flip(low, x, y, 0x80)
        else:
            lut.by_table(low, x, y, table.view(y.dtype.numpy))

    def _lower_rescale(self, low: Lowering, x: Tensor, y: Tensor) -> None:
        multiplier, shift = numerics.quantize_multiplier(x.scale / y.scale)
        least, most = _range(y.dtype)
        args = {
            "count": x.elements,
            "input_type": x.dtype.number,
            "output_type": y.dtype.number,
            "input_offset": -x.zero_point,
            "multiplier": multiplier,
            "shift": shift,
            "output_offset": y.zero_point,
            "low": least,
            "high": most,
        }
        low.step(RESCALE, args, [low.value(x), low.value(y)], overlaps=[elementwise(x, y)])

    def unchanged(self, view: View) -> Tensor | None:
        x, y = view.input(0), view.output()
        return x if x.dtype is y.dtype and view.same_quantization(x, y) else None

    def fold(self, view: View, inputs: Sequence[Array]) -> Sequence[Array] | None:
        x, y = view.input(0), view.output()
        return [_quantized(inputs[0], y) if x.dtype is DType.FLOAT32 else _requantized(inputs[0], x, y)]

    def cases(self) -> Iterator[Case]:
        f32, s8, u8, s16, s32 = DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT16, DType.INT32
        for dtype, scale, zero in itertools.product((s8, u8, s16), (1e-5, 0.013, 2.0), (0, 3, 127)):
            if dtype is s16 and zero:
                continue  # int16 is symmetric
            yield _case(f"f32-{dtype.suffix}-{scale}-{zero}", f32, dtype, 1.0, scale, 0, zero, _ties(scale))
        for source, target in itertools.product((s8, u8), (s8, u8)):
            for a, b in ((0.5, 0.5), (0.1, 0.037), (0.01, 3.0), (1.0, 1e-3)):
                x_zero, y_zero = (128 if dtype is u8 else 0 for dtype in (source, target))
                yield _case(f"{source.suffix}-{target.suffix}-{a}-{b}", source, target, a, b, x_zero, y_zero)
                name = f"{source.suffix}-{target.suffix}-{a}-{b}-zeros"
                yield _case(name, source, target, a, b, x_zero - 7, y_zero + 99)
        for source, target in ((s16, s8), (s16, s16), (s8, s16), (s16, s32), (s8, s32), (s32, s8), (s32, s16)):
            for a, b in ((0.5, 0.5), (0.001, 0.25), (2.0, 0.125)):
                zeros = (5 if source is s8 else 0, -5 if target is s8 else 0)
                yield _case(f"{source.suffix}-{target.suffix}-{a}-{b}", source, target, a, b, *zeros)


def _ties(scale: float) -> tuple[Array, ...]:
    """Values half-way between two steps, one float32 beside them, and beyond both ends."""
    steps = np.arange(-300, 300, dtype=np.float32) * np.float32(0.5)
    exact = steps * np.float32(scale)
    beside = [np.nextafter(exact, np.float32(end)) for end in (-np.inf, np.inf)]
    return tuple(each.reshape(20, 30) for each in (exact, *beside, exact * np.float32(1000)))


def _case(
    name: str,
    source: DType,
    target: DType,
    x_scale: float,
    y_scale: float,
    x_zero: int = 0,
    y_zero: int = 0,
    values: Sequence[Array] = (),
) -> Case:
    g = CaseGraph()
    shape = values[0].shape if values else (3, 7, 5)
    x = g.input(shape, source, None if source is DType.FLOAT32 else x_scale, x_zero)
    y = g.output(shape, target, None if target is DType.FLOAT32 else y_scale, y_zero)
    op = "DEQUANTIZE" if target is DType.FLOAT32 else "QUANTIZE"
    return g.case(name, op, [x], [y], values=[(value,) for value in values])


def _quantized(x: Array, y: Tensor) -> Array:
    """What the QUANTIZE kernels make of float32."""
    with np.errstate(over="ignore"):
        scaled = (x / np.float32(y.scale)).astype(np.float64)
    rounded = np.trunc(scaled + np.copysign(0.5, scaled))
    result = np.nan_to_num(rounded, nan=-np.inf) + y.zero_point
    return np.asarray(np.clip(result, *_range(y.dtype)).astype(y.dtype.numpy))


def _requantized(stored: Array, x: Tensor, y: Tensor) -> Array:
    """`stored` values of `x`, as `y` stores the same real values: TensorFlow Lite's Requantize."""
    multiplier, shift = numerics.quantize_multiplier(x.scale / y.scale)
    result = fixed_point.requantize(stored.astype(np.int64) - x.zero_point, multiplier, shift) + y.zero_point
    return np.asarray(np.clip(result, *_range(y.dtype)).astype(y.dtype.numpy))


class Dequantize(Op):
    names = ("DEQUANTIZE",)
    kernels = (DEQUANTIZE_B8, DEQUANTIZE_S16)
    types = ("int8, uint8, int16 to float32", "constants of float16 to float32")
    bound = Bound(0.0, 0.0, "one multiplication of numbers that float32 holds exactly")

    def check(self, view: View) -> None:
        x, y = view.input(0), view.output()
        view.need(x.elements == y.elements, f"it makes {list(y.shape)} of {list(x.shape)}")
        if x.dtype is DType.FLOAT16 and x.data is not None:
            return
        if x.dtype not in (*BYTE_TYPES, DType.INT16) or y.dtype is not DType.FLOAT32:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        if x.data is None or x.quantization is None:
            _ = x.scale, x.zero_point

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        unsigned = x.dtype is DType.UINT8
        args = {
            "count": x.elements,
            "flip": 0x80 if unsigned else 0,
            "scale": x.scale,
            "offset": (128 if unsigned else 0) - x.zero_point,
        }
        kernel = DEQUANTIZE_S16 if x.dtype is DType.INT16 else DEQUANTIZE_B8
        low.step(kernel, args, [low.value(x), low.value(y)], overlaps=[elementwise(x, y)])

    def fold(self, view: View, inputs: Sequence[Array]) -> Sequence[Array] | None:
        x = view.input(0)
        if x.dtype is DType.FLOAT16:
            return [inputs[0].astype(np.float32)]
        assert x.quantization is not None
        count = len(x.quantization.scale)
        along = [count if axis == x.quantization.axis and count > 1 else 1 for axis in range(len(x.shape))]
        scale = np.array(x.quantization.scale, np.float64).reshape(along)
        zero_point = np.array(x.quantization.zero_point, np.int64).reshape(along)
        return [(scale * (inputs[0].astype(np.int64) - zero_point)).astype(np.float32)]

    def cases(self) -> Iterator[Case]:
        s8, u8, s16 = DType.INT8, DType.UINT8, DType.INT16
        for dtype, zero in ((s8, 0), (s8, -128), (u8, 0), (u8, 255), (s16, 0)):
            for scale in (1e-7, 0.0123, 3.7):
                yield _case(f"{dtype.suffix}-{zero}-{scale}", dtype, DType.FLOAT32, scale, 1.0, zero)


OPS = [Quantize(), Dequantize()]
