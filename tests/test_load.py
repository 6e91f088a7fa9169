"""Loading: what was written is read back; damage is refused with a message, never with another exception."""

from __future__ import annotations

import contextlib
import gzip
import io
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tflite

from sdk.errors import ModelError, SdkError, UnsupportedError, UsageError
from sdk.graph import DType, Graph, Node, Quantization, Tensor
from sdk.load import load, load_bytes, snake
from sdk.lower import lower
from sdk.ops import registry
from sdk.ops.base import Case, CaseGraph
from sdk.oracle import Oracle
from sdk.program import seal
from sdk.write import write

ONE_EACH = [next(iter(op.cases()), None) for name, op in registry().ops.items() if name == op.names[0]]
CASES = [case for case in ONE_EACH if case is not None]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.graph.nodes[0].op}-{case.name}")
def test_written_graphs_are_read_back(case: Case) -> None:
    graph = load_bytes(write(case.graph))
    assert [node.op for node in graph.nodes] == [node.op for node in case.graph.nodes]
    for read, made in zip(graph.nodes, case.graph.nodes, strict=True):
        for name, value in made.options.items():
            assert read.options[name] == (pytest.approx(value) if isinstance(value, float) else value)
    for read_tensor, made_tensor in zip(graph.tensors.values(), case.graph.tensors.values(), strict=True):
        assert (read_tensor.shape, read_tensor.dtype) == (made_tensor.shape, made_tensor.dtype)
        if made_tensor.data is not None:
            np.testing.assert_array_equal(read_tensor.data, made_tensor.data)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.graph.nodes[0].op}-{case.name}")
def test_damaged_models_never_crash_the_host(case: Case) -> None:
    """Bits flipped, bytes cut: a model that loads and lowers, or an SdkError. Any other exception is a bug."""
    sound = write(case.graph)
    rng = random.Random(case.name)
    for _ in range(60):
        damaged = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.2:
            damaged = damaged[: rng.randrange(len(damaged))]
        with contextlib.suppress(SdkError):
            lower(load_bytes(bytes(damaged)))


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words", "remedy"),
    [
        (b"", "is empty: it has 0 bytes", "copied whole"),
        (b"not a model", "bytes 4 to 7 are not 'TFL3'", "Give a TensorFlow Lite model"),
        (b"\0\0\0\0TFL3", "schema version is 0, not the supported version 3", "Convert"),
        (zipped("metadata.json", "config.json", "model.weights.h5"), "a Keras model", "sdk convert"),
        (zipped("net/data.pkl", "net/version"), "a PyTorch model", "torch.export"),
        (zipped("a/model.tflite"), "holds a/model.tflite", "unzip"),
        (zipped("a.txt"), "a zip archive", "Give a"),
        (zipped("a.txt")[:20], "a damaged zip archive", "Give a"),
        (b"\x89HDF\r\n\x1a\n" + bytes(8), "HDF5", "sdk convert"),
        (b"\x08\x01\x12\xff\x01" + bytes(8), "saved_model.pb", "sdk convert"),
        (b"\x08\x08\x12\x07pytorch", "ONNX", "sdk convert"),
        (pickle.dumps({"weights": 1}), "pickled", "torch.export"),
        (gzip.compress(b"model"), "gzip", "gunzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "HTML", "Download"),
        (seal(bytes([0x4D, 0x4C, 0x54, 0x48]) + bytes(60)), "a lowered program", "lowered from"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_a_model_is_named(data: bytes, words: str, remedy: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)) as caught:
        load_bytes(data)
    assert remedy in caught.value.remedy


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match="SavedModel") as caught:
        load(tmp_path)
    assert "sdk convert" in caught.value.remedy


def test_a_cut_off_file_is_named_at_every_length() -> None:
    whole = write(CASES[0].graph)
    for count in range(8, len(whole) - 16):  # the end is a padding
        with pytest.raises(ModelError, match=r"ends in the middle of|is damaged in|is not sound") as caught:
            load_bytes(whole[:count])
        assert "unpack" not in str(caught.value)
    with pytest.raises(ModelError, match=r"ends in the middle of (its header|operator code|graph|tensor)"):
        load_bytes(whole[: len(whole) // 3])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        load(tmp_path / "nowhere.tflite")


def test_int4_is_unpacked_low_half_first() -> None:
    g = CaseGraph()
    x = g.input((1, 3), DType.INT8, 0.5)
    weights = g.constant(np.array([[-8, 7, -1]]), DType.INT4, 0.1)
    y = g.output((1, 1), DType.INT8, 0.5)
    graph = load_bytes(write(g.case("int4", "FULLY_CONNECTED", [x, weights], [y]).graph))
    np.testing.assert_array_equal(graph.tensors[1].data, [[-8, 7, -1]])


def test_field_names() -> None:
    names = {"StrideW": "stride_w", "DilationHFactor": "dilation_h_factor", "NewShape": "new_shape"}
    assert {name: snake(name) for name in names} == names


def tensor(index: int, **changes: object) -> Tensor:
    values = {"shape": (2,), "dtype": DType.INT8, "quantization": Quantization((0.5,), (0,))} | changes
    return Tensor(index, f"t{index}", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (tensor(0, quantization=Quantization((0.0,), (0,))), "scale that is not a positive"),
        (tensor(0, quantization=Quantization((float("nan"),), (0,))), "scale that is not a positive"),
        (tensor(0, quantization=Quantization((1.0,), (200,))), "zero point outside"),
        (tensor(0, quantization=Quantization((1.0, 2.0, 3.0), (0, 0, 0))), "3 scales for 2 channels"),
        (tensor(0, quantization=Quantization((1.0, 2.0), (0, 0), 5)), "scales along axis 5"),
        (tensor(0, shape=(2, -1)), "negative size"),
        (tensor(0, shape=(1 << 20, 1 << 20)), "256 MiB"),
        (tensor(0, shape=(1,) * 9), "9 dimensions"),
    ],
)
def test_unsound_tensors_are_named(bad: Tensor, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        Graph("g", {0: bad}, (), (0,), (0,)).check()
    assert "t0" in str(caught.value)


def test_a_cycle_and_a_double_writer_are_named() -> None:
    tensors = {i: tensor(i) for i in range(3)}
    with pytest.raises(ModelError, match="before any node made it"):
        Graph("g", tensors, (Node("ABS", (1,), (1,), {}, 0),), (0,), (1,)).check()
    twice = (Node("ABS", (0,), (1,), {}, 0), Node("NEG", (0,), (1,), {}, 1))
    with pytest.raises(ModelError, match="already has a value"):
        Graph("g", tensors, twice, (0,), (1,)).check()
    with pytest.raises(ModelError, match="made by no node"):
        Graph("g", tensors, (), (0,), (2,)).check()


def sound() -> Graph:
    g = CaseGraph()
    x, c = g.input((1, 4), DType.INT8, 0.5, 1), g.constant(np.arange(4).reshape(1, 4), DType.INT8, 0.25)
    sum_, y = g.tensor((1, 4), DType.INT8, 0.5), g.output((1, 4), DType.INT8, 0.5)
    add = Node("ADD", (x, c), (sum_,), {"fused_activation_function": 0, "pot_scale_int16": False}, 0)
    return g.case_of([add, Node("MUL", (sum_, x), (y,), {"fused_activation_function": 0}, 1)], "sound").graph


def with_node(**changes: object) -> bytes:
    graph = sound()
    return write(replace(graph, nodes=(replace(graph.nodes[0], **changes), graph.nodes[1])))  # type: ignore[arg-type]


def with_tensor(index: int, **changes: object) -> bytes:
    graph = sound()
    changed = replace(graph.tensors[index], **changes)  # type: ignore[arg-type]
    return write(replace(graph, tensors={**graph.tensors, index: changed}))


def patched(place: Callable[[tflite.Model], tuple[object, int, bool]], value: int, kind: str = "<i") -> bytes:
    """The sound model with `value` in a field (table, slot, False) or in a vector's first element (..., True)."""
    data = bytearray(write(sound()))
    table, slot, vector = place(tflite.Model.GetRootAs(bytes(data), 0))
    offset = table._tab.Offset(slot)  # type: ignore[attr-defined]
    assert offset
    at = table._tab.Vector(offset) if vector else table._tab.Pos + offset  # type: ignore[attr-defined]
    struct.pack_into(kind, data, at, value)
    return bytes(data)


@pytest.mark.parametrize("slot", [4, 10], ids=["narrow", "wide"])
def test_either_field_of_an_operators_number_will_do(slot: int) -> None:
    """Quantizers write new nodes' numbers into the wider field alone."""
    kind = "<b" if slot == 4 else "<i"
    data = patched(lambda m: (m.OperatorCodes(1), slot, False), 0, kind)
    assert [node.op for node in load_bytes(data).nodes] == ["ADD", "MUL"]


# What TensorFlow Lite says of the same file stands beside each, where it says anything.
UNSOUND = {
    # Invalid tensor index 99 in node inputs
    "an input's index": (lambda: patched(lambda m: (m.Subgraphs(0).Operators(0), 6, True), 99), "ADD.*tensor 99 of 4"),
    "a negative index": (lambda: patched(lambda m: (m.Subgraphs(0).Operators(0), 6, True), -7), "ADD.*tensor -7 of 4"),
    "an output's index": (lambda: patched(lambda m: (m.Subgraphs(0).Operators(0), 8, True), 99), "ADD.*tensor 99"),
    # Invalid tensor index 99 in outputs
    "the graph's output": (lambda: patched(lambda m: (m.Subgraphs(0), 8, True), 99), "output names a tensor that"),
    # Tensor 1 specifies out of range buffer 99 (only 2 buffers)
    "a buffer's index": (lambda: patched(lambda m: (m.Subgraphs(0).Tensors(1), 8, False), 99), "'t1'.* buffer 99"),
    # Unsupported data type 99 in tensor
    "a type": (
        lambda: patched(lambda m: (m.Subgraphs(0).Tensors(2), 6, False), 99, "<b"),
        "'t2'.* data type: number 99",
    ),
    # Missing registration for opcode_index 99
    "an operator's index": (lambda: patched(lambda m: (m.Subgraphs(0).Operators(1), 4, False), 99), "code 99 of 2"),
    # Op builtin_code out of range: 999
    "an operator": (lambda: patched(lambda m: (m.OperatorCodes(1), 10, False), 999), "number 999 is not in the schema"),
    # Model provided is schema version 2 not equal to supported version 3
    "the version": (lambda: patched(lambda m: (m, 4, False), 2), "version is 2, not the supported version 3"),
    # required_bytes != bytes (5 != 4)
    "a shape": (lambda: with_tensor(1, shape=(1, 5)), r"'t1'.*\[1, 5\] needs 5 bytes of data, its buffer has 4"),
    "no data": (lambda: with_tensor(1, data=None), "ADD.*reads 't1'.*its data is missing"),
    "a negative size": (lambda: with_tensor(0, shape=(1, -4)), "'t0'.*negative size"),
    "no scale": (lambda: with_tensor(0, quantization=None), "ADD.*'t0'.* has no scale"),
    "a scale of 0": (lambda: with_tensor(0, quantization=Quantization((0.0,), (0,))), "'t0'.* not a positive finite"),
    "a negative scale": (lambda: with_tensor(0, quantization=Quantization((-1.0,), (0,))), "'t0'.* not a positive"),
    "an infinite scale": (lambda: with_tensor(0, quantization=Quantization((np.inf,), (0,))), "'t0'.* not a positive"),
    "no number": (lambda: with_tensor(0, quantization=Quantization((np.nan,), (0,))), "'t0'.* not a positive finite"),
    "a zero point": (lambda: with_tensor(0, quantization=Quantization((1.0,), (200,))), "'t0'.* outside -128 to 127"),
    # QuantizationParam has 2 zero_point values and 4 scale values
    "zero points": (
        lambda: with_tensor(1, quantization=Quantization((1.0,) * 4, (0, 0), 1)),
        "'t1'.* 4 scales and 2 zero points",
    ),
    # quantized_dimension must be in range [0, 2)
    "an axis": (lambda: with_tensor(1, quantization=Quantization((1.0,) * 4, (0,) * 4, 7)), "'t1'.* along axis 7"),
    # num_scales must be 1 for per-layer quantization, or 4 for per-axis quantization, but got 3
    "scales": (lambda: with_tensor(1, quantization=Quantization((1.0,) * 3, (0,) * 3, 1)), "3 scales for 4 channels"),
    # NumInputs(node) != 2 (1 != 2)
    "too few inputs": (lambda: with_node(inputs=(0,)), "ADD.* has no input 1"),
    # Tensor at index 1 was optional but was expected
    "an input left out": (lambda: with_node(inputs=(0, None)), "ADD.* has no input 1"),
    # NumOutputs(node) != 1 (0 != 1)
    "no output": (lambda: with_node(outputs=()), "ADD.* has no output"),
    "an output twice": (lambda: with_node(outputs=(2, 2)), "ADD.*writes 't2'.*already has a value"),
    # Tensor 2 is both input 1 and output 0
    "a cycle": (lambda: with_node(inputs=(0, 2)), "ADD.*reads 't2'.*cycle"),
    "a second producer": (lambda: write(replace(sound(), nodes=sound().nodes * 2)), "ADD.*writes 't2'.*already has"),
}


@pytest.mark.parametrize(("data", "words"), UNSOUND.values(), ids=UNSOUND)
def test_unsound_models_are_refused_by_name(data: Callable[[], bytes], words: str) -> None:
    lower(load_bytes(write(sound())))
    with pytest.raises(SdkError, match=words):
        lower(load_bytes(data()))


@pytest.mark.parametrize(
    ("op", "dtype", "bias", "off", "refused"),
    [
        # |scale of the bias - that of the products| / that of the output, which TensorFlow Lite lets be 0.02
        ("FULLY_CONNECTED", DType.INT8, 2, 0.019, False),
        ("FULLY_CONNECTED", DType.INT8, 2, 0.021, True),
        ("CONV_2D", DType.INT8, 2, 0.03, False),  # it looks at per-channel models' biases nowhere
        ("CONV_2D", DType.UINT8, 2, 0.03, True),
        ("DEPTHWISE_CONV_2D", DType.UINT8, 2, 0.03, True),
        ("SVDF", DType.INT8, 3, 0.03, True),
    ],
)
def test_a_bias_whose_scale_does_not_fit_is_refused_as_by_the_oracles(
    op: str, dtype: DType, bias: int, off: float, refused: bool
) -> None:
    graphs = (case.graph for case in registry().ops[op].cases() if len(case.graph.nodes[0].inputs) > bias)
    graph = next(graph for graph in graphs if graph.tensors[0].dtype is dtype)
    values = graph.tensors[graph.nodes[0].inputs[bias] or 0]
    assert values.quantization is not None
    more = off * graph.tensors[graph.nodes[0].outputs[0]].scale
    changed = replace(values.quantization, scale=tuple(scale + more for scale in values.quantization.scale))
    model = write(replace(graph, tensors={**graph.tensors, values.id: replace(values, quantization=changed)}))
    expected = pytest.raises(ModelError, match="its bias") if refused else contextlib.nullcontext()
    with expected:
        lower(load_bytes(model))
    with pytest.raises(UnsupportedError, match=r"not true|Hybrid") if refused else contextlib.nullcontext():
        Oracle(model).close()
