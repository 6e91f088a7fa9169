"""CAST: the same numbers in another type. Scales and zero points play no part in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType, Tensor
from sdk.lower import Lowering
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.overlap import elementwise
from sdk.program import Struct, fields

# Types are ml_dtype; an offset is what the stored bytes lack to be the model's numbers: 128 for uint8 kept as int8.
INTEGER_ARGS = Struct(
    "ml_cast_integer_args", (*fields("I", "count", "input_type", "output_type"), *fields("i", "offset"))
)
FLOAT_ARGS = Struct("ml_cast_float_args", (*fields("I", "count", "type"), *fields("i", "offset")))

# Element sizes are arguments; the kernels check their operands' alignment themselves.
CAST_INTEGER = Kernel(
    "cast_integer", 290, "cast.c", INTEGER_ARGS, (read("input", DType.INT8), write("output", DType.INT8))
)
CAST_TO_F32 = Kernel(
    "cast_to_f32", 291, "cast.c", FLOAT_ARGS, (read("input", DType.INT8), write("output", DType.FLOAT32))
)
CAST_FROM_F32 = Kernel(
    "cast_from_f32", 292, "cast.c", FLOAT_ARGS, (read("input", DType.FLOAT32), write("output", DType.INT8))
)


class Cast(Op):
    names = ("CAST",)
    kernels = (CAST_INTEGER, CAST_TO_F32, CAST_FROM_F32)
    types = ("any to any",)
    limits = "float32 beyond the range of int32 (int64 for wider types) saturates; C++ defines nothing there"

    def check(self, view: View) -> None:
        x, y = view.input(0), view.output()
        view.need(x.elements == y.elements, f"it makes {list(y.shape)} of {list(x.shape)}")
        if not y.dtype.on_device or (x.data is None and not x.dtype.on_device):
            raise view.unsupported(f"has no kernel for {view.dtypes()}")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        offset = x.source_offset - y.source_offset
        args = {"count": x.elements, "offset": offset}
        overlaps = [elementwise(x, y)]
        if _same_bytes(x, y):
            low.alias(y, low.value(x))
        elif x.dtype is DType.FLOAT32:
            values = [low.value(x), low.value(y)]
            low.step(CAST_FROM_F32, args | {"type": y.dtype.number}, values, overlaps=overlaps)
        elif y.dtype is DType.FLOAT32:
            values = [low.value(x), low.value(y)]
            low.step(CAST_TO_F32, args | {"type": x.dtype.number}, values, overlaps=overlaps)
        else:
            args |= {"input_type": x.dtype.number, "output_type": y.dtype.number}
            low.step(CAST_INTEGER, args, [low.value(x), low.value(y)], overlaps=overlaps)

    def fold(self, view: View, inputs: Sequence[Array]) -> Sequence[Array] | None:
        x, y = view.input(0), view.output()
        if x.source_offset or y.source_offset:
            return None
        if inputs[0].dtype.kind == "f" and y.dtype.numpy.kind in "iu":
            limits = np.iinfo(y.dtype.numpy)
            if not np.all((inputs[0] >= limits.min) & (inputs[0] <= limits.max)):
                return None
        return [inputs[0].astype(y.dtype.numpy)]

    def cases(self) -> Iterator[Case]:
        types = (DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.INT64, DType.UINT32, DType.FLOAT32)
        for source, target in itertools.product((*types, DType.BOOL), (*types, DType.BOOL)):
            if source is not target:
                yield _case(source, target)


def _same_bytes(x: Tensor, y: Tensor) -> bool:
    """Whether `y` is `x`, bit for bit."""
    if x.source_offset != y.source_offset or DType.FLOAT32 in (x.dtype, y.dtype):
        return x.dtype is y.dtype
    to_number = y.dtype is not DType.BOOL or x.dtype is DType.BOOL
    return x.dtype.bytes == y.dtype.bytes and to_number


def _case(source: DType, target: DType) -> Case:
    g = CaseGraph()
    x, y = g.input((3, 7), source), g.output((3, 7), target)
    name = f"{source.suffix}-{target.suffix}" if DType.BOOL not in (source, target) else f"{source}-{target}"
    return g.case(name.replace("DType.", "").lower(), "CAST", [x], [y], values=_values(source, target))


def _values(source: DType, target: DType) -> list[tuple[Array, ...]]:
    """Values over the source's whole range; of float32, what fits in the target, and halves."""
    rng = np.random.default_rng(0)
    if source is DType.BOOL:
        return [(rng.integers(0, 2, (3, 7)).astype(bool),)]
    if source is DType.FLOAT32:
        limit = 100 if target is DType.INT8 else 2**31 - 200 if target.bytes > 2 else 30000
        least = 0 if target.numpy.kind == "u" else -min(limit, 255)
        spread = rng.integers(least, 256 if target is DType.UINT8 else limit, (3, 7)).astype(np.float32)
        halves = np.arange(21, dtype=np.float32).reshape(3, 7) * np.float32(0.5)
        return [(spread,), (halves,), (halves - 5 if least else halves,)]
    limits = np.iinfo(source.numpy)
    values = rng.integers(limits.min, limits.max, (3, 7), source.numpy, endpoint=True)
    values.flat[:4] = (limits.min, limits.max, 0, 1)
    return [(values,)]


OPS = [Cast()]
