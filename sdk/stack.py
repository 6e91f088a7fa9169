"""How much stack an image can need at most, from the call graphs that gcc writes beside its objects.

Where a call through a pointer leads: from the interpreter to any kernel of the image, from a kernel to any function of
the kernels' own that nobody calls by name, and from elsewhere to those of the same file: the server's handlers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

CALL_GRAPH_FLAG = "-fcallgraph-info=su"
LIBRARY_BYTES = 128  # at the end of any path: functions of libgcc, of which no call graph tells, take less
EXCEPTION_BYTES = 112  # what a Cortex-M stacks at an interrupt, at most: registers, those of floating point, a gap
_FUNCTION = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*\\n(\d+) bytes \(([^)]+)\)')
_CALL = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
_POINTER = "__indirect_call"


def stack_bound(objects: Iterable[Path], symbols: Collection[str]) -> int | None:
    """Bytes on the deepest path from the start-up code, by the call graphs of `objects`; `symbols` has the names of the
    functions that the linker has kept. None where there is no bound: recursion, or arrays of variable size."""
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = defaultdict(set)
    kernels, callbacks = _POINTER + " kernels", _POINTER + " callbacks"
    for path in objects:
        graph = path.with_suffix(".ci")
        if not graph.exists():
            return None  # gcc alone writes them
        text = graph.read_text()
        edges = _CALL.findall(text)
        kept = {name: (int(count), kind) for name, count, kind in _FUNCTION.findall(text) if _symbol(name) in symbols}
        if any(kind == "dynamic" for _, kind in kept.values()):
            return None
        frames |= {name: count for name, (count, _) in kept.items()}
        unnamed = {name for name in kept if ":" in name} - {target for _, target in edges}
        pointer = kernels if "interpreter" in path.parts else f"{_POINTER} {path}"
        if "kernels" in path.parts:
            pointer = callbacks
            calls[kernels] |= {name for name in kept if ":" not in name}
        calls[pointer] |= unnamed
        for source, target in edges:
            calls[source].add(pointer if target == _POINTER else target)
    depth, interrupt = (_deepest(name, calls, frames, {}) for name in ("ml_start_core", "ml_on_systick"))
    if depth is None or interrupt is None:
        return None
    return depth + (EXCEPTION_BYTES + interrupt if "ml_on_systick" in frames else 0)


def _symbol(title: str) -> str:
    """gcc calls a static function by its file and name."""
    return title.rpartition(":")[2]


def _deepest(
    name: str, calls: Mapping[str, AbstractSet[str]], frames: Mapping[str, int], depths: dict[str, int | None]
) -> int | None:
    """Bytes from the entry of `name` on; None in a recursion. `depths` holds what is known, and None for the functions
    on the path to here."""
    if name not in depths:
        depths[name] = None
        below = [_deepest(target, calls, frames, depths) for target in calls.get(name, ())] or [LIBRARY_BYTES]
        known = [count for count in below if count is not None]
        if len(known) == len(below):
            depths[name] = frames.get(name, 0) + max(known)
    return depths[name]
