"""FULLY_CONNECTED, and CONV_2D of a pixel or two, with int8 activations on Cortex-M4, M7 and M33."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops.base import Kernel, read, write
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.ops.fully_connected import FULLY_CONNECTED_S8
from sdk.overlap import Overlap
from sdk.program import Profile, Struct, fields
from sdk.target import Optimize
from sdk.variants.arm_dsp_conv import (
    PIXELS,
    inputs_in_quads,
    pair_words,
    pairs_of,
    rounding_of_pairs,
    shares_kernel,
    stream_of,
    upper_fits,
    words_of,
)
from sdk.variants.base import PortableStep, Variant
from sdk.variants.layer import Layer

WIDE_OUTPUTS = 5  # at a time
MOST_WIDENED_INPUTS, LEAST_OUTPUTS = 128, 32  # for which scratch pays: inputs are widened once for all outputs
ARGS = Struct("ml_fully_connected_group_args", (*fields("I", "rows", "inputs", "outputs"), *fields("h", "low", "high")))
SLOTS = (
    read("input", DType.INT8),
    read("weights", DType.INT32),  # see firmware/src/kernels/arm_dsp/fully_connected.c
    write("output", DType.INT8),
)
WIDENED_SLOTS = (*SLOTS, write("widened", DType.INT32))  # a row of inputs, as words


def _kernels(name: str, number: int) -> tuple[Kernel, Kernel]:
    """The kernel that widens inputs on the way, and the one that does it once for all outputs."""
    source, profile = "arm_dsp/fully_connected.c", Profile.arm_dsp
    return (
        Kernel(f"fully_connected_{name}_s8", number, source, ARGS, SLOTS, profile),
        Kernel(f"fully_connected_{name}_widened_s8", number + 4, source, ARGS, WIDENED_SLOTS, profile),
    )


class _FullyConnected(Variant):
    """Rows too few for a block of pixels, whose inputs are read in fours."""

    profile = Profile.arm_dsp
    replaces = (CONV_2D_S8, FULLY_CONNECTED_S8)

    @abstractmethod
    def stream(self, layer: Layer, optimize: Optimize) -> Array | None:
        """The weights, start values and scales of groups of outputs; None where they are not for this kernel."""

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        layer = Layer.of(step)
        if layer is None or layer.rounding is None or not _takes(layer) or shares_kernel(layer, low):
            return False
        stream = self.stream(layer, low.target.optimize)
        if stream is None:
            return False
        rows, inputs, outputs = (layer.window[name] for name in ("output_width", "input_channels", "output_channels"))
        args = {name: layer.quantized[name] for name in ("low", "high")}
        args |= {"rows": rows, "inputs": inputs, "outputs": outputs}
        widened = inputs <= MOST_WIDENED_INPUTS and outputs >= LEAST_OUTPUTS
        scratch = [low.scratch(2 * inputs)] if widened else []
        # A widened row is read before any of its outputs is written.
        ahead = [row * (outputs - inputs) + (0 if widened else outputs) for row in range(int(widened), rows)]
        overlap = Overlap(0, 2, max(ahead, default=-inputs))
        values = [layer.input, low.constant(stream), layer.output, *scratch]
        low.step(self.kernels[widened], args, values, overlaps=[overlap])
        return True


def _takes(layer: Layer) -> bool:
    return layer.is_pointwise and layer.pixels < PIXELS and layer.window["input_channels"] % 4 == 0


class FullyConnectedWide(_FullyConnected):
    """Five outputs at a time, weights of 16 bits, one scale for all."""

    kernels = _kernels("wide", 0x104)

    def stream(self, layer: Layer, optimize: Optimize) -> Array | None:
        assert layer.rounding is not None
        outputs = len(layer.weights)
        scale = np.stack([layer.rounding.multipliers, layer.rounding.offsets, layer.rounding.shifts], axis=1)
        if optimize is not Optimize.speed or outputs < WIDE_OUTPUTS or (scale != scale[0]).any():
            return None
        groups = -(-outputs // WIDE_OUTPUTS)
        filling = groups * WIDE_OUTPUTS - outputs
        start = np.pad(2 * layer.start.astype(np.int64), (0, filling)).reshape(groups, WIDE_OUTPUTS)
        words = words_of(2 * inputs_in_quads(layer.weights).astype(np.int64))
        words = np.pad(words, ((0, filling), (0, 0), (0, 0)))  # [outputs][quads][2]
        words = words.reshape(groups, WIDE_OUTPUTS, -1).transpose(0, 2, 1)  # [groups][quad, word][output]
        return stream_of(start, words, np.broadcast_to(scale[0], (groups, 3)))


class FullyConnectedPair(_FullyConnected):
    """Four outputs at a time, weights at their own size."""

    kernels = _kernels("pair", 0x102)

    def stream(self, layer: Layer, optimize: Optimize) -> Array | None:  # noqa: ARG002
        words = pair_words(pairs_of(inputs_in_quads(layer.weights))) if upper_fits(layer) else None
        if words is None or layer.rounding is None:
            return None
        start, rounding = pairs_of(layer.start), rounding_of_pairs(layer.rounding)
        starts = np.stack([256 * start[:, 1] + start[:, 0], start[:, 0]], axis=1)
        # Two pairs are a group: [groups][start][pair], [groups][quads][2][pair], [groups][pair][6].
        starts, words, rounding = (pairs_of(part) for part in (starts, words, rounding))
        return stream_of(starts.transpose(0, 2, 1), words.transpose(0, 2, 3, 1), rounding)
