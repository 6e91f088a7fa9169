"""How sums become outputs on cores that have no 64-bit multiply: a record for each channel, `ml_channel` in
firmware/src/kernels/thumb/rescale.h.

TensorFlow Lite multiplies a sum by a Q0.31 multiplier and rounds twice. What comes out is a staircase of at most 255
steps, and any other function with the same steps is as exact:

    ((sum * low_part >> 13) + sum * high_part + offset - (sum < 0 ? 2^13 : 0)) >> shift

over the sums that are not clamped anyway. low_part and high_part are 13 bits each of the multiplier, low_part with a
sign, so that no product that is shifted exceeds 32 bits; `offset` is solved for here, over all steps. Where no output
of a layer comes of a negative sum (ReLU), their term is left out, and sums may begin elsewhere, so that those between
the first step and the last lie around 0. Where there is no solution, other kernels serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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
INT32 = np.iinfo(np.int32)
TRIED = sorted(range(-64, 65), key=abs)  # what may be added to the multiplier's last place


@dataclass(frozen=True)
class Outputs:
    """What outputs are made of: the zero point and the range of the activation."""

    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class Records:
    """int32[channels, 5] `ml_channel`s, and whether negative sums have their term."""

    data: Array
    has_sign: bool


def channel_records(
    start: Array,
    scales: Array,
    bounds: tuple[Array, Array],
    outputs: Outputs,
    *,
    plain: bool = False,
    max_shift: int = MAX_SHIFT,
) -> Records | None:
    """The records of a layer; None where a channel has no solution. `scales` are (multiplier, shift) pairs, one or one
    a channel; sums, which begin with `start`, lie between `bounds`. `plain`: with the term of negative sums, and with
    that very start."""
    pairs = channel_scales(scales, len(start)).astype(np.int64)
    if pairs[:, 1].max() > 0 or pairs[:, 0].min() <= 0:
        return None
    sums = bounds[0].astype(np.int64), bounds[1].astype(np.int64)
    return _solved(*(array.tobytes() for array in (start.astype(np.int64), pairs, *sums)), outputs, plain, max_shift)


@lru_cache(maxsize=512)  # a model is lowered many times while the best way is looked for
def _solved(
    start_bytes: bytes, scale_bytes: bytes, low: bytes, high: bytes, outputs: Outputs, plain: bool, max_shift: int
) -> Records | None:
    start, pairs, *sums = (np.frombuffer(data, np.int64) for data in (start_bytes, scale_bytes, low, high))
    shows = outputs.zero_point > outputs.low
    for has_sign in (True,) if plain else (shows, not shows):
        solver = _Solver(start, pairs.reshape(-1, 2), (sums[0], sums[1]), outputs, has_sign, max_shift)
        records, solved = solver.solve()
        if solved.all():
            data = fixed_point.wrap32(records).astype(np.int32)
            data.setflags(write=False)  # it is handed out again
            return Records(data, has_sign)
    return None


class _Solver:
    """Solves for the records of channels."""

    def __init__(
        self, start: Int64, scales: Int64, sums: tuple[Int64, Int64], outputs: Outputs, has_sign: bool, max_shift: int
    ) -> None:
        multiplier, shift = scales[:, 0], -scales[:, 1]
        self.exact = _Staircase(multiplier[:, None], shift[:, None], outputs)
        self.first = self.exact.first_sums()  # of the outputs above the least, [channels, steps]
        self.low = np.maximum(sums[0], np.minimum(self.first[:, 0] - 1, sums[1]))
        self.high = np.maximum(self.low, np.minimum(sums[1], self.first[:, -1]))
        self.places = np.minimum(PART_BITS + shift, max_shift)
        self.multiplier = multiplier >> (31 - PART_BITS + shift - self.places)
        self.sums, self.has_sign = sums, has_sign
        # What sums are less by than they are.
        self.base = 0 * start if has_sign else (self.low + self.high) >> 1
        self.start = start - self.base

    def solve(self) -> tuple[Int64, npt.NDArray[np.bool_]]:
        """(records, whether there is one) of each channel."""
        # Where sums never leave a step, nothing is multiplied.
        only = self.exact.outputs_of(self.low[:, None])[:, 0] << self.places
        records = np.stack([self.start, only, 0 * only, self.places, 0 * only], axis=1)
        solved = self.low == self.high
        low, high = self.low - self.base, self.high - self.base
        # Sums may wrap where they are as large as that, but not because they begin elsewhere.
        whole = (self.sums[0] - self.base >= INT32.min) & (self.sums[1] - self.base <= INT32.max)
        small = (np.maximum(-low, high) <= LIMIT) & whole
        for extra in TRIED:
            if (solved | ~small).all():
                break
            m = self.multiplier + extra
            high_part = (m + NEGATIVE // 2) >> PART_BITS
            low_part = m - (high_part << PART_BITS)
            least, most = self._offsets(low_part[:, None], high_part[:, None])
            fits = (least <= most) & small & ~solved
            parts = low_part & 0xFFFF | high_part << 16
            found = np.stack([self.start, (least + most) >> 1, parts, low << 8 | self.places, high], axis=1)
            records[fits] = found[fits]
            solved |= fits
        return records, solved

    def _offsets(self, low_part: Int64, high_part: Int64) -> tuple[Int64, Int64]:
        """The least and the greatest offset with which all steps lie where they should."""
        low, high, places = self.low[:, None], self.high[:, None], self.places[:, None]

        def product(sums: Int64) -> Int64:
            kept = sums - self.base[:, None]
            sign = (kept < 0) * NEGATIVE if self.has_sign else 0
            return fixed_point.wide((kept * low_part >> PART_BITS) + kept * high_part - sign)

        steps = np.concatenate([np.clip(self.first, low, high), low, high], axis=1)
        before = np.maximum(steps - 1, low)
        least = (self.exact.outputs_of(steps) << places) - product(steps)
        most = (self.exact.outputs_of(before) + 1 << places) - 1 - product(before)
        most = np.minimum(most, (self.exact.outputs_of(steps) + 1 << places) - 1 - product(steps))
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
