"""Convolution2DTransposeBias of MediaPipe: a TRANSPOSE_CONV that names its options and inputs otherwise."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops.base import Case, CaseGraph, Op, View
from sdk.ops.transpose_conv import TRANSPOSE_CONV_F32, TransposeConv, window_of

BUILT_IN = TransposeConv()


class Convolution2DTransposeBias(Op):
    names = ("CUSTOM:Convolution2DTransposeBias",)
    kernels = (TRANSPOSE_CONV_F32,)
    types = ("float32",)
    limits = TransposeConv.limits.split("; ")[1]
    bound = TransposeConv.bound

    def check(self, view: View) -> None:
        plain = _plain(view)
        view.need({tensor.dtype for tensor in view.inputs} == {DType.FLOAT32}, f"it is of {view.dtypes()}")
        BUILT_IN.check(plain)

    def macs(self, view: View) -> int:
        return BUILT_IN.macs(_plain(view))

    def lower(self, view: View, low: Lowering) -> None:
        BUILT_IN.lower(_plain(view), low)

    def reference(self, view: View, inputs: Sequence[Array]) -> Sequence[Array]:
        x, weights, bias = (each.astype(np.float64) for each in inputs)
        window = window_of(_plain(view))
        strides = window["stride_height"], window["stride_width"]
        kernel = weights.shape[1:3]
        top, left = window["pad_top"], window["pad_left"]
        height, width = view.output().shape[1:3]
        reach = [(n - 1) * s + k for n, s, k in zip(x.shape[1:3], strides, kernel, strict=True)]
        sizes = np.maximum(reach, (top + height, left + width))
        whole = np.zeros((x.shape[0], *sizes, weights.shape[0]))
        for row, column in np.ndindex(*kernel):
            rows, columns = (slice(i, None, s) for i, s in zip((row, column), strides, strict=True))
            whole[:, rows, columns][:, : x.shape[1], : x.shape[2]] += x @ weights[:, row, column].T
        return [(whole[:, top : top + height, left : left + width] + bias).astype(np.float32)]

    def cases(self) -> Iterator[Case]:
        for kernel, stride, padding in itertools.product(((2, 2), (3, 3), (4, 2)), ((1, 1), (2, 2)), (1, 2)):
            yield _bias_case((1, 4, 5, 3), kernel, stride, padding)


def _plain(view: View) -> View:
    """The node as a TRANSPOSE_CONV. Its options are TfLiteTransposeConvParams: padding (1 SAME, 2 VALID), strides."""
    raw = view.option("custom_options", b"")
    view.need(len(raw) == 12 and len(view.node.inputs) == 3, f"it has {len(raw)} bytes of options, not 12")
    padding, stride_w, stride_h = struct.unpack("<3i", raw)
    view.need(padding in (1, 2), f"it has the padding {padding}")
    options = {"padding": padding - 1, "stride_w": stride_w, "stride_h": stride_h, "fused_activation_function": 0}
    x, weights, bias = view.node.inputs
    return View(view.graph, replace(view.node, inputs=(None, weights, x, bias), options=options))


def _bias_case(
    shape: tuple[int, int, int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: int
) -> Case:
    rng = np.random.default_rng(1)
    g = CaseGraph()
    sizes = [n * s if padding == 1 else (n - 1) * s + k for n, s, k in zip(shape[1:3], stride, kernel, strict=True)]
    x = g.input(shape, DType.FLOAT32)
    constants = [g.constant(rng.normal(size=size), DType.FLOAT32) for size in ((2, *kernel, shape[3]), (2,))]
    y = g.output((shape[0], *sizes, 2), DType.FLOAT32)
    options = {"custom_options": struct.pack("<3i", padding, stride[1], stride[0])}
    name = f"f32-k{kernel}-s{stride}-p{padding}".replace(" ", "")
    return g.case(name, Convolution2DTransposeBias.names[0], [x, *constants], [y], options)


OPS = [Convolution2DTransposeBias()]
