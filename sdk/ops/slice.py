"""SLICE, STRIDED_SLICE, SPLIT, SPLIT_V, UNPACK: parts of a tensor."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sdk.graph import Array, DType, Graph, Node
from sdk.ops.base import Case, CaseGraph, View
from sdk.ops.movement import Move, Movement, along, axis_of, integers, number


class Slice(Movement):
    names = ("SLICE",)
    parameters = (1, 2)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        begins, sizes = integers(view, 1), integers(view, 2)
        view.need(len(begins) == len(sizes) == x[0].ndim, f"its begin or size has not {x[0].ndim} values")
        parts = []
        for axis, (begin, size, limit) in enumerate(zip(begins, sizes, x[0].shape, strict=True)):
            end = limit if size == -1 else begin + size
            view.need(0 <= begin <= end <= limit, f"it takes {begin} to {end} of the {limit} along dimension {axis}")
            parts.append(slice(begin, end))
        yield y[0], x[0][tuple(parts)]

    def cases(self) -> Iterator[Case]:
        shape = (2, 5, 4, 3)
        starts = ((0, 0, 0, 0), (1, 2, 1, 0), (0, 1, 0, 2), (1, 0, 0, 0))
        sizes = ((2, 5, 4, 3), (1, 3, 2, 3), (2, -1, 3, 1), (-1, 5, 4, 3))
        for begin, size in zip(starts, sizes, strict=True):
            for dtype in (DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32):
                yield _slice(shape, begin, size, dtype)
        yield _slice((64,), (16,), (32,), DType.INT8)  # a view
        yield _slice((7, 5), (2, 0), (4, 5), DType.INT8)
        yield _slice((2, 2, 3, 2, 4), (0, 1, 1, 0, 1), (2, 1, 2, 2, 2), DType.INT8)
        yield _slice((4, 4), (1, 1), (2, 3), DType.BOOL)
        yield _slice((4, 4), (1, 1), (2, 3), DType.INT64)


def _quantized(dtype: DType) -> tuple[float | None, int]:
    return (0.5, 3 if dtype is DType.INT8 else 0) if dtype in (DType.INT8, DType.UINT8, DType.INT16) else (None, 0)


def _slice(shape: Sequence[int], begin: Sequence[int], size: Sequence[int], dtype: DType) -> Case:
    g = CaseGraph()
    x = g.input(shape, dtype, *_quantized(dtype))
    inputs = [x, g.constant(np.array(begin), DType.INT32), g.constant(np.array(size), DType.INT32)]
    y = g.output(
        [n - b if s == -1 else s for n, b, s in zip(shape, begin, size, strict=True)], dtype, *_quantized(dtype)
    )
    return g.case(f"{dtype.suffix}-{begin}-{size}", "SLICE", inputs, [y])


class StridedSlice(Movement):
    names = ("STRIDED_SLICE",)
    parameters = (1, 2, 3)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        yield y[0], x[0][(*strided(view, x[0].shape), ...)]

    def cases(self) -> Iterator[Case]:
        shape = (2, 5, 4, 3)
        for dtype in (DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32, DType.BOOL):
            yield _strided(shape, (0, 1, 0, 1), (2, 5, 3, 3), (1, 2, 1, 1), dtype)
            yield _strided(shape, (-1, -2, 3, 2), (-3, 0, 0, -9), (-1, -1, -2, -1), dtype)
        for masks in itertools.product(((0, 0), (15, 0), (0, 15), (5, 10), (15, 15)), (0, 1, 4, 9, 15)):
            yield _strided(shape, (1, 2, 1, 1), (2, 4, 3, 2), (1, 1, 1, 1), DType.INT8, *masks[0], shrink=masks[1])
            yield _strided(shape, (1, 4, 3, 2), (0, 1, 0, 0), (-1, -2, -1, -1), DType.INT8, *masks[0])
        yield _strided((64,), (16,), (64,), (1,), DType.INT8)  # a view
        yield _strided((9,), (8,), (-10,), (-3,), DType.INT8)
        yield _strided((7, 5), (-3, 0), (99, 99), (1, 1), DType.FLOAT32)
        yield _strided((3, 4), (0, 0), (0, 2), (1, 1), DType.INT8, shrink=1, end=1)
        yield _strided((4, 3), (1,), (3,), (1,), DType.INT8)
        yield _strided((2, 3, 4), (0, 0, 1), (0, 0, 3), (1, 1, 1), DType.INT8, ellipsis=2, begin=1, end=1)
        yield _strided((2, 3, 4), (0, 1), (0, 3), (1, 1), DType.INT8, ellipsis=1)
        yield _strided((2, 3), (0, 0, 1), (0, 2, 3), (1, 1, 1), DType.FLOAT32, new=1)
        yield _strided((2, 3), (0, 0, 0, 1), (0, 2, 0, 3), (1, 1, 1, 1), DType.INT8, new=5)
        yield _strided((9, 3), (2, 0), (4, 2), (2, 1), DType.INT8, offset=True)
        yield _strided((2, 3, 2, 2, 3), (0, 2, 0, 1, 0), (2, 0, 2, 2, 3), (1, -1, 1, 1, 2), DType.INT8)


def _strided(
    shape: Sequence[int],
    bounds_from: Sequence[int],
    bounds_to: Sequence[int],
    steps: Sequence[int],
    dtype: DType,
    begin: int = 0,
    end: int = 0,
    *,
    shrink: int = 0,
    ellipsis: int = 0,
    new: int = 0,
    offset: bool = False,
) -> Case:
    """A slice; `begin` to `new` are masks, the output's shape what numpy makes of them."""
    g = CaseGraph()
    x = g.input(shape, dtype, *_quantized(dtype))
    bounds = [g.constant(np.array(each), DType.INT32) for each in (bounds_from, bounds_to, steps)]
    options = {"begin_mask": begin, "end_mask": end, "shrink_axis_mask": shrink}
    options |= {"ellipsis_mask": ellipsis, "new_axis_mask": new, "offset": offset}
    node = Node("STRIDED_SLICE", (x, *bounds), (), options)
    sliced = np.empty(shape)[(*strided(View(Graph("", dict(enumerate(g.tensors)), (), (), ()), node), shape), ...)]
    y = g.output(sliced.shape, dtype, *_quantized(dtype))
    name = f"{dtype.suffix}-{bounds_from}-{bounds_to}-{steps}-{begin}-{end}-{shrink}-{ellipsis}-{new}-{offset:d}"
    return g.case(name, "STRIDED_SLICE", [x, *bounds], [y], options)


def strided(view: View, shape: Sequence[int]) -> tuple[Any, ...]:
    """The node's slices of a tensor of `shape` as numpy understands them.

    Follows StridedSliceStartForAxis and StridedSliceEndForAxis (lite/kernels/internal/strided_slice_logic.h).
    """
    begins, ends, steps = (integers(view, i) for i in (1, 2, 3))
    view.need(len(begins) == len(ends) == len(steps), "its begin, end and strides have different lengths")
    new, ellipsis = view.option("new_axis_mask"), view.option("ellipsis_mask")
    count = len(begins)
    taken = sum(not (new | ellipsis) >> i & 1 for i in range(count))
    view.need(taken <= len(shape), f"it slices {taken} dimensions of {len(shape)}")
    result: list[Any] = []
    axis = 0
    for i in range(count):
        if ellipsis >> i & 1:
            result += [slice(None)] * (len(shape) - taken)
            axis += len(shape) - taken
            ellipsis, taken = 0, len(shape)  # a second one would stand for nothing
        elif new >> i & 1:
            result.append(None)
        else:
            masks = [bool(view.option(f"{name}_mask") >> i & 1) for name in ("begin", "end", "shrink_axis")]
            result.append(_range(view, shape[axis], (begins[i], ends[i], steps[i]), *masks))
            axis += 1
    return tuple(result)


def _range(
    view: View, size: int, bounds: tuple[int, int, int], from_start: bool, to_end: bool, shrink: bool
) -> slice | int:
    """One dimension: its mask bits, then negative bounds counted from the end, then clamping."""
    begin, end, step = bounds
    view.need(step != 0, "it has a stride of 0")
    low, high = (0, size) if step > 0 else (-1, size - 1)
    begin = min(max(begin + size if begin < 0 else begin, low), high)
    if from_start:
        begin = 0 if step > 0 else size - 1
    if shrink:
        view.need(0 <= begin < size and step > 0, f"it takes element {bounds[0]} of {size}, with a stride of {step}")
        return begin
    if view.option("offset"):  # the end is a length
        end += begin
        view.need(low <= end <= high, f"it takes {begin} to {end} of {size}")
    end = min(max(end + size if end < 0 else end, low), high)
    if to_end:
        end = size if step > 0 else -1
    return slice(begin, None if end < 0 else end, step) if begin >= 0 else slice(0, 0)


def _split(view: View, axis: int, data: Array, y: Sequence[Array]) -> Iterator[Move]:
    axis = axis_of(view, axis, data.ndim)
    start = 0
    for out in y:
        view.need(out.ndim == data.ndim, f"its output {list(out.shape)} has not {data.ndim} dimensions")
        end = start + out.shape[axis]
        yield out, along(data, axis, slice(start, end))
        start = end
    view.need(start == data.shape[axis], f"its outputs have {start} of {data.shape[axis]} along dimension {axis}")


class Split(Movement):
    names = ("SPLIT",)
    parameters = (0,)
    moved = (1,)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        yield from _split(view, number(view, 0), x[1], y)

    def cases(self) -> Iterator[Case]:
        for dtype, axis in itertools.product((DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32), range(-1, 4)):
            yield _split_case("SPLIT", (2, 4, 6, 2), axis, [(2, 4, 6, 2)[axis] // 2] * 2, dtype)
        yield _split_case("SPLIT", (48, 2), 0, [16] * 3, DType.INT8)
        yield _split_case("SPLIT", (3,), 0, [1] * 3, DType.INT8)
        yield _split_case("SPLIT", (3, 4), 0, [3], DType.UINT8)


class SplitV(Movement):
    names = ("SPLIT_V",)
    parameters = (1, 2)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        axis = axis_of(view, number(view, 2), x[0].ndim)
        sizes = integers(view, 1)
        made = [out.shape[axis] if out.ndim == x[0].ndim else 0 for out in y]
        fits = len(sizes) == len(made) and all(size in (-1, got) for size, got in zip(sizes, made, strict=True))
        view.need(fits, f"its outputs have the sizes {made}, not {sizes}")
        yield from _split(view, axis, x[0], y)

    def cases(self) -> Iterator[Case]:
        for dtype, axis in itertools.product((DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32), (0, 1, -1)):
            yield _split_case("SPLIT_V", (6, 5, 4), axis, [1, (6, 5, 4)[axis] - 3, 2], dtype)
        yield _split_case("SPLIT_V", (64,), 0, [16, 48], DType.INT8)
        yield _split_case("SPLIT_V", (64, 3), 0, [16, 32, -1], DType.INT8)
        yield _split_case("SPLIT_V", (4, 3), 1, [1, 1, 1], DType.UINT8)


def _split_case(op: str, shape: Sequence[int], axis: int, sizes: Sequence[int], dtype: DType) -> Case:
    g = CaseGraph()
    x = g.input(shape, dtype, *_quantized(dtype))
    axis_id = g.constant(np.array(axis), DType.INT32)
    left = shape[axis] - sum(size for size in sizes if size != -1)
    outputs = []
    for size in sizes:
        part = list(shape)
        part[axis] = left if size == -1 else size
        outputs.append(g.output(part, dtype, *_quantized(dtype)))
    name = f"{dtype.suffix}-{len(shape)}d-axis{axis}-{len(sizes)}"
    if op == "SPLIT":
        return g.case(name, op, [axis_id, x], outputs, {"num_splits": len(sizes)})
    sizes_id = g.constant(np.array(sizes), DType.INT32)
    return g.case(name, op, [x, sizes_id, axis_id], outputs, {"num_splits": len(sizes)})


class Unpack(Movement):
    names = ("UNPACK",)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        axis = axis_of(view, view.option("axis"), x[0].ndim)
        view.need(len(y) == x[0].shape[axis], f"it unpacks {x[0].shape[axis]} parts to {len(y)} outputs")
        for i, out in enumerate(y):
            yield out, along(x[0], axis, i)

    def cases(self) -> Iterator[Case]:
        for dtype, axis in itertools.product((DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32), range(-1, 3)):
            yield _unpack((2, 3, 4), axis, dtype)
        yield _unpack((3,), 0, DType.INT8)
        yield _unpack((3, 16), 0, DType.INT8)
        yield _unpack((1, 5), 0, DType.UINT8)


def _unpack(shape: Sequence[int], axis: int, dtype: DType) -> Case:
    g = CaseGraph()
    x = g.input(shape, dtype, *_quantized(dtype))
    part = list(shape)
    count = part.pop(axis)
    outputs = [g.output(part, dtype, *_quantized(dtype)) for _ in range(count)]
    return g.case(f"{dtype.suffix}-{len(shape)}d-axis{axis}", "UNPACK", [x], outputs, {"num": count, "axis": axis})


OPS = [Slice(), StridedSlice(), Split(), SplitV(), Unpack()]
