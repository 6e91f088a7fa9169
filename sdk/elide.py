"""Spare the copies between the state and the arena that change nothing.

Reading a variable copies it from the state to a buffer, assigning it copies a buffer to the state. Most of these copies
can go:

- forward: state -> buffer, where the state keeps its value until the buffer's last use: its readers read the state.
- backward: buffer -> state, where nothing looks at the state between the step that makes the buffer and the copy: that
  step writes the state, and so do the buffer's readers read it.

Both look at the steps that can run between the first of them, `first`, and the last use. Control reaches none of these
but through `first`, or the copy stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate
from typing import TYPE_CHECKING

from sdk.program import ALIGNMENT, Region

if TYPE_CHECKING:
    from sdk.lower import Draft, Lowering, Value


def spare_copies(low: Lowering, ends: Sequence[Value]) -> list[int]:
    """Takes needless copies out of the steps of `low`; returns the new number of each step, and of the end.

    `ends` are the graph's inputs and outputs, which stay where they are.
    """
    kept = {value.buffer for value in ends if value.region is Region.ARENA}
    spared = _Elision(low.steps, low.buffer_bytes, kept).run()
    numbers = list(accumulate((i not in spared for i in range(len(low.steps))), initial=0))
    low.steps = [draft for i, draft in enumerate(low.steps) if i not in spared]
    low.loops = [(numbers[first], numbers[end]) for first, end in low.loops]
    return numbers


class _Elision:
    def __init__(self, drafts: Sequence[Draft], buffer_bytes: Sequence[int], kept: AbstractSet[int]) -> None:
        self.drafts = drafts
        self.buffer_bytes = buffer_bytes
        self.kept = kept
        self.spared: set[int] = set()

    def run(self) -> set[int]:
        copies = [i for i, draft in enumerate(self.drafts) if draft.kernel.copies]
        count = -1
        while len(self.spared) > count:  # one that goes can let another go
            count = len(self.spared)
            for index in copies:
                if index not in self.spared and (self._forward(index) or self._backward(index)):
                    self.spared.add(index)
        return self.spared

    def _forward(self, copy: int) -> bool:
        source, target = self.drafts[copy].values
        if source == target:
            return True
        if not _like_a_buffer(source) or not self._whole(target):
            return False
        uses = [i for i in self._uses(target) if i != copy]
        last = self._reach(copy, max(uses, default=copy))
        if last is None or min(uses, default=copy) < copy or any(self._writes(i, target) for i in uses):
            return False
        if any(self._writes(i, source) for i in self._between(copy + 1, last + 1)):
            return False
        self._move(target.buffer, source)
        if uses:  # what the copy made can be looked at after any of these as well
            self.drafts[min(uses)].watched += self.drafts[copy].watched
        return True

    def _backward(self, copy: int) -> bool:
        source, target = self.drafts[copy].values
        if not _like_a_buffer(target) or not self._whole(source):
            return False
        uses = self._uses(source)
        writers = [i for i in uses if self._writes(i, source)]
        if len(writers) != 1 or min(uses) < writers[0] or writers[0] > copy:
            return False
        writer = writers[0]
        last = self._reach(writer, max(uses))
        before, after = self._between(writer, copy), self._between(copy + 1, (last or 0) + 1)
        return (
            last is not None
            and [value for value in self.drafts[writer].values if _overlap(value, source)] == [source]
            and not any(self.drafts[i].target is not None or self._touches(i, target) for i in before)
            and not any(self._writes(i, target) for i in after)
            and self._move(source.buffer, target)
        )

    def _whole(self, value: Value) -> bool:
        """Whether `value` is all of a buffer that may go."""
        return (
            value.region is Region.ARENA
            and value.buffer not in self.kept
            and (value.offset, value.bytes) == (0, self.buffer_bytes[value.buffer])
        )

    def _between(self, first: int, end: int) -> list[int]:
        return [i for i in range(first, end) if i not in self.spared]

    def _uses(self, value: Value) -> list[int]:
        """The steps that name any part of the buffer of `value`, or after which it is looked at."""
        return [
            i
            for i in self._between(0, len(self.drafts))
            if any(same.buffer == value.buffer for same in _values(self.drafts[i]) if same.region is Region.ARENA)
        ]

    def _writes(self, index: int, value: Value) -> bool:
        draft = self.drafts[index]
        return any(s.written and _overlap(v, value) for v, s in zip(draft.values, draft.kernel.slots, strict=True))

    def _touches(self, index: int, value: Value) -> bool:
        return any(_overlap(other, value) for other in _values(self.drafts[index]))

    def _reach(self, first: int, last: int) -> int | None:
        """The last step that can run after `first` and still before step `last` does, without `first` running again;
        None if control can reach one of them past `first`."""
        while True:
            sources = [
                i
                for i in self._between(0, len(self.drafts))
                if (target := self.drafts[i].target) is not None and first < target <= last and not first <= i <= last
            ]
            if not sources:
                return last
            if min(sources) < first:
                return None
            last = max(sources)

    def _move(self, buffer: int, to: Value) -> bool:
        for draft in self.drafts:
            draft.move(buffer, to)
        return True


def _values(draft: Draft) -> Iterator[Value]:
    yield from draft.values
    yield from (value for _, value in draft.watched)


def _like_a_buffer(value: Value) -> bool:
    """Whether `value` lies in the state, aligned as buffers are."""
    return value.region is Region.STATE and value.offset % ALIGNMENT == 0


def _overlap(a: Value, b: Value) -> bool:
    same = a.region is b.region and (a.region is Region.STATE or a.buffer == b.buffer)
    return same and a.offset < b.offset + b.bytes and b.offset < a.offset + a.bytes
