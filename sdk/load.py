"""Read a .tflite file into a `Graph`.

Knows the container (FlatBuffers schema version 3) and nothing of operators: options become a plain mapping from the
schema's field names, in snake_case, to numbers, tuples or strings. Source: tensorflow/lite/schema/schema.fbs, through
the `tflite` package that is generated from it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tflite
from flatbuffers.number_types import Int32Flags

from sdk import flexible, foreign
from sdk.errors import ModelError, UsageError
from sdk.graph import Array, DType, Graph, Node, Quantization, Signature, Tensor

REMEDY = "Convert the model again, or check that the file was copied whole."
SHARED = 4  # how often a part of the file may be referred to, on average: else a small file makes a large graph
SLACK_BYTES = 1 << 24
VERSION = 3
BUILTIN_CODE_SLOT = 10  # of the field `builtin_code` in the vtable of an OperatorCode (schema.fbs): its fourth

DTYPES = {
    tflite.TensorType.FLOAT32: DType.FLOAT32,
    tflite.TensorType.FLOAT16: DType.FLOAT16,
    tflite.TensorType.FLOAT64: DType.FLOAT64,
    tflite.TensorType.INT4: DType.INT4,
    tflite.TensorType.INT8: DType.INT8,
    tflite.TensorType.UINT8: DType.UINT8,
    tflite.TensorType.INT16: DType.INT16,
    tflite.TensorType.UINT16: DType.UINT16,
    tflite.TensorType.INT32: DType.INT32,
    tflite.TensorType.UINT32: DType.UINT32,
    tflite.TensorType.INT64: DType.INT64,
    tflite.TensorType.UINT64: DType.UINT64,
    tflite.TensorType.COMPLEX64: DType.COMPLEX64,
    tflite.TensorType.BOOL: DType.BOOL,
    tflite.TensorType.STRING: DType.STRING,
    tflite.TensorType.RESOURCE: DType.RESOURCE,
}


T = TypeVar("T")


def snake(name: str) -> str:
    """'DilationHFactor' -> 'dilation_h_factor'."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@cache
def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}


BUILTIN_NAMES: dict[int, str] = _names(tflite.BuiltinOperator)


def load(path: str | Path, signature: str | None = None, *, sound: bool = True) -> Graph:
    """The graph of the .tflite file at `path` that `signature` names, or its main one. UsageError if it cannot be read
    or has no such signature, ModelError if it is not sound; with `sound` False only if there is no graph to be made of
    it: one to be looked at, that may break its rules."""
    if Path(path).is_dir():
        what, remedy = foreign.folder(Path(path))
        raise ModelError(f"the model {path} {what}", remedy)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the model {path}: {error.strerror}", "Check the path.") from error
    return load_bytes(data, Path(path).stem, signature, sound=sound)


def load_bytes(data: bytes, name: str = "model", signature: str | None = None, *, sound: bool = True) -> Graph:
    """The graph of a model's bytes that `signature` names, or its main one; `name` is what messages call it. It comes
    as the main graph, the others as its subgraphs. `sound` as of `load`."""
    if not data:
        raise ModelError(f"the model {name} is empty: it has 0 bytes", REMEDY)
    if data[4:8] != b"TFL3":
        what, remedy = foreign.file(data)
        raise ModelError(f"the model {name} {what}", remedy)
    reader = _Reader(data, name)
    try:
        graph = reader.graph(signature)
        if sound:
            graph.check_all()
        return graph
    except ModelError as error:
        raise ModelError(f"the model {name} is not sound: {error.message}", error.remedy or REMEDY) from error
    except (struct.error, IndexError) as error:
        raise ModelError(
            f"the model {name} is cut short: the file ends in the middle of {reader.at}", REMEDY
        ) from error
    except (ValueError, TypeError, AttributeError, OverflowError, KeyError) as error:
        raise ModelError(f"the model {name} is damaged in {reader.at}", REMEDY) from error


class _Reader:
    """Walks one model's tables. Every vector's length is checked against the file before it is walked."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.at = "its header"  # what is being read
        self.budget = SHARED * len(data)  # bytes of vectors and names that may still be walked
        self.data_budget = SHARED * len(data) + SLACK_BYTES  # bytes of constants
        self.raw: dict[int, bytes | None] = {}

    def graph(self, entry: str | None) -> Graph:
        self.model = tflite.Model.GetRootAs(self.data, 0)
        if self.model.Version() != VERSION:
            raise ModelError(f"its schema version is {self.model.Version()}, not the supported version {VERSION}")
        count = self._count(self.model.SubgraphsLength(), "subgraphs")
        if count == 0:
            raise ModelError("it has no graph")
        self.codes = self._each(
            "operator code", self.model.OperatorCodesLength(), lambda i: self._code(self.model.OperatorCodes(i))
        )
        self._count(self.model.BuffersLength(), "buffers")
        graphs = {i: self._subgraph(i) for i in range(count)}
        signatures = self._signatures(graphs)
        for name in reversed(signatures):  # of several for one graph the first is its own
            graphs[signatures[name][0]] = replace(graphs[signatures[name][0]], signature=signatures[name][1])
        if entry is not None:
            graphs = _entered(graphs, *self._named(signatures, entry))
        return replace(graphs.pop(0), subgraphs=graphs)

    def _count(self, count: int, what: str) -> int:
        self.budget -= 4 * count
        if self.budget < 0 or count * 4 > len(self.data):
            raise ModelError(f"it claims {count} {what} in {len(self.data)} bytes")
        return int(count)

    def _each(self, what: str, count: int, read: Callable[[int], T]) -> list[T]:
        """What `read` makes of each of `count` things."""
        found = []
        for index in range(self._count(count, f"{what}s")):
            self.at = f"{what} {index}"
            found.append(read(index))
        return found

    def _text(self, raw: bytes | None) -> str:
        self.budget -= len(raw or b"")
        if self.budget < 0:
            raise ModelError(f"its names are longer than the file, up to {self.at}")
        return (raw or b"").decode("utf-8", "replace")

    def _code(self, code: Any) -> str:
        # Files before 2020 keep the operator in the 8-bit field; newer ones may use either. (The
        # package's own `BuiltinCode` looks into the wider field for numbers above 127 alone.)
        slot = code._tab.Offset(BUILTIN_CODE_SLOT)
        wide = code._tab.Get(Int32Flags, code._tab.Pos + slot) if slot else 0
        number = max(wide, code.DeprecatedBuiltinCode())
        if number == tflite.BuiltinOperator.CUSTOM:
            return "CUSTOM:" + self._text(code.CustomCode())
        if number not in BUILTIN_NAMES:
            raise ModelError(f"operator number {number} is not in the schema", "It may come from a newer converter.")
        return BUILTIN_NAMES[number]

    def _subgraph(self, index: int) -> Graph:
        self.at = f"graph {index}"
        table = self.model.Subgraphs(index)
        tensors = self._each("tensor", table.TensorsLength(), lambda i: self._tensor(table.Tensors(i), i))
        nodes = self._each("operator", table.OperatorsLength(), lambda i: self._node(table.Operators(i), i))
        self.at = f"graph {index}"
        inputs = self._ids(table.Inputs, table.InputsLength(), len(tensors))
        outputs = self._ids(table.Outputs, table.OutputsLength(), len(tensors))
        name = self._text(table.Name()) or self.name
        for node in nodes:
            for tensor_id in (*node.inputs, *node.outputs):
                if tensor_id is not None and not 0 <= tensor_id < len(tensors):
                    raise ModelError(f"{node.label} names tensor {tensor_id} of {len(tensors)}")
        made = {*inputs, *(i for node in nodes for i in node.outputs)}
        known = {t.id: t if t.id in made else _with_no_elements(t) for t in tensors}
        return Graph(name, known, tuple(nodes), inputs, outputs)

    def _ids(self, get: Callable[[int], int], count: int, tensors: int) -> tuple[int, ...]:
        ids = tuple(int(get(i)) for i in range(self._count(count, "inputs or outputs")))
        if any(not 0 <= i < tensors for i in ids):
            raise ModelError(f"an input or output names a tensor that does not exist: {list(ids)} of {tensors}")
        return ids

    def _tensor(self, table: Any, index: int) -> Tensor:
        name = self._text(table.Name())
        if table.Type() not in DTYPES:
            type_name = _names(tflite.TensorType).get(table.Type(), f"number {table.Type()}")
            raise ModelError(f"tensor '{name}' ({index}) has an unsupported data type: {type_name}")
        dtype = DTYPES[table.Type()]
        rank = self._count(table.ShapeLength(), "dimensions")
        shape = tuple(int(table.Shape(i)) for i in range(rank))
        if table.Sparsity() is not None:
            raise ModelError(f"tensor '{name}' ({index}) is sparse", "Convert the model without sparsity.")
        tensor = Tensor(index, name, shape, dtype, source=index, variable=bool(table.IsVariable()))
        quantization = self._quantization(table.Quantization(), dtype, rank)
        data = None if tensor.variable else self._data(table.Buffer(), tensor)
        return Tensor(index, name, shape, dtype, quantization, data, index, variable=tensor.variable)

    def _quantization(self, table: Any, dtype: DType, rank: int) -> Quantization | None:
        if table is None or dtype in (DType.FLOAT32, DType.FLOAT16, DType.BOOL, DType.STRING):
            return None
        count = self._count(table.ScaleLength(), "scales")
        scales = tuple(float(table.Scale(i)) for i in range(count))
        if not scales or (dtype in (DType.INT32, DType.INT64) and 0.0 in scales):
            return None
        zeros = tuple(int(table.ZeroPoint(i)) for i in range(self._count(table.ZeroPointLength(), "zero points")))
        # One zero point, or none, stands for all channels; a vector's axis can only be 0 (some converters write 3).
        if len(zeros) <= 1:
            zeros = (zeros or (0,)) * count
        return Quantization(scales, zeros, 0 if rank <= 1 else int(table.QuantizedDimension()))

    def _data(self, buffer_index: int, tensor: Tensor) -> Array | None:
        if not 0 <= buffer_index < self.model.BuffersLength():
            raise ModelError(f"tensor {tensor.label} names buffer {buffer_index}, which does not exist")
        if buffer_index not in self.raw:
            self.raw[buffer_index] = self._raw(self.model.Buffers(buffer_index))
        raw = self.raw[buffer_index]
        self.data_budget -= len(raw or b"")
        if self.data_budget < 0:
            raise ModelError(f"its constants up to {tensor.label} take far more memory than the file")
        if raw is None or len(raw) == 0:
            return None
        if tensor.dtype is DType.STRING:
            raise ModelError(f"tensor {tensor.label} holds strings, which no microcontroller kernel takes")
        if tensor.dtype is DType.INT4:
            raw = _unpack_int4(raw, tensor.elements)
        if any(size < 0 for size in tensor.shape) or len(raw) != tensor.bytes:
            needs = f"needs {tensor.bytes} bytes of data, its buffer has {len(raw)}"
            raise ModelError(f"tensor {tensor.label} with shape {list(tensor.shape)} {needs}")
        return np.frombuffer(raw, tensor.dtype.numpy).reshape(tensor.shape)

    def _raw(self, buffer: Any) -> bytes | None:
        if buffer.Offset() > 1:  # data beyond the FlatBuffer's 2 GiB, appended to the file
            end = buffer.Offset() + buffer.Size()
            if end > len(self.data):
                raise IndexError(end)
            return self.data[buffer.Offset() : end]
        if buffer.DataLength() == 0:
            return None
        if buffer.DataLength() > len(self.data):
            raise IndexError(buffer.DataLength())
        return bytes(buffer.DataAsNumpy().tobytes())

    def _node(self, table: Any, index: int) -> Node:
        if table.OpcodeIndex() >= len(self.codes):
            raise ModelError(f"node {index} names operator code {table.OpcodeIndex()} of {len(self.codes)}")
        op = self.codes[table.OpcodeIndex()]
        counts = self._count(table.InputsLength(), "inputs"), self._count(table.OutputsLength(), "outputs")
        inputs = tuple(int(table.Inputs(i)) for i in range(counts[0]))
        outputs = tuple(int(table.Outputs(i)) for i in range(counts[1]))
        options = self._custom_options(table) if op.startswith("CUSTOM:") else self._options(table)
        return Node(op, tuple(None if i == -1 else i for i in inputs), outputs, options, index)

    def _options(self, table: Any) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for union, kind, get in (
            (tflite.BuiltinOptions, table.BuiltinOptionsType(), table.BuiltinOptions),
            (tflite.BuiltinOptions2, table.BuiltinOptions2Type(), table.BuiltinOptions2),
        ):
            if kind == 0 or (fields := get()) is None:
                continue
            if kind not in _names(union):
                raise ModelError(f"option table {kind} is not in the schema")
            reader = getattr(tflite, _names(union)[kind])()
            reader.Init(fields.Bytes, fields.Pos)
            options |= {snake(field): self._option(reader, field) for field in option_fields(reader.__class__)}
        return options

    def _option(self, reader: Any, field: str) -> Any:
        if not hasattr(reader, field + "Length"):
            value = getattr(reader, field)()
            return self._text(value) if isinstance(value, bytes) else value
        count = self._count(getattr(reader, field + "Length")(), f"values of {field}")
        return tuple(getattr(reader, field)(i) for i in range(count))

    def _custom_options(self, table: Any) -> dict[str, Any]:
        if not table.CustomOptionsLength():
            return {"custom_options": b""}
        self._count(table.CustomOptionsLength() // 4, "bytes of options")
        raw = bytes(table.CustomOptionsAsNumpy().tobytes())
        return {"custom_options": raw} | flexible.options(raw)

    def _signatures(self, graphs: Mapping[int, Graph]) -> dict[str, tuple[int, Signature]]:
        """The number of the graph and the signature, by the signature's name."""
        found: dict[str, tuple[int, Signature]] = {}
        for i in range(self._count(self.model.SignatureDefsLength(), "signatures")):
            self.at = f"signature {i}"
            table = self.model.SignatureDefs(i)
            if table.SubgraphIndex() not in graphs:
                raise ModelError(f"signature {i} is of subgraph {table.SubgraphIndex()}, which does not exist")
            graph = graphs[table.SubgraphIndex()]
            names = [
                {int(get(j).TensorIndex()): self._text(get(j).Name()) for j in range(self._count(count, "names"))}
                for get, count in ((table.Inputs, table.InputsLength()), (table.Outputs, table.OutputsLength()))
            ]
            inputs, outputs = (
                tuple(table_.get(t, graph.tensors[t].name) for t in ids)
                for table_, ids in zip(names, (graph.inputs, graph.outputs), strict=True)
            )
            signature = Signature(self._text(table.SignatureKey()), inputs, outputs)
            found.setdefault(signature.name, (table.SubgraphIndex(), signature))
        return found

    def _named(self, signatures: Mapping[str, tuple[int, Signature]], name: str) -> tuple[int, Signature]:
        if name in signatures:
            return signatures[name]
        raise UsageError(
            f"the model {self.name} has no signature '{name}'",
            f"It has {', '.join(signatures)}." if signatures else "It has none: leave out --signature.",
        )


def _entered(graphs: Mapping[int, Graph], entry: int, signature: Signature) -> dict[int, Graph]:
    """`graphs` where `entry` and 0 have changed places, in what calls them too."""
    places = {0: entry, entry: 0}

    def renumbered(node: Node) -> Node:
        calls = {name: places.get(i, i) for name, i in node.options.items() if name.endswith("subgraph_index")}
        return replace(node, options={**node.options, **calls}) if calls else node

    moved = {places.get(i, i): replace(g, nodes=tuple(map(renumbered, g.nodes))) for i, g in graphs.items()}
    moved[0] = replace(moved[0], signature=signature)
    return moved


@cache
def option_fields(table: Any) -> tuple[str, ...]:
    """The fields of a generated option table, by their accessors' names."""
    skip = ("Length", "IsNone", "AsNumpy", "HasIdentifier")
    return tuple(
        name
        for name in vars(table)
        if name[0].isupper() and name != "Init" and not name.startswith("GetRoot") and not name.endswith(skip)
    )


def _with_no_elements(tensor: Tensor) -> Tensor:
    """A tensor of no elements is a constant, though it has no data: the shape that makes a scalar, for one."""
    if tensor.elements != 0 or tensor.data is not None or not tensor.dtype.on_device:
        return tensor
    return replace(tensor, data=np.empty(tensor.shape, tensor.dtype.numpy))


def _unpack_int4(raw: bytes, elements: int) -> bytes:
    """Two signed 4-bit values a byte, the lower half first, to one int8 each."""
    packed = np.frombuffer(raw, np.uint8)
    pairs = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[:elements].astype(np.int8)
    return np.where(pairs > 7, pairs - 16, pairs).astype(np.int8).tobytes()
