"""Requantization in few instructions is TensorFlow Lite's double rounding, for every kind of scale and sum."""

from __future__ import annotations

import numpy as np
import pytest

from sdk import fixed_point
from sdk.graph import Array
from sdk.variants import packing

CHANNELS = 40
rng = np.random.default_rng(1)


def scales(lowest: int, highest: int) -> Array:
    """Random (multiplier, shift) pairs, the extremes among them."""
    multipliers = rng.integers(1 << 30, 1 << 31, CHANNELS)
    multipliers[:4] = 1 << 30, (1 << 31) - 1, 3 << 29, 0
    return np.stack([multipliers, -rng.integers(lowest, highest + 1, CHANNELS)], axis=1)


def sums(multiplier: int, shift: int, limit: int) -> Array:
    """Sums of all sizes, those near ties of both roundings among them."""
    random = rng.integers(-limit + 1, limit, 3000) >> rng.integers(0, 30, 3000)
    near = (rng.integers(-600, 600, 3000) << (30 - shift)) // max(multiplier, 1)
    every = np.concatenate([random, near, near + 1, np.arange(-2000, 2000)])
    return every[abs(every) < limit]


def expected(x: Array, pair: Array, zero_point: int, low: int) -> Array:
    return np.clip(fixed_point.requantize(x, int(pair[0]), int(pair[1])) + zero_point, low, 127)


@pytest.mark.parametrize(("zero_point", "low"), [(-128, -128), (4, -128), (127, -128), (4, 4), (-128, -100)])
def test_rounding(zero_point: int, low: int) -> None:
    pairs = scales(1, packing.MAX_SHIFT)
    constants = packing.rounding(pairs, zero_point)
    assert constants is not None
    sign = packing.sign_matters({"output_offset": zero_point, "low": low})
    for channel, pair in enumerate(pairs):
        x = sums(int(pair[0]), int(pair[1]), packing.SUM_LIMIT)
        high = (2 * x * int(constants.multipliers[channel]) + (1 << 31)) >> 32
        h = int(constants.offsets[channel]) + high + (x >> 63 if sign else 0)
        assert abs(h).max() < 1 << 31
        y = np.clip(h >> int(constants.shifts[channel]), low, 127)
        np.testing.assert_array_equal(y, expected(x, pair, zero_point, low))


@pytest.mark.parametrize(("zero_point", "low"), [(-128, -128), (4, -128), (4, 4)])
def test_common_shift(zero_point: int, low: int) -> None:
    pairs = scales(5, 10)
    limit = 1 << 22
    bounds = np.full(CHANNELS, 1 - limit), np.full(CHANNELS, limit - 1)
    constants = packing.common_shift(pairs, zero_point, bounds, 8)
    assert constants is not None
    assert len(set(constants.shifts.tolist())) == 1
    sign = packing.sign_matters({"output_offset": zero_point, "low": low})
    for channel, pair in enumerate(pairs):
        x = sums(int(pair[0]), int(pair[1]), limit)
        high = ((x << int(constants.exponents[channel])) * int(constants.multipliers[channel])) >> 32
        h = int(constants.offsets[channel]) + high - (x < 0) * (int(constants.signs[channel]) if sign else 0)
        y = np.clip(h >> int(constants.shifts[channel]), low, 127)
        np.testing.assert_array_equal(y, expected(x, pair, zero_point, low))


def test_what_the_forms_do_not_take() -> None:
    one = np.array([[1 << 30, 0]])
    assert packing.rounding(one, 0) is None
    assert packing.rounding(one - [[0, packing.MAX_SHIFT + 1]], 0) is None
    apart = np.array([[1 << 30, -2], [1 << 30, -9]])
    small = np.array([-5, -5]), np.array([5, 5])
    assert packing.common_shift(apart, 0, small, 8) is None
    assert packing.common_shift(apart, 0, small, 9) is not None
    assert packing.common_shift(apart, 0, (small[0], small[1] << 28), 9) is None


def test_sum_bounds_are_reached() -> None:
    weights = np.array([[3, -4, 0], [-128, -128, -128]])
    lowest, highest = packing.sum_bounds(weights, np.array([10, -1]))
    assert lowest.tolist() == [10 - 3 * 128 - 4 * 127, -1 - 3 * 128 * 127]
    assert highest.tolist() == [10 + 3 * 127 + 4 * 128, -1 + 3 * 128 * 128]
    assert packing.within((lowest, highest), 3 * 128 * 128)
    assert not packing.within((lowest, highest), 3 * 128 * 128 - 1)
