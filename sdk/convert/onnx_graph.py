"""ONNX models, so that onnx2tf makes of them what they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}  # how many initial states; optional, yet onnx2tf fails without
MOST_STEPS = 128  # longer sequences stay loops: each step becomes some ten operators
FIRST_STATE = 5  # an input of them


def fixed(path: str, shapes: Mapping[str, Sequence[int]]) -> Any:
    """The model in `path` with inputs of these shapes, and all that follows from them."""
    model = onnx.load(path)
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model)
    _with_states(model.graph)
    return model


def is_short(graph: Any) -> bool:
    """Whether recurrent layers can be unrolled: nothing quantizes loops."""
    known = _sizes(graph)
    layers = [node for node in graph.node if node.op_type in STATES]
    return bool(layers) and all(0 < _steps(known.get(node.input[0], ())) <= MOST_STEPS for node in layers)


def _sizes(graph: Any) -> dict[str, list[int]]:
    """The shapes that are known, by the values' names; 0 is an open size."""
    values = (*graph.value_info, *graph.input)
    return {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}


def _steps(shape: Sequence[int]) -> int:
    return shape[0] if shape else 0


def _with_states(graph: Any) -> None:
    """Recurrent layers begin with zeros."""
    known = _sizes(graph)
    for i, node in enumerate(graph.node):
        options = {each.name: each for each in node.attribute}
        count = STATES.get(node.op_type, 0)
        given = [name for name in node.input[FIRST_STATE : FIRST_STATE + count] if name]
        if given or not count or "hidden_size" not in options or options.get("layout", _NONE).i:
            continue
        both = options.get("direction", _NONE).s == b"bidirectional"
        sizes = known.get(node.input[0])
        shape = 1 + both, sizes[1] if sizes else 1, options["hidden_size"].i
        name = f"microlith_zeros_{i}"
        graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
        beyond = list(node.input[FIRST_STATE + count :])  # peepholes
        node.input[:] = [*node.input[:FIRST_STATE], *[""] * (FIRST_STATE - len(node.input)), *[name] * count, *beyond]


_NONE = onnx.AttributeProto()
