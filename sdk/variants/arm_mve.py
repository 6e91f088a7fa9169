"""Kernels for Helium, the vector extension of Cortex-M55 and M85."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sdk import numerics
from sdk.graph import Array, DType
from sdk.lower import ABSENT, Lowering
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, Slot, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.ops.depthwise_conv_2d import DEPTHWISE_CONV_2D_S8
from sdk.ops.fully_connected import FULLY_CONNECTED_S8
from sdk.overlap import Overlap, window_ahead_bytes
from sdk.program import Profile, Struct, embed
from sdk.variants.base import PortableStep, Variant
from sdk.variants.layer import Layer
from sdk.variants.packing import channel_scales

LANES = 16  # products of one instruction
GROUP = 4  # output channels that are computed together

CONV_MVE = Kernel(
    "conv_2d_s8_mve",
    0x200,
    "arm_mve/conv.c",
    Struct("ml_conv_2d_s8_mve_args", (*embed("window", conv.WINDOW), *embed("quantized", conv.QUANTIZED))),
    (
        read("input", DType.INT8),
        read("stream", DType.INT32),
        write("output", DType.INT8),
        Slot("patch", DType.INT8, written=True, optional=True),
    ),
    Profile.arm_mve,
)

ARGS = Struct("ml_depthwise_conv_2d_s8_mve_args", CONV_MVE.args.fields)
DEPTHWISE_MVE = Kernel(
    "depthwise_conv_2d_s8_mve",
    0x201,
    "arm_mve/depthwise.c",
    ARGS,
    (
        read("input", DType.INT8),
        read("constants", DType.INT32),
        write("output", DType.INT8),
        write("rows", DType.INT8),
    ),
    Profile.arm_mve,
)


def stream_of(weights: Array, start: Array, scales: Array) -> Array:
    """The stream of conv.c; `weights` are [outputs][taps]."""
    outputs, taps = weights.shape
    groups, whole = -(-outputs // GROUP), taps // LANES * LANES
    missing = groups * GROUP - outputs
    rows = np.pad(weights, ((0, missing), (0, 0))).reshape(groups, GROUP, taps)
    chunks = rows[:, :, :whole].reshape(groups, GROUP, -1, LANES).transpose(0, 2, 1, 3)
    words = np.pad(np.column_stack([start, scales]).astype("<i4"), ((0, missing), (0, 0)))
    starts, multipliers, shifts = (np.ascontiguousarray(column).reshape(groups, GROUP) for column in words.T)
    parts = (starts, chunks, rows[:, :, whole:], multipliers, shifts)
    raw = [np.ascontiguousarray(part).reshape(groups, -1).view(np.uint8) for part in parts]
    return np.concatenate(raw, axis=1).reshape(-1).view("<i4")


class ConvMve(Variant):
    """CONV_2D without groups, and FULLY_CONNECTED."""

    profile = Profile.arm_mve
    kernels = (CONV_MVE,)
    replaces = (CONV_2D_S8, FULLY_CONNECTED_S8)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step)
        if layer is None or layer.window["dilation_height"] != 1:
            return False
        if layer.scales[:, 1].max() >= 0:  # all shifts are to the right
            return False
        window, weights = layer.window, layer.weights.reshape(len(layer.weights), -1)
        inputs, outputs = window["input_channels"], window["output_channels"]
        patch = ABSENT if conv.is_one_run(window) else low.scratch(weights.shape[1])
        # The last channels of a pixel come with some of the next; what is read in place is read until then.
        early = -outputs % GROUP + (outputs if patch is ABSENT else 0)
        quantized = {item.name: layer.quantized.get(item.name, 0) for item in conv.QUANTIZED.fields}
        values = [layer.input, low.constant(stream_of(weights, layer.start, layer.scales)), layer.output, patch]
        overlap = Overlap(0, 2, window_ahead_bytes(window, inputs, outputs) + early)
        low.step(CONV_MVE, {"window": window, "quantized": quantized}, values, overlaps=[overlap])
        return True


class DepthwiseMve(Variant):
    """DEPTHWISE_CONV_2D where two windows side by side have at most 16 inputs a channel."""

    profile = Profile.arm_mve
    kernels = (DEPTHWISE_MVE,)
    replaces = (DEPTHWISE_CONV_2D_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        shape, quantized = step.args["shape"], step.args["quantized"]
        window, channels = shape["window"], shape["window"]["output_channels"]
        kernel = window["kernel_height"], window["kernel_width"]
        scales = channel_scales(step.constant(4), channels)
        step_columns = window["stride_width"] if window["output_width"] > 1 else 0
        step_rows = window["stride_height"] if window["output_height"] > 1 else 0
        row_bytes = ((window["output_width"] - 1) * window["stride_width"] + kernel[1]) * channels
        lane_columns = kernel[1] + step_columns
        reach = (kernel[0] - 1) * row_bytes + (lane_columns - 1) * channels
        dilated = (window["dilation_height"], window["dilation_width"]) != (1, 1)
        if kernel[0] * lane_columns > LANES or reach > 0xFFFF or dilated or shape["depth_multiplier"] != 1:
            return False
        if scales[:, 1].max() >= 0:
            return False
        weights = step.constant(1).reshape(*kernel, channels)
        start = numerics.folded_bias(step.constant(2), weights, quantized["input_zero_point"], 0, (0, 1))
        lanes = np.pad(weights, ((0, 0), (0, step_columns), (0, 0))).reshape(-1, channels).T
        lanes = np.pad(lanes, ((1, 0), (0, LANES - lanes.shape[1])))
        lanes[0] = 0
        words = np.column_stack([start, scales]).astype("<i4").reshape(-1)
        constants = np.concatenate([np.ascontiguousarray(lanes).reshape(-1).view("<i4"), words])
        rows = low.scratch((kernel[0] + step_rows) * row_bytes)
        overlap = Overlap(0, 2, _tiles_ahead_bytes(window))
        values = [step.values[0], low.constant(constants), step.values[3], rows]
        low.step(DEPTHWISE_MVE, {"window": window, "quantized": quantized}, values, overlaps=[overlap])
        return True


def _tiles_ahead_bytes(window: Mapping[str, int]) -> int:
    """The `Overlap.ahead_bytes` of a kernel that makes two rows of outputs at a time, after copying the rows of the
    input below those that it has copied before."""
    outputs, inputs = (window[f"{side}_width"] * window[f"{side}_channels"] for side in ("output", "input"))
    kept = max(window["kernel_height"] - window["stride_height"], 0)
    worst = 0
    for y in range(2, window["output_height"], 2):
        first = max(y * window["stride_height"] - window["pad_top"] + kept, 0)
        if first < window["input_height"]:
            worst = max(worst, y * outputs - first * inputs)
    growth = window["output_height"] * outputs - window["input_height"] * inputs
    return worst + max(0, (window["batches"] - 1) * growth)


VARIANTS = [ConvMve(), DepthwiseMve()]
