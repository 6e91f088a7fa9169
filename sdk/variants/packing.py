"""What fast kernels of several profiles need to know of quantized weights: how far sums can go, and constants of
requantization in few instructions, equal bit for bit to TensorFlow Lite's double rounding.

With s = -shift >= 1 both roundings are one floor: y = floor((x * m + 2^30 + 2^(30 + s) - 2^31 * [x < 0]) / 2^(31 + s)).
Where the output is clamped to its zero point or above (ReLU), what the term of x < 0 changes is clamped away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdk.graph import Array

SUM_LIMIT = 1 << 30  # sums below it, doubled, fit 32 bits
COMMON_SHIFT, MAX_EXPONENT = 12, 8  # of kernels for Cortex-M4: weights of 8 bits times 2^8 fit 16
MAX_SHIFT = 22  # 128 << 22 and a product's upper half fit 32 bits together


def channel_scales(scales: Array, channels: int) -> Array:
    """int32[channels][2]: the (multiplier, shift) pair of each channel, from a kernel's operand: one pair or all."""
    pairs: Array = np.broadcast_to(np.reshape(scales, (-1, 2)), (channels, 2))
    return pairs


def sum_bounds(weights: Array, start: Array, low: int = -128, high: int = 127) -> tuple[Array, Array]:
    """(lowest, highest) int64 sum of each channel: start[o] + sum_i x[i] * weights[o][i] for x in [low, high].

    Partial sums stay between them too where 0 lies in [low, high], up to the start. Weights int[channels][taps].
    """
    wide = weights.astype(np.int64)
    ends = np.stack([wide * low, wide * high])
    return start + ends.min(axis=0).sum(axis=1), start + ends.max(axis=0).sum(axis=1)


def within(bounds: tuple[Array, Array], limit: int) -> bool:
    """Whether all sums are above -limit and below limit."""
    return bool((bounds[0] > -limit).all() and (bounds[1] < limit).all())


def sign_matters(quantized: Mapping[str, Any]) -> bool:
    """Whether the term of x < 0 changes results of a kernel with these arguments (output_offset, low)."""
    return bool(quantized["output_offset"] > quantized["low"])


@dataclass(frozen=True)
class Rounding:
    """Constants of requantization, int32[channels] each."""

    multipliers: Array
    offsets: Array
    shifts: Array


def rounding(scales: Array, output_offset: int) -> Rounding | None:
    """For y = (h + (x >> 31)) >> shift, h = offset + round(2 * x * multiplier / 2^32) (ties up: SMMLAR),
    |x| < SUM_LIMIT; x >> 31 only where `sign_matters`. y is to be clamped. None where a scale is not for this form.

    `scales`: int32[channels][2], see `channel_scales`.
    """
    multipliers = scales[:, 0]
    shifts = np.where(multipliers == 0, 1, -scales[:, 1])
    if shifts.min() < 1 or shifts.max() > MAX_SHIFT:
        return None
    offsets = (output_offset << shifts) + (1 << (shifts - 1))
    return Rounding(multipliers, offsets.astype(np.int32), shifts.astype(np.int32))


@dataclass(frozen=True)
class CommonShift(Rounding):
    """The same for y = (h - [x < 0] * signs) >> shift, h = offset + floor(x * 2^exponent * multiplier / 2^32) (SMMLA):
    the shift is the same for all channels, and the power of 2 can be part of weights and start."""

    exponents: Array
    signs: Array


def common_shift(
    scales: Array, output_offset: int, bounds: tuple[Array, Array], max_exponent: int, shift: int | None = None
) -> CommonShift | None:
    """Constants with this common shift, or with the smallest that all channels allow; exponents are 2 to
    `max_exponent`. None where scales are too different, or x * 2^exponent exceeds 32 bits. `bounds`: of x, see
    `sum_bounds`."""
    multipliers = scales[:, 0]
    used = -scales[multipliers != 0, 1].astype(np.int64)
    own = np.where(multipliers == 0, used.max(initial=1), -scales[:, 1])
    shift = int(own.max()) + 1 if shift is None else shift
    exponents = 1 + shift - own
    if own.min() < 1 or shift > MAX_SHIFT or exponents.min() < 2 or exponents.max() > max_exponent:
        return None
    if not within((bounds[0] << exponents, bounds[1] << exponents), 1 << 31):
        return None
    offsets = (1 << (shift - 1)) + (1 << (shift - own - 1)) + (output_offset << shift)
    parts = (offsets, np.full_like(own, shift), exponents, 1 << (shift - own))
    return CommonShift(multipliers, *(part.astype(np.int32) for part in parts))


def fit_16_bits(groups: Array) -> bool:
    """Whether the products of a group's weights (the last axis) with any int8 inputs, added up, stay in 16 bits."""
    return bool((128 * np.abs(groups.astype(np.int32)).sum(axis=-1) < 1 << 15).all())
