"""Operators' test cases on a device: what `tests/test_ops.py` and `sdk ops --board` run.

A case is a graph of one operator. Its reference results come from both oracles, or from the operator's own `reference`
where TensorFlow Lite does not have it; they are asked once and compared with as many devices as wanted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from sdk.errors import MissingToolError, SdkError, UnsupportedError
from sdk.graph import Array, Graph
from sdk.inputs import random_values, usual_range
from sdk.link.device import Device
from sdk.load import load_bytes
from sdk.lower import Lowered, lower
from sdk.ops import registry
from sdk.ops.base import Case, Op, View
from sdk.oracle import IMPLEMENTATIONS, Oracle, OracleResult
from sdk.target import Target
from sdk.verify import verify
from sdk.write import write

INPUT_SETS = ("random", "random", "lowest", "highest")
RAM_SLACK_BYTES = 64  # what aligning program, arena and state may cost


@dataclass
class Answers:
    """A reference's results for a case's inputs, in order; stands in for the oracle that gave them."""

    results: list[OracleResult]
    next: int = 0

    def reset(self) -> None:
        """Begins again with the first inputs."""
        self.next = 0

    def run(self, _inputs: Sequence[Array]) -> OracleResult:
        """The results for the next inputs."""
        self.next += 1
        return self.results[self.next - 1]


@dataclass(frozen=True)
class Prepared:
    """A case with its model, its inputs, and the answers of the references that run it, by name."""

    case: Case
    model: bytes
    inputs: list[tuple[Array, ...]]
    answers: dict[str, Answers]


@dataclass(frozen=True)
class Outcome:
    """What came of one case: `fault` in words, "" if it is right; `ran` is False where the board was too small."""

    case: str
    ran: bool
    fault: str


def operators() -> dict[str, Op]:
    """The operators by their first name, each once."""
    return {name: op for name, op in registry().ops.items() if name == op.names[0]}


def run_cases(name: str, device: Device, target: Target, every: int = 1) -> Iterator[Outcome]:
    """Runs each `every`-th case of the operator `name` on `device`, whose image has its kernels."""
    for index in range(0, len(cases_of(name)), every):
        prepared = prepare(name, index)
        lowered = _lowered(name, index, target)
        if len(lowered.block) + lowered.program.ram_bytes + RAM_SLACK_BYTES > device.info.pool_bytes:
            yield Outcome(prepared.case.name, ran=False, fault="")
        elif not prepared.answers:
            yield Outcome(prepared.case.name, ran=True, fault="no oracle runs it")
        else:
            yield Outcome(prepared.case.name, ran=True, fault=_compare(prepared, lowered, device))


def _compare(prepared: Prepared, lowered: Lowered, device: Device) -> str:
    try:
        device.load(lowered.block)
        for which, answers in prepared.answers.items():
            verdict = verify(device, lowered, answers, prepared.inputs)
            if not verdict.ok:
                return f"against {which}: {verdict.first_difference}"
    except SdkError as error:
        return error.message
    return ""


@lru_cache(maxsize=1)  # of the operator whose turn it is
def cases_of(name: str) -> tuple[Case, ...]:
    """An operator's cases."""
    return tuple(registry().ops[name].cases())


@cache
def prepare(name: str, index: int) -> Prepared:
    """The case `index` of an operator with all that is needed to run it."""
    op = registry().ops[name]
    case = cases_of(name)[index]
    model = write(case.graph)
    inputs = list(case.inputs) or list(input_sets(case.graph))
    answers: dict[str, Answers] = {}
    for which in IMPLEMENTATIONS:
        with (
            contextlib.suppress(UnsupportedError, MissingToolError),  # one of them may not know the operator
            Oracle(model, which) as oracle,
        ):
            results = [oracle.run(each) for each in inputs]
            same = next((known for known, other in answers.items() if _equal(other.results, results)), None)
            if same is None:
                answers[which] = Answers(results)
            else:
                answers[f"{same} and {which}"] = answers.pop(same)
    if not answers:
        view = View(case.graph, case.graph.nodes[0])
        own = [op.reference(view, _all_inputs(view, each)) for each in inputs]
        if None not in own:
            answers["its own reference"] = Answers([OracleResult(list(result or ()), {}) for result in own])
    return Prepared(case, model, inputs, answers)


def _all_inputs(view: View, given: Sequence[Array]) -> list[Array]:
    """The values of a node's inputs, its constants and those that its graph is given."""
    values = dict(zip(view.graph.inputs, given, strict=True))
    return [values[tensor.id] if tensor.data is None else tensor.data for tensor in view.inputs]


def _equal(some: list[OracleResult], others: list[OracleResult]) -> bool:
    """Whether two oracles give the same outputs, bit for bit: then a device need be compared with one alone."""
    pairs = [pair for a, b in zip(some, others, strict=True) for pair in zip(a.outputs, b.outputs, strict=True)]
    return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


@cache
def _lowered(name: str, index: int, target: Target) -> Lowered:
    return lower(load_bytes(prepare(name, index).model), target)


def input_sets(graph: Graph) -> Iterator[tuple[Array, ...]]:
    """Inputs over the whole range of each type, always the same."""
    rng = np.random.default_rng(0)
    for kind in INPUT_SETS:
        yield tuple(_values(graph, i, kind, rng) for i in graph.inputs)


def _values(graph: Graph, tensor_id: int, kind: str, rng: np.random.Generator) -> Array:
    tensor = graph.tensor(tensor_id)
    dtype = tensor.dtype.numpy
    if kind == "random" or dtype.kind == "b":
        return random_values(rng, dtype, tensor.shape)
    if dtype.kind == "f":
        spread: Array = random_values(rng, dtype, tensor.shape) * dtype.type(0 if kind == "lowest" else 20)
        return spread
    low, high = usual_range(dtype)
    return np.full(tensor.shape, low if kind == "lowest" else high, dtype)
