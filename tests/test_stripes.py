"""Convolutions in stripes: the same values in less memory, and every tensor can still be compared with the oracle's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sdk import numerics
from sdk.graph import DType, Graph, Node
from sdk.link.device import Device
from sdk.load import load_bytes
from sdk.lower import lower
from sdk.ops import convolution as conv
from sdk.ops.base import CaseGraph
from sdk.oracle import Oracle
from sdk.stripes import Split, splits, striped
from sdk.target import Optimize, Target
from sdk.verify import verify
from sdk.write import write

SIZE = 24, 18


def chain(*layers: tuple[str, conv.CaseShape, int]) -> Graph:
    """Convolutions one after the other: (operator, geometry but for the input's shape, output channels) each."""
    g = CaseGraph()
    rng = np.random.default_rng(0)
    shape: tuple[int, ...] = (1, *SIZE, 4)
    x, nodes = g.input(shape, DType.INT8, 0.05, 3), []
    for number, (op, geometry, channels) in enumerate(layers):
        depthwise = op == "DEPTHWISE_CONV_2D"
        size = (1, *geometry.kernel, channels) if depthwise else (channels, *geometry.kernel, shape[3])
        weights = g.constant(rng.integers(-127, 128, size), DType.INT8, 0.01)
        bias = g.constant(rng.integers(-900, 900, channels), DType.INT32, 0.0005)
        axes = zip(shape[1:3], geometry.kernel, geometry.stride, geometry.dilation, strict=True)
        shape = (1, *(conv.output_size(geometry.padding, *axis)[0] for axis in axes), channels)
        make = g.output if number == len(layers) - 1 else g.tensor
        y = make(shape, DType.INT8, 0.05, 3)
        options = geometry.options(depth_multiplier=1) if depthwise else geometry.options()
        nodes.append(Node(op, (x, weights, bias), (y,), options, number))
        x = y
    return g.case_of(nodes, "chain").graph


def geometry(kernel: int, stride: int = 1, dilation: int = 1, padding: int = conv.SAME) -> conv.CaseShape:
    sizes = (kernel, kernel), (stride, stride), (dilation, dilation)
    return conv.CaseShape((1, 1, 1, 1), *sizes, padding, numerics.RELU)


CHAINS = {
    "wide": (("CONV_2D", geometry(1), 32), ("DEPTHWISE_CONV_2D", geometry(3, 2), 32)),
    "long": (
        ("CONV_2D", geometry(3), 16),
        ("DEPTHWISE_CONV_2D", geometry(3), 16),
        ("CONV_2D", geometry(1), 24),
        ("DEPTHWISE_CONV_2D", geometry(5, 2), 24),
    ),
    "valid": (("CONV_2D", geometry(4, 1, 1, conv.VALID), 9), ("CONV_2D", geometry(3, 2, 1, conv.VALID), 5)),
    "dilated": (("DEPTHWISE_CONV_2D", geometry(3, 1, 2), 4), ("CONV_2D", geometry(2, 3, 2), 7)),
}


def compare(graph: Graph, original: Graph, device: Device) -> tuple[int, int]:
    """(program's arena, number of values compared), every tensor being compared with the oracle's."""
    lowered = lower(graph, Target(optimize=Optimize.speed))
    rng = np.random.default_rng(1)
    inputs = [(rng.integers(-128, 128, (1, *SIZE, 4)).astype(np.int8),) for _ in range(2)]
    device.load(lowered.block)
    with Oracle(write(original)) as oracle:
        verdict = verify(device, lowered, oracle, inputs, layers=True)
    assert verdict.ok, verdict.first_difference
    return lowered.program.arena_bytes, verdict.compared


@pytest.mark.parametrize("name", CHAINS)
def test_stripes_equal_the_oracle_in_every_row(name: str, host: Device) -> None:
    original = load_bytes(write(chain(*CHAINS[name])))
    _, whole_values = compare(original, original, host)
    ways = splits(original, {original.nodes[0].label})
    changed = [(split, striped(original, split)) for split in ways if split.count in (2, 3, 8)]
    assert any(len(split.nodes) == len(CHAINS[name]) for split, graph in changed if graph is not None)
    for split, graph in changed:
        if graph is not None:
            _, values = compare(graph, original, host)
            assert values >= whole_values, split  # rows that two stripes need are compared twice


def test_stripes_are_chosen_where_they_pay() -> None:
    graph = load_bytes(write(chain(*CHAINS["wide"], ("CONV_2D", geometry(3), 32))))
    fast, balanced = (lower(graph, Target(optimize=optimize)) for optimize in (Optimize.speed, Optimize.balanced))
    assert len(fast.steps) == 3
    assert balanced.program.arena_bytes < 0.7 * fast.program.arena_bytes
    assert len(balanced.block) - len(fast.block) < fast.program.arena_bytes - balanced.program.arena_bytes
    assert fast.macs < balanced.macs <= 1.05 * fast.macs


def test_what_others_read_is_kept_whole() -> None:
    graph = chain(*CHAINS["long"])
    middle = graph.nodes[1].outputs[0]
    assert any(len(split.nodes) == 4 for split in splits(graph, {graph.nodes[0].label}))
    shared = Graph(graph.name, graph.tensors, graph.nodes, graph.inputs, (*graph.outputs, middle))
    found: list[Split] = splits(shared, {node.label for node in graph.nodes})
    pairs = itertools.chain.from_iterable(itertools.pairwise(split.nodes) for split in found)
    assert all(a.outputs[0] != middle for a, _ in pairs)
