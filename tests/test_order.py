"""The order of steps: branches one after the other where that needs less memory, and nothing that changes a result."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sdk import order
from sdk.graph import DType, Graph, Node
from sdk.link.device import Device
from sdk.lower import Lowered, lower
from sdk.ops.base import CaseGraph
from sdk.order import _Search, _State
from tests.test_elide import INPUT, OUTPUT, STATES, drafts_of, lowering, random_steps, simulate, value

WIDE, BRANCHES = 6400, 4


def branches() -> Graph:
    """Breadth first: everything large is made before any of it is summed up."""
    g = CaseGraph()
    x = g.input((1, 64), DType.INT8, 0.5)
    repeats, axes = g.constant(np.array([1, WIDE // 64]), DType.INT32), g.constant(np.array([1]), DType.INT32)
    wide = [g.tensor((1, WIDE), DType.INT8, 0.5) for _ in range(BRANCHES)]
    flat = [g.tensor((1, WIDE), DType.INT8, 0.5) for _ in range(BRANCHES)]
    small = [g.tensor((1, 1), DType.INT8, 0.5) for _ in range(BRANCHES)]
    y = g.output((1, BRANCHES), DType.INT8, 0.5)
    nodes = [Node("TILE", (x, repeats), (tensor,), {}, i) for i, tensor in enumerate(wide)]
    nodes += [Node("ABS", (a,), (b,), {}, 10 + i) for i, (a, b) in enumerate(zip(wide, flat, strict=True))]
    options = {"keep_dims": True}
    nodes += [
        Node("REDUCE_MAX", (a, axes), (b,), options, 20 + i) for i, (a, b) in enumerate(zip(flat, small, strict=True))
    ]
    nodes.append(Node("CONCATENATION", tuple(small), (y,), {"axis": 1}, 30))
    return g.case_of(nodes, "branches").graph


def test_branches_are_finished_one_after_the_other() -> None:
    lowered = lower(branches())
    assert lowered.program.arena_bytes < 2 * WIDE + 1000
    assert lowered.plan.lower_bound_bytes >= WIDE
    names = [info.name.split()[0] for info in lowered.steps]
    assert names[:3] == ["TILE", "ABS", "REDUCE_MAX"]


def in_given_order(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> Lowered:
    with monkeypatch.context() as patch:
        patch.setattr(order, "reorder", lambda *_: None)
        return lower(graph)


def test_another_order_changes_no_result(host: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = branches()
    given, better = in_given_order(graph, monkeypatch), lower(graph)
    assert given.program.arena_bytes > BRANCHES * WIDE
    inputs = np.random.default_rng(0).integers(-100, 100, (1, 64)).astype(np.int8)
    results = []
    for lowered in (given, better):
        host.load(lowered.block)
        results.append(host.run([inputs])[0].tolist())
    assert results[0] == results[1] == [[int(np.abs(inputs).max())] * BRANCHES]


def test_every_order_that_is_looked_at_does_the_same() -> None:
    """Random steps on symbols instead of numbers, in random orders among those that the search goes through."""
    rng = random.Random(0)
    changed = 0
    for number in range(3000):
        steps = [step for step in random_steps(rng) if step[0] != "jump"]
        drafts = [replace(draft, node=Node("MIX", (), ())) for draft in drafts_of(steps)]
        low = lowering(drafts)
        low.values, low.root = {0: value(STATES + INPUT)}, SimpleNamespace(inputs=[0])  # type: ignore[assignment]
        search = _Search(low, [value(STATES + OUTPUT)])
        states = [_State(0, 0, 0, ())]
        while len(states[0].order) < len(search.units):
            states = [rng.choice(list(search._following(states[0])))]
        ordered = [draft for unit in states[0].order for draft in search.units[unit]]
        changed += ordered != drafts
        numbers = list(range(len(drafts) + 1))
        assert simulate(ordered, numbers, []) == simulate(drafts, numbers, []), f"program {number}: {steps}"
    assert changed > 500
