"""SPACE_TO_DEPTH, DEPTH_TO_SPACE, SPACE_TO_BATCH_ND, BATCH_TO_SPACE_ND: pixels of a block become channels or images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sdk.graph import Array, DType
from sdk.ops.base import Case, CaseGraph, View
from sdk.ops.movement import Move, Movement, integers, zero


class SpaceDepth(Movement):
    names = ("SPACE_TO_DEPTH", "DEPTH_TO_SPACE")

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        block = view.option("block_size")
        to_depth = view.node.op == "SPACE_TO_DEPTH"
        wide, deep = (x[0], y[0]) if to_depth else (y[0], x[0])
        view.need(wide.ndim == deep.ndim == 4 and block > 0, "it takes four dimensions and a positive block size")
        n, height, width, channels = wide.shape
        shape = (n, height // block, width // block, channels * block * block)
        divides = height % block == 0 and width % block == 0
        view.need(
            divides and deep.shape == shape, f"{list(wide.shape)} and {list(deep.shape)} are not blocks of {block}"
        )
        blocks = wide.reshape(n, height // block, block, width // block, block, channels).transpose(0, 1, 3, 2, 4, 5)
        channel_blocks = deep.reshape(blocks.shape)
        yield (channel_blocks, blocks) if to_depth else (blocks, channel_blocks)

    def cases(self) -> Iterator[Case]:
        for dtype, block, (n, h, w, c) in itertools.product(
            (DType.INT8, DType.FLOAT32), (1, 2, 3), ((1, 1, 1, 1), (1, 2, 3, 1), (2, 3, 2, 3), (1, 1, 4, 4))
        ):
            wide, deep = (n, h * block, w * block, c), (n, h, w, c * block * block)
            yield _depth_case("SPACE_TO_DEPTH", wide, deep, block, dtype)
            yield _depth_case("DEPTH_TO_SPACE", deep, wide, block, dtype)
        yield _depth_case("SPACE_TO_DEPTH", (1, 4, 6, 3), (1, 2, 3, 12), 2, DType.UINT8)


def _depth_case(op: str, before: Sequence[int], after: Sequence[int], block: int, dtype: DType) -> Case:
    g = CaseGraph()
    scale = None if dtype is DType.FLOAT32 else 0.5
    x, y = g.input(before, dtype, scale), g.output(after, dtype, scale)
    name = f"{op.lower()}-{dtype.suffix}-{'x'.join(map(str, before))}-{block}"
    return g.case(name, op, [x], [y], {"block_size": block})


class SpaceBatch(Movement):
    """The batch of the deep side is (place in the block, image); pads or crops belong to the wide side."""

    names = ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND")
    parameters = (1, 2)

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        to_batch = view.node.op == "SPACE_TO_BATCH_ND"
        wide, deep = (x[0], y[0]) if to_batch else (y[0], x[0])
        block, edges = self._blocks(view, wide, deep)
        if to_batch and np.any(edges):
            yield deep, np.broadcast_to(zero(view.output()), deep.shape)
        for a, b in _by_place(deep, wide, block, edges) if np.any(edges) else _at_once(deep, wide, block):
            yield (a, b) if to_batch else (b, a)

    @staticmethod
    def _blocks(view: View, wide: Array, deep: Array) -> tuple[list[int], Array]:
        """(block shape, edges): edges are (before, after) of each blocked dimension."""
        block = integers(view, 1)
        count = len(block)
        view.need(wide.ndim == deep.ndim > count > 0, f"it blocks {count} of {wide.ndim} dimensions")
        numbers = integers(view, 2)
        view.need(len(numbers) == 2 * count, f"it has not two edges for each of {count} dimensions")
        edges = np.array(numbers).reshape(count, 2)
        view.need(min(block) > 0 and bool(np.all(edges >= 0)), f"its block {block} or an edge is negative")
        sizes = [n + int(sum(edge)) for n, edge in zip(wide.shape[1:], edges.tolist(), strict=False)]
        shape = (wide.shape[0] * int(np.prod(block)), *(n // b for n, b in zip(sizes, block, strict=True)))
        fits = all(n % b == 0 for n, b in zip(sizes, block, strict=True)) and deep.shape == (
            *shape,
            *wide.shape[count + 1 :],
        )
        view.need(fits, f"{list(wide.shape)} and {list(deep.shape)} are not blocks of {block}")
        return block, edges

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.FLOAT32):
            for shape, block, edges in (
                ((1, 4, 6, 3), (2, 3), ((0, 0), (0, 0))),
                ((2, 3, 5, 1), (2, 2), ((1, 0), (0, 1))),
                ((1, 5, 5, 2), (3, 3), ((2, 2), (1, 3))),
                ((1, 2, 2, 2), (2, 1), ((2, 4), (0, 1))),
                ((3, 4, 4, 5), (1, 1), ((0, 0), (0, 0))),
            ):
                yield _batch_case("SPACE_TO_BATCH_ND", shape, block, edges, dtype)
                yield _batch_case("BATCH_TO_SPACE_ND", shape, block, edges, dtype)
            yield _batch_case("SPACE_TO_BATCH_ND", (2, 5, 3), (3,), ((1, 0),), dtype)
            yield _batch_case("BATCH_TO_SPACE_ND", (2, 5, 3), (3,), ((1, 0),), dtype)
        yield _batch_case("SPACE_TO_BATCH_ND", (1, 3, 3, 2), (2, 2), ((0, 1), (1, 0)), DType.UINT8)


def _at_once(deep: Array, wide: Array, block: list[int]) -> Iterator[Move]:
    """The one pair of views that matches where there are no pads or crops."""
    count = len(block)
    inner = deep.shape[1 : count + 1]
    split = wide.reshape(wide.shape[0], *itertools.chain(*zip(inner, block, strict=True)), *wide.shape[count + 1 :])
    order = [*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count + 1, 2), *range(2 * count + 1, split.ndim)]
    blocks = split.transpose(order)
    yield deep.reshape(blocks.shape), blocks


def _by_place(deep: Array, wide: Array, block: list[int], edges: Array) -> Iterator[Move]:
    """A pair of views for each place in the block."""
    places = deep.reshape(*block, wide.shape[0], *deep.shape[1:])
    for place in itertools.product(*map(range, block)):
        parts = [_part(*each) for each in zip(place, block, edges[:, 0].tolist(), wide.shape[1:], strict=False)]
        a = places[place][(slice(None), *(inner for inner, _ in parts))]
        yield a, wide[(slice(None), *(outer for _, outer in parts))]


def _part(place: int, block: int, before: int, size: int) -> tuple[slice, slice]:
    """(of the deep side, of the wide side): the positions of one dimension that `place` in the block holds."""
    first = -(-max(before - place, 0) // block)
    start = first * block + place - before
    count = max(-(-(size - start) // block), 0)
    return slice(first, first + count), slice(start, start + count * block, block)


def _batch_case(
    op: str, wide: Sequence[int], block: Sequence[int], edges: Sequence[Sequence[int]], dtype: DType
) -> Case:
    g = CaseGraph()
    # tflite-micro pads int8 with memory that it never sets, which is 0 mostly.
    quantization = {DType.INT8: (0.5, 0), DType.UINT8: (0.5, 3)}.get(dtype, (None, 0))
    sizes = [(n + sum(edge)) // b for n, b, edge in zip(wide[1:], block, edges, strict=False)]
    deep = (wide[0] * int(np.prod(block)), *sizes, *wide[len(block) + 1 :])
    before, after = (wide, deep) if op == "SPACE_TO_BATCH_ND" else (deep, wide)
    numbers = [g.constant(np.array(each), DType.INT32) for each in (block, edges)]
    inputs = [g.input(before, dtype, *quantization), *numbers]
    y = g.output(after, dtype, *quantization)
    name = f"{op.lower()}-{dtype.suffix}-{'x'.join(map(str, wide))}-{'x'.join(map(str, block))}"
    return g.case(name, op, inputs, [y])


OPS = [SpaceDepth(), SpaceBatch()]
