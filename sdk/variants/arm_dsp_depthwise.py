"""DEPTHWISE_CONV_2D with int8 activations on Cortex-M4, M7 and M33."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, read, write
from sdk.ops.depthwise_conv_2d import DEPTHWISE_CONV_2D_S8
from sdk.overlap import Overlap, window_ahead_bytes
from sdk.program import Profile, Struct, embed, fields
from sdk.target import Optimize
from sdk.variants import packing
from sdk.variants.base import PortableStep, Variant

CHANNELS = 4  # at a time
MOST_TAPS = 49
LEAST_WIDTH = {1: 4, 2: 8}  # by stride: of images for which a kernel of 3x3 pays
COLUMN_BYTES = 32  # of two row pairs of as many channels

ARGS_3X3 = Struct(
    "ml_depthwise_3x3_s8_args",
    (
        *embed("window", conv.WINDOW),
        *fields("h", "zero_point"),
        *fields("H", "along_height"),  # whether strips of outputs go down the columns of the image
    ),
)
SLOTS_3X3 = (
    read("input", DType.INT8),
    read("constants", DType.INT32),  # for each channel: taps[6], start, multiplier, offset, shift
    write("output", DType.INT8),
    write("packed", DType.INT32),
)
DEPTHWISE_3X3_S8 = Kernel("depthwise_3x3_s8", 0x140, "arm_dsp/depthwise_3x3.c", ARGS_3X3, SLOTS_3X3, Profile.arm_dsp)
# For channels that can all have COMMON_SHIFT: an instruction less an output.
DEPTHWISE_3X3_COMMON_S8 = Kernel(
    "depthwise_3x3_common_s8", 0x143, "arm_dsp/depthwise_3x3.c", ARGS_3X3, SLOTS_3X3, Profile.arm_dsp
)
# The same with strides of 2.
DEPTHWISE_3X3_STRIDED_S8 = Kernel(
    "depthwise_3x3_strided_s8", 0x144, "arm_dsp/depthwise_3x3.c", ARGS_3X3, SLOTS_3X3, Profile.arm_dsp
)
DEPTHWISE_S8 = Kernel(
    "depthwise_s8",
    0x141,
    "arm_dsp/depthwise.c",
    Struct("ml_depthwise_s8_args", embed("window", conv.WINDOW)),
    (
        read("input", DType.INT8),
        # For each four channels: start[4], (tap, next tap)[2 * quads][4], the last tap, (multiplier, offset, shift)[4].
        read("constants", DType.INT32),
        write("output", DType.INT8),
        read("padding", DType.INT8),  # a pixel
    ),
    Profile.arm_dsp,
)


class Depthwise3x3(Variant):
    """Both strides 1, or both 2 with a common shift; outputs clamped to their zero point or above."""

    profile = Profile.arm_dsp
    kernels = (DEPTHWISE_3X3_STRIDED_S8, DEPTHWISE_3X3_COMMON_S8, DEPTHWISE_3X3_S8)
    replaces = (DEPTHWISE_CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = _layer(step) if low.target.optimize is not Optimize.size else None
        stride = _stride_of_3x3(layer.window) if layer else 0
        if layer is None or stride == 0 or packing.sign_matters(step.args["quantized"]):
            return False
        common = _common(layer)
        if stride == 2 and common is None:
            return False
        window, channels = layer.window, layer.window["input_channels"]
        height, width = window["output_height"], window["output_width"]
        along_height = stride == 1 and _strips(width, height) < _strips(height, width)
        weights, finish = common or (2 * layer.weights, layer.finish)
        weights = weights.reshape(channels, 3, 3)
        taps = _taps(weights if along_height else weights.transpose(0, 2, 1))
        constants = np.column_stack([taps, finish]).astype(np.int32)
        outputs = height if along_height else width
        if outputs < LEAST_WIDTH[stride]:
            return False
        columns = (outputs - 1) * stride + 3
        values = [step.values[0], low.constant(constants), step.values[3], low.scratch(columns * COLUMN_BYTES)]
        args = {"window": window, "zero_point": layer.zero_point, "along_height": int(along_height)}
        kernel = DEPTHWISE_3X3_STRIDED_S8 if stride == 2 else DEPTHWISE_3X3_COMMON_S8 if common else DEPTHWISE_3X3_S8
        low.step(kernel, args, values, in_place=[(0, 2)] if _in_place(window) else [])
        return True


class Depthwise(Variant):
    """Kernels and strides of all sizes."""

    profile = Profile.arm_dsp
    kernels = (DEPTHWISE_S8,)
    replaces = (DEPTHWISE_CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = _layer(step)
        if layer is None or layer.weights.shape[1] > MOST_TAPS:
            return False
        window, channels = layer.window, layer.window["input_channels"]
        padding = np.full(channels, layer.zero_point, np.int8)
        values = [step.values[0], low.constant(_blocks(layer)), step.values[3], low.constant(padding)]
        ahead_bytes = window_ahead_bytes(window, channels, channels) + channels
        low.step(DEPTHWISE_S8, {"window": window}, values, overlaps=[Overlap(0, 2, ahead_bytes)])
        return True


@dataclass(frozen=True)
class Layer:
    """A layer that these kernels take: as many outputs as inputs, and these not clamped."""

    window: dict[str, int]
    zero_point: int
    output_offset: int
    weights: Array  # int64[channels][taps]
    start: Array  # int64[channels]
    scales: Array  # int32[channels][2]
    rounding: packing.Rounding

    @property
    def finish(self) -> Array:
        """int64[channels][4]: start, doubled as weights are; multiplier, offset, shift."""
        rounding = self.rounding
        return np.column_stack([2 * self.start, rounding.multipliers, rounding.offsets, rounding.shifts])


def _layer(step: PortableStep) -> Layer | None:
    shape, quantized = step.args["shape"], step.args["quantized"]
    window, zero_point, output_offset = shape["window"], quantized["input_zero_point"], quantized["output_offset"]
    channels = window["input_channels"]
    whole = (quantized["low"], quantized["high"]) == (-128, 127)
    if shape["depth_multiplier"] != 1 or channels < CHANNELS or not whole:
        return None
    weights = step.constant(1).reshape(-1, channels).T.astype(np.int64)
    start = step.constant(2) - zero_point * weights.sum(axis=1)
    scales = packing.channel_scales(step.constant(4), channels)
    rounding = packing.rounding(scales, output_offset)
    if rounding is None or not packing.within(packing.sum_bounds(weights, start), packing.SUM_LIMIT):
        return None
    return Layer(window, zero_point, output_offset, weights, start, scales, rounding)


def _common(layer: Layer) -> tuple[Array, Array] | None:
    """Weights and `finish` for `packing.COMMON_SHIFT`, where all channels allow it."""
    bounds = packing.sum_bounds(layer.weights, layer.start)
    limits = packing.MAX_EXPONENT, packing.COMMON_SHIFT
    common = packing.common_shift(layer.scales, layer.output_offset, bounds, *limits)
    if common is None:
        return None
    finish = np.column_stack([layer.start << common.exponents, common.multipliers, common.offsets, common.shifts])
    return layer.weights << common.exponents[:, np.newaxis], finish


def _stride_of_3x3(window: dict[str, int]) -> int:
    """The stride of a layer that the kernels of 3x3 take; 0 of another."""
    axes = [[window[f"{name}_{axis}"] for axis in ("height", "width")] for name in ("kernel", "dilation", "stride")]
    return axes[2][0] if axes[:2] == [[3, 3], [1, 1]] and axes[2] in ([1, 1], [2, 2]) else 0


def _in_place(window: dict[str, int]) -> bool:
    """Whether four channels of an output lie where those of the input have been packed: no row below its own."""
    sizes = [(window[f"input_{axis}"], window[f"output_{axis}"]) for axis in ("height", "width")]
    if window["stride_width"] == 1:
        return all(inputs == outputs for inputs, outputs in sizes) and window["pad_top"] == window["pad_left"] == 1
    small = all(inputs >= outputs for inputs, outputs in sizes) and max(window["pad_top"], window["pad_left"]) <= 1
    return small and window["batches"] == 1


def _strips(rows: int, columns: int) -> int:
    """About how many instructions `rows` strips of `columns` outputs take, two strips and two columns at a time."""
    pairs, lone = divmod(rows, 2)
    two, one = divmod(columns, 2)
    strips = pairs * (49 * two + 27 * one + 11) + lone * (20 * two + 11 * one + 15)
    return strips + (pairs + 1) * (15 * columns + 40) // CHANNELS


def _words(pairs: Array) -> Array:
    """The words of pairs of int16: the last axis goes."""
    halves = pairs & 0xFFFF
    words: Array = halves[..., 0] | halves[..., 1] << 16
    return words


def _taps(weights: Array) -> Array:
    """Words[channels][6]: (w0, w1) and (w1, w2) of each column, from [channels][columns][rows]."""
    return _words(np.stack([weights[..., :2], weights[..., 1:]], axis=2)).reshape(len(weights), 6)


def _blocks(layer: Layer) -> Array:
    """The constants of each four channels; the last four begin where they end with the last channel."""
    channels, taps = layer.weights.shape
    quads = max(1, -(-(taps - 1) // 4))
    weights = np.pad(2 * layer.weights, ((0, 0), (0, 4 * quads + 1 - taps)))
    pairs, finish, parts = _words(weights[:, :-1].reshape(channels, -1, 2)), layer.finish, []
    for first in range(0, channels, CHANNELS):
        four = slice(min(first, channels - CHANNELS), min(first + CHANNELS, channels))
        last = _words(weights[four, -1].reshape(2, 2).T)  # of channels 0 and 2, 1 and 3
        parts += [finish[four, 0], pairs[four].T, last, finish[four, 1:]]
    constants: Array = np.concatenate([part.reshape(-1) for part in parts]).astype(np.int32)
    return constants


VARIANTS: list[Variant] = [Depthwise3x3(), Depthwise()]
