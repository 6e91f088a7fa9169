"""CONV_2D 3x3 of images of one or three channels on Cortex-M4, M7 and M33, as first layers of many networks are."""

from __future__ import annotations

from abc import abstractmethod

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
from sdk.variants.arm_dsp_conv import pairs_of, stream_of, words_of
from sdk.variants.base import PortableStep, Variant
from sdk.variants.layer import Layer

ARGS = (*embed("window", conv.WINDOW), *fields("i", "padding"))
# Weights in the order in which the kernels have the taps, two a word, and start values, times powers of 2.
SLOTS = read("input", DType.INT8), read("channels", DType.INT32), write("output", DType.INT8)
CONV_SINGLE_S8 = Kernel(
    "conv_single_s8",
    0x145,
    "arm_dsp/conv_single.c",
    Struct("ml_conv_single_s8_args", ARGS),
    SLOTS,
    Profile.arm_dsp,
)
CONV_COLOR_S8 = Kernel(
    "conv_color_s8", 0x146, "arm_dsp/conv_color.c", Struct("ml_conv_color_s8_args", ARGS), SLOTS, Profile.arm_dsp
)
ROW = [0, 2, 1, 3, 4, 6, 5, 7]  # of three channels, but for its last tap


class _ConvFirst(Variant):
    """Outputs clamped to their zero point or above, of channels that can all have the same shift."""

    profile = Profile.arm_dsp
    replaces = (CONV_2D_S8,)
    inputs: int
    outputs: int  # come in multiples of it
    most_stride = (1 << 16) - 1  # along a row
    order: tuple[int, ...]  # of taps

    @abstractmethod
    def constants(self, words: Array, start: Array, common: packing.CommonShift) -> Array:
        """The operand, from [outputs][words] and [outputs]."""

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step) if low.target.optimize is not Optimize.size else None
        if layer is None or not self._takes(layer):
            return False
        limits = packing.MAX_EXPONENT, packing.COMMON_SHIFT
        common = packing.common_shift(layer.scales, layer.quantized["output_offset"], layer.bounds, *limits)
        if common is None:
            return False
        outputs = len(layer.start)
        taps = layer.weights.reshape(outputs, -1)[:, self.order].astype(np.int64) << common.exponents[:, np.newaxis]
        words = words_of(np.pad(taps, [(0, 0), (0, 1)]).reshape(outputs, -1, 2))
        constants = self.constants(words, layer.start.astype(np.int64) << common.exponents, common)
        overlap = Overlap(0, 2, window_ahead_bytes(layer.window, self.inputs, outputs))
        args = {"window": layer.window, "padding": layer.quantized["input_zero_point"]}
        low.step(self.kernels[0], args, [layer.input, low.constant(constants), layer.output], overlaps=[overlap])
        return True

    def _takes(self, layer: Layer) -> bool:
        window = layer.window
        taps = [window["kernel_height"], layer.weights.shape[2], window["dilation_height"]]
        channels = window["input_channels"] == self.inputs and window["output_channels"] % self.outputs == 0
        unclamped = (layer.quantized["low"], layer.quantized["high"]) == (-128, 127)
        small = taps == [3, 3 * self.inputs, 1] and window["stride_width"] <= self.most_stride
        return small and channels and unclamped and not packing.sign_matters(layer.quantized)


class ConvSingle(_ConvFirst):
    """Of each channel weights[5], start, multiplier, offset."""

    kernels = (CONV_SINGLE_S8,)
    inputs, outputs = 1, 4
    order = (0, 2, 3, 5, 6, 8, 1, 4, 7)

    def constants(self, words: Array, start: Array, common: packing.CommonShift) -> Array:
        return stream_of(words, start, common.multipliers, common.offsets)


class ConvColor(_ConvFirst):
    """Of each pair of channels both starts, the upper first, words of both, (multiplier, offset) of both."""

    kernels = (CONV_COLOR_S8,)
    inputs, outputs = 3, 2
    most_stride = 3
    order = (*ROW, *(9 + tap for tap in ROW), 8, 17, *(18 + tap for tap in ROW), 26)

    def constants(self, words: Array, start: Array, common: packing.CommonShift) -> Array:
        scales = np.stack([common.multipliers, common.offsets], axis=1)
        return stream_of(pairs_of(start)[:, ::-1], pairs_of(words).transpose(0, 2, 1), pairs_of(scales))


VARIANTS: list[Variant] = [ConvSingle(), ConvColor()]
