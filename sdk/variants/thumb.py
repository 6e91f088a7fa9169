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
from sdk.overlap import Overlap, items_ahead_bytes, window_ahead_bytes
from sdk.program import Profile, Struct, embed, fields
from sdk.target import Optimize, Target
from sdk.variants.base import PortableStep, Variant
from sdk.variants.packing import fit_16_bits, sum_bounds
from sdk.variants.thumb_scales import Outputs, Records, channel_records

if TYPE_CHECKING:
    from sdk.lower import Lowering

GROUP_TAPS = 2
SCRATCH_LIMIT = 8 * 1024  # of a block of pixels, in bytes
BAND_BYTES = 1536  # of a band of a depthwise convolution, where one row is not more
ROUND_INPUTS = 16  # of a fully connected layer
FEW_OUTPUTS, FEW_MACS = 6, 2048  # spreading so many inputs out for so few outputs costs more than it saves
CHUNK_INPUTS = 128  # of these, at most, are spread out at a time
WIDE_PIXELS, WIDE_TAPS = 256, 4096
INT32 = np.iinfo(np.int32)

CONV_ARGS = Struct(
    "ml_thumb_conv_2d_args",
    (*embed("window", conv.WINDOW), *embed("quantized", conv.QUANTIZED), *fields("I", "has_sign")),
)


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
    (
        *embed("window", conv.WINDOW),
        *embed("quantized", conv.QUANTIZED),
        *fields("I", "depth_multiplier", "half", "has_sign"),
    ),
)

FULLY_CONNECTED_ARGS = Struct(
    "ml_thumb_fully_connected_args", fields("I", "rows", "inputs", "outputs", "chunk", "pairs", "distance", "has_sign")
)

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

FULLY_CONNECTED_BYTES = Kernel(
    "fully_connected_s8_bytes",
    0x303,
    "thumb/fully_connected.c",
    FULLY_CONNECTED_ARGS,
    (
        read("input", DType.INT8),
        read("weights", DType.INT32),  # see firmware/src/kernels/thumb/fully_connected.c
        read("starts", DType.INT32),
        read("scales", DType.INT32),  # records without their starts
        write("output", DType.INT8),
        write("scratch", DType.INT32),  # spread inputs, sums
    ),
    Profile.thumb,
)


def records(
    weights: Array, start: Array, scales: Array, quantized: Mapping[str, Any], plain: bool = False
) -> Records | None:
    """The records of a layer's channels (`plain`: see `channel_records`), or None where there are no exact ones;
    `weights` are [channels][taps]."""
    least, most = sum_bounds(weights, start.astype(np.int64))
    whole = (least >= INT32.min) & (most <= INT32.max)  # else sums wrap
    least, most = np.where(whole, least, INT32.min), np.where(whole, most, INT32.max)
    outputs = Outputs(quantized["output_offset"], quantized["low"], quantized["high"])
    return channel_records(start, scales, (least, most), outputs, plain=plain)


def padded_to(count: int, multiple: int) -> int:
    """`count`, or the next multiple."""
    return count + -count % multiple


def padded(data: Array, columns: int) -> Array:
    """`data` with zeros behind each row, up to a multiple of `columns`."""
    return np.pad(data, [(0, 0), (0, -data.shape[1] % columns)])


def even_rows(data: Array) -> Array:
    """`data` with an even number of rows: where it is odd, the last but one stands before the last once more."""
    return data if len(data) % 2 == 0 else np.concatenate([data[:-1], data[-2:]])


def _fits(taps: Array, group: int = GROUP_TAPS) -> bool:
    """Whether each group's products stay in 16 bits; `taps` are padded to whole groups."""
    return fit_16_bits(taps.reshape(len(taps), -1, group))


def pairs(weights: Array) -> Array:
    """int32[rows / 2][columns]: two rows in one, the second in the upper half; a sum, not bits side by side."""
    wide = weights.astype(np.int32)
    return wide[0::2] + (wide[1::2] << 16)


def _may_widen(target: Target, window: Mapping[str, int], taps: Array) -> bool:
    """Whether weights may take twice their room without --optimize speed: few, which many pixels use."""
    pixels = window["output_height"] * window["output_width"]
    return target.optimize is Optimize.balanced and pixels >= WIDE_PIXELS and taps.size <= WIDE_TAPS


def _channel_pairs(channels: Array) -> Array:
    """Records of two channels in turn, the first of which starts with both sums in one word."""
    data = even_rows(channels).astype(np.int64)
    data[0::2, 0] += data[1::2, 0] << 16
    return wrap32(data).astype(np.int32)


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
        wide = len(taps) > 1 and (low.target.optimize is Optimize.speed or _may_widen(step.target, window, taps))
        values = [
            step.values[0],
            low.constant(pairs(even_rows(taps))) if wide else low.constant(taps, alignment=2),
            low.constant(_channel_pairs(channels.data) if wide else channels.data),
            step.values[3],
            low.scratch(block_bytes),
        ]
        ahead_bytes = window_ahead_bytes(window, window["input_channels"], window["output_channels"])
        kernel, overlap = CHANNEL_PAIRS if wide else PIXEL_PAIRS, Overlap(0, 3, ahead_bytes)
        args = {"window": window, "quantized": quantized, "has_sign": channels.has_sign}
        low.step(kernel, args, values, overlaps=[overlap])
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
            low.constant(channels.data),
            step.values[3],
            low.scratch(band_bytes),
        ]
        args = {"window": window, "quantized": quantized, "depth_multiplier": shape["depth_multiplier"], "half": half}
        args |= {"has_sign": channels.has_sign}
        # Of each channel all inputs are read before outputs are written over them, where the image is one band.
        alike = all(window[f"input_{side}"] == window[f"output_{side}"] for side in ("height", "width", "channels"))
        in_place = [(0, 3)] if alike and 2 * half >= window["output_height"] else []
        overlap = Overlap(0, 3, bands_ahead_bytes(window, 2 * half))
        low.step(DEPTHWISE_BANDS, args, values, in_place=in_place, overlaps=[overlap])
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


def bands_ahead_bytes(window: Mapping[str, int], rows: int) -> int:
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
    """Two products a multiply: of two outputs."""

    profile = Profile.thumb
    kernels = (FULLY_CONNECTED_BYTES,)
    replaces = (FULLY_CONNECTED_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        args, rows, inputs, outputs = step.args, *(step.args[name] for name in ("rows", "inputs", "outputs"))
        few = outputs < FEW_OUTPUTS and inputs * outputs > FEW_MACS
        if args["weights_offset"] or few or low.target.optimize is Optimize.size:
            return False
        weights = step.constant(1).reshape(outputs, inputs)
        channels = records(weights, step.constant(2), step.constant(3), args)
        taps = padded(weights, ROUND_INPUTS)
        grouped = _groups(taps)
        if channels is None or grouped is None:
            return False
        group, distance, taps = grouped
        chunk = padded_to(-(-taps.shape[1] // -(-taps.shape[1] // CHUNK_INPUTS)), max(ROUND_INPUTS, group * distance))
        sums_bytes = 4 * (outputs + outputs % 2) if inputs > chunk else 0
        starts = channels.data[:, :1].astype(np.int64)
        starts = np.pad(starts, [(0, outputs % 2), (0, 0)]).reshape(-1, 2)
        starts[:, 0] += (starts[:, 1] << 16) - (taps.shape[1] // group << 15)
        values = [
            step.values[0],
            low.constant(_byte_words(taps, chunk)),
            low.constant(wrap32(starts).astype(np.int32)),
            low.constant(np.pad(channels.data[:, 1:], [(0, outputs % 2), (0, 0)])),
            step.values[4],
            low.scratch(4 * chunk + 4 * chunk // group + sums_bytes),
        ]
        sizes = {"rows": rows, "inputs": inputs, "outputs": outputs, "chunk": chunk}
        sizes |= {"pairs": group // 2, "distance": distance, "has_sign": channels.has_sign}
        overlap = Overlap(0, 4, items_ahead_bytes(rows, inputs, outputs))
        low.step(FULLY_CONNECTED_BYTES, sizes, values, overlaps=[overlap])
        return True


def _groups(taps: Array) -> tuple[int, int, Array] | None:
    """(inputs of a group, how far apart they lie, weights with those of a group side by side), for the largest groups
    whose products stay in 16 bits."""
    for group in (8, 4, 2):
        for distance in (1, 2, 4, 8, 16):
            if taps.shape[1] % (group * distance) == 0:
                found = taps.reshape(len(taps), -1, group, distance).transpose(0, 1, 3, 2).reshape(len(taps), -1)
                if _fits(found, group):
                    return group, distance, found
    return None


def _byte_words(taps: Array, chunk: int) -> Array:
    """int8[outputs][inputs], plus 128, as words of [2 outputs][2 inputs]: [chunks][pairs of outputs][of inputs]."""
    pairs_of_outputs = np.pad(taps, [(0, len(taps) % 2), (0, 0)]).reshape(-1, 2, taps.shape[1])
    chunks = [pairs_of_outputs[:, :, first : first + chunk] for first in range(0, taps.shape[1], chunk)]
    words = [part.reshape(len(part), 2, -1, 2).transpose(0, 2, 1, 3).reshape(-1) for part in chunks]
    biased: Array = np.concatenate(words).view(np.uint8) ^ 0x80
    return biased.view("<i4")


VARIANTS: list[Variant] = [Convolution(), Depthwise(), FullyConnected()]
