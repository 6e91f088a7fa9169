"""Damaged models end in an error with a message: never in a traceback, a hang or a full memory.

`make fuzz` does the same with the code's coverage as a guide, and runs what is lowered under sanitizers. What it has
found stands here as the models that showed it.
"""

from __future__ import annotations

import contextlib
import math
import random
import resource
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tflite
from flatbuffers import flexbuffers
from fuzzing import attempt, mutated, seeds

from sdk.errors import ModelError, SdkError, UnsupportedError
from sdk.graph import DType, Graph, Node, Quantization
from sdk.load import load_bytes
from sdk.lower import lower
from sdk.ops import registry
from sdk.ops.base import CaseGraph
from sdk.write import write

SEEDS = list(seeds())
ROUNDS = 12  # changes of changes of each seed
MEMORY_BYTES = 1 << 30
TIME_S = 5


class TooSlowError(BaseException):
    """Not an Exception: nothing that is tested may catch it."""


def _too_slow(*_: object) -> None:
    raise TooSlowError(f"more than {TIME_S} s of CPU time")


@pytest.fixture
def limits() -> Iterator[None]:
    """Lets an allocation that would need a gigabyte more fail, and a computation of five seconds."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, before[1]))
    handler = signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, TIME_S)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_damaged_models_are_refused_with_a_message(seed: int) -> None:
    rng = random.Random(seed)
    data = SEEDS[seed]
    for _ in range(ROUNDS):
        damaged = mutated(data, rng)
        with contextlib.suppress(SdkError):
            attempt(damaged)
            data = damaged  # what is still accepted may be damaged further


def case(op: str, dtype: DType) -> Graph:
    """The graph of an operator's first case that takes or makes `dtype`."""
    graphs = (each.graph for each in registry().ops[op].cases())
    return next(graph for graph in graphs if dtype in {tensor.dtype for tensor in graph.tensors.values()})


def with_options(graph: Graph, **options: Any) -> Graph:
    return replace(graph, nodes=(replace(graph.nodes[0], options={**graph.nodes[0].options, **options}),))


def with_scale(graph: Graph, tensor: int, scale: float) -> Graph:
    changed = replace(graph.tensors[tensor], quantization=Quantization((scale,), (0,)))
    return replace(graph, tensors={**graph.tensors, tensor: changed})


def with_type(graph: Graph, tensor: int, dtype: DType) -> Graph:
    return replace(graph, tensors={**graph.tensors, tensor: replace(graph.tensors[tensor], dtype=dtype)})


def range_to(limit: float) -> Graph:
    g = CaseGraph()
    numbers = [g.constant(np.array(value), DType.FLOAT32) for value in (-limit, limit, 1.0)]
    return g.case("range", "RANGE", numbers, [g.output((4,), DType.FLOAT32)]).graph


def while_without_input() -> Graph:
    graph = case("WHILE", DType.INT32)
    node = graph.nodes[0]
    return replace(graph, nodes=(replace(node, inputs=(None, *node.inputs[1:])),))


def large_state() -> Graph:
    """An int8 variable of 128 MiB whose zero is not 0: its first value would be part of the program."""
    g = CaseGraph()
    x = g.variable((1 << 27,), DType.INT8, 0.5, 3)
    g.input_ids.append(g.tensor((1 << 27,), DType.INT8, 0.5, 3))
    return g.case("state", "ADD", [x, 1], [g.output((1 << 27,), DType.INT8, 0.5, 3)]).graph


BRANCHES = ("then_subgraph_index", "else_subgraph_index")
WIDE_FILTER = {"filter_height": 2**31 - 1, "padding": 0}
FOUND = [
    (lambda: with_options(case("LEAKY_RELU", DType.INT8), alpha=math.nan), "LEAKY_RELU.* multiplier of nan"),
    (lambda: with_scale(case("HARD_SWISH", DType.INT8), 1, 1e-45), "HARD_SWISH.* too large or too small"),
    (lambda: with_scale(with_scale(case("RSQRT", DType.INT8), 0, 1e-45), 1, 1e-45), "RSQRT.* too large or too small"),
    (lambda: with_scale(case("LOGISTIC", DType.INT16), 0, 1e30), "LOGISTIC.* too large or too small"),
    (lambda: range_to(3e38), "RANGE.* too large or too small"),
    (while_without_input, "not as many outputs as inputs"),
    (large_state, "256 MiB or more|state needs"),
    (lambda: with_options(case("AVERAGE_POOL_2D", DType.FLOAT32), **WIDE_FILTER), "filter or stride above 65535"),
    (lambda: with_type(case("NOT_EQUAL", DType.FLOAT32), 0, DType.FLOAT64), "'t0' .* as float64"),
    (lambda: with_type(case("VAR_HANDLE", DType.RESOURCE), 1, DType.FLOAT32), "VAR_HANDLE.* not a resource"),
    (
        lambda: with_options(case("UNIDIRECTIONAL_SEQUENCE_LSTM", DType.INT8), cell_clip=math.nan),
        "clips its cell at nan",
    ),
]


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(("graph", "words"), FOUND, ids=[words for _, words in FOUND])
def test_what_was_found_is_refused(graph: Any, words: str) -> None:
    with pytest.raises((ModelError, UnsupportedError), match=words):
        lower(load_bytes(write(graph())))


@pytest.mark.usefixtures("limits")
def test_folding_does_not_fill_the_program() -> None:
    """A constant of one byte, repeated to 64 MiB: the device repeats it."""
    g = CaseGraph()
    tiled = g.tensor((1 << 26,), DType.INT8, 0.5)
    times = g.constant(np.array([1 << 26]), DType.INT32)
    one = g.constant(np.array([7]), DType.INT8, 0.5)
    x = g.input((1 << 26,), DType.INT8, 0.5)
    y = g.output((1 << 26,), DType.INT8, 0.5)
    add = g.case("add", "ADD", [tiled, x], [y], {"fused_activation_function": 0, "pot_scale_int16": False}).graph
    tile = replace(g.case("tile", "TILE", [one, times], [tiled]).graph.nodes[0], source=1)
    lowered = lower(load_bytes(write(replace(add, nodes=(tile, *add.nodes)))))
    assert len(lowered.block) < 1 << 20


@pytest.mark.usefixtures("limits")
def test_an_arena_that_a_program_cannot_address_is_refused() -> None:
    g = CaseGraph()
    x = g.input((1 << 26,), DType.INT8, 0.5)
    options = {"fused_activation_function": 0, "pot_scale_int16": False}
    nodes = [Node("ADD", (x, x), (g.output((1 << 26,), DType.INT8, 0.5),), options, i) for i in range(4)]
    with pytest.raises(UnsupportedError, match="cannot be addressed"):
        lower(load_bytes(write(g.case_of(nodes, "large").graph)))


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(("levels", "words"), [(12, "2000 nodes in all"), (20, "16 deep")])
def test_subgraphs_that_call_each_other_are_not_copied_without_end(levels: int, words: str) -> None:
    """Both branches of an IF call the next subgraph, with an IF of its own: 2^12 copies, or 20 levels."""

    def level(index: int) -> Graph:
        g = CaseGraph()
        c, x = g.input((1,), DType.BOOL), g.input((1, 4), DType.INT8, 0.5)
        y = g.output((1, 4), DType.INT8, 0.5)
        if index == levels:
            return g.case("leaf", "ABS", [x], [y]).graph
        return g.case("if", "IF", [c, c, x], [y], dict.fromkeys(BRANCHES, index + 1)).graph

    graph = replace(level(0), subgraphs={i: level(i) for i in range(1, levels + 1)})
    with pytest.raises(UnsupportedError, match=words):
        lower(load_bytes(write(graph)))


@pytest.mark.usefixtures("limits")
def test_options_that_refer_to_each_other_are_not_followed() -> None:
    """Thirty vectors, each of twice the one before: 2^30 values in 200 bytes."""
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Int("answer", 42)
        builder.Key("bomb")
        start = builder._StartVector()
        builder.Int(1)
        builder._EndVector(start, typed=False, fixed=False)
        for _ in range(30):
            start = len(builder._stack) - 1
            builder.ReuseValue(builder.LastValue)
            builder._EndVector(start, typed=False, fixed=False)
    g = CaseGraph()
    x, y = g.input((1,), DType.INT8, 0.5), g.output((1,), DType.INT8, 0.5)
    options = {"custom_options": bytes(builder.Finish())}
    graph = load_bytes(write(g.case("bomb", "CUSTOM:none", [x], [y], options).graph))
    assert graph.nodes[0].options["answer"] == 42
    assert graph.nodes[0].options["bomb"] == [None, None]


@pytest.mark.usefixtures("limits")
def test_a_tensor_that_stands_for_thousands_is_not_read_thousands_of_times() -> None:
    """20,000 tensors with one name of 60,000 bytes: 1.2 GB from a file of 140 kB."""
    b = flatbuffers.Builder(0)
    name = b.CreateString("x" * 60_000)
    tflite.TensorStart(b)
    tflite.TensorAddName(b, name)
    tensor = tflite.TensorEnd(b)
    b.StartVector(4, 20_000, 4)
    for _ in range(20_000):
        b.PrependUOffsetTRelative(tensor)
    tensors = b.EndVector()
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, tensors)
    graph = tflite.SubGraphEnd(b)
    b.StartVector(4, 1, 4)
    b.PrependUOffsetTRelative(graph)
    graphs = b.EndVector()
    tflite.BufferStart(b)
    buffer = tflite.BufferEnd(b)
    b.StartVector(4, 1, 4)
    b.PrependUOffsetTRelative(buffer)
    buffers = b.EndVector()
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddBuffers(b, buffers)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    with pytest.raises(ModelError, match="names are longer than the file, up to tensor"):
        load_bytes(bytes(b.Output()))
