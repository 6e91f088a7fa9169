"""What quantization costs: a model against the one it was made of, layer by layer and on labelled samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdk.cache import Progress, silent
from sdk.dataset import Labelled, read_dataset
from sdk.graph import Array, DType, Graph, Tensor
from sdk.inputs import Sample, stored
from sdk.oracle import Oracle
from sdk.preprocess import Preprocessing
from sdk.program import Operand, Region, TensorSpec

SAMPLES = 20  # of the calibration set that layers are compared on: more change the third digit


@dataclass(frozen=True)
class LayerError:
    """How far a layer's values are from those before quantization: the root of the mean square of the difference, as a
    share of that of the values. `added`: how much of it was not in its inputs."""

    node: str
    tensor: str
    error: float
    added: float


@dataclass(frozen=True)
class Accuracy:
    """How many of `samples` labelled samples were right, before and after."""

    samples: int
    before: float
    after: float

    @property
    def drop(self) -> float:
        """What was lost, of 1."""
        return self.before - self.after


def specs_of(graph: Graph, ids: Sequence[int], names: Sequence[str]) -> list[TensorSpec]:
    """The inputs or outputs of a graph, as those of a program that is not made yet."""
    return [_spec(graph.tensor(i), name) for i, name in zip(ids, names, strict=True)]


def _spec(tensor: Tensor, name: str) -> TensorSpec:
    q = tensor.quantization
    scale, zero = (q.scale[0], q.zero_point[0]) if q is not None else (0.0, 0)
    return TensorSpec(name, tensor.shape, tensor.dtype, scale, zero, Operand(Region.ARENA, 0, tensor.bytes))


def real_values(array: Array, tensor: Tensor) -> Array:
    """What quantized values stand for."""
    q = tensor.quantization
    if q is None or tensor.dtype is DType.FLOAT32:
        return array.astype(np.float64)
    shape = [1] * array.ndim
    if q.per_channel:
        shape[q.axis] = -1
    scale, zero = np.array(q.scale).reshape(shape), np.array(q.zero_point).reshape(shape)
    result: Array = (array.astype(np.float64) - zero) * scale
    return result


def quantized(sample: Sample, specs: Sequence[TensorSpec]) -> list[Array]:
    """Real values as the inputs `specs` store them."""
    return [a if a.dtype.kind != "f" else stored(a, s) for a, s in zip(sample.arrays, specs, strict=True)]


def layer_errors(
    before: tuple[Graph, bytes], after: tuple[Graph, bytes], samples: Sequence[Sample]
) -> list[LayerError]:
    """The layers that both models have, in order, matched by the names of what they make."""
    graph, other = after[0], before[0]
    names = {tensor.name: tensor for tensor in other.tensors.values() if tensor.dtype is DType.FLOAT32}
    pairs = {i: names[t.name] for i, t in graph.tensors.items() if t.name in names and t.data is None}
    specs = specs_of(graph, graph.inputs, graph.input_names)
    sums = {i: np.zeros(2) for i in pairs}
    with Oracle(before[1]) as first, Oracle(after[1]) as second:
        for sample in samples[:SAMPLES]:
            first.reset()
            second.reset()
            exact, rough = first.run(list(sample.arrays)).tensors, second.run(quantized(sample, specs)).tensors
            for i, twin in pairs.items():
                if i in rough and twin.id in exact and rough[i].shape == exact[twin.id].shape:
                    want = exact[twin.id].astype(np.float64)
                    sums[i] += [np.sum((real_values(rough[i], graph.tensor(i)) - want) ** 2), np.sum(want**2)]
    error = {i: float(np.sqrt(d / s)) for i, (d, s) in sums.items() if s > 0}
    return [
        LayerError(
            node.label, graph.tensor(out).name, error[out], max(0.0, error[out] - _inherited(node.inputs, error))
        )
        for node in graph.nodes
        for out in node.outputs
        if out in error
    ]


def _inherited(inputs: Sequence[int | None], error: dict[int, float]) -> float:
    return max((error.get(i, 0.0) for i in inputs if i is not None), default=0.0)


def accuracy(
    before: tuple[Graph, bytes],
    after: tuple[Graph, bytes],
    path: Path,
    declared: Preprocessing | None,
    count: int | None = None,
    note: Progress = silent,
) -> Accuracy:
    """On a labelled set (`sdk.dataset`). InputError if it does not fit."""
    right = []
    for graph, model in (before, after):
        inputs = specs_of(graph, graph.inputs, graph.input_names)
        output = specs_of(graph, graph.outputs[:1], graph.output_names[:1])[0]
        labelled = read_dataset(path, inputs, output, None, count, note, declared)
        right.append(_right(model, labelled))
        note = silent
    return Accuracy(len(labelled), right[0] / len(labelled), right[1] / len(labelled))


def _right(model: bytes, labelled: Sequence[Labelled]) -> int:
    with Oracle(model) as oracle:
        count = 0
        for each in labelled:
            oracle.reset()
            count += int(np.argmax(oracle.run(each.sample.arrays).outputs[0])) == each.label
        return count
