"""DEPTHWISE_CONV_2D: each input channel is convolved by itself, with `depth multiplier` kernels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sdk import numerics
from sdk.graph import DType
from sdk.lower import ABSENT, Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.ops.conv_2d import CONV_2D_S8, overlap
from sdk.overlap import Overlap, items_ahead_bytes, window_ahead_bytes
from sdk.program import Struct, embed, fields

SHAPE = Struct("ml_depthwise_conv_2d_shape", (*embed("window", conv.WINDOW), *fields("I", "depth_multiplier")))
ARGS_S8 = Struct("ml_depthwise_conv_2d_s8_args", (*embed("shape", SHAPE), *embed("quantized", conv.QUANTIZED)))
ARGS_F32 = Struct("ml_depthwise_conv_2d_f32_args", (*embed("shape", SHAPE), *fields("f", "low", "high")))
ARGS_HYBRID = Struct(
    "ml_depthwise_conv_2d_hybrid_args",
    (*embed("shape", SHAPE), *fields("f", "low", "high"), *fields("I", "scale_stride")),
)

SLOTS_S8 = (
    read("input", DType.INT8),
    read("weights", DType.INT8),  # [kernel height][kernel width][outputs]
    read("start", DType.INT32),  # the bias: how many taps an output has depends on where it lies
    write("output", DType.INT8),
    read("scales", DType.INT32),  # (multiplier, shift) pairs
)
DEPTHWISE_CONV_2D_S8 = Kernel("depthwise_conv_2d_s8", 15, "depthwise_conv_2d.c", ARGS_S8, SLOTS_S8)
# For weights that have a zero point, which costs an addition each.
DEPTHWISE_CONV_2D_S8_OFFSET = Kernel("depthwise_conv_2d_s8_offset", 16, "depthwise_conv_2d.c", ARGS_S8, SLOTS_S8)
DEPTHWISE_CONV_2D_S16 = Kernel(
    "depthwise_conv_2d_s16",
    18,
    "depthwise_conv_2d.c",
    ARGS_S8,
    conv.SLOTS_S16,
)
DEPTHWISE_CONV_2D_F32 = Kernel(
    "depthwise_conv_2d_f32",
    17,
    "depthwise_conv_2d.c",
    ARGS_F32,
    conv.SLOTS_F32,
)
# float32 activations, int8 weights.
DEPTHWISE_CONV_2D_HYBRID = Kernel(
    "depthwise_conv_2d_hybrid",
    19,
    "depthwise_conv_2d.c",
    ARGS_HYBRID,
    (
        read("input", DType.FLOAT32),
        read("weights", DType.INT8),
        read("bias", DType.FLOAT32, optional=True),
        write("output", DType.FLOAT32),
        read("scales", DType.FLOAT32),
        write("image", DType.INT8),  # one image, quantized
    ),
)


class DepthwiseConv2D(Op):
    names = ("DEPTHWISE_CONV_2D",)
    kernels = (
        DEPTHWISE_CONV_2D_S8,
        DEPTHWISE_CONV_2D_S8_OFFSET,
        DEPTHWISE_CONV_2D_S16,
        DEPTHWISE_CONV_2D_F32,
        DEPTHWISE_CONV_2D_HYBRID,
        CONV_2D_S8,
    )
    types = conv.TYPES
    limits = conv.LIMITS
    bound = conv.FLOAT_BOUND

    def check(self, view: View) -> None:
        x, weights = view.input(0), view.input(1)
        view.need(len(weights.shape) == 4, f"its weights {weights.label} have {len(weights.shape)} dimensions, not 4")
        one, height, width, outputs = weights.shape
        view.need(one == 1, f"its weights {list(weights.shape)} do not start with 1")
        conv.window(view, (height, width))
        view.need(outputs % x.shape[3] == 0, f"its {outputs} outputs are no multiple of {x.shape[3]} input channels")
        conv.check_constants(view, outputs)

    def macs(self, view: View) -> int:
        _, height, width, _ = view.input(1).shape
        return view.output().elements * height * width

    def lower(self, view: View, low: Lowering) -> None:
        kinds = conv.kinds(view)
        if kinds == (DType.FLOAT32,) * 3:
            bias = low.value(view.input(2)) if view.has(2) else ABSENT
            values = [low.value(view.input(0)), low.value(view.input(1)), bias, low.value(view.output())]
            shape = _shape(view)
            overlaps = [_overlap(shape, DType.FLOAT32)]
            low.step(DEPTHWISE_CONV_2D_F32, {"shape": shape} | conv.float_clamp(view), values, overlaps=overlaps)
        elif kinds == (DType.INT8,) * 3 and view.input(0).shape[3] == 1:
            _lower_one_channel(view, low)
        elif kinds == (DType.INT8,) * 3:
            self._lower_quantized(view, low, DEPTHWISE_CONV_2D_S8)
        elif kinds == (DType.INT16, DType.INT8, DType.INT16):
            self._lower_quantized(view, low, DEPTHWISE_CONV_2D_S16)
        elif kinds == (DType.FLOAT32, DType.INT8, DType.FLOAT32):
            self._lower_hybrid(view, low)
        else:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def _lower_quantized(self, view: View, low: Lowering, kernel: Kernel) -> None:
        weights = conv.quantized_weights(view, summed=(0, 1, 2), fold=False)
        values = [
            low.value(view.input(0)),
            low.constant(weights.data),
            low.constant(weights.start),
            low.value(view.output()),
            low.constant(weights.scales),
        ]
        if weights.args["weights_offset"]:
            kernel = DEPTHWISE_CONV_2D_S8_OFFSET
        args = {"shape": _shape(view), "quantized": weights.args}
        low.step(kernel, args, values, overlaps=[_overlap(args["shape"], view.output().dtype)])

    def _lower_hybrid(self, view: View, low: Lowering) -> None:
        x, scales = view.input(0), conv.weight_scales(view)
        values = [
            low.value(x),
            low.constant(conv.symmetric_weights(view)),
            low.value(view.input(2)) if view.has(2) else ABSENT,
            low.value(view.output()),
            low.constant(scales),
            low.scratch(x.elements // x.shape[0]),
        ]
        args = {"shape": _shape(view), "scale_stride": int(len(scales) > 1)} | conv.float_clamp(view)
        sizes = (tensor.bytes // tensor.shape[0] for tensor in (x, view.output()))
        quantized_first = Overlap(0, 3, items_ahead_bytes(x.shape[0], *sizes))
        low.step(DEPTHWISE_CONV_2D_HYBRID, args, values, overlaps=[quantized_first])

    def cases(self) -> Iterator[Case]:
        plain = conv.CaseNumbers()
        for kernel, stride, dilation, padding in itertools.product(
            ((1, 1), (3, 3), (2, 5)), ((1, 1), (2, 3)), ((1, 1), (3, 2)), (conv.SAME, conv.VALID)
        ):
            shape = conv.CaseShape((1, 7, 9, 5), kernel, stride, dilation, padding)
            yield _case(shape, plain)
            if kernel == (3, 3) and padding == conv.SAME:
                yield _case(shape, conv.FLOAT)
                yield _case(shape, conv.WIDE)
        for channels, multiplier in ((1, 1), (3, 1), (17, 1), (1, 8), (1, 3), (2, 4), (3, 7)):
            shape = conv.CaseShape((2, 4, 5, channels), activation=numerics.RELU6)
            for numbers in (plain, conv.FLOAT, conv.UNSIGNED, conv.WIDE):
                yield _case(shape, numbers, multiplier)
        yield from _mobile_cases()
        for x_zero, y_zero, y_scale in itertools.product((-128, 127), (-128, 127), (1e-6, 30.0)):
            extreme = conv.CaseNumbers(x_zero=x_zero, y_zero=y_zero, y_scale=y_scale)
            yield _case(conv.CaseShape((1, 3, 3, 2)), extreme)
        for numbers in (replace(plain, per_channel=False), conv.FLOAT, conv.UNSIGNED, conv.WIDE):
            unbiased = replace(numbers, bias=None)
            for activation in (numerics.RELU, numerics.RELU_N1_TO_1):
                yield _case(conv.CaseShape((1, 3, 3, 4), activation=activation), unbiased)
            yield _case(conv.CaseShape((1, 1, 1, 4), (5, 5)), unbiased)
        yield _case(conv.CaseShape((1, 3, 3, 4)), replace(plain, weights=DType.INT4))
        for shape, multiplier in (
            (conv.CaseShape((2, 7, 6, 5), (3, 3), (2, 1), activation=numerics.RELU), 1),
            (conv.CaseShape((1, 7, 6, 3), (2, 3), (1, 1), (2, 2)), 2),
            (conv.CaseShape((1, 4, 3, 1), (2, 2), padding=conv.VALID), 7),
        ):
            yield _case(shape, conv.HYBRID, multiplier)


def _lower_one_channel(view: View, low: Lowering) -> None:
    """All outputs read the one channel that there is: a CONV_2D, whose kernels share the loads."""
    weights = conv.quantized_weights(view, summed=(0, 1, 2))
    _, height, width, outputs = weights.data.shape
    values = [
        low.value(view.input(0)),
        low.constant(weights.data[0].transpose(2, 0, 1)),
        low.constant(weights.start),
        low.value(view.output()),
        low.scratch(height * width),
        low.constant(weights.scales),
    ]
    shape = {"window": conv.window(view, (height, width)), "groups": 1, "group_inputs": 1, "group_outputs": outputs}
    overlaps = [overlap(shape, values, DType.INT8)]
    low.step(CONV_2D_S8, {"shape": shape, "quantized": weights.args}, values, overlaps=overlaps)


def _shape(view: View) -> dict[str, Any]:
    _, height, width, outputs = view.input(1).shape
    return {"window": conv.window(view, (height, width)), "depth_multiplier": outputs // view.input(0).shape[3]}


def _overlap(shape: dict[str, Any], dtype: DType) -> Overlap:
    """How the output may lie over the input: output by output of a pixel, the kernel reads its taps and writes it."""
    channels = [shape["window"][f"{side}_channels"] * dtype.bytes for side in ("input", "output")]
    within_pixel = items_ahead_bytes(2, *channels)
    return Overlap(0, 3, window_ahead_bytes(shape["window"], *channels) + within_pixel)


def _mobile_cases() -> Iterator[Case]:
    """What mobile networks have: nothing below the zero point."""
    numbers = conv.CaseNumbers(x_zero=-128, y_zero=-128)
    coarse = replace(numbers, y_scale=4.0)
    for size, channels in ((1, 1), 4), ((1, 8), 5), ((7, 1), 6), ((2, 5), 7), ((3, 4), 17), ((5, 19), 6):
        for stride, kind in ((1, 1), "mobile_"), ((2, 2), "mobile_strided_"):
            for padding in conv.SAME, conv.VALID:
                shape = conv.CaseShape((2, *size, channels), stride=stride, padding=padding, activation=numerics.RELU)
                if min(shape.output) > 0:
                    yield _case(shape, numbers, kind=kind)
            shape = conv.CaseShape((1, *size, channels), stride=stride, activation=numerics.RELU)
            yield _case(shape, coarse, kind=f"{kind}coarse_")
    for size, stride, padding in itertools.product(((2, 3), (6, 9)), ((1, 1), (2, 3)), (conv.SAME, conv.VALID)):
        shape = conv.CaseShape((2, *size, 1), stride=stride, padding=padding, activation=numerics.RELU)
        if min(shape.output) > 0:
            yield _case(shape, numbers, multiplier=8, kind="first_")


def _case(shape: conv.CaseShape, numbers: conv.CaseNumbers, multiplier: int = 1, kind: str = "") -> Case:
    g = CaseGraph()
    outputs = shape.input[3] * multiplier
    weights = (1, *shape.kernel, outputs)
    operands, y = conv.case_operands(
        g, numbers, (shape.input, weights, (shape.input[0], *shape.output, outputs)), axis=3
    )
    name = f"{kind}{numbers.name}-{shape.name}-m{multiplier}"
    return g.case(name, "DEPTHWISE_CONV_2D", operands, [y], shape.options(depth_multiplier=multiplier))


OPS = [DepthwiseConv2D()]
