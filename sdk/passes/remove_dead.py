"""Remove nodes whose outputs nothing uses."""

from __future__ import annotations

from sdk.graph import Graph, Node
from sdk.ops.base import Registry

# They act on the session, not through their outputs; so may what these call.
KEPT = {"ASSIGN_VARIABLE", "CALL_ONCE"}
CALLERS = {"IF", "WHILE"}


def run(graph: Graph, registry: Registry) -> Graph:
    """`graph` without nodes that no output depends on."""
    acting = not graph.subgraphs or any(n.op in KEPT for each in graph.subgraphs.values() for n in each.nodes)
    kept_ops = KEPT | CALLERS if acting else KEPT  # a subgraph does not know what it calls: it keeps its callers
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.op in kept_ops or needed.intersection(node.outputs):
            kept.append(node)
            needed.update(i for i in node.inputs if i is not None)
    return graph.with_nodes(reversed(kept))
