"""Xtensa LX6 and LX7 (ESP32, ESP32-S3): MAC16, which multiplies halves of words, adds to an accumulator and loads at
once; loops that cost nothing; no product's upper half on every core of them."""

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
from sdk.variants import packing
from sdk.variants.arm_dsp_conv import inputs_in_quads, words_of
from sdk.variants.base import PortableStep, Variant
from sdk.variants.layer import Depthwise3x3, Layer
from sdk.variants.thumb import bands_ahead_bytes, records
from sdk.variants.thumb_scales import PART_BITS, Outputs, Records, channel_records

if TYPE_CHECKING:
    from sdk.lower import Lowering

PIXELS = 8  # at a time, where their windows have room
BLOCK_BYTES = 2304  # of these windows
MOST_BYTES = 4096  # of a single window
INPUT_OFFSET = 128  # inputs are widened as unsigned numbers
EXACT_FACTOR = 4  # by which sums are multiplied, as part of weights and start
EXACT_LIMIT = 1 << 27  # sums below it, times 4, have products in parts of 32 bits
FORM_EXACT = 2  # 0, 1: staircases, without and with negative sums
TAPS_3X3 = 9
BAND_ROWS = 8  # of a depthwise convolution
LAST_ROW = 0xFFFE
CONSTANT_SHIFT = 16
FREE_MAX_SHIFT = 22  # an output, shifted left by this, leaves room for sums that are not clamped
INT32_LIMIT = 1 << 31

CONV_BLOCK_S8 = Kernel(
    "conv_block_s8",
    0x500,
    "xtensa/conv.c",
    Struct(
        "ml_conv_block_args",
        (
            *embed("window", conv.WINDOW),
            *fields("h", "low", "high", "padding"),
            *fields("H", "pixels", "form"),  # how sums become outputs
            *fields("H", "reserved"),
        ),
    ),
    (
        read("input", DType.INT8),
        read("weights", DType.INT32),  # see firmware/src/kernels/xtensa/conv.c
        read("channels", DType.INT32),  # a record each: sdk/variants/thumb_scales.py
        write("output", DType.INT8),
        write("scratch", DType.INT32),
    ),
    Profile.xtensa,
)

DEPTHWISE_PAIRS_S8 = Kernel(
    "depthwise_pairs_s8",
    0x501,
    "xtensa/depthwise.c",
    Struct(
        "ml_depthwise_pairs_args",
        (
            *embed("window", conv.WINDOW),
            *fields("h", "padding"),
            *fields("H", "has_sign"),  # whether outputs below the zero point show
            *fields("H", "along_height"),  # whether rows of outputs are columns of the image
            *fields("H", "band"),  # how many rows of outputs of all channels are computed before the next
        ),
    ),
    (
        read("input", DType.INT8),
        read("channels", DType.INT32),  # see firmware/src/kernels/xtensa/depthwise.c
        write("output", DType.INT8),
        write("pairs", DType.INT32),  # of rows
    ),
    Profile.xtensa,
)


class Convolution(Variant):
    """Blocks of pixels, whose windows are widened once for all channels; weights widened on the host."""

    profile = Profile.xtensa
    kernels = (CONV_BLOCK_S8,)
    replaces = (CONV_2D_S8, FULLY_CONNECTED_S8)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step) if low.target.optimize is not Optimize.size else None
        if layer is None or 2 * layer.weights[0].size > MOST_BYTES:
            return False
        taps = layer.weights.reshape(len(layer.start), -1)
        found, factor = records(taps, layer.start, layer.scales, layer.quantized), 1
        if found is not None:
            channels, form = found.data.copy(), int(found.has_sign)
        else:
            exact, factor, form = exact_records(layer), EXACT_FACTOR, FORM_EXACT
            if exact is None:
                return False
            channels = exact
        channels[:, 0] = without_offset(channels[:, 0], factor * taps.astype(np.int64))
        rows = np.pad(layer.weights, [(0, 0), (0, 0), (0, -layer.weights.shape[2] % 4)])
        words = words_of(factor * inputs_in_quads(rows).astype(np.int16)).reshape(len(taps), -1)
        words = np.hstack([words, words[:, :1]])  # what the last products load is what the next pixel begins with
        pixels = max(1, min(PIXELS, layer.pixels * layer.window["batches"], BLOCK_BYTES // (4 * (words.shape[1] - 1))))
        args = {name: layer.quantized[name] for name in ("low", "high")} | {
            "window": layer.window,
            "padding": layer.quantized.get("input_zero_point", 0),
            "pixels": pixels,
            "form": form,
            "reserved": 0,
        }
        scratch_bytes = 4 * (pixels * (words.shape[1] - 1) + 2)
        if layer.weights.shape[2] % 4 or not conv.stays_inside(layer.window):
            scratch_bytes += rows.shape[2]
        values = [
            layer.input,
            low.constant(words),
            low.constant(channels),
            layer.output,
            low.scratch(scratch_bytes),
        ]
        sides = (layer.window[f"{side}_channels"] for side in ("input", "output"))
        low.step(CONV_BLOCK_S8, args, values, overlaps=[Overlap(0, 3, window_ahead_bytes(layer.window, *sides))])
        return True


class Depthwise(Variant):
    """Kernels of 3x3 whose outputs are not clamped, channel by channel."""

    profile = Profile.xtensa
    kernels = (DEPTHWISE_PAIRS_S8,)
    replaces = (DEPTHWISE_CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Depthwise3x3.of(step)
        if layer is None:
            return False
        window, quantized, in_place = layer.window, layer.quantized, layer.in_place
        along_height = in_place and window["output_height"] > window["output_width"]
        # [channels][9], column by column.
        weights = layer.weights.transpose((2, 0, 1) if along_height else (2, 1, 0)).reshape(-1, TAPS_3X3)
        channels = _depthwise_records(weights, layer.start, step.constant(4), quantized)
        if channels is None:
            return False
        outputs = window["output_height" if along_height else "output_width"]
        columns = outputs * window["stride_width"] + 2
        values = [step.values[0], low.constant(channels.data), step.values[3], low.scratch(8 * columns)]
        band = LAST_ROW if in_place else BAND_ROWS
        args = {
            "window": window,
            "padding": quantized["input_zero_point"],
            "has_sign": channels.has_sign,
            "along_height": along_height,
            "band": band,
        }
        # In place, a channel after the other; else a band after the other, which lies below what is still to be read.
        overlap = Overlap(0, 2, None if in_place else bands_ahead_bytes(window, band))
        low.step(DEPTHWISE_PAIRS_S8, args, values, overlaps=[overlap])
        return True


def _depthwise_records(weights: Array, start: Array, scales: Array, quantized: Mapping[str, Any]) -> Records | None:
    """The `record` of each channel in firmware/src/kernels/xtensa/depthwise.c; None where there is no exact one."""
    bounds = packing.sum_bounds(weights, start)
    outputs = Outputs(quantized["output_offset"], quantized["low"], quantized["high"])
    found = channel_records(wrap32(start), scales, bounds, outputs, max_shift=FREE_MAX_SHIFT)
    if found is None:
        return None
    begin, offset, parts, shift = (found.data[:, i].astype(np.int64) for i in range(4))
    low_part, high_part, shift = (parts & 0xFFFF ^ 0x8000) - 0x8000, parts >> 16 & 0xFFFF, shift & 0xFF
    # Outputs that are always the same must not change where a sum is negative.
    offset = np.where(parts == 0, ((offset >> shift) << CONSTANT_SHIFT) + (1 << CONSTANT_SHIFT - 1), offset)
    shift = np.where(parts == 0, CONSTANT_SHIFT, shift)
    for sums in bounds:  # of what rises with the sum, both ends
        kept = sums - (start - begin)
        product = kept * low_part
        total = (product >> PART_BITS) + kept * high_part + offset
        if not all(packing.within((values, values), INT32_LIMIT) for values in (kept, product, total)):
            return None
    words = words_of(np.pad(weights, [(0, 0), (0, 1)]).reshape(len(weights), -1, 2))
    columns = [without_offset(begin, weights), offset, low_part, high_part, shift]
    return Records(np.hstack([words, np.stack(columns, axis=1)]).astype(np.int32), found.has_sign)


def exact_records(layer: Layer) -> Array | None:
    """`ml_channel` records for sums that are EXACT_FACTOR times what they are; None where sums or scales are too large.

    y = (floor(4 * x * multiplier / 2^32) + offset - 2 * [x < 0]) >> shift: of `packing.rounding`, doubled.
    """
    rounding = layer.rounding
    if rounding is None or not packing.within(layer.bounds, EXACT_LIMIT):
        return None
    offsets = 2 * rounding.offsets.astype(np.int64) + 1
    columns = [
        EXACT_FACTOR * layer.start.astype(np.int64),
        offsets,
        rounding.multipliers,
        rounding.shifts + 1,
        0 * rounding.shifts,
    ]
    return wrap32(np.stack(columns, axis=1)).astype(np.int32)


def without_offset(start: Array, weights: Array) -> Array:
    """Start values for inputs to which INPUT_OFFSET has been added; `weights` are [channels][taps]."""
    return wrap32(start.astype(np.int64) - INPUT_OFFSET * weights.sum(axis=1, dtype=np.int64))


VARIANTS: list[Variant] = [Convolution(), Depthwise()]
