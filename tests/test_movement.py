"""Operators that move data: when they cost no step, and what they fold to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
import pytest

from sdk.errors import DeviceError, ModelError, UnsupportedError
from sdk.graph import DType, Graph, Node
from sdk.link.device import Device
from sdk.load import load_bytes
from sdk.lower import lower
from sdk.ops import registry
from sdk.ops.base import CaseGraph
from sdk.oracle import Oracle
from sdk.passes import run_all
from sdk.verify import verify
from sdk.write import write

LOWER = sys.modules["sdk.lower"]  # the package has a function of that name


def split(rows: int, columns: int, parts: int, axis: int = 0) -> Graph:
    """SPLIT of an int8 [rows, columns] input, its parts joined again by a CONCATENATION of them backwards."""
    g = CaseGraph()
    x = g.input((rows, columns), DType.INT8, 0.5, 0)
    shape = (rows // parts, columns) if axis == 0 else (rows, columns // parts)
    middle = [g.tensor(shape, DType.INT8, 0.5, 0) for _ in range(parts)]
    y = g.output((rows, columns), DType.INT8, 0.5, 0)
    nodes = [
        Node("SPLIT", (g.constant(np.array(axis), DType.INT32), x), tuple(middle), {"num_splits": parts}, 0),
        Node("CONCATENATION", tuple(reversed(middle)), (y,), {"axis": axis, "fused_activation_function": 0}, 1),
    ]
    return g.case_of(nodes, "split").graph


def kernels(graph: Graph) -> list[str]:
    return [step.kernel for step in lower(graph).steps]


def test_parts_along_the_outermost_axis_are_views() -> None:
    assert len(kernels(split(6, 5, 3))) == 3  # the concatenation's copies alone
    assert len(kernels(split(5, 6, 3, axis=1))) == 6


@pytest.mark.parametrize(("columns", "copies"), [(16, 0), (5, 2)])
def test_a_view_that_is_an_output_is_aligned_or_copied(columns: int, copies: int) -> None:
    g = CaseGraph()
    x = g.input((2, columns), DType.INT8, 0.5, 0)
    outputs = [g.output((columns,), DType.INT8, 0.5, 0) for _ in range(2)]
    lowered = lower(g.case("unpack", "UNPACK", [x], outputs, {"num": 2, "axis": 0}).graph)
    assert len(lowered.steps) == copies
    assert all(spec.operand.offset % 16 == 0 for spec in lowered.outputs)


def test_a_small_part_does_not_keep_its_input_alive() -> None:
    g = CaseGraph()
    x = g.input((100, 16), DType.INT8, 0.5, 0)
    begin, size = g.constant(np.array([99, 0]), DType.INT32), g.constant(np.array([1, 16]), DType.INT32)
    y = g.output((1, 16), DType.INT8, 0.5, 0)
    assert kernels(g.case("last", "SLICE", [x, begin, size], [y]).graph) == ["strided_copy"]


def shape_chain() -> Graph:
    """RESHAPE by PACK(STRIDED_SLICE(SHAPE(x)), -1), as Keras 3 writes a Flatten."""
    g = CaseGraph()
    x, y = g.input((2, 3, 4), DType.FLOAT32), g.output((2, 12), DType.FLOAT32)
    shape, first, packed = (g.tensor(s, DType.INT32) for s in ((3,), (), (2,)))
    bounds = [g.constant(np.array([n]), DType.INT32) for n in (0, 1, 1)]
    masks = {"begin_mask": 0, "end_mask": 0, "ellipsis_mask": 0, "new_axis_mask": 0, "shrink_axis_mask": 1}
    nodes = [
        Node("SHAPE", (x,), (shape,), {"out_type": 2}, 0),
        Node("STRIDED_SLICE", (shape, *bounds), (first,), masks, 1),
        Node("PACK", (first, g.constant(np.array(-1), DType.INT32)), (packed,), {"values_count": 2, "axis": 0}, 2),
        Node("RESHAPE", (x, packed), (y,), {"new_shape": ()}, 3),
    ]
    return g.case_of(nodes, "chain").graph


def test_shape_chains_vanish() -> None:
    folded = run_all(shape_chain(), registry())
    assert [node.op for node in folded.nodes] == ["RESHAPE"]
    packed = folded.tensor(folded.nodes[0].inputs[1]).data
    assert packed is not None
    assert packed.tolist() == [2, -1]
    assert kernels(shape_chain()) == []


def test_a_slice_outside_its_input_is_refused_by_name() -> None:
    g = CaseGraph()
    x = g.input((4, 4), DType.INT8, 0.5, 0)
    begin, size = g.constant(np.array([3, 0]), DType.INT32), g.constant(np.array([2, 4]), DType.INT32)
    y = g.output((2, 4), DType.INT8, 0.5, 0)
    with pytest.raises(ModelError, match=r"SLICE.*3 to 5 of the 4"):
        lower(g.case("outside", "SLICE", [x, begin, size], [y]).graph)


def test_a_computed_begin_is_refused_as_unsupported() -> None:
    g = CaseGraph()
    x, begin = g.input((4, 4), DType.INT8, 0.5, 0), g.input((2,), DType.INT32)
    y = g.output((2, 4), DType.INT8, 0.5, 0)
    with pytest.raises(UnsupportedError, match="to be a constant"):
        lower(g.case("dynamic", "SLICE", [x, begin, g.constant(np.array([2, 4]), DType.INT32)], [y]).graph)


@pytest.mark.parametrize("index", [-1, 4, 2**31 - 1])
def test_a_computed_index_out_of_range_is_an_error_on_the_device(index: int, host: Device) -> None:
    g = CaseGraph()
    x, where, y = g.input((4, 3), DType.INT8, 0.5, 0), g.input((2,), DType.INT32), g.output((2, 3), DType.INT8, 0.5, 0)
    lowered = lower(g.case("gather", "GATHER", [x, where], [y], {"axis": 0, "batch_dims": 0}).graph)
    host.load(lowered.block)
    data = np.arange(12, dtype=np.int8).reshape(4, 3)
    assert host.run([data, np.array([3, 0], np.int32)])[0].tolist() == [[9, 10, 11], [0, 1, 2]]
    with pytest.raises(DeviceError, match="ML_ERR_INDEX"):
        host.run([data, np.array([3, index], np.int32)])


def test_constant_indices_that_are_evenly_spaced_need_no_table() -> None:
    def steps(indices: list[int]) -> list[str]:
        g = CaseGraph()
        x, y = g.input((8, 16), DType.INT8, 0.5, 0), g.output((len(indices), 16), DType.INT8, 0.5, 0)
        where = g.constant(np.array(indices), DType.INT32)
        return kernels(g.case("gather", "GATHER", [x, where], [y], {"axis": 0, "batch_dims": 0}).graph)

    assert steps([1, 2, 3, 4, 5]) == []
    assert steps([6, 4, 2, 0]) == ["strided_copy"]
    assert steps([1, 1, 2, 2]) == ["strided_copy"]
    assert steps([0, 1, 3]) == ["gather"]
    with pytest.raises(ModelError, match="an index is outside"):
        steps([0, 8])


@dataclass
class Vectors:
    """A graph of int8 matrices with one scale, written node by node."""

    g: CaseGraph = field(default_factory=CaseGraph)
    nodes: list[Node] = field(default_factory=list)

    def input(self, *shape: int) -> int:
        return self.g.input(shape, DType.INT8, 0.5, 0)

    def shape(self, tensor: int) -> tuple[int, ...]:
        return self.g.tensors[tensor].shape

    def add(self, op: str, inputs: Sequence[int], *shapes: Sequence[int], **options: Any) -> list[int]:
        outputs = [self.g.tensor(shape, DType.INT8, 0.5, 0) for shape in shapes]
        self.nodes.append(Node(op, tuple(inputs), tuple(outputs), options, len(self.nodes)))
        return outputs

    def double(self, x: int) -> int:
        options = {"fused_activation_function": 0, "pot_scale_int16": False}
        return self.add("ADD", [x, x], self.shape(x), **options)[0]

    def concatenate(self, axis: int, *parts: int) -> int:
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        return self.add("CONCATENATION", parts, shape, axis=axis, fused_activation_function=0)[0]

    def reshape(self, x: int, *shape: int) -> int:
        return self.add("RESHAPE", [x, self.g.constant(np.array(shape), DType.INT32)], shape, new_shape=shape)[0]

    def graph(self, *outputs: int) -> Graph:
        self.g.output_ids += dict.fromkeys(outputs)
        return self.g.case_of(self.nodes, "vectors").graph


@pytest.fixture
def assembled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowering takes the program whose parts are made in place, even where it is not the smaller one."""
    monkeypatch.setattr(LOWER, "_better", lambda results: results[0])


@pytest.mark.usefixtures("assembled")
def test_parts_are_made_where_they_are_put_together() -> None:
    v = Vectors()
    a, b = v.double(v.input(2, 5)), v.double(v.input(1, 5))
    assert kernels(v.graph(v.concatenate(0, a, b))) == ["add_s8"] * 2


@pytest.mark.usefixtures("assembled")
def test_parts_of_parts_are_made_in_place_by_way_of_views() -> None:
    v = Vectors()
    inner = v.reshape(v.concatenate(0, v.double(v.input(2, 5)), v.double(v.input(1, 5))), 5, 3)
    assert kernels(v.graph(v.concatenate(0, inner, v.double(v.input(2, 3))))) == ["add_s8"] * 3


@pytest.mark.usefixtures("assembled")
def test_parts_that_lie_scattered_or_are_inputs_are_copied() -> None:
    v = Vectors()
    a, b = v.double(v.input(2, 5)), v.double(v.input(2, 3))
    assert kernels(v.graph(v.concatenate(1, a, b))).count("strided_copy") == 2
    v = Vectors()
    x = v.input(2, 5)
    assert kernels(v.graph(v.concatenate(0, x, v.double(x)))) == ["add_s8", "strided_copy"]


def test_parts_are_copied_where_their_place_would_lie_idle_for_long() -> None:
    v = Vectors()
    x = v.input(1, 64)
    early = v.double(x)
    wide = v.double(v.concatenate(0, *[x] * 64))
    narrow = v.add("SLICE", [wide, *(v.g.constant(np.array(n), DType.INT32) for n in ((0, 0), (1, 64)))], (1, 64))[0]
    late = v.concatenate(0, *[v.double(narrow)] * 64, early)
    lowered = lower(v.graph(late))
    assert lowered.program.arena_bytes < 2 * 64 * 64 + 1024


def random_graph(seed: int) -> Graph:
    """Up to a dozen nodes that take apart, put together and compute; some outputs are used further."""
    rng = np.random.default_rng(seed)
    v = Vectors()
    pool = [v.input(*shape) for shape in ((2, 4), (1, 8), (4, 4))]
    for _ in range(12):
        x = pool[rng.integers(len(pool))]
        rows, columns = v.shape(x)
        kind = rng.choice(["double", "double", "join", "join", "split", "reshape", "transpose", "pad"])
        axis = int(rng.integers(2))
        if kind == "join":
            fitting = [t for t in pool if v.shape(t)[1 - axis] == v.shape(x)[1 - axis]]
            pool.append(v.concatenate(axis, x, *(fitting[i] for i in rng.integers(len(fitting), size=2))))
        elif kind == "split" and (rows, columns)[axis] % 2 == 0:
            part = (rows // 2, columns) if axis == 0 else (rows, columns // 2)
            inputs = [v.g.constant(np.array(axis), DType.INT32), x]
            pool += v.add("SPLIT", inputs, part, part, num_splits=2)
        elif kind == "reshape":
            pool.append(v.reshape(x, rows * columns, 1) if axis else v.reshape(x, 1, rows * columns))
        elif kind == "transpose":
            pool += v.add("TRANSPOSE", [x, v.g.constant(np.array([1, 0]), DType.INT32)], (columns, rows))
        elif kind == "pad":
            pads = v.g.constant(np.array([[axis, 0], [0, 1 - axis]]), DType.INT32)
            pool += v.add("PAD", [x, pads], (rows + axis, columns + 1 - axis))
        else:
            pool.append(v.double(x))
    made = [t for t in pool[3:] if rng.random() < 0.3]
    return v.graph(*made, pool[-1]) if pool[-1] > 2 else v.graph(v.double(x))


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_of_views_and_parts_are_exact(seed: int, host: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(seed)
    model = write(graph)
    rng = np.random.default_rng(seed)
    shapes = [graph.tensor(i).shape for i in graph.inputs]
    sets = [[rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes] for _ in range(2)]
    with Oracle(model) as oracle:
        for choice in (0, -1):  # with parts in place, and with copies
            monkeypatch.setattr(LOWER, "_better", itemgetter(choice))
            lowered = lower(load_bytes(model))
            host.load(lowered.block)
            verdict = verify(host, lowered, oracle, sets, layers=True)
            assert verdict.ok, verdict.first_difference
