"""CONV_2D: y[b, v, h, o] = activation(bias[o] + sum over the window of x * weights[o]), grouped where weights are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sdk import numerics
from sdk.graph import Array, DType
from sdk.lower import ABSENT, Lowering, Value
from sdk.ops import convolution as conv
from sdk.ops.base import Case, CaseGraph, Kernel, Op, Slot, View, read, write
from sdk.overlap import Overlap, items_ahead_bytes, window_ahead_bytes
from sdk.program import Struct, embed, fields

SHAPE = Struct(
    "ml_conv_2d_shape", (*embed("window", conv.WINDOW), *fields("I", "groups", "group_inputs", "group_outputs"))
)
ARGS_S8 = Struct("ml_conv_2d_s8_args", (*embed("shape", SHAPE), *embed("quantized", conv.QUANTIZED)))
ARGS_F32 = Struct("ml_conv_2d_f32_args", (*embed("shape", SHAPE), *fields("f", "low", "high")))
ARGS_HYBRID = Struct(
    "ml_conv_2d_hybrid_args",
    (
        *embed("shape", SHAPE),
        *fields("f", "low", "high"),
        *fields("H", "asymmetric"),  # whether inputs are quantized with a zero point
        *fields("H", "scale_twice"),  # whether sums are multiplied by the weights' and then by the input's scale
        *fields("I", "scale_stride"),  # 1: a scale for each output; 0: one for all
    ),
)

CONV_2D_S8 = Kernel(
    "conv_2d_s8",
    10,
    "conv_2d.c",
    ARGS_S8,
    (
        read("input", DType.INT8),
        read("weights", DType.INT8),  # [outputs][kernel height][kernel width][group inputs]
        read("start", DType.INT32),  # accumulators' start values: bias and zero points folded
        write("output", DType.INT8),
        Slot("patch", DType.INT8, written=True, optional=True),  # absent where each window is one run of memory
        read("scales", DType.INT32),  # (multiplier, shift) pairs
    ),
)
CONV_2D_S16 = Kernel(
    "conv_2d_s16",
    12,
    "conv_2d.c",
    ARGS_S8,
    (
        read("input", DType.INT16),
        read("weights", DType.INT8),
        read("start", DType.INT64),
        write("output", DType.INT16),
        Slot("patch", DType.INT16, written=True, optional=True),
        read("scales", DType.INT32),
    ),
)
CONV_2D_F32 = Kernel(
    "conv_2d_f32",
    11,
    "conv_2d.c",
    ARGS_F32,
    (
        read("input", DType.FLOAT32),
        read("weights", DType.FLOAT32),
        read("bias", DType.FLOAT32, optional=True),
        write("output", DType.FLOAT32),
        Slot("patch", DType.FLOAT32, written=True, optional=True),
    ),
)
# float32 activations, int8 weights; FULLY_CONNECTED uses it too, a row being an image of one pixel.
CONV_2D_HYBRID = Kernel(
    "conv_2d_hybrid",
    13,
    "conv_2d.c",
    ARGS_HYBRID,
    (
        read("input", DType.FLOAT32),
        read("weights", DType.INT8),
        read("bias", DType.FLOAT32, optional=True),
        write("output", DType.FLOAT32),
        Slot("patch", DType.INT8, written=True, optional=True),
        read("scales", DType.FLOAT32),
        read("weight_sums", DType.INT32, optional=True),  # of each output; needed where `asymmetric`
        write("image", DType.INT8),  # one image, quantized
    ),
)


class Conv2D(Op):
    names = ("CONV_2D",)
    kernels = (CONV_2D_S8, CONV_2D_S16, CONV_2D_F32, CONV_2D_HYBRID)
    types = conv.TYPES
    limits = conv.LIMITS
    bound = conv.FLOAT_BOUND

    def check(self, view: View) -> None:
        x, weights = view.input(0), view.input(1)
        view.need(len(weights.shape) == 4, f"its weights {weights.label} have {len(weights.shape)} dimensions, not 4")
        outputs, height, width, inputs = weights.shape
        conv.window(view, (height, width))
        view.need(inputs > 0 and x.shape[3] % inputs == 0, f"its weights take {inputs} of {x.shape[3]} input channels")
        groups = x.shape[3] // inputs
        view.need(outputs % groups == 0, f"its {outputs} outputs do not make {groups} groups")
        conv.check_constants(view, outputs)

    def macs(self, view: View) -> int:
        weights, y = view.input(1), view.output()
        return y.elements * weights.elements // weights.shape[0]

    def lower(self, view: View, low: Lowering) -> None:
        kinds = conv.kinds(view)
        if kinds == (DType.FLOAT32,) * 3:
            self._lower_f32(view, low)
        elif kinds == (DType.INT8,) * 3:
            self._lower_quantized(view, low, CONV_2D_S8)
        elif kinds == (DType.INT16, DType.INT8, DType.INT16):
            self._lower_quantized(view, low, CONV_2D_S16)
        elif kinds == (DType.FLOAT32, DType.INT8, DType.FLOAT32):
            scales = conv.weight_scales(view)
            # Grouped convolutions and scales that differ have kernels of their own in TensorFlow Lite.
            apart = len(set(scales.tolist())) > 1 or _shape(view)["groups"] > 1
            patch = _patch(view, low, DType.INT8)
            lower_hybrid(view, low, _shape(view), patch, scales if apart else scales[:1], apart, scale_twice=apart)
        else:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def _lower_quantized(self, view: View, low: Lowering, kernel: Kernel) -> None:
        weights = conv.quantized_weights(view, summed=(1, 2, 3))
        values = [
            low.value(view.input(0)),
            low.constant(weights.data),
            low.constant(weights.start),
            low.value(view.output()),
            _patch(view, low, view.input(0).dtype),
            low.constant(weights.scales),
        ]
        args = {"shape": _shape(view), "quantized": weights.args}
        low.step(kernel, args, values, overlaps=[overlap(args["shape"], values, view.output().dtype)])

    def _lower_f32(self, view: View, low: Lowering) -> None:
        bias = low.value(view.input(2)) if view.has(2) else ABSENT
        values = [
            low.value(view.input(0)),
            low.value(view.input(1)),
            bias,
            low.value(view.output()),
            _patch(view, low, view.input(0).dtype),
        ]
        shape = _shape(view)
        overlaps = [overlap(shape, values, DType.FLOAT32)]
        low.step(CONV_2D_F32, {"shape": shape} | conv.float_clamp(view), values, overlaps=overlaps)

    def cases(self) -> Iterator[Case]:
        plain = conv.CaseNumbers()
        for kernel, stride, dilation, padding in itertools.product(
            ((1, 1), (3, 3), (2, 5)), ((1, 1), (2, 3)), ((1, 1), (3, 2)), (conv.SAME, conv.VALID)
        ):
            shape = conv.CaseShape((1, 7, 9, 3), kernel, stride, dilation, padding)
            yield _case(shape, plain, 5)
            if kernel != (1, 1) and dilation == (1, 1):
                yield _case(shape, conv.FLOAT, 5)
        for activation in (numerics.RELU, numerics.RELU6, numerics.RELU_N1_TO_1):
            shape = conv.CaseShape((2, 3, 4, 7), activation=activation)
            for numbers in (replace(plain, per_channel=False), conv.FLOAT, conv.WIDE):
                yield _case(shape, numbers, 2)
        for x_zero, y_zero, y_scale in itertools.product((-128, 127), (-128, 127), (1e-6, 30.0)):
            extreme = conv.CaseNumbers(x_zero=x_zero, y_zero=y_zero, y_scale=y_scale)
            yield _case(conv.CaseShape((1, 3, 3, 2)), extreme, 3)
        yield from _edge_cases()
        yield from _color_cases()
        yield from _hybrid_cases()


def lower_hybrid(
    view: View,
    low: Lowering,
    shape: dict[str, Any],
    patch: Value,
    scales: Array,
    asymmetric: bool,
    *,
    scale_twice: bool = False,
) -> None:
    """Adds the step of a node with float32 activations and int8 weights [outputs][...]; see `ARGS_HYBRID`."""
    weights = conv.symmetric_weights(view)
    sums = weights.reshape(len(weights), -1).sum(axis=1, dtype=np.int32)
    window = shape["window"]
    values = [
        low.value(view.input(0)),
        low.constant(weights),
        low.value(view.input(2)) if view.has(2) else ABSENT,
        low.value(view.output()),
        patch,
        low.constant(scales),
        low.constant(sums) if asymmetric else ABSENT,
        low.scratch(window["input_height"] * window["input_width"] * window["input_channels"]),
    ]
    flags = {"asymmetric": asymmetric, "scale_twice": scale_twice, "scale_stride": int(len(scales) > 1)}
    images = [tensor.bytes // window["batches"] for tensor in (view.input(0), view.output())]
    quantized_first = Overlap(0, 3, items_ahead_bytes(window["batches"], *images))
    low.step(CONV_2D_HYBRID, {"shape": shape} | conv.float_clamp(view) | flags, values, overlaps=[quantized_first])


def _shape(view: View) -> dict[str, Any]:
    outputs, height, width, inputs = view.input(1).shape
    groups = view.input(0).shape[3] // inputs
    shape = conv.window(view, (height, width))
    return {"window": shape, "groups": groups, "group_inputs": inputs, "group_outputs": outputs // groups}


def overlap(shape: dict[str, Any], values: Sequence[Value], dtype: DType) -> Overlap:
    """How the output may lie over the input: group by group of a pixel, the kernel reads the window and writes."""
    window = shape["window"]
    ahead = max(0, (shape["groups"] - 1) * (shape["group_outputs"] - shape["group_inputs"]))
    if values[4] is ABSENT:  # no patch: the window is read for each output
        ahead += shape["group_outputs"] - 1
    pixels = (window[f"{side}_channels"] * dtype.bytes for side in ("input", "output"))
    return Overlap(0, 3, window_ahead_bytes(window, *pixels) + ahead * dtype.bytes)


def _patch(view: View, low: Lowering, dtype: DType) -> Value:
    """Scratch for the inputs under one window, where they are not one run of memory already."""
    _, height, width, inputs = view.input(1).shape
    x = view.input(0)
    if inputs == x.shape[3] and conv.is_one_run(conv.window(view, (height, width))):
        return ABSENT
    return low.scratch(height * width * inputs * dtype.bytes)


def _edge_cases() -> Iterator[Case]:
    """Runs of memory, groups, missing bias, one pixel, and models that were quantized to uint8."""
    plain = conv.CaseNumbers()
    one_pixel = conv.CaseShape((1, 1, 1, 17), (1, 1))
    joined_rows = conv.CaseShape((2, 9, 4, 5), (3, 4), (2, 1), padding=conv.VALID)
    one_row = conv.CaseShape((1, 3, 11, 2), (1, 5), (2, 2), padding=conv.VALID)
    wide = conv.CaseShape((1, 2, 2, 3), (5, 5), (1, 1), (1, 1))
    for numbers in (plain, conv.FLOAT, conv.UNSIGNED, *conv.WIDE_CASES):
        for shape in (one_pixel, joined_rows, one_row, wide):
            yield _case(shape, numbers, 4)
        yield _case(conv.CaseShape((1, 4, 5, 6)), numbers, 9, groups=3)
    yield _case(conv.CaseShape((1, 4, 4, 4), (1, 1)), plain, 4, groups=4)
    # Channels as fast kernels want them, images that are no multiples of their tiles.
    relu = replace(plain, y_zero=-128)
    for shape, numbers, outputs in (
        (conv.CaseShape((1, 5, 7, 16)), plain, 6),
        (conv.CaseShape((1, 5, 7, 16)), replace(plain, y_scale=0.2), 6),
        (conv.CaseShape((1, 3, 4, 32)), replace(plain, y_scale=0.2), 2),
        (conv.CaseShape((2, 6, 5, 16), padding=conv.VALID, activation=numerics.RELU), relu, 4),
        (conv.CaseShape((1, 3, 3, 48)), replace(plain, y_scale=0.2), 2),
        (conv.CaseShape((1, 14, 15, 16), stride=(2, 2)), replace(plain, y_scale=0.2), 4),
        (conv.CaseShape((2, 9, 15, 32), stride=(2, 2), padding=conv.VALID), replace(plain, y_scale=0.2), 2),
        (conv.CaseShape((1, 3, 5, 4), stride=(2, 1)), replace(plain, x_zero=-128), 3),
        (conv.CaseShape((1, 2, 4, 8), (1, 1), activation=numerics.RELU), relu, 5),
        (conv.CaseShape((1, 3, 3, 8), (1, 1), activation=numerics.RELU), relu, 8),
        # Rows that are joined: of less than four bytes, with two bytes left of each.
        (conv.CaseShape((1, 6, 9, 1), (4, 3), activation=numerics.RELU), relu, 3),
        (conv.CaseShape((1, 5, 8, 3), (2, 2)), plain, 2),
        # Images of one output each, whose windows lie outside in part; so few channels that a word has several pixels.
        (conv.CaseShape((3, 3, 3, 2), (5, 3), (3, 3)), plain, 3),
        (conv.CaseShape((1, 4, 4, 3)), plain, 1),
    ):
        yield _case(shape, numbers, outputs)
    yield _case(conv.CaseShape((1, 1, 1, 900), (1, 1)), conv.WIDE, 4)  # more than 32 bits of sum
    small = conv.CaseShape((1, 3, 3, 2))
    for numbers in (replace(plain, bias=None), replace(conv.FLOAT, bias=None), replace(plain, weights=DType.INT4)):
        yield _case(small, numbers, 3)
    for activation, stride in ((numerics.RELU6, (1, 1)), (numerics.ACTIVATION_NONE, (2, 2))):
        shape = conv.CaseShape((1, 8, 8, 3), (3, 3), stride, activation=activation)
        yield _case(shape, replace(conv.UNSIGNED, x_zero=0, y_zero=255), 8)


def _hybrid_cases() -> Iterator[Case]:
    """float32 activations with int8 weights, whose scales differ, are the same, or are only one."""
    strided = conv.CaseShape((2, 7, 6, 5), (3, 3), (2, 1), activation=numerics.RELU)
    dilated = conv.CaseShape((1, 7, 6, 3), (2, 3), (1, 1), (2, 2))
    run = conv.CaseShape((3, 4, 3, 7), (1, 1), padding=conv.VALID)
    for numbers in (conv.HYBRID, replace(conv.HYBRID, per_channel=False)):
        for shape in (strided, dilated, run):
            yield _case(shape, numbers, 4)
    yield _case(conv.CaseShape((1, 4, 5, 6)), conv.HYBRID, 9, groups=3)


def _color_cases() -> Iterator[Case]:
    """First layers of networks that see colors."""
    numbers = conv.CaseNumbers(x_zero=-1, y_zero=-128, y_scale=0.2)
    for size, stride in itertools.product(((2, 3), (5, 12)), ((1, 1), (2, 2))):
        for padding, outputs in ((conv.SAME, 4), (conv.VALID, 2)):
            shape = conv.CaseShape((2, *size, 3), stride=stride, padding=padding, activation=numerics.RELU)
            if min(shape.output) > 0:
                yield _case(shape, numbers, outputs, kind="color_")


def _case(shape: conv.CaseShape, numbers: conv.CaseNumbers, outputs: int, groups: int = 1, *, kind: str = "") -> Case:
    g = CaseGraph()
    weights = (outputs, *shape.kernel, shape.input[3] // groups)
    operands, y = conv.case_operands(
        g, numbers, (shape.input, weights, (shape.input[0], *shape.output, outputs)), axis=0
    )
    name = f"{kind}{numbers.name}-{shape.name}-o{outputs}-g{groups}"
    return g.case(name, "CONV_2D", operands, [y], shape.options())


OPS = [Conv2D()]
