"""ADD and SUB of int8 as (table[a] + b * factor) >> shift, clamped, on cores without a rounding product's upper half.

TensorFlow Lite rounds five times; the host tries all 65,536 pairs of inputs and uses the short form only where it is
equal for every one. Each a has a start of its own, so that there is room for what the roundings do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sdk import fixed_point
from sdk.fixed_point import Int64
from sdk.graph import Array, DType
from sdk.ops.arithmetic import ADD_S8, OPERATIONS
from sdk.ops.base import Kernel, read, write
from sdk.program import Profile, Struct, fields
from sdk.target import Optimize
from sdk.variants.base import PortableStep, Variant

if TYPE_CHECKING:
    from sdk.lower import Lowering

STORED = np.arange(-128, 128, dtype=np.int64)
TRIED = sorted(range(-8, 9), key=abs)  # what may be added to the factor's last place
MAX_SHIFT = 23  # an output, shifted left by this, has 32 bits
INT32 = np.iinfo(np.int32)
WORTH_ELEMENTS = 32  # below, an addition's table is more than it saves

ADD_TABLE = Kernel(
    "add_s8_table",
    0x304,
    "add_table.c",
    Struct("ml_add_s8_table_args", (*fields("I", "count", "shift"), *fields("i", "factor", "low", "high"))),
    (
        read("a", DType.INT8),
        read("b", DType.INT8),
        read("table", DType.INT32),  # what sums start with, by a as a byte
        write("output", DType.INT8),
    ),
)


class _Add(Variant):
    """A table, a product and a shift, for inputs and output of one shape."""

    kernels = (ADD_TABLE,)
    replaces = (ADD_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        a, b, output = step.values
        alike = a.bytes == b.bytes == output.bytes
        worth = alike and output.bytes >= WORTH_ELEMENTS and low.target.optimize is not Optimize.size
        if not worth or OPERATIONS[step.args["operation"]] not in ("ADD", "SUB"):
            return False
        found = solve(step.args)
        if found is None:
            return False
        inputs = (b, a) if found.swapped else (a, b)
        clamp = {name: step.args[name] for name in ("low", "high")}
        args = {"count": output.bytes, "shift": found.shift, "factor": found.factor} | clamp
        low.step(ADD_TABLE, args, [*inputs, low.constant(found.table), output], in_place=[(0, 3), (1, 3)])
        return True


class ThumbAdd(_Add):
    """On Cortex-M0 and M0+."""

    profile = Profile.thumb


class RiscvAdd(_Add):
    """On RISC-V."""

    profile = Profile.riscv


class XtensaAdd(_Add):
    """On Xtensa."""

    profile = Profile.xtensa


@dataclass(frozen=True)
class Solution:
    """The short form; `swapped`: the table is for the second input."""

    table: Array  # int32[256], by the stored byte
    factor: int
    shift: int
    swapped: bool


def solve(args: Mapping[str, Any]) -> Solution | None:
    """The short form for the arguments of ADD_S8; None where none is exact."""
    exact = _outputs(args)
    factors = [_real_factor(args, name) for name in ("_a", "_b")]
    if args["operation"] == 1:  # SUB
        factors[1] = -factors[1]
    shift = min(MAX_SHIFT, 30 - math.ceil(math.log2(sum(map(abs, factors)) * 256)))
    for swapped, factor in ((False, factors[1]), (True, factors[0])):
        for extra in TRIED if shift >= 0 else ():
            whole = round(factor * 2**shift) + extra
            table = _table(exact.T if swapped else exact, STORED * whole, shift, args)
            if table is not None:
                return Solution(np.roll(table, 128).astype(np.int32), whole, shift, swapped)
    return None


def _outputs(args: Mapping[str, Any]) -> Int64:
    """What TensorFlow Lite makes of each pair of inputs: [a, b]."""

    def scaled(name: str) -> Int64:
        shifted = (STORED + args["offset" + name]) << args["left_shift"]
        high = fixed_point.high_mul(shifted, args["multiplier" + name])
        return fixed_point.round_shift(high, args["right_shift" + name])

    a, b = scaled("_a")[:, None], scaled("_b")[None, :]
    total = a - b if args["operation"] == 1 else a + b
    y = fixed_point.requantize(total, args["multiplier"], args["shift"]) + args["offset"]
    return fixed_point.wide(np.clip(y, args["low"], args["high"]))


def _real_factor(args: Mapping[str, Any], name: str) -> float:
    """By how much the output grows when the input does by 1."""
    own = args["multiplier" + name] * 2.0 ** (args["left_shift"] - 31 - args["right_shift" + name])
    return float(own * args["multiplier"] * 2.0 ** (args["shift"] - 31))


def _table(exact: Int64, products: Int64, shift: int, args: Mapping[str, Any]) -> Int64 | None:
    """The starts that make all outputs right, and no sum leave 32 bits; None if a row has none."""
    least = np.where(exact > args["low"], (exact << shift) - products, INT32.min - products).max(axis=1)
    most = np.where(exact < args["high"], (exact + 1 << shift) - 1 - products, INT32.max - products).min(axis=1)
    return fixed_point.wide((least + most) >> 1) if (least <= most).all() else None


VARIANTS: list[Variant] = [ThumbAdd(), RiscvAdd(), XtensaAdd()]
