"""Which values make sense at a model's inputs: those that become indices or shapes have few that do."""

from __future__ import annotations

from collections.abc import Iterator

from sdk.graph import Graph
from sdk.ops import registry
from sdk.ops.base import Range, View


def input_ranges(graph: Graph) -> dict[int, Range]:
    """(lowest, highest) value by the position of an input, for inputs that an operator takes only some values of."""
    found = {position: next(_ranges(graph, tensor_id), None) for position, tensor_id in enumerate(graph.inputs)}
    return {position: each for position, each in found.items() if each is not None}


def _ranges(graph: Graph, tensor_id: int) -> Iterator[Range]:
    """What the readers of a tensor say, past those that hand its values on."""
    for node in graph.consumers().get(tensor_id, []):
        if node.op not in registry().ops:
            continue
        view, op = View(graph, node), registry().op(node)
        wanted = op.takes(view, node.inputs.index(tensor_id))
        if wanted is not None:
            yield wanted
        same = op.unchanged(view)
        if node.op == "CAST" or (same is not None and same.id == tensor_id):
            yield from _ranges(graph, node.outputs[0])
