"""Give a model's inputs other shapes: for models whose file leaves a dimension open, or batches of another size.

What follows for the tensors between is asked of the oracle, which infers shapes as it runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sdk.errors import InputError, SdkError
from sdk.graph import Graph
from sdk.load import load_bytes
from sdk.oracle import Oracle
from sdk.write import write

Shape = tuple[int, ...]


def parse_shape(text: str) -> tuple[str, Shape]:
    """('input', (1, 96, 96, 3)) of "input=1,96,96,3". InputError if it is not of this form."""
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 1 or math.prod(shape) >= 1 << 28:
        raise InputError(f"'{text}' is not a shape", "Give an input's name and its sizes: --shape input=1,96,96,3")
    return name, shape


def with_shapes(graph: Graph, wanted: Mapping[str, Shape]) -> Graph:
    """`graph` with other shapes of the inputs that `wanted` names, and what follows from them.

    InputError if there is no such input, if it has another number of dimensions, or if the model cannot work with them.
    """
    if not wanted:
        return graph
    names = graph.input_names
    ids = dict(zip(names, graph.inputs, strict=True))
    tensors = dict(graph.tensors)
    for name, shape in wanted.items():
        if name not in ids:
            raise InputError(f"the model has no input '{name}'", f"It has {', '.join(names)}.")
        tensor = graph.tensor(ids[name])
        if len(shape) != len(tensor.shape):
            raise InputError(f"the input '{name}' has {len(tensor.shape)} dimensions, not {len(shape)}")
        tensors[tensor.id] = replace(tensor, shape=shape)
    return _inferred(replace(graph, tensors=tensors))


def _inferred(graph: Graph) -> Graph:
    """`graph` with the shapes that its nodes' outputs have when it runs."""
    model = write(graph)
    known = load_bytes(model)
    inputs = [np.zeros(known.tensor(i).shape, known.tensor(i).dtype.numpy) for i in known.inputs]
    try:
        with Oracle(model, "tflite-runtime") as oracle:
            values = oracle.run(inputs).tensors
    except SdkError as error:
        raise InputError(f"the model does not work with these shapes: {error.message}") from error
    tensors = {i: replace(t, shape=values[i].shape) if i in values else t for i, t in known.tensors.items()}
    return replace(known, tensors=tensors, name=graph.name)
