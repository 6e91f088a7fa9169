"""Turn uint8-quantized tensors into int8 ones, exactly: every stored value and zero point minus 128.

Models from before 2019 are quantized to uint8. Shifting both values and zero points changes no real number and no
accumulator, so the int8 kernels give the same results minus 128. The model keeps its uint8 inputs and outputs, which a
QUANTIZE at each end converts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sdk.errors import UnsupportedError
from sdk.graph import DType, Graph, Node, Quantization, Tensor
from sdk.ops.base import Registry

SHIFT = 128
# They convert between types themselves, or treat bytes as plain numbers.
KEEP = {"QUANTIZE", "CAST", "DEQUANTIZE", "IF", "WHILE"}


def run(graph: Graph, registry: Registry) -> Graph:
    """`graph` without uint8 tensors but at its ends and at conversions."""
    shifted = _candidates(graph)
    if not shifted:
        return graph
    for node in graph.nodes:
        if node.op in ("IF", "WHILE") and shifted.intersection((*node.inputs, *node.outputs)):
            raise UnsupportedError(
                f"{node.label} passes tensors quantized to uint8 to its subgraphs", "Quantize the model to int8."
            )
    table = {i: _shift(graph.tensor(i)) for i in shifted}
    nodes: list[Node] = []
    ends: dict[int, Tensor] = {}
    fresh = graph.fresh_id()
    renamed: dict[int, int] = {}
    for tensor_id in dict.fromkeys((*graph.inputs, *graph.outputs)):
        if tensor_id in table:
            ends[fresh] = replace(table.pop(tensor_id), id=fresh)
            renamed[tensor_id] = fresh
            fresh += 1
    nodes += [Node("QUANTIZE", (i,), (renamed[i],)) for i in dict.fromkeys(graph.inputs) if i in renamed]
    for node in graph.nodes:
        inputs = tuple(None if i is None else renamed.get(i, i) for i in node.inputs)
        options = node.options if node.op in KEEP else {**node.options, "legacy_uint8": True}
        nodes.append(
            replace(node, inputs=inputs, outputs=tuple(renamed.get(i, i) for i in node.outputs), options=options)
        )
    made = {i for node in graph.nodes for i in node.outputs}
    nodes += [Node("QUANTIZE", (renamed[i],), (i,)) for i in dict.fromkeys(graph.outputs) if i in renamed and i in made]
    return graph.with_nodes(nodes, [*table.values(), *ends.values()])


def _candidates(graph: Graph) -> set[int]:
    """uint8 tensors with a scale that some operator computes with (not merely converts)."""
    found = set()
    for node in graph.nodes:
        if node.op in KEEP:
            continue
        for tensor_id in (*node.inputs, *node.outputs):
            if tensor_id is not None:
                tensor = graph.tensor(tensor_id)
                if tensor.dtype is DType.UINT8 and tensor.quantization is not None:
                    found.add(tensor_id)
    return found


def _shift(tensor: Tensor) -> Tensor:
    quantization = tensor.quantization
    assert quantization is not None
    shifted = Quantization(quantization.scale, tuple(z - SHIFT for z in quantization.zero_point), quantization.axis)
    data = None if tensor.data is None else (tensor.data.astype(np.int16) - SHIFT).astype(np.int8)
    return replace(tensor, dtype=DType.INT8, quantization=shifted, data=data, source_offset=SHIFT)
