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


def wrap32(values: Int64) -> Int64:
    """`values` modulo 2^32, from -2^31 to 2^31 - 1."""
    return ((values + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


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
