"""Models changed at their ends, or in the width of their constants, without a converter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sdk.graph import DType, Graph, Node, Quantization, Signature, Tensor
from sdk.load import load_bytes
from sdk.write import write

UINT8_SHIFT = 128
LSTM, LSTM_STATE = "UNIDIRECTIONAL_SEQUENCE_LSTM", 18  # an input of it: the hidden state
HALVED_ELEMENTS = 16  # constants smaller than this are not worth a node


def signed(graph: Graph) -> Graph:
    """With a signature, which quantizers know inputs by; models from before 2021 have none."""
    if graph.signature is not None:
        return graph
    return replace(graph, signature=Signature("serving_default", graph.input_names, graph.output_names))


def with_interface(model: bytes, dtype: DType) -> bytes:
    """A quantized model that takes and gives uint8 or float32: by QUANTIZE and DEQUANTIZE nodes at its ends."""
    graph = load_bytes(model)
    ends = dict.fromkeys((*graph.inputs, *graph.outputs))
    twins = {i: _twin(graph.tensor(i), dtype, graph.fresh_id() + k) for k, i in enumerate(ends)}
    before = [_step(twins[i], graph.tensor(i)) for i in graph.inputs if twins[i].id != i]
    after = [_step(graph.tensor(i), twins[i]) for i in graph.outputs if twins[i].id != i]
    return write(
        replace(
            graph,
            tensors={**graph.tensors, **{twin.id: twin for twin in twins.values()}},
            nodes=(*before, *graph.nodes, *after),
            inputs=tuple(twins[i].id for i in graph.inputs),
            outputs=tuple(twins[i].id for i in graph.outputs),
        )
    )


def with_own_scales(model: bytes) -> bytes:
    """An int8 model whose LSTMs give their hidden state at its own scale, which is what every implementation does:
    TensorFlow's converter notes that of a concatenation after it, as of both directions."""
    graph = load_bytes(model)
    tensors, nodes = dict(graph.tensors), list[Node]()
    for node in graph.nodes:
        state = node.inputs[LSTM_STATE] if node.op == LSTM else None
        made, own = graph.tensor(node.outputs[0]), None if state is None else graph.tensor(state).quantization
        if own is None or made.dtype is not DType.INT8 or own == made.quantization:
            nodes.append(node)
            continue
        twin = replace(made, id=graph.fresh_id() + len(nodes), name=f"{made.name}_state", quantization=own)
        tensors[twin.id] = twin
        nodes += [replace(node, outputs=(twin.id,)), Node("QUANTIZE", (twin.id,), node.outputs)]
    return model if len(nodes) == len(graph.nodes) else write(replace(graph, tensors=tensors, nodes=tuple(nodes)))


def _twin(tensor: Tensor, dtype: DType, new_id: int) -> Tensor:
    """The form of a quantized tensor that the outside sees; any other as it is."""
    q = tensor.quantization
    if q is None or tensor.dtype not in (DType.INT8, DType.INT16):
        return tensor
    shifted = None if dtype is DType.FLOAT32 else Quantization(q.scale, tuple(z + UINT8_SHIFT for z in q.zero_point))
    return Tensor(new_id, f"{tensor.name}_{dtype.numpy_name}", tensor.shape, dtype, shifted)


def _step(source: Tensor, target: Tensor) -> Node:
    return Node("DEQUANTIZE" if target.dtype is DType.FLOAT32 else "QUANTIZE", (source.id,), (target.id,))


def with_float16(model: bytes) -> bytes:
    """A float32 model whose constants are float16, each with a DEQUANTIZE before the first that reads it: half the
    size, the same arithmetic."""
    graph = load_bytes(model)
    tensors, nodes, fresh = dict(graph.tensors), [], graph.fresh_id()
    for tensor in graph.tensors.values():
        if tensor.data is None or tensor.dtype is not DType.FLOAT32 or tensor.elements < HALVED_ELEMENTS:
            continue
        data = tensor.data.clip(*_HALF_RANGE).astype(np.float16)
        half = Tensor(fresh, f"{tensor.name}_float16", tensor.shape, DType.FLOAT16, None, data)
        tensors |= {half.id: half, tensor.id: replace(tensor, data=None)}
        nodes.append(Node("DEQUANTIZE", (half.id,), (tensor.id,)))
        fresh += 1
    return write(replace(graph, tensors=tensors, nodes=(*nodes, *graph.nodes)))


_HALF_RANGE = float(np.finfo(np.float16).min), float(np.finfo(np.float16).max)
