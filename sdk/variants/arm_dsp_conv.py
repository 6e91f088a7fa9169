"""CONV_2D and FULLY_CONNECTED with int8 activations on Cortex-M4, M7 and M33: blocks of three pixels, two channels."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from sdk.fixed_point import wrap32
from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.ops.fully_connected import FULLY_CONNECTED_S8
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
UPPER_LIMIT = 1 << 23  # of the sums that lie 8 bits higher in an accumulator

ARGS = Struct(
    "ml_conv_three_args",
    (
        *embed("window", conv.WINDOW),
        *fields("h", "low", "high", "padding"),
        *fields("H", "has_sign"),  # whether outputs below the zero point show
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


def is_joined(height: int, row_bytes: int) -> bool:
    """Whether the kernels of blocks put rows of windows together, since that takes less quads of inputs."""
    return height * row_bytes + 3 < height * 4 * -(-row_bytes // 4)


def inputs_in_quads(weights: Array) -> Array:
    """int8[outputs][rows][n] -> int8[outputs][quads][2][2]: rows, joined or not, filled up with zeros to fours, in
    `BYTE_ORDER`."""
    outputs, height, row_bytes = weights.shape
    rows = weights.reshape(outputs, 1, -1) if is_joined(height, row_bytes) else weights
    filled = np.pad(rows, [(0, 0), (0, 0), (0, -rows.shape[2] % 4)])
    return filled.reshape(outputs, -1, 4)[:, :, BYTE_ORDER].reshape(outputs, -1, 2, 2)


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
    """Three pixels and two channels at a time. The weights are a stream: for each pair of channels `body`, then the
    constants of requantization."""

    profile = Profile.arm_dsp
    replaces = (CONV_2D_S8, FULLY_CONNECTED_S8)

    @abstractmethod
    def takes(self, layer: Layer, optimize: Optimize) -> bool:
        """Whether sums are not too large for the kernel, and its weights not for what `optimize` asks."""

    @abstractmethod
    def body(self, weights: Array, start: Array) -> tuple[Array, Array] | None:
        """Start values and weights of each pair of channels, from int64[pairs][2][quads][2][2] and int64[pairs][2]."""

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step)
        if layer is None or layer.rounding is None or (layer.pixels < PIXELS and not shares_kernel(layer, low)):
            return False
        if not self.takes(layer, low.target.optimize):
            return False
        weights = inputs_in_quads(layer.weights)
        body = self.body(pairs_of(weights), pairs_of(layer.start))
        if body is None:
            return False
        stream = stream_of(*body, rounding_of_pairs(layer.rounding))
        args = {name: layer.quantized[name] for name in ("low", "high")} | {
            "window": layer.window,
            "padding": layer.quantized.get("input_zero_point", 0),
            "has_sign": packing.sign_matters(layer.quantized),
        }
        scratch = low.scratch(scratch_bytes(layer, weights.shape[1]))
        pixel_bytes = layer.window["input_channels"], layer.window["output_channels"]
        overlap = Overlap(0, 2, window_ahead_bytes(layer.window, *pixel_bytes))
        values = [layer.input, low.constant(stream), layer.output, scratch]
        low.step(self.kernels[0], args, values, overlaps=[overlap])
        return True


def scratch_bytes(layer: Layer, quads: int) -> int:
    """Of the patch, and of windows whose rows are put together, or of rows that cannot be read in place."""
    height, row_bytes = layer.weights.shape[1:]
    patch_bytes = PIXELS * 8 * quads
    if is_joined(height, row_bytes):
        return patch_bytes + PIXELS * (4 * quads + 4)
    whole = layer.is_pointwise or (row_bytes % 4 == 0 and conv.stays_inside(layer.window))
    return patch_bytes + (0 if whole else (PIXELS + 1) * 4 * -(-row_bytes // 4))


class ConvPair(_Conv):
    """Weights at their own size: 16 bits hold 256 * w1 + w0, of two channels."""

    kernels = (CONV_PAIR_S8,)

    def takes(self, layer: Layer, optimize: Optimize) -> bool:
        tiny = optimize is Optimize.balanced and layer.weights.size <= TINY_BYTES
        return optimize is not Optimize.speed and not tiny and upper_fits(layer)

    def body(self, weights: Array, start: Array) -> tuple[Array, Array] | None:
        words = pair_words(weights)
        return None if words is None else (np.stack([256 * start[:, 1] + start[:, 0], start[:, 0]], axis=1), words)


class ConvWide(_Conv):
    """Weights of 16 bits, doubled as requantization wants sums."""

    kernels = (CONV_WIDE_S8,)

    def takes(self, layer: Layer, optimize: Optimize) -> bool:  # noqa: ARG002
        return True

    def body(self, weights: Array, start: Array) -> tuple[Array, Array] | None:
        return 2 * start[:, ::-1], words_of(2 * weights).transpose(0, 2, 3, 1)  # [pairs][quads][2][channel]
