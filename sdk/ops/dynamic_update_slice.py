"""DYNAMIC_UPDATE_SLICE: a tensor with one box of it replaced, at a place that the model may compute."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops.base import Case, CaseGraph, Kernel, View, read, write
from sdk.ops.control import COPY, add_copy
from sdk.ops.movement import STRIDED_COPY, STRIDED_COPY_ARGS, Move, Movement, copy_args, integers
from sdk.program import Field, Struct, fields

STARTS = 6  # dimensions

STRIDED_COPY_AT = Kernel(
    "strided_copy_at",
    138,
    "strided_copy.c",
    Struct(
        "ml_strided_copy_at_args",
        (
            *STRIDED_COPY_ARGS.fields,
            *fields("I", "rank", "index_words"),
            Field("limit", "I", STARTS),  # the largest start; others are clamped to it
            Field("start_step", "I", STARTS),  # bytes
        ),
    ),
    (read("from", DType.INT8), read("starts", DType.INT32), write("to", DType.INT8)),
)


class DynamicUpdateSlice(Movement):
    """Starts are clamped, so that the box always lies inside."""

    names = ("DYNAMIC_UPDATE_SLICE",)
    kernels = (COPY, STRIDED_COPY, STRIDED_COPY_AT)
    limits = f"at most {STARTS} dimensions where the place is computed"
    moved = (0, 1)
    parameters = (2,)

    def check(self, view: View) -> None:
        x, update, starts = view.input(0), view.input(1), view.input(2)
        view.need(starts.dtype in (DType.INT32, DType.INT64), f"its starts are {starts.dtype.numpy_name}")
        fits = len(x.shape) == len(update.shape) == starts.elements
        fits = fits and all(a <= b for a, b in zip(update.shape, x.shape, strict=True))
        view.need(fits, f"{list(update.shape)} at {starts.elements} starts does not fit into {list(x.shape)}")
        view.need(view.output().shape == x.shape, f"its output is {list(view.output().shape)}, not {list(x.shape)}")
        super().check(view)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        yield y[0], x[0]
        starts = integers(view, 2)
        boxes = zip(starts, x[0].shape, x[1].shape, strict=True)
        places = [min(max(start, 0), size - part) for start, size, part in boxes]
        yield y[0][tuple(slice(a, a + n) for a, n in zip(places, x[1].shape, strict=True))], x[1]

    def lower(self, view: View, low: Lowering) -> None:
        x, update, starts, y = view.input(0), view.input(1), view.input(2), view.output()
        if starts.data is not None:
            super().lower(view, low)
            return
        add_copy(low, low.value(x), low.value(y))
        if update.elements == 0:
            return
        whole = np.empty(y.shape, y.dtype.numpy)
        rank = len(y.shape)
        box = whole[tuple(map(slice, update.shape))]
        args = copy_args(box, np.empty(update.shape, y.dtype.numpy))
        if args is None or rank > STARTS:
            raise view.unsupported(f"has {rank} dimensions")
        spare = [0] * (STARTS - rank)
        args |= {"rank": rank, "index_words": starts.dtype.bytes // 4, "start_step": [*whole.strides, *spare]}
        args |= {"limit": [*(a - b for a, b in zip(y.shape, update.shape, strict=True)), *spare]}
        low.step(STRIDED_COPY_AT, args, [low.value(update), low.value(starts), low.value(y)])

    def cases(self) -> Iterator[Case]:
        grid = itertools.product(
            (DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32), (None, DType.INT32, DType.INT64)
        )
        for dtype, dynamic in grid:
            yield _case((3, 4, 5), (2, 1, 5), [(1, 2, 0), (-4, 9, 3)], dtype, dynamic)
        yield _case((4, 6), (2, 3), [(0, 0), (2, 3), (-1, -9), (100, 1)], DType.INT8, DType.INT32)
        yield _case((7,), (7,), [(3,)], DType.FLOAT32, DType.INT32)
        yield _case((1, 3, 4, 2, 5), (1, 2, 2, 1, 3), [(0, 1, 1, 1, 2)], DType.INT8, DType.INT32)
        yield _case((1, 16, 8), (1, 1, 8), [(0, 15, 0), (0, 3, 0)], DType.FLOAT32, DType.INT32)


def _case(
    shape: Sequence[int], box: Sequence[int], starts: Sequence[Sequence[int]], dtype: DType, dynamic: DType | None
) -> Case:
    g = CaseGraph()
    scale = 0.5 if dtype in (DType.INT8, DType.INT16) else None
    x, update = g.input(shape, dtype, scale), g.input(box, dtype, scale)
    place = g.constant(np.array(starts[0]), DType.INT32) if dynamic is None else g.input((len(shape),), dynamic)
    y = g.output(shape, dtype, scale)
    rng = np.random.default_rng(0)
    values = [
        (
            rng.integers(-100, 100, shape).astype(dtype.numpy),
            rng.integers(-100, 100, box).astype(dtype.numpy),
            *([np.array(start, dynamic.numpy)] if dynamic is not None else []),
        )
        for start in starts
    ]
    name = f"{dtype.suffix}-{'x'.join(map(str, shape))}-{dynamic.suffix if dynamic else 'constant'}"
    return g.case(name, "DYNAMIC_UPDATE_SLICE", [x, update, place], [y], {}, values)


OPS = [DynamicUpdateSlice()]
