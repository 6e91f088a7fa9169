"""MEDIAN3: the median of each int8 value and its two neighbours in time, which takes single spikes out of a signal.

Input and output are [batch, time, channels], with the same scale; the first and last value in time stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops.base import CUSTOM_KERNELS, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

MEDIAN3_S8 = Kernel(
    "median3_s8",
    CUSTOM_KERNELS,
    str(Path(__file__).with_suffix(".c")),
    Struct("ml_median3_args", fields("I", "batches", "times", "channels")),
    (read("input", DType.INT8), write("output", DType.INT8)),
)


class Median3(Op):
    """The operator; see the module."""

    names = ("CUSTOM:Median3",)
    kernels = (MEDIAN3_S8,)
    types = ("int8",)

    def check(self, view: View) -> None:
        """Three dimensions, int8, and an output like the input."""
        x, y = view.input(), view.output()
        view.need(len(x.shape) == 3, f"its input {x.label} has {len(x.shape)} dimensions, not 3")
        view.need(x.shape == y.shape and view.same_quantization(x, y), "its output is not like its input")
        if (x.dtype, y.dtype) != (DType.INT8, DType.INT8):
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def lower(self, view: View, low: Lowering) -> None:
        """One step."""
        batches, times, channels = view.input().shape
        args = {"batches": batches, "times": times, "channels": channels}
        low.step(MEDIAN3_S8, args, [low.value(view.input()), low.value(view.output())])

    def reference(self, view: View, inputs: Sequence[Array]) -> Sequence[Array]:
        """The same in numpy: what a device is compared with, as TensorFlow Lite does not have this operator."""
        (x,) = inputs
        y = x.copy()
        y[:, 1:-1] = np.median(np.stack([x[:, :-2], x[:, 1:-1], x[:, 2:]]), axis=0)
        return [y]

    def cases(self) -> Iterator[Case]:
        """Sizes down to those where no value has two neighbours."""
        for shape in ((1, 1, 1), (1, 2, 3), (1, 3, 1), (2, 9, 4), (1, 50, 3)):
            g = CaseGraph()
            x, y = g.input(shape, DType.INT8, 0.1, 4), g.output(shape, DType.INT8, 0.1, 4)
            yield g.case("x".join(map(str, shape)), "CUSTOM:Median3", [x], [y])


OPS = [Median3()]
