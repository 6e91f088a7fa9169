"""PAD, PADV2, MIRROR_PAD: a tensor in the middle of a larger one, with a constant or its own reflection around it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType
from sdk.ops.base import Case, CaseGraph, View
from sdk.ops.movement import Move, Movement, integers, zero

REFLECT, SYMMETRIC = range(2)  # MirrorPadMode


def paddings(view: View) -> list[tuple[int, int]]:
    """(before, after) of each dimension. ModelError where there are not as many as dimensions, or one is negative."""
    data = integers(view, 1)
    rank = len(view.input(0).shape)
    view.need(len(data) == 2 * rank, f"its paddings have {len(data)} values for {rank} dimensions")
    pairs = list(zip(data[::2], data[1::2], strict=True))
    view.need(all(min(pair) >= 0 for pair in pairs), f"its paddings {pairs} are negative")
    return pairs


def middle(view: View, x: Array, y: Array) -> Array:
    """The part of `y` where `x` goes. ModelError if `y` has not the shape that the paddings give."""
    pairs = paddings(view)
    shape = tuple(before + size + after for (before, after), size in zip(pairs, x.shape, strict=True))
    view.need(y.shape == shape, f"its output is {list(y.shape)}, not {list(shape)}")
    return y[tuple(slice(before, before + size) for (before, _), size in zip(pairs, x.shape, strict=True))]


class Pad(Movement):
    names = ("PAD", "PADV2")
    parameters = (1,)

    def check(self, view: View) -> None:
        super().check(view)
        if view.has(2):
            x, value, y = view.input(0), view.input(2), view.output()
            view.need(
                value.elements == 1 and value.dtype is x.dtype, f"its padding {value.label} is not one such value"
            )
            if x.dtype in (DType.INT8, DType.UINT8) and y.quantization is not None:
                view.need(
                    view.same_quantization(value, y), f"its padding {value.label} has another scale than its output"
                )

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        inside = middle(view, x[0], y[0])
        if inside.size != y[0].size:
            yield y[0], np.broadcast_to(x[2].reshape(()) if view.has(2) else zero(view.output()), y[0].shape)
        yield inside, x[0]

    def cases(self) -> Iterator[Case]:
        grid = (
            ((1, 4, 3, 2), ((0, 0), (1, 2), (0, 1), (0, 0))),
            ((2, 3), ((1, 0), (0, 3))),
            ((3, 1, 2, 5), ((1, 1),) * 4),
        )
        for (shape, pads), dtype in itertools.product(grid, (DType.INT8, DType.INT16, DType.FLOAT32, DType.INT32)):
            yield _pad_case("PAD", shape, pads, dtype)
            yield _pad_case("PADV2", shape, pads, dtype, value=7)
        for dtype in (DType.INT64, DType.UINT8):
            yield _pad_case("PAD", *grid[0], dtype)
        yield _pad_case("PADV2", *grid[0], DType.UINT8, value=200)
        yield _pad_case("PAD", (1, 2, 3, 2, 2), ((0, 1), (1, 0), (2, 2), (0, 3), (1, 1)), DType.INT8)
        yield _pad_case("PAD", (2, 3), ((0, 0), (0, 0)), DType.INT8)
        yield _pad_case("PAD", (1, 1, 1, 1), ((0, 0), (0, 5), (7, 0), (0, 2)), DType.INT8)
        yield _pad_case("PADV2", (2, 3), ((2, 1), (1, 4)), DType.FLOAT32)
        yield _pad_case("PADV2", (2, 3), ((2, 1), (1, 4)), DType.INT8)


def _pad_case(
    op: str, shape: Sequence[int], pads: Sequence[Sequence[int]], dtype: DType, value: int | None = None, mode: int = 0
) -> Case:
    """A padding; PADV2 without `value` takes it from an input of the model."""
    g = CaseGraph()
    quantization = {DType.INT8: (0.5, -3), DType.UINT8: (0.5, 130), DType.INT16: (0.5, 0)}.get(dtype, (None, 0))
    inputs: list[int | None] = [g.input(shape, dtype, *quantization), g.constant(np.array(pads), DType.INT32)]
    if value is not None:
        inputs.append(g.constant(np.array([value]), dtype, *quantization))
    elif op == "PADV2":
        inputs.append(g.input((1,), dtype, *quantization))
    y = g.output([before + n + after for (before, after), n in zip(pads, shape, strict=True)], dtype, *quantization)
    name = f"{op.lower()}-{dtype.suffix}-{'x'.join(map(str, shape))}-{mode}" + (
        "-dynamic" if len(g.input_ids) > 1 else ""
    )
    return g.case(name, op, inputs, [y], {"mode": mode} if op == "MIRROR_PAD" else {})


class MirrorPad(Movement):
    """First the middle, then dimension by dimension what lies before and after it, from the output itself."""

    names = ("MIRROR_PAD",)
    parameters = (1,)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        yield middle(view, x[0], y[0]), x[0]
        skip = 1 if view.option("mode") == REFLECT else 0
        pairs = paddings(view)
        for axis, ((before, after), size) in enumerate(zip(pairs, x[0].shape, strict=True)):
            view.need(max(before, after) <= size - skip, f"it mirrors more than dimension {axis} of {size} holds")
            # Dimensions before this one are filled already, those after it only in the middle.
            outer = [slice(None)] * axis
            inner = [slice(b, b + n) for (b, _), n in zip(pairs[axis + 1 :], x[0].shape[axis + 1 :], strict=True)]

            def part(start: int, end: int, outer: list[slice] = outer, inner: list[slice] = inner) -> Array:
                return y[0][(*outer, slice(start, end), *inner)]

            last = before + size
            yield part(0, before), np.flip(part(before + skip, 2 * before + skip), axis)
            yield part(last, last + after), np.flip(part(last - skip - after, last - skip), axis)

    def cases(self) -> Iterator[Case]:
        for mode, dtype in itertools.product((REFLECT, SYMMETRIC), (DType.INT8, DType.FLOAT32)):
            for shape, pads in (
                ((1, 4, 3, 2), ((0, 0), (3, 2), (1, 2), (0, 0))),
                ((3, 4), ((2, 1), (0, 3))),
                ((2, 2, 3, 2), ((1, 1), (0, 1), (2, 0), (1, 1))),
                ((1, 5, 1, 1), ((0, 0), (4, 4), (0, 0), (0, 0))),
            ):
                yield _pad_case("MIRROR_PAD", shape, pads, dtype, mode=mode)
        yield _pad_case("MIRROR_PAD", (3, 2), ((3, 3), (2, 2)), DType.INT8, mode=SYMMETRIC)


OPS = [Pad(), MirrorPad()]
