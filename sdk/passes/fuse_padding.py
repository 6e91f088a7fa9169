"""Let a convolution pad its input itself where a PAD does it before.

The PAD's step and its buffer go. Exact where it pads with the stored value that means 0, which is what a convolution
takes for its own padding: such inputs add nothing to a sum.
"""

from __future__ import annotations

from dataclasses import replace

from sdk.graph import DType, Graph, Node
from sdk.ops import convolution as conv
from sdk.ops.base import Registry, View
from sdk.ops.movement import zero
from sdk.ops.pad import paddings

CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D"}


def run(graph: Graph, registry: Registry) -> Graph:
    """`graph` with the PADs in the option `explicit_padding` (top, bottom, left, right) of the convolutions."""
    consumers = graph.consumers()
    fused: dict[Node, Node] = {}
    for node in graph.nodes:
        if node.op not in ("PAD", "PADV2") or node.outputs[0] in graph.outputs:
            continue
        pads = _spatial(View(graph, node))
        readers = consumers.get(node.outputs[0], [])
        if pads is not None and all(_pads_itself(View(graph, reader), node) for reader in readers):
            fused |= {reader: _fused(View(graph, reader), node, pads) for reader in readers}
    return graph.with_nodes(fused.get(node, node) for node in graph.nodes) if fused else graph


def _spatial(view: View) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of a PAD with zeros around images; None for any other."""
    x, y = view.input(0), view.output()
    if view.input(1).data is None or len(x.shape) != 4 or not view.same_quantization(x, y):
        return None
    if view.has(2):
        value = view.input(2).data
        if value is None or value.reshape(-1)[0] != zero(y):
            return None
    batch, rows, columns, channels = paddings(view)
    return (*rows, *columns) if (batch, channels) == ((0, 0), (0, 0)) else None


def _pads_itself(view: View, pad: Node) -> bool:
    """Whether the node is a convolution of the PAD's output; not one that quantizes its own input as it runs."""
    node = view.node
    if node.op not in CONVOLUTIONS or node.inputs[0] != pad.outputs[0] or pad.outputs[0] in node.inputs[1:]:
        return False
    hybrid = view.input(0).dtype is DType.FLOAT32 and view.input(1).dtype is not DType.FLOAT32
    return not hybrid and "explicit_padding" not in node.options


def _fused(view: View, pad: Node, pads: tuple[int, int, int, int]) -> Node:
    x, weights = view.input(0), view.input(1)
    strides, dilations = conv.steps(view)
    axes = zip(x.shape[1:3], weights.shape[1:3], strides, dilations, strict=True)
    own = [conv.paddings(view.option("padding"), *axis) for axis in axes]
    top, bottom, left, right = (a + b for a, b in zip(pads, (*own[0], *own[1]), strict=True))
    options = {**view.node.options, "explicit_padding": (top, bottom, left, right)}
    return replace(view.node, inputs=(pad.inputs[0], *view.node.inputs[1:]), options=options)
