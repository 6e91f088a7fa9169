"""TRANSPOSE_CONV: each input pixel adds its products with the kernel to the output, `stride` further than the last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from sdk import numerics
from sdk.graph import DType
from sdk.lower import ABSENT, Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Case, CaseGraph, Kernel, Op, Range, View, read, write
from sdk.overlap import Overlap, grid_ahead_bytes
from sdk.program import Struct, embed, fields

ARGS_S8 = Struct("ml_transpose_conv_s8_args", (*embed("window", conv.WINDOW), *embed("quantized", conv.QUANTIZED)))
ARGS_F32 = Struct("ml_transpose_conv_f32_args", (*embed("window", conv.WINDOW), *fields("f", "low", "high")))

TRANSPOSE_CONV_S8 = Kernel(
    "transpose_conv_s8",
    20,
    "transpose_conv.c",
    ARGS_S8,
    (
        read("input", DType.INT8),
        read("weights", DType.INT8),  # [outputs][kernel height][kernel width][inputs]
        read("start", DType.INT32),  # the bias: how many taps an output has depends on where it lies
        write("output", DType.INT8),
        read("scales", DType.INT32),  # (multiplier, shift) pairs
    ),
)
TRANSPOSE_CONV_S16 = Kernel(
    "transpose_conv_s16",
    21,
    "transpose_conv.c",
    ARGS_S8,
    conv.SLOTS_S16,
)
TRANSPOSE_CONV_F32 = Kernel(
    "transpose_conv_f32",
    22,
    "transpose_conv.c",
    ARGS_F32,
    conv.SLOTS_F32,
)
SHAPE, WEIGHTS, X, BIAS = range(4)


class TransposeConv(Op):
    names = ("TRANSPOSE_CONV",)
    kernels = (TRANSPOSE_CONV_S8, TRANSPOSE_CONV_S16, TRANSPOSE_CONV_F32)
    types = conv.TYPES[:-1]
    limits = f"{conv.LIMITS}; the output has the size that the file gives it"
    bound = conv.FLOAT_BOUND

    def check(self, view: View) -> None:
        x, weights = view.input(X), view.input(WEIGHTS)
        view.need(len(weights.shape) == 4, f"its weights {weights.label} have {len(weights.shape)} dimensions, not 4")
        view.need(view.output().dtype is x.dtype, f"it makes {view.output().dtype.numpy_name} of {x.dtype.numpy_name}")
        window_of(view)
        outputs, _, _, inputs = weights.shape
        view.need(x.shape[3] == inputs, f"its weights take {inputs} channels, its input has {x.shape[3]}")
        conv.check_constants(view, outputs, x=X, bias=BIAS)
        shape = view.input(SHAPE).data if view.has(SHAPE) else None
        if shape is not None:
            same = shape.reshape(-1).tolist() == list(view.output().shape)
            view.need(
                same, f"its output {list(view.output().shape)} is not the {shape.reshape(-1).tolist()} it asks for"
            )

    def takes(self, view: View, index: int) -> Range | None:
        shape = np.array(view.output().shape)
        return (shape, shape) if index == SHAPE else None

    def macs(self, view: View) -> int:
        # What the edges cut off is counted too.
        weights, x = view.input(WEIGHTS), view.input(X)
        return x.elements // x.shape[3] * weights.elements

    def lower(self, view: View, low: Lowering) -> None:
        kinds = tuple(DType.INT8 if t.dtype is DType.INT4 else t.dtype for t in (view.input(X), view.input(WEIGHTS)))
        if kinds == (DType.FLOAT32,) * 2:
            bias = low.value(view.input(BIAS)) if view.has(BIAS) else ABSENT
            values = [low.value(view.input(X)), low.value(view.input(WEIGHTS)), bias, low.value(view.output())]
            args = {"window": window_of(view)} | conv.float_clamp(view)
            low.step(TRANSPOSE_CONV_F32, args, values, overlaps=[_overlap(view)])
        elif kinds == (DType.INT8,) * 2:
            self._lower_quantized(view, low, TRANSPOSE_CONV_S8)
        elif kinds == (DType.INT16, DType.INT8):
            self._lower_quantized(view, low, TRANSPOSE_CONV_S16)
        else:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def _lower_quantized(self, view: View, low: Lowering, kernel: Kernel) -> None:
        weights = conv.quantized_weights(view, summed=(1, 2, 3), x=X, bias=BIAS, fold=False)
        values = [
            low.value(view.input(X)),
            low.constant(weights.data),
            low.constant(weights.start),
            low.value(view.output()),
            low.constant(weights.scales),
        ]
        args = {"window": window_of(view), "quantized": weights.args}
        low.step(kernel, args, values, overlaps=[_overlap(view)])

    def cases(self) -> Iterator[Case]:
        plain = conv.CaseNumbers()
        for kernel, stride, padding in itertools.product(
            ((1, 1), (3, 3), (2, 5), (4, 4)), ((1, 1), (2, 2), (2, 3)), (conv.SAME, conv.VALID)
        ):
            shape = conv.CaseShape((1, 4, 5, 3), kernel, stride, padding=padding)
            yield _case(shape, plain, 5)
            if kernel in ((3, 3), (2, 5)):
                yield _case(shape, conv.FLOAT, 5)
                yield _case(shape, conv.WIDE, 5)
        odd = conv.CaseShape((2, 2, 3, 17), (3, 2), (2, 2))
        for numbers in (plain, conv.FLOAT, conv.UNSIGNED):
            yield _case(odd, replace(numbers, bias=None), 2)
        # Not with another bias: tflite-micro reads an int32 one as int64, tflite-runtime sums in 32 bits without one.
        yield _case(odd, replace(conv.WIDE, per_channel=False), 1)
        for activation in (numerics.RELU, numerics.RELU6, numerics.RELU_N1_TO_1):
            for numbers in (plain, conv.UNSIGNED, conv.WIDE, conv.FLOAT):
                yield _case(conv.CaseShape((1, 3, 3, 2), (3, 3), (2, 2), activation=activation), numbers, 3)
        for x_zero, y_zero, y_scale in itertools.product((-128, 127), (-128, 127), (1e-6, 30.0)):
            extreme = conv.CaseNumbers(x_zero=x_zero, y_zero=y_zero, y_scale=y_scale)
            yield _case(conv.CaseShape((1, 2, 2, 3)), extreme, 2)


def window_of(view: View) -> dict[str, int]:
    """The `WINDOW` of the node: that of the convolution from its output back to its input."""
    x, y = view.input(X), view.output()
    conv.check_images(view, x, y)
    kernel = view.input(WEIGHTS).shape[1:3]
    strides = view.option("stride_h"), view.option("stride_w")
    # Like TensorFlow Lite: an input of another size than that convolution's output is taken all the same.
    pads = conv.check_window(view, y.shape[1:3], None, kernel, strides, (1, 1))
    return conv.window_values(view, x, (*kernel, *strides, 1, 1, *pads))


def _overlap(view: View) -> Overlap:
    """How the output may lie over the input: pixels are read for each output of each pixel that they meet."""
    w, element_bytes = window_of(view), view.output().dtype.bytes

    def firsts(axis: str, side: str) -> list[int]:
        behind = range(w[f"pad_{side}"], w[f"pad_{side}"] + w[f"output_{axis}"])
        return [max(0, (y - w[f"kernel_{axis}"]) // w[f"stride_{axis}"] + 1) for y in behind]

    pixels = [w[f"{side}_channels"] * element_bytes for side in ("input", "output")]
    image = w["batches"], w["input_height"], w["input_width"]
    ahead = grid_ahead_bytes(image, (firsts("height", "top"), firsts("width", "left")), *pixels)
    return Overlap(0, 3, ahead + pixels[1] - element_bytes)


def _case(shape: conv.CaseShape, numbers: conv.CaseNumbers, outputs: int) -> Case:
    g = CaseGraph()
    batches, height, width, inputs = shape.input
    # The largest output whose convolution has the input's size.
    sizes = [
        size * stride if shape.padding == conv.SAME else (size - 1) * stride + kernel
        for size, stride, kernel in zip((height, width), shape.stride, shape.kernel, strict=True)
    ]
    y_shape = (batches, *sizes, outputs)
    weights = (outputs, *shape.kernel, inputs)
    size = g.constant(np.array(y_shape), DType.INT32)
    (x, *constants), y = conv.case_operands(g, numbers, (shape.input, weights, y_shape), axis=0)
    options = {name: shape.options()[name] for name in ("padding", "stride_h", "stride_w", "fused_activation_function")}
    name = f"{numbers.name}-{shape.name}-o{outputs}"
    return g.case(name, "TRANSPOSE_CONV", [size, constants[0], x, *constants[1:]], [y], options)


OPS = [TransposeConv()]
