"""Every operator's cases, on every board, against both oracles: integers bit for bit, float32 within its bound."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from sdk.boards import Board
from sdk.errors import SdkError
from sdk.graph import Array, DType, Graph
from sdk.link.device import Device
from sdk.load import load_bytes
from sdk.lower import Lowered, Target, lower
from sdk.ops import registry
from sdk.ops.base import Case, Op
from sdk.oracle import IMPLEMENTATIONS, Oracle, OracleResult
from sdk.program import Profile
from sdk.verify import verify
from sdk.write import write

OPS = {name: op for name, op in registry().ops.items() if name == op.names[0]}
INPUT_SETS = ("random", "random", "lowest", "highest")


def inputs_of(graph: Graph) -> list[tuple[Array, ...]]:
    """Input sets over the whole range of each type, always the same."""
    rng = np.random.default_rng(0)
    return [tuple(_values(graph, i, kind, rng) for i in graph.inputs) for kind in INPUT_SETS]


def _values(graph: Graph, tensor_id: int, kind: str, rng: np.random.Generator) -> Array:
    tensor = graph.tensor(tensor_id)
    if tensor.dtype is DType.FLOAT32:
        spread = {"random": 1.0, "lowest": 0.0, "highest": 20.0}[kind]
        return (rng.normal(size=tensor.shape) * spread).astype(np.float32)
    if tensor.dtype is DType.BOOL:
        return rng.integers(0, 2, tensor.shape).astype(bool)
    limits = np.iinfo(tensor.dtype.numpy)
    low, high = (limits.min, limits.max) if limits.bits <= 16 else (-1000, 1000)
    low = max(low, limits.min)
    if kind == "random":
        return rng.integers(low, high, tensor.shape, endpoint=True).astype(tensor.dtype.numpy)
    return np.full(tensor.shape, low if kind == "lowest" else high, tensor.dtype.numpy)


class Recorded:
    """An oracle's answers to a case's inputs, asked once and compared with many boards."""

    def __init__(self, model: bytes, which: str, sets: list[tuple[Array, ...]]) -> None:
        with Oracle(model, which) as oracle:
            self.results = [oracle.run(inputs) for inputs in sets]
        self.next = 0

    def reset(self) -> None:
        self.next = 0

    def run(self, _inputs: Sequence[Array]) -> OracleResult:
        self.next += 1
        return self.results[self.next - 1]


@cache
def reference(op_name: str, index: int) -> tuple[Case, bytes, list[tuple[Array, ...]], dict[str, Recorded]]:
    """A case, its model, its inputs, and the answers of the oracles that run it."""
    case = list(OPS[op_name].cases())[index]
    model = write(case.graph)
    sets = list(case.inputs) or inputs_of(case.graph)
    answers = {}
    for which in [case.follows] if case.follows else IMPLEMENTATIONS:
        with contextlib.suppress(SdkError):  # one of the two may not know the operator or type
            answers[which] = Recorded(model, which, sets)
    return case, model, sets, answers


@cache
def lowered_case(op_name: str, index: int, profile: Profile) -> Lowered:
    return lower(load_bytes(reference(op_name, index)[1]), Target(profile=profile))


def fits(lowered: Lowered, device: Device) -> bool:
    return len(lowered.block) + lowered.program.arena_bytes + lowered.program.state_bytes + 64 <= device.info.pool_bytes


@pytest.mark.parametrize("op_name", sorted(OPS))
def test_operator_equals_the_oracles(op_name: str, board: Board, device: Device) -> None:
    count = sum(1 for _ in OPS[op_name].cases())
    if count == 0:
        pytest.skip("its cases are those of the operators that use it")
    faults, ran = [], 0
    for index in range(count):
        case, _, sets, oracles = reference(op_name, index)
        lowered = lowered_case(op_name, index, board.profile)
        if not oracles:
            faults.append(f"{case.name}: no oracle runs it")
        if not fits(lowered, device):
            continue
        ran += 1
        device.load(lowered.block)
        for which, oracle in oracles.items():
            verdict = verify(device, lowered, oracle, sets)
            if not verdict.ok:
                faults.append(f"{case.name} against {which}: {verdict.first_difference}")
    assert not faults, "\n".join(faults)
    if ran == 0:
        pytest.skip(f"{board.id} has {device.info.pool_bytes} bytes, too few for any case")


def test_each_operator_says_its_types() -> None:
    def silent(op: Op) -> bool:
        return not op.types

    assert [name for name, op in OPS.items() if silent(op)] == []
