"""From the steps of a program to where everything lies: when each buffer lives, which may lie over another, what is in
fast RAM, and which weights are in RAM."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sdk.plan import Buffer, Plan, Share, Shares, lower_bound, plan
from sdk.program import ALIGNMENT, Region

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


@dataclass(frozen=True)
class WeightsInRam:
    """A node's constant that is copied to RAM, and how often an inference reads each of its bytes, about."""

    node: str
    bytes: int
    reads: int


def weights_to_ram(low: Lowering) -> tuple[WeightsInRam, ...]:
    """Moves constants to the state, as its initial values, while the target's RAM for weights lasts: those first whose
    bytes are read most often."""
    left, moved, report = low.target.weights_ram_bytes, {}, []
    reads = _reads(low) if left else {}
    for data, (node, times) in sorted(reads.items(), key=lambda item: -item[1][1]):
        size = -(-len(data) // ALIGNMENT) * ALIGNMENT
        if size <= left:
            left -= size
            moved[data] = low.state(len(data))
            low.set_initial(moved[data], np.frombuffer(data, np.uint8))
            report.append(WeightsInRam(node, len(data), round(times)))
    for draft in low.steps:
        draft.values = tuple(_in_ram(value, low, moved) for value in draft.values)
    return tuple(report)


def _reads(low: Lowering) -> dict[bytes, tuple[str, float]]:
    """Of each constant: a node that reads it, and how often all read each of its bytes; a node's reads are its
    multiplications, or the bytes that it writes, spread over its constants."""
    nodes: dict[int, list[Draft]] = defaultdict(list)
    for draft in low.steps:
        nodes[id(draft.node)].append(draft)
    reads: dict[bytes, tuple[str, float]] = {}
    for drafts in nodes.values():
        values = [value for draft in drafts for value in draft.values if value.region is Region.PROGRAM]
        constants = dict.fromkeys(low.constants[value.buffer][0] for value in values)
        written = sum(
            v.bytes for each in drafts for v, slot in zip(each.values, each.kernel.slots, strict=True) if slot.written
        )
        times = (sum(draft.macs for draft in drafts) or written) / max(sum(map(len, constants)), 1)
        for data in constants:
            reads[data] = (drafts[0].node.label, reads.get(data, ("", 0.0))[1] + times)
    return reads


def _in_ram(value: Value, low: Lowering, moved: Mapping[bytes, Value]) -> Value:
    to = moved.get(low.constants[value.buffer][0]) if value.region is Region.PROGRAM else None
    return value if to is None else replace(to, offset=to.offset + value.offset, bytes=value.bytes)


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
