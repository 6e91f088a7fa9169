"""Loading: what was written is read back; damage is refused with a message, never with another exception."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest

from sdk.errors import ModelError, SdkError, UsageError
from sdk.graph import DType, Graph, Node, Quantization, Tensor
from sdk.load import load, load_bytes, snake
from sdk.lower import lower
from sdk.ops import registry
from sdk.ops.base import Case, CaseGraph
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


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "is empty"), (b"not a model", "not a .tflite"), (b"\0\0\0\0TFL3", "schema version is 0")]
)
def test_what_is_not_a_model_is_named(data: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_bytes(data)


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
