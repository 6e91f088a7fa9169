"""CONV_2D 3x3 of stride 1 or 2 on Cortex-M4, M7 and M33 by Winograd's algorithm: with stride 1 less than half the
products, 3.6 times the weights."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

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

ARGS = Struct("ml_conv_winograd_args", (*embed("window", conv.WINDOW), *fields("i", "padding")))
SLOTS = (
    read("input", DType.INT8),
    read("weights", DType.INT32),
    write("output", DType.INT8),
    write("scratch", DType.INT32),
)
CONV_WINOGRAD_S8 = Kernel("conv_winograd_s8", 0x103, "arm_dsp/winograd.c", ARGS, SLOTS, Profile.arm_dsp)
CONV_WINOGRAD_STRIDED_S8 = Kernel(
    "conv_winograd_strided_s8", 0x10A, "arm_dsp/winograd_strided.c", ARGS, SLOTS, Profile.arm_dsp
)
G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, -2]])  # twice the one of F(2x2, 3x3), the last negated
INNER, OUTER = [1, 2], [3, 0]  # columns of transformed weights, in the order of the kernel
INNER_ROWS, OUTER_ROWS = [0, 3, 1, 2], [2, 1, 3, 0]
INNER_PARTS = np.array([2, 2, 1, 1])  # of which the kernel takes these fractions
PRODUCTS_SHIFT = 2  # what transformed weights add up to is four times the sums
# Of stride 2: what both outputs along an axis share, what the second has, the first; columns in the kernel's order.
STRIDED_G = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 0]])
STRIDED_COLUMNS = ([0], [1, 2], [3, 4])
CHANNELS = 16  # inputs come in multiples of them
TILES_HEIGHT, TILES_WIDTH = 2, 4  # of a block of outputs
FEW_BYTES, MANY_PIXELS = 4096, 256
# For which stride 2 pays: weights; outputs of whole blocks, as a part of those that there are.
MOST_STRIDED_BYTES, MOST_COMPUTED = 32768, 1.2


def transformed(weights: Array) -> Array:
    """int64[outputs][3][3][inputs] -> [outputs][column, row][inputs] in the order of the kernel."""
    both = np.einsum("ya,xb,oabi->oxyi", G, G, weights.astype(np.int64))
    inner = both[:, INNER][:, :, INNER_ROWS] // INNER_PARTS[:, None]
    joined: Array = np.concatenate([inner, both[:, OUTER][:, :, OUTER_ROWS]], axis=1)
    return joined.reshape(len(weights), -1, weights.shape[-1])


def transformed_strided(weights: Array) -> Array:
    """The same for stride 2."""
    both = np.einsum("ya,xb,oabi->oyxi", STRIDED_G, STRIDED_G, weights.astype(np.int64))
    parts = [both[:, :, columns].reshape(len(weights), -1, weights.shape[-1]) for columns in STRIDED_COLUMNS]
    joined: Array = np.concatenate(parts, axis=1)
    return joined


def rounding_of(common: packing.CommonShift) -> Array:
    """int64[pairs][6]: (multiplier, offset, sign) of both channels."""
    pairs = pairs_of(np.stack([common.multipliers, common.offsets, common.signs], axis=1))
    return pairs.reshape(len(pairs), 6)


def words_of_positions(weights: Array) -> Array | None:
    """int64[outputs][positions][inputs] -> int32[pairs][positions][...]; None where some are too large for 16 bits."""
    if np.abs(weights).max() >= 1 << 15:
        return None
    outputs, positions, _ = weights.shape
    quads = weights.reshape(outputs, -1, 4)[..., BYTE_ORDER]
    words = words_of(pairs_of(quads.reshape(outputs, -1, 2, 2)))  # [pairs][channel][quads][2]
    return words.transpose(0, 2, 3, 1).reshape(len(words), positions, -1)


class _Winograd(Variant):
    """Two tiles of 2x2 outputs and two channels at a time."""

    profile = Profile.arm_dsp
    replaces = (CONV_2D_S8,)
    stride: ClassVar[int]
    positions: ClassVar[int]

    @abstractmethod
    def pays(self, layer: Layer, optimize: Optimize) -> bool:
        """Whether flash may be given for speed."""

    @abstractmethod
    def stream(self, layer: Layer, common: packing.CommonShift) -> Array | None:
        """The weights as the kernel wants them; None where they are too large for 16 bits."""

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step)
        if layer is None or not self._takes(layer) or not self.pays(layer, low.target.optimize):
            return False
        window, limits = layer.window, (packing.MAX_EXPONENT, packing.COMMON_SHIFT)
        common = packing.common_shift(layer.scales, layer.quantized["output_offset"], layer.bounds, *limits)
        stream = None if common is None else self.stream(layer, common)
        if stream is None:
            return False
        inputs, outputs = window["input_channels"], window["output_channels"]
        values = [layer.input, low.constant(stream), layer.output, low.scratch((4 * self.positions + 1) * inputs)]
        # A block writes up to a row and a block's width further than the pixel that is next.
        more = (window["output_width"] + TILES_WIDTH) * outputs
        overlap = Overlap(0, 2, window_ahead_bytes(window, inputs, outputs) + more)
        args = {"window": window, "padding": layer.quantized["input_zero_point"]}
        low.step(self.kernels[0], args, values, overlaps=[overlap])
        return True

    def _takes(self, layer: Layer) -> bool:
        window = layer.window
        square = all(
            (window[f"kernel_{axis}"], window[f"stride_{axis}"], window[f"dilation_{axis}"]) == (3, self.stride, 1)
            for axis in ("height", "width")
        )
        whole = window["input_channels"] % CHANNELS == 0 and window["output_channels"] % 2 == 0
        unclamped = (layer.quantized["low"], layer.quantized["high"]) == (-128, 127)
        return square and whole and unclamped


class ConvWinograd(_Winograd):
    """Of stride 1, with `balanced` for few weights that serve many pixels alone."""

    kernels = (CONV_WINOGRAD_S8,)
    stride, positions = 1, 16

    def pays(self, layer: Layer, optimize: Optimize) -> bool:
        few = layer.weights.size <= FEW_BYTES and layer.pixels >= MANY_PIXELS
        return optimize is Optimize.speed or (optimize is Optimize.balanced and few)

    def stream(self, layer: Layer, common: packing.CommonShift) -> Array | None:
        powers = common.exponents.astype(np.int64)
        weights = transformed(_kernels_of(layer)) << (powers - PRODUCTS_SHIFT)[:, np.newaxis, np.newaxis]
        words = words_of_positions(weights)
        if words is None:
            return None
        half, scales = pairs_of(layer.start.astype(np.int64) << (powers - 1)), rounding_of(common)
        inner, outer = words[:, 1:8], words[:, 8:].reshape(len(words), 2, 4, -1)
        columns = [part for i in (0, 1) for part in (outer[:, i, :3], scales, outer[:, i, 3], scales)]
        return stream_of(half, words[:, 0], half, inner, *columns)


class ConvWinogradStrided(_Winograd):
    """Of stride 2: seven tenths of the products, 5.6 times the weights."""

    kernels = (CONV_WINOGRAD_STRIDED_S8,)
    stride, positions = 2, 25

    def pays(self, layer: Layer, optimize: Optimize) -> bool:
        height, width = (layer.window[f"output_{axis}"] for axis in ("height", "width"))
        computed = -(-height // TILES_HEIGHT) * TILES_HEIGHT * -(-width // TILES_WIDTH) * TILES_WIDTH
        few = layer.weights.size <= MOST_STRIDED_BYTES and computed <= MOST_COMPUTED * height * width
        return optimize is Optimize.speed and few

    def stream(self, layer: Layer, common: packing.CommonShift) -> Array | None:
        powers = common.exponents.astype(np.int64)
        words = words_of_positions(transformed_strided(_kernels_of(layer)) << powers[:, np.newaxis, np.newaxis])
        if words is None:
            return None
        start, scales = pairs_of(layer.start.astype(np.int64) << powers), rounding_of(common)
        shared, right, left = words[:, :5], words[:, 5:15], words[:, 15:]
        columns = [part for own in (right, left) for part in (own[:, :6], scales, own[:, 6:], scales)]
        return stream_of(start, shared, *columns)


def _kernels_of(layer: Layer) -> Array:
    return layer.weights.reshape(len(layer.weights), 3, 3, -1)


# The first that takes a step serves it: those that take less come first.
VARIANTS: list[Variant] = [
    ConvWinograd(),
    ConvWinogradStrided(),
    ConvEight(),
    FullyConnectedWide(),
    FullyConnectedPair(),
    ConvPairUnsigned(),
    ConvPair(),
    ConvWideCommon(),
    ConvWide(),
]
