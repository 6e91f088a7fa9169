"""Xtensa LX6 and LX7 (ESP32, ESP32-S3): MAC16, which multiplies halves of words, adds to an accumulator and loads at
once; loops that cost nothing; no product's upper half on every core of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdk.fixed_point import wrap32
from sdk.graph import Array, DType
from sdk.ops import convolution as conv
from sdk.ops.base import Kernel, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.ops.fully_connected import FULLY_CONNECTED_S8
from sdk.overlap import Overlap, window_ahead_bytes
from sdk.program import Profile, Struct, embed, fields
from sdk.target import Optimize
from sdk.variants import packing
from sdk.variants.arm_dsp_conv import inputs_in_quads, words_of
from sdk.variants.base import PortableStep, Variant
from sdk.variants.layer import Layer
from sdk.variants.thumb import records

if TYPE_CHECKING:
    from sdk.lower import Lowering

PIXELS = 8  # at a time, where their windows have room
BLOCK_BYTES = 2304  # of these windows
INPUT_OFFSET = 128  # inputs are widened as unsigned numbers

CONV_BLOCK_S8 = Kernel(
    "conv_block_s8",
    0x500,
    "xtensa/conv.c",
    Struct(
        "ml_conv_block_args",
        (
            *embed("window", conv.WINDOW),
            *fields("h", "padding"),
            *fields("H", "pixels", "has_sign"),  # whether outputs below the zero point show
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


class Convolution(Variant):
    """Blocks of pixels, whose windows are widened once for all channels; weights widened on the host."""

    profile = Profile.xtensa
    kernels = (CONV_BLOCK_S8,)
    replaces = (CONV_2D_S8, FULLY_CONNECTED_S8)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step) if low.target.optimize is not Optimize.size else None
        if layer is None:
            return False
        taps = layer.weights.reshape(len(layer.start), -1)
        channels = records(taps, layer.start, layer.scales, layer.quantized)
        if channels is None:
            return False
        channels[:, 0] = without_offset(layer.start, taps)
        rows = np.pad(layer.weights, [(0, 0), (0, 0), (0, -layer.weights.shape[2] % 4)])
        words = words_of(inputs_in_quads(rows)).reshape(len(taps), -1)
        words = np.hstack([words, words[:, :1]])  # what the last products load is what the next pixel begins with
        pixels = max(1, min(PIXELS, layer.pixels * layer.window["batches"], BLOCK_BYTES // (4 * (words.shape[1] - 1))))
        args = {
            "window": layer.window,
            "padding": layer.quantized.get("input_zero_point", 0),
            "pixels": pixels,
            "has_sign": packing.sign_matters(layer.quantized),
            "reserved": 0,
        }
        scratch_bytes = 4 * (pixels * (words.shape[1] - 1) + 2)
        if not conv.stays_inside(layer.window):
            scratch_bytes += layer.weights.shape[2]
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


def without_offset(start: Array, weights: Array) -> Array:
    """Start values for inputs to which INPUT_OFFSET has been added; `weights` are [channels][taps]."""
    return wrap32(start.astype(np.int64) - INPUT_OFFSET * weights.sum(axis=1, dtype=np.int64))


VARIANTS: list[Variant] = [Convolution()]
