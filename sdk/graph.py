"""The host's in-memory form of a model: tensors, nodes and graphs, all immutable.

A `Graph` is what `sdk.load` reads from a .tflite file, what every pass takes and gives, and what `sdk.lower` turns into
a program. Nodes name tensors by their id; `Graph.tensors` maps ids to tensors. `Graph.check` holds the rules that are
true of any graph, whatever its operators; the rules of one operator stand in its own file under `sdk/ops`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sdk.errors import ModelError

Array = npt.NDArray[Any]

# They work by what they leave behind.
WITHOUT_OUTPUTS = ("CALL_ONCE", "ASSIGN_VARIABLE", "IF", "WHILE")
MAX_BYTES = 1 << 28  # what a program can address


class DType(Enum):
    """An element type: its number in a program (and in `ml_dtype`), its numpy name, its suffix on kernels."""

    INT8 = (0, "int8", "s8")
    UINT8 = (1, "uint8", "u8")
    INT16 = (2, "int16", "s16")
    INT32 = (3, "int32", "s32")
    INT64 = (4, "int64", "s64")
    FLOAT32 = (5, "float32", "f32")
    BOOL = (6, "bool", "b8")
    UINT16 = (7, "uint16", "u16")
    UINT32 = (8, "uint32", "u32")
    UINT64 = (9, "uint64", "u64")
    # Types that exist in models but never on a device: passes turn them into one of the above.
    FLOAT16 = (100, "float16", "f16")
    INT4 = (101, "int8", "s4")  # constants only; unpacked to one int8 an element when loaded
    FLOAT64 = (102, "float64", "f64")
    STRING = (103, "object", "str")
    RESOURCE = (104, "int32", "res")
    COMPLEX64 = (105, "complex64", "c64")

    def __init__(self, number: int, numpy_name: str, suffix: str) -> None:
        self.number = number
        self.numpy_name = numpy_name
        self.suffix = suffix

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.numpy_name)

    @property
    def bytes(self) -> int:
        """Size of one element."""
        return self.numpy.itemsize

    @property
    def on_device(self) -> bool:
        return self.number < 100


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point); one pair for the tensor, or one for each index along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0

    @property
    def per_channel(self) -> bool:
        return len(self.scale) > 1


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of the graph: `data` is set for constants, `source` is its index in the model file's subgraph."""

    id: int
    name: str
    shape: tuple[int, ...]
    dtype: DType
    quantization: Quantization | None = None
    data: Array | None = None
    source: int | None = None
    # What to add to the stored value to get the model file's value: 128 where a pass turned uint8 into int8.
    source_offset: int = 0
    source_start: int | None = None  # of a part of the model file's tensor: which element is its first
    variable: bool = False

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.dtype.bytes

    @property
    def scale(self) -> float:
        """The scale of a tensor quantized as a whole. ModelError if it has none, or one per channel."""
        return self._whole().scale[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a tensor quantized as a whole. ModelError if it has none."""
        return self._whole().zero_point[0]

    def _whole(self) -> Quantization:
        if self.quantization is None:
            raise ModelError(f"tensor {self.label} is {self.dtype.numpy_name} but has no scale")
        if self.quantization.per_channel:
            raise ModelError(f"tensor {self.label} has a scale for each channel where one for all is needed")
        return self.quantization

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"'{self.name}'" + (f" ({self.source})" if self.source is not None else "")


@dataclass(frozen=True, eq=False)
class Node:
    """One operator applied: ids of its tensors (None for an optional input left out), options by their field name."""

    op: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    source: int | None = None

    @property
    def label(self) -> str:
        return f"{self.op}" + (f" (node {self.source})" if self.source is not None else "")


@dataclass(frozen=True)
class Signature:
    """A named entry: names of inputs and outputs, in the order of the graph's."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in the order they run, the tensors they name, and the graphs that control-flow nodes call (by index)."""

    name: str
    tensors: Mapping[int, Tensor]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: Mapping[int, Graph] = field(default_factory=dict)
    signature: Signature | None = None

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs' names for users: the signature's, else the tensors'."""
        return self.signature.inputs if self.signature else tuple(self.tensors[i].name for i in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs' names for users: the signature's, else the tensors'."""
        return self.signature.outputs if self.signature else tuple(self.tensors[i].name for i in self.outputs)

    def tensor(self, tensor_id: int | None) -> Tensor:
        """The tensor of an id that the graph is known to hold. ModelError for an input that was left out."""
        if tensor_id is None:
            raise ModelError("an input that the operator needs is left out")
        return self.tensors[tensor_id]

    def with_nodes(self, nodes: Iterable[Node], tensors: Iterable[Tensor] = ()) -> Graph:
        """This graph with other nodes, `tensors` added or replaced, and tensors that nothing names removed."""
        kept = tuple(nodes)
        table = dict(self.tensors) | {tensor.id: tensor for tensor in tensors}
        used = set(self.inputs) | set(self.outputs)
        for node in kept:
            used.update(i for i in node.inputs if i is not None)
            used.update(node.outputs)
        table = {key: value for key, value in table.items() if key in used}
        return replace(self, nodes=kept, tensors=MappingProxyType(table))

    def fresh_id(self) -> int:
        """An id that no tensor has."""
        return max(self.tensors, default=-1) + 1

    def producers(self) -> dict[int, Node]:
        """The node that makes each tensor that a node makes."""
        return {out: node for node in self.nodes for out in node.outputs}

    def consumers(self) -> dict[int, list[Node]]:
        """The nodes that read each tensor, in order, one entry a node."""
        table: dict[int, list[Node]] = {}
        for node in self.nodes:
            for tensor_id in dict.fromkeys(node.inputs):
                if tensor_id is not None:
                    table.setdefault(tensor_id, []).append(node)
        return table

    def check_all(self) -> None:
        """`check` for this graph and its subgraphs."""
        for graph in (self, *self.subgraphs.values()):
            graph.check()

    def check(self) -> None:
        """Raises ModelError, naming tensor and node, where the graph breaks a rule that holds for every operator."""
        for tensor in self.tensors.values():
            _check_tensor(tensor)
        made: set[int] = set(self.inputs)
        for tensor_id in (*self.inputs, *self.outputs):
            if tensor_id not in self.tensors:
                raise ModelError(f"graph '{self.name}' names tensor {tensor_id}, which does not exist")
        for tensor_id in self.inputs:
            if self.tensors[tensor_id].data is not None:
                raise ModelError(f"input {self.tensors[tensor_id].label} is a constant")
        for node in self.nodes:
            self._check_node(node, made)
            made.update(node.outputs)
        for tensor_id in self.outputs:
            tensor = self.tensors[tensor_id]
            if tensor_id not in made and tensor.data is None and not tensor.variable:
                raise ModelError(f"output {tensor.label} is made by no node")

    def _check_node(self, node: Node, made: set[int]) -> None:
        for tensor_id in (*node.inputs, *node.outputs):
            if tensor_id is not None and tensor_id not in self.tensors:
                raise ModelError(f"{node.label} names tensor {tensor_id}, which does not exist")
        for tensor_id in node.inputs:
            if tensor_id is None:
                continue
            tensor = self.tensors[tensor_id]
            # Custom operators may be given tensors that nobody writes, as scratch.
            scratch = node.op.startswith("CUSTOM:")
            if tensor.data is None and tensor_id not in made and not tensor.variable and not scratch:
                why = "its data is missing, or nodes are in a cycle or a wrong order"
                raise ModelError(f"{node.label} reads {tensor.label} before any node made it ({why})")
        values = {i: self.tensors[i] for i in (*node.inputs, *node.outputs) if i is not None}
        if sum(tensor.bytes for tensor in values.values() if tensor.data is None) >= MAX_BYTES:
            raise ModelError(f"{node.label} has inputs and outputs of 256 MiB or more")
        if not node.outputs and node.op not in WITHOUT_OUTPUTS and not node.op.startswith("CUSTOM:"):
            raise ModelError(f"{node.label} has no output")
        for position, tensor_id in enumerate(node.outputs):
            known = tensor_id in made or tensor_id in node.outputs[:position]
            if known or self.tensors[tensor_id].data is not None:
                raise ModelError(f"{node.label} writes {self.tensors[tensor_id].label}, which already has a value")


def _check_tensor(tensor: Tensor) -> None:
    if len(tensor.shape) > 8:
        raise ModelError(f"tensor {tensor.label} has {len(tensor.shape)} dimensions; at most 8 can be used")
    if any(size < 0 for size in tensor.shape):
        raise ModelError(f"tensor {tensor.label} has the shape {list(tensor.shape)} with a negative size")
    # Sizes of 0 hide the others' product, which views and walks over the shape would meet again.
    if math.prod(max(size, 1) for size in tensor.shape) * tensor.dtype.bytes >= MAX_BYTES:
        raise ModelError(f"tensor {tensor.label} with shape {list(tensor.shape)} needs 256 MiB or more")
    if tensor.data is not None and tensor.data.shape != tensor.shape:
        raise ModelError(f"tensor {tensor.label} has shape {list(tensor.shape)} but data of {list(tensor.data.shape)}")
    quantization = tensor.quantization
    if quantization is not None:
        _check_quantization(tensor, quantization)


ZERO_POINT_RANGE = {DType.INT8: (-128, 127), DType.UINT8: (0, 255), DType.INT4: (-8, 7), DType.INT16: (-32768, 32767)}


def _check_quantization(tensor: Tensor, quantization: Quantization) -> None:
    if any(not math.isfinite(scale) or scale <= 0 for scale in quantization.scale):
        raise ModelError(f"tensor {tensor.label} has a scale that is not a positive finite number")
    if len(quantization.zero_point) != len(quantization.scale):
        counts = f"{len(quantization.scale)} scales and {len(quantization.zero_point)} zero points"
        raise ModelError(f"tensor {tensor.label} has {counts}")
    low, high = ZERO_POINT_RANGE.get(tensor.dtype, (-(2**31), 2**31 - 1))
    if any(not low <= zero_point <= high for zero_point in quantization.zero_point):
        raise ModelError(f"tensor {tensor.label} has a zero point outside {low} to {high}")
    if quantization.per_channel:
        if not 0 <= quantization.axis < len(tensor.shape):
            raise ModelError(f"tensor {tensor.label} has scales along axis {quantization.axis}, which it does not have")
        if len(quantization.scale) != tensor.shape[quantization.axis]:
            counts = f"{len(quantization.scale)} scales for {tensor.shape[quantization.axis]} channels"
            raise ModelError(f"tensor {tensor.label} has {counts}")
