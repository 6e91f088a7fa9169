"""Notes inside a .tflite file: the entries of the model's `metadata`, by their names."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import flatbuffers
import tflite

from sdk.errors import ModelError

ALIGNMENT = 16  # what the schema asks for the data of buffers
# Fields of the table Model that refer to something else, and that `add` takes over as they are.
KEPT = ("OperatorCodes", "Subgraphs", "Description", "MetadataBuffer", "SignatureDefs")
SLOTS = {"OperatorCodes": 1, "Subgraphs": 2, "Description": 3, "MetadataBuffer": 5, "SignatureDefs": 7}
OFFSET_FIELD = 6  # of the field `offset` in the vtable of a Buffer: its second
REMEDY = "Convert the model again."
DAMAGED = struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError


def read(model: bytes, name: str) -> bytes | None:
    """The note `name` of a model; None if it has none. ModelError if the file is damaged."""
    try:
        root = tflite.Model.GetRootAs(model, 0)
        for i in range(min(root.MetadataLength(), len(model))):
            entry = root.Metadata(i)
            if entry.Name() == name.encode():
                buffer = root.Buffers(entry.Buffer())
                return bytes(buffer.DataAsNumpy().tobytes()) if 0 < buffer.DataLength() <= len(model) else b""
    except DAMAGED as error:
        raise ModelError("the model's metadata are damaged", REMEDY) from error
    return None


def add(model: bytes, name: str, note: bytes) -> bytes:
    """`model` with the note `name`, in place of one of that name. ModelError if the file is damaged.

    The old file stays as it is behind a new head: offsets in a FlatBuffer count forward, so that a new table Model can
    refer to all that the old one did. Nothing that this version of the schema does not know is lost.
    """
    try:
        return _added(model, name, note)
    except DAMAGED as error:
        raise ModelError("the model is damaged: no metadata can be added", REMEDY) from error


def _added(model: bytes, name: str, note: bytes) -> bytes:
    root = tflite.Model.GetRootAs(model, 0)
    buffers = [root.Buffers(i) for i in range(root.BuffersLength())]
    entries = [root.Metadata(i) for i in range(root.MetadataLength())]
    tail = model + bytes(-len(model) % ALIGNMENT)
    b = flatbuffers.Builder(len(tail) + len(note) + 4 * len(buffers) + 4096)
    b.head -= len(tail)
    b.Bytes[b.head :] = tail
    b.minalign = ALIGNMENT

    made = _entry(b, name, len(buffers)), _buffer(b, note)
    positions = [entry._tab.Pos for entry in entries if entry.Name() != name.encode()]
    metadata = _vector(b, [len(tail) - at for at in positions] + [made[0]])
    every = _vector(b, [len(tail) - buffer._tab.Pos for buffer in buffers] + [made[1]])
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, root.Version())
    tflite.ModelAddBuffers(b, every)
    tflite.ModelAddMetadata(b, metadata)
    for field in KEPT:
        at = _target(root._tab, SLOTS[field])
        if at is not None:
            getattr(tflite, f"ModelAdd{field}")(b, len(tail) - at)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    return _moved(b.Output(), len(b.Output()) - len(tail), buffers)


def _moved(model: bytearray, head_bytes: int, buffers: Sequence[Any]) -> bytes:
    """`model`, whose old part begins at `head_bytes`: constants behind the FlatBuffer itself, as large models have
    them, are named by their place in the file."""
    for buffer in buffers:
        if buffer.Offset() > 1:
            at = head_bytes + buffer._tab.Pos + buffer._tab.Offset(OFFSET_FIELD)
            struct.pack_into("<Q", model, at, buffer.Offset() + head_bytes)
    return bytes(model)


def _target(table: Any, slot: int) -> int | None:
    """Where the vector or text in a field of a table begins; None if the table leaves the field out."""
    offset = table.Offset(4 + 2 * slot)
    return int(table.Indirect(table.Pos + offset)) if offset else None


def _entry(b: flatbuffers.Builder, name: str, buffer: int) -> int:
    text = b.CreateString(name)
    tflite.MetadataStart(b)
    tflite.MetadataAddName(b, text)
    tflite.MetadataAddBuffer(b, buffer)
    return int(tflite.MetadataEnd(b))


def _buffer(b: flatbuffers.Builder, data: bytes) -> int:
    b.StartVector(1, len(data), ALIGNMENT)
    b.head -= len(data)
    b.Bytes[b.head : b.head + len(data)] = data
    vector = b.EndVector()
    tflite.BufferStart(b)
    tflite.BufferAddData(b, vector)
    return int(tflite.BufferEnd(b))


def _vector(b: flatbuffers.Builder, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())
