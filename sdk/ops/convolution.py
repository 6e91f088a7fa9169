"""What the convolutions share: the geometry of a sliding window, and the constants of quantized weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tflite

from sdk import numerics
from sdk.graph import Array, DType, Tensor
from sdk.ops.base import Bound, CaseGraph, View, read, write
from sdk.program import Struct, fields

SAME, VALID = 0, 1

WINDOW = Struct(
    "ml_window",
    (
        *fields("I", "batches", "input_height", "input_width", "input_channels"),
        *fields("I", "output_height", "output_width", "output_channels"),
        *fields("H", "kernel_height", "kernel_width", "stride_height", "stride_width"),
        *fields("H", "dilation_height", "dilation_width", "pad_top", "pad_left"),
    ),
)
# The portable kernels add products in the oracle's order, and are equal to it bit for bit. Another order moves a sum of
# n products of about 1 by about sqrt(n) * 2^-24.
FLOAT_BOUND = Bound(1e-5, 1e-5, "equal where products are added in the reference's order; faster kernels may not")
LIMIT = 65535  # of the 16-bit fields
# What the operators with weights can be lowered from.
TYPES = ("int8", "int8 with int4 weights", "uint8", "int16 with int8 weights", "float32", "float32 with int8 weights")
LIMITS = "quantized weights and biases are constants"
# The operands of a kernel of int16 activations, and of float32 ones.
SLOTS_S16 = (
    read("input", DType.INT16),
    read("weights", DType.INT8),
    read("start", DType.INT64),  # accumulators' start values: the bias
    write("output", DType.INT16),
    read("scales", DType.INT32),  # (multiplier, shift) pairs
)
SLOTS_F32 = (
    read("input", DType.FLOAT32),
    read("weights", DType.FLOAT32),
    read("bias", DType.FLOAT32, optional=True),
    write("output", DType.FLOAT32),
)

QUANTIZED = Struct(
    "ml_quantized",
    (
        *fields("i", "output_offset"),
        *fields("h", "low", "high", "input_zero_point"),
        *fields("h", "weights_offset"),  # what to add to each weight; not 0 only in models quantized to uint8
        *fields("H", "scale_stride"),  # 1: a multiplier for each output; 0: one for all
        *fields("H", "sums_s64"),  # int16 activations: whether sums are rescaled as int64, or as int32
    ),
)


def output_size(padding: int, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(output size, padding before) along one axis; the output size is not positive where the window does not fit.

    Follows ComputeOutSize and ComputePadding (tensorflow/lite/kernels/padding.h).
    """
    reach = (kernel - 1) * dilation + 1
    out = -(-size // stride) if padding == SAME else -(-(size - reach + 1) // stride)
    return out, max(0, (out - 1) * stride + reach - size) // 2


def paddings(padding: int, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Padding (before, after) along one axis; as much behind as the last window reaches."""
    out, before = output_size(padding, size, kernel, stride, dilation)
    return before, max((out - 1) * stride + (kernel - 1) * dilation + 1 - size - before, 0)


def steps(view: View) -> tuple[tuple[int, int], tuple[int, int]]:
    """Strides and dilations, each (height, width)."""
    strides = view.option("stride_h"), view.option("stride_w")
    return strides, (view.option("dilation_h_factor", 1), view.option("dilation_w_factor", 1))


def window(view: View, kernel: Sequence[int]) -> dict[str, int]:
    """The `WINDOW` of a convolution of input 0 with a kernel of (height, width). ModelError where shapes do not fit."""
    x, y = view.input(0), view.output()
    check_images(view, x, y)
    strides, dilations = steps(view)
    pads = check_window(view, x.shape[1:3], y.shape[1:3], kernel, strides, dilations)
    return window_values(view, x, (*kernel, *strides, *dilations, *pads))


def check_images(view: View, x: Tensor, y: Tensor) -> None:
    """ModelError unless x and y are images of [batches][height][width][channels] with as many batches."""
    for tensor in (x, y):
        view.need(len(tensor.shape) == 4, f"tensor {tensor.label} has {len(tensor.shape)} dimensions, not 4")
        view.need(tensor.elements > 0, f"tensor {tensor.label} is empty: {list(tensor.shape)}")
    view.need(x.shape[0] == y.shape[0], f"its input has {x.shape[0]} batches, its output {y.shape[0]}")


def check_window(
    view: View,
    inputs: Sequence[int],
    outputs: Sequence[int] | None,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """(top, left) padding of windows over `inputs`. ModelError unless they make `outputs` (where not None).

    The fuse-padding pass adds the option `explicit_padding`: (top, bottom, left, right), in place of `padding`.
    """
    padding = view.option("padding")
    view.need(min(*strides, *dilations, *kernel) > 0, "its kernel, strides and dilations are not all positive")
    view.need(padding in (SAME, VALID), f"its padding {padding} is neither SAME nor VALID")
    top, bottom, left, right = view.option("explicit_padding", (0, 0, 0, 0))
    if "explicit_padding" in view.node.options:
        padding, inputs = VALID, (inputs[0] + top + bottom, inputs[1] + left + right)
    axes = [output_size(padding, *axis) for axis in zip(inputs, kernel, strides, dilations, strict=True)]
    sizes = [size for size, _ in axes]
    view.need(outputs in (None, tuple(sizes)), f"its windows make an output of {sizes}, but it is {outputs}")
    return [pad + explicit for (_, pad), explicit in zip(axes, (top, left), strict=True)]


def window_values(view: View, x: Tensor, small: Sequence[int]) -> dict[str, int]:
    """A `WINDOW` from input x and the values of its 16-bit fields. UnsupportedError where one is too large."""
    if max(small) > LIMIT:
        raise view.unsupported(f"has a kernel, stride, dilation or padding above {LIMIT}")
    values = (*x.shape, *view.output().shape[1:], *small)
    return dict(zip((item.name for item in WINDOW.fields), values, strict=True))


def stays_inside(shape: dict[str, int]) -> bool:
    """Whether no window of a `WINDOW` reaches outside the input."""

    def inside(axis: str, before: str) -> bool:
        last = (shape[f"output_{axis}"] - 1) * shape[f"stride_{axis}"]
        reach = (shape[f"kernel_{axis}"] - 1) * shape[f"dilation_{axis}"]
        return shape[before] == 0 and last + reach < shape[f"input_{axis}"]

    return inside("height", "pad_top") and inside("width", "pad_left")


def is_one_run(shape: dict[str, int]) -> bool:
    """Whether the inputs under each window lie side by side in memory."""
    dense = all(shape[f"kernel_{axis}"] == 1 or shape[f"dilation_{axis}"] == 1 for axis in ("height", "width"))
    rows_joined = shape["kernel_height"] == 1 or shape["kernel_width"] == shape["input_width"]
    return dense and rows_joined and stays_inside(shape)


BIAS_TYPES = {
    DType.FLOAT32: (DType.FLOAT32,),
    DType.INT8: (DType.INT32,),
    DType.UINT8: (DType.INT32,),
    DType.INT16: (DType.INT64, DType.INT32),
}


def check_constants(view: View, channels: int, *, x: int = 0, bias: int = 2) -> None:
    """ModelError unless bias, weight scales and output fit `channels` output channels."""
    weights, y = view.input(1), view.output()
    view.need(y.shape[-1] == channels, f"its output {list(y.shape)} does not have {channels} channels")
    if view.has(bias):
        values, allowed = view.input(bias), BIAS_TYPES.get(view.input(x).dtype, ())
        view.need(values.elements == channels, f"its bias does not have {channels} values")
        view.need(values.dtype in allowed, f"its bias is {values.dtype.numpy_name}, which does not fit its input")
    if weights.quantization is not None:
        count = len(weights.quantization.scale)
        view.need(count in (1, channels), f"its weights have {count} scales for {channels} output channels")


@dataclass(frozen=True)
class Weights:
    """The constants of a quantized convolution."""

    data: Array
    start: Array  # accumulators' start values: bias and zero points folded
    scales: Array  # (multiplier, shift) pairs: one, or one for each output channel
    args: dict[str, int]  # a `QUANTIZED`


def quantized_weights(
    view: View,
    summed: Sequence[int],
    *,
    x: int = 0,
    bias: int = 2,
    fold: bool = True,
    product_in_float32: bool = False,
) -> Weights:
    """The constants for int8 weights (input 1), which the accumulators sum along the axes `summed`.

    `x` and `bias` are the positions of these inputs; `fold` says whether zero points are part of the start;
    `product_in_float32`: see `numerics.convolution_multipliers`.
    """
    source, weights, y = view.input(x), view.input(1), view.output()
    legacy = view.option("legacy_uint8", False)
    # The reference kernels take int8 weights as symmetric, whatever their zero point says.
    zero_point = weights.zero_point if legacy else 0
    data = view.constant(1)
    offsets = view.constant(bias) if view.has(bias) else np.zeros(_channels(data, summed), np.int64)
    added = view.input(bias) if view.has(bias) else None
    in_float32 = legacy or product_in_float32
    scales = numerics.convolution_multipliers(source, weights, y, added, product_in_float32=in_float32)
    sums_s64 = y.dtype is DType.INT16 and not _has_int32_sums(view, bias)
    if sums_s64:
        scales = [numerics.short_multiplier(*scale) for scale in scales]
    if y.dtype is DType.INT16:
        view.need(source.zero_point == y.zero_point == 0, "its int16 tensors have zero points other than 0")
        start = offsets.astype(np.int64)
    elif fold:
        start = numerics.folded_bias(offsets, data, source.zero_point, zero_point, summed)
    else:
        start = offsets.astype(np.int32)
    low, high = numerics.activation_range(view.option("fused_activation_function"), y)
    args = {
        "output_offset": y.zero_point,
        "low": low,
        "high": high,
        "input_zero_point": source.zero_point,
        "weights_offset": -zero_point,
        "scale_stride": int(len(scales) > 1),
        "sums_s64": int(sums_s64),
    }
    return Weights(data, start.reshape(-1), np.array(scales, np.int32), args)


def symmetric_weights(view: View) -> Array:
    """The int8 weights (input 1) of a node with float32 activations."""
    weights = view.input(1)
    if weights.quantization is None or any(weights.quantization.zero_point):
        raise view.unsupported(f"has weights {weights.label} that are not quantized around zero")
    return view.constant(1)


def weight_scales(view: View) -> Array:
    """float32[1] or float32[channels]: the scales of the weights (input 1) of a node with float32 activations."""
    quantization = view.input(1).quantization
    view.need(quantization is not None, "its weights have no scale")
    assert quantization is not None
    return np.array(quantization.scale, np.float32)


def _channels(weights: Array, summed: Sequence[int]) -> int:
    return math.prod(size for axis, size in enumerate(weights.shape) if axis not in summed)


def _has_int32_sums(view: View, bias: int) -> bool:
    """Whether the sums of int16 activations are 32 bits wide: as wide as the bias is, or would be."""
    if view.has(bias):
        return view.input(bias).dtype is DType.INT32
    return bool(view.option("quantized_bias_type") == tflite.TensorType.INT32)


def float_clamp(view: View) -> dict[str, float]:
    """The arguments `low` and `high` of a float32 kernel."""
    low, high = numerics.float_activation_range(view.option("fused_activation_function"))
    return {"low": low, "high": high}


def kinds(view: View) -> tuple[DType, ...]:
    """The types of input, weights and output; int4 weights are int8 ones once they are read."""
    tensors = (view.input(0), view.input(1), view.output())
    return tuple(DType.INT8 if tensor.dtype is DType.INT4 else tensor.dtype for tensor in tensors)


@dataclass(frozen=True)
class CaseShape:
    """The geometry of a test case."""

    input: tuple[int, int, int, int]
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: int = SAME
    activation: int = numerics.ACTIVATION_NONE

    @property
    def name(self) -> str:
        def size(*numbers: int) -> str:
            return "x".join(map(str, numbers))

        padding = "valid" if self.padding else "same"
        shapes = f"{size(*self.input)}-k{size(*self.kernel)}-s{size(*self.stride)}-d{size(*self.dilation)}"
        return f"{shapes}-{padding}-act{self.activation}"

    @property
    def output(self) -> tuple[int, int]:
        axes = zip(self.input[1:3], self.kernel, self.stride, self.dilation, strict=True)
        height, width = (output_size(self.padding, *axis)[0] for axis in axes)
        return height, width

    def options(self, **more: Any) -> dict[str, Any]:
        return {
            "padding": self.padding,
            "stride_h": self.stride[0],
            "stride_w": self.stride[1],
            "dilation_h_factor": self.dilation[0],
            "dilation_w_factor": self.dilation[1],
            "fused_activation_function": self.activation,
            **more,
        }


@dataclass(frozen=True)
class CaseNumbers:
    """The types and the quantization of a test case."""

    dtype: DType = DType.INT8
    per_channel: bool = True
    bias: DType | None = DType.INT32
    x_zero: int = 3
    y_zero: int = -5
    y_scale: float = 0.05
    weights: DType = DType.INT8  # float32 activations: weights are float32 where `hybrid` is not set
    hybrid: bool = False

    @property
    def name(self) -> str:
        kind = "hybrid" if self.hybrid else self.dtype.suffix
        weights = "-int4" if self.weights is DType.INT4 else ""
        bias = "-no-bias" if self.bias is None else "-bias64" if self.bias is DType.INT64 else ""
        scales = "-channels" if self.per_channel else ""
        return f"{kind}{weights}{scales}{bias}-x{self.x_zero}-y{self.y_zero}-scale{self.y_scale}"


FLOAT = CaseNumbers(DType.FLOAT32, bias=DType.FLOAT32)
HYBRID = replace(FLOAT, hybrid=True)
UNSIGNED = CaseNumbers(DType.UINT8, per_channel=False, x_zero=121, y_zero=3, weights=DType.UINT8)
WIDE = CaseNumbers(DType.INT16, bias=DType.INT64, x_zero=0, y_zero=0, y_scale=0.01)
WIDE_CASES = (WIDE, replace(WIDE, bias=DType.INT32), replace(WIDE, bias=None, per_channel=False))


def case_operands(
    g: CaseGraph, numbers: CaseNumbers, shapes: tuple[Sequence[int], Sequence[int], Sequence[int]], axis: int
) -> tuple[list[int | None], int]:
    """([input, weights, bias], output) of a case: `shapes` are theirs but the bias's, channels lie along `axis`."""
    rng = np.random.default_rng(sum(shapes[1]))
    channels = shapes[1][axis]
    if numbers.dtype is DType.FLOAT32:
        x, y = g.input(shapes[0], DType.FLOAT32), g.output(shapes[2], DType.FLOAT32)
        operands: list[int | None]
        if numbers.hybrid:
            operands = [x, _case_weights(g, numbers, shapes[1], axis, rng)[0]]
        else:
            operands = [x, g.constant(rng.normal(size=shapes[1]), DType.FLOAT32)]
        if numbers.bias is not None:
            operands.append(g.constant(rng.normal(size=channels), DType.FLOAT32))
        return operands, y
    x_scale = 0.0005 if numbers.dtype is DType.INT16 else 0.05
    x = g.input(shapes[0], numbers.dtype, x_scale, numbers.x_zero)
    weights, scale = _case_weights(g, numbers, shapes[1], axis, rng)
    operands = [x, weights]
    if numbers.bias is not None:
        bias_scale = [x_scale * s for s in scale]
        operands.append(g.constant(rng.integers(-3000, 3000, channels), numbers.bias, bias_scale))
    return operands, g.output(shapes[2], numbers.dtype, numbers.y_scale, numbers.y_zero)


def _case_weights(
    g: CaseGraph, numbers: CaseNumbers, shape: Sequence[int], axis: int, rng: np.random.Generator
) -> tuple[int, list[float]]:
    """(tensor, scales) of random quantized weights."""
    scale = list(rng.uniform(0.002, 0.02, shape[axis])) if numbers.per_channel else [0.01]
    limit = 7 if numbers.weights is DType.INT4 else 127
    zero_point = 137 if numbers.weights is DType.UINT8 else 0
    data = rng.integers(-limit, limit + 1, shape) + (128 if zero_point else 0)
    return g.constant(data, numbers.weights, scale, zero_point, axis), scale
