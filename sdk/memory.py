"""From the steps of a program to its buffers: when each lives, and which may lie over another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdk.plan import Buffer, Plan, Share, Shares, lower_bound, plan
from sdk.program import Region

if TYPE_CHECKING:
    from sdk.lower import Draft, Lowering, Value


def arrange(low: Lowering, outputs: Sequence[Value]) -> Plan:
    """Where the buffers of the arena lie; `outputs` are needed after the last step."""
    first, last = _first_uses(low), _last_uses(low, outputs)
    touched = [i for i in range(len(first)) if first[i] <= last[i]]
    buffers = [Buffer(i, low.buffer_bytes[i], first[i], last[i], low.labels[i]) for i in touched]
    return plan(buffers, _shares(low.steps, first, last))


def in_fast_ram(low: Lowering, layout: Plan, fast_bytes: int) -> tuple[Plan, Plan]:
    """`layout` as two plans: of what lies in `fast_bytes` of fast RAM, and of the rest. The buffers that steps read and
    write most, a byte of their size, are fast as long as there is room."""
    if fast_bytes == 0:
        return plan([]), layout
    if layout.arena_bytes <= fast_bytes:
        return layout, plan([])
    moved = [0] * len(low.buffer_bytes)
    for value in (value for draft in low.steps for value in draft.values if value.region is Region.ARENA):
        moved[value.buffer] += value.bytes
    fast = plan([])
    for buffer in sorted(layout.buffers, key=lambda each: -moved[each.id] / max(each.size, 1)):
        tried = [*fast.buffers, buffer]
        if lower_bound(tried, _among(tried, layout.shares)) <= fast_bytes:
            larger = plan(tried, _among(tried, layout.shares))
            fast = larger if larger.arena_bytes <= fast_bytes else fast
    rest = [buffer for buffer in layout.buffers if buffer.id not in fast.offsets]
    return fast, plan(rest, _among(rest, layout.shares))


def _among(buffers: Sequence[Buffer], shares: Shares) -> Shares:
    """The shares of pairs that are both among `buffers`."""
    ids = {buffer.id for buffer in buffers}
    return {pair: share for pair, share in shares.items() if ids.issuperset(pair)}


def _shares(steps: Sequence[Draft], first: Sequence[int], last: Sequence[int]) -> dict[tuple[int, int], Share]:
    """What steps allow for buffers that die and are born in them."""
    found: dict[tuple[int, int], Share] = {}
    for index, draft in enumerate(steps):
        if draft.overlaps:
            touched = {v.buffer for v in draft.values if v.region is Region.ARENA}
            pairs = [(a, b) for a in touched if last[a] == index for b in touched if b != a and first[b] == index]
            shares = {pair: share_of(draft, *pair) for pair in pairs}
            found |= {pair: share for pair, share in shares.items() if share is not None}
    return found


def share_of(draft: Draft, dying: int, born: int) -> Share | None:
    """What `draft` allows for two buffers: that for each operand in the one and each in the other."""
    result: Share | None = None
    operands = [(i, v, draft.kernel.slots[i].written) for i, v in enumerate(draft.values) if v.region is Region.ARENA]
    if any(written != (v.buffer == born) for _, v, written in operands if v.buffer in (dying, born)):
        return None
    for i, source, _ in operands:
        for j, target, _ in operands:
            if source.buffer == dying and target.buffer == born:
                stated = [o.ahead_bytes for o in draft.overlaps if (o.read, o.written) == (i, j)]
                if not stated:
                    return None
                shift = target.offset - source.offset
                least = min((ahead + shift for ahead in stated if ahead is not None), default=None)
                share = Share(least, frozenset({shift} if None in stated else ()))
                result = share if result is None else result.both(share)
    return result


def _last_uses(low: Lowering, outputs: Sequence[Value]) -> list[int]:
    """The last step that touches each buffer; outputs are used after the last step."""
    last = [-1] * len(low.buffer_bytes)
    for index, draft in enumerate(low.steps):
        for value in draft.values:
            if value.region is Region.ARENA:
                last[value.buffer] = index
    for value in outputs:
        if value.region is Region.ARENA:
            last[value.buffer] = len(low.steps)
    first = _first_uses(low)
    for start, end in sorted(low.loops, key=lambda loop: loop[1]):  # inner loops end first
        for buffer, begin in enumerate(first):
            # What was there before the loop is needed again in its next round.
            if begin < start <= last[buffer] < end:
                last[buffer] = end
    return last


def _first_uses(low: Lowering) -> list[int]:
    """The first step that touches each buffer; the number of steps for one that none touches."""
    first = [len(low.steps)] * len(low.buffer_bytes)
    for index in reversed(range(len(low.steps))):
        for value in low.steps[index].values:
            if value.region is Region.ARENA:
                first[value.buffer] = index
    for value in (low.values[tensor_id] for tensor_id in low.root.inputs):
        if value.region is Region.ARENA:
            first[value.buffer] = -1
    return first
