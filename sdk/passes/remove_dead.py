"""Remove nodes whose outputs nothing uses."""

from __future__ import annotations

from sdk.graph import Graph, Node
from sdk.ops.base import Registry

# They act on the session, not through their outputs.
KEPT = {"ASSIGN_VARIABLE", "CALL_ONCE"}


def run(graph: Graph, registry: Registry) -> Graph:
    """`graph` without nodes that no output depends on."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.op in KEPT or needed.intersection(node.outputs):
            kept.append(node)
            needed.update(i for i in node.inputs if i is not None)
    return graph.with_nodes(reversed(kept))
