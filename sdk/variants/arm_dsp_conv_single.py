"""CONV_2D 3x3 of images of one channel on Cortex-M4, M7 and M33, as the first layer of many networks is."""

from __future__ import annotations

import numpy as np

from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.overlap import Overlap, window_ahead_bytes
from sdk.program import Profile, Struct, embed, fields
from sdk.target import Optimize
from sdk.variants import packing
from sdk.variants.arm_dsp_conv import stream_of, words_of
from sdk.variants.base import PortableStep, Variant
from sdk.variants.layer import Layer

CHANNELS = 4  # outputs come in multiples of them
ORDER = [0, 2, 3, 5, 6, 8, 1, 4, 7]  # of taps, two a word
CONV_SINGLE_S8 = Kernel(
    "conv_single_s8",
    0x145,
    "arm_dsp/conv_single.c",
    Struct("ml_conv_single_s8_args", (*embed("window", conv.WINDOW), *fields("i", "padding"))),
    (
        read("input", DType.INT8),
        read("channels", DType.INT32),  # of each: weights[5], start, multiplier, offset
        write("output", DType.INT8),
    ),
    Profile.arm_dsp,
)


class ConvSingle(Variant):
    """Outputs clamped to their zero point or above, of channels that can all have the same shift."""

    profile = Profile.arm_dsp
    kernels = (CONV_SINGLE_S8,)
    replaces = (CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step) if low.target.optimize is not Optimize.size else None
        if layer is None or not _takes(layer):
            return False
        limits = packing.MAX_EXPONENT, packing.COMMON_SHIFT
        common = packing.common_shift(layer.scales, layer.quantized["output_offset"], layer.bounds, *limits)
        if common is None:
            return False
        taps = layer.weights.reshape(-1, 9)[:, ORDER].astype(np.int64) << common.exponents[:, np.newaxis]
        words = words_of(np.pad(taps, [(0, 0), (0, 1)]).reshape(-1, 5, 2))
        start = layer.start.astype(np.int64) << common.exponents
        constants = stream_of(words, start, common.multipliers, common.offsets)
        overlap = Overlap(0, 2, window_ahead_bytes(layer.window, 1, layer.window["output_channels"]))
        args = {"window": layer.window, "padding": layer.quantized["input_zero_point"]}
        low.step(CONV_SINGLE_S8, args, [layer.input, low.constant(constants), layer.output], overlaps=[overlap])
        return True


def _takes(layer: Layer) -> bool:
    window = layer.window
    small = all((window[f"kernel_{axis}"], window[f"dilation_{axis}"]) == (3, 1) for axis in ("height", "width"))
    channels = window["input_channels"] == 1 and window["output_channels"] % CHANNELS == 0
    unclamped = (layer.quantized["low"], layer.quantized["high"]) == (-128, 127)
    return small and channels and unclamped and not packing.sign_matters(layer.quantized)


VARIANTS: list[Variant] = [ConvSingle()]
