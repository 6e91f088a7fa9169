"""HARD_SWISH."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sdk import fixed_point, numerics
from sdk.fixed_point import Int64
from sdk.ops import lut, unary_f32
from sdk.ops.base import Bound, Case, View
from sdk.ops.unary import BYTES, Unary, case


class HardSwish(Unary):
    names = ("HARD_SWISH",)
    kernels = (lut.LUT_B8, unary_f32.PLAIN)
    bound = Bound(1e-7, 2.5e-7, "three operations, which the oracle may order otherwise")

    def stored(self, view: View, x: Int64) -> Int64:
        """Follows HardSwishPrepare and HardSwish (kernels/internal/reference/hard_swish.h), in int16."""
        y = view.output()
        f32 = np.float32
        fine = f32(1.0 / 128.0) * f32(view.input(0).scale)
        out_multiplier, out_exponent = _multiplier_s16(float(fine / f32(y.scale)))
        relu_multiplier, relu_exponent = _multiplier_s16(float(fine / f32(3.0 / 32768.0)))
        view.need(out_exponent <= 0, "its output's scale is too small for its input's")
        value = _wrap16(x << 7)
        result = _high_mul16(value, out_multiplier)
        gate = value
        if relu_exponent > 0:
            gate = _clip16(gate << (relu_exponent - 1))
        gate = _high_mul16(gate, relu_multiplier)
        if relu_exponent > 0:
            gate = _clip16(gate << 1)
        elif relu_exponent < 0:
            gate = fixed_point.round_shift(gate, -relu_exponent)
        gate = (gate + (1 << 15)) >> 1
        product = gate * result
        truncated = np.sign(product) * (np.abs(product) >> 15)
        return fixed_point.round_shift(truncated, -out_exponent) + y.zero_point

    def cases(self) -> Iterator[Case]:
        for dtype in BYTES:
            for x_scale, y_scale in ((0.05, 0.04), (0.1, 0.1), (0.001, 0.002), (0.3, 0.25), (0.023, 0.7)):
                yield case("HARD_SWISH", dtype, x_scale, 5, y_scale, -120)
        yield unary_f32.case("HARD_SWISH")


def _multiplier_s16(real: float) -> tuple[int, int]:
    """(int16 multiplier, exponent). Follows DownScaleInt32ToInt16Multiplier (kernels/internal/common.h)."""
    multiplier, exponent = numerics.quantize_multiplier(real)
    return (32767 if multiplier >= (1 << 31) - (1 << 15) else (multiplier + (1 << 15)) >> 16), exponent


def _high_mul16(a: Int64, b: int) -> Int64:
    """a * b / 2^15 to the nearest: gemmlowp's SaturatingRoundingDoublingHighMul for int16."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return fixed_point.wide(np.sign(nudged) * (np.abs(nudged) >> 15))


def _clip16(x: Int64) -> Int64:
    return np.clip(x, -32768, 32767)


def _wrap16(x: Int64) -> Int64:
    return ((x + 32768) & 0xFFFF) - 32768


OPS = [HardSwish()]
