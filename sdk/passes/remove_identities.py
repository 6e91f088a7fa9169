"""Remove nodes whose output is their input: pads of nothing, casts to the same type, and their like.

Most of them cost no step anyway; without them a node and the one that really makes its input are neighbours, which
other passes look for.
"""

from __future__ import annotations

from dataclasses import replace

from sdk.graph import Graph, Node, Tensor
from sdk.ops.base import Registry, View


def run(graph: Graph, registry: Registry) -> Graph:
    """`graph` with the inputs of such nodes in place of their outputs, but for outputs of the graph."""
    renamed: dict[int, int] = {}
    kept: list[Node] = []
    made: dict[int, Node] = {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(None if i is None else renamed.get(i, i) for i in node.inputs))
        made |= dict.fromkeys(node.outputs, node)
        same = _same(View(graph, node), registry, made)
        if same is None or node.outputs[0] in graph.outputs:
            kept.append(node)
        else:
            renamed[node.outputs[0]] = same.id
    return graph.with_nodes(kept)


def _same(view: View, registry: Registry, made: dict[int, Node]) -> Tensor | None:
    """The tensor that the node's one output equals, in its values and in all that other nodes read off a tensor."""
    if len(view.node.outputs) != 1:
        return None
    x, y = _dequantized(view, made) or registry.op(view.node).unchanged(view), view.output()
    if x is None or x.variable or (x.shape, x.dtype) != (y.shape, y.dtype):
        return None
    return x if view.same_quantization(x, y) else None


def _dequantized(view: View, made: dict[int, Node]) -> Tensor | None:
    """What a QUANTIZE gives back if it quantizes what a DEQUANTIZE has made.

    (q - z) * s / s in float32 is off by less than 1/64 for 16-bit values, so rounding finds q again.
    """
    producer = made.get(view.input(0).id) if view.node.op == "QUANTIZE" else None
    if producer is None or producer.op != "DEQUANTIZE":
        return None
    return View(view.graph, producer).input(0)
