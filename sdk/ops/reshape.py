"""RESHAPE, SQUEEZE, EXPAND_DIMS: the same bytes under another shape; a view, which costs no step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sdk.graph import Array, DType
from sdk.ops.base import Case, CaseGraph, View
from sdk.ops.movement import Move, Movement


class Reshape(Movement):
    """The model's own shape of the output is what counts: shape operands may be computed, and folded later."""

    names = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        a, b = x[0], y[0]
        view.need(a.size == b.size, f"it makes {list(b.shape)} of {list(a.shape)}, another number of elements")
        yield b.reshape(-1), a.reshape(-1)

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.FLOAT32):
            for before, after, shape in (
                ((2, 6), (3, 4), (3, -1)),
                ((1, 1, 5), (5,), (-1,)),
                ((4,), (1, 2, 2, 1), (1, 2, 2, 1)),
                ((1, 1), (), ()),
            ):
                yield _case("RESHAPE", before, after, shape, dtype, {"new_shape": shape})
        yield _case("RESHAPE", (2, 6), (3, 4), None, DType.INT8, {"new_shape": (3, 4)})
        for dims, squeezed in (((0, 2), (3, 2)), ((-4,), (3, 1, 2)), ((), (3, 2))):
            yield _case("SQUEEZE", (1, 3, 1, 2), squeezed, None, DType.INT8, {"squeeze_dims": dims})
        for axis, expanded in ((0, (1, 3, 2)), (1, (3, 1, 2)), (2, (3, 2, 1)), (-1, (3, 2, 1)), (-3, (1, 3, 2))):
            yield _case("EXPAND_DIMS", (3, 2), expanded, axis, DType.INT8, {})


def _case(
    op: str,
    before: Sequence[int],
    after: Sequence[int],
    operand: Sequence[int] | int | None,
    dtype: DType,
    options: dict[str, Any],
) -> Case:
    g = CaseGraph()
    scale = None if dtype in (DType.FLOAT32, DType.INT32) else 0.5
    inputs = [g.input(before, dtype, scale)]
    if operand is not None:
        inputs.append(g.constant(np.array(operand), DType.INT32))
    y = g.output(after, dtype, scale)
    name = f"{op.lower()}-{dtype.suffix}-{'x'.join(map(str, before))}-{'x'.join(map(str, after))}-{operand}"
    return g.case(name, op, inputs, [y], options)


OPS = [Reshape()]
