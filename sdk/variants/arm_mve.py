"""Kernels for Helium, the vector extension of Cortex-M55 and M85."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import ABSENT, Lowering, Value
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, Slot, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.ops.depthwise_conv_2d import DEPTHWISE_CONV_2D_S8
from sdk.ops.fully_connected import FULLY_CONNECTED_S8
from sdk.program import Profile, Struct, embed
from sdk.variants.base import PortableStep, Variant

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


def scales_of(pairs: Array, channels: int) -> Array | None:
    """(multiplier, shift) of each channel, shape (channels, 2), where all shifts are to the right; else None."""
    scales = np.broadcast_to(pairs.reshape(-1, 2), (channels, 2))
    return scales if (scales[:, 1] < 0).all() else None


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
    """CONV_2D without groups, FULLY_CONNECTED, and DEPTHWISE_CONV_2D of a single input channel, which is a CONV_2D."""

    profile = Profile.arm_mve
    kernels = (CONV_MVE,)
    replaces = (CONV_2D_S8, FULLY_CONNECTED_S8, DEPTHWISE_CONV_2D_S8)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        if step.kernel is FULLY_CONNECTED_S8:
            return self._fully_connected(step, low)
        window, quantized = step.args["shape"]["window"], step.args["quantized"]
        taps = window["kernel_height"] * window["kernel_width"]
        if step.kernel is CONV_2D_S8:
            x, _, start, y, patch, scales = step.values
            weights = step.constant(1).reshape(window["output_channels"], -1)
            if step.args["shape"]["groups"] != 1:
                return False
        else:
            x, _, start, y, scales = step.values
            weights = step.constant(1).reshape(taps, -1).T
            if window["input_channels"] != 1:
                return False
            patch = None

    def _fully_connected(self, step: PortableStep, low: Lowering) -> bool:
        return False


VARIANTS = [ConvMve()]
