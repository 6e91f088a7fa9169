"""DEPTHWISE_CONV_2D with int8 activations on Cortex-M4, M7 and M33."""

from __future__ import annotations

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, read, write
from sdk.ops.depthwise_conv_2d import DEPTHWISE_CONV_2D_S8
from sdk.program import Profile, Struct, embed, fields
from sdk.variants import packing
from sdk.variants.base import PortableStep, Variant

CHANNELS = 4  # at a time
COLUMN_BYTES = 32  # of two row pairs of as many channels

ARGS_3X3 = Struct(
    "ml_depthwise_3x3_s8_args",
    (
        *embed("window", conv.WINDOW),
        *fields("h", "zero_point"),
        *fields("H", "along_height"),  # whether strips of outputs go down the columns of the image
    ),
)
DEPTHWISE_3X3_S8 = Kernel(
    "depthwise_3x3_s8",
    0x140,
    "arm_dsp/depthwise_3x3.c",
    ARGS_3X3,
    (
        read("input", DType.INT8),
        read("constants", DType.INT32),  # for each channel: taps[6], start, multiplier, offset, shift
        write("output", DType.INT8),
        write("packed", DType.INT32),
    ),
    Profile.arm_dsp,
)


class Depthwise3x3(Variant):
    """Stride 1; outputs clamped to their zero point or above, and no further."""

    profile = Profile.arm_dsp
    kernels = (DEPTHWISE_3X3_S8,)
    replaces = (DEPTHWISE_CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        window, quantized = step.args["shape"]["window"], step.args["quantized"]
        channels, fine = window["input_channels"], _is_3x3(window) and step.args["shape"]["depth_multiplier"] == 1
        full = (quantized["low"], quantized["high"]) == (-128, 127)
        if not fine or not full or channels < CHANNELS or packing.sign_matters(quantized):
            return False
        weights = step.constant(1).reshape(9, channels).T
        start = _start(step, weights, quantized["input_zero_point"])
        rounding = packing.rounding(packing.channel_scales(step.constant(4), channels), quantized["output_offset"])
        if rounding is None or not packing.within(packing.sum_bounds(weights, start), packing.SUM_LIMIT):
            return False
        along_height = _strips(window["output_width"], window["output_height"]) < _strips(
            window["output_height"], window["output_width"]
        )
        square = weights.reshape(channels, 3, 3)
        taps = _taps(square if along_height else square.transpose(0, 2, 1))
        parts = (taps, 2 * start, rounding.multipliers, rounding.offsets, rounding.shifts)
        constants = np.column_stack([part.astype(np.int32) for part in parts])
        length = window["output_height" if along_height else "output_width"]
        values = [step.values[0], low.constant(constants), step.values[3], low.scratch((length + 2) * COLUMN_BYTES)]
        args = {"window": window, "zero_point": quantized["input_zero_point"], "along_height": int(along_height)}
        same = all(window[f"input_{axis}"] == window[f"output_{axis}"] for axis in ("height", "width"))
        one = window["pad_top"] == window["pad_left"] == 1
        low.step(DEPTHWISE_3X3_S8, args, values, in_place=[(0, 2)] if same and one else [])
        return True


def _is_3x3(window: dict[str, int]) -> bool:
    sizes = [window[f"{name}_{axis}"] for name in ("kernel", "stride", "dilation") for axis in ("height", "width")]
    return sizes == [3, 3, 1, 1, 1, 1]


def _start(step: PortableStep, weights: Array, zero_point: int) -> Array:
    """int64[channels]: the bias with the input's zero point folded, for weights[channels][taps]."""
    folded: Array = step.constant(2).astype(np.int64) - zero_point * weights.astype(np.int64).sum(axis=1)
    return folded


def _strips(rows: int, columns: int) -> int:
    """About how many instructions outputs of `rows` strips of `columns` take: two strips at a time, and two columns."""
    return -(-rows // 2) * (columns // 2 * 53 + columns % 2 * 28 + 35 + 17 * columns // 4)


def _taps(weights: Array) -> Array:
    """uint32[channels][6], (w0, w1) and (w1, w2) of each column, doubled, from int8[channels][columns][rows]."""
    halves = 2 * weights.astype(np.int64)
    first, second = halves[..., :2], halves[..., 1:]
    pairs = np.stack([first, second], axis=2).reshape(len(weights), 6, 2) & 0xFFFF
    words: Array = pairs[..., 0] | pairs[..., 1] << 16
    return words


VARIANTS: list[Variant] = [Depthwise3x3()]
