"""Give tensors the shapes that the file leaves out and the operator knows."""

from __future__ import annotations

from dataclasses import replace

from sdk.graph import Graph
from sdk.ops.base import Registry, View


def complete_shapes(graph: Graph, registry: Registry) -> Graph:
    """`graph` with the shapes of outputs that have none. Operators refuse any other that is wrong."""
    known = {}
    for node in graph.nodes:
        shapes = registry.op(node).output_shapes(View(graph, node))
        for tensor_id, shape in zip(node.outputs, shapes or (), strict=False):
            if graph.tensor(tensor_id).shape == ():
                known[tensor_id] = replace(graph.tensor(tensor_id), shape=shape)
    return graph.with_nodes(graph.nodes, known.values()) if known else graph
