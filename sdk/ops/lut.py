"""Kernels that map bytes to bytes: any function of one 8-bit value is a table of 256 that the host makes."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdk.graph import Array, DType, Tensor
from sdk.lower import Lowering
from sdk.ops.base import Kernel, read, write
from sdk.program import Struct, fields

LUT_B8 = Kernel(
    "lut_b8",
    50,
    "lut.c",
    Struct("ml_lut_b8_args", fields("I", "count")),
    (read("input", DType.UINT8), read("table", DType.UINT8), write("output", DType.UINT8)),
)
FLIP_B8 = Kernel(
    "flip_b8",
    51,
    "lut.c",
    Struct("ml_flip_b8_args", fields("I", "count", "mask")),
    (read("input", DType.UINT8), write("output", DType.UINT8)),
)


def values_of(dtype: DType) -> Array:
    """All 256 values of an 8-bit type, in the order of their bits read as unsigned: that of a table."""
    return np.arange(256, dtype=np.uint8).view(dtype.numpy)


def by_table(low: Lowering, x: Tensor, y: Tensor, table: Any) -> None:
    """Adds the step y = table[x], `table` being the 256 results in the order of `values_of`."""
    data = np.ascontiguousarray(np.asarray(table).astype(y.dtype.numpy))
    values = [low.value(x), low.constant(data), low.value(y)]
    low.step(LUT_B8, {"count": x.elements}, values, in_place=[(0, 2)])


def flip(low: Lowering, x: Tensor, y: Tensor, mask: int) -> None:
    """Adds the step y = x ^ mask."""
    low.step(FLIP_B8, {"count": x.elements, "mask": mask}, [low.value(x), low.value(y)], in_place=[(0, 1)])
