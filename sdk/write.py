"""Write a `Graph` as a .tflite file: the inverse of `sdk.load`.

Operators' test cases are graphs made by hand; the oracles read .tflite files. Options are written by the same field
names that loading gives them, so that `load_bytes(write(graph))` is the graph again.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import flatbuffers.flexbuffers
import numpy as np
import tflite

from sdk.graph import DType, Graph, Node, Signature, Tensor
from sdk.load import BUILTIN_NAMES, DTYPES, option_fields, snake

_TYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}
_OPERATOR_CODES = {name: number for number, name in BUILTIN_NAMES.items()}

# Operators whose option table is not the operator's name in CamelCase.
_OPTION_TABLES = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "CONV_3D": "Conv3DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_POOL_2D": "Pool2DOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_ALL": "ReducerOptions",
    "CONCATENATION": "ConcatenationOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "SPLIT_V": "SplitVOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNNOptions",
    "SVDF": "SVDFOptions",
    "LSTM": "LSTMOptions",
    "RNN": "RNNOptions",
}


def write(graph: Graph) -> bytes:
    """The bytes of a model with `graph` and its subgraphs, whose tensors are numbered by position."""
    return _Writer(graph).finish()


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.builder = flatbuffers.Builder(1024)
        self.graphs = [graph, *(graph.subgraphs[i] for i in sorted(graph.subgraphs))]
        self.buffers: list[bytes] = [b""]
        self.codes: list[str] = []

    def finish(self) -> bytes:
        b = self.builder
        subgraphs = self._vector([self._subgraph(graph) for graph in self.graphs])
        codes = self._vector([self._code(op) for op in self.codes])
        buffers = self._vector([self._buffer(data) for data in self.buffers])
        signatures = self._vector(
            [self._signature(i, graph, graph.signature) for i, graph in enumerate(self.graphs) if graph.signature]
        )
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, codes)
        tflite.ModelAddSubgraphs(b, subgraphs)
        tflite.ModelAddBuffers(b, buffers)
        tflite.ModelAddSignatureDefs(b, signatures)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    def _signature(self, index: int, graph: Graph, signature: Signature) -> int:
        b = self.builder
        position = {tensor_id: i for i, tensor_id in enumerate(graph.tensors)}
        inputs, outputs = (
            self._vector([self._name(name, position[i]) for name, i in zip(names, ids, strict=True)])
            for names, ids in ((signature.inputs, graph.inputs), (signature.outputs, graph.outputs))
        )
        name = b.CreateString(signature.name)
        tflite.SignatureDefStart(b)
        tflite.SignatureDefAddInputs(b, inputs)
        tflite.SignatureDefAddOutputs(b, outputs)
        tflite.SignatureDefAddSignatureKey(b, name)
        tflite.SignatureDefAddSubgraphIndex(b, index)
        return int(tflite.SignatureDefEnd(b))

    def _name(self, name: str, tensor: int) -> int:
        text = self.builder.CreateString(name)
        tflite.TensorMapStart(self.builder)
        tflite.TensorMapAddName(self.builder, text)
        tflite.TensorMapAddTensorIndex(self.builder, tensor)
        return int(tflite.TensorMapEnd(self.builder))

    def _vector(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def _numbers(self, values: Any, dtype: str) -> int:
        return int(self.builder.CreateNumpyVector(np.asarray(values, dtype)))

    def _code(self, op: str) -> int:
        b = self.builder
        custom = b.CreateString(op.removeprefix("CUSTOM:")) if op.startswith("CUSTOM:") else None
        number = tflite.BuiltinOperator.CUSTOM if custom is not None else _OPERATOR_CODES[op]
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
        tflite.OperatorCodeAddBuiltinCode(b, number)
        tflite.OperatorCodeAddVersion(b, 1)
        if custom is not None:
            tflite.OperatorCodeAddCustomCode(b, custom)
        return int(tflite.OperatorCodeEnd(b))

    def _buffer(self, data: bytes) -> int:
        b = self.builder
        vector = None
        if data:
            # The schema forces 16-byte alignment of a buffer's data.
            b.StartVector(1, len(data), 16)
            b.head -= len(data)
            b.Bytes[b.head : b.head + len(data)] = data
            vector = b.EndVector()
        tflite.BufferStart(b)
        if vector is not None:
            tflite.BufferAddData(b, vector)
        return int(tflite.BufferEnd(b))

    def _subgraph(self, graph: Graph) -> int:
        b = self.builder
        index = {tensor_id: i for i, tensor_id in enumerate(graph.tensors)}
        tensors = self._vector([self._tensor(tensor) for tensor in graph.tensors.values()])
        nodes = self._vector([self._node(node, index) for node in graph.nodes])
        inputs = self._numbers([index[i] for i in graph.inputs], "int32")
        outputs = self._numbers([index[i] for i in graph.outputs], "int32")
        name = b.CreateString(graph.name)
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors)
        tflite.SubGraphAddInputs(b, inputs)
        tflite.SubGraphAddOutputs(b, outputs)
        tflite.SubGraphAddOperators(b, nodes)
        tflite.SubGraphAddName(b, name)
        return int(tflite.SubGraphEnd(b))

    def _tensor(self, tensor: Tensor) -> int:
        b = self.builder
        buffer = 0
        if tensor.data is not None:
            buffer = len(self.buffers)
            self.buffers.append(_raw(tensor))
        name = b.CreateString(tensor.name)
        shape = self._numbers(tensor.shape, "int32")
        quantization = self._quantization(tensor)
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, _TYPE_CODES[tensor.dtype])
        tflite.TensorAddBuffer(b, buffer)
        tflite.TensorAddName(b, name)
        tflite.TensorAddIsVariable(b, tensor.variable)
        tflite.TensorAddHasRank(b, True)
        if quantization is not None:
            tflite.TensorAddQuantization(b, quantization)
        return int(tflite.TensorEnd(b))

    def _quantization(self, tensor: Tensor) -> int | None:
        if tensor.quantization is None:
            return None
        b = self.builder
        scale = self._numbers(tensor.quantization.scale, "float32")
        zero_point = self._numbers(tensor.quantization.zero_point, "int64")
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scale)
        tflite.QuantizationParametersAddZeroPoint(b, zero_point)
        tflite.QuantizationParametersAddQuantizedDimension(b, tensor.quantization.axis)
        return int(tflite.QuantizationParametersEnd(b))

    def _node(self, node: Node, index: dict[int, int]) -> int:
        b = self.builder
        if node.op not in self.codes:
            self.codes.append(node.op)
        inputs = self._numbers([-1 if i is None else index[i] for i in node.inputs], "int32")
        outputs = self._numbers([index[i] for i in node.outputs], "int32")
        custom = self._custom(node) if node.op.startswith("CUSTOM:") else None
        table = None if custom is not None else self._options(node)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, self.codes.index(node.op))
        tflite.OperatorAddInputs(b, inputs)
        tflite.OperatorAddOutputs(b, outputs)
        if custom is not None:
            tflite.OperatorAddCustomOptions(b, custom)
        if table is not None:
            kind, offset, second = table
            if second:
                tflite.OperatorAddBuiltinOptions2Type(b, kind)
                tflite.OperatorAddBuiltinOptions2(b, offset)
            else:
                tflite.OperatorAddBuiltinOptionsType(b, kind)
                tflite.OperatorAddBuiltinOptions(b, offset)
        return int(tflite.OperatorEnd(b))

    def _custom(self, node: Node) -> int:
        fields = dict(node.options)
        raw = fields.pop("custom_options", None)
        if raw is None:
            raw = bytes(flatbuffers.flexbuffers.Dumps(fields))
        return int(self.builder.CreateByteVector(raw))

    def _options(self, node: Node) -> tuple[int, int, bool] | None:
        """(union member, offset, is it in the second union) of the node's option table."""
        name = _OPTION_TABLES.get(node.op) or "".join(word.capitalize() for word in node.op.split("_")) + "Options"
        second = hasattr(tflite.BuiltinOptions2, name)
        union = tflite.BuiltinOptions2 if second else tflite.BuiltinOptions
        if not hasattr(union, name):
            if node.options:
                raise ValueError(f"{node.op} has options, but the schema has no table {name}")
            return None
        b = self.builder
        vectors = {}
        fields = option_fields(getattr(tflite, name))
        if fields and not node.options:
            return None
        unknown = set(node.options) - {snake(field) for field in fields}
        if unknown:
            raise ValueError(f"{node.op} has no option {', '.join(sorted(unknown))}")
        for field in fields:
            value = node.options.get(snake(field))
            if isinstance(value, tuple):
                vectors[field] = self._numbers(value, "int32")
            elif isinstance(value, str):
                vectors[field] = b.CreateString(value)
        getattr(tflite, f"{name}Start")(b)
        for field in fields:
            if field in vectors:
                getattr(tflite, f"{name}Add{field}")(b, vectors[field])
            elif snake(field) in node.options:
                getattr(tflite, f"{name}Add{field}")(b, node.options[snake(field)])
        return getattr(union, name), int(getattr(tflite, f"{name}End")(b)), second


def _raw(tensor: Tensor) -> bytes:
    assert tensor.data is not None
    if tensor.dtype is not DType.INT4:
        return np.ascontiguousarray(tensor.data, tensor.dtype.numpy).tobytes()
    nibbles = np.append(tensor.data.reshape(-1).astype(np.uint8) & 15, np.uint8(0))[
        : tensor.elements + tensor.elements % 2
    ]
    return bytes((nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8))
