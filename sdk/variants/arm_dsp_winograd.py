"""CONV_2D 3x3 of stride 1 on Cortex-M4, M7 and M33 by Winograd's algorithm: less than half the products, 3.6 times the
weights."""

from __future__ import annotations

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.overlap import Overlap, window_ahead_bytes
from sdk.program import Profile, Struct, embed, fields
from sdk.target import Optimize
from sdk.variants import packing
from sdk.variants.arm_dsp_conv import (
    BYTE_ORDER,
    ConvPair,
    ConvWide,
    ConvWideCommon,
    pairs_of,
    rounding_of_pairs,
    stream_of,
    words_of,
)
from sdk.variants.arm_dsp_fully_connected import FullyConnectedPair, FullyConnectedWide
from sdk.variants.base import PortableStep, Variant
from sdk.variants.layer import Layer

CONV_WINOGRAD_S8 = Kernel(
    "conv_winograd_s8",
    0x103,
    "arm_dsp/winograd.c",
    Struct("ml_conv_winograd_s8_args", (*embed("window", conv.WINDOW), *fields("i", "padding"))),
    (
        read("input", DType.INT8),
        read("weights", DType.INT32),
        write("output", DType.INT8),
        write("scratch", DType.INT32),
    ),
    Profile.arm_dsp,
)
ROWS_G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])
COLUMNS_G = np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 1]])  # the kernel halves what 1 and 2 add up to
ORDER = [1, 2, 0, 3]  # of transformed rows and columns; the last one is negated
SIGNS = np.array([1, 1, 1, -1])
STARTS = np.array([0, 0, 1, 1])  # of columns, in `ORDER`: the last two get start values
POSITIONS = 16
CHANNELS = 16  # inputs come in multiples of them
TILES_WIDTH = 4  # of a block of outputs
FEW_BYTES, MANY_PIXELS = 4096, 256
SUM_LIMIT = 1 << 29  # some sums are four times as large, and fit 32 bits before they are halved


def transformed(weights: Array) -> Array:
    """int64[outputs][3][3][inputs] -> [outputs][column][row][inputs] in `ORDER`."""
    both = np.einsum("ya,xb,oabi->oxyi", ROWS_G, COLUMNS_G, weights.astype(np.int64))
    ordered: Array = both[:, ORDER][:, :, ORDER] * SIGNS[:, None, None] * SIGNS[:, None]
    return ordered


class ConvWinograd(Variant):
    """Two tiles of 2x2 outputs and two channels at a time."""

    profile = Profile.arm_dsp
    kernels = (CONV_WINOGRAD_S8,)
    replaces = (CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step)
        if layer is None or layer.rounding is None or not _takes(layer):
            return False
        if not _pays(layer, low.target.optimize):
            return False
        window = layer.window
        inputs, outputs = window["input_channels"], window["output_channels"]
        quads = transformed(layer.weights.reshape(outputs, 3, 3, inputs)).reshape(outputs, POSITIONS, inputs // 4, 4)
        words = words_of(pairs_of(quads[..., BYTE_ORDER].reshape(outputs, POSITIONS * inputs // 4, 2, 2)))
        words = words.transpose(0, 2, 3, 1).reshape(len(words), 4, -1)  # [pairs][column][row, quad, word, channel]
        starts = 2 * pairs_of(layer.start)[:, np.newaxis] * STARTS[:, np.newaxis]
        stream = stream_of(np.dstack([starts, words]), rounding_of_pairs(layer.rounding))
        values = [layer.input, low.constant(stream), layer.output, low.scratch((4 * POSITIONS + 1) * inputs)]
        # A block writes up to a row and a block's width further than the pixel that is next.
        more = (window["output_width"] + TILES_WIDTH) * outputs
        overlap = Overlap(0, 2, window_ahead_bytes(window, inputs, outputs) + more)
        args = {"window": window, "padding": layer.quantized["input_zero_point"]}
        low.step(CONV_WINOGRAD_S8, args, values, overlaps=[overlap])
        return True


def _pays(layer: Layer, optimize: Optimize) -> bool:
    """Whether flash may be given for speed: with `balanced` for few weights that serve many pixels alone."""
    few = layer.weights.size <= FEW_BYTES and layer.pixels >= MANY_PIXELS
    return optimize is Optimize.speed or (optimize is Optimize.balanced and few)


def _takes(layer: Layer) -> bool:
    window = layer.window
    square = all(
        (window[f"kernel_{axis}"], window[f"stride_{axis}"], window[f"dilation_{axis}"]) == (3, 1, 1)
        for axis in ("height", "width")
    )
    whole = window["input_channels"] % CHANNELS == 0 and window["output_channels"] % 2 == 0
    unclamped = (layer.quantized["low"], layer.quantized["high"]) == (-128, 127)
    bounds = packing.sum_bounds(layer.weights.reshape(len(layer.weights), -1), np.zeros(1))
    small = packing.within(bounds, SUM_LIMIT) and packing.within(layer.bounds, packing.SUM_LIMIT)
    return square and whole and unclamped and small


# The first that takes a step serves it: those that take less come first.
VARIANTS: list[Variant] = [
    ConvWinograd(),
    FullyConnectedWide(),
    FullyConnectedPair(),
    ConvPair(),
    ConvWideCommon(),
    ConvWide(),
]
