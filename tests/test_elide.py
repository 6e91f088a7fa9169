"""Spared copies: random steps with jumps do the same before and after, simulated on symbols instead of numbers."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from sdk.elide import spare_copies
from sdk.graph import DType, Node, Tensor
from sdk.lower import Draft, Lowering, Value
from sdk.ops.base import Kernel, read, write
from sdk.ops.control import COPY, COPY_ARGS, JUMP_UNLESS
from sdk.program import NO_ARGS, Region

BYTES = 16
STATES, BUFFERS = 1, 4
INPUT, OUTPUT = 0, 1  # buffers
CALLS = 3

MIX = Kernel("mix", 9999, "", NO_ARGS, (read("a", DType.INT8), read("b", DType.INT8), write("y", DType.INT8)))
NODE = Node("MIX", (), ())

# A place is a state (below STATES) or a buffer; a step is (kind, places or numbers).
Places = tuple[int, int, int]
Steps = list[tuple[str, Places]]
KINDS = ("read", "write", "write", "mix", "mix", "mix", "jump")
PROGRAMS = 6000  # leaving out any condition of sdk/elide.py shows within the first 3000


def random_steps(rng: random.Random) -> Steps:
    some = range(STATES + BUFFERS)
    return [
        (rng.choice(KINDS), (rng.choice(some), rng.choice(some), rng.choice(some))) for _ in range(rng.randint(2, 8))
    ]


def value(place: int) -> Value:
    if place < STATES:
        return Value(Region.STATE, 0, BYTES, place * BYTES)
    return Value(Region.ARENA, place - STATES, BYTES)


def place_of(where: Value) -> int:
    return where.offset // BYTES if where.region is Region.STATE else STATES + where.buffer


def drafts_of(steps: Steps) -> list[Draft]:
    drafts = []
    for number, (kind, (a, b, c)) in enumerate(steps):
        if kind in ("read", "write"):
            state, buffer = value(a % STATES), value(STATES + b % BUFFERS)
            ends = (state, buffer) if kind == "read" else (buffer, state)
            draft = Draft(COPY, COPY_ARGS.pack({"bytes": BYTES}), ends, NODE, 0, ())
        elif kind == "mix":
            draft = Draft(MIX, b"", (value(a), value(b), value(c)), NODE, 0, ())
        else:
            condition = value(STATES + INPUT)
            target = (a + STATES * b + c) % (len(steps) + 1)
            draft = Draft(JUMP_UNLESS, b"", (condition,), NODE, 0, (), target=target)
        if kind in ("read", "mix"):
            draft.watched = ((Tensor(number, f"made by {number}", (BYTES,), DType.INT8), draft.values[-1]),)
        drafts.append(draft)
    return drafts


def lowering(drafts: list[Draft]) -> Lowering:
    return cast(Lowering, SimpleNamespace(steps=drafts, buffer_bytes=[BYTES] * BUFFERS, loops=[]))


def simulate(drafts: list[Draft], numbers: list[int], jumps: list[bool]) -> tuple[list[Any], set[Any]]:
    """What state and output are after each call, and all that can be looked at in between."""
    memory: dict[int, Any] = {place: ("initial", place) for place in range(STATES)}
    ends, seen = [], set()
    for call in range(CALLS):
        memory |= {STATES + buffer: ("left over", buffer) for buffer in range(BUFFERS)}
        memory[STATES + INPUT] = ("input", call)
        step, taken = 0, iter(jumps)
        while step < len(drafts):
            draft = drafts[step]
            operands = [memory[place_of(each)] for each in draft.values]
            step += 1
            if draft.target is not None:
                step = numbers[draft.target] if next(taken, False) else step
                continue
            made = operands[0] if draft.kernel is COPY else ("mix", *operands[:2])
            memory[place_of(draft.values[-1])] = hash(made) if draft.kernel is MIX else made
            seen |= {(call, tensor.id, memory[place_of(where)]) for tensor, where in draft.watched}
        ends.append([memory[place] for place in (*range(STATES), STATES + OUTPUT)])
    return ends, seen


def test_steps_do_the_same_without_the_spared_copies() -> None:
    rng = random.Random(0)
    for number in range(PROGRAMS):
        steps, jumps = random_steps(rng), [rng.random() < 0.5 for _ in range(rng.randint(0, 10))]
        before = drafts_of(steps)
        expected, visible = simulate(before, list(range(len(before) + 1)), jumps)
        low = lowering([replace(draft) for draft in before])
        numbers = spare_copies(low, [value(STATES + INPUT), value(STATES + OUTPUT)])
        ends, seen = simulate(low.steps, numbers, jumps)
        assert ends == expected, f"program {number}: {steps}, jumps {jumps}"
        assert seen <= visible, f"program {number}: {steps}, jumps {jumps}"


def test_copies_are_spared_at_all() -> None:
    a, b, c = 0, STATES + 2, STATES + 3
    steps: Steps = [("read", (a, 2, 0)), ("mix", (b, STATES + INPUT, c)), ("write", (a, 3, 0))]
    low = lowering(drafts_of(steps))
    low.loops = [(0, 3)]
    assert spare_copies(low, []) == [0, 0, 1, 2]
    assert [draft.kernel for draft in low.steps] == [MIX, COPY]  # the mix reads `a`: it cannot write it as well
    assert low.loops == [(0, 2)]
    assert {tensor.id for tensor, _ in low.steps[0].watched} == {0, 1}
