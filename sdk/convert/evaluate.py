"""What quantization costs: a model against the one it was made of, layer by layer and on labelled samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sdk.cache import Progress, silent
from sdk.dataset import Labelled, read_dataset
from sdk.errors import InputError, UnsupportedError
from sdk.graph import Array, DType, Graph, Tensor
from sdk.inputs import Sample, stored, whole_range
from sdk.oracle import Oracle
from sdk.preprocess import Preprocessing
from sdk.program import Operand, Region, TensorSpec

ROUNDING = 1e-9  # a drop of 1 in 100 is not more than 1%
SAID = 100  # samples between two words about them
SAMPLES = 20  # that layers are compared on: more change the third digit


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
    """How many of `samples` labelled samples were right, before and after. `clipped`: the share of their values that
    the model's inputs cannot hold, for they lie outside of the ranges that were measured."""

    samples: int
    before: float
    after: float
    clipped: float = 0.0

    @property
    def drop(self) -> float:
        """What was lost, of 1."""
        return self.before - self.after

    def exceeds(self, share: float) -> bool:
        """Whether more than this was lost."""
        return self.drop > share + ROUNDING


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


def spread(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The few that layers are compared on: of all that there are, for classes may come one after the other."""
    return samples[:: -(-len(samples) // SAMPLES) or 1]


def check_all_quantized(graph: Graph) -> None:
    """UnsupportedError if layers of a model whose ranges come from fake_quant nodes stayed in float32 for want of
    them."""
    left = [
        node
        for node in graph.nodes
        if node.op != "DEQUANTIZE" and any(graph.tensor(i).dtype is DType.FLOAT32 for i in node.outputs)
    ]
    if left:
        named = ", ".join(f"{node.label}, which makes '{graph.tensor(node.outputs[0]).name[:60]}'" for node in left[:3])
        raise UnsupportedError(
            f"{len(left)} of {len(graph.nodes)} layers stay in float32, for no fake_quant says their range: {named}",
            "Put fake_quant after each of them and on the input; or measure all ranges: --representative PATH, "
            "without --input-stats.",
        )


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
        for sample in spread(samples):
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


def labelled_samples(
    graph: Graph, path: Path, declared: Preprocessing | None, count: int | None = None, note: Progress = silent
) -> list[Labelled]:
    """A labelled set (`sdk.dataset`) for a model. InputError if it does not fit."""
    inputs = specs_of(graph, graph.inputs, graph.input_names)
    if not graph.outputs:
        raise InputError("the model has no outputs", "A labelled set is for models that have some.")
    output = specs_of(graph, graph.outputs[:1], graph.output_names[:1])[0]
    return read_dataset(path, inputs, output, None, count, note, declared)


def accuracy(
    before: bytes, after: tuple[Graph, bytes], labelled: Sequence[Labelled], progress: Progress = silent
) -> Accuracy:
    """Of the model `before`, which `labelled` is for, and of the one made of it: on the very same values."""
    graph, model = after
    specs = specs_of(graph, graph.inputs, graph.input_names)
    stored_as = [replace(each, sample=Sample("", tuple(quantized(each.sample, specs)))) for each in labelled]
    right = [
        _right(before, labelled, lambda done: progress(f"before: {done}")),
        _right(model, stored_as, lambda done: progress(f"after: {done}")),
    ]
    clipped = float(np.mean([_clipped(each.sample, specs) for each in labelled]))
    return Accuracy(len(labelled), right[0] / len(labelled), right[1] / len(labelled), clipped)


def _clipped(sample: Sample, specs: Sequence[TensorSpec]) -> float:
    """The share of a sample's values that are outside of what the inputs hold, by more than a step."""
    outside = 0.0
    for array, spec in zip(sample.arrays, specs, strict=True):
        if array.dtype.kind == "f" and spec.scale:
            low, high = whole_range(spec)
            outside = max(outside, float(np.mean((array < low - spec.scale) | (array > high + spec.scale))))
    return outside


def _right(model: bytes, labelled: Sequence[Labelled], progress: Progress) -> int:
    with Oracle(model) as oracle:
        count = 0
        for i, each in enumerate(labelled):
            if i % SAID == 0:
                progress(f"labelled samples, {i:,} of {len(labelled):,}")
            oracle.reset()
            count += int(np.argmax(oracle.run(each.sample.arrays).outputs[0])) == each.label
        return count
