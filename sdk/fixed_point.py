"""The device's fixed-point arithmetic on the host, on int64 arrays that hold int32 values: for tables made in advance.

The twin of firmware/src/kernel.h, and of the parts of gemmlowp (fixedpoint/fixedpoint.h, github.com/google/gemmlowp)
whose results become constants. `Qm.n` is a number with m integer bits, the sign not counted, and n = 31 - m bits of
fraction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1

# exp(-1/4), exp(-1/2), exp(-1), ... exp(-16) in Q0.31: one for each bit of the exponent's part above 1/4.
_EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def wide(values: Any) -> Int64:
    """`values` as int64."""
    return np.asarray(values, np.int64)


def wrap32(values: Any) -> Int64:
    """`values` modulo 2^32, from -2^31 to 2^31 - 1, as a device's accumulator holds them."""
    return ((wide(values) + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def high_mul(x: Any, multiplier: Any) -> Int64:
    """x * multiplier / 2^31 to the nearest, ties up: ml_high_mul(), gemmlowp's SaturatingRoundingDoublingHighMul."""
    return (wide(x) * wide(multiplier) + (1 << 30)) >> 31


def round_shift(x: Any, exponent: int) -> Int64:
    """x / 2^exponent to the nearest, ties away from zero: ml_round_shift(), gemmlowp's RoundingDivideByPOT."""
    x = wide(x)
    mask = (1 << exponent) - 1
    return wide((x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0)))


def requantize(x: Any, multiplier: int, shift: int) -> Int64:
    """x * multiplier * 2^(shift - 31), rounded twice: ml_requantize(), MultiplyByQuantizedMultiplier."""
    scaled = wrap32(wide(x) << max(shift, 0))
    return round_shift(high_mul(scaled, multiplier), max(-shift, 0))


def exp_of_negative(x: Any, integer_bits: int) -> Int64:
    """exp(x) in Q0.31 for x <= 0 in Q`integer_bits`, at most 5: gemmlowp's exp_on_negative_values."""
    x = wide(x)
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    rest = (x & (quarter - 1)) - quarter  # -1/4 to 0
    result = _exp_of_quarter(rest << integer_bits)
    powers = rest - x
    for bit in range(integer_bits + 2):
        chosen = (powers >> (fraction_bits - 2 + bit)) & 1 == 1
        result = np.where(chosen, high_mul(result, _EXP_OF_POWERS[bit]), result)
    return np.where(x == 0, INT32_MAX, result)


def _exp_of_quarter(x: Int64) -> Int64:
    """exp(x) for -1/4 <= x < 0, both Q0.31: a Taylor series of degree 4 around -1/8."""
    exp_of_eighth, third = 1895147668, 715827883
    x = x + (1 << 28)
    x2 = high_mul(x, x)
    x3 = high_mul(x2, x)
    x4 = high_mul(x2, x2)
    tail = round_shift(high_mul(round_shift(x4, 2) + x3, third) + x2, 1)
    return exp_of_eighth + high_mul(exp_of_eighth, x + tail)


def saturating_shift(x: Any, exponent: int) -> Int64:
    """x * 2^exponent, clamped to int32."""
    return np.clip(wide(x) << exponent, INT32_MIN, INT32_MAX)


def reciprocal_of_one_plus(x: Any) -> Int64:
    """1 / (1 + x) in Q0.31 for 0 <= x < 1 in Q0.31: gemmlowp's one_over_one_plus_x_for_x_in_0_1."""
    half, y = _first_reciprocal(x)
    for _ in range(3):
        y = y + saturating_shift(high_mul(y, (1 << 29) - high_mul(half, y)), 2)
    return saturating_shift(y, 1)


def ratio_of_one_minus_to_one_plus(x: Any) -> Int64:
    """(1 - x) / (1 + x) in Q0.31 for 0 < x < 1 in Q0.31: gemmlowp's one_minus_x_over_one_plus_x_for_x_in_0_1."""
    half, y = _first_reciprocal(x)
    for _ in range(3):
        y = y + saturating_shift(high_mul(y, (1 << 29) - high_mul(half, y)), 2)
    return saturating_shift(y - (1 << 29), 2)


def _first_reciprocal(x: Any) -> tuple[Int64, Int64]:
    """(1 + x) / 2 in Q0.31, and a first guess of its reciprocal in Q2.29."""
    half = (wide(x) + INT32_MAX + 1) >> 1
    return half, 1515870810 + high_mul(half, -1010580540)


def logistic(x: Any, integer_bits: int) -> Int64:
    """1 / (1 + exp(-x)) in Q0.31 for x in Q`integer_bits`: gemmlowp's logistic."""
    x = wide(x)
    above = reciprocal_of_one_plus(exp_of_negative(-np.abs(x), integer_bits))
    return np.where(x == 0, 1 << 30, np.where(x > 0, above, INT32_MAX - above))


def tanh(x: Any, integer_bits: int) -> Int64:
    """tanh(x) in Q0.31 for x in Q`integer_bits`: gemmlowp's tanh."""
    x = wide(x)
    # Doubling x takes one integer bit more.
    magnitude = ratio_of_one_minus_to_one_plus(exp_of_negative(-np.abs(x), integer_bits + 1))
    return np.where(x == 0, 0, np.where(x < 0, -magnitude, magnitude))


def inverse_root(x: int) -> tuple[int, int]:
    """(multiplier, shift) with 1 / sqrt(x) = multiplier * 2^(shift - 31): GetInvSqrtQuantizedMultiplierExp.

    The twin of inverse_root() in firmware/src/kernels/l2_normalization.c.
    """
    if x <= 1:
        return INT32_MAX, 0
    right = 11
    while x >= 1 << 29:
        x //= 4
        right += 1
    pairs = (31 - x.bit_length()) // 2 - 1
    right -= pairs
    x <<= 2 * pairs
    half = round_shift(x >> 1, 1)
    y = wide(1 << 28)
    for _ in range(5):
        cube = saturating_shift(high_mul(high_mul(y, y), y), 6)
        y = saturating_shift(high_mul((1 << 28) + (1 << 27), y) - high_mul(half, cube), 3)
    multiplier = int(high_mul(y, 1518500250))
    return (multiplier << -right, 0) if right < 0 else (multiplier, -right)
