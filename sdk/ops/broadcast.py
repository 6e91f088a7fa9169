"""Shapes of elementwise operators: how arrays are broadcast to one, as the kernels of walk.h take it."""

from __future__ import annotations

from collections.abc import Sequence

from sdk.graph import Tensor
from sdk.ops.base import View
from sdk.program import Field

DIMS = 6  # ML_WALK_DIMS
Shape = tuple[int, ...]


def walk_field(sources: int) -> Field:
    """The argument that holds the shape of a walk over `sources` inputs: dimensions, then strides of each input."""
    return Field("shape", "I", DIMS * (1 + sources))


def broadcast(*shapes: Shape) -> Shape | None:
    """The shape that numpy's rules make of `shapes`; None where they do not fit together."""
    rank = max(map(len, shapes))
    result = []
    for sizes in zip(*(_aligned(shape, rank) for shape in shapes), strict=True):
        wide = {size for size in sizes if size != 1} or {1}
        if len(wide) > 1:
            return None
        result.append(wide.pop())
    return tuple(result)


def _aligned(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + shape


def check(view: View, inputs: Sequence[Tensor]) -> None:
    """ModelError unless the node's output has the shape that its inputs make."""
    y = view.output()
    shapes = " and ".join(str(list(tensor.shape)) for tensor in inputs)
    made = broadcast(*(tensor.shape for tensor in inputs))
    view.need(made is not None, f"its inputs' shapes {shapes} do not fit together")
    view.need(made == y.shape, f"its output {list(y.shape)} is not what its inputs {shapes} make")
    view.need(y.elements > 0, "its output is empty")


def walk(view: View, output: Shape, inputs: Sequence[Shape]) -> list[int]:
    """The shape argument: at most 6 dimensions, where neighbours that are walked alike have become one."""
    dims: list[int] = []
    strides: list[list[int]] = [[] for _ in inputs]
    aligned = [_strides(_aligned(shape, len(output))) for shape in inputs]
    for axis, size in enumerate(output):
        steps = [each[axis] for each in aligned]
        if size == 1:
            continue
        if dims and all(outer[-1] == inner * size for outer, inner in zip(strides, steps, strict=True)):
            dims[-1] *= size
            for outer, inner in zip(strides, steps, strict=True):
                outer[-1] = inner
        else:
            dims.append(size)
            for outer, inner in zip(strides, steps, strict=True):
                outer.append(inner)
    if len(dims) > DIMS:
        raise view.unsupported(f"broadcasts in {len(dims)} groups of dimensions; at most {DIMS} are possible")
    empty = DIMS - len(dims)
    return [1] * empty + dims + [step for each in strides for step in [0] * empty + each]


def _strides(shape: Shape) -> list[int]:
    """Elements between neighbours along each dimension; 0 along those of size 1."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step if size != 1 else 0)
        step *= size
    return strides[::-1]
