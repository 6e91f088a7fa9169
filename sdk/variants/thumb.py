"""Cortex-M0 and M0+ (ARMv6-M): no multiply-accumulate, no 64-bit multiply, eight registers that can do all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sdk.graph import Array, DType
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.program import Profile, Struct, embed
from sdk.target import Optimize
from sdk.variants.base import PortableStep, Variant
from sdk.variants.packing import sum_bounds
from sdk.variants.thumb_scales import Outputs, channel_records

if TYPE_CHECKING:
    from sdk.lower import Lowering

GROUP_TAPS = 2
SCRATCH_LIMIT = 8 * 1024  # of a block of pixels, in bytes
INT32 = np.iinfo(np.int32)

CONV_ARGS = Struct("ml_thumb_conv_2d_args", (*embed("window", conv.WINDOW), *embed("quantized", conv.QUANTIZED)))


def _conv_kernel(name: str, number: int, weights: DType) -> Kernel:
    slots = (
        read("input", DType.INT8),
        read("weights", weights),  # [outputs][taps], both padded with zeros
        read("channels", DType.INT32),  # a record each: sdk/variants/thumb_scales.py
        write("output", DType.INT8),
        write("block", DType.INT32),  # pixels, spread out
    )
    return Kernel(name, number, "thumb/conv.c", CONV_ARGS, slots, Profile.thumb)


CHANNEL_PAIRS = _conv_kernel("conv_2d_s8_channel_pairs", 0x300, DType.INT32)  # weights take 4 times half their number
PIXEL_PAIRS = _conv_kernel("conv_2d_s8_pixel_pairs", 0x301, DType.INT16)


def records(weights: Array, start: Array, scales: Array, quantized: Mapping[str, Any]) -> Array:
    """The record of each channel; `weights` are [channels][taps]."""
    least, most = sum_bounds(weights, start.astype(np.int64))
    whole = (least >= INT32.min) & (most <= INT32.max)  # else sums wrap
    least, most = np.where(whole, least, INT32.min), np.where(whole, most, INT32.max)
    outputs = Outputs(quantized["output_offset"], quantized["low"], quantized["high"])
    return channel_records(start, scales, least, most, outputs)


def padded(data: Array, rows: int, columns: int) -> Array:
    """`data` with zeros behind, up to multiples of `rows` and `columns`."""
    return np.pad(data, [(0, -data.shape[0] % rows), (0, -data.shape[1] % columns)])


def groups_hold(weights: Array) -> bool:
    """Whether a group's products with any inputs, added up, stay in 16 bits; taps are padded."""
    groups = np.abs(weights.astype(np.int32)).reshape(len(weights), -1, GROUP_TAPS).sum(axis=2)
    return bool((groups * 128 < 1 << 15).all())


def pairs(weights: Array) -> Array:
    """int32[rows / 2][columns]: two rows in one, the second in the upper half; a sum, not bits side by side."""
    wide = weights.astype(np.int32)
    return wide[0::2] + (wide[1::2] << 16)


class Convolution(Variant):
    """Two products a multiply: of two output channels, or of two pixels, whose weights take half the room."""

    profile = Profile.thumb
    kernels = (CHANNEL_PAIRS, PIXEL_PAIRS)
    replaces = (CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        shape, quantized = step.args["shape"], step.args["quantized"]
        window = shape["window"]
        weights = step.constant(1).reshape(window["output_channels"], -1)
        taps = padded(weights, 1, GROUP_TAPS)
        block_bytes = 8 * taps.shape[1]
        fits = shape["groups"] == 1 and quantized["weights_offset"] == 0 and block_bytes <= SCRATCH_LIMIT
        if not fits or not groups_hold(taps):
            return False
        channels = records(weights, step.constant(2), step.constant(5), quantized)
        wide = low.target.optimize is Optimize.speed
        values = [
            step.values[0],
            low.constant(pairs(padded(taps, 2, 1))) if wide else low.constant(taps, alignment=2),
            low.constant(padded(channels, 2, 1) if wide else channels),
            step.values[3],
            low.scratch(block_bytes),
        ]
        low.step(CHANNEL_PAIRS if wide else PIXEL_PAIRS, {"window": window, "quantized": quantized}, values)
        return True


VARIANTS: list[Variant] = [Convolution()]
