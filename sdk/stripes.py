"""Convolutions in horizontal stripes, where a large tensor between two of them is what an arena's size comes from.

A stripe of the last one's output is computed from a stripe of the first one's input, so that what lies between them
never exists as a whole. Rows that two stripes need are computed twice. Every value is the same, and all that steps make
can still be compared with the oracle's tensors, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np

from sdk.graph import DType, Graph, Node, Tensor
from sdk.ops import convolution as conv
from sdk.ops.base import View

if TYPE_CHECKING:
    from sdk.lower import Lowered

COUNTS = (2, 3, 4, 6, 8, 12, 16, 24)
LONGEST = 4  # nodes in a chain
SPLITS = 3  # chains of nodes that are computed in stripes
TRIED = 8  # ways to do so, for each
MORE_MACS_PERCENT = 5  # that stripes may cost
STEP_BYTES = 130  # about what a step takes in a program
STEP_WORTH_BYTES = 640  # that a further step must save: each takes time, at the start to be checked above all
SPLITTABLE = ("CONV_2D", "DEPTHWISE_CONV_2D")

Rows = tuple[int, int]  # from the first on, up to the second


@dataclass(frozen=True)
class Split:
    """A chain of nodes, each the only reader of the last one's output, to be computed in `count` stripes."""

    nodes: tuple[Node, ...]
    count: int
    arena_bytes: int  # about what is alive at once while they run

    @property
    def cost(self) -> int:
        return self.arena_bytes + self.count * len(self.nodes) * (STEP_BYTES + STEP_WORTH_BYTES)


def in_stripes(graph: Graph, whole: Lowered, lower: Callable[[Graph], Lowered]) -> Lowered:
    """`whole`, the program of `graph`, or one with some nodes in stripes if that takes less memory, flash included."""
    result, most_macs = whole, whole.macs * (100 + MORE_MACS_PERCENT) // 100
    for _ in range(SPLITS):
        used = [result.plan.used_bytes(step) for step in range(len(result.steps))]
        around = {info.name for info, count in zip(result.steps, used, strict=True) if count == max(used)}
        promising = (split for split in splits(graph, around) if split.cost < result.program.arena_bytes)
        changed = [striped(graph, split) for split in islice(promising, TRIED)]
        found = [(lower(other), other) for other in changed if other is not None]
        found = [each for each in found if each[0].macs <= most_macs]
        best, other = min(found, key=lambda each: _cost(each[0]), default=(result, graph))
        if _cost(best) >= _cost(result):
            break
        result, graph = best, other
    return result


def _cost(lowered: Lowered) -> int:
    """Bytes of memory, flash included, and what its steps must be worth."""
    return lowered.memory_bytes + len(lowered.steps) * STEP_WORTH_BYTES


def splits(graph: Graph, around: AbstractSet[str]) -> list[Split]:
    """Ways to split the chains that hold a node whose label is in `around`, the most promising first."""
    found = []
    for chain in _chains(graph):
        if around & {node.label for node in chain}:
            height = graph.tensor(chain[-1].outputs[0]).shape[1]
            found += [Split(chain, n, _alive(graph, chain, n)) for n in COUNTS if n <= height]
    return sorted(found, key=lambda split: (split.cost, split.count))


def _chains(graph: Graph) -> Iterator[tuple[Node, ...]]:
    readers = graph.consumers()
    for node in graph.nodes:
        chain: tuple[Node, ...] = ()
        following: Node | None = node
        while following is not None and _splittable(graph, following) and len(chain) < LONGEST:
            chain = (*chain, following)
            if len(chain) > 1:
                yield chain
            output = following.outputs[0]
            others = readers.get(output, [])
            alone = len(others) == 1 and others[0].inputs[0] == output and output not in graph.outputs
            following = others[0] if alone else None


def _splittable(graph: Graph, node: Node) -> bool:
    if node.op not in SPLITTABLE:
        return False
    x, weights = graph.tensor(node.inputs[0]), graph.tensor(node.inputs[1])
    return x.dtype is DType.INT8 and x.data is None and x.shape[0] == 1 and weights.data is not None


def _kernel(view: View) -> tuple[int, int]:
    shape = view.input(1).shape
    return shape[1], shape[2]


def _needed(view: View, rows: Rows) -> tuple[Rows, tuple[int, int, int, int]]:
    """The input rows that output `rows` need, and the padding around them: top, bottom, left, right."""
    window = conv.window(view, _kernel(view))
    reach = (window["kernel_height"] - 1) * window["dilation_height"] + 1
    first = rows[0] * window["stride_height"] - window["pad_top"]
    end = (rows[1] - 1) * window["stride_height"] - window["pad_top"] + reach
    inside = max(first, 0), min(end, window["input_height"])
    last = (window["output_width"] - 1) * window["stride_width"] - window["pad_left"]
    last += (window["kernel_width"] - 1) * window["dilation_width"]
    right = max(0, last + 1 - window["input_width"])
    return inside, (inside[0] - first, end - inside[1], window["pad_left"], right)


def _stripes(height: int, count: int) -> list[Rows]:
    edges = [height * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def _alive(graph: Graph, chain: Sequence[Node], count: int) -> int:
    """About the bytes that live at once: the whole input or output, one of which may lie over the other as stripes are
    done, and the stripes of two neighbours in between."""
    x, y = graph.tensor(chain[0].inputs[0]), graph.tensor(chain[-1].outputs[0])
    most = 0
    for rows in _stripes(y.shape[1], count):
        sizes = [0]
        for node in reversed(chain[1:]):
            rows, _ = _needed(View(graph, node), rows)
            between = graph.tensor(node.inputs[0])
            sizes.append((rows[1] - rows[0]) * between.bytes // between.shape[1])
        most = max(most, *(a + b for a, b in zip([*sizes, 0][1:], sizes, strict=True)))
    return max(x.bytes, y.bytes) + most


def striped(graph: Graph, split: Split) -> Graph | None:
    """`graph` with the nodes of `split` in stripes; None where a stripe would see padding alone."""
    builder = _Builder(graph)
    y = graph.tensor(split.nodes[-1].outputs[0])
    parts = []
    for rows in _stripes(y.shape[1], split.count):
        part = builder.stripe(split.nodes, rows)
        if part is None:
            return None
        parts.append(part)
    whole = {"axis": 1, "fused_activation_function": 0}
    joined = Node("CONCATENATION", tuple(parts), (y.id,), whole, split.nodes[-1].source)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node is split.nodes[-1]:
            nodes += [*builder.nodes, joined]
        elif node not in split.nodes:
            nodes.append(node)
    result = graph.with_nodes(nodes, builder.tensors.values())
    result.check()
    return result


class _Builder:
    """Nodes and tensors of stripes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.tensors: dict[int, Tensor] = {}
        self.next_id = graph.fresh_id()

    def _add(self, tensor: Tensor) -> int:
        self.tensors[self.next_id] = replace(tensor, id=self.next_id)
        self.next_id += 1
        return self.next_id - 1

    def _rows_of(self, tensor: Tensor, rows: Rows) -> int:
        start = (tensor.source_start or 0) + rows[0] * tensor.elements // tensor.shape[1]
        shape = (1, rows[1] - rows[0], *tensor.shape[2:])
        return self._add(replace(tensor, name=f"{tensor.name}[{rows[0]}:{rows[1]}]", shape=shape, source_start=start))

    def stripe(self, chain: Sequence[Node], rows: Rows) -> int | None:
        """Adds the nodes that compute `rows` of the chain's output; returns the tensor that holds them."""
        plan = []
        for node in reversed(chain):
            inside, pads = _needed(View(self.graph, node), rows)
            if inside[0] >= inside[1] or min(pads) < 0:
                return None
            plan.append((node, rows, pads))
            rows = inside
        made = self._input(self.graph.tensor(chain[0].inputs[0]), rows)
        for node, wanted, pads in reversed(plan):
            output = self._rows_of(self.graph.tensor(node.outputs[0]), wanted)
            options = {**node.options, "explicit_padding": pads}
            self.nodes.append(replace(node, inputs=(made, *node.inputs[1:]), outputs=(output,), options=options))
            made = output
        return made

    def _input(self, x: Tensor, rows: Rows) -> int:
        """A view of rows of the chain's input."""
        part = self._rows_of(replace(x, source=None), rows)
        first, size = [0, rows[0], 0, 0], list(self.tensors[part].shape)
        numbers = [np.array(each, np.int32) for each in (first, size)]
        given = [self._add(Tensor(0, "rows", (4,), DType.INT32, data=number)) for number in numbers]
        self.nodes.append(Node("SLICE", (x.id, *given), (part,), {"view": True}))
        return part
