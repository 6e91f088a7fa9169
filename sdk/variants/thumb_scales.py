"""How sums become outputs on cores that have no 64-bit multiply: a record for each channel, `channel` in
firmware/src/kernels/thumb/rescale.h.

TensorFlow Lite multiplies a sum by a Q0.31 multiplier and rounds twice. What comes out is a staircase of at most 255
steps, and any other function with the same steps is as exact:

    ((sum * low_part >> 13) + sum * high_part + offset - (sum < 0 ? 2^13 : 0)) >> shift

over the sums that are not clamped anyway. low_part and high_part are 13 bits each of the multiplier, low_part with a
sign, so that no product that is shifted exceeds 32 bits; `offset` is solved for here, over all steps. Where there is
no solution, other kernels serve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sdk import fixed_point
from sdk.graph import Array
from sdk.variants.packing import channel_scales

Int64 = npt.NDArray[np.int64]
PART_BITS = 13
MAX_SHIFT = 24  # an output, shifted left by this, has 32 bits
LIMIT = (1 << 32 - PART_BITS) - 1  # sums whose product with a low part, -2^12 to 2^12 - 1, has 32 bits
NEGATIVE = 1 << PART_BITS  # how much less a negative sum gets: half of it rounds away from zero
TRIED = (0, 1, -1, 2, -2, 3)  # what may be added to the multiplier's last place


@dataclass(frozen=True)
class Outputs:
    """What outputs are made of: the zero point and the range of the activation."""

    zero_point: int
    low: int
    high: int


def channel_records(
    start: Array, scales: Array, least: Array, most: Array, outputs: Outputs, max_shift: int = MAX_SHIFT
) -> Array | None:
    """int32[channels, 5] `channel` records; None where a channel has no solution. `scales` are (multiplier, shift)
    pairs, one or one a channel; sums, which begin with `start`, lie between `least` and `most`."""
    pairs = channel_scales(scales, len(start)).astype(np.int64)
    multiplier, shift = pairs[:, 0], -pairs[:, 1]
    if shift.min() < 0 or multiplier.min() <= 0:
        return None
    sums = least.astype(np.int64), most.astype(np.int64)
    records, solved = _records(start.astype(np.int64), multiplier, shift, sums, outputs, max_shift)
    return fixed_point.wrap32(records).astype(np.int32) if solved.all() else None


def _records(
    start: Int64, multiplier: Int64, shift: Int64, sums: tuple[Int64, Int64], outputs: Outputs, max_shift: int
) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """(records, whether there is one) of each channel."""
    exact = _Staircase(multiplier[:, None], shift[:, None], outputs)
    first = exact.first_sums()  # of the outputs above the least, [channels, steps]
    low = np.maximum(sums[0], np.minimum(first[:, 0] - 1, sums[1]))
    high = np.maximum(low, np.minimum(sums[1], first[:, -1]))
    places = np.minimum(PART_BITS + shift, max_shift)
    # Where sums never leave a step, nothing is multiplied.
    only = exact.outputs_of(low[:, None])[:, 0] << places
    records = np.stack([start, only, 0 * start, places, 0 * start], axis=1)
    solved = low == high
    for extra in TRIED:
        m = (multiplier >> (31 - PART_BITS + shift - places)) + extra
        high_part = (m + NEGATIVE // 2) >> PART_BITS
        low_part = m - (high_part << PART_BITS)
        least_offset, most_offset = _offsets(
            exact, first, low, high, (low_part[:, None], high_part[:, None]), places[:, None]
        )
        fits = (least_offset <= most_offset) & (np.maximum(-low, high) <= LIMIT)
        offset = (least_offset + most_offset) >> 1
        found = np.stack([start, offset, low_part & 0xFFFF | high_part << 16, low << 8 | places, high], axis=1)
        records[fits & ~solved] = found[fits & ~solved]
        solved |= fits
    return records, solved


def _offsets(
    exact: _Staircase, first: Int64, low: Int64, high: Int64, parts: tuple[Int64, Int64], places: Int64
) -> tuple[Int64, Int64]:
    """The least and the greatest offset with which all steps between `low` and `high` lie where they should."""

    def product(sums: Int64) -> Int64:
        return fixed_point.wide((sums * parts[0] >> PART_BITS) + sums * parts[1] - (sums < 0) * NEGATIVE)

    steps = np.concatenate([np.clip(first, low[:, None], high[:, None]), low[:, None], high[:, None]], axis=1)
    before = np.maximum(steps - 1, low[:, None])
    least = (exact.outputs_of(steps) << places) - product(steps)
    most = (exact.outputs_of(before) + 1 << places) - 1 - product(before)
    most = np.minimum(most, (exact.outputs_of(steps) + 1 << places) - 1 - product(steps))
    return least.max(axis=1), most.min(axis=1)


@dataclass(frozen=True)
class _Staircase:
    """The outputs of TensorFlow Lite, clamped: a function of the sum that never falls. A row a channel."""

    multiplier: Int64
    shift: Int64
    outputs: Outputs

    def outputs_of(self, sums: Int64) -> Int64:
        high = fixed_point.high_mul(sums, self.multiplier)
        mask = (np.int64(1) << self.shift) - 1
        rounded = (high >> self.shift) + ((high & mask) > (mask >> 1) + (high < 0))
        return fixed_point.wide(np.clip(rounded + self.outputs.zero_point, self.outputs.low, self.outputs.high))

    def first_sums(self) -> Int64:
        """The least sum of each output above the least: [channels, high - low]; at least one column."""
        o = self.outputs
        values = np.arange(o.low + 1, max(o.high, o.low + 1) + 1, dtype=np.int64)[None, :]
        real = self.multiplier / np.exp2(31.0 + self.shift)
        first = np.floor((values - o.zero_point - 0.5) / real).astype(np.int64) - 2
        for _ in range(5):  # the estimate is at most two below
            first += self.outputs_of(first) < np.minimum(values, o.high)
        return fixed_point.wide(first)
