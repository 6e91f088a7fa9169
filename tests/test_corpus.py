"""The report over a folder of models: a line for each, the reason where one is not exact, and the sums."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import corpus
from sdk.boards import Board
from sdk.build import Image
from sdk.errors import LinkError
from sdk.graph import DType, Graph, Node, Tensor
from sdk.inputs import random_samples
from sdk.lower import lower
from sdk.ops.base import CaseGraph
from sdk.ranges import input_ranges
from sdk.write import write

MODELS = Path(__file__).parent / "models"


def custom(name: str) -> Graph:
    tensors = {i: Tensor(i, f"t{i}", (1, 4), DType.FLOAT32, source=i) for i in range(2)}
    return Graph(name, tensors, (Node(f"CUSTOM:{name}", (0,), (1,), {}, 0),), (0,), (1,))


def test_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("int8_float_io", "stateful_int8", "hybrid"):
        shutil.copy(MODELS / f"{name}.tflite", tmp_path)
    (tmp_path / "custom.tflite").write_bytes(write(custom("Twice")))
    (tmp_path / "damaged.tflite").write_bytes(b"not a model")
    report = tmp_path / "report.json"
    words = ["corpus", str(tmp_path), "--json", str(report), "--count", "2", "--jobs", "2"]
    monkeypatch.setattr(sys, "argv", words)
    assert corpus.main() == 0
    rows = {row["model"]: row for row in json.loads(report.read_text())}
    verdicts = {name.removesuffix(".tflite"): row["verdict"] for name, row in rows.items()}
    assert verdicts == {
        "custom": "needs a custom operator",
        "damaged": "refused",
        "hybrid": "unproven",
        "int8_float_io": "exact",
        "stateful_int8": "exact",
    }
    assert rows["stateful_int8.tflite"]["random_inputs"] == corpus.STATEFUL_CALLS
    assert rows["int8_float_io.tflite"]["oracles"] == {"tflite-runtime": "exact", "tflite-micro": "exact"}
    said = capsys.readouterr().out
    assert "--ops DIR" in next(line for line in said.splitlines() if "CUSTOM:Twice: " in line)
    assert "5 models on native: 2 exact" in said
    assert "1 have state, compared over 10 or more successive calls" in said


def test_what_differs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(MODELS / "int8_float_io.tflite", tmp_path))
    device = sys.modules["sdk.verify"]  # sdk.verify is a function too
    monkeypatch.setattr(device, "_read", lambda _device, watch: np.full(watch.shape, 99, np.int64))
    row = corpus.check_model(path, corpus.load_board("native"), count=1)
    assert row.verdict == "differs"
    assert "step 0" in row.reason
    assert "is 99 on the device" in row.reason


def test_a_device_that_is_lost_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(_board: Board, _image: Image) -> None:
        raise LinkError("the device stopped answering")

    shutil.copy(MODELS / "int8_float_io.tflite", tmp_path)
    monkeypatch.setattr(corpus, "flash", lose)
    monkeypatch.setattr(sys, "argv", ["corpus", str(tmp_path), "--json", str(tmp_path / "report.json")])
    assert corpus.main() == 1
    row = json.loads((tmp_path / "report.json").read_text())[0]
    assert (row["verdict"], row["reason"]) == ("failed", "the device stopped answering")


def look_up(indices: int, g: CaseGraph) -> Graph:
    """Rows of a table of 5 by indices that are cast from the input and get another shape."""
    table = g.constant(np.arange(15).reshape(5, 3), DType.INT8, 0.5)
    cast, flat = g.tensor((2, 2), DType.INT32), g.tensor((4,), DType.INT32)
    shape = g.constant(np.array([4]), DType.INT32)
    y = g.output((4, 3), DType.INT8, 0.5)
    nodes = [
        Node("CAST", (indices,), (cast,), {"in_data_type": 0, "out_data_type": 2}, 0),
        Node("RESHAPE", (cast, shape), (flat,), {"new_shape": (4,)}, 1),
        Node("GATHER", (table, flat), (y,), {"axis": 0, "batch_dims": 0}, 2),
    ]
    return g.case_of(nodes, "look-up").graph


def test_random_indices_are_indices() -> None:
    g = CaseGraph()
    graph = look_up(g.input((2, 2), DType.FLOAT32), g)
    assert input_ranges(graph) == {0: (0, 4)}
    specs = lower(graph).inputs
    values = np.concatenate([sample.arrays[0] for sample in random_samples(specs, 50, 0, input_ranges(graph))])
    assert values.dtype == np.float32
    assert set(values.reshape(-1).tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_a_random_shape_is_the_one_the_model_has() -> None:
    options = {"padding": 0, "stride_w": 2, "stride_h": 2, "fused_activation_function": 0}
    g = CaseGraph()
    shape = g.input((4,), DType.INT32)
    weights = g.constant(np.ones((2, 2, 2, 3)), DType.FLOAT32)
    x = g.input((1, 2, 3, 3), DType.FLOAT32)
    y = g.output((1, 4, 6, 2), DType.FLOAT32)
    graph = g.case("shape", "TRANSPOSE_CONV", [shape, weights, x], [y], options).graph
    sample = random_samples(lower(graph).inputs, 1, 0, input_ranges(graph))[0]
    assert sample.arrays[0].tolist() == [1, 4, 6, 2]
