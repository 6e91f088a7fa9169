"""How far the float32 tensors of a program may be from the oracle's: operators' bounds, added up along the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sdk.graph import DType, Graph, Node
from sdk.ops.base import Registry


def float_bounds(graph: Graph, registry: Registry) -> dict[int, tuple[float, float]]:
    """(absolute, relative) bound of each float32 tensor: its operator's and the largest of what it was made from, for a
    model of a hundred layers passes on what the first ones differ by. IF and WHILE have those of their subgraphs."""
    bounds: dict[int, tuple[float, float]] = {}
    for node in graph.nodes:
        own = _largest(_own_bounds(node, graph, registry))
        passed_on = _largest([bounds[i] for i in node.inputs if i in bounds])
        bound = own[0] + passed_on[0], own[1] + passed_on[1]
        bounds |= {i: bound for i in node.outputs if graph.tensor(i).dtype is DType.FLOAT32}
    return bounds


def _largest(bounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return max((absolute for absolute, _ in bounds), default=0.0), max(
        (relative for _, relative in bounds), default=0.0
    )


def _own_bounds(node: Node, graph: Graph, registry: Registry) -> list[tuple[float, float]]:
    bound = registry.op(node).bound
    found = [(bound.absolute, bound.relative)]
    for name, index in node.options.items():
        if name.endswith("subgraph_index") and index in graph.subgraphs:
            inner = replace(graph.subgraphs[index], subgraphs={})
            found += [each for other in inner.nodes for each in _own_bounds(other, inner, registry)]
    return found
