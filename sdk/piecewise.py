"""Reference results for models with operators that TensorFlow Lite does not have: node by node.

A node that the oracles know becomes a model of its own, which they run; one of the user's own is computed by its
`reference`. `reference_for` chooses between this and the oracle of the whole model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sdk.closing import Closing
from sdk.errors import UnsupportedError
from sdk.graph import Array, Graph, Node
from sdk.load import load_bytes
from sdk.ops import registry
from sdk.ops.base import Op, View
from sdk.oracle import Oracle, OracleResult
from sdk.write import write


def reference_for(model: bytes, which: str | None = None) -> Oracle | Piecewise:
    """What the results of `model` are compared with; to be closed. UnsupportedError if there is nothing."""
    graph = load_bytes(model)
    own = [node for node in graph.nodes if _has_reference(node)]
    return Piecewise(graph, which) if own else Oracle(model, which)


def _has_reference(node: Node) -> bool:
    op = registry().ops.get(node.op)
    return op is not None and type(op).reference is not Op.reference


class Piecewise(Closing):
    """Runs a graph node by node. Keeps no state: UnsupportedError for a model with variables or subgraphs."""

    name = "the reference of each operator"

    def __init__(self, graph: Graph, which: str | None) -> None:
        if graph.subgraphs or any(tensor.variable for tensor in graph.tensors.values()):
            raise UnsupportedError(
                "a model with both state and operators of your own has no reference",
                "Verify the operator by its cases: sdk ops NAME --ops DIR --board B",
            )
        self.graph = graph
        self.which = which
        self.oracles: dict[int, Oracle] = {}

    def close(self) -> None:
        """Lets the oracles go."""
        for oracle in self.oracles.values():
            oracle.close()

    def reset(self) -> None:
        """There is no state to put back."""

    def run(self, inputs: Sequence[Array]) -> OracleResult:
        """One inference; every tensor that a node makes is in the result."""
        values: dict[int, Array] = dict(zip(self.graph.inputs, inputs, strict=True))
        for index, node in enumerate(self.graph.nodes):
            outputs = self._run_node(index, node, values)
            for tensor_id, array in zip(node.outputs, outputs, strict=True):
                values[tensor_id] = np.asarray(array)
        return OracleResult([values[i] for i in self.graph.outputs], values)

    def _run_node(self, index: int, node: Node, values: Mapping[int, Array]) -> Sequence[Array]:
        view = View(self.graph, node)
        if _has_reference(node):
            data = [values[t.id] if t.data is None else t.data for t in view.inputs]
            result = registry().op(node).reference(view, data)
            if result is None:
                raise UnsupportedError(f"{node.label} has no reference for these inputs", "Complete its `reference`.")
            return result
        given = [i for i in dict.fromkeys(node.inputs) if i is not None and self.graph.tensor(i).data is None]
        if index not in self.oracles:
            alone = replace(self.graph, inputs=tuple(given), outputs=node.outputs, signature=None)
            self.oracles[index] = Oracle(write(alone.with_nodes([node])), self.which)
        return self.oracles[index].run([values[i] for i in given]).outputs
