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
    ConvEight,
    ConvPair,
    ConvPairUnsigned,
    ConvWide,
    ConvWideCommon,
    pairs_of,
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
G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, -2]])  # twice the one of F(2x2, 3x3), the last negated
INNER, OUTER = [1, 2], [3, 0]  # columns of transformed weights, in the order of the kernel
INNER_ROWS, OUTER_ROWS = [0, 3, 1, 2], [2, 1, 3, 0]
INNER_PARTS = np.array([2, 2, 1, 1])  # of which the kernel takes these fractions
POSITIONS = 16
CHANNELS = 16  # inputs come in multiples of them
TILES_WIDTH = 4  # of a block of outputs
FEW_BYTES, MANY_PIXELS = 4096, 256
PRODUCTS_SHIFT = 2  # what transformed weights add up to is four times the sums


def transformed(weights: Array) -> Array:
    """int64[outputs][3][3][inputs] -> [outputs][column][row][inputs] in the order of the kernel."""
    both = np.einsum("ya,xb,oabi->oxyi", G, G, weights.astype(np.int64))
    inner = both[:, INNER][:, :, INNER_ROWS] // INNER_PARTS[:, None]
    return np.concatenate([inner, both[:, OUTER][:, :, OUTER_ROWS]], axis=1)


def rounding_of(common: packing.CommonShift) -> Array:
    """int64[pairs][6]: (multiplier, offset, sign) of both channels."""
    pairs = pairs_of(np.stack([common.multipliers, common.offsets, common.signs], axis=1))
    return pairs.reshape(len(pairs), 6)


def stream_of_layer(layer: Layer, common: packing.CommonShift) -> Array | None:
    """See firmware/src/kernels/arm_dsp/winograd.c. None where weights are too large for 16 bits."""
    outputs, inputs = len(layer.weights), layer.window["input_channels"]
    powers = common.exponents.astype(np.int64)
    weights = transformed(layer.weights.reshape(outputs, 3, 3, inputs))
    weights <<= (powers - PRODUCTS_SHIFT)[:, np.newaxis, np.newaxis, np.newaxis]
    if np.abs(weights).max() >= 1 << 15:
        return None
    quads = weights.reshape(outputs, POSITIONS * inputs // 4, 4)[..., BYTE_ORDER]
    words = words_of(pairs_of(quads.reshape(outputs, -1, 2, 2)))  # [pairs][channel][quads][2]
    words = words.transpose(0, 2, 3, 1).reshape(len(words), POSITIONS, -1)
    half, scales = pairs_of(layer.start.astype(np.int64) << (powers - 1)), rounding_of(common)
    inner, outer = words[:, 1:8], words[:, 8:].reshape(len(words), 2, 4, -1)
    columns = [part for i in (0, 1) for part in (outer[:, i, :3], scales, outer[:, i, 3], scales)]
    return stream_of(half, words[:, 0], half, inner, *columns)


class ConvWinograd(Variant):
    """Two tiles of 2x2 outputs and two channels at a time."""

    profile = Profile.arm_dsp
    kernels = (CONV_WINOGRAD_S8,)
    replaces = (CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step)
        if layer is None or not _takes(layer) or not _pays(layer, low.target.optimize):
            return False
        window, limits = layer.window, (packing.MAX_EXPONENT, packing.COMMON_SHIFT)
        common = packing.common_shift(layer.scales, layer.quantized["output_offset"], layer.bounds, *limits)
        stream = None if common is None else stream_of_layer(layer, common)
        if stream is None:
            return False
        inputs, outputs = window["input_channels"], window["output_channels"]
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
    return square and whole and unclamped


# The first that takes a step serves it: those that take less come first.
VARIANTS: list[Variant] = [
    ConvWinograd(),
    ConvEight(),
    FullyConnectedWide(),
    FullyConnectedPair(),
    ConvPairUnsigned(),
    ConvPair(),
    ConvWideCommon(),
    ConvWide(),
]
