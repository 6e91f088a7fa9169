"""Cortex-M0 and M0+ (ARMv6-M): no multiply-accumulate, no 64-bit multiply, eight registers that can do all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sdk.fixed_point import wrap32
from sdk.graph import Array, DType
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.ops.depthwise_conv_2d import DEPTHWISE_CONV_2D_S8
from sdk.ops.fully_connected import FULLY_CONNECTED_S8
from sdk.overlap import Overlap, window_ahead_bytes
from sdk.program import Profile, Struct, embed, fields
from sdk.target import Optimize
from sdk.variants.base import PortableStep, Variant
from sdk.variants.packing import fit_16_bits, sum_bounds
from sdk.variants.thumb_scales import Outputs, channel_records

if TYPE_CHECKING:
    from sdk.lower import Lowering

GROUP_TAPS = 2
SCRATCH_LIMIT = 8 * 1024  # of a block of pixels, in bytes
BAND_BYTES = 1536  # of a band of a depthwise convolution, where one row is not more
SET_OUTPUTS = 4  # of a fully connected layer, computed together
WORTH_MACS = 512  # below, a kernel's code is more than it saves
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


DEPTHWISE_ARGS = Struct(
    "ml_thumb_depthwise_conv_2d_args",
    (*embed("window", conv.WINDOW), *embed("quantized", conv.QUANTIZED), *fields("I", "depth_multiplier", "half")),
)

FULLY_CONNECTED_ARGS = Struct("ml_thumb_fully_connected_args", fields("I", "rows", "inputs", "outputs"))

CHANNEL_PAIRS = _conv_kernel("conv_2d_s8_channel_pairs", 0x300, DType.INT32)  # weights take 4 times half their number
PIXEL_PAIRS = _conv_kernel("conv_2d_s8_pixel_pairs", 0x301, DType.INT16)

DEPTHWISE_BANDS = Kernel(
    "depthwise_conv_2d_s8_bands",
    0x302,
    "thumb/depthwise.c",
    DEPTHWISE_ARGS,
    (
        read("input", DType.INT8),
        read("weights", DType.INT8),  # [outputs][kernel height][kernel width]
        read("channels", DType.INT32),
        write("output", DType.INT8),
        write("band", DType.INT32),  # rows of one channel
    ),
    Profile.thumb,
)

OUTPUT_PAIRS = Kernel(
    "fully_connected_s8_output_pairs",
    0x303,
    "thumb/fully_connected.c",
    FULLY_CONNECTED_ARGS,
    (
        read("input", DType.INT8),
        read("weights", DType.INT32),  # [sets of 4 outputs][pairs of inputs][pairs of outputs][inputs]
        read("channels", DType.INT32),
        write("output", DType.INT8),
    ),
    Profile.thumb,
)


def records(weights: Array, start: Array, scales: Array, quantized: Mapping[str, Any]) -> Array | None:
    """The record of each channel, or None where there is no exact one; `weights` are [channels][taps]."""
    least, most = sum_bounds(weights, start.astype(np.int64))
    whole = (least >= INT32.min) & (most <= INT32.max)  # else sums wrap
    least, most = np.where(whole, least, INT32.min), np.where(whole, most, INT32.max)
    outputs = Outputs(quantized["output_offset"], quantized["low"], quantized["high"])
    return channel_records(start, scales, least, most, outputs)


def padded(data: Array, columns: int) -> Array:
    """`data` with zeros behind each row, up to a multiple of `columns`."""
    return np.pad(data, [(0, 0), (0, -data.shape[1] % columns)])


def even_rows(data: Array) -> Array:
    """`data` with an even number of rows: where it is odd, the last but one stands before the last once more."""
    return data if len(data) % 2 == 0 else np.concatenate([data[:-1], data[-2:]])


def _fits(taps: Array) -> bool:
    """Whether each group's products stay in 16 bits; `taps` are padded to whole groups."""
    return fit_16_bits(taps.reshape(len(taps), -1, GROUP_TAPS))


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
        # Rows of a window are spread out one by one, each to whole groups.
        rows = weights.reshape(len(weights) * window["kernel_height"], -1)
        taps = padded(rows, GROUP_TAPS).reshape(len(weights), -1)
        block_bytes = 8 * taps.shape[1]
        fits = shape["groups"] == 1 and quantized["weights_offset"] == 0 and block_bytes <= SCRATCH_LIMIT
        if not fits or not _fits(taps):
            return False
        channels = records(weights, step.constant(2), step.constant(5), quantized)
        if channels is None:
            return False
        wide = low.target.optimize is Optimize.speed and len(taps) > 1
        values = [
            step.values[0],
            low.constant(pairs(even_rows(taps))) if wide else low.constant(taps, alignment=2),
            low.constant(even_rows(channels) if wide else channels),
            step.values[3],
            low.scratch(block_bytes),
        ]
        ahead_bytes = window_ahead_bytes(window, window["input_channels"], window["output_channels"])
        kernel, overlap = CHANNEL_PAIRS if wide else PIXEL_PAIRS, Overlap(0, 3, ahead_bytes)
        low.step(kernel, {"window": window, "quantized": quantized}, values, overlaps=[overlap])
        return True


class Depthwise(Variant):
    """Two products a multiply: of two outputs half a band of rows apart."""

    profile = Profile.thumb
    kernels = (DEPTHWISE_BANDS,)
    replaces = (DEPTHWISE_CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        shape, quantized = step.args["shape"], step.args["quantized"]
        window = shape["window"]
        weights = step.constant(1).reshape(-1, window["output_channels"]).T
        # The portable kernel leaves padding out; here it is the zero point, a product like all others.
        start = wrap32(step.constant(2) - quantized["input_zero_point"] * weights.sum(axis=1, dtype=np.int64))
        half, band_bytes = _band(window)
        channels = records(weights, start, step.constant(4), quantized)
        if band_bytes > SCRATCH_LIMIT or channels is None or not _fits(padded(weights, GROUP_TAPS)):
            return False
        values = [
            step.values[0],
            low.constant(weights),
            low.constant(channels),
            step.values[3],
            low.scratch(band_bytes),
        ]
        multiplier = shape["depth_multiplier"]
        args = {"window": window, "quantized": quantized, "depth_multiplier": multiplier, "half": half}
        low.step(DEPTHWISE_BANDS, args, values, overlaps=[Overlap(0, 3, _bands_ahead_bytes(window, 2 * half))])
        return True


def _band(window: Mapping[str, int]) -> tuple[int, int]:
    """(output rows of half a band, the bytes of its words): the whole image, or as much as makes a small scratch."""

    def reach(axis: str, outputs: int) -> int:
        return (
            (outputs - 1) * window[f"stride_{axis}"] + (window[f"kernel_{axis}"] - 1) * window[f"dilation_{axis}"] + 1
        )

    row_bytes = 4 * reach("width", window["output_width"])
    half = -(-window["output_height"] // 2)
    while half > 1 and row_bytes * reach("height", half) > BAND_BYTES:
        half -= 1
    return half, row_bytes * reach("height", half)


def _bands_ahead_bytes(window: Mapping[str, int], rows: int) -> int:
    """The `Overlap.ahead_bytes` of bands of `rows` output rows: all of one is written while its first input is read."""
    outputs = window["output_width"] * window["output_channels"]
    inputs = window["input_width"] * window["input_channels"]
    worst = 0
    for batch in range(window["batches"]):
        for first in range(0, window["output_height"], rows):
            end = batch * window["output_height"] + min(first + rows, window["output_height"])
            start = max(first * window["stride_height"] - window["pad_top"], 0)
            worst = max(worst, end * outputs - (batch * window["input_height"] + start) * inputs)
    return worst


class FullyConnected(Variant):
    """Two products a multiply: of two outputs, whose weights take twice their room."""

    profile = Profile.thumb
    kernels = (OUTPUT_PAIRS,)
    replaces = (FULLY_CONNECTED_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        args, inputs, outputs = step.args, step.args["inputs"], step.args["outputs"]
        weights = step.constant(1).reshape(outputs, inputs)
        fits = low.target.optimize is Optimize.speed and args["weights_offset"] == 0
        if not fits or inputs % GROUP_TAPS or outputs < SET_OUTPUTS or weights.size < WORTH_MACS:
            return False
        channels = records(weights, step.constant(2), step.constant(3), args)
        if channels is None or not _fits(weights):
            return False
        order = np.arange(-(-outputs // SET_OUTPUTS) * SET_OUTPUTS)
        order[-SET_OUTPUTS:] += outputs - len(order)  # the last set ends with the last output
        words = pairs(weights[order]).reshape(-1, SET_OUTPUTS // 2, inputs // GROUP_TAPS, GROUP_TAPS)
        values = [
            step.values[0],
            low.constant(words.transpose(0, 2, 1, 3)),
            low.constant(channels[order]),
            step.values[4],
        ]
        low.step(OUTPUT_PAIRS, {name: args[name] for name in ("rows", "inputs", "outputs")}, values)
        return True


VARIANTS: list[Variant] = [Convolution(), Depthwise(), FullyConnected()]
