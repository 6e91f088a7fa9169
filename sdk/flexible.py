"""Options of custom operators: a FlexBuffers map, read so that damage costs neither time nor memory.

The library's own reader follows whatever refers to whatever: a hundred bytes can hold 2^30 values. Here a map holds
numbers, strings and vectors of them, which is all that operators use, and not many more of them than bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flatbuffers import flexbuffers

SHARED = 4  # how often a string may be referred to, on average


def options(raw: bytes) -> dict[str, Any]:
    """The options in `raw`; none where it is not such a map."""
    try:
        root = flexbuffers.GetRoot(raw)
        return _Reader(SHARED * len(raw)).map(root.AsMap) if root.IsMap else {}
    except Exception:  # noqa: BLE001 - FlexBuffers raises anything on data that is not FlexBuffers
        return {}


class _Reader:
    def __init__(self, budget: int) -> None:
        self.budget = budget  # values, characters and bytes that may still be read

    def map(self, table: Any) -> dict[str, Any]:
        return {self._scalar(key): self._value(each) for key, each in zip(table.Keys, table.Values, strict=True)}

    def _value(self, value: Any) -> Any:
        vector = _vector(value)
        return self._scalar(value) if vector is None else [self._scalar(each) for each in vector]

    def _scalar(self, value: Any) -> Any:
        """A number, text or bytes; None for what holds others."""
        read = None if value.IsMap or _vector(value) is not None else value.Value
        self.budget -= 1 + (len(read) if isinstance(read, str | bytes) else 0)
        if self.budget < 0:
            raise ValueError("more values than bytes")
        return read


def _vector(value: Any) -> Iterable[Any] | None:
    if value.IsVector and not value.IsMap:
        found: Iterable[Any] = value.AsVector
    elif value.IsTypedVector:
        found = value.AsTypedVector
    elif value.IsFixedTypedVector:
        found = value.AsFixedTypedVector
    else:
        return None
    return found
