"""Where every buffer of a program lies in its arena.

A buffer lives from the step that first writes it to the step that last reads it, both included. The plan gives each one
an offset so that no two buffers that live at the same step share a byte. Finding the smallest arena is bin packing in
disguise (NP-hard), so several greedy orders are tried and the best is kept; most real models reach the lower bound, the
largest sum of live bytes at any step, which no plan can beat.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sdk.program import ALIGNMENT

ATTEMPTS = 400  # random orders tried where the greedy ones miss the lower bound


@dataclass(frozen=True)
class Buffer:
    """Bytes that live from step `first` to step `last`; inputs start at -1, outputs end after the last step."""

    id: int
    bytes: int
    first: int
    last: int
    label: str = ""

    @property
    def size(self) -> int:
        """Its bytes, rounded up to the alignment that every buffer starts at."""
        return -(-self.bytes // ALIGNMENT) * ALIGNMENT

    def meets(self, other: Buffer) -> bool:
        """Whether both live at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Offsets by buffer id, the arena's size, and the size that no plan can be below."""

    offsets: dict[int, int]
    arena_bytes: int
    lower_bound_bytes: int
    buffers: tuple[Buffer, ...]

    def check(self) -> None:
        """Proves the plan: no two buffers that live at the same step share a byte. AssertionError if one does."""
        for i, a in enumerate(self.buffers):
            start = self.offsets[a.id]
            assert start % ALIGNMENT == 0, a
            assert 0 <= start <= self.arena_bytes - a.bytes, a
            for b in self.buffers[i + 1 :]:
                other = self.offsets[b.id]
                apart = start + a.bytes <= other or other + b.bytes <= start
                assert apart or not a.meets(b), (a, b)


def lower_bound(buffers: Iterable[Buffer]) -> int:
    """The largest sum of sizes that live at one step, in bytes."""
    change: dict[int, int] = {}
    for buffer in buffers:
        change[buffer.first] = change.get(buffer.first, 0) + buffer.size
        change[buffer.last + 1] = change.get(buffer.last + 1, 0) - buffer.size
    live = peak = 0
    for step in sorted(change):
        live += change[step]
        peak = max(peak, live)
    return peak


def place(order: Sequence[Buffer]) -> dict[int, int]:
    """Each buffer in turn at the lowest offset where it meets none of those before it."""
    offsets: dict[int, int] = {}
    placed: list[Buffer] = []
    for buffer in order:
        taken = sorted((offsets[other.id], other.size) for other in placed if other.meets(buffer))
        offset = 0
        for start, size in taken:
            if offset + buffer.size <= start:
                break
            offset = max(offset, start + size)
        offsets[buffer.id] = offset
        placed.append(buffer)
    return offsets


def plan(buffers: Sequence[Buffer]) -> Plan:
    """The smallest arena found for `buffers`; the same for the same input on every machine."""
    bound = lower_bound(buffers)
    best: dict[int, int] = {}
    best_size = -1
    for order in _orders(buffers):
        offsets = place(order)
        size = max((offsets[b.id] + b.size for b in buffers), default=0)
        if best_size < 0 or size < best_size:
            best, best_size = offsets, size
        if best_size <= bound:
            break
    result = Plan(best, max(best_size, 0), bound, tuple(buffers))
    result.check()
    return result


def _orders(buffers: Sequence[Buffer]) -> Iterable[list[Buffer]]:
    """Orders to place buffers in: largest first, longest-lived first, by time, then largest first with swaps."""
    by_size = sorted(buffers, key=lambda b: (-b.size, b.first, b.id))
    yield by_size
    yield sorted(buffers, key=lambda b: (-(b.last - b.first) * b.size, b.id))
    yield sorted(buffers, key=lambda b: (b.first, -b.size, b.id))
    yield sorted(buffers, key=lambda b: (-b.last, -b.size, b.id))
    generator = random.Random(0)  # the seed makes plans repeat
    for _ in range(ATTEMPTS if len(buffers) > 2 else 0):
        order = list(by_size)
        for _ in range(generator.randint(1, 4)):
            i, j = generator.sample(range(len(order)), 2)
            order[i], order[j] = order[j], order[i]
        yield order
