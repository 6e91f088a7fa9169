"""Operators that move data: when they cost no step, and what they fold to."""

from __future__ import annotations

import numpy as np
import pytest

from sdk.errors import DeviceError, ModelError, UnsupportedError
from sdk.graph import DType, Graph, Node
from sdk.link.device import Device
from sdk.lower import lower
from sdk.ops import registry
from sdk.ops.base import CaseGraph
from sdk.passes import run_all


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
