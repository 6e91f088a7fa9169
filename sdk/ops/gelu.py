"""GELU of 8-bit types."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from sdk.fixed_point import Int64
from sdk.ops import lut
from sdk.ops.base import Case, View
from sdk.ops.unary import BYTES, Unary, case, in_f32


class Gelu(Unary):
    names = ("GELU",)
    kernels = (lut.LUT_B8,)
    types = ("int8", "uint8")
    dtypes = BYTES

    def stored(self, view: View, x: Int64) -> Int64:
        return in_f32(view.input(0), view.output(), x, _by_tanh if view.option("approximate") else _by_erfc)

    def cases(self) -> Iterator[Case]:
        for dtype in BYTES:
            for x_scale, y_scale in ((0.05, 0.04), (0.01, 0.02), (0.2, 0.1), (0.023, 0.7)):
                for approximate in (False, True):
                    yield case("GELU", dtype, x_scale, 5, y_scale, -100, {"approximate": approximate})


def _by_erfc(values: Any) -> Any:
    """In float32, as reference_ops::GeluTransform (tensorflow/lite/kernels/internal/reference/gelu.h)."""
    f32 = np.float32
    real = values.astype(f32)
    rest = np.array([math.erfc(value) for value in real * f32(-math.sqrt(0.5))], f32)
    return f32(0.5) * real * rest


def _by_tanh(values: Any) -> Any:
    """In float32, as reference_ops::GeluTransformApproximate."""
    f32 = np.float32
    real = values.astype(f32)
    inner = f32(math.sqrt(2 / math.pi)) * (real + f32(0.044715) * real * real * real)
    return f32(0.5) * real * (f32(1) + np.tanh(inner.astype(np.float64)).astype(f32))


OPS = [Gelu()]
