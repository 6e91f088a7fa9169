"""Passes make a graph simpler without changing a bit of what it computes. `PASSES` lists them in order.

Each is a pure function from graph to graph in its own file, and `Graph.check` runs after every one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sdk.graph import Graph
from sdk.ops.base import Registry
from sdk.passes import (
    dead_channels,
    fold_constants,
    fuse_activations,
    fuse_padding,
    legacy_uint8,
    remove_dead,
    remove_identities,
)

Pass = Callable[[Graph, Registry], Graph]

PASSES: list[tuple[str, Pass]] = [
    ("fold-constants", fold_constants.run),
    ("legacy-uint8", legacy_uint8.run),
    ("remove-identities", remove_identities.run),
    ("fuse-activations", fuse_activations.run),
    ("dead-channels", dead_channels.run),  # knows no explicit padding
    ("fuse-padding", fuse_padding.run),
    ("remove-dead", remove_dead.run),
]


def run_all(graph: Graph, registry: Registry, watch: Callable[[str, Graph], None] | None = None) -> Graph:
    """`graph` and its subgraphs after all passes; `watch` is called with each pass's name and the main graph."""
    if graph.subgraphs:
        graph = replace(graph, subgraphs={i: run_all(each, registry) for i, each in graph.subgraphs.items()})
    for name, run in PASSES:
        graph = run(graph, registry)
        graph.check()
        if watch is not None:
            watch(name, graph)
    return graph
