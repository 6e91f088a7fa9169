"""Convolutions as fast kernels see them, whichever operator they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sdk.graph import Array
from sdk.ops import convolution as conv
from sdk.ops.conv_2d import CONV_2D_S8
from sdk.variants import packing

if TYPE_CHECKING:
    from sdk.lower import Value
    from sdk.variants.base import PortableStep

ROW_FIELDS = ("input_width", "output_width", "input_channels", "output_channels")


@dataclass(frozen=True)
class Layer:
    """A CONV_2D or FULLY_CONNECTED of int8. Single pixels lie in one row; a window's rows have no gaps."""

    window: dict[str, int]
    quantized: Mapping[str, Any]
    weights: Array  # int8[outputs][kernel height][kernel width * inputs]
    start: Array  # int32[outputs]
    scales: Array  # int32[outputs][2]
    input: Value
    output: Value

    @classmethod
    def of(cls, step: PortableStep) -> Layer | None:
        """What `step` computes; None where it has groups, or weights with a zero point."""
        quantized = step.args.get("quantized", step.args)
        if quantized["weights_offset"]:
            return None
        if step.kernel is CONV_2D_S8:
            shape = step.args["shape"]
            if shape["groups"] != 1:
                return None
            window, (output, scales) = dict(shape["window"]), (3, 5)
        else:
            pixels = {"input_width": step.args["rows"], "output_width": step.args["rows"]}
            channels = {"input_channels": step.args["inputs"], "output_channels": step.args["outputs"]}
            window, (scales, output) = one_row(pixels | channels), (3, 4)
        outputs = window["output_channels"]
        weights = step.constant(1).reshape(outputs, window["kernel_height"], window["kernel_width"], -1)
        weights = _without_dilation(window, weights).reshape(outputs, window["kernel_height"], -1)
        pairs = packing.channel_scales(step.constant(scales), outputs)
        return cls(_flat(window), quantized, weights, step.constant(2), pairs, step.values[0], step.values[output])

    @property
    def pixels(self) -> int:
        """Of an image of the output."""
        return self.window["output_height"] * self.window["output_width"]

    @property
    def is_pointwise(self) -> bool:
        """Whether each output depends on the input at its own place alone."""
        return self.window == one_row({name: self.window[name] for name in ROW_FIELDS})

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Of the sums, by output."""
        return packing.sum_bounds(self.weights.reshape(len(self.weights), -1), self.start)

    @cached_property
    def rounding(self) -> packing.Rounding | None:
        """The short form of requantization; None where sums or scales are too large for it."""
        exact = packing.within(self.bounds, packing.SUM_LIMIT)
        return packing.rounding(self.scales, self.quantized["output_offset"]) if exact else None


@dataclass(frozen=True)
class Depthwise3x3:
    """A DEPTHWISE_CONV_2D of int8, one output a channel, not clamped: kernels of 3x3, both strides 1 or both 2, at most
    one row or column of padding before the image, which is a product like all others."""

    window: dict[str, int]
    quantized: Mapping[str, Any]
    weights: Array  # int64[3][3][channels]
    start: Array  # int64[channels]

    @classmethod
    def of(cls, step: PortableStep) -> Depthwise3x3 | None:
        """What `step` computes; None where it is none of these."""
        shape, quantized = step.args["shape"], step.args["quantized"]
        window = shape["window"]
        axes = [[window[f"{name}_{axis}"] for axis in ("height", "width")] for name in ("kernel", "dilation", "stride")]
        small = axes[:2] == [[3, 3], [1, 1]] and axes[2] in ([1, 1], [2, 2])
        plain = shape["depth_multiplier"] == 1 and not quantized["weights_offset"]
        whole = (quantized["low"], quantized["high"]) == (-128, 127)
        if not (small and plain and whole) or max(window["pad_top"], window["pad_left"]) > 1:
            return None
        weights = step.constant(1).reshape(3, 3, -1).astype(np.int64)
        start = step.constant(2) - quantized["input_zero_point"] * weights.sum(axis=(0, 1))
        return cls(window, quantized, weights, start)

    @property
    def in_place(self) -> bool:
        """Whether each output may take its input's place, channel by channel."""
        window = self.window
        same = all(window[f"input_{axis}"] == window[f"output_{axis}"] for axis in ("height", "width"))
        return same and window["pad_top"] == window["pad_left"] == window["stride_width"] == 1


def one_row(sizes: Mapping[str, int]) -> dict[str, int]:
    """The window of a convolution of single pixels, all in one row."""
    ones = {item.name: 0 if item.name.startswith("pad") else 1 for item in conv.WINDOW.fields}
    return ones | dict(sizes)


def _without_dilation(window: dict[str, int], weights: Array) -> Array:
    """[outputs][kernel height][kernel width][inputs] with zeros where a dilated `window`, which is changed, has gaps
    along its rows."""
    dilation = window["dilation_width"]
    window["kernel_width"] = (weights.shape[2] - 1) * dilation + 1
    window["dilation_width"] = 1
    dense = np.zeros((*weights.shape[:2], window["kernel_width"], weights.shape[3]), weights.dtype)
    dense[:, :, ::dilation] = weights
    return dense


def _flat(window: dict[str, int]) -> dict[str, int]:
    """The same convolution of one row, where each output depends on the input at its own place alone."""
    single = all(window[f"{name}_{axis}"] == 1 for name in ("kernel", "stride") for axis in ("height", "width"))
    if not single or window["pad_top"] or window["pad_left"]:
        return window
    pixels = window["batches"] * window["output_height"] * window["output_width"]
    channels = {name: window[name] for name in ("input_channels", "output_channels")}
    return one_row({"input_width": pixels, "output_width": pixels} | channels)
