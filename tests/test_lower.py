"""Lowering: copies between variables and buffers go where they change nothing, and only there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdk.graph import Array, DType, Graph, Node, Tensor
from sdk.link.device import Device
from sdk.load import load_bytes
from sdk.lower import Lowered, lower
from sdk.ops import registry
from sdk.ops.base import CaseGraph
from sdk.oracle import Oracle
from sdk.program import Region
from sdk.verify import verify
from sdk.write import write

CALLS = 10
WIDTH = 4
SHAPE = (1, WIDTH)
ROUNDS = 3  # of a loop, at most
INITIAL = 1  # the subgraph that CALL_ONCE runs


@dataclass
class Body:
    """A graph of variables and arithmetic on vectors of WIDTH floats, written node by node."""

    g: CaseGraph = field(default_factory=CaseGraph)
    nodes: list[Node] = field(default_factory=list)
    handles: dict[str, int] = field(default_factory=dict)

    def add(self, op: str, inputs: Sequence[int], outputs: Sequence[int], **options: object) -> None:
        self.nodes.append(Node(op, tuple(inputs), tuple(outputs), options, len(self.nodes)))

    def handle(self, name: str) -> int:
        if name not in self.handles:
            self.handles[name] = self.g.tensor((), DType.RESOURCE)
            self.add("VAR_HANDLE", [], [self.handles[name]], container="", shared_name=name)
        return self.handles[name]

    def vector(self) -> int:
        return self.g.tensor(SHAPE, DType.FLOAT32)

    def read(self, name: str) -> int:
        value = self.vector()
        self.add("READ_VARIABLE", [self.handle(name)], [value])
        return value

    def assign(self, name: str, value: int) -> None:
        self.add("ASSIGN_VARIABLE", [self.handle(name), value], [])

    def turned(self, x: int) -> int:
        """The elements of `x` in another order, plus 1."""
        weights = self.g.constant(np.roll(np.eye(WIDTH), 1, axis=0), DType.FLOAT32)
        y = self.vector()
        options = {"fused_activation_function": 0, "weights_format": 0, "keep_num_dims": False}
        self.add("FULLY_CONNECTED", [x, weights, self.g.constant(np.ones(WIDTH), DType.FLOAT32)], [y], **options)
        return y

    def spliced(self, a: int, b: int, start: int) -> int:
        """`a` and `b` in a row, and WIDTH elements of that from `start` on."""
        row = self.g.tensor((1, 2 * WIDTH), DType.FLOAT32)
        self.add("CONCATENATION", [a, b], [row], axis=1, fused_activation_function=0)
        begin = self.g.constant(np.array([0, start]), DType.INT32)
        size = self.g.constant(np.array(SHAPE), DType.INT32)
        y = self.vector()
        self.add("SLICE", [row, begin, size], [y])
        return y

    def branch(self, condition: int, value: int, subgraphs: tuple[int, int]) -> int:
        y = self.vector()
        self.add("IF", [condition, value], [y], then_subgraph_index=subgraphs[0], else_subgraph_index=subgraphs[1])
        return y

    def part(self, flags: int, start: int, count: int) -> int:
        begin, size = (self.g.constant(np.array([n]), DType.INT32) for n in (start, count))
        y = self.g.tensor((count,), DType.BOOL)
        self.add("SLICE", [flags, begin, size], [y])
        return y

    def joined(self, a: int, b: int, count: int) -> int:
        y = self.g.tensor((count,), DType.BOOL)
        self.add("CONCATENATION", [a, b], [y], axis=0, fused_activation_function=0)
        return y

    def loop(self, flags: int, value: int, subgraphs: tuple[int, int]) -> int:
        """A round for each true flag before the first false one; the last of ROUNDS + 1 flags is false."""
        no = self.g.constant(np.zeros(1, bool), DType.BOOL)
        carried = self.joined(flags, no, ROUNDS + 1)
        outputs = [self.g.tensor((ROUNDS + 1,), DType.BOOL), self.vector()]
        self.add("WHILE", [carried, value], outputs, cond_subgraph_index=subgraphs[0], body_subgraph_index=subgraphs[1])
        return outputs[1]

    def graph(self, inputs: Sequence[int], outputs: Sequence[int], subgraphs: dict[int, Graph] | None = None) -> Graph:
        graph = self.g.case_of(self.nodes, "body").graph
        return replace(graph, inputs=tuple(inputs), outputs=tuple(outputs), subgraphs=subgraphs or {})


def first_flag() -> Graph:
    """The condition of a loop."""
    body = Body()
    flags, value = body.g.tensor((ROUNDS + 1,), DType.BOOL), body.vector()
    return body.graph([flags, value], [body.part(flags, 0, 1)])


def round_of(statements: Callable[[Body, int], int]) -> Graph:
    """A round of a loop: moves the flags on by one, and the vector by `statements`."""
    body = Body()
    flags, value = body.g.tensor((ROUNDS + 1,), DType.BOOL), body.vector()
    moved = body.joined(body.part(flags, 1, ROUNDS), body.part(flags, ROUNDS, 1), ROUNDS + 1)
    return body.graph([flags, value], [moved, statements(body, value)])


def initializer(names: Sequence[str]) -> Graph:
    body = Body()
    for position, name in enumerate(names):
        body.assign(name, body.g.constant(np.full(SHAPE, 10.0 * position), DType.FLOAT32))
    return body.graph([], [])


def started(names: Sequence[str]) -> tuple[Body, dict[int, Graph]]:
    """A body whose variables have initial values, and its subgraphs."""
    body = Body()
    body.add("CALL_ONCE", [], [], init_subgraph_index=INITIAL)
    return body, {INITIAL: initializer(names)}


def check(host: Device, graph: Graph) -> Lowered:
    """Compares device and oracle, every tensor between included, over successive calls."""
    model = write(graph)
    lowered = lower(load_bytes(model))
    rng = np.random.default_rng(0)
    sets = [tuple(_random(graph.tensor(i), rng) for i in graph.inputs) for _ in range(CALLS)]
    host.load(lowered.block)
    with Oracle(model) as oracle:
        verdict = verify(host, lowered, oracle, sets, layers=True)
    assert verdict.ok, verdict.first_difference
    return lowered


def _random(tensor: Tensor, rng: np.random.Generator) -> Array:
    if tensor.dtype is DType.BOOL:
        return rng.integers(0, 2, tensor.shape).astype(bool)
    return rng.integers(-9, 9, tensor.shape).astype(np.float32)


def copies(lowered: Lowered) -> int:
    return sum(step.kernel == "copy" for step in lowered.steps)


def test_a_variable_is_read_and_written_where_it_lies(host: Device) -> None:
    body, subgraphs = started(["a"])
    x = body.g.tensor(SHAPE, DType.FLOAT32)
    y = body.spliced(body.read("a"), x, 1)
    body.assign("a", body.turned(y))
    lowered = check(host, body.graph([x], [y], subgraphs))
    assert copies(lowered) == 0
    assert {watch.operand.region for step in lowered.steps for watch in step.outputs} == {Region.ARENA, Region.STATE}


def test_the_copy_stays_where_the_old_value_is_needed(host: Device) -> None:
    body, subgraphs = started(["a"])
    x = body.g.tensor(SHAPE, DType.FLOAT32)
    old = body.read("a")
    body.assign("a", body.turned(x))
    y = body.turned(old)  # after the variable has changed
    lowered = check(host, body.graph([x], [y], subgraphs))
    assert copies(lowered) == 1


def test_the_copy_stays_where_the_variable_is_read_in_between(host: Device) -> None:
    body, subgraphs = started(["a"])
    x = body.g.tensor(SHAPE, DType.FLOAT32)
    new = body.turned(x)
    y = body.turned(body.read("a"))
    body.assign("a", new)
    lowered = check(host, body.graph([x], [y], subgraphs))
    assert copies(lowered) == 1  # the read's is spared, the assignment's is not


def test_the_copy_stays_where_the_variable_changes_before_the_last_use(host: Device) -> None:
    body, subgraphs = started(["a"])
    x = body.g.tensor(SHAPE, DType.FLOAT32)
    first = body.turned(x)
    body.assign("a", first)
    body.assign("a", body.turned(first))
    y = body.turned(first)
    lowered = check(host, body.graph([x], [y], subgraphs))
    assert copies(lowered) == 1


def test_the_copy_stays_where_it_may_be_skipped(host: Device) -> None:
    def storing(name: str | None) -> Graph:
        inner = Body()
        value = inner.g.tensor(SHAPE, DType.FLOAT32)
        if name is not None:
            inner.assign(name, value)
        return inner.graph([value], [inner.turned(value)])

    body, subgraphs = started(["a"])
    condition = body.g.tensor((1,), DType.BOOL)
    x = body.g.tensor(SHAPE, DType.FLOAT32)
    y = body.branch(condition, body.turned(x), (2, 3))
    z = body.turned(body.read("a"))
    lowered = check(host, body.graph([condition, x], [y, z], subgraphs | {2: storing("a"), 3: storing(None)}))
    assert copies(lowered) == 1 + 2  # the assignment's, and those to the output of IF


def test_a_loop_keeps_the_copies_of_what_it_carries(host: Device) -> None:
    def swap(inner: Body, value: int) -> int:
        old = inner.read("a")
        inner.assign("a", inner.turned(value))
        return old

    body, subgraphs = started(["a"])
    flags = body.g.tensor((ROUNDS,), DType.BOOL)
    x = body.g.tensor(SHAPE, DType.FLOAT32)
    y = body.loop(flags, body.read("a"), (2, 3))
    z = body.spliced(y, body.turned(x), 3)
    body.assign("a", body.turned(x))
    check(host, body.graph([flags, x], [z, y], subgraphs | {2: first_flag(), 3: round_of(swap)}))


def test_a_loop_reads_a_variable_where_it_lies(host: Device) -> None:
    body, subgraphs = started(["a"])
    flags = body.g.tensor((ROUNDS,), DType.BOOL)
    x = body.g.tensor(SHAPE, DType.FLOAT32)
    y = body.loop(flags, body.turned(x), (2, 3))
    body.assign("a", body.turned(y))
    mixed = round_of(lambda inner, value: inner.spliced(inner.read("a"), inner.turned(value), 1))
    lowered = check(host, body.graph([flags, x], [y], subgraphs | {2: first_flag(), 3: mixed}))
    assert copies(lowered) == 4  # the flags' and the vector's, into the loop and into its next round


def test_a_buffer_of_two_steps_is_copied(host: Device) -> None:
    body, _ = started([])
    x = body.g.tensor(SHAPE, DType.FLOAT32)
    old = body.g.tensor((1, 2 * WIDTH), DType.FLOAT32)
    body.add("READ_VARIABLE", [body.handle("row")], [old])
    row = body.g.tensor((1, 2 * WIDTH), DType.FLOAT32)
    body.add("CONCATENATION", [body.turned(x), x], [row], axis=1, fused_activation_function=0)
    body.assign("row", row)
    begin, size = (body.g.constant(np.array(numbers), DType.INT32) for numbers in ([0, 2], SHAPE))
    part = body.vector()
    body.add("SLICE", [old, begin, size], [part])
    check(host, body.graph([x], [body.turned(part)], {INITIAL: rows()}))


def rows() -> Graph:
    body = Body()
    body.assign("row", body.g.constant(np.arange(2.0 * WIDTH).reshape(1, -1), DType.FLOAT32))
    return body.graph([], [])


def test_outputs_and_inputs_keep_their_places(host: Device) -> None:
    body, subgraphs = started(["a", "b"])
    x = body.g.tensor(SHAPE, DType.FLOAT32)
    old = body.read("a")
    body.assign("a", x)
    y = body.turned(x)
    body.assign("b", y)
    lowered = check(host, body.graph([x], [old, y], subgraphs))
    assert copies(lowered) == 3


def test_a_branch_that_may_be_skipped_keeps_its_copies(host: Device) -> None:
    def taken(turns: bool) -> Graph:
        inner = Body()
        value = inner.g.tensor(SHAPE, DType.FLOAT32)
        inner.assign("a", inner.turned(value))
        result = inner.turned(inner.read("a")) if turns else inner.turned(value)
        return inner.graph([value], [result])

    body, subgraphs = started(["a"])
    condition = body.g.tensor((1,), DType.BOOL)
    x = body.g.tensor(SHAPE, DType.FLOAT32)
    old = body.read("a")
    y = body.branch(condition, x, (2, 3))
    z = body.spliced(old, y, 2)
    check(host, body.graph([condition, x], [y, z], subgraphs | {2: taken(True), 3: taken(False)}))


# Random statements: (kind, variable, operand, operand), operands counting back from the newest vector.
Script = list[tuple[str, str, int, int]]
Call = Callable[[Body, str, int], int]


def perform(script: Script, body: Body, x: int, call: Call | None = None) -> list[int]:
    """Adds the statements to `body`; returns `x` and all vectors made of it."""
    vectors = [x, body.turned(x)]
    for kind, name, i, j in script:
        a, b = vectors[-1 - i % len(vectors)], vectors[-1 - j % len(vectors)]
        if kind == "read":
            vectors.append(body.read(name))
        elif kind == "assign":
            body.assign(name, a)
        elif kind == "turn":
            vectors.append(body.turned(a))
        elif kind == "splice":
            vectors.append(body.spliced(a, b, j % (WIDTH + 1)))
        elif call is not None:
            vectors.append(call(body, kind, a))
    return vectors


kinds = st.sampled_from(["read", "read", "assign", "assign", "turn", "turn", "splice", "branch", "loop"])
statements = st.tuples(kinds, st.sampled_from("ab"), st.integers(0, 4), st.integers(0, 4))
scripts = st.lists(statements, min_size=1, max_size=12)


def branch_of(script: Script) -> Graph:
    body = Body()
    x = body.vector()
    return body.graph([x], perform(script, body, x)[-1:])


@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(main=scripts, then=scripts, otherwise=scripts, again=scripts)
def test_random_programs_keep_their_state(
    host: Device, main: Script, then: Script, otherwise: Script, again: Script
) -> None:
    body, subgraphs = started("ab")
    condition, flags = body.g.tensor((1,), DType.BOOL), body.g.tensor((ROUNDS,), DType.BOOL)
    x = body.vector()

    def call(body: Body, kind: str, value: int) -> int:
        return body.branch(condition, value, (2, 3)) if kind == "branch" else body.loop(flags, value, (4, 5))

    vectors = perform(main, body, x, call)
    subgraphs |= {2: branch_of(then), 3: branch_of(otherwise), 4: first_flag()}
    subgraphs |= {5: round_of(lambda inner, value: perform(again, inner, value)[-1])}
    check(host, body.graph([condition, flags, x], [body.turned(vectors[-1]), body.read("a")], subgraphs))


def test_outputs_last_where_an_inference_ends_early(host: Device) -> None:
    g = CaseGraph()
    x = g.input((1, 1, 1, WIDTH), DType.INT8, 0.5, 0)
    window = g.variable((1, 2, 1, WIDTH), DType.INT8, 0.5, 0)
    weights = g.constant(np.eye(2 * WIDTH), DType.INT8, 1.0)
    y = g.output((1, 2 * WIDTH), DType.INT8, 0.5, 0)
    options = {"fused_activation_function": 0, "weights_format": 0, "keep_num_dims": False}
    nodes = [
        Node("CUSTOM:CIRCULAR_BUFFER", (x,), (window,), {"cycles_max": 2}, 0),
        Node("FULLY_CONNECTED", (window, weights), (y,), options, 1),
    ]
    lowered = lower(load_bytes(write(g.case_of(nodes, "window").graph)))
    host.load(lowered.block)
    inputs = [np.arange(n, n + WIDTH, dtype=np.int8).reshape(1, 1, 1, WIDTH) for n in range(CALLS)]
    outputs = [host.run([data])[0].reshape(-1) for data in inputs]
    for call, output in enumerate(outputs):
        newest = call if call % 2 else call - 1  # every second call makes outputs, the others leave them
        window_of = np.concatenate([inputs[newest - 1], inputs[newest]]).reshape(-1) if call else np.zeros(2 * WIDTH)
        np.testing.assert_array_equal(output, window_of)


def test_a_shape_that_the_file_leaves_out_is_completed() -> None:
    case = next(registry().ops["CUSTOM:TFLite_Detection_PostProcess"].cases())
    bare = {i: replace(case.graph.tensor(i), shape=()) for i in case.graph.outputs}
    lowered = lower(replace(case.graph, tensors={**case.graph.tensors, **bare}))
    assert [spec.shape for spec in lowered.outputs] == [(1, 5, 4), (1, 5), (1, 5), (1,)]


def test_bounds_of_float_layers_add_up() -> None:
    g = CaseGraph()
    x, first, second = g.input((1, 4), DType.FLOAT32), g.tensor((1, 4), DType.FLOAT32), g.output((1, 4), DType.FLOAT32)
    nodes = [Node("LOGISTIC", (x,), (first,), {}, 0), Node("LOGISTIC", (first,), (second,), {}, 1)]
    own = registry().ops["LOGISTIC"].bound
    assert lower(g.case_of(nodes, "two").graph).bounds == ((2 * own.absolute, 2 * own.relative),)
