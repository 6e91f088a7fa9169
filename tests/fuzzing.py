"""What `tests/test_fuzz.py` and `tests/fuzz_models.py` share: models damaged in ways that a reader may overlook, and
what must not go wrong with them.

A mutation of the structure changes a field of a tensor, a node or the graph and writes the model anew, so that the file
itself is sound; a mutation of the bytes spoils the file. Both are the same for the same state of `rng`.
"""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdk.emit import emit
from sdk.errors import SdkError
from sdk.graph import DType, Graph, Node, Quantization, Tensor
from sdk.load import load_bytes
from sdk.lower import lower
from sdk.ops import registry
from sdk.program import Profile
from sdk.target import Optimize, Target
from sdk.write import write

if TYPE_CHECKING:
    from sanitized import Runner

MODELS = Path(__file__).parent / "models"
SIZES = [-(2**31), -1, 0, 1, 2, 3, 4, 5, 7, 8, 16, 127, 128, 255, 256, 1000, 65535, 65536, 1 << 20, 1 << 26, 2**31 - 1]
SCALES = [0.0, -1.0, float("nan"), float("inf"), 1e-45, 1e-30, 1e-6, 0.003, 0.5, 1.0, 1e6, 1e30, 3e38]
ZERO_POINTS = [-(2**63), -(2**31), -32769, -129, -128, -1, 0, 1, 127, 128, 255, 256, 32767, 2**31, 2**63 - 1]
WORDS = [0, 1, 2, 3, 4, 8, 16, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 1 << 20, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
DTYPES = [dtype for dtype in DType if dtype not in (DType.STRING, DType.RESOURCE, DType.COMPLEX64)]


TARGETS = [Target(profile, optimize) for profile in Profile for optimize in Optimize]
# What is worth running under the sanitizers, which are slow.
MAX_MEMORY_BYTES, MAX_MACS, MAX_STEPS = 1 << 20, 1 << 20, 1000


def attempt(data: bytes, runner: Runner | None = None) -> None:
    """Reads a model, lowers it for the plain target and one that depends on `data`, and runs what is small enough.
    SdkError if it is refused; anything else is a bug."""
    graph = load_bytes(data)
    graph.check()
    for target in (Target(), TARGETS[zlib.crc32(data) % len(TARGETS)]):
        lowered = lower(graph, target)
        emit(lowered)
        memory = len(lowered.block) + lowered.program.ram_bytes
        small = memory <= MAX_MEMORY_BYTES and lowered.macs <= MAX_MACS and len(lowered.steps) <= MAX_STEPS
        if runner is not None and small:
            runner.run(lowered.block)


def seeds() -> Iterator[bytes]:
    """A model of each operator and element type, and the models of this folder."""
    for name, op in registry().ops.items():
        if name != op.names[0]:
            continue
        stems = {case.name.split("-")[0]: case for case in reversed(list(op.cases()))}
        yield from (write(case.graph) for case in stems.values())
    yield from (path.read_bytes() for path in sorted(MODELS.glob("*.tflite")))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data`, a model or what was one, with one to four changes."""
    if rng.random() < 0.75:
        with contextlib.suppress(SdkError), np.errstate(all="ignore"):
            graph = load_bytes(data)
            for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
                graph = _changed(graph, rng)
            # What the schema's types cannot hold cannot be written.
            with contextlib.suppress(TypeError, ValueError, OverflowError, KeyError, struct.error):
                return write(graph)
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        rng.choice(BYTE_CHANGES)(damaged, rng)
    return bytes(damaged)


def _changed(graph: Graph, rng: random.Random) -> Graph:
    """`graph`, or one of its subgraphs, with one change."""
    if graph.subgraphs and rng.random() < 0.5:
        index = rng.choice(list(graph.subgraphs))
        changed = _changed(graph.subgraphs[index], rng)
        return replace(graph, subgraphs={**graph.subgraphs, index: changed})
    kind = rng.random()
    if kind < 0.5 and graph.tensors:
        return _with(graph, _changed_tensor(graph, rng))
    if kind < 0.93 and graph.nodes:
        at = rng.randrange(len(graph.nodes))
        return replace(
            graph, nodes=(*graph.nodes[:at], *_changed_node(graph, graph.nodes[at], rng), *graph.nodes[at + 1 :])
        )
    ends = rng.choice(("inputs", "outputs"))
    return replace(graph, **{ends: _changed_ids(getattr(graph, ends), graph, rng)})


def _with(graph: Graph, tensor: Tensor) -> Graph:
    return replace(graph, tensors={**graph.tensors, tensor.id: tensor})


def _changed_tensor(graph: Graph, rng: random.Random) -> Tensor:
    tensor = rng.choice(list(graph.tensors.values()))
    change: Callable[[Tensor, random.Random], Tensor] = rng.choice(TENSOR_CHANGES)
    if rng.random() < 0.1:
        other = rng.choice(list(graph.tensors.values()))
        return replace(tensor, data=other.data, shape=other.shape)
    return change(tensor, rng)


def _resized(tensor: Tensor, rng: random.Random) -> Tensor:
    """Another shape; constants mostly grow or shrink with it, so that the file stays sound."""
    shape = list(tensor.shape)
    if not shape or rng.random() < 0.2:
        shape.insert(rng.randint(0, len(shape)), rng.choice(SIZES))
    elif rng.random() < 0.2:
        shape.pop(rng.randrange(len(shape)))
    else:
        shape[rng.randrange(len(shape))] = rng.choice(SIZES)
    data = tensor.data
    if data is not None and rng.random() < 0.8 and min(shape, default=1) >= 0 and np.prod(shape, dtype=float) < 1e5:
        data = np.resize(data, shape) if data.size else np.zeros(shape, data.dtype)
    return replace(tensor, shape=tuple(shape), data=data)


def _retyped(tensor: Tensor, rng: random.Random) -> Tensor:
    dtype = rng.choice(DTYPES)
    return replace(tensor, dtype=dtype, data=None if tensor.data is None else tensor.data.astype(dtype.numpy))


def _requantized(tensor: Tensor, rng: random.Random) -> Tensor:
    old = tensor.quantization
    if old is None or rng.random() < 0.2:
        count = rng.choice((0, 1, 1, 2, tensor.shape[-1] if tensor.shape and 0 < tensor.shape[-1] < 1000 else 3))
        scales, zeros = tuple(rng.choice(SCALES) for _ in range(count)), (rng.choice(ZERO_POINTS),) * count
        return replace(tensor, quantization=Quantization(scales, zeros, rng.randint(-1, 4)))
    changes = {
        "scale": (*old.scale[1:], rng.choice(SCALES)),
        "zero_point": (*old.zero_point[1:], rng.choice(ZERO_POINTS)),
        "axis": rng.choice(SIZES),
    }
    name = rng.choice((None, *changes))
    return replace(tensor, quantization=None if name is None else replace(old, **{name: changes[name]}))


def _refilled(tensor: Tensor, rng: random.Random) -> Tensor:
    """Other constants, or none; a constant where there was none."""
    if tensor.data is None:
        small = min(tensor.shape, default=1) >= 0 and np.prod(tensor.shape, dtype=float) < 1e5
        return (
            replace(tensor, data=np.full(tensor.shape, rng.choice((0, 1, 3)), tensor.dtype.numpy)) if small else tensor
        )
    if rng.random() < 0.2 or not tensor.data.size:
        return replace(tensor, data=None)
    data = tensor.data.copy()
    new = rng.choice(SCALES if data.dtype.kind in "fc" else SIZES)
    data.reshape(-1)[rng.randrange(data.size)] = np.array(new).astype(data.dtype)
    return replace(tensor, data=data)


def _turned_variable(tensor: Tensor, _rng: random.Random) -> Tensor:
    return replace(tensor, variable=not tensor.variable)


TENSOR_CHANGES = [_resized, _resized, _retyped, _requantized, _requantized, _refilled, _refilled, _turned_variable]


def _changed_node(graph: Graph, node: Node, rng: random.Random) -> tuple[Node, ...]:
    kind = rng.random()
    if kind < 0.5 and node.options:
        return (replace(node, options=_changed_options(node, rng)),)
    if kind < 0.7:
        return (replace(node, inputs=_changed_ids(node.inputs, graph, rng, none=True)),)
    if kind < 0.8:
        return (replace(node, outputs=_changed_ids(node.outputs, graph, rng)),)
    if kind < 0.9:
        return (replace(node, op=rng.choice(list(registry().ops)), options=rng.choice((node.options, {}))),)
    if kind < 0.95:
        return ()
    return (node,) * rng.choice((2, 2, 3, 40))


def _changed_options(node: Node, rng: random.Random) -> dict[str, Any]:
    name = rng.choice(list(node.options))
    if not node.op.startswith("CUSTOM:"):
        return {**node.options, name: _other_value(node.options[name], rng)}
    # The schema says no types: anything may stand there, or nothing. The bytes as they were would win.
    others = {other: value for other, value in node.options.items() if other not in (name, "custom_options")}
    new = _other_value(rng.choice((node.options[name], 1, 0.5, "", True, None, [1, 2])), rng)
    return others if name == "custom_options" or rng.random() < 0.2 else {**others, name: new}


def _other_value(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return tuple(rng.choice(SIZES) for _ in range(rng.randint(0, 9)))
    if isinstance(value, int):
        return rng.choice((*SIZES, value + 1, value - 1, rng.randint(0, 10)))
    if isinstance(value, float):
        return rng.choice(SCALES)
    if value is None or isinstance(value, bytes | list):
        return None if rng.random() < 0.5 else [1, "x"]
    return "" if rng.random() < 0.5 else "x" * 1000


def _changed_ids(ids: tuple[Any, ...], graph: Graph, rng: random.Random, *, none: bool = False) -> tuple[Any, ...]:
    changed = list(ids)
    new = rng.choice([0, *graph.tensors, *([None] if none else [])])
    kind = rng.random()
    if not changed or kind < 0.25:
        changed.insert(rng.randint(0, len(changed)), new)
    elif kind < 0.5:
        changed.pop(rng.randrange(len(changed)))
    elif kind < 0.6:
        rng.shuffle(changed)
    else:
        changed[rng.randrange(len(changed))] = new
    return tuple(changed)


def _put_word(data: bytearray, rng: random.Random) -> None:
    """A 4-byte field, or an offset, becomes a value near some type's edge, or moves a little."""
    if len(data) < 8:
        return
    at = rng.randrange(len(data) // 4) * 4
    old = int.from_bytes(data[at : at + 4], "little")
    new = rng.choice((rng.choice(WORDS), old + rng.choice((-4, -1, 1, 4)), rng.randrange(len(data))))
    data[at : at + 4] = (new % 2**32).to_bytes(4, "little")


def _flip_bit(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _put_half(data: bytearray, rng: random.Random) -> None:
    """An entry of a vtable, where fields are left out or lie elsewhere."""
    if len(data) >= 4:
        at = rng.randrange(len(data) // 2) * 2
        data[at : at + 2] = rng.choice((0, 4, 6, 8, 0xFFFF, rng.randrange(64))).to_bytes(2, "little")


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randint(0, len(data)) :]


def _copy_part(data: bytearray, rng: random.Random) -> None:
    if len(data) > 16:
        start, to = (rng.randrange(len(data) // 4) * 4 for _ in range(2))
        part = data[start : start + rng.choice((4, 8, 32))]
        data[to : to + len(part)] = part


BYTE_CHANGES = [_put_word, _put_word, _put_word, _flip_bit, _put_half, _put_half, _copy_part, _cut]
