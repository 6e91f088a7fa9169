"""What can be said of a model before anything is built: `inspect(graph)`.

It works on every sound model. Where an operator or type cannot be lowered, the report says which and why, and takes the
memory from the model's own tensors instead of the program's buffers.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sdk import passes
from sdk.boards import Board
from sdk.errors import SdkError
from sdk.fit import Fit, fit
from sdk.graph import DType, Graph, Node, Tensor
from sdk.load import REMEDY
from sdk.lower import Lowered, Lowering, lower
from sdk.ops import registry as shipped_registry
from sdk.ops.base import Registry, View
from sdk.plan import Buffer, Plan, plan
from sdk.program import Profile
from sdk.target import Target


@dataclass(frozen=True)
class Problem:
    """Why a node, or (`node` None) the model as a whole, cannot be lowered. `count`: how many nodes share it."""

    message: str
    remedy: str
    node: str | None = None
    count: int = 1


@dataclass(frozen=True)
class NodeReport:
    """One node of the main graph, with its tensors' ids; `macs` is None where its operator is unknown."""

    name: str
    macs: int | None
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """Live bytes at each step, by the step's name. `exact` if they are a program's, with views, in-place steps and
    scratch; else they are an estimate from the model's tensors."""

    steps: tuple[tuple[str, int], ...]
    arena_bytes: int
    lower_bound_bytes: int
    state_bytes: int
    exact: bool

    @property
    def peak(self) -> int | None:
        """The first step at which most bytes live; None if there are no steps."""
        live = [count for _, count in self.steps]
        return live.index(max(live)) if live else None


@dataclass(frozen=True)
class Report:
    """All of it. `lowered` is None where there is a problem."""

    graph: Graph
    operators: Mapping[str, int]
    nodes: tuple[NodeReport, ...]
    macs: int  # of the program; those of the model where it cannot be lowered
    weight_bytes: int
    memory: Memory
    problems: tuple[Problem, ...]
    lowered: Lowered | None
    target: Target  # of `lowered`
    registry: Registry  # that it was made with


def inspect(graph: Graph, target: Target | None = None, registry: Registry | None = None) -> Report:
    """The report of `graph`, lowered for `target`. Raises nothing for a graph that `sdk.load` has accepted, sound or
    not."""
    registry = registry or shipped_registry()
    target = target or Target()
    unsound = _unsound(graph)
    problems = unsound or _problems(_unchecked(graph, registry))
    lowered = None
    if not problems:
        try:
            lowered = lower(graph, target, registry)
        except SdkError as error:
            problems = _problems(_unlowered(graph, target, registry)) or [Problem(error.message, error.remedy)]
    nodes = tuple(_node(graph, node, None if unsound else registry) for node in graph.nodes)
    return Report(
        graph=graph,
        operators=dict(Counter(node.op for each in _graphs(graph) for node in each.nodes).most_common()),
        nodes=nodes,
        macs=lowered.macs if lowered is not None else sum(node.macs or 0 for node in nodes),
        weight_bytes=sum(_constant_bytes(tensor) for each in _graphs(graph) for tensor in each.tensors.values()),
        memory=_memory(lowered) if lowered is not None else _estimate(graph),
        problems=tuple(problems),
        lowered=lowered,
        target=target,
        registry=registry,
    )


def _unsound(graph: Graph) -> list[Problem]:
    """The first of the rules for all graphs that this one breaks."""
    try:
        graph.check_all()
    except SdkError as error:
        return [Problem(f"the model is not sound: {error.message}", error.remedy or REMEDY)]
    return []


def _unchecked(graph: Graph, registry: Registry) -> Iterator[tuple[Node, SdkError]]:
    """Every node that is unknown or breaks its operator's rules, subgraphs included."""
    for each in _graphs(graph):
        for node in each.nodes:
            try:
                registry.op(node).check(View(each, node))
            except SdkError as error:
                yield node, error


def _unlowered(graph: Graph, target: Target, registry: Registry) -> Iterator[tuple[Node, SdkError]]:
    """Every node of the main graph that no kernel takes, for its types or options."""
    simplified = passes.run_all(graph, registry)
    low = Lowering(simplified, target, registry)
    for node in simplified.nodes:
        low.node = node
        try:
            registry.op(node).lower(View(simplified, node), low)
        except SdkError as error:
            yield node, error


def _problems(refused: Iterable[tuple[Node, SdkError]]) -> list[Problem]:
    """Refusals that differ by the node alone are one problem."""
    found: dict[tuple[str, str], Problem] = {}
    for node, error in refused:
        key = node.op, error.message.replace(node.label, node.op)
        full = error.message if node.label in error.message else f"{node.label}: {error.message}"
        first = found.setdefault(key, Problem(full, error.remedy, node.label, 0))
        found[key] = replace(first, count=first.count + 1)
    return list(found.values())


def _graphs(graph: Graph) -> Iterable[Graph]:
    return graph, *graph.subgraphs.values()


def _node(graph: Graph, node: Node, registry: Registry | None) -> NodeReport:
    macs: int | None = None
    if registry is not None:  # the rules of operators build on those of graphs
        view = View(graph, node)
        with contextlib.suppress(SdkError):
            op = registry.op(node)
            op.check(view)
            macs = op.macs(view)
    return NodeReport(node.label, macs, node.inputs, node.outputs)


def _constant_bytes(tensor: Tensor) -> int:
    """Its size in the model file, where two 4-bit values share a byte."""
    if tensor.data is None:
        return 0
    return (tensor.bytes + 1) // 2 if tensor.dtype is DType.INT4 else tensor.bytes


def _memory(lowered: Lowered) -> Memory:
    names = [step.name for step in lowered.steps]
    return _timeline(names, (lowered.plan, lowered.fast), lowered.program.state_bytes, exact=True)


def _timeline(names: list[str], plans: Sequence[Plan], state_bytes: int, *, exact: bool) -> Memory:
    live = [sum(each.used_bytes(step) for each in plans) for step in range(len(names))]
    arena_bytes, bound_bytes = sum(each.arena_bytes for each in plans), sum(each.lower_bound_bytes for each in plans)
    return Memory(tuple(zip(names, live, strict=True)), arena_bytes, bound_bytes, state_bytes, exact)


def _estimate(graph: Graph) -> Memory:
    """The memory of the model's tensors alone: what a program would need that neither shares nor views."""
    end = len(graph.nodes)
    first = dict.fromkeys(graph.inputs, -1)
    last: dict[int, int] = {}
    for step, node in enumerate(graph.nodes):
        for tensor_id in (*node.outputs, *node.inputs):
            if tensor_id is not None:
                first.setdefault(tensor_id, step)
        last |= {i: step for i in (*node.inputs, *node.outputs) if i is not None}
    last |= dict.fromkeys(graph.outputs, end)
    buffers = [
        Buffer(i, max(graph.tensor(i).bytes, 0), start, last.get(i, start), graph.tensor(i).name)
        for i, start in first.items()
        if graph.tensor(i).data is None
    ]
    state = sum(tensor.bytes for each in _graphs(graph) for tensor in each.tensors.values() if tensor.variable)
    return _timeline([node.label for node in graph.nodes], [plan(buffers)], state, exact=False)


def form_text(tensor: Tensor) -> str:
    """Type and shape: int8[1, 96, 96, 3]."""
    return f"{tensor.dtype.numpy_name}{list(tensor.shape)}"


def graph_text(graph: Graph) -> str:
    """A graph as text, one node a line: what it makes, the operator, what it reads. Tensors by their ids."""

    def made(tensor_id: int) -> str:
        return f"%{tensor_id} {form_text(graph.tensor(tensor_id))}"

    def read(tensor_id: int | None) -> str:
        if tensor_id is None:
            return "-"
        constant = graph.tensor(tensor_id).data is not None
        return f"constant {form_text(graph.tensor(tensor_id))}" if constant else f"%{tensor_id}"

    lines = [f"inputs {', '.join(map(made, graph.inputs))}"]
    lines += [
        f"  {', '.join(map(made, node.outputs))} = {node.label} of {', '.join(map(read, node.inputs))}"
        for node in graph.nodes
    ]
    lines.append(f"outputs {', '.join(map(read, graph.outputs))}")
    return "\n".join(lines)


def fits(report: Report, boards: Iterable[Board]) -> list[Fit]:
    """How the model fits each board, lowered once for each profile that boards have. It is an estimate for a model that
    cannot be lowered (its weights for the program, its tensors for the arena), and for boards whose flash the report's
    own program, if it is a portable one, exceeds by a tenth: profiles' own are hardly smaller."""
    lowered: dict[Target, Lowered | None] = {report.target: report.lowered}
    portable_bytes = len(report.lowered.block) if report.lowered and report.target.profile is Profile.portable else 0
    result = []
    for board in boards:
        target = board.target(report.target.optimize, report.target.weights_ram_bytes)
        too_large = 10 * portable_bytes > 11 * board.program_flash_bytes
        if report.lowered is not None and target not in lowered and not too_large:
            lowered[target] = lower(report.graph, target, report.registry)
        result.append(_fit(board, report, lowered.get(target, report.lowered)))
    return result


def _fit(board: Board, report: Report, lowered: Lowered | None) -> Fit:
    if lowered is None:
        return Fit(board, report.weight_bytes, report.memory.arena_bytes + report.memory.state_bytes)
    return fit(lowered, board)
