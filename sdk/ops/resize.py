"""RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR: images of another size.

Which input rows and columns an output row or column comes from is computed here, in the very arithmetic of the
reference (float32, or 10-bit fixed point for int8 and int16), and goes into the program as tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sdk.graph import Array, DType
from sdk.lower import Lowering
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, View, read, write
from sdk.ops.movement import STRIDED_COPY, Move, Movement, integers, progression
from sdk.overlap import Overlap, grid_ahead_bytes
from sdk.program import Struct, fields

NEAREST = Kernel(
    "resize_nearest",
    133,
    "resize.c",
    Struct("ml_resize_nearest_args", fields("I", "batches", "in_rows", "in_columns", "rows", "columns", "run")),
    (read("input", DType.INT8), read("rows", DType.INT32), read("columns", DType.INT32), write("output", DType.INT8)),
)
BILINEAR_ARGS = Struct(
    "ml_resize_bilinear_args", fields("I", "batches", "in_rows", "in_columns", "rows", "columns", "channels")
)


def _bilinear(suffix: str, number: int, dtype: DType) -> Kernel:
    # A table entry is (low, high, part): int32, int32, and int32 of 1024 parts or float32.
    slots = (read("input", dtype), read("rows", DType.INT32), read("columns", DType.INT32), write("output", dtype))
    return Kernel(f"resize_bilinear_{suffix}", number, "resize.c", BILINEAR_ARGS, slots)


BILINEAR_S8 = _bilinear("s8", 134, DType.INT8)
BILINEAR_S16 = _bilinear("s16", 135, DType.INT16)
BILINEAR_F32 = _bilinear("f32", 136, DType.FLOAT32)
BILINEAR_U8 = _bilinear("u8", 137, DType.INT8)  # uint8 models, whose values the legacy-uint8 pass shifts to int8


def sizes(view: View) -> list[tuple[int, int]]:
    """(input, output) rows and columns. ModelError where shapes or the size operand do not fit."""
    x, y = view.input(0), view.output()
    view.need(x.dtype is y.dtype, f"it makes {y.dtype.numpy_name} of {x.dtype.numpy_name}")
    images = len(x.shape) == len(y.shape) == 4 and x.shape[0] == y.shape[0] and x.shape[3] == y.shape[3]
    view.need(images and x.elements > 0 and y.elements > 0, f"it makes images {list(y.shape)} of {list(x.shape)}")
    fits = view.input(1).data is None or integers(view, 1) == list(y.shape[1:3])
    view.need(fits, f"its output is {list(y.shape)}, which is not the size that it names")
    return list(zip(x.shape[1:3], y.shape[1:3], strict=True))


class ResizeNearest(Movement):
    """Tables that are evenly spaced, as they are for whole factors, are a copy; others need the kernel."""

    names = ("RESIZE_NEAREST_NEIGHBOR",)
    kernels = (NEAREST, STRIDED_COPY)

    def check(self, view: View) -> None:
        sizes(view)

    @staticmethod
    def _tables(view: View) -> list[Array]:
        """The input row of each output row, and the columns. Follows GetNearestNeighbor
        (tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h)."""
        tables = []
        corners = view.option("align_corners")
        offset = np.float32(0.5 if view.option("half_pixel_centers") else 0)
        for before, after in sizes(view):
            scale = _scale(before, after, corners)
            place = ((np.arange(after, dtype=np.float32) + offset) * scale).astype(np.float64)
            table = np.floor(place + 0.5 if corners else place).astype(np.int32)
            tables.append(np.clip(table, 0, before - 1))
        return tables

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        rows, columns = (progression(table) for table in self._tables(view))
        assert rows is not None
        assert columns is not None
        n, _, _, channels = x[0].shape
        shape = (n, rows.count, rows.repeat, columns.count, columns.repeat, channels)
        part = x[0][:, rows.slice, columns.slice]
        yield y[0].reshape(shape), np.broadcast_to(part[:, :, None, :, None], shape)

    def known(self, view: View) -> bool:
        return all(progression(table) is not None for table in self._tables(view))

    def lower(self, view: View, low: Lowering) -> None:
        integers(view, 1)
        if self.known(view):
            super().lower(view, low)
            return
        tables = self._tables(view)
        x, y = view.input(0), view.output()
        args = _args(view) | {"run": x.shape[3] * x.dtype.bytes}
        overlap = Overlap(0, 3, _ahead_bytes(view, tables))
        low.step(NEAREST, args, [low.value(x), *map(low.constant, tables), low.value(y)], overlaps=[overlap])

    def fold(self, view: View, inputs: Sequence[Array]) -> Sequence[Array] | None:
        rows, columns = self._tables(view)
        return [inputs[0][:, rows][:, :, columns]]

    def cases(self) -> Iterator[Case]:
        yield from _cases("RESIZE_NEAREST_NEIGHBOR", (DType.INT8, DType.FLOAT32))
        for dtype in (DType.UINT8, DType.INT16):
            yield _case("RESIZE_NEAREST_NEIGHBOR", (1, 3, 4, 3), (5, 9), dtype)


def _scale(before: int, after: int, corners: bool) -> Any:
    """Input pixels for each output pixel, a float32."""
    if corners and after > 1:
        return np.float32(before - 1) / np.float32(after - 1)
    return np.float32(before) / np.float32(after)


def _args(view: View) -> dict[str, int]:
    (in_rows, rows), (in_columns, columns) = sizes(view)
    batches = view.input(0).shape[0]
    return {"batches": batches, "in_rows": in_rows, "in_columns": in_columns, "rows": rows, "columns": columns}


def _ahead_bytes(view: View, firsts: Sequence[Array]) -> int:
    """How far the output gets ahead; `firsts`: the first input row of each output row, and columns."""
    x = view.input(0)
    rows, columns = (list(map(int, table)) for table in firsts)
    pixel_bytes = x.shape[3] * x.dtype.bytes
    return grid_ahead_bytes((x.shape[0], x.shape[1], x.shape[2]), (rows, columns), pixel_bytes, pixel_bytes)


class ResizeBilinear(Op):
    names = ("RESIZE_BILINEAR",)
    kernels = (BILINEAR_S8, BILINEAR_S16, BILINEAR_F32, BILINEAR_U8)
    types = ("int8", "uint8", "int16", "float32")
    bound = Bound(1e-6, 1e-6, "the same operations in the same order; a core may contract them")

    def check(self, view: View) -> None:
        sizes(view)
        both = view.option("align_corners") and view.option("half_pixel_centers")
        view.need(not both, "it has both align_corners and half_pixel_centers")

    def lower(self, view: View, low: Lowering) -> None:
        x, y = view.input(0), view.output()
        integers(view, 1)
        kernel = {DType.INT8: BILINEAR_S8, DType.INT16: BILINEAR_S16, DType.FLOAT32: BILINEAR_F32}.get(x.dtype)
        if view.option("legacy_uint8"):
            kernel = BILINEAR_U8
        if kernel is None:
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        make = _real_spans if kernel in (BILINEAR_U8, BILINEAR_F32) else _whole_spans
        options = view.option("align_corners"), view.option("half_pixel_centers")
        tables = [make(*size, *options) for size in sizes(view)]
        for table, (before, _) in zip(tables, sizes(view), strict=True):
            view.need(bool(np.all(table[:, :2].view(np.int32) < before)), "it reads beyond its input")
        args = _args(view) | {"channels": x.shape[3]}
        overlap = Overlap(0, 3, _ahead_bytes(view, [table[:, 0].view(np.int32) for table in tables]))
        low.step(kernel, args, [low.value(x), *map(low.constant, tables), low.value(y)], overlaps=[overlap])

    def cases(self) -> Iterator[Case]:
        yield from _cases("RESIZE_BILINEAR", (DType.INT8, DType.FLOAT32))
        for dtype, centers in itertools.product((DType.UINT8, DType.INT16), (False, True)):
            yield _case("RESIZE_BILINEAR", (1, 3, 4, 3), (5, 9), dtype, centers=centers)
            yield _case("RESIZE_BILINEAR", (2, 5, 3, 1), (3, 8), dtype, centers=centers)


def _whole_spans(before: int, after: int, corners: bool, centers: bool) -> Array:
    """int32 [after, 3]: low, high and 1024ths between. Follows ComputeInterpolationValuesInteger
    (tensorflow/lite/kernels/internal/reference/resize_bilinear.h), whose divisions round towards 0."""
    scale = (1024 * before + after // 2) // after
    if corners and after > 1:
        scale = (1024 * (before - 1) + (after - 1) // 2) // (after - 1)
    place = np.arange(after) * scale + ((scale // 2 - 512) if centers else 0)
    low = np.maximum(np.fix(place / 1024), 0).astype(np.int64)
    high = np.minimum(np.fix((place + 1023) / 1024).astype(np.int64), before - 1)
    table: Array = np.stack([low, high, place - 1024 * low], axis=1).astype(np.int32)
    return table


def _real_spans(before: int, after: int, corners: bool, centers: bool) -> Array:
    """int32 [after, 3]: low, high and the bits of a float32, 0 at low and 1 at high. Follows ComputeInterpolationValues
    there."""
    scale = _scale(before, after, corners)
    place = np.arange(after, dtype=np.float32)
    place = (place + np.float32(0.5)) * scale - np.float32(0.5) if centers else place * scale
    low = np.maximum(np.floor(place).astype(np.int32), 0)
    high = np.minimum(np.ceil(place).astype(np.int32), before - 1)
    part = place - low.astype(np.float32)
    table: Array = np.stack([low, high, part.view(np.int32)], axis=1)
    return table


def _cases(op: str, dtypes: Sequence[DType]) -> Iterator[Case]:
    for dtype, (corners, centers) in itertools.product(dtypes, ((False, False), (True, False), (False, True))):
        for shape, size in (
            ((1, 2, 2, 1), (4, 4)),
            ((1, 3, 4, 3), (5, 9)),
            ((2, 5, 3, 2), (3, 8)),
            ((1, 6, 8, 2), (3, 2)),
            ((1, 1, 1, 5), (3, 2)),
            ((1, 4, 5, 1), (1, 1)),
            ((1, 3, 3, 7), (7, 11)),
        ):
            yield _case(op, shape, size, dtype, corners=corners, centers=centers)


def _case(
    op: str, shape: Sequence[int], size: Sequence[int], dtype: DType, *, corners: bool = False, centers: bool = False
) -> Case:
    g = CaseGraph()
    quantization = {DType.INT8: (0.5, 3), DType.UINT8: (0.5, 131), DType.INT16: (0.5, 0)}.get(dtype, (None, 0))
    x = g.input(shape, dtype, *quantization)
    y = g.output((shape[0], *size, shape[3]), dtype, *quantization)
    options = {"align_corners": corners, "half_pixel_centers": centers}
    name = f"{dtype.suffix}-{'x'.join(map(str, shape))}-{size[0]}x{size[1]}-{corners:d}{centers:d}"
    return g.case(name, op, [x, g.constant(np.array(size), DType.INT32)], [y], options)


OPS = [ResizeNearest(), ResizeBilinear()]
