"""AVERAGE_POOL_2D, MAX_POOL_2D and L2_POOL_2D: over windows of the height and width, for each channel."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from sdk import numerics
from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.ops.convolution import LIMIT, SAME, VALID, output_size
from sdk.overlap import Overlap, window_ahead_bytes
from sdk.program import Struct, fields

ARGS = Struct(
    "ml_pool_2d_args",
    (
        *fields("I", "batches", "in_height", "in_width", "channels", "out_height", "out_width"),
        *fields("I", "stride_height", "stride_width", "filter_height", "filter_width", "pad_height", "pad_width"),
        *fields("i", "unsigned_offset"),  # 128 where the values stand for uint8
        *fields("i", "low", "high"),
        *fields("f", "low_f32", "high_f32"),
    ),
)


def _kernels(name: str, number: int) -> dict[DType, Kernel]:
    types = (DType.INT8, DType.INT16, DType.FLOAT32)
    return {
        dtype: Kernel(
            f"{name}_{dtype.suffix}",
            number + i,
            "pool_2d.c",
            ARGS,
            (read("input", dtype), write("output", dtype)),
        )
        for i, dtype in enumerate(types)
    }


AVERAGE = _kernels("average_pool", 57)
MAX = _kernels("max_pool", 60)


L2_F32 = Kernel("l2_pool_f32", 101, "pool_2d.c", ARGS, (read("input", DType.FLOAT32), write("output", DType.FLOAT32)))


class Pool(Op):
    """Subclasses say which kernel serves each type."""

    types: ClassVar[tuple[str, ...]] = ("int8", "uint8", "int16", "float32")
    variants: ClassVar[dict[DType, Kernel]]

    def check(self, view: View) -> None:
        x, y = view.input(0), view.output()
        view.need(len(x.shape) == 4, f"its input {x.label} has {len(x.shape)} dimensions, not 4")
        view.need(x.dtype is y.dtype, f"it makes {y.dtype.numpy_name} of {x.dtype.numpy_name}")
        view.need(x.elements > 0, f"its input {x.label} is empty")
        options = [view.option(name) for name in ("filter_height", "filter_width", "stride_h", "stride_w")]
        view.need(min(options) > 0, "its filter and strides are not all positive")
        if max(options) > LIMIT:
            raise view.unsupported(f"has a filter or stride above {LIMIT}")
        view.need(view.option("padding") in (SAME, VALID), "its padding is neither SAME nor VALID")
        (out_height, _), (out_width, _) = _windows(view)
        expected = (x.shape[0], out_height, out_width, x.shape[3])
        view.need(min(expected) > 0 and y.shape == expected, f"its output {list(y.shape)} is not {list(expected)}")
        if (DType.INT8 if x.dtype is DType.UINT8 else x.dtype) not in self.variants:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        if x.dtype is not DType.FLOAT32:
            same = abs(x.scale - y.scale) <= 1e-6 and x.zero_point == y.zero_point
            view.need(same, "its input and output have different scales or zero points")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        (out_height, pad_height), (out_width, pad_width) = _windows(view)
        activation = view.option("fused_activation_function")
        least, most = (0, 0) if x.dtype is DType.FLOAT32 else numerics.activation_range(activation, y)
        least_f32, most_f32 = numerics.float_activation_range(activation)
        args = {
            "batches": x.shape[0],
            "in_height": x.shape[1],
            "in_width": x.shape[2],
            "channels": x.shape[3],
            "out_height": out_height,
            "out_width": out_width,
            "stride_height": view.option("stride_h"),
            "stride_width": view.option("stride_w"),
            "filter_height": view.option("filter_height"),
            "filter_width": view.option("filter_width"),
            "pad_height": pad_height,
            "pad_width": pad_width,
            "unsigned_offset": 128 if view.option("legacy_uint8") else 0,
            "low": least,
            "high": most,
            "low_f32": least_f32,
            "high_f32": most_f32,
        }
        overlap = Overlap(0, 1, _ahead_bytes(args, x.shape[3] * x.dtype.bytes))
        low.step(self.variants[x.dtype], args, [low.value(x), low.value(y)], overlaps=[overlap])

    def cases(self) -> Iterator[Case]:
        op = self.names[0]
        for dtype in (DType.UINT8, *AVERAGE) if len(self.variants) > 1 else self.variants:
            for padding, stride, size in itertools.product((SAME, VALID), ((1, 1), (2, 3)), ((1, 1), (3, 2), (2, 5))):
                yield _case(op, dtype, (1, 5, 6, 3), size, stride, padding)
            yield _case(op, dtype, (2, 7, 7, 17), (7, 7), (7, 7), VALID)
            yield _case(op, dtype, (1, 2, 9, 1), (5, 5), (1, 1), SAME)
            yield _case(op, dtype, (2, 6, 5, 8), (3, 2), (2, 1), SAME)  # four channels in a word
            yield _case(op, dtype, (1, 16, 17, 4), (16, 17), (1, 1), VALID)
            yield _case(op, dtype, (1, 1, 1, 2), (1, 1), (2, 2), SAME)
            for activation in (numerics.RELU, numerics.RELU6, numerics.RELU_N1_TO_1):
                for channels in (2, 4):
                    yield _case(op, dtype, (1, 4, 4, channels), (2, 2), (2, 2), VALID, activation)


class L2Pool(Pool):
    names = ("L2_POOL_2D",)
    kernels = (L2_F32,)
    types = ("float32",)
    variants: ClassVar[dict[DType, Kernel]] = {DType.FLOAT32: L2_F32}
    bound = Bound(0.0, 0.0, "the sum is formed in the oracle's order; its root is rounded correctly")


class AveragePool(Pool):
    names = ("AVERAGE_POOL_2D",)
    kernels = tuple(AVERAGE.values())
    variants = AVERAGE
    bound = Bound(0.0, 0.0, "the sum is formed in the oracle's order, then divided once")


class MaxPool(Pool):
    names = ("MAX_POOL_2D",)
    kernels = tuple(MAX.values())
    variants = MAX
    bound = Bound(0.0, 0.0, "no arithmetic")


def _ahead_bytes(args: Mapping[str, Any], pixel_bytes: int) -> int:
    """Channel by channel of a pixel, the kernel reads the window and writes the output."""
    shape = {"batches": args["batches"], "pad_top": args["pad_height"], "pad_left": args["pad_width"]}
    for axis in ("height", "width"):
        names = {"input": "in", "output": "out", "kernel": "filter", "stride": "stride"}
        shape |= {f"{name}_{axis}": args[f"{own}_{axis}"] for name, own in names.items()} | {f"dilation_{axis}": 1}
    return window_ahead_bytes(shape, pixel_bytes, pixel_bytes)


def _windows(view: View) -> tuple[tuple[int, int], tuple[int, int]]:
    """(number of windows, padding before the first) along the height and the width."""
    _, height, width, _ = view.input(0).shape
    padding = view.option("padding")
    return (
        output_size(padding, height, view.option("filter_height"), view.option("stride_h"), 1),
        output_size(padding, width, view.option("filter_width"), view.option("stride_w"), 1),
    )


def _case(
    op: str,
    dtype: DType,
    shape: tuple[int, int, int, int],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    activation: int = 0,
) -> Case:
    options: dict[str, Any] = {
        "padding": padding,
        "stride_w": stride[1],
        "stride_h": stride[0],
        "filter_width": size[1],
        "filter_height": size[0],
        "fused_activation_function": activation,
    }
    scale, zero = {
        DType.INT8: (0.05, -3),
        DType.UINT8: (0.04, 100),
        DType.INT16: (0.001, 0),
        DType.FLOAT32: (None, 0),
    }[dtype]
    g = CaseGraph()
    x = g.input(shape, dtype, scale, zero)
    out = [output_size(padding, *axis, 1)[0] for axis in zip(shape[1:3], size, stride, strict=True)]
    y = g.output((shape[0], *out, shape[3]), dtype, scale, zero)
    name = f"{dtype.suffix}-{shape}-{size}-{stride}-{padding}-act{activation}"
    return g.case(name.replace(" ", ""), op, [x], [y], options, values=_inputs(shape, dtype))


def _inputs(shape: tuple[int, ...], dtype: DType) -> list[tuple[Array, ...]]:
    """Random values over the range, around zero (where rounding changes its side), and both ends."""
    rng = np.random.default_rng(len(shape))
    if dtype is DType.FLOAT32:
        return [(rng.normal(0, spread, shape).astype(np.float32),) for spread in (1, 10)]
    info = np.iinfo(dtype.numpy)
    middle = 128 if dtype is DType.UINT8 else 0
    ranges = ((info.min, info.max), (info.min, info.max), (middle - 4, middle + 4), (info.max, info.max))
    return [(rng.integers(a, b, shape, endpoint=True).astype(dtype.numpy),) for a, b in ranges]


OPS: list[Op] = [AveragePool(), MaxPool(), L2Pool()]
