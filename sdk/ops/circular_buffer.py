"""CIRCULAR_BUFFER, tflite-micro's custom operator for streaming models: a window over the newest inputs.

Each inference moves the window on by one input. Only every `cycles_max`-th goes on to the operators after it; the rest
ends here, and the outputs keep their values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

ARGS = Struct("ml_circular_buffer_args", fields("I", "slots", "slot_bytes", "period", "target"))

CIRCULAR_BUFFER = Kernel(
    "circular_buffer",
    235,
    "circular_buffer.c",
    ARGS,
    (read("input", DType.INT8), write("window", DType.INT8), write("countdown", DType.UINT32)),
)


class CircularBuffer(Op):
    names = ("CUSTOM:CIRCULAR_BUFFER",)
    kernels = (CIRCULAR_BUFFER,)
    types = ("int8",)
    limits = "the option cycles_max must be given"

    def check(self, view: View) -> None:
        x, y = view.input(0), view.output()
        view.need(x.dtype is y.dtype is DType.INT8, f"its {view.dtypes()} are not int8")
        view.need(len(x.shape) == len(y.shape) == 4, "its input and output do not have 4 dimensions")
        view.need(x.shape == (y.shape[0], 1, *y.shape[2:]), f"its output {list(y.shape)} is no row of {list(x.shape)}")
        if y.shape[0] != 1:
            raise view.unsupported(f"has a batch of {y.shape[0]}")
        period = view.option("cycles_max")
        if not isinstance(period, int) or period < 1:
            raise view.unsupported(
                "does not say its cycles_max, which tflite-micro guesses from the shapes of two models"
            )

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        period = view.option("cycles_max")
        if not y.variable:
            low.alias(y, low.state(y.bytes))
        countdown = low.state(DType.UINT32.bytes)
        low.set_initial(countdown, np.array([period], np.uint32))
        args = {"slots": y.shape[1], "slot_bytes": math.prod(y.shape[2:]), "period": period}
        low.jump(CIRCULAR_BUFFER, [low.value(x), low.value(y), countdown], args)

    def cases(self) -> Iterator[Case]:
        for slots, rows, depth in ((1, 1, 1), (4, 1, 3), (5, 2, 16)):
            for period in (1, 2, 3):
                for zero in (0, -7):
                    g = CaseGraph()
                    x = g.input((1, 1, rows, depth), DType.INT8, 0.5, zero)
                    window = g.variable((1, slots, rows, depth), DType.INT8, 0.5, zero)
                    g.output_ids.append(window)
                    name = f"{slots}x{rows}x{depth}-every{period}-zero{zero}"
                    rng = np.random.default_rng(period)
                    values = [(rng.integers(-128, 128, (1, 1, rows, depth)).astype(np.int8),) for _ in range(7)]
                    yield g.case(name, "CUSTOM:CIRCULAR_BUFFER", [x], [window], {"cycles_max": period}, values)


OPS = [CircularBuffer()]
