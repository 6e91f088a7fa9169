"""Let the node that makes a RELU's input clamp its output itself.

Exact where both tensors have the same scale: the RELU's rescaling is then the identity, and clamping twice is clamping
to what both allow.
"""

from __future__ import annotations

from dataclasses import replace

from sdk import numerics
from sdk.graph import DType, Graph, Node
from sdk.ops.base import Registry, View

ACTIVATIONS = {"RELU": numerics.RELU, "RELU6": numerics.RELU6, "RELU_N1_TO_1": numerics.RELU_N1_TO_1}
# Those that clamp as the last thing they do.
PRODUCERS = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"),
    *("ADD", "SUB", "MUL", "AVERAGE_POOL_2D", "MAX_POOL_2D"),
}
TYPES = (DType.INT8, DType.INT16, DType.FLOAT32)


def run(graph: Graph, registry: Registry) -> Graph:
    """`graph` with the activations fused that can be."""
    producers, consumers = graph.producers(), graph.consumers()
    changed: dict[Node, Node | None] = {}
    for node in graph.nodes:
        producer = producers.get(View(graph, node).input(0).id) if node.op in ACTIVATIONS else None
        if producer is None or producer in changed or not _fits(graph, producer, node):
            continue
        if len(consumers[producer.outputs[0]]) == 1 and producer.outputs[0] not in graph.outputs:
            options = {**producer.options, "fused_activation_function": ACTIVATIONS[node.op]}
            changed |= {producer: replace(producer, outputs=node.outputs, options=options), node: None}
    nodes = (changed.get(node, node) for node in graph.nodes)
    return graph.with_nodes(node for node in nodes if node is not None) if changed else graph


def _fits(graph: Graph, producer: Node, activation: Node) -> bool:
    view = View(graph, activation)
    x, y = view.input(0), view.output()
    return (
        producer.op in PRODUCERS
        and producer.options.get("fused_activation_function", 0) == numerics.ACTIVATION_NONE
        and x.dtype is y.dtype
        and x.dtype in TYPES
        and x.shape == y.shape
        and view.same_quantization(x, y)
    )
