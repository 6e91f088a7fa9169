"""ARG_MAX and ARG_MIN: where along one dimension the largest or smallest value lies, the first of equal ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sdk.graph import DType
from sdk.lower import Lowering
from sdk.ops import reduce
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

ARGS = Struct("ml_arg_args", (reduce.SHAPE, *fields("I", "type", "operation", "wide")))


def _kernel(name: str, number: int, dtype: DType) -> Kernel:
    # Positions of int64 are stored as two words; integers' alignment the kernel checks itself.
    return Kernel(name, number, "reductions.c", ARGS, (read("input", dtype), write("output", DType.INT32)))


ARG_INTEGERS = _kernel("arg_integers", 104, DType.INT8)
ARG_F32 = _kernel("arg_f32", 105, DType.FLOAT32)
INTEGERS = (DType.INT8, DType.UINT8, DType.INT16, DType.INT32)


class Arg(Op):
    names = ("ARG_MAX", "ARG_MIN")
    kernels = (ARG_INTEGERS, ARG_F32)
    types = ("int8", "uint8", "int16", "int32", "float32; positions are int32 or int64")

    def check(self, view: View) -> None:
        x, y = view.input(0), view.output()
        axis = reduce.axes(view)
        view.need(len(axis) == 1, "it does not go along one dimension")
        kept = [size for i, size in enumerate(x.shape) if i not in axis]
        view.need(list(y.shape) == kept, f"its output {list(y.shape)} is not {kept}")
        view.need(x.elements > 0, f"its input {x.label} is empty")
        if x.dtype not in (*INTEGERS, DType.FLOAT32) or y.dtype not in (DType.INT32, DType.INT64):
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        args = {
            "shape": reduce.shape_argument(view),
            "type": x.dtype.number,
            "operation": reduce.MAXIMUM if view.node.op == "ARG_MAX" else reduce.MINIMUM,
            "wide": int(y.dtype is DType.INT64),
        }
        kernel = ARG_F32 if x.dtype is DType.FLOAT32 else ARG_INTEGERS
        low.step(kernel, args, [low.value(x), low.value(y)])

    def cases(self) -> Iterator[Case]:
        for op in self.names:
            for dtype in (*INTEGERS, DType.FLOAT32):
                if dtype is DType.INT16:
                    continue  # no oracle has it
                for target in (DType.INT32, DType.INT64):
                    for shape, axis in (((2, 3, 4), -1), ((2, 3, 4), 1), ((5,), 0), ((3, 1), 1), ((1, 40), 1)):
                        yield _case(op, dtype, target, shape, axis)


def _case(op: str, dtype: DType, target: DType, shape: tuple[int, ...], axis: int) -> Case:
    g = CaseGraph()
    rng = np.random.default_rng(2)
    scale = 0.5 if dtype in (DType.INT8, DType.UINT8) else None
    x = g.input(shape, dtype, scale)
    along = g.constant(np.array(axis), DType.INT32)
    y = g.output([size for i, size in enumerate(shape) if i != axis % len(shape)], target)
    values = [(rng.integers(0, most, shape).astype(dtype.numpy),) for most in (3, 100)]
    option = {"output_type": 2 if target is DType.INT32 else 4}
    name = f"{op}_{dtype.suffix}-{target.suffix}-{list(shape)}-{axis}".replace(" ", "")
    return g.case(name, op, [x, along], [y], option, values)


OPS = [Arg()]
