"""ADD and SUB of int8 arrays on Cortex-M4, M7 and M33: a table look-up and one multiplication an element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sdk import fixed_point
from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops.arithmetic import ADD_S8, OPERATIONS
from sdk.ops.base import Kernel, read, write
from sdk.ops.broadcast import DIMS
from sdk.program import Profile, Struct, fields
from sdk.target import Optimize
from sdk.variants import packing
from sdk.variants.base import PortableStep, Variant

LEFT_SHIFT = 20  # of int8 inputs
HALF = (1 << 30, 0)  # the (multiplier, right shift) that the input with the larger scale has
LEAST_ELEMENTS = 512  # for which a table pays
ARGS = Struct(
    "ml_add_table_s8_args", (*fields("I", "count", "has_sign"), *fields("i", "multiplier", "offset", "shift"))
)
ADD_TABLE_S8 = Kernel(
    "add_table_s8",
    0x142,
    "arm_dsp/add.c",
    ARGS,
    (
        read("shifted", DType.INT8),
        read("looked_up", DType.INT8),
        read("table", DType.INT32),  # by stored values as uint8
        write("output", DType.INT8),
    ),
    Profile.arm_dsp,
)


class AddTable(Variant):
    """Arrays of one shape, results that are not clamped further than to int8 or the zero point."""

    profile = Profile.arm_dsp
    kernels = (ADD_TABLE_S8,)
    replaces = (ADD_S8,)

    def lower(self, step: PortableStep, low: Lowering) -> bool:
        args = step.args
        count, shifted = _elements(args["shape"]), _shifted(args)
        scales = np.array([[args["multiplier"], args["shift"]]])
        rounding = packing.rounding(scales, args["offset"])
        small = count < LEAST_ELEMENTS or low.target.optimize is Optimize.size
        if small or shifted is None or rounding is None or (args["low"], args["high"]) != (-128, 127):
            return False
        inputs = (step.values[shifted], step.values[1 - shifted])
        values = [*inputs, low.constant(_table(args, shifted)), step.values[2]]
        constants = {
            "multiplier": int(rounding.multipliers[0]),
            "offset": int(rounding.offsets[0]),
            "shift": int(rounding.shifts[0]),
        }
        sign = packing.sign_matters({"output_offset": args["offset"], "low": args["low"]})
        low.step(ADD_TABLE_S8, {"count": count, "has_sign": int(sign), **constants}, values, in_place=[(0, 3), (1, 3)])
        return True


def _elements(shape: list[int]) -> int:
    """How many elements a walk has that goes through both inputs alike; 0 for others."""
    dims, a, b = (shape[i * DIMS : (i + 1) * DIMS] for i in range(3))
    alike = dims[:-1] == [1] * (DIMS - 1) and a[-1] == b[-1] == 1
    return dims[-1] if alike else 0


def _shifted(args: Mapping[str, Any]) -> int | None:
    """Which input is only shifted: one whose multiplier is 1/2, and that is not subtracted."""
    operation = OPERATIONS[args["operation"]]
    for index, name in enumerate("ab"):
        half = (args[f"multiplier_{name}"], args[f"right_shift_{name}"]) == HALF
        if half and (operation == "ADD" or (operation == "SUB" and index == 0)):
            return index
    return None


def _table(args: Mapping[str, Any], shifted: int) -> Array:
    """Twice what the other input contributes, and the shifted one's offset."""
    name, other = "ba"[shifted], "ab"[shifted]
    stored = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int64)
    scaled = fixed_point.high_mul((stored + args[f"offset_{name}"]) << LEFT_SHIFT, args[f"multiplier_{name}"])
    value = fixed_point.round_shift(scaled, args[f"right_shift_{name}"])
    sign = -1 if OPERATIONS[args["operation"]] == "SUB" else 1
    table: Array = (2 * sign * value + (args[f"offset_{other}"] << LEFT_SHIFT)).astype(np.int32)
    return table


VARIANTS: list[Variant] = [AddTable()]
