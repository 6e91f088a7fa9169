"""FULLY_CONNECTED: y[row, o] = activation(sum_i x[row, i] * weights[o, i] + bias[o])."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tflite

from sdk import numerics
from sdk.graph import DType
from sdk.lower import ABSENT, Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.ops.conv_2d import CONV_2D_HYBRID, lower_hybrid
from sdk.overlap import Overlap, items_ahead_bytes
from sdk.program import Struct, embed, fields

ARGS_S8 = Struct(
    "ml_fully_connected_s8_args",
    (
        *fields("I", "rows", "inputs", "outputs"),
        *fields("I", "scale_stride"),  # 1: a multiplier for each output; 0: one for all
        *fields("i", "weights_offset", "output_offset", "low", "high"),
    ),
)
ARGS_S16 = Struct(
    "ml_fully_connected_s16_args", (*fields("I", "rows", "inputs", "outputs"), *embed("quantized", conv.QUANTIZED))
)
ARGS_F32 = Struct(
    "ml_fully_connected_f32_args", (*fields("I", "rows", "inputs", "outputs"), *fields("f", "low", "high"))
)

FULLY_CONNECTED_S8 = Kernel(
    "fully_connected_s8",
    1,
    "fully_connected.c",
    ARGS_S8,
    (
        read("input", DType.INT8),
        read("weights", DType.INT8),
        read("start", DType.INT32),  # accumulators' start values: bias and zero points folded
        read("scales", DType.INT32),  # (multiplier, shift) pairs
        write("output", DType.INT8),
    ),
)
FULLY_CONNECTED_F32 = Kernel(
    "fully_connected_f32",
    2,
    "fully_connected.c",
    ARGS_F32,
    conv.SLOTS_F32,
)
FULLY_CONNECTED_S16 = Kernel(
    "fully_connected_s16",
    30,
    "fully_connected.c",
    ARGS_S16,
    (
        read("input", DType.INT16),
        read("weights", DType.INT8),
        read("start", DType.INT64),
        read("scales", DType.INT32),
        write("output", DType.INT16),
    ),
)


class FullyConnected(Op):
    names = ("FULLY_CONNECTED",)
    kernels = (FULLY_CONNECTED_S8, FULLY_CONNECTED_S16, FULLY_CONNECTED_F32, CONV_2D_HYBRID)
    types = conv.TYPES
    limits = f"{conv.LIMITS}; no shuffled weights"
    bound = conv.FLOAT_BOUND

    def check(self, view: View) -> None:
        x, weights, y = view.input(0), view.input(1), view.output()
        view.need(len(weights.shape) == 2, f"its weights {weights.label} have {len(weights.shape)} dimensions, not 2")
        outputs, inputs = weights.shape
        view.need(inputs > 0 and x.elements % inputs == 0, f"its input {list(x.shape)} is not rows of {inputs}")
        rows = x.elements // inputs
        view.need(y.elements == rows * outputs, f"its output {list(y.shape)} is not {rows} rows of {outputs}")
        if view.has(2):
            bias, allowed = view.input(2), conv.BIAS_TYPES.get(x.dtype, ())
            view.need(bias.elements == outputs, f"its bias does not have {outputs} values")
            view.need(bias.dtype in allowed, f"its bias is {bias.dtype.numpy_name}, which does not fit its input")
        if weights.quantization is not None and weights.quantization.per_channel:
            view.need(weights.quantization.axis == 0, "its weights have scales along the inputs, not the outputs")
        if view.option("weights_format"):
            raise view.unsupported("has shuffled weights, a format of the phone runtime")

    def macs(self, view: View) -> int:
        weights = view.input(1)
        return view.input(0).elements // weights.shape[1] * weights.elements

    def lower(self, view: View, low: Lowering) -> None:
        x, weights, y = view.input(0), view.input(1), view.output()
        shape = {"rows": x.elements // weights.shape[1], "inputs": weights.shape[1], "outputs": weights.shape[0]}
        kinds = conv.kinds(view)
        if kinds == (DType.FLOAT32,) * 3:
            lo, hi = numerics.float_activation_range(view.option("fused_activation_function"))
            bias = low.value(view.input(2)) if view.has(2) else ABSENT
            values = [low.value(x), low.value(weights), bias, low.value(y)]
            low.step(
                FULLY_CONNECTED_F32, shape | {"low": lo, "high": hi}, values, overlaps=[_overlap(shape, 3, y.dtype)]
            )
        elif kinds == (DType.INT8,) * 3:
            self._lower_s8(view, low, shape)
        elif kinds == (DType.INT16, DType.INT8, DType.INT16):
            self._lower_s16(view, low, shape)
        elif kinds == (DType.FLOAT32, DType.INT8, DType.FLOAT32):
            asymmetric = bool(view.option("asymmetric_quantize_inputs", False))
            lower_hybrid(view, low, _image_shape(shape), ABSENT, conv.weight_scales(view), asymmetric)
        else:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def _lower_s8(self, view: View, low: Lowering, shape: dict[str, Any]) -> None:
        x, weights, y = view.input(0), view.input(1), view.output()
        bias = view.constant(2) if view.has(2) else None
        per_channel = weights.quantization is not None and weights.quantization.per_channel
        weights_zero_point = 0 if per_channel else weights.zero_point
        data = view.constant(1)
        added = view.input(2) if view.has(2) else None
        scales = numerics.convolution_multipliers(x, weights, y, added, product_in_float32=not per_channel)
        lo, hi = numerics.activation_range(view.option("fused_activation_function"), y)
        args = shape | {
            "scale_stride": int(per_channel),
            "weights_offset": -weights_zero_point,
            "output_offset": y.zero_point,
            "low": lo,
            "high": hi,
        }
        start = numerics.folded_bias(bias, data, x.zero_point, weights_zero_point, axes=(1,))
        values = [
            low.value(x),
            low.constant(data),
            low.constant(start),
            low.constant(np.array(scales, np.int32)),
            low.value(y),
        ]
        low.step(FULLY_CONNECTED_S8, args, values, overlaps=[_overlap(shape, 4, y.dtype)])

    def _lower_s16(self, view: View, low: Lowering, shape: dict[str, Any]) -> None:
        quantization = view.input(1).quantization
        per_channel = quantization is not None and quantization.per_channel
        weights = conv.quantized_weights(view, summed=(1,), product_in_float32=not per_channel)
        values = [
            low.value(view.input(0)),
            low.constant(weights.data),
            low.constant(weights.start),
            low.constant(weights.scales),
            low.value(view.output()),
        ]
        overlaps = [_overlap(shape, 4, view.output().dtype)]
        low.step(FULLY_CONNECTED_S16, shape | {"quantized": weights.args}, values, overlaps=overlaps)

    def cases(self) -> Iterator[Case]:
        for rows, inputs, outputs in (
            (1, 1, 1),
            (1, 7, 5),
            (1, 28, 7),
            (2, 8, 5),
            (3, 16, 4),
            (2, 33, 17),
            (1, 134, 6),
            (1, 132, 6),
            (2, 12, 33),
            (1, 64, 36),
        ):
            for activation in (numerics.ACTIVATION_NONE, numerics.RELU, numerics.RELU6, numerics.RELU_N1_TO_1):
                name = f"{rows}x{inputs}x{outputs}-act{activation}"
                yield _case_s8(name, rows, inputs, outputs, activation)
                yield _case_f32(name, rows, inputs, outputs, activation)
        for x_zero, y_zero, scale in itertools.product((-128, 127), (-128, 127), (1e-6, 0.02, 30.0)):
            yield _case_s8(f"zero{x_zero}-{y_zero}-scale{scale}", 2, 9, 6, 0, x_zero, y_zero, scale)
        yield _case_s8("no-bias", 2, 9, 6, 0, bias=False)
        yield _case_s8("uint8", 2, 9, 6, 1, x_zero=121, y_zero=3, dtype=DType.UINT8)
        yield _case_s8("uint8-no-bias", 1, 20, 3, 0, x_zero=0, y_zero=255, dtype=DType.UINT8, bias=False)
        yield _ties_case()
        yield _case_f32("no-bias", 2, 9, 6, 0, bias=False)
        for numbers, activation in itertools.product(conv.WIDE_CASES, (numerics.ACTIVATION_NONE, numerics.RELU6)):
            yield _case_of(numbers, 3, 900, 5, activation)
        yield _case_of(replace(conv.WIDE, per_channel=False), 2, 7, 1, numerics.RELU)
        # Scales that differ: tflite-runtime 2.14 takes them for none, and is no oracle.
        for bias, asymmetric in itertools.product((DType.FLOAT32, None), (False, True)):
            numbers = replace(conv.HYBRID, per_channel=False, bias=bias)
            yield _case_of(numbers, 3, 50, 7, numerics.RELU, asymmetric_quantize_inputs=asymmetric)
        yield _case_of(conv.CaseNumbers(), 2, 33, 5, numerics.RELU)
        yield _case_of(conv.CaseNumbers(weights=DType.INT4, per_channel=False), 2, 33, 5, numerics.ACTIVATION_NONE)


def _overlap(shape: Mapping[str, int], output: int, dtype: DType) -> Overlap:
    """How operand `output` may lie over the input: a row is read for each of its outputs."""
    row_bytes = [shape[name] * dtype.bytes for name in ("inputs", "outputs")]
    return Overlap(0, output, items_ahead_bytes(shape["rows"], *row_bytes) + row_bytes[1] - dtype.bytes)


def _image_shape(shape: dict[str, int]) -> dict[str, Any]:
    """The shape of the CONV_2D that is the same: each row an image of one pixel."""
    ones = {item.name: 0 if item.name.startswith("pad") else 1 for item in conv.WINDOW.fields}
    channels = {"input_channels": shape["inputs"], "output_channels": shape["outputs"]}
    window = ones | {"batches": shape["rows"]} | channels
    return {"window": window, "groups": 1, "group_inputs": shape["inputs"], "group_outputs": shape["outputs"]}


def _options(activation: int) -> dict[str, Any]:
    return {
        "fused_activation_function": activation,
        "weights_format": 0,
        "keep_num_dims": False,
        "asymmetric_quantize_inputs": False,
    }


def _case_of(numbers: conv.CaseNumbers, rows: int, inputs: int, outputs: int, activation: int, **options: Any) -> Case:
    g = CaseGraph()
    operands, y = conv.case_operands(g, numbers, ((rows, inputs), (outputs, inputs), (rows, outputs)), axis=0)
    asymmetric = "-asymmetric" if options.get("asymmetric_quantize_inputs") else ""
    name = f"{numbers.name}-{rows}x{inputs}x{outputs}-act{activation}{asymmetric}"
    # Without a bias tflite-runtime adds up in 32 bits always, tflite-micro only where this option says so.
    sums = {} if numbers.bias else {"quantized_bias_type": tflite.TensorType.INT32}
    return g.case(name, "FULLY_CONNECTED", operands, [y], _options(activation) | sums | options)


def _case_s8(
    name: str,
    rows: int,
    inputs: int,
    outputs: int,
    activation: int,
    x_zero: int = 3,
    y_zero: int = -5,
    scale: float = 0.02,
    *,
    bias: bool = True,
    dtype: DType = DType.INT8,
) -> Case:
    rng = np.random.default_rng(rows * 1000 + inputs)
    g = CaseGraph()
    unsigned = 128 if dtype is DType.UINT8 else 0
    x = g.input((rows, inputs), dtype, 0.05, x_zero)
    data = rng.integers(-127, 128, (outputs, inputs)) + unsigned
    weights = g.constant(data, dtype, 0.01, unsigned + 9 if unsigned else 0)
    operands: list[int | None] = [x, weights]
    if bias:
        operands.append(g.constant(rng.integers(-3000, 3000, outputs), DType.INT32, 0.05 * 0.01))
    y = g.output((rows, outputs), dtype, scale, y_zero)
    return g.case(f"s8-{name}", "FULLY_CONNECTED", operands, [y], _options(activation))


def _ties_case() -> Case:
    """Sums of which every eighth lies half way between two outputs, above and below zero: kernels must round away from
    it, and round twice where the reference does."""
    rng = np.random.default_rng(8)
    g = CaseGraph()
    x = g.input((4, 3), DType.INT8, 0.5)
    weights = g.constant(rng.integers(-3, 4, (64, 3)), DType.INT8, 0.25)
    bias = g.constant(np.arange(-32, 32), DType.INT32, 0.125)
    y = g.output((4, 64), DType.INT8, 1.0)
    return g.case("s8-ties", "FULLY_CONNECTED", [x, weights, bias], [y], _options(numerics.ACTIVATION_NONE))


def _case_f32(name: str, rows: int, inputs: int, outputs: int, activation: int, *, bias: bool = True) -> Case:
    rng = np.random.default_rng(rows * 1000 + inputs)
    g = CaseGraph()
    x = g.input((rows, inputs), DType.FLOAT32)
    operands: list[int | None] = [x, g.constant(rng.normal(size=(outputs, inputs)), DType.FLOAT32)]
    if bias:
        operands.append(g.constant(rng.normal(size=outputs), DType.FLOAT32))
    y = g.output((rows, outputs), DType.FLOAT32)
    return g.case(f"f32-{name}", "FULLY_CONNECTED", operands, [y], _options(activation))


OPS = [FullyConnected()]
