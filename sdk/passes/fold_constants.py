"""Compute on the host what does not depend on the inputs: nodes with constant inputs, and shapes.

Real models carry SHAPE -> STRIDED_SLICE -> PACK -> RESHAPE chains, which fold to a RESHAPE by a constant. An operator
folds only what its `fold` computes exactly.
"""

from __future__ import annotations

from dataclasses import replace

from sdk.graph import Graph, Node, Tensor
from sdk.ops.base import Registry, View, naming

FREE_BYTES = 1 << 20  # of constants that folding may add to a model
GROWTH = 4  # and times the model's constants: float16 and int4 weights become float32


def run(graph: Graph, registry: Registry) -> Graph:
    """`graph` with the outputs of foldable nodes as constants."""
    known: dict[int, Tensor] = {}
    kept: list[Node] = []
    current = graph
    budget = FREE_BYTES + GROWTH * sum(
        tensor.data.nbytes for tensor in graph.tensors.values() if tensor.data is not None
    )
    for node in graph.nodes:
        size = sum(current.tensor(i).bytes for i in node.outputs)
        folded = _fold(View(current, node), registry) if size <= budget else None
        if folded is None:
            kept.append(node)
            continue
        budget -= size
        known |= {tensor.id: tensor for tensor in folded}
        current = replace(current, tensors={**current.tensors, **known})
    return graph.with_nodes(kept, known.values())


def _fold(view: View, registry: Registry) -> list[Tensor] | None:
    op = registry.op(view.node)
    data = [tensor.data for tensor in view.inputs]
    if any(tensor.id in view.graph.outputs for tensor in view.outputs):
        return None  # an output must be written by a step
    with naming(view.node):
        results = op.fold(view, [array for array in data if array is not None]) if _foldable(view) else None
    if results is None:
        return None
    return [
        replace(tensor, data=array.astype(tensor.dtype.numpy).reshape(tensor.shape), source=None)
        for tensor, array in zip(view.outputs, results, strict=True)
    ]


def _foldable(view: View) -> bool:
    # A SHAPE needs no value of its input, only its type; all others need every input to be constant.
    return view.node.op in ("SHAPE", "RANK") or all(tensor.data is not None for tensor in view.inputs)
