"""RISC-V with multiplication (rv32im): 32 registers, products of 64 bits, and no pairs or vectors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sdk.fixed_point import wrap32
from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.ops.depthwise_conv_2d import DEPTHWISE_CONV_2D_S8
from sdk.ops.fully_connected import FULLY_CONNECTED_S8
from sdk.overlap import Overlap, window_ahead_bytes
from sdk.program import Profile, Struct, embed, fields
from sdk.variants import packing
from sdk.variants.base import PortableStep, Variant
from sdk.variants.layer import Depthwise3x3, Layer

PIXELS = 4
CHANNELS = 4  # at a time, as long as there are so many
GROUP_TAPS = 2  # whose products are added up in 16 bits
GROUP_BYTES = 16  # of four pixels' inputs, spread out
SUM_LIMIT = 1 << 29  # sums below it, times 4, fit 32 bits

CONV_FOUR_S8 = Kernel(
    "conv_four_s8",
    0x400,
    "riscv/conv.c",
    Struct(
        "ml_conv_four_args",
        (
            *embed("window", conv.WINDOW),
            *fields("h", "low", "high", "padding"),
            *fields("H", "has_sign"),  # whether outputs below the zero point show
        ),
    ),
    (
        read("input", DType.INT8),
        read("weights", DType.INT8),  # see firmware/src/kernels/riscv/conv.c
        read("channels", DType.INT32),  # see `records`
        write("output", DType.INT8),
        write("scratch", DType.INT32),
    ),
    Profile.riscv,
)

DEPTHWISE_COLUMNS_S8 = Kernel(
    "depthwise_columns_s8",
    0x401,
    "riscv/depthwise.c",
    Struct(
        "ml_depthwise_columns_args", (*embed("window", conv.WINDOW), *fields("h", "padding"), *fields("H", "has_sign"))
    ),
    (
        read("input", DType.INT8),
        read("channels", DType.INT32),  # for each: a record, and int8 weights[12]
        write("output", DType.INT8),
        write("copy", DType.INT8),  # of a column
    ),
    Profile.riscv,
)

FULLY_CONNECTED_FOUR_S8 = Kernel(
    "fully_connected_four_s8",
    0x402,
    "riscv/fully_connected.c",
    Struct(
        "ml_fully_connected_four_args",
        (*fields("I", "inputs", "outputs"), *fields("h", "low", "high"), *fields("I", "has_sign")),
    ),
    (
        read("input", DType.INT8),
        read("weights", DType.INT8),  # see firmware/src/kernels/riscv/single.h
        read("channels", DType.INT32),  # see `records`
        write("output", DType.INT8),
    ),
    Profile.riscv,
)


def records(start: Array, rounding: packing.Rounding | None, bounds: tuple[Array, Array]) -> Array | None:
    """int32[channels][4] records `ml_channel` (firmware/src/kernels/riscv/rescale.h), or None where sums are too large
    or scales not for this form.

    y = (floor(4 * x * multiplier / 2^32) + offset - 2 * [x < 0]) >> shift: of `packing.rounding`, doubled.
    """
    if rounding is None or not packing.within(bounds, SUM_LIMIT):
        return None
    columns = [start, rounding.multipliers, 2 * rounding.offsets.astype(np.int64) + 1, rounding.shifts + 1]
    return wrap32(np.stack([column.astype(np.int64) for column in columns], axis=1)).astype(np.int32)


def paired(weights: Array) -> Array:
    """int8[outputs][rows][taps] -> int8[outputs][groups][2], rows filled up with zeros."""
    filled = np.pad(weights, [(0, 0), (0, 0), (0, -weights.shape[2] % GROUP_TAPS)])
    groups: Array = filled.reshape(len(weights), -1, GROUP_TAPS)
    return groups


def interleaved(groups: Array) -> Array:
    """[outputs][groups][2]: the groups of each four channels in turn; then those of each channel that is left over."""
    whole = len(groups) // CHANNELS * CHANNELS
    fours = groups[:whole].reshape(-1, CHANNELS, *groups.shape[1:]).transpose(0, 2, 1, 3)
    stream: Array = np.concatenate([fours.reshape(-1), groups[whole:].reshape(-1)])
    return stream


def scratch_bytes(layer: Layer, groups: int) -> int:
    """Of spread inputs, and of rows where a row of a window may not be a run of memory."""
    return GROUP_BYTES * groups + (0 if conv.stays_inside(layer.window) else PIXELS * layer.weights.shape[2])


class FullyConnected(Variant):
    """One row, four outputs at a time."""

    profile = Profile.riscv
    kernels = (FULLY_CONNECTED_FOUR_S8,)
    replaces = (FULLY_CONNECTED_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step)
        if layer is None or step.args["rows"] != 1:
            return False
        weights = paired(layer.weights)
        channels = records(layer.start, layer.rounding, layer.bounds)
        if channels is None:
            return False
        args = {name: layer.quantized[name] for name in ("low", "high")} | {
            "inputs": step.args["inputs"],
            "outputs": step.args["outputs"],
            "has_sign": packing.sign_matters(layer.quantized),
        }
        values = [layer.input, low.constant(interleaved(weights)), low.constant(channels), layer.output]
        low.step(FULLY_CONNECTED_FOUR_S8, args, values, overlaps=[Overlap(0, 3, step.args["outputs"] - 1)])
        return True


class Convolution(Variant):
    """Four pixels and four channels at a time, two products a multiplication."""

    profile = Profile.riscv
    kernels = (CONV_FOUR_S8,)
    replaces = (CONV_2D_S8, FULLY_CONNECTED_S8)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step)
        if layer is None:
            return False
        channels = records(layer.start, layer.rounding, layer.bounds)
        groups = paired(layer.weights)
        if channels is None or not packing.fit_16_bits(groups):
            return False
        args = {name: layer.quantized[name] for name in ("low", "high")} | {
            "window": layer.window,
            "padding": layer.quantized.get("input_zero_point", 0),
            "has_sign": packing.sign_matters(layer.quantized),
        }
        scratch = low.scratch(scratch_bytes(layer, groups.shape[1]))
        values = [layer.input, low.constant(interleaved(groups)), low.constant(channels), layer.output, scratch]
        sides = (layer.window[f"{side}_channels"] for side in ("input", "output"))
        low.step(CONV_FOUR_S8, args, values, overlaps=[Overlap(0, 3, window_ahead_bytes(layer.window, *sides))])
        return True


class Depthwise(Variant):
    """Kernels of 3x3 with outputs that are not clamped, down the columns of a channel."""

    profile = Profile.riscv
    kernels = (DEPTHWISE_COLUMNS_S8,)
    replaces = (DEPTHWISE_CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Depthwise3x3.of(step)
        if layer is None or not _middles_inside(layer.window):
            return False
        window, quantized, start = layer.window, layer.quantized, layer.start
        weights = layer.weights.reshape(9, -1).T
        scales = packing.channel_scales(step.constant(4), len(start))
        rounding = packing.rounding(scales, quantized["output_offset"])
        channels = records(start, rounding, packing.sum_bounds(weights, start))
        if channels is None:
            return False
        padded = np.pad(weights.astype(np.int8), [(0, 0), (0, -weights.shape[1] % 4)])
        constants = np.hstack([channels, np.ascontiguousarray(padded).view(np.int32)])
        scratch = low.scratch(window["input_height"])
        values = [step.values[0], low.constant(constants), step.values[3], scratch]
        args = {"window": window, "padding": quantized["input_zero_point"]}
        args |= {"has_sign": packing.sign_matters(quantized)}
        low.step(DEPTHWISE_COLUMNS_S8, args, values, in_place=[(0, 2)] if layer.in_place else [])
        return True


def _middles_inside(window: Mapping[str, int]) -> bool:
    """Whether the middles of windows lie inside the image."""
    return all(
        (window[f"output_{axis}"] - 1) * window[f"stride_{axis}"] + 1 - window[side] < window[f"input_{axis}"]
        for axis, side in (("height", "pad_top"), ("width", "pad_left"))
    )


VARIANTS: list[Variant] = [FullyConnected(), Convolution(), Depthwise()]
