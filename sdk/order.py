"""The order of a program's steps that needs the least memory at once.

A branch that ends in something small is best finished before the next one begins. Orders are searched step by step: of
those that have done the same work, after which the same lives, only the one with the lowest peak is followed, and of
the rest the most promising (a beam: the work is bounded). Whatever writes a byte stays behind what used it before, and
what uses it behind what wrote it, state included: results cannot change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from sdk.memory import arrange, share_of
from sdk.plan import Plan, aligned
from sdk.program import Region

if TYPE_CHECKING:
    from sdk.lower import Draft, Lowering, Value

BEAM = 32  # orders followed at a time
WORK = 60_000  # of these, times steps: large programs get a narrower beam


@dataclass(frozen=True)
class _State:
    """What is done, as bits; the bytes that live after it; the most that lived at once; in which order."""

    done: int
    live: int
    peak: int
    order: tuple[int, ...]


def ordered(low: Lowering, outputs: Sequence[Value]) -> Plan:
    """The plan of the arena, after bringing the steps into another order where that makes it smaller."""
    layout, steps = arrange(low, outputs), low.steps
    low.steps = reorder(low, outputs) or steps
    changed = arrange(low, outputs) if low.steps is not steps else layout
    if changed.arena_bytes < layout.arena_bytes:
        return changed
    low.steps = steps
    return layout


def reorder(low: Lowering, outputs: Sequence[Value]) -> list[Draft] | None:
    """The steps in a better order; None where the one that they have is as good, or control flow fixes it."""
    if any(draft.target is not None for draft in low.steps):
        return None
    search = _Search(low, outputs)
    peak = search.peak_of(range(len(search.units)))
    if peak == search.floor():
        return None
    found = search.best()
    if found.peak >= peak:
        return None
    return [draft for unit in found.order for draft in search.units[unit]]


class _Search:
    def __init__(self, low: Lowering, outputs: Sequence[Value]) -> None:
        # A node's steps stay together: its outputs are looked at after the last of them.
        self.units = [list(group) for _, group in groupby(low.steps, key=lambda draft: id(draft.node))]
        self.sizes = [aligned(count) for count in low.buffer_bytes]
        self.before = [0] * len(self.units)  # the units, as bits, that must come before each
        self.users: dict[int, int] = {}  # the units, as bits, that touch each buffer
        self.touched: list[set[int]] = []
        uses: dict[tuple[Region, int], list[tuple[int, Value, bool]]] = {}
        for unit, drafts in enumerate(self.units):
            self.touched.append(set())
            for value, written in _uses(drafts):
                if value.region is Region.ARENA:
                    self.touched[unit].add(value.buffer)
                    self.users[value.buffer] = self.users.get(value.buffer, 0) | 1 << unit
                self._depend(unit, value, written, uses)
        inputs = [low.values[tensor_id] for tensor_id in low.root.inputs]
        self.savings = [_savings(drafts, self.sizes) for drafts in self.units]
        self.given = {value.buffer for value in inputs if value.region is Region.ARENA}
        self.kept = {value.buffer for value in outputs if value.region is Region.ARENA}

    def _depend(
        self, unit: int, value: Value, written: bool, uses: dict[tuple[Region, int], list[tuple[int, Value, bool]]]
    ) -> None:
        known = uses.setdefault((value.region, value.buffer if value.region is Region.ARENA else 0), [])
        for other, theirs, wrote in known:
            meet = theirs.offset < value.offset + value.bytes and value.offset < theirs.offset + theirs.bytes
            if other != unit and meet and (written or wrote):
                self.before[unit] |= 1 << other
        known.append((unit, value, written))

    def best(self) -> _State:
        """The order with the lowest peak that is found."""
        start = sum(self.sizes[i] for i in self.given)
        states = [_State(0, start, start, ())]
        width = max(1, min(BEAM, WORK // max(len(self.units), 1)))
        for _ in self.units:
            found: dict[int, _State] = {}
            for state in states:
                for following in self._following(state):
                    known = found.get(following.done)
                    if known is None or following.peak < known.peak:
                        found[following.done] = following
            states = sorted(found.values(), key=lambda s: (s.peak, s.live, s.order))[:width]
        return states[0]

    def floor(self) -> int:
        """What no order can be below: what one unit touches, less the most that it saves."""
        own = (sum(self.sizes[i] for i in touched) for touched in self.touched)
        saved = (max(savings.values(), default=0) for savings in self.savings)
        return max((size - less for size, less in zip(own, saved, strict=True)), default=0)

    def peak_of(self, order: Sequence[int]) -> int:
        state = _State(0, sum(self.sizes[i] for i in self.given), 0, ())
        for unit in order:
            state = self._after(state, unit)
        return state.peak

    def _following(self, state: _State) -> Iterator[_State]:
        for unit, before in enumerate(self.before):
            if not state.done >> unit & 1 and before & state.done == before:
                yield self._after(state, unit)

    def _after(self, state: _State, unit: int) -> _State:
        done = state.done | 1 << unit
        touched = self.touched[unit]
        born = {i for i in touched if i not in self.given and not self.users[i] & state.done}
        dying = {i for i in touched if i not in self.kept and self.users[i] & done == self.users[i]}
        during = state.live + sum(self.sizes[i] for i in born)
        saved = (bytes_ for (a, b), bytes_ in self.savings[unit].items() if a in dying and b in born)
        peak = max(state.peak, during - max(saved, default=0))
        return _State(done, during - sum(self.sizes[i] for i in dying), peak, (*state.order, unit))


def _savings(drafts: Sequence[Draft], sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """The bytes that a unit of one step saves where it writes a buffer over another, should that die in it."""
    if len(drafts) > 1 or not drafts[0].overlaps:
        return {}
    touched = {value.buffer for value in drafts[0].values if value.region is Region.ARENA}
    shares = {(a, b): share_of(drafts[0], a, b) for a in touched for b in touched if a != b}
    return {(a, b): share.saving(sizes[a], sizes[b]) for (a, b), share in shares.items() if share is not None}


def _uses(drafts: Sequence[Draft]) -> Iterator[tuple[Value, bool]]:
    """(value, whether it is written) of all that the steps touch, and of what is looked at after them."""
    for draft in drafts:
        for value, slot in zip(draft.values, draft.kernel.slots, strict=True):
            if value.region in (Region.ARENA, Region.STATE):
                yield value, slot.written
        yield from ((value, False) for _, value in draft.watched if value.region in (Region.ARENA, Region.STATE))
