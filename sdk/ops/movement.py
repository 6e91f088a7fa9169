"""What operators that only move data share: they describe themselves as numpy views, and one kernel executes them.

An operator yields pairs of views (target, source) of its outputs and inputs. Lowering reads strides and offsets off the
views and makes a `strided_copy` step of each pair, or no step where an output is a contiguous part of an input. Folding
executes the same pairs on the constants themselves. So there is one description, and it is plain numpy.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sdk.errors import ModelError
from sdk.graph import Array, DType, Tensor
from sdk.ops.base import Kernel, Op, View, read, write
from sdk.overlap import Overlap
from sdk.program import ALIGNMENT, Field, Region, Struct, fields

if TYPE_CHECKING:
    from sdk.lower import Lowering, Value

LOOPS = 5  # of the kernel, around the contiguous run
RUNS_FOLLOWED = 1 << 20  # when asking how a copy's output may overlap its input

STRIDED_COPY_ARGS = Struct(
    "ml_strided_copy_args",
    (
        *fields("I", "run"),  # contiguous bytes
        Field("count", "I", LOOPS),  # outermost first; 1 for loops that are not used
        Field("to_step", "I", LOOPS),  # bytes
        Field("from_step", "i", LOOPS),
        *fields("I", "from_start"),  # bytes; not 0 where a step is negative
    ),
)
STRIDED_COPY = Kernel(
    "strided_copy", 130, "strided_copy.c", STRIDED_COPY_ARGS, (read("from", DType.INT8), write("to", DType.INT8))
)

# A view of an output, and the view of an input (or of an earlier part of an output, or of a literal) that goes there.
Move = tuple[Array, Array]


class Movement(Op):
    """An operator whose outputs consist of elements of its inputs. `moves` is all that a subclass must add."""

    kernels: ClassVar[tuple[Kernel, ...]] = (STRIDED_COPY,)
    types: ClassVar[tuple[str, ...]] = ("all",)
    # Inputs that `moves` reads as numbers, by position: constants, at the latest when the graph is folded.
    parameters: ClassVar[tuple[int, ...]] = ()
    # Inputs whose elements move, by position: they have the outputs' type.
    moved: ClassVar[tuple[int, ...]] = (0,)

    @abstractmethod
    def moves(self, view: View, x: Sequence[Array], y: Sequence[Array]) -> Iterator[Move]:
        """The moves from inputs `x` to outputs `y`, which have the tensors' shapes but whose values mean nothing."""

    def known(self, view: View) -> bool:
        """Whether `moves` can say what the node does: not before all that it needs is constant."""
        return all(view.input(index).data is not None for index in self.parameters if view.has(index))

    def check(self, view: View) -> None:
        for index in self.moved:
            a = view.input(index)
            for b in view.outputs:
                view.need(a.dtype is b.dtype, f"it makes {b.dtype.numpy_name} of {a.dtype.numpy_name}")
        if self.known(view):
            self._moves(view, _stand_ins(view))

    def reserve(self, view: View, low: Lowering) -> None:
        """Where the output consists of whole inputs, those that are contiguous in it can be made there."""
        if len(view.node.outputs) > 1 or not self.known(view):
            return
        y = view.output()
        arrays = inputs, outputs = _stand_ins(view)
        parts = _parts(self._moves(view, arrays), inputs, outputs[0])
        if len(parts) == 1 and y.id not in low.values:
            return  # a view, which passes on what is reserved for it and nothing else
        for target, source in parts:
            offset = _offset(target, outputs[0])
            if offset is not None and target.flags.c_contiguous:
                low.reserve(view.inputs[source], low.value(y).part(offset, target.nbytes))

    def lower(self, view: View, low: Lowering) -> None:
        self.add_moves(view, low, {})

    def add_moves(self, view: View, low: Lowering, changed: Mapping[int, Value]) -> None:
        """Adds the steps of all moves, or makes views; `changed` has what to take in place of input tensors, by id."""
        self.check(view)  # again: there may be more constants now, and other types
        arrays = _stand_ins(view)
        moves = self._moves(view, arrays)
        if changed or not _alias(view, low, arrays, moves):
            places = _Places(view, low, arrays, changed)
            for target, source in moves:
                places.copy(target, source)

    def unchanged(self, view: View) -> Tensor | None:
        if not self.known(view):
            return None
        arrays = x, y = _stand_ins(view)
        moves = self._moves(view, arrays)
        if len(moves) != 1 or len(y) != 1 or not _whole(moves[0][0], y[0]):
            return None
        same = (tensor for array, tensor in zip(x, view.inputs, strict=True) if _whole(moves[0][1], array))
        return next(same, None)

    def fold(self, view: View, inputs: Sequence[Array]) -> Sequence[Array] | None:
        if not self.known(view):
            return None
        arrays = _stand_ins(view)
        for target, source in self._moves(view, arrays):
            target[...] = source
        return arrays[1]

    def _moves(self, view: View, arrays: Arrays) -> list[Move]:
        """All moves that move anything, the two views of each in one shape. ModelError where the shapes do not fit."""
        result = []
        try:
            for target, source in self.moves(view, *arrays):
                view.need(
                    _squeezed(target.shape) == _squeezed(source.shape),
                    f"its output {_shapes(arrays[1])} does not fit what it makes of {_shapes(arrays[0])}: "
                    f"{list(source.shape)} goes where {list(target.shape)} is",
                )
                if target.size:
                    result.append((target.reshape(source.shape), source))
        except (ValueError, IndexError) as error:
            raise ModelError(f"{view.label}: its shapes do not fit: {error}") from error
        return result


Arrays = tuple[list[Array], list[Array]]


def along(array: Array, axis: int, index: int | slice) -> Array:
    """The part `index` of `array` along `axis`: a view, even where it is one element."""
    key: tuple[Any, ...] = (*[slice(None)] * axis, index, ...)
    view: Array = array[key]
    return view


def axis_of(view: View, axis: int, rank: int) -> int:
    """`axis`, counted from the end where it is negative. ModelError if there is no such dimension among `rank`."""
    view.need(-rank <= axis < rank, f"it names dimension {axis} of {rank}")
    return axis % rank


@dataclass(frozen=True)
class Progression:
    """`count` numbers from `start` on, `step` apart, each `repeat` times in a row."""

    start: int
    step: int
    count: int
    repeat: int

    @property
    def slice(self) -> slice:
        """The numbers without their repeats, as numpy takes them of an axis."""
        end = self.start + self.step * self.count
        return slice(self.start, end if end >= 0 else None, self.step)


def progression(table: Array) -> Progression | None:
    """What `table` is if it is evenly spaced. Indices in such an order are strides, and need no table."""
    if table.size == 0:
        return None
    changes = np.flatnonzero(np.diff(table))
    repeat = int(changes[0]) + 1 if changes.size else table.size
    start = int(table[0])
    step = int(table[repeat]) - start if changes.size else 1
    found = Progression(start, step, -(-table.size // repeat), repeat)
    same = np.repeat(start + step * np.arange(found.count), repeat)
    return found if np.array_equal(same, table) else None


def zero(tensor: Tensor) -> Array:
    """The stored value that means 0 in `tensor`."""
    return np.array(0 if tensor.quantization is None else tensor.zero_point, tensor.dtype.numpy)


def integers(view: View, index: int) -> list[int]:
    """The values of a constant input of int32 or int64, flattened."""
    data = view.constant(index)
    view.need(data.dtype in (np.int32, np.int64), f"its {view.input(index).label} is {data.dtype}, not int32 or int64")
    return [int(value) for value in data.reshape(-1)]


def number(view: View, index: int) -> int:
    """The value of an input that is one constant number."""
    data = integers(view, index)
    view.need(len(data) == 1, f"its {view.input(index).label} is not one number")
    return data[0]


def _stand_ins(view: View) -> Arrays:
    """Arrays in the shapes of the node's inputs and outputs: constants' own data, memory that is never touched else."""
    x = [np.empty(t.shape, t.dtype.numpy) if t.data is None else t.data for t in view.inputs]
    return x, [np.empty(t.shape, t.dtype.numpy) for t in view.outputs]


def _squeezed(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _shapes(arrays: Sequence[Array]) -> str:
    return ", ".join(str(list(array.shape)) for array in arrays)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _offset(part: Array, base: Array) -> int | None:
    """Where `part` starts in `base`, in bytes; None if it does not lie there."""
    offset = _address(part) - _address(base)
    return offset if 0 <= offset < base.nbytes else None


def _whole(part: Array, base: Array) -> bool:
    return _offset(part, base) == 0 and part.nbytes == base.nbytes and part.flags.c_contiguous


def _parts(moves: Sequence[Move], inputs: Sequence[Array], output: Array) -> list[tuple[Array, int]]:
    """(view of the output, number of the input) of each move; none unless all take whole inputs, and none overlaps."""
    found = []
    for target, source in moves:
        whole = next((i for i, array in enumerate(inputs) if _whole(source, array)), None)
        if whole is None:
            return []
        found.append((target, whole))
    return found if sum(target.nbytes for target, _ in found) == output.nbytes else []


def _alias(view: View, low: Lowering, arrays: Arrays, moves: Sequence[Move]) -> bool:
    """Makes every output a view of an input where each is one contiguous part of one. False if that cannot be.

    A part keeps all of its input alive, so a small one is better copied.
    """
    x, y = arrays
    if len(moves) != len(y) or not all(_whole(target, out) for (target, _), out in zip(moves, y, strict=True)):
        return False
    found = []
    made = view.graph.producers()
    for (_, source), tensor in zip(moves, view.outputs, strict=True):
        base = next((i for i, array in enumerate(x) if _offset(source, array) is not None), None)
        if base is None or not source.flags.c_contiguous:
            return False
        if view.inputs[base].variable and view.inputs[base].id not in made:
            return False  # operators that take a variable also write it
        offset = _offset(source, x[base])
        assert offset is not None
        value = low.value(view.inputs[base]).part(offset, source.nbytes)
        at = value.offset + (value.buffer if value.region is Region.PROGRAM else 0)
        if tensor.id in view.graph.outputs and at % ALIGNMENT:
            return False
        found.append((tensor, value))
    small = sum(array.nbytes for array in y) * 2 < max(array.nbytes for array in x)
    if small and not view.option("view"):
        return False
    for tensor, value in found:
        low.alias(tensor, value)
    return True


@dataclass(frozen=True)
class _Loop:
    count: int
    to: int  # steps, in bytes
    of: int

    def holds(self, inner: _Loop) -> bool:
        """Whether this loop around `inner` is one longer loop."""
        return self.to == inner.to * inner.count and self.of == inner.of * inner.count


def _loops(target: Array, source: Array) -> tuple[int, list[_Loop]]:
    """(contiguous bytes, loops around them) that copy `source` to `target`: the fewest loops, outermost first."""
    steps = zip(target.shape, target.strides, source.strides, strict=True)
    merged: list[_Loop] = []
    for loop in sorted((_Loop(*each) for each in steps if each[0] > 1), key=lambda each: -each.to):
        if merged and merged[-1].holds(loop):
            loop = _Loop(loop.count * merged.pop().count, loop.to, loop.of)
        merged.append(loop)
    run = target.itemsize
    if merged and merged[-1].to == merged[-1].of == run:
        run *= merged.pop().count
    return run, merged


class _Places:
    """Where the arrays that stand for a node's tensors lie."""

    def __init__(self, view: View, low: Lowering, arrays: Arrays, changed: Mapping[int, Value]) -> None:
        self.low = low
        self.changed = changed
        used = {*view.graph.outputs, *view.graph.consumers()}
        self.unused = [array for array, tensor in zip(arrays[1], view.outputs, strict=True) if tensor.id not in used]
        tensors = [*view.outputs, *view.inputs]
        self.known = [(array, tensor) for array, tensor in zip([*arrays[1], *arrays[0]], tensors, strict=True)]

    def _find(self, part: Array) -> tuple[Value, int] | None:
        for array, tensor in self.known:
            offset = _offset(part, array)
            if offset is not None:
                return self.changed.get(tensor.id) or self.low.value(tensor), offset
        return None

    def copy(self, target: Array, source: Array) -> None:
        """Adds the steps that copy `source` to `target`, unless nothing ever reads it."""
        if any(_offset(target, array) is not None for array in self.unused):
            return
        place = self._find(target)
        assert place is not None
        origin = self._find(source)
        if origin is None:  # a literal: its distinct elements join the program
            once = source[tuple(slice(0, None if step else 1) for step in source.strides)].copy()
            source = np.broadcast_to(once, source.shape)
            origin = self.low.constant(once), 0
        run, loops = _loops(target, source)
        add_copy(self.low, origin, place, run, loops)


def add_copy(low: Lowering, origin: tuple[Value, int], place: tuple[Value, int], run: int, loops: list[_Loop]) -> None:
    """Adds steps for `loops` around runs of `run` bytes, from byte offset `origin[1]` of `origin[0]` to `place`."""
    if len(loops) > LOOPS:
        shortest = min(range(len(loops)), key=lambda i: loops[i].count)
        loop = loops[shortest]
        for i in range(loop.count):
            start, end = (origin[0], origin[1] + i * loop.of), (place[0], place[1] + i * loop.to)
            add_copy(low, start, end, run, loops[:shortest] + loops[shortest + 1 :])
        return
    reaches = [(loop.count - 1) * loop.of for loop in loops]
    back = -sum(reach for reach in reaches if reach < 0)
    source = origin[0].part(origin[1] - back, back + run + sum(reach for reach in reaches if reach > 0))
    target = place[0].part(place[1], run + sum((loop.count - 1) * loop.to for loop in loops))
    if source == target and not loops:  # made in its place
        return
    ahead = _ahead_bytes(run, loops, back)
    overlaps = [] if ahead is None else [Overlap(0, 1, ahead)]
    low.step(STRIDED_COPY, _args(run, loops, back), [source, target], overlaps=overlaps)


def _ahead_bytes(run: int, loops: Sequence[_Loop], from_start: int) -> int | None:
    """The `Overlap.ahead_bytes` of a copy, which reads each run before it writes it; None for one of too many runs."""
    if math.prod(loop.count for loop in loops) > RUNS_FOLLOWED:
        return None
    to, of = np.zeros(1, np.int64), np.full(1, from_start)
    for loop in loops:
        turns = np.arange(loop.count)
        to = np.add.outer(to, turns * loop.to).reshape(-1)
        of = np.add.outer(of, turns * loop.of).reshape(-1)
    ahead = np.maximum.accumulate(to)[:-1] + run - of[1:]
    return int(ahead.max(initial=-int(of[0]) - run))


def _args(run: int, loops: list[_Loop], from_start: int) -> dict[str, Any]:
    padded = [_Loop(1, 0, 0)] * (LOOPS - len(loops)) + loops
    return {
        "run": run,
        "count": [loop.count for loop in padded],
        "to_step": [loop.to for loop in padded],
        "from_step": [loop.of for loop in padded],
        "from_start": from_start,
    }


def copy_args(target: Array, source: Array) -> dict[str, Any] | None:
    """The arguments of a copy whose steps are not negative; None if it takes more loops than the kernel has."""
    run, loops = _loops(target, source)
    return _args(run, loops, 0) if len(loops) <= LOOPS else None
