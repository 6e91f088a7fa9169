"""The order of inputs and outputs in what TensorFlow's converter makes, which has one of its own."""

from __future__ import annotations

from typing import Any

from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils


def in_order(model: bytes, inputs: list[str], outputs: list[str], made: list[str]) -> bytes:
    """A model whose inputs and outputs come as its source has them, by name. Where it has no signature, its outputs are
    `made`, and it gets one."""
    found = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    graph = found.subgraphs[0]
    if not found.signatureDefs:
        found.signatureDefs = [_signature((inputs, graph.inputs), (made, graph.outputs))]
    signature = found.signatureDefs[0]
    for names, ends, has in ((inputs, signature.inputs, graph.inputs), (outputs, signature.outputs, graph.outputs)):
        index = {_text(end.name): end.tensorIndex for end in ends}
        if sorted(index) == sorted(names) and len(names) == len(has):
            has[:] = [index[name] for name in names]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(found))


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _signature(*ends: tuple[list[str], Any]) -> Any:
    """Of the names and the numbers of the inputs, and of the outputs."""
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex, made.inputs, made.outputs = "serving_default", 0, [], []
    for into, (names, indices) in zip((made.inputs, made.outputs), ends, strict=True):
        for name, index in zip(names, indices, strict=True):
            end = schema.TensorMapT()
            end.name, end.tensorIndex = name, index
            into.append(end)
    return made


def output_shapes(model: bytes) -> list[list[int]]:
    """Those of the outputs, in order."""
    graph = flatbuffer_utils.convert_bytearray_to_object(bytearray(model)).subgraphs[0]
    return [[int(size) for size in graph.tensors[i].shape] for i in graph.outputs]
