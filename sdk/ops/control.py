"""IF, WHILE, CALL_ONCE and the variables that live across inferences.

Subgraphs are lowered in line; `jump` and `jump_unless` steps lead past them or back. Variables are spans of the state
region. The initializer that CALL_ONCE names is run on the host: what it assigns becomes the state's initial image.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sdk.graph import Array, DType, Graph, Node
from sdk.lower import ABSENT, Lowering, Value
from sdk.ops.base import Case, CaseGraph, Kernel, Op, View, read, write
from sdk.program import Struct, fields

JUMP_ARGS = Struct("ml_jump_args", fields("I", "target"))
COPY_ARGS = Struct("ml_copy_args", fields("I", "bytes"))

JUMP = Kernel("jump", 200, "control.c", JUMP_ARGS, ())
JUMP_UNLESS = Kernel("jump_unless", 201, "control.c", JUMP_ARGS, (read("condition", DType.BOOL),))
COPY = Kernel("copy", 202, "control.c", COPY_ARGS, (read("from", DType.INT8), write("to", DType.INT8)), copies=True)


def add_copy(low: Lowering, source: Value, target: Value) -> None:
    """Adds a step that copies all of `source` to `target`, unless they are the same bytes."""
    if source != target:
        low.step(COPY, {"bytes": target.bytes}, [source, target], in_place=[(0, 1)])


class If(Op):
    names = ("IF",)
    kernels = (JUMP, JUMP_UNLESS, COPY)
    types = ("all",)
    limits = "the condition is one bool"

    def check(self, view: View) -> None:
        view.need(view.input(0).dtype is DType.BOOL and view.input(0).elements == 1, "its condition is not one bool")

    def lower(self, view: View, low: Lowering) -> None:
        branches = view.option("then_subgraph_index"), view.option("else_subgraph_index")
        outputs = [low.value(tensor) for tensor in view.outputs]
        arguments = [low.value(tensor) for tensor in view.inputs[1:]]
        skip = low.jump(JUMP_UNLESS, [low.value(view.input(0))])
        leave = None
        for position, index in enumerate(branches):
            results = low.inline(index, arguments)
            view.need(
                len(results) == len(outputs), f"its subgraph {index} has {len(results)} outputs, not {len(outputs)}"
            )
            for result, output in zip(results, outputs, strict=True):
                view.need(result.bytes == output.bytes, f"an output of its subgraph {index} has another size")
                add_copy(low, result, output)
            if position == 0:
                leave = low.jump(JUMP, [])
                low.land(skip)
        assert leave is not None
        low.land(leave)

    def cases(self) -> Iterator[Case]:
        for name, condition in (("then", True), ("else", False)):
            g = CaseGraph()
            c = g.input((1,), DType.BOOL)
            x = g.input((1, 4), DType.INT8, 0.5, 0)
            y = g.output((1, 4), DType.INT8, 0.5, 0)
            data = np.arange(-2, 2, dtype=np.int8).reshape(1, 4)
            case = g.case(
                name,
                "IF",
                [c, x],
                [y],
                {"then_subgraph_index": 1, "else_subgraph_index": 2},
                [(np.array([condition]), data)],
            )
            yield _with_subgraphs(case, {1: _unary("MINIMUM"), 2: _unary("MAXIMUM")})


class While(Op):
    names = ("WHILE",)
    kernels = (JUMP, JUMP_UNLESS, COPY)
    types = ("all",)
    limits = "shapes that do not change from round to round"

    def check(self, view: View) -> None:
        view.need(len(view.inputs) == len(view.outputs), "it has not as many outputs as inputs")
        for a, b in zip(view.inputs, view.outputs, strict=True):
            view.need(a.bytes == b.bytes, f"its output {b.label} has another size than its input {a.label}")

    def lower(self, view: View, low: Lowering) -> None:
        carried = [low.value(tensor) for tensor in view.outputs]
        for tensor, value in zip(view.inputs, carried, strict=True):
            add_copy(low, low.value(tensor), value)
        first = len(low.steps)
        condition = low.inline(view.option("cond_subgraph_index"), carried)
        view.need(len(condition) == 1 and condition[0].bytes == 1, "its condition is not one bool")
        leave = low.jump(JUMP_UNLESS, condition)
        results = low.inline(view.option("body_subgraph_index"), carried)
        view.need(len(results) == len(carried), "its body has another number of outputs than it has inputs")
        self._carry(low, results, carried)
        again = low.jump(JUMP, [])
        low.loop(first)
        low.land(again, first)
        low.land(leave)

    @staticmethod
    def _carry(low: Lowering, results: list[Value], carried: list[Value]) -> None:
        """Moves a round's results to where the next round reads them; by way of scratch where they are permuted."""
        moved = []
        for result, value in zip(results, carried, strict=True):
            if result != value and any((result.region, result.buffer) == (v.region, v.buffer) for v in carried):
                spare = low.scratch(result.bytes)
                add_copy(low, result, spare)
                result = spare
            moved.append(result)
        for result, value in zip(moved, carried, strict=True):
            add_copy(low, result, value)

    def cases(self) -> Iterator[Case]:
        g = CaseGraph()
        n = g.input((1,), DType.INT32)
        x = g.input((1, 3), DType.FLOAT32)
        outputs = [g.output((1,), DType.INT32), g.output((1, 3), DType.FLOAT32)]
        values = [(np.array([k], np.int32), np.array([[1.0, -2.0, 0.5]], np.float32)) for k in (0, 3, 10, 11)]
        options = {"cond_subgraph_index": 1, "body_subgraph_index": 2}
        yield _with_subgraphs(
            g.case("count", "WHILE", [n, x], outputs, options, values), {1: _below_ten(), 2: _count_and_double()}
        )


class CallOnce(Op):
    names = ("CALL_ONCE",)
    types = ("all",)
    limits = "the initializer assigns constants"

    def check(self, view: View) -> None:
        view.need(view.option("init_subgraph_index") in view.graph.subgraphs, "it names a subgraph that does not exist")

    def lower(self, view: View, low: Lowering) -> None:
        graph = low.root.subgraphs[view.option("init_subgraph_index")]
        for node in graph.nodes:
            each = View(graph, node)
            if node.op == "ASSIGN_VARIABLE":
                data = each.constant(1)
                low.set_initial(low.variable(variable_name(each), data.nbytes), data)
            elif node.op != "VAR_HANDLE":
                raise view.unsupported(f"initializes a variable by {node.label}, which needs more than constants")

    def cases(self) -> Iterator[Case]:
        yield from ()


class Variables(Op):
    names = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
    kernels = (COPY,)
    types = ("all",)

    def check(self, view: View) -> None:
        if view.node.op == "VAR_HANDLE":
            view.need(view.output().dtype is DType.RESOURCE, "its output is not a resource")
        else:
            variable_name(view)

    def lower(self, view: View, low: Lowering) -> None:
        if view.node.op == "READ_VARIABLE":
            output = view.output()
            add_copy(low, low.variable(variable_name(view), output.bytes), low.value(output))
        elif view.node.op == "ASSIGN_VARIABLE":
            value = low.value(view.input(1))
            add_copy(low, value, low.variable(variable_name(view), value.bytes))
        else:
            low.alias(view.output(), ABSENT)

    def cases(self) -> Iterator[Case]:
        """A counter: y = state + x, state = y; the state starts at 5."""
        g = CaseGraph()
        x = g.input((1, 2), DType.FLOAT32)
        handle = g.tensor((), DType.RESOURCE)
        old = g.tensor((1, 2), DType.FLOAT32)
        y = g.output((1, 2), DType.FLOAT32)
        nodes = [
            Node("CALL_ONCE", (), (), {"init_subgraph_index": 1}, 0),
            Node("VAR_HANDLE", (), (handle,), {"container": "", "shared_name": "sum"}, 1),
            Node("READ_VARIABLE", (handle,), (old,), {}, 2),
            Node("ADD", (old, x), (y,), {"fused_activation_function": 0, "pot_scale_int16": False}, 3),
            Node("ASSIGN_VARIABLE", (handle, y), (), {}, 4),
        ]
        values = [(np.full((1, 2), k, np.float32),) for k in range(3)]
        yield _with_subgraphs(g.case_of(nodes, "sum", values), {1: _initializer()})


def variable_name(view: View) -> str:
    """The variable that the node's first input is a handle of. ModelError if no VAR_HANDLE makes it."""
    producer = view.graph.producers().get(view.input(0).id)
    if producer is None or producer.op != "VAR_HANDLE":
        raise view.unsupported("uses a variable whose handle is computed")
    return f"{producer.options.get('container', '')}/{producer.options.get('shared_name', '')}"


def _with_subgraphs(case: Case, subgraphs: dict[int, Graph]) -> Case:
    graph = case.graph
    whole = Graph(graph.name, graph.tensors, graph.nodes, graph.inputs, graph.outputs, subgraphs)
    return Case(case.name, whole, case.inputs)


def _unary(op: str) -> Graph:
    """y = op(x, 0) on four int8 values."""
    g = CaseGraph()
    x = g.input((1, 4), DType.INT8, 0.5, 0)
    zero = g.constant(np.zeros((1, 1), np.int8), DType.INT8, 0.5, 0)
    y = g.output((1, 4), DType.INT8, 0.5, 0)
    return g.case(op.lower(), op, [x, zero], [y], {}).graph


def _below_ten() -> Graph:
    g = CaseGraph()
    n = g.input((1,), DType.INT32)
    g.input((1, 3), DType.FLOAT32)
    y = g.output((1,), DType.BOOL)
    return g.case("below_ten", "LESS", [n, g.constant(np.array([10]), DType.INT32)], [y], {}).graph


def _count_and_double() -> Graph:
    g = CaseGraph()
    n, x = g.input((1,), DType.INT32), g.input((1, 3), DType.FLOAT32)
    m, y = g.output((1,), DType.INT32), g.output((1, 3), DType.FLOAT32)
    options = {"fused_activation_function": 0, "pot_scale_int16": False}
    nodes = [
        Node("ADD", (n, g.constant(np.array([1]), DType.INT32)), (m,), options, 0),
        Node("ADD", (x, x), (y,), options, 1),
    ]
    return g.case_of(nodes, "body").graph


def _initializer() -> Graph:
    g = CaseGraph()
    handle = g.tensor((), DType.RESOURCE)
    start: Array = np.full((1, 2), 5.0)
    nodes = [
        Node("VAR_HANDLE", (), (handle,), {"container": "", "shared_name": "sum"}, 0),
        Node("ASSIGN_VARIABLE", (handle, g.constant(start, DType.FLOAT32)), (), {}, 1),
    ]
    return g.case_of(nodes, "init").graph


OPS = [If(), While(), CallOnce(), Variables()]
