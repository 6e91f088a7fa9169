"""Every route of TensorFlow Lite's converter, each from a source that is built here, to an emulated Cortex-M4.

`make test-convert` runs them: they need the environments of `sdk convert`, which take gigabytes and minutes to make.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import write_digits

from sdk.boards import load_board
from sdk.cli import main
from sdk.convert.conversion import convert
from sdk.convert.environment import TENSORFLOW, python_of
from sdk.convert.evaluate import quantized, real_values, specs_of
from sdk.convert.options import Converted
from sdk.convert.process import Worker
from sdk.deploy import deployed, prepare
from sdk.errors import SdkError, ToolError, UnsupportedError, UsageError, VerifyError
from sdk.graph import DType
from sdk.inputs import Sample
from sdk.load import load_bytes
from sdk.oracle import Oracle
from sdk.preprocess import attached
from sdk.verify import verify

if not os.environ.get("MICROLITH_TEST_CONVERT"):
    pytest.skip("converters take gigabytes: run `make test-convert`", allow_module_level=True)

HERE = Path(__file__).parent
BOARD = "mps2-an386"
FLOAT_ERROR = 1e-5  # of softmax and scores of some units: sums of float32 in another order
INT8_ERROR = 0.08  # of outputs from 0 to 1, of networks with random weights at worst


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests/convert_sources.py writes."""
    folder = tmp_path_factory.mktemp("sources")
    run_python(HERE / "convert_sources.py", folder)
    write_digits(folder / "digits", 20)
    return folder


def run_python(*words: str | Path) -> str:
    """In TensorFlow's environment, with the SDK within reach."""
    python = python_of(TENSORFLOW)
    env = os.environ | {"PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", "PYTHONSAFEPATH": "1"}
    done = subprocess.run([python, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@dataclass(frozen=True)
class Route:
    """A way of the guide: the source and what `convert` is told. `error` bounds the outputs' distance from float32."""

    name: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: DType = DType.INT8
    error: float = INT8_ERROR


CALIBRATED = {"representative": "train.npy"}
FLOAT = {"quantize": "float32"}
ENDS = {"inputs": ["image"], "outputs": ["scores"]}
ROUTES = (
    Route("from_saved_model", "saved_model", FLOAT, DType.FLOAT32, FLOAT_ERROR),
    Route("from_saved_model of TensorFlow 1", "saved_model_v1", FLOAT, DType.FLOAT32, FLOAT_ERROR),
    Route("from_keras_model .keras, int8", "model.keras", CALIBRATED),
    Route("from_keras_model_file .h5, int8", "model.h5", CALIBRATED),
    Route("from_concrete_functions", "my_module:concrete", FLOAT, DType.FLOAT32, FLOAT_ERROR),
    Route("tf.Module, calibrated by a generator", "my_module:scaled", {"representative": "my_module:samples"}),
    Route("from_frozen_graph", "frozen.pb", FLOAT, DType.FLOAT32, FLOAT_ERROR),
    Route("from_frozen_graph as text, with names", "frozen.pbtxt", FLOAT | ENDS, DType.FLOAT32, FLOAT_ERROR),
    Route("freeze_graph: checkpoint with .meta, int8", "checkpoint/model.ckpt", CALIBRATED | ENDS, error=0.5),
    Route(
        "freeze_graph: checkpoint and graph",
        "checkpoint/model.ckpt",
        FLOAT | ENDS | {"graph": "graph.pbtxt"},
        DType.FLOAT32,
        FLOAT_ERROR,
    ),
    Route("fake_quant, int8", "fake_quant.pb", ENDS, error=0.1),
    Route("fake_quant, uint8 by input_stats", "fake_quant.pb", ENDS | {"input_stats": [(128, 128)]}, DType.UINT8, 0.1),
    Route("int8 with a uint8 interface", "model.keras", CALIBRATED | {"interface": "uint8"}, DType.UINT8),
    Route("int8 with a float32 interface", "model.keras", CALIBRATED | {"interface": "float32"}, DType.FLOAT32),
    Route("int16x8", "model.keras", CALIBRATED | {"quantize": "int16x8"}, DType.INT16, 0.01),
    Route("float16", "model.keras", {"quantize": "float16"}, DType.FLOAT32, 0.005),
    Route("LSTM of Keras 2, int8", "LSTM.h5", CALIBRATED),
    Route("LSTM of Keras 3, int8", "LSTM.keras", CALIBRATED),
    Route("LSTMs in both directions, int8", "both.h5", CALIBRATED, error=0.05),
    Route("an LSTM that keeps its state", "stateful.h5", FLOAT, DType.FLOAT32, FLOAT_ERROR),
    Route("GRU of Keras 2, int8", "GRU.h5", CALIBRATED),
    Route("GRU of Keras 3, int8", "GRU.keras", CALIBRATED),
    Route("a keep_prob with a default, int8", "dropout.pb", CALIBRATED),
    Route("a switch is_training, int8", "switched.pb", CALIBRATED),
    Route("a graph that trains, its outputs found", "training/model.ckpt", FLOAT, DType.FLOAT32, FLOAT_ERROR),
    Route("a checkpoint of before 2017", "one_file/model.ckpt", FLOAT, DType.FLOAT32, FLOAT_ERROR),
    Route("a SavedModel that was saved for training", "tagged_train", FLOAT, DType.FLOAT32, FLOAT_ERROR),
    Route("dynamic", "saved_model", {"quantize": "dynamic"}, DType.FLOAT32, INT8_ERROR),
)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_routes(route: Route, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sources)
    made = convert(route.source, "out.tflite", **route.options)
    assert Path("out.tflite").read_bytes() == made.model
    assert made.source_error is not None
    assert made.source_error < FLOAT_ERROR
    check(made.model, made.float_model, np.load("train.npy")[:5], route)


@pytest.mark.parametrize("quantize", ["int8", "float32"])
@pytest.mark.parametrize("source", ["two_ends.keras", "two_ends"])
def test_inputs_and_outputs_come_in_their_order(source: str, quantize: str, sources: Path) -> None:
    """TensorFlow's converter would give them another."""
    made = convert(sources / source, quantize=quantize, representative=sources / "two_ends.npz")
    assert made.source_error is not None
    assert made.source_error < FLOAT_ERROR
    graph = load_bytes(made.model)
    if source.endswith(".keras"):
        assert graph.input_names == ("picture", "note")
        assert graph.output_names == ("quarter", "amount")
    samples = np.load(sources / "two_ends.npz")
    given = Sample("", tuple(samples[name][:1] for name in graph.input_names))
    with Oracle(made.model) as oracle, Oracle(made.float_model) as exact:
        rough = oracle.run(quantized(given, specs_of(graph, graph.inputs, graph.input_names))).outputs
        for i, got, want in zip(graph.outputs, rough, exact.run(list(given.arrays)).outputs, strict=True):
            np.testing.assert_allclose(real_values(got, graph.tensor(i)), want, rtol=0, atol=0.1)
    assert np.sum(want) != pytest.approx(1, abs=0.01)  # the second, "amount", is no softmax


def check(model: bytes, float_model: bytes, pictures: np.ndarray, route: Route) -> None:
    """The model on the board: equal to the oracle, and close to the float32 model."""
    graph = load_bytes(model)
    assert graph.tensor(graph.inputs[0]).dtype is route.dtype
    lowered = prepare(graph, load_board(BOARD))
    inputs = [quantized(Sample("", (picture[None],)), lowered.inputs) for picture in pictures]
    before = load_bytes(float_model)
    scale, zero = lowered.outputs[0].scale or 1.0, lowered.outputs[0].zero_point
    with (
        Oracle(model) as oracle,
        Oracle(float_model) as exact,
        deployed(lowered, load_board(BOARD)) as target,
    ):
        verdict = verify(target.device, lowered, oracle, inputs)
        assert verdict.ok, verdict.first_difference
        shape = specs_of(before, before.inputs, before.input_names)[0].shape
        for picture, values in zip(pictures, inputs, strict=True):
            exact.reset()
            oracle.reset()
            want = exact.run([picture.reshape(shape)]).outputs[0]
            got = scale * (oracle.run(values).outputs[0].astype(np.float64) - zero)
            np.testing.assert_allclose(got, want, rtol=0, atol=route.error)


OBJECTS = """
import sys
sys.path.append(sys.argv[2])
import convert_sources as made, numpy as np, sdk, tensorflow as tf
from pathlib import Path
from sdk.errors import UsageError
folder, x = Path(sys.argv[1]), made.pictures(40, 2)[0]
session, image, scores = made.old_graph()
some, scaled = [picture[None] for picture in x], made.Scaled()
of = {
    "from_session": sdk.convert(session, inputs=[image], outputs=[scores], quantize="float32"),
    "from_keras_model": sdk.convert(made.network(), representative=some),
    "from_concrete_functions": sdk.convert(scaled.__call__.get_concrete_function(), representative=some),
    "tf.Module": sdk.convert(scaled, quantize="float32"),
}
class Own(made.keras.Model):
    def call(self, picture):
        return 2 * picture
class Failing(tf.keras.Model):
    weight = 1
    def call(self, picture):
        return self.weight * picture
own, failing, input_ = Own(), Failing(), made.keras.layers.Input
own(np.zeros((1, 4), np.float32))
failing(np.zeros((1, 4), np.float32))
Failing.weight = None
left, right = input_((4,), name="left"), input_((3,), name="right")
by_name = made.keras.Model({"right": right, "left": left}, made.keras.layers.Concatenate()([left, right]))
for source, count in ((own, 1), (by_name, 2)):
    assert len(sdk.convert(source, quantize="float32").report.graph.inputs) == count
for source, options in (
    (session, {}),
    (session, {"inputs": [image], "outputs": ["score"]}),
    (session, {"inputs": ["kernel"], "outputs": [scores]}),
    (failing, {}),
):
    try:
        sdk.convert(source, quantize="float32", **options)
    except UsageError as error:
        print(error.message)
for name, result in of.items():
    (folder / f"{name}.tflite").write_bytes(result.model)
    (folder / f"{name}.float").write_bytes(result.float_model)
"""


def test_objects_of_the_callers_program(sources: Path, tmp_path: Path) -> None:
    """Sessions, Keras models, functions and modules are converted in the process that made them."""
    site = next(path for path in sys.path if path.endswith("site-packages"))
    said = run_python("-c", OBJECTS, tmp_path, site)
    assert "a session does not say what to convert" in said
    assert "the graph has no node 'score'" in said
    assert "the outputs need the placeholder 'image', which is no input" in said
    assert re.search(r"the Failing failed: .*(None|NoneType)", said), said
    for path in sorted(tmp_path.glob("*.tflite")):
        is_float = path.stem in ("from_session", "tf.Module")
        route = Route(path.stem, "", dtype=DType.FLOAT32 if is_float else DType.INT8)
        pictures = np.load(sources / "train.npy")[:5]
        check(path.read_bytes(), path.with_suffix(".float").read_bytes(), pictures, route)
    assert len(list(tmp_path.glob("*.tflite"))) == 4


def test_the_report_says_what_it_cost(sources: Path, tmp_path: Path) -> None:
    data = {"representative": sources / "train.npy", "dataset": sources / "test.npz"}
    made: Converted = convert(sources / "model.keras", labels=["a", "b", "c", "d"], **data)
    assert made.accuracy is not None
    assert made.accuracy.samples == 200
    assert made.accuracy.before > 0.95
    assert abs(made.accuracy.drop) < 0.03
    assert len(made.layers) == 5
    assert 0 < made.worst[0].added < 0.05
    assert made.report.lowered is not None
    declared = attached(made.model)
    assert declared is not None
    assert declared.labels == ("a", "b", "c", "d")
    # Samples that tell nothing of the ranges: the drop is seen, and nothing written.
    with np.load(sources / "test.npz") as found:
        np.save(tmp_path / "narrow.npy", found["x"][:8] * 1e-3)
    with pytest.raises(VerifyError, match=r"accuracy drops by .* more than 1.00%"):
        convert(
            sources / "model.keras",
            tmp_path / "out.tflite",
            representative=tmp_path / "narrow.npy",
            dataset=sources / "test.npz",
            max_drop=0.01,
        )
    assert not (tmp_path / "out.tflite").exists()


PAGE = HERE.parent / "docs" / "convert.md"
SHELL = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
COMMANDS = [line[2:] for block in SHELL for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_documentation(command: str, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sources)
    words = shlex.split(command)[1:]
    assert main(words) == 0
    assert Path(words[words.index("-o") + 1]).read_bytes()[4:8] == b"TFL3"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("two_ends", {"shapes": {"notes": (1, 3)}}, "the model has no input 'notes' \\(--shape\\)"),
        ("weights.h5", {}, "weights.h5 holds the weights of a model"),
        ("code.keras", {}, "code.keras has a layer of code \\(Lambda\\)"),
        ("my_module:many", {}, "has 3 functions of TensorFlow: one, three, two"),
    ],
)
def test_what_is_not_whole_is_said(
    source: str, options: dict[str, Any], message: str, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sources)
    with pytest.raises(UsageError, match=message):
        convert(source, "none.tflite", quantize="float32", **options)
    assert not Path("none.tflite").exists()


def test_a_function_of_a_saved_model_without_signatures(sources: Path) -> None:
    made = convert(sources / "many", signature="two", quantize="float32")
    assert load_bytes(made.model).nodes[0].op == "MUL"
    made = convert(sources / "many", signature="three", quantize="float32")
    assert made.source_error is None
    assert "REAL" in made.report.problems[0].message


def test_a_missing_operator_is_named(sources: Path) -> None:
    with pytest.raises(UnsupportedError, match="no operator for MatrixInverse") as caught:
        convert(sources / "unsupported", quantize="float32")
    assert "the inverse as a constant" in caught.value.remedy


def test_a_full_disk_of_a_converter_is_said(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sources)
    with Worker(TENSORFLOW) as worker, pytest.raises(ToolError, match="the disk is full") as caught:
        worker.call("generate", path="my_module:samples", output="/dev/full", most=5)
    assert "TMPDIR" in caught.value.remedy


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("fake_quant.pb", ENDS | {"input_stats": [(0, 1)]}, "the graph's fake_quant has -1 to"),
        (
            "fake_quant.pb",
            ENDS | {"input_stats": [(128, 128), (0, 1)]},
            "is given 2 times; the model has 1 input: image",
        ),
        ("my_module:scaled", {"input_stats": [(128, 128)]}, "this one has none"),
        ("model.keras", {"representative": [np.zeros((1, 3, 3, 1), np.float32)]}, "has the shape"),
    ],
)
def test_what_does_not_fit_the_source_is_said_before_it_is_converted(
    source: str, options: dict[str, Any], message: str, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sources)
    with pytest.raises(SdkError, match=message):
        convert(source, "none.tflite", **options)
    assert not Path("none.tflite").exists()


def test_the_headline_says_uint8(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sources)
    assert convert("fake_quant.pb", **ENDS, input_stats=[(127.5, 127.5)]).form == "uint8"
    assert convert("model.keras", **CALIBRATED, interface="uint8").form == "int8 with a uint8 interface"


def test_a_wrong_module_is_said(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sources)
    with pytest.raises(UsageError, match="cannot import my_module:nothing"):
        convert("my_module:nothing", quantize="float32")
    with pytest.raises(UsageError, match=r"my_module:broken failed at my_module.py, line \d+: KeyError: 'weights'"):
        convert("my_module:broken", quantize="float32")
    with pytest.raises(UsageError, match=r"my_module:stopping failed at my_module.py, line \d+: OSError: the rec"):
        convert("my_module:scaled", representative="my_module:stopping")
    with pytest.raises(UsageError, match="int8 needs representative samples"):
        convert("my_module:scaled")


def test_a_fused_lstm_is_one_operator(sources: Path) -> None:
    with pytest.raises(UnsupportedError, match="no int16x8 form of UNIDIRECTIONAL_SEQUENCE_LSTM"):
        convert(sources / "LSTM.keras", quantize="int16x8", representative=sources / "train.npy")
    made = convert(sources / "LSTM.keras", quantize="float32")
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in [node.op for node in load_bytes(made.model).nodes]


def test_dropout_that_drops_nothing_is_gone(sources: Path) -> None:
    made = convert(sources / "dropout.pb", quantize="float32")
    assert [node.op for node in load_bytes(made.model).nodes] == ["RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]
