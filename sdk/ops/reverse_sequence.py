"""REVERSE_SEQUENCE: the beginning of each sequence of a batch backwards, as far as a computed length."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.ops.movement import axis_of
from sdk.program import Struct, fields

REVERSE_SEQUENCE = Kernel(
    "reverse_sequence",
    140,
    "reverse_sequence.c",
    Struct(
        "ml_reverse_sequence_args",
        fields("I", "outer", "first", "middle", "second", "run", "time_first", "index_words"),
    ),
    (read("input", DType.INT8), read("lengths", DType.INT32), write("output", DType.INT8)),
)


class ReverseSequence(Op):
    """A length beyond the sequence is ML_ERR_INDEX on the device."""

    names = ("REVERSE_SEQUENCE",)
    kernels = (REVERSE_SEQUENCE,)
    types = ("all",)

    def check(self, view: View) -> None:
        x, lengths, y = view.input(0), view.input(1), view.output()
        view.need(x.shape == y.shape and x.dtype is y.dtype, f"it makes {list(y.shape)} of {list(x.shape)}")
        view.need(lengths.dtype in (DType.INT32, DType.INT64), f"its lengths are {lengths.dtype.numpy_name}")
        time, batch = self._axes(view)
        view.need(time != batch, f"its batch and its time are both dimension {time}")
        view.need(
            lengths.elements == x.shape[batch], f"it has {lengths.elements} lengths for {x.shape[batch]} sequences"
        )

    @staticmethod
    def _axes(view: View) -> tuple[int, int]:
        rank = len(view.input(0).shape)
        return axis_of(view, view.option("seq_dim"), rank), axis_of(view, view.option("batch_dim"), rank)

    def lower(self, view: View, low: Lowering) -> None:
        x, lengths = view.input(0), view.input(1)
        self.check(view)
        time, batch = self._axes(view)
        first, second = sorted((time, batch))
        if x.elements == 0:
            return
        args = {
            "outer": math.prod(x.shape[:first]),
            "first": x.shape[first],
            "middle": math.prod(x.shape[first + 1 : second]),
            "second": x.shape[second],
            "run": math.prod(x.shape[second + 1 :]) * x.dtype.bytes,
            "time_first": int(time < batch),
            "index_words": lengths.dtype.bytes // 4,
        }
        low.step(REVERSE_SEQUENCE, args, [low.value(x), low.value(lengths), low.value(view.output())])

    def cases(self) -> Iterator[Case]:
        shape = (2, 3, 4, 2)
        for (time, batch), dtype in itertools.product(
            itertools.permutations(range(4), 2), (DType.FLOAT32, DType.UINT8)
        ):
            g = CaseGraph()
            scale = 0.5 if dtype is DType.UINT8 else None
            index = DType.INT64 if time == 1 else DType.INT32
            x, lengths = g.input(shape, dtype, scale), g.input((shape[batch],), index)
            y = g.output(shape, dtype, scale)
            data = np.arange(math.prod(shape)).reshape(shape).astype(dtype.numpy)
            values = [(data, np.resize([shape[time], 1, 2], shape[batch]).astype(index.numpy))]
            options = {"seq_dim": time, "batch_dim": batch}
            yield g.case(f"{dtype.suffix}-{time}-{batch}", "REVERSE_SEQUENCE", [x, lengths], [y], options, values)


OPS = [ReverseSequence()]
