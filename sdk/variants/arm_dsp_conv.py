"""CONV_2D and FULLY_CONNECTED with int8 activations on Cortex-M4, M7 and M33: blocks of three pixels, two channels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np

from sdk.fixed_point import wrap32
from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.ops.fully_connected import FULLY_CONNECTED_S8
from sdk.ops.movement import STRIDED_COPY, copy_args
from sdk.overlap import Overlap, window_ahead_bytes
from sdk.program import Profile, Struct, embed, fields
from sdk.target import Optimize
from sdk.variants import packing
from sdk.variants.base import PortableStep, Variant
from sdk.variants.layer import Layer

PIXELS = 3  # of a block
BYTE_ORDER = [0, 2, 1, 3]  # of four inputs, in two words of two: SXTB16 takes every other byte
TINY_BYTES = 512  # of weights that may be widened where all others keep their size
MOST_SHARED_INPUTS = 256  # of which a kernel's scratch holds three times as many, widened
# Of images to which padding is added first: so few outputs a row that most blocks of pixels reach over an edge.
MOST_PADDED_BYTES, MOST_PADDED_OUTPUTS = 1024, 6
UPPER_LIMIT = 1 << 23  # of the sums that lie 8 bits higher in an accumulator

ARGS = Struct(
    "ml_conv_three_args",
    (
        *embed("window", conv.WINDOW),
        *fields("i", "padding"),
        *fields("h", "low", "high"),
    ),
)
SLOTS = (
    read("input", DType.INT8),
    read("weights", DType.INT32),  # see firmware/src/kernels/arm_dsp/conv.c
    write("output", DType.INT8),
    write("scratch", DType.INT32),
)
CONV_PAIR_S8 = Kernel("conv_pair_s8", 0x100, "arm_dsp/conv.c", ARGS, SLOTS, Profile.arm_dsp)
CONV_WIDE_S8 = Kernel("conv_wide_s8", 0x101, "arm_dsp/conv.c", ARGS, SLOTS, Profile.arm_dsp)
# For outputs clamped to their zero point or above.
CONV_PAIR_UNSIGNED_S8 = Kernel("conv_pair_unsigned_s8", 0x109, "arm_dsp/conv.c", ARGS, SLOTS, Profile.arm_dsp)
# For outputs clamped to their zero point or above, of channels that can all have COMMON_SHIFT.
CONV_WIDE_COMMON_S8 = Kernel("conv_wide_common_s8", 0x105, "arm_dsp/conv.c", ARGS, SLOTS, Profile.arm_dsp)
CONV_EIGHT_S8 = Kernel(
    "conv_eight_s8",
    0x107,
    "arm_dsp/eight.c",
    Struct("ml_conv_eight_s8_args", fields("I", "pixels", "outputs")),
    SLOTS[:3],
    Profile.arm_dsp,
)
EIGHT, EIGHT_OUTPUTS = 8, 4  # inputs; outputs come in multiples of them


def is_joined(height: int, row_bytes: int) -> bool:
    """Whether the kernels of blocks put rows of windows together, since that takes less quads of inputs."""
    return height * row_bytes + 3 < height * 4 * -(-row_bytes // 4)


def inputs_in_quads(weights: Array) -> Array:
    """int8[outputs][rows][n] -> int8[outputs][quads][2][2]: rows filled up with zeros to fours, in `BYTE_ORDER`. Where
    they are joined, first the whole fours of all rows, then what is left, with zeros before it in the last four."""
    outputs, height, row_bytes = weights.shape
    rows = np.pad(weights, [(0, 0), (0, 0), (0, -row_bytes % 4)])
    if is_joined(height, row_bytes):
        whole, rests = (part.reshape(outputs, -1) for part in np.split(weights, [row_bytes // 4 * 4], axis=2))
        count = rests.shape[1]
        rows = np.hstack([whole, np.insert(rests, [count // 4 * 4] * (-count % 4), 0, axis=1)])
    return rows.reshape(outputs, -1, 4)[:, :, BYTE_ORDER].reshape(outputs, -1, 2, 2)


def words_of(halves: Array) -> Array:
    """int[...][2] -> int32[...]: the first value of each two in the lower half of a word."""
    return np.ascontiguousarray(halves.astype(np.int16)).view(np.int32)[..., 0]


def pairs_of(channels: Array) -> Array:
    """[outputs][...] -> [pairs][2][...], an odd last one with zeros."""
    even = np.pad(channels.astype(np.int64), [(0, len(channels) % 2)] + [(0, 0)] * (channels.ndim - 1))
    return even.reshape(-1, 2, *channels.shape[1:])


def pair_words(weights: Array) -> Array | None:
    """int64[pairs][2][quads][2][2] -> int32[pairs][quads][2]: halfwords 256 * w1 + w0. None where one is too large, for
    a weight of -128."""
    both = 256 * weights[:, 1] + weights[:, 0]
    return words_of(both) if both.min() >= -(1 << 15) else None


def upper_fits(layer: Layer) -> bool:
    """Whether the sums of all odd channels may lie 8 bits higher in an accumulator."""
    lowest, highest = layer.bounds
    return packing.within((lowest[1::2], highest[1::2]), UPPER_LIMIT)


def rounding_of_pairs(rounding: packing.Rounding) -> Array:
    """int64[pairs][6]: (multiplier, offset, shift) of both channels."""
    constants = np.stack([rounding.multipliers, rounding.offsets, rounding.shifts], axis=1)
    pairs = pairs_of(constants)
    return pairs.reshape(len(pairs), 6)


def stream_of(*parts: Array) -> Array:
    """int32[groups][...]: the parts of each group of channels, one after the other."""
    return wrap32(np.hstack([part.reshape(len(part), -1) for part in parts])).astype(np.int32)


def shares_kernel(layer: Layer, low: Lowering) -> bool:
    """Whether few pixels are computed three times rather than with a kernel of their own, for the smallest image."""
    windows = any(node.op == "CONV_2D" for node in low.root.nodes)
    return low.target.optimize is Optimize.size and windows and layer.window["input_channels"] <= MOST_SHARED_INPUTS


class _Conv(Variant):
    """Three pixels and two channels at a time. The weights are a stream: for each pair of channels start values and
    weights, then the constants of requantization."""

    profile = Profile.arm_dsp
    replaces = (CONV_2D_S8, FULLY_CONNECTED_S8)

    @abstractmethod
    def stream(self, layer: Layer, rounding: packing.Rounding, optimize: Optimize) -> Array | None:
        """The weights; None where the kernel is not for the layer, or they are too large for what `optimize` asks."""

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step)
        if layer is None or layer.rounding is None or (layer.pixels < PIXELS and not shares_kernel(layer, low)):
            return False
        stream = self.stream(layer, layer.rounding, low.target.optimize)
        if stream is None:
            return False
        if low.target.optimize is Optimize.speed and not conv.stays_inside(layer.window):
            layer = with_padding(layer, low)
        args = {name: layer.quantized[name] for name in ("low", "high")} | {
            "window": layer.window,
            "padding": layer.quantized.get("input_zero_point", 0),
        }
        scratch = low.scratch(scratch_bytes(layer))
        pixel_bytes = layer.window["input_channels"], layer.window["output_channels"]
        overlap = Overlap(0, 2, window_ahead_bytes(layer.window, *pixel_bytes))
        values = [layer.input, low.constant(stream), layer.output, scratch]
        low.step(self.kernels[0], args, values, overlaps=[overlap])
        return True


def with_padding(layer: Layer, low: Lowering) -> Layer:
    """The layer with padding as part of its input, for which steps are added; itself where that does not pay."""
    window, sizes = layer.window, {}
    for axis, before in (("height", "pad_top"), ("width", "pad_left")):
        reach = (window[f"output_{axis}"] - 1) * window[f"stride_{axis}"] + 1
        reach += (window[f"kernel_{axis}"] - 1) * window[f"dilation_{axis}"]
        sizes[f"input_{axis}"] = max(reach, window[before] + window[f"input_{axis}"])
    shape = window["batches"], window["input_height"], window["input_width"], window["input_channels"]
    image, padded = np.empty(shape, np.int8), np.empty((shape[0], *sizes.values(), shape[3]), np.int8)
    if padded.nbytes > MOST_PADDED_BYTES or window["output_width"] > MOST_PADDED_OUTPUTS:
        return layer
    whole = low.scratch(padded.nbytes)
    inside = padded[:, window["pad_top"] :, window["pad_left"] :][:, : shape[1], : shape[2]]
    start = (window["pad_top"] * sizes["input_width"] + window["pad_left"]) * shape[3]
    zero_point = np.array([layer.quantized["input_zero_point"]], np.int8)
    for target, source, value, at in (
        (padded, np.broadcast_to(zero_point, padded.shape), low.constant(zero_point), 0),
        (inside, image, layer.input, start),
    ):
        low.step(STRIDED_COPY, copy_args(target, source) or {}, [value, whole.part(at, whole.bytes - at)])
    return replace(layer, window=window | sizes | {"pad_top": 0, "pad_left": 0}, input=whole)


def scratch_bytes(layer: Layer) -> int:
    """Of the patch, and of windows whose rows are put together, or of rows that cannot be read in place."""
    height, row_bytes = layer.weights.shape[1:]
    quads = inputs_in_quads(layer.weights).shape[1]
    patch_bytes = PIXELS * 8 * quads
    if is_joined(height, row_bytes):
        return patch_bytes + PIXELS * 4 * quads
    whole = layer.is_pointwise or (row_bytes % 4 == 0 and conv.stays_inside(layer.window))
    return patch_bytes + (0 if whole else (PIXELS + 1) * 4 * -(-row_bytes // 4))


class ConvPair(_Conv):
    """Weights at their own size: 16 bits hold 256 * w1 + w0, of two channels."""

    kernels = (CONV_PAIR_S8,)

    def stream(self, layer: Layer, rounding: packing.Rounding, optimize: Optimize) -> Array | None:
        tiny = optimize is Optimize.balanced and layer.weights.size <= TINY_BYTES
        if optimize is Optimize.speed or tiny or not upper_fits(layer):
            return None
        words, start = pair_words(pairs_of(inputs_in_quads(layer.weights))), pairs_of(layer.start)
        starts = np.stack([256 * start[:, 1] + start[:, 0], start[:, 0]], axis=1)
        return None if words is None else stream_of(starts, words, rounding_of_pairs(rounding))


class ConvPairUnsigned(ConvPair):
    """The same for outputs clamped to their zero point or above; an image for size has one kernel for all."""

    kernels = (CONV_PAIR_UNSIGNED_S8,)

    def stream(self, layer: Layer, rounding: packing.Rounding, optimize: Optimize) -> Array | None:
        signed = optimize is Optimize.size or packing.sign_matters(layer.quantized)
        return None if signed else super().stream(layer, rounding, optimize)


def wide_stream(layer: Layer, exponents: Array, scales: Array) -> Array:
    """Weights of 16 bits and start values, times powers of 2; `scales` of pairs."""
    weights = inputs_in_quads(layer.weights).astype(np.int64) << exponents[:, np.newaxis, np.newaxis, np.newaxis]
    words = words_of(pairs_of(weights)).transpose(0, 2, 3, 1)  # [pairs][quads][2][channel]
    starts = pairs_of(layer.start.astype(np.int64) << exponents)[:, ::-1]
    return stream_of(starts, words, scales)


def common_of(layer: Layer, optimize: Optimize) -> packing.CommonShift | None:
    """Constants for outputs clamped to their zero point or above, of channels that can all have the same shift."""
    if optimize is Optimize.size or packing.sign_matters(layer.quantized):
        return None
    limits = packing.MAX_EXPONENT, packing.COMMON_SHIFT
    return packing.common_shift(layer.scales, layer.quantized["output_offset"], layer.bounds, *limits)


class ConvEight(Variant):
    """Single pixels of eight inputs, two at a time, whose inputs stay in registers."""

    profile = Profile.arm_dsp
    kernels = (CONV_EIGHT_S8,)
    replaces = (CONV_2D_S8, FULLY_CONNECTED_S8)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step)
        if layer is None or not layer.is_pointwise or layer.pixels < PIXELS:
            return False
        inputs, outputs = layer.window["input_channels"], layer.window["output_channels"]
        unclamped = (layer.quantized["low"], layer.quantized["high"]) == (-128, 127)
        common = common_of(layer, low.target.optimize)
        if common is None or not unclamped or inputs != EIGHT or outputs % EIGHT_OUTPUTS:
            return False
        exponents = common.exponents[:, np.newaxis].astype(np.int64)
        words = words_of(
            inputs_in_quads(layer.weights).reshape(outputs, -1, 2).astype(np.int64) << exponents[..., None]
        )
        starts = layer.start[:, np.newaxis].astype(np.int64) << exponents
        stream = stream_of(starts, words, np.stack([common.multipliers, common.offsets], axis=1))
        overlap = Overlap(0, 2, window_ahead_bytes(layer.window, inputs, outputs))
        args = {"pixels": layer.pixels, "outputs": outputs}
        low.step(CONV_EIGHT_S8, args, [layer.input, low.constant(stream), layer.output], overlaps=[overlap])
        return True


class ConvWideCommon(_Conv):
    """Outputs clamped to their zero point or above, of channels that can all have the same shift."""

    kernels = (CONV_WIDE_COMMON_S8,)

    def stream(self, layer: Layer, rounding: packing.Rounding, optimize: Optimize) -> Array | None:  # noqa: ARG002
        common = common_of(layer, optimize)
        if common is None:
            return None
        scales = pairs_of(np.stack([common.multipliers, common.offsets], axis=1))
        return wide_stream(layer, common.exponents, scales)


class ConvWide(_Conv):
    """Sums doubled, as requantization wants them."""

    kernels = (CONV_WIDE_S8,)

    def stream(self, layer: Layer, rounding: packing.Rounding, optimize: Optimize) -> Array | None:  # noqa: ARG002
        return wide_stream(layer, np.ones(len(layer.start), np.int64), rounding_of_pairs(rounding))
