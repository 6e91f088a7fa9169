"""GATHER, GATHER_ND, EMBEDDING_LOOKUP, SCATTER_ND: elements that indices name, from or to anywhere in a tensor.

Indices that the model computes are checked on the device, which answers ML_ERR_INDEX to one that is out of range.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sdk.graph import Array, DType, Tensor
from sdk.lower import Lowering, Value
from sdk.ops.base import Bound, Case, CaseGraph, Kernel, Op, Range, View, read, write
from sdk.ops.movement import STRIDED_COPY, Move, Movement, axis_of, integers, progression
from sdk.ops.quantize import DEQUANTIZE_B8
from sdk.program import Field, Struct, fields

DEPTH = 6  # coordinates of an index

GATHER = Kernel(
    "gather",
    131,
    "gather.c",
    Struct(
        "ml_gather_args",
        (*fields("I", "outer", "share", "count", "depth", "index_words", "run"), Field("dims", "I", DEPTH)),
    ),
    (read("input", DType.INT8), read("indices", DType.INT32), write("output", DType.INT8)),
)
SCATTER_ADD = Kernel(
    "scatter_add",
    132,
    "gather.c",
    # dtype: an ml_dtype; run: in elements
    Struct("ml_scatter_add_args", (*fields("I", "dtype", "count", "depth", "run"), Field("dims", "I", DEPTH))),
    (read("indices", DType.INT32), read("updates", DType.INT8), write("output", DType.INT8)),
)


@dataclass(frozen=True)
class Form:
    """A look-up: y[o, i] = x[o, index], where x is [outer, dims..., inner] and y is [outer, count, inner].

    `share` consecutive o have the same indices; an index has a coordinate for each of `dims`.
    """

    x: Tensor
    indices: Tensor
    outer: int
    share: int
    dims: tuple[int, ...]
    count: int
    inner: int

    @property
    def places(self) -> int:
        return math.prod(self.dims)


def check_indices(view: View, tensor: Tensor, dims: Sequence[int]) -> None:
    """ModelError unless `tensor` can index `dims`, the coordinates being its last dimension."""
    view.need(tensor.dtype in (DType.INT32, DType.INT64), f"its indices are {tensor.dtype.numpy_name}")
    if len(dims) > DEPTH:
        raise view.unsupported(f"has indices of {len(dims)} coordinates, more than {DEPTH}")
    if tensor.data is not None and tensor.data.size and dims:
        rows = tensor.data.reshape(-1, len(dims))
        view.need(bool(np.all((rows >= 0) & (rows < np.array(dims)))), f"an index is outside {list(dims)}")


class Lookup(Movement):
    """Constant indices that are evenly spaced are a copy, or no step at all; all others are a gather step."""

    kernels: ClassVar[tuple[Kernel, ...]] = (GATHER, STRIDED_COPY)

    @abstractmethod
    def form(self, view: View) -> Form:
        """The look-up that the node is. ModelError where its shapes do not fit."""

    def known(self, view: View) -> bool:
        form = self.form(view)
        return form.indices.data is not None and form.share == form.outer

    def check(self, view: View) -> None:
        form = self.form(view)
        y = view.output()
        view.need(form.x.dtype is y.dtype, f"it makes {y.dtype.numpy_name} of {form.x.dtype.numpy_name}")
        fits = y.elements == form.outer * form.count * form.inner
        view.need(fits, f"its output {list(y.shape)} does not fit {form.count} of {list(form.x.shape)}")
        check_indices(view, form.indices, form.dims)

    def takes(self, view: View, index: int) -> Range | None:
        form = self.form(view)
        return (0, min(form.dims) - 1) if view.input(index) is form.indices else None

    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        """Of constant indices that all share: one move if they are evenly spaced, else one for each."""
        form = self.form(view)
        source = x[view.inputs.index(form.x)].reshape(form.outer, form.places, form.inner)
        target = y[0].reshape(form.outer, form.count, form.inner)
        table = _table(form)
        evenly = progression(table)
        if evenly is None:
            for i, place in enumerate(table.tolist()):
                yield target[:, i], source[:, place]
        else:
            part, repeat = source[:, evenly.slice], evenly.repeat
            shape = (form.outer, evenly.count, repeat, form.inner)
            yield target.reshape(shape), np.broadcast_to(part[:, :, None], shape)

    def lower(self, view: View, low: Lowering) -> None:
        form = self.form(view)
        self.check(view)
        if view.output().elements == 0:
            return
        view.need(form.places > 0, f"it takes elements of {list(form.x.shape)}, which has none")
        if self.known(view) and progression(_table(form)) is not None:
            super().lower(view, low)
            return
        self.add_gather(low, form, low.value(view.output()))

    @staticmethod
    def add_gather(low: Lowering, form: Form, target: Value) -> None:
        """Adds the step that writes y to `target`."""
        where, words = _operand(low, form.indices)
        args = {"outer": form.outer, "share": form.share, "count": form.count, "depth": len(form.dims)}
        args |= {"index_words": words, "run": form.inner * form.x.dtype.bytes}
        values = [low.value(form.x), where, target]
        low.step(GATHER, args | {"dims": _padded(form.dims)}, values)


def _table(form: Form) -> Array:
    """The places, counted in one number, that constant indices name."""
    assert form.indices.data is not None
    rows = form.indices.data.reshape(form.count, len(form.dims)).astype(np.int64)
    steps = [math.prod(form.dims[i + 1 :]) for i in range(len(form.dims))]
    table: Array = rows @ np.array(steps, np.int64)
    return table


def _operand(low: Lowering, tensor: Tensor) -> tuple[Value, int]:
    """Where indices lie, and the 32-bit words of each."""
    if tensor.data is not None:
        return low.constant(tensor.data.astype(np.int32)), 1
    return low.value(tensor), tensor.dtype.bytes // 4


def _padded(dims: Sequence[int]) -> list[int]:
    return [*dims, *[1] * (DEPTH - len(dims))]


class Gather(Lookup):
    names = ("GATHER",)

    def form(self, view: View) -> Form:
        x, indices = view.input(0), view.input(1)
        axis = axis_of(view, view.option("axis"), len(x.shape))
        rank = len(indices.shape)
        batch = view.option("batch_dims")
        batch += rank if batch < 0 else 0
        view.need(0 <= batch <= min(axis, rank), f"it has {batch} batch dimensions before dimension {axis}")
        view.need(x.shape[:batch] == indices.shape[:batch], "its input and its indices have different batches")
        batches, outer = math.prod(x.shape[:batch]), math.prod(x.shape[:axis])
        share = outer // batches if batches > 1 else outer
        count, inner = math.prod(indices.shape[batch:]), math.prod(x.shape[axis + 1 :])
        return Form(x, indices, outer, share, (x.shape[axis],), count, inner)

    def cases(self) -> Iterator[Case]:
        for dtype, axis in itertools.product((DType.INT8, DType.FLOAT32), (0, 1, 2, -1)):
            yield _gather((3, 4, 5), axis, (2, 1, 0, 2), dtype)
            yield _gather((3, 4, 5), axis, (0, 1, 2), dtype)
            yield _gather((3, 4, 5), axis, ((1, 0), (2, 2)), dtype, dynamic=DType.INT32)
        for dtype in (DType.INT32, DType.INT64, DType.BOOL, DType.UINT8, DType.INT16):
            yield _gather((4, 3), 0, (3, 0, 1), dtype)
        yield _gather((4, 3), 1, 2, DType.INT8)
        yield _gather((4, 3), 0, (2,), DType.FLOAT32, dynamic=DType.INT64)
        yield _gather((4, 3), 0, (3, 1), DType.INT8)
        yield _gather((4, 3), 0, (1, 1, 2, 2, 3, 3), DType.INT8)
        yield _gather((2, 3, 4), 1, ((2, 0), (1, 1)), DType.INT8, batch=1)
        yield _gather((2, 2, 3, 4), 2, ((2, 0), (1, 1)), DType.FLOAT32, batch=1, dynamic=DType.INT32)
        yield _gather((2, 3, 4), 1, ((2, 0, 1), (1, 1, 0)), DType.FLOAT32, batch=-1, dynamic=DType.INT32)


class GatherNd(Lookup):
    names = ("GATHER_ND",)

    def form(self, view: View) -> Form:
        x, indices = view.input(0), view.input(1)
        depth = indices.shape[-1] if indices.shape else 0
        view.need(0 < depth <= len(x.shape), f"it has indices {list(indices.shape)} into {list(x.shape)}")
        count = math.prod(indices.shape[:-1])
        return Form(x, indices, 1, 1, x.shape[:depth], count, math.prod(x.shape[depth:]))

    def cases(self) -> Iterator[Case]:
        for dtype, dynamic in itertools.product((DType.INT8, DType.FLOAT32), (None, DType.INT32)):
            yield _nd((3, 4, 5), ((0, 1, 2), (2, 3, 4), (1, 0, 0)), dtype, dynamic)
            yield _nd((3, 4, 5), ((2, 3), (0, 1)), dtype, dynamic)
            yield _nd((3, 4, 5), (((2,), (0,)), ((1,), (1,))), dtype, dynamic)
            yield _nd((3, 4), (1, 2), dtype, dynamic)
        yield _nd((3, 4, 5), ((2, 3), (0, 1)), DType.INT64, DType.INT64)
        yield _nd((3, 4, 5), ((2, 3), (0, 1)), DType.UINT8, None)
        yield _nd((2, 3, 2, 3, 2), ((1, 2, 1, 2, 1), (0, 1, 0, 1, 0)), DType.FLOAT32, DType.INT32)


class EmbeddingLookup(Lookup):
    names = ("EMBEDDING_LOOKUP",)
    kernels = (GATHER, STRIDED_COPY, DEQUANTIZE_B8)
    types = ("float32", "int8", "uint8", "int8 to float32")

    def form(self, view: View) -> Form:
        indices, x = view.input(0), view.input(1)
        view.need(len(indices.shape) == 1 and len(x.shape) >= 2, "it takes a list of rows, and a table of them")
        return Form(x, indices, 1, 1, x.shape[:1], indices.elements, math.prod(x.shape[1:]))

    @staticmethod
    def _hybrid(view: View) -> bool:
        return (view.input(1).dtype, view.output().dtype) == (DType.INT8, DType.FLOAT32)

    def check(self, view: View) -> None:
        if not self._hybrid(view):
            super().check(view)
            return
        form = self.form(view)
        view.need(form.x.zero_point == 0, f"its table {form.x.label} has a zero point")
        view.need(view.output().elements == form.count * form.inner, f"its output is {list(view.output().shape)}")
        check_indices(view, form.indices, form.dims)

    def lower(self, view: View, low: Lowering) -> None:
        form = self.form(view)
        if not self._hybrid(view) or view.output().elements == 0:
            super().lower(view, low)
            return
        count = form.count * form.inner
        rows = low.scratch(count)
        self.add_gather(low, form, rows)
        args = {"count": count, "flip": 0, "scale": form.x.scale, "offset": 0}
        low.step(DEQUANTIZE_B8, args, [rows, low.value(view.output())])

    def known(self, view: View) -> bool:
        return not self._hybrid(view) and super().known(view)

    def cases(self) -> Iterator[Case]:
        for shape in ((6, 4), (3, 2, 5)):
            for dtype in (DType.FLOAT32, DType.INT8, DType.UINT8):
                yield _embedding(shape, dtype, dtype)
            yield _embedding(shape, DType.INT8, DType.FLOAT32)


class ScatterNd(Op):
    """Output zero but for the updates, which add up where indices repeat."""

    names = ("SCATTER_ND",)
    kernels = (SCATTER_ADD,)
    types = ("int8", "int32", "int64", "float32")
    bound = Bound(0.0, 0.0, "the same additions in the same order")

    def check(self, view: View) -> None:
        indices, updates, y = view.input(0), view.input(1), view.output()
        view.need(indices.dtype is DType.INT32, f"its indices are {indices.dtype.numpy_name}")
        view.need(updates.dtype is y.dtype, f"it makes {y.dtype.numpy_name} of {updates.dtype.numpy_name}")
        depth = indices.shape[-1] if indices.shape else 0
        view.need(0 < depth <= len(y.shape), f"it has indices {list(indices.shape)} into {list(y.shape)}")
        shape = (*indices.shape[:-1], *y.shape[depth:])
        view.need(updates.shape == shape, f"its updates are {list(updates.shape)}, not {list(shape)}")
        check_indices(view, indices, y.shape[:depth])
        if view.input(2).data is not None:
            view.need(
                tuple(integers(view, 2)) == y.shape, f"its output {list(y.shape)} has not the shape that it names"
            )

    def lower(self, view: View, low: Lowering) -> None:
        indices, updates, y = view.input(0), view.input(1), view.output()
        self.check(view)
        if y.elements == 0:
            return
        if y.dtype not in (DType.INT8, DType.INT32, DType.INT64, DType.FLOAT32) or view.option("legacy_uint8"):
            raise view.unsupported(f"has no kernel for {view.dtypes()}")
        dims = y.shape[: indices.shape[-1]]
        args = {
            "dtype": y.dtype.number,
            "count": math.prod(indices.shape[:-1]),
            "depth": len(dims),
            "run": math.prod(y.shape[len(dims) :]),
            "dims": _padded(dims),
        }
        low.step(SCATTER_ADD, args, [low.value(indices), low.value(updates), low.value(y)])

    def cases(self) -> Iterator[Case]:
        for dtype in (DType.INT8, DType.INT32, DType.INT64, DType.FLOAT32):
            yield _scatter((5, 3), ((1,), (4,), (1,)), dtype)
            yield _scatter((2, 3, 4), ((1, 2), (0, 0)), dtype)
            yield _scatter((2, 3), (((1, 2), (0, 0)), ((1, 2), (1, 1))), dtype)


def _indices_of(g: CaseGraph, indices: Any, dynamic: DType | None) -> tuple[int, list[Array]]:
    """An operand for `indices`, and the values of the model's input that it is, if it is one."""
    data = np.array(indices)
    if dynamic is None:
        return g.constant(data, DType.INT32), []
    return g.input(data.shape, dynamic), [data.astype(dynamic.numpy)]


def _quantized(dtype: DType) -> float | None:
    return 0.5 if dtype in (DType.INT8, DType.UINT8, DType.INT16) else None


def _values(shape: Sequence[int], dtype: DType) -> Array:
    return np.random.default_rng(len(shape)).integers(0, 2 if dtype is DType.BOOL else 100, shape).astype(dtype.numpy)


def _gather(
    shape: tuple[int, ...], axis: int, indices: Any, dtype: DType, *, batch: int = 0, dynamic: DType | None = None
) -> Case:
    g = CaseGraph()
    x = g.input(shape, dtype, _quantized(dtype))
    where, more = _indices_of(g, indices, dynamic)
    rank = np.ndim(indices)
    after = np.shape(indices)[batch % rank if batch else 0 :]
    y = g.output((*shape[: axis % len(shape)], *after, *shape[axis % len(shape) + 1 :]), dtype, _quantized(dtype))
    name = f"{dtype.suffix}-{len(shape)}d-axis{axis}-{rank}d-{'dynamic' if dynamic else 'constant'}-batch{batch}"
    values = [(_values(shape, dtype), *more)]
    return g.case(name, "GATHER", [x, where], [y], {"axis": axis, "batch_dims": batch}, values)


def _nd(shape: Sequence[int], indices: Any, dtype: DType, dynamic: DType | None) -> Case:
    g = CaseGraph()
    x = g.input(shape, dtype, _quantized(dtype))
    where, more = _indices_of(g, indices, dynamic)
    after = np.shape(indices)
    y = g.output((*after[:-1], *shape[after[-1] :]), dtype, _quantized(dtype))
    name = f"{dtype.suffix}-{len(shape)}d-{'x'.join(map(str, after))}-{'dynamic' if dynamic else 'constant'}"
    return g.case(name, "GATHER_ND", [x, where], [y], {}, [(_values(shape, dtype), *more)])


def _embedding(shape: Sequence[int], table: DType, dtype: DType) -> Case:
    g = CaseGraph()
    rows = g.input((4,), DType.INT32)
    data = np.random.default_rng(1).integers(0, 100, shape)
    y = g.output((4, *shape[1:]), dtype, _quantized(dtype))
    inputs = [rows, g.constant(data, table, 0.37 if table is not dtype else _quantized(table))]
    values = [(np.array(each, np.int32),) for each in ((0, 2, 1, 2), (2, 2, 0, 0))]
    name = f"{table.suffix}-{dtype.suffix}-{len(shape)}d"
    return g.case(name, "EMBEDDING_LOOKUP", inputs, [y], {}, values)


def _scatter(shape: Sequence[int], indices: Any, dtype: DType) -> Case:
    g = CaseGraph()
    data = np.array(indices)
    where = g.input(data.shape, DType.INT32)
    updates = g.input((*data.shape[:-1], *shape[data.shape[-1] :]), dtype, _quantized(dtype))
    y = g.output(shape, dtype, _quantized(dtype))
    inputs = [where, updates, g.constant(np.array(shape), DType.INT32)]
    values = (data.astype(np.int32), _values(g.tensors[updates].shape, dtype))
    return g.case(f"{dtype.suffix}-{len(shape)}d-{data.ndim}d", "SCATTER_ND", inputs, [y], {}, [values])


OPS = [Gather(), GatherNd(), EmbeddingLookup(), ScatterNd()]
