"""Where every buffer of a program lies in its arena.

A buffer lives from the step that first writes it to the step that last reads it, both included. The plan gives each one
an offset so that no two buffers that live at the same step share a byte, but where the step allows it: its output may
lie over an input that dies there, some bytes before it (`Share`). Finding the smallest arena is bin packing in disguise
(NP-hard), so several greedy orders are tried, the best is improved by moving single buffers, and the work is bounded;
most real models reach the lower bound, which no plan can beat.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sdk.program import ALIGNMENT

ATTEMPTS = 400  # orders tried where the greedy ones miss the lower bound
PATIENCE = 200  # of these, without success
WORK = 600_000  # pairs of buffers looked at in all these


def aligned(count: int) -> int:
    """`count` bytes, rounded up to what buffers are aligned to."""
    return -(-count // ALIGNMENT) * ALIGNMENT


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
        return aligned(self.bytes)


@dataclass(frozen=True)
class Share:
    """Leave for a buffer to lie over one that dies in the step where it is born: `least` bytes before it or any more
    (None: not so), or one of `exact` bytes before it."""

    least: int | None
    exact: frozenset[int] = frozenset()

    def allows(self, before: int) -> bool:
        return (self.least is not None and before >= self.least) or before in self.exact

    def both(self, other: Share) -> Share:
        """What this one and `other` allow."""
        least = None if self.least is None or other.least is None else max(self.least, other.least)
        return Share(least, frozenset(e for e in self.exact | other.exact if self.allows(e) and other.allows(e)))

    def forbidden(self, dying: int, born: int) -> list[tuple[int, int]]:
        """The open intervals in which a buffer of `born` bytes may not begin before one of `dying` bytes."""
        end = born if self.least is None else min(born, aligned(self.least))
        stops = sorted(e for e in self.exact if -dying < e < end and e % ALIGNMENT == 0)
        starts = [-dying, *stops]
        return [(low, high) for low, high in zip(starts, [*stops, end], strict=True) if low < high]

    def saving(self, dying: int, born: int) -> int:
        """The most bytes that buffers of these sizes can have in common."""
        edges = [edge for interval in self.forbidden(dying, born) for edge in interval] or [0]
        best = 0
        for before in (*edges, 0):
            if not any(low < before < high for low, high in self.forbidden(dying, born)):
                best = max(best, min(dying + before, born) - max(before, 0))
        return best


NEVER = Share(None)
Shares = Mapping[tuple[int, int], Share]  # by (id of the dying buffer, id of the born one)


@dataclass(frozen=True)
class Plan:
    """Offsets by buffer id, the arena's size, and the size that no plan can be below."""

    offsets: dict[int, int]
    arena_bytes: int
    lower_bound_bytes: int
    buffers: tuple[Buffer, ...]
    shares: Shares = field(default_factory=dict)

    def check(self) -> None:
        """Proves the plan: no two buffers that live at the same step share a byte, but where that step allows it.
        AssertionError if two do."""
        living: list[Buffer] = []
        for b in sorted(self.buffers, key=lambda each: each.first):
            start = self.offsets[b.id]
            assert start % ALIGNMENT == 0, b
            assert 0 <= start <= self.arena_bytes - b.bytes, b
            living = [a for a in living if a.last >= b.first]
            for a in living:
                other = self.offsets[a.id]
                apart = start + b.bytes <= other or other + a.bytes <= start
                handed_over = a.last == b.first and self.shares.get((a.id, b.id), NEVER).allows(other - start)
                assert apart or handed_over, (a, b)
            living.append(b)

    def used_bytes(self, step: int) -> int:
        """How many bytes of the arena hold something in `step`."""
        spans = sorted((self.offsets[b.id], b.size) for b in self.buffers if b.first <= step <= b.last)
        used = end = 0
        for start, size in spans:
            used += max(0, start + size - max(start, end))
            end = max(end, start + size)
        return used


def lower_bound(buffers: Iterable[Buffer], shares: Shares | None = None) -> int:
    """The largest sum of sizes that live at one step, less what buffers can have in common there, in bytes."""
    table = {buffer.id: buffer for buffer in buffers}
    change: dict[int, int] = {}
    for buffer in table.values():
        change[buffer.first] = change.get(buffer.first, 0) + buffer.size
        change[buffer.last + 1] = change.get(buffer.last + 1, 0) - buffer.size
    saved = _savings(table, shares or {})
    live = peak = 0
    for step in sorted(change):
        live += change[step]
        peak = max(peak, live - saved.get(step, 0))
    return peak


def _savings(table: Mapping[int, Buffer], shares: Shares) -> dict[int, int]:
    """An upper bound of what the buffers of each step have in common. Those that are born there lie apart from each
    other, and so do those that die there: no byte counts twice."""
    by_born: dict[int, int] = {}
    dying: dict[int, set[int]] = {}
    for (old, new), share in shares.items():
        a, b = table[old], table[new]
        by_born[new] = min(b.size, by_born.get(new, 0) + share.saving(a.size, b.size))
        dying.setdefault(b.first, set()).add(old)
    saved: dict[int, int] = {}
    for new, count in by_born.items():
        saved[table[new].first] = saved.get(table[new].first, 0) + count
    return {step: min(count, sum(table[i].size for i in dying[step])) for step, count in saved.items()}


class _Search:
    """Places buffers one after the other, each at the lowest offset that those before it leave; looks for the order in
    which that takes the least."""

    def __init__(self, buffers: Sequence[Buffer], shares: Shares) -> None:
        self.buffers = buffers
        self.sizes = [buffer.size for buffer in buffers]
        self.near = [list[tuple[int, int, int]]() for _ in buffers]
        living: list[int] = []
        for b in sorted(range(len(buffers)), key=lambda i: (buffers[i].first, i)):
            living = [a for a in living if buffers[a].last >= buffers[b].first]
            for a in living:
                share = shares.get((buffers[a].id, buffers[b].id))
                apart = [(-self.sizes[a], self.sizes[b])]
                for low, high in share.forbidden(self.sizes[a], self.sizes[b]) if share else apart:
                    self.near[a].append((b, low, high))
                    self.near[b].append((a, -high, -low))
            living.append(b)
        work = len(buffers) + sum(map(len, self.near))
        self.attempts = min(ATTEMPTS, WORK // max(work, 1))  # orders that may be tried

    def place(self, order: Sequence[int]) -> list[int]:
        """The offset of each buffer."""
        offsets = [-1] * len(self.buffers)
        for i in order:
            taken = [(offsets[j] + low, offsets[j] + high) for j, low, high in self.near[i] if offsets[j] >= 0]
            taken.sort()
            offset = 0
            for low, high in taken:
                if low >= offset:
                    break
                offset = max(offset, high)
            offsets[i] = offset
        return offsets

    def top(self, offsets: Sequence[int]) -> int:
        """The size of the arena."""
        return max(map(int.__add__, offsets, self.sizes), default=0)

    def best(self, bound: int) -> list[int]:
        """The best offsets found; stops at `bound`."""
        found = []
        for order in islice(self._greedy(), max(self.attempts, 1)):
            offsets = self.place(order)
            found.append((self.top(offsets), offsets, order))
            if found[-1][0] <= bound:
                return offsets
        best, offsets, order = min(found, key=lambda each: each[0])
        generator = random.Random(0)  # the seed makes plans repeat
        succeeded = 0
        for attempt in range(self.attempts):
            if best <= bound or attempt - succeeded > PATIENCE:
                break
            moved = self._moved(order, offsets, best, generator)
            changed = self.place(moved)
            size = self.top(changed)
            succeeded = attempt if size < best else succeeded
            if size <= best:
                best, offsets, order = size, changed, moved
        return offsets

    def _greedy(self) -> Iterator[list[int]]:
        """Orders: largest first, longest-lived first, against time, by time. Of two that are alike the later one comes
        first: where it may lie over the other it has to be the lower one."""
        b = self.buffers
        ids = range(len(b))
        yield sorted(ids, key=lambda i: (-b[i].size, -b[i].first, i))
        yield sorted(ids, key=lambda i: (-(b[i].last - b[i].first) * b[i].size, -b[i].first, i))
        yield sorted(ids, key=lambda i: (-b[i].last, -b[i].size, i))
        yield sorted(ids, key=lambda i: (b[i].first, -b[i].size, i))

    def _moved(self, order: list[int], offsets: list[int], size: int, generator: random.Random) -> list[int]:
        """`order` with one of the topmost buffers, or one beside it, placed earlier."""
        top = [i for i, o in enumerate(offsets) if o + self.sizes[i] == size]
        chosen = generator.choice(top)
        if generator.random() < 0.5 and self.near[chosen]:
            chosen = generator.choice(self.near[chosen])[0]
        place = order.index(chosen)
        before = generator.randrange(place + 1)
        return [*order[:before], chosen, *order[before:place], *order[place + 1 :]]


def plan(buffers: Sequence[Buffer], shares: Shares | None = None) -> Plan:
    """The smallest arena found for `buffers`; the same for the same input on every machine."""
    shares = dict(shares or {})
    bound = lower_bound(buffers, shares)
    search = _Search(buffers, shares)
    offsets = search.best(bound)
    places = {buffer.id: offset for buffer, offset in zip(buffers, offsets, strict=True)}
    result = Plan(places, search.top(offsets), bound, tuple(buffers), shares)
    result.check()
    return result
