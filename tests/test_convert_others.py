"""PyTorch and ONNX, and float .tflite models that are quantized: each to an emulated Cortex-M4.

`make test-convert` runs them: they need the environments of `sdk convert`, which take gigabytes and minutes to make.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sdk.boards import load_board
from sdk.convert.conversion import convert
from sdk.convert.environment import ONNX, TORCH, Environment, python_of
from sdk.convert.evaluate import quantized, real_values, specs_of
from sdk.deploy import deployed, prepare
from sdk.graph import DType
from sdk.inputs import Sample
from sdk.load import load_bytes
from sdk.oracle import Oracle
from sdk.verify import verify

if not os.environ.get("MICROLITH_TEST_CONVERT"):
    pytest.skip("converters take gigabytes: run `make test-convert`", allow_module_level=True)

HERE = Path(__file__).parent
BOARD = "mps2-an386"
FLOAT_ERROR = 1e-5

# Convolution, ReLU, mean, dense, softmax; the batch is open.
ONNX_NET = """
import sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
rng = np.random.default_rng(0)
def constant(name, *shape):
    return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)
nodes = [
    helper.make_node("Conv", ["x", "k", "b"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["c"], ["r"]),
    helper.make_node("GlobalAveragePool", ["r"], ["g"]),
    helper.make_node("Flatten", ["g"], ["f"]),
    helper.make_node("Gemm", ["f", "w", "v"], ["s"]),
    helper.make_node("Softmax", ["s"], ["y"], axis=1),
]
graph = helper.make_graph(
    nodes, "net",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
    [constant("k", 8, 3, 3, 3), constant("b", 8), constant("w", 8, 10), constant("v", 10)],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), sys.argv[1])
"""


def run_python(environment: Environment, *words: str | Path) -> str:
    done = subprocess.run([python_of(environment), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    run_python(TORCH, HERE / "convert_others.py", folder)
    return folder


def check(model: bytes, float_model: bytes, samples: np.ndarray, dtype: DType, error: float) -> None:
    """The model on the board: equal to the oracle, and close to the float32 model."""
    graph = load_bytes(model)
    assert graph.tensor(graph.inputs[0]).dtype is dtype
    lowered = prepare(graph, load_board(BOARD))
    inputs = [quantized(Sample("", (each[None],)), lowered.inputs) for each in samples]
    output = lowered.outputs[0]
    with Oracle(model) as oracle, Oracle(float_model) as exact, deployed(lowered, load_board(BOARD)) as target:
        verdict = verify(target.device, lowered, oracle, inputs)
        assert verdict.ok, verdict.first_difference
        for each, values in zip(samples, inputs, strict=True):
            got = (oracle.run(values).outputs[0].astype(np.float64) - output.zero_point) * (output.scale or 1.0)
            np.testing.assert_allclose(got, exact.run([each[None]]).outputs[0], rtol=0, atol=error)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("net.pt2", {"representative": "train.npy"}),
        ("convert_others:net", {"representative": "train.npy", "sample": "convert_others:sample"}),
        ("net.pt2", {"quantize": "float32"}),
    ],
)
def test_pytorch(source: str, options: dict[str, str], sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sources)
    made = convert(source, **options)
    assert made.source_error is not None
    assert made.source_error < FLOAT_ERROR
    is_float = options.get("quantize") == "float32"
    dtype, error = (DType.FLOAT32, FLOAT_ERROR) if is_float else (DType.INT8, 0.02)
    check(made.model, made.float_model, np.load("train.npy")[:3], dtype, error)


OBJECTS = """
import sys
sys.path += sys.argv[2:]
import convert_others as made, numpy as np, sdk, torch
from sdk.errors import UsageError
some = [np.random.default_rng(i).normal(size=(1, 16, 16, 3)) for i in range(20)]
class Named(torch.nn.Module):
    def forward(self, x):
        return {"doubled": 2 * x, "all": {"sum": x.sum(1)}}
class Asking(torch.nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x
result = sdk.convert(made.net(), sys.argv[1], sample=made.sample(), representative=some)
named = sdk.convert(Named(), sample=torch.zeros(1, 4), quantize="float32").report.graph
assert [named.tensor(i).shape for i in named.outputs] == [(1, 4), (1,)]
for module, sample in ((Asking(), torch.zeros(1, 4)), (made.net(), torch.zeros(1, 4))):
    try:
        sdk.convert(module, sample=sample, quantize="float32")
    except UsageError as error:
        print(error.message[:60])
"""


def test_modules_of_the_callers_program(tmp_path: Path) -> None:
    site = next(path for path in sys.path if path.endswith("site-packages"))
    said = run_python(TORCH, "-c", OBJECTS, tmp_path / "net.tflite", HERE.parent, HERE, site)
    assert said.count("the torch module cannot be exported") == 2
    assert load_bytes((tmp_path / "net.tflite").read_bytes()).nodes


def test_an_lstm_of_pytorch(sources: Path) -> None:
    """Its quantizer adds nodes, whose operators it numbers in the newer field alone."""
    made = convert(sources / "lstm.pt2", representative=sources / "sequences.npy")
    assert "QUANTIZE" in [node.op for node in load_bytes(made.model).nodes]
    check(made.model, made.float_model, np.load(sources / "sequences.npy")[:3], DType.INT8, 0.05)


@pytest.mark.parametrize("quantize", ["int8", "float32"])
def test_onnx(quantize: str, sources: Path) -> None:
    path = sources / "net.onnx"
    run_python(ONNX, "-c", ONNX_NET, path)
    made = convert(path, quantize=quantize, representative=sources / "train.npy")
    assert made.source_error is not None
    assert made.source_error < FLOAT_ERROR
    dtype, error = (DType.INT8, 0.03) if quantize == "int8" else (DType.FLOAT32, FLOAT_ERROR)
    check(made.model, made.float_model, np.load(sources / "train.npy")[:3], dtype, error)


# What onnx2tf would turn, reorder, or fail at: rows, a picture of open size, two outputs of one size, no first state.
ONNX_ENDS = (
    ONNX_NET.partition("nodes = [")[0]
    + """
nodes = [
    helper.make_node("LSTM", ["rows", "W", "R", "B"], ["every", "last", "cell"], hidden_size=6),
    helper.make_node("Squeeze", ["last", "zero"], ["h"]),
    helper.make_node("Conv", ["x", "k", "b"], ["c"], strides=[2, 2]),
    helper.make_node("GlobalAveragePool", ["c"], ["g"]),
    helper.make_node("Flatten", ["g"], ["f"]),
    helper.make_node("Concat", ["h", "f"], ["both"], axis=1),
    helper.make_node("Gemm", ["both", "w", "v"], ["scores"]),
    helper.make_node("Softmax", ["scores"], ["classes"], axis=1),
]
value = helper.make_tensor_value_info
graph = helper.make_graph(
    nodes, "net",
    [value("x", TensorProto.FLOAT, ["batch", 3, "height", "width"]), value("rows", TensorProto.FLOAT, [5, 1, 4])],
    [value("scores", TensorProto.FLOAT, ["batch", 3]), value("classes", TensorProto.FLOAT, ["batch", 3])],
    [constant("W", 1, 24, 4), constant("R", 1, 24, 6), constant("B", 1, 48), constant("k", 8, 3, 3, 3),
     constant("b", 8), constant("w", 14, 3), constant("v", 3), numpy_helper.from_array(np.array([0]), "zero")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), sys.argv[1])
"""
)


@pytest.mark.parametrize("quantize", ["int8", "float32"])
def test_inputs_and_outputs_of_onnx_stay_what_they_are(quantize: str, sources: Path) -> None:
    path, rng = sources / "ends.onnx", np.random.default_rng(2)
    run_python(ONNX, "-c", ONNX_ENDS, path)
    samples = [[rng.normal(size=shape).astype(np.float32) for shape in ((1, 12, 10, 3), (5, 1, 4))] for _ in range(20)]
    made = convert(path, quantize=quantize, representative=samples, shapes={"x": (1, 3, 12, 10)})
    assert made.source_error is not None
    assert made.source_error < FLOAT_ERROR
    graph = load_bytes(made.model)
    assert [graph.tensor(i).shape for i in graph.inputs] == [(1, 12, 10, 3), (5, 1, 4)]
    assert graph.output_names == ("scores", "classes")
    given = quantized(Sample("", tuple(samples[0])), specs_of(graph, graph.inputs, graph.input_names))
    with Oracle(made.model) as oracle, Oracle(made.float_model) as exact:
        got = [real_values(a, graph.tensor(i)) for i, a in zip(graph.outputs, oracle.run(given).outputs, strict=True)]
        want = exact.run(samples[0]).outputs
    assert want[1].sum() == pytest.approx(1)
    np.testing.assert_allclose(np.concatenate(got), np.concatenate(want), rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("options", "dtype", "error"),
    [
        ({}, DType.INT8, 0.02),
        ({"interface": "uint8"}, DType.UINT8, 0.02),
        ({"interface": "float32"}, DType.FLOAT32, 0.02),
        ({"quantize": "int16x8"}, DType.INT16, 0.002),
        ({"quantize": "dynamic"}, DType.FLOAT32, 0.02),
    ],
)
def test_a_float_model_is_quantized(options: dict[str, str], dtype: DType, error: float, sources: Path) -> None:
    path = sources / "float32.tflite"
    if not path.exists():
        convert(sources / "net.pt2", path, quantize="float32")
    made = convert(path, representative=sources / "train.npy", **options)
    check(made.model, path.read_bytes(), np.load(sources / "train.npy")[:3], dtype, error)
