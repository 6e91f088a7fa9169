"""What `sdk convert` does without a converter: recognises sources, reads graphs and samples, makes environments, and
says what is wrong. The converters themselves: tests/test_convert_routes.py."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdk.cli import main
from sdk.convert import environment as environments
from sdk.convert.arrays import say_shape
from sdk.convert.calibration import of_arrays, read_calibration
from sdk.convert.conversion import convert
from sdk.convert.environment import VARIABLE, Environment, python_of
from sdk.convert.evaluate import (
    Accuracy,
    accuracy,
    check_all_quantized,
    labelled_samples,
    layer_errors,
    specs_of,
    spread,
)
from sdk.convert.graphdef import chosen, ends, is_text, parse_nodes, suggested_inputs, suggested_outputs
from sdk.convert.interface import with_float16, with_interface
from sdk.convert.options import Quantize
from sdk.convert.process import Worker
from sdk.convert.sources import Wanted, find_source
from sdk.errors import InputError, ModelError, OutputError, SdkError, ToolError, UnsupportedError, UsageError
from sdk.foreign import Kind
from sdk.graph import DType
from sdk.inputs import Sample, random_samples
from sdk.load import load_bytes
from sdk.oracle import Oracle
from sdk.preprocess import Picture, Preprocessing
from sdk.program import Operand, Region, TensorSpec
from sdk.write import write

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"
FLOAT = DIGITS / "digits_float32.tflite"
INT8 = DIGITS / "digits_int8.tflite"


# Graphs of TensorFlow, as protobuf writes them


def field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size >= 128:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def node(name: str, op: str, *inputs: str) -> bytes:
    return field(1, b"".join([field(1, name.encode()), field(2, op.encode()), *(field(3, i.encode()) for i in inputs)]))


def graph_def(*extra: bytes) -> bytes:
    return b"".join(
        [
            node("image", "Placeholder"),
            node("weights", "Const"),
            node("dense/MatMul", "MatMul", "image", "weights:0", "^ready"),
            node("ready", "NoOp"),
            node("scores", "Softmax", "dense/MatMul"),
            *extra,
        ]
    )


TEXT = """
# made by hand
node {
  name: "image"
  op: "Placeholder"
  attr { key: "shape" value { shape { dim { size: 1 } } } }
}
node {
  name: "scores"
  op: "Softmax"
  input: "image"
  attr {
    key: "note"
    value { s: "} input: \\"x\\" {" }
  }
}
versions { producer: 27 }
"""


@pytest.mark.parametrize("data", [graph_def(), field(1, b"\x22\x03abc") + field(2, graph_def())], ids=["graph", "meta"])
def test_graphs_are_read(data: bytes) -> None:
    nodes = parse_nodes(data)
    assert [each.name for each in nodes] == ["image", "weights", "dense/MatMul", "ready", "scores"]
    assert nodes[2].inputs == ("image", "weights")
    assert suggested_inputs(nodes) == ["image"]
    assert suggested_outputs(nodes) == ["scores"]


def test_graphs_as_text_are_read() -> None:
    nodes = parse_nodes(TEXT.encode())
    assert [(each.name, each.op, each.inputs) for each in nodes] == [
        ("image", "Placeholder", ()),
        ("scores", "Softmax", ("image",)),
    ]


def test_comments_are_passed_over_in_linear_time() -> None:
    banner = b"# " * 10_000
    assert is_text(banner + b"\n#\n" + TEXT.encode())
    assert not is_text(banner)
    assert not is_text(banner + TEXT.encode().splitlines()[0])  # the node is in the comment


def test_a_missing_node_lists_near_names() -> None:
    nodes = parse_nodes(graph_def())
    assert chosen(nodes, [], "--outputs") == ["scores"]
    assert chosen(nodes, ["scores:0"], "--outputs") == ["scores:0"]
    with pytest.raises(UsageError, match="no node 'score' \\(--outputs\\)") as caught:
        chosen(nodes, ["score"], "--outputs")
    assert "Near it: scores" in caught.value.remedy
    with pytest.raises(UsageError, match="no node 'MatMul'") as caught:
        chosen(nodes, ["MatMul"], "--outputs")
    assert "dense/MatMul" in caught.value.remedy
    with pytest.raises(UsageError, match="does not say what its inputs are; no node looks like one"):
        chosen(parse_nodes(node("a", "Const")), [], "--inputs")


def test_inputs_are_what_the_outputs_need() -> None:
    saving = node("save/filename", "Placeholder"), node("save", "SaveV2", "save/filename", "weights")
    nodes = parse_nodes(graph_def(*saving))
    assert suggested_inputs(nodes) == ["image", "save/filename"]
    assert ends(nodes, [], ["scores:0"]) == {"inputs": ["image"], "outputs": ["scores:0"]}
    assert ends(nodes, ["dense/MatMul"], [])["inputs"] == ["dense/MatMul"]
    with pytest.raises(UsageError, match="no node 'pixels' \\(--inputs\\)"):
        ends(nodes, ["pixels"], ["scores"])


def test_damaged_graphs_are_refused() -> None:
    data, rng = bytearray(graph_def()), np.random.default_rng(0)
    for _ in range(500):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] = rng.integers(256)
        with contextlib.suppress(ValueError, IndexError):
            parse_nodes(bytes(broken[: rng.integers(1, len(data))]))


# Sources


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of every kind, as far as they are looked at."""
    monkeypatch.chdir(tmp_path)
    for name in ("saved", "empty", "near", "old"):
        (tmp_path / name).mkdir()
    (tmp_path / "saved/saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    (tmp_path / "near/net.onnx").write_bytes(b"")
    (tmp_path / "net.onnx").write_bytes(b"\x08\x09\x12\x07pytorch")
    (tmp_path / "anonymous.onnx").write_bytes(b"\x08\x09\x22\x00\x3a\x04abcd")
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    (tmp_path / "frozen.pb").write_bytes(graph_def())
    (tmp_path / "graph.pb").write_bytes(graph_def(node("kernel", "VariableV2")))
    (tmp_path / "graph.pbtxt").write_text(TEXT)
    (tmp_path / "old/checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    for end in ("index", "data-00000-of-00001"):
        (tmp_path / f"old/model.ckpt-7.{end}").write_bytes(b"")
        (tmp_path / f"bare.{end}").write_bytes(b"")
    (tmp_path / "old/model.ckpt-7.meta").write_bytes(field(1, b"") + field(2, graph_def()))
    for name, inside in {
        "net.keras": ("config.json", "model.weights.h5"),
        "net.pt2": ("net/archive_format", "net/models/model.json"),
        "net.pt": ("net/data.pkl",),
    }.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for each in inside:
                archive.writestr(each, "")
    (tmp_path / "nets.py").write_text("import tensorflow as tf\nraise RuntimeError('never run')\n")
    (tmp_path / "torches.py").write_text("from torch import nn\nraise RuntimeError('never run')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("saved", Kind.saved_model),
        ("saved/saved_model.pb", Kind.saved_model),
        ("net.onnx", Kind.onnx),
        ("anonymous.onnx", Kind.onnx),
        ("net.h5", Kind.h5),
        ("net.keras", Kind.keras),
        ("net.pt2", Kind.pt2),
        ("frozen.pb", Kind.frozen_graph),
        ("graph.pbtxt", Kind.graph_text),
        ("old", Kind.checkpoint),
        ("old/model.ckpt-7", Kind.checkpoint),
        ("old/model.ckpt-7.meta", Kind.checkpoint),
        ("old/model.ckpt-7.data-00000-of-00001", Kind.checkpoint),
        ("nets:model", Kind.module),
        (str(FLOAT), Kind.tflite),
    ],
)
@pytest.mark.usefixtures("folder")
def test_sources_are_recognised(source: str, kind: Kind) -> None:
    found = find_source(source, Wanted())
    assert found.kind is kind
    if kind in (Kind.frozen_graph, Kind.graph_text, Kind.checkpoint):
        assert found.options["inputs"] == ["image"]
        assert found.options["outputs"] == ["scores"]


@pytest.mark.usefixtures("folder")
def test_a_module_is_read_and_not_run() -> None:
    assert find_source("nets:model", Wanted()).environment is environments.TENSORFLOW
    assert find_source("torches:model", Wanted()).environment is environments.TORCH


@pytest.mark.parametrize(
    ("source", "error", "message", "remedy"),
    [
        ("missing", UsageError, "there is no missing", "Give a file"),
        ("no.module:model", UsageError, "there is no module no.module", "Run it from the folder"),
        ("empty", ModelError, "holds no model", "Give the folder"),
        ("near", ModelError, "holds no model", "net.onnx"),
        ("net.pt", ModelError, "is a PyTorch model", "torch.export"),
        ("bare", UsageError, "has no graph: there is no bare.meta", "--graph"),
        ("graph.pb", ModelError, "a graph with variables \\(kernel, ...\\)", "sdk convert PREFIX --graph"),
        ("torches.py", ModelError, "is nothing that is known", "sdk convert"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_no_source_is_said(source: str, error: type[SdkError], message: str, remedy: str) -> None:
    with pytest.raises(error, match=message) as caught:
        find_source(source, Wanted())
    assert remedy in caught.value.remedy


def test_loading_a_source_says_how_to_convert_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder / "frozen.pb")]) == ModelError.exit_code
    assert "sdk convert" in capsys.readouterr().err


# Options and samples


def spec(*shape: int) -> TensorSpec:
    return TensorSpec("x", shape, DType.FLOAT32, 0.0, 0, Operand(Region.ARENA, 0, 4 * int(np.prod(shape))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "int8 needs representative samples"),
        ({"quantize": "float32"}, "stays as it is"),
        ({"interface": "int16"}, "has no int16 interface"),
        ({"quantize": "float16", "interface": "int8"}, "has no int8 interface"),
        ({"max_drop": 0.1}, "needs labelled samples"),
        ({"input_stats": [(128, 128)], "quantize": "dynamic"}, "the old way to uint8"),
        ({"representative": 7}, "are no samples"),
        ({"representative": [], "preprocess": {"fit": "circle"}}, "fit must be"),
        ({"representative": [np.zeros(3)], "preprocess": {"rate_hz": 8000}}, "rate is for a model with one input"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        convert(FLOAT, tmp_path / "out.tflite", **options)
    assert list(tmp_path.iterdir()) == []


def test_calibration_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 4, 4, 1))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x.astype(np.float32))
    np.savetxt(tmp_path / "x.csv", x.reshape(7, 16), delimiter=",")
    for name in ("x.npy", "x.npz", "x.csv"):
        samples = read_calibration(tmp_path / name, [spec(1, 4, 4, 1)], None)
        np.testing.assert_allclose(np.concatenate([s.arrays[0] for s in samples]), x, rtol=1e-6)
    assert len(read_calibration(tmp_path / "x.npy", [spec(1, 4, 4, 1)], None, most=3)) == 3
    pictures = tmp_path / "pictures"
    for kind in ("a", "b"):
        (pictures / kind).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8)).save(pictures / kind / f"{i}.png")
    declared = Preprocessing(Picture(4, 4, 1, mean=(127.5,), std=(127.5,)))
    samples = read_calibration(pictures, [spec(1, 4, 4, 1)], declared, most=4)
    assert [s.name for s in samples] == ["0.png", "0.png", "1.png", "1.png"]  # some of every folder
    assert min(s.arrays[0].min() for s in samples) < 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4, 4, 1), np.float32), "all values of .* are 0, in every sample"),
        (np.zeros((3, 5, 4, 1), np.float32), "has the shape"),
        (np.full((3, 4, 4, 1), np.nan, np.float32), "infinite or not a number"),
        (np.zeros((0, 4, 4, 1), np.float32), "holds no sample"),
    ],
)
def test_bad_calibration_data(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=message):
        read_calibration(tmp_path / "x.npy", [spec(1, 4, 4, 1)], None)


def test_bad_calibration_folders(tmp_path: Path) -> None:
    one = [spec(1, 4, 4, 1)]
    with pytest.raises(InputError, match="holds no pictures"):
        read_calibration(tmp_path, one, None)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    Image.fromarray(np.arange(81, dtype=np.uint8).reshape(9, 9)).save(tmp_path / "a/0.png")
    with pytest.raises(InputError, match="has empty folders: b"):
        read_calibration(tmp_path, one, None)
    (tmp_path / "b/1.png").write_bytes((tmp_path / "a/0.png").read_bytes()[:45])
    with pytest.raises(InputError, match=r"1\.png is not a picture"):
        read_calibration(tmp_path, one, None)
    (tmp_path / "x.csv").write_text("1,2,3\n")
    with pytest.raises(InputError, match=r"line 1 of .* has 3 cells"):
        read_calibration(tmp_path / "x.csv", one, None)
    with pytest.raises(InputError, match="sample 0 has 2 arrays"):
        of_arrays([[np.zeros(3), np.zeros(3)]], one)


# What is said before a converter is started


@pytest.fixture
def sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources and samples; whoever asks for a converter gets a MissingToolError."""
    monkeypatch.setenv(VARIABLE, "/no/python")
    rng = np.random.default_rng(0)
    np.save(folder / "good.npy", rng.normal(size=(4, 3)).astype(np.float32))
    np.save(folder / "flat.npy", np.ones((4, 3), np.float32))
    np.save(folder / "nan.npy", np.full((4, 3), np.nan, np.float32))
    np.save(folder / "none.npy", np.ones((0, 3), np.float32))
    (folder / "short.csv").write_text("1,2,3\n4,5\n")
    (folder / "lost.csv").write_text("gone.png,0\n")
    (folder / "names.txt").write_text("\n \n")
    for kind in ("a", "b", "broken/a", "half/a", "half/b"):
        (folder / "pictures" / kind).mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / "pictures/half/a/0.jpg")
    data = (folder / "pictures/half/a/0.jpg").read_bytes()
    (folder / "pictures/broken/a/0.jpg").write_bytes(data[: len(data) - 60])
    (folder / "sound.wav").write_bytes(b"RIFF")
    (folder / "quantized.pb").write_bytes(graph_def(node("range", "FakeQuantWithMinMaxArgs", "image")))
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "int8 needs representative samples"),
        ({"quantize": "int16x8"}, "int16x8 needs representative samples"),
        ({"input_stats": [(128, 128)]}, "this one has none"),
        ({"input_stats": [(128, 0)]}, "are no pairs of MEAN and STD"),
        ({"representative": "gone"}, "there is no gone"),
        ({"representative": "empty"}, "holds no pictures"),
        ({"representative": "pictures"}, "has empty folders: a, b"),
        ({"representative": "pictures/broken"}, r"0\.jpg is not a picture that can be read"),
        ({"representative": "sound.wav"}, "is not a PCM .wav file"),
        ({"representative": "flat.npy"}, "all values are 1, in every sample"),
        ({"representative": "nan.npy"}, "infinite or not a number"),
        ({"representative": "none.npy"}, "holds no sample"),
        ({"representative": "short.csv"}, "line 2 of short.csv has 2 cells, the first has 3"),
        ({"representative": "good.npy", "dataset": "gone"}, "there is no data set gone"),
        ({"representative": "good.npy", "dataset": "good.npy"}, "is no data set"),
        ({"representative": "good.npy", "dataset": "pictures/half"}, "the class folder .*b holds no sample"),
        ({"representative": "good.npy", "dataset": "pictures/broken"}, r"0\.jpg is not a picture"),
        ({"representative": "good.npy", "dataset": "lost.csv"}, "gone.png"),
        ({"representative": "good.npy", "labels": "gone.txt"}, "cannot read the labels gone.txt"),
        ({"representative": "good.npy", "labels": "names.txt"}, "names.txt holds no labels"),
        ({"quantize": "int4"}, "there is no --quantize int4"),
        ({"quantize": "uint8"}, "needs --input-stats"),
        ({"samples_": 3}, "converting has no samples_"),
    ],
)
@pytest.mark.parametrize("source", ["net.onnx", "saved", "frozen.pb"])
def test_before_a_converter_is_started(source: str, options: dict[str, object], message: str, sources: Path) -> None:
    before = sorted(sources.rglob("*"))
    with pytest.raises(SdkError, match=message) as caught:
        convert(source, "out.tflite", **options)
    assert not isinstance(caught.value, ToolError)
    assert caught.value.remedy
    assert sorted(sources.rglob("*")) == before


def test_where_nothing_can_be_written_nothing_is_converted(sources: Path) -> None:
    with pytest.raises(OutputError, match="Is a directory"):
        convert("frozen.pb", sources, representative="good.npy")


def test_fake_quant_needs_no_samples(sources: Path) -> None:
    for options in ({}, {"input_stats": [(128, 128)]}, {"representative": "good.npy"}):
        with pytest.raises(ToolError, match="cannot be run"):  # the check went through: the converter is sought
            convert(sources / "quantized.pb", inputs=["image"], **options)


def test_wrong_input_stats_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for stats in ("128", "128,0", "a,b"):
        assert main(["convert", "x.pb", "-o", "x.tflite", "--input-stats", stats]) == UsageError.exit_code
        said = capsys.readouterr().err
        assert f"'{stats}' is not MEAN,STD" in said
        assert "128,128" in said


def test_an_open_shape_can_be_pasted() -> None:
    assert say_shape("x", [None, None, 64, 3]).endswith("--shape x=1,96,64,3")


# What needs no converter of its own


@pytest.mark.parametrize("count", [9, 11])
def test_as_many_labels_as_classes(count: int, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("".join(f"{i}\n" for i in range(count)))
    for source, quantize in ((FLOAT, "float16"), (INT8, None)):
        with pytest.raises(UsageError, match=f"there are {count} labels; .* has 10 classes"):
            convert(source, tmp_path / "out.tflite", quantize=quantize, labels=tmp_path / "names.txt")
    assert not (tmp_path / "out.tflite").exists()


def test_a_model_that_cannot_be_lowered_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = load_bytes(FLOAT.read_bytes())
    unknown = replace(graph.nodes[-1], op="LSH_PROJECTION", options={})
    (tmp_path / "x.tflite").write_bytes(write(replace(graph, nodes=(*graph.nodes[:-1], unknown))))
    words = ["convert", str(tmp_path / "x.tflite"), "-q", "float16", "-o", str(tmp_path / "out.tflite")]
    assert main(words) == UnsupportedError.exit_code
    said = capsys.readouterr()
    assert "boards" not in said.out
    assert "cannot be lowered: LSH_PROJECTION" in said.out
    assert "is written, but no microcontroller can run it: LSH_PROJECTION" in said.err
    assert main([*words, "--json"]) == UnsupportedError.exit_code
    found = json.loads(capsys.readouterr().out)
    assert (found["supported"], found["boards"]) == (False, [])
    assert "LSH_PROJECTION" in found["problems"][0]["message"]
    assert (tmp_path / "out.tflite").exists()
    assert main(["convert", str(FLOAT), *words[2:]]) == 0
    assert "boards it fits: " in capsys.readouterr().out


def test_the_headline_says_what_the_model_is(tmp_path: Path) -> None:
    (tmp_path / "unsigned.tflite").write_bytes(with_interface(INT8.read_bytes(), DType.UINT8))
    names = [str(i) for i in range(10)]
    assert convert(INT8, labels=names).form == "int8"
    assert convert(tmp_path / "unsigned.tflite", labels=names).form == "int8 with a uint8 interface"
    assert convert(FLOAT, quantize="float16").form == "float16"


def test_layers_without_a_range_are_named() -> None:
    check_all_quantized(load_bytes(INT8.read_bytes()))
    with pytest.raises(UnsupportedError, match="layers stay in float32, for no fake_quant says their range: CONV_2D"):
        check_all_quantized(load_bytes(FLOAT.read_bytes()))


def test_before_and_after_see_the_same_pixels(tmp_path: Path) -> None:
    """uint8 arrays become real as the model declares, for accuracy before and after and for calibration alike."""
    rng = np.random.default_rng(0)
    graph = load_bytes(FLOAT.read_bytes())
    shape = graph.tensor(graph.inputs[0]).shape
    pixels = rng.integers(0, 256, (4, *shape[1:]), np.uint8)
    np.savez(tmp_path / "set.npz", images=pixels, labels=np.zeros(4, int))
    declared = Preprocessing(Picture(*shape[1:], mean=(127.5,), std=(127.5,)))
    for declaration, low in ((declared, -1.0), (None, 0.0)):
        found = labelled_samples(graph, tmp_path / "set.npz", declaration)
        assert min(each.sample.arrays[0].min() for each in found) == pytest.approx(low, abs=0.05)
    np.save(tmp_path / "x.npy", pixels)
    [first, *_] = read_calibration(tmp_path / "x.npy", [spec(*shape)], declared)
    np.testing.assert_allclose(first.arrays[0], pixels[:1] / 127.5 - 1, atol=1e-6)


def test_float16_halves_a_model() -> None:
    made = convert(FLOAT, quantize="float16")
    assert made.quantize is Quantize.float16
    assert len(made.model) < 0.7 * FLOAT.stat().st_size
    assert made.report.lowered is not None
    with Oracle(FLOAT.read_bytes()) as before, Oracle(with_float16(FLOAT.read_bytes())) as after:
        x = np.random.default_rng(0).random(before.inputs[0][0], np.float32)
        np.testing.assert_allclose(after.run([x]).outputs[0], before.run([x]).outputs[0], atol=0.01)


def test_interfaces_are_nodes_at_the_ends() -> None:
    model = INT8.read_bytes()
    with Oracle(model) as plain:
        x = np.random.default_rng(0).integers(-128, 128, plain.inputs[0][0]).astype(np.int8)
        want = plain.run([x]).outputs[0]
    with Oracle(with_interface(model, DType.UINT8)) as oracle:
        got = oracle.run([(x.astype(np.int16) + 128).astype(np.uint8)]).outputs[0]
        np.testing.assert_array_equal(got, want.astype(np.int16) + 128)
    outside = load_bytes(with_interface(model, DType.FLOAT32))
    assert [outside.tensor(i).dtype for i in (*outside.inputs, *outside.outputs)] == [DType.FLOAT32] * 2


def test_a_quantized_model_is_refused_before_a_converter_is_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/no/python")
    with pytest.raises(ModelError, match="is quantized already"):
        convert(INT8)


def test_the_cost_of_quantization_is_measured() -> None:
    before, after = ((load_bytes(p.read_bytes()), p.read_bytes()) for p in (FLOAT, INT8))
    specs = specs_of(before[0], before[0].inputs, before[0].input_names)
    samples = random_samples(specs, 3, 0)
    layers = layer_errors(before, after, samples)
    assert all(0 <= layer.added <= layer.error for layer in layers)
    same = layer_errors(before, before, samples)
    assert len(same) == len(before[0].nodes)
    assert {layer.error for layer in same} == {0.0}


def test_accuracy_is_counted(tmp_path: Path) -> None:
    model = FLOAT.read_bytes()
    graph = load_bytes(model)
    x = np.random.default_rng(0).random((20, *graph.tensor(graph.inputs[0]).shape[1:]), np.float32)
    with Oracle(model) as oracle:
        y = np.array([oracle.run([each[None]]).outputs[0].argmax() for each in x])
    y[:5] = (y[:5] + 1) % 10
    np.savez(tmp_path / "set.npz", x=x, y=y)
    found = accuracy(model, (graph, model), labelled_samples(graph, tmp_path / "set.npz", None))
    assert (found.samples, found.before, found.after, found.drop) == (20, 0.75, 0.75, 0.0)
    assert found.clipped == 0.0
    np.savez(tmp_path / "wide.npz", x=4 * x, y=y)
    wide = labelled_samples(graph, tmp_path / "wide.npz", None)
    small = INT8.read_bytes()
    assert 0.5 < accuracy(model, (load_bytes(small), small), wide).clipped < 0.9  # of 0 to 4, the input holds 0 to 1
    assert Accuracy(20, 0.9, 0.85).exceeds(0.049)
    assert not Accuracy(20, 0.9, 0.85).exceeds(0.05)  # whatever 0.9 - 0.85 is in binary


def test_layers_are_compared_on_all_kinds_of_samples() -> None:
    for count in (0, 1, 7, 20, 21, 500):
        chosen_few = spread([Sample(str(i), ()) for i in range(count)])
        assert count // 40 <= len(chosen_few) <= 20
        assert len(chosen_few) >= min(count, 10)
        assert not count or int(chosen_few[-1].name) >= count / 2 - 1


def test_ctrl_c_while_modules_are_loaded_leaves_nothing(tmp_path: Path) -> None:
    """Lowering imports every operator: the interrupt waits for that, so that temporary folders go."""
    words = ["-v", "convert", FLOAT, "-q", "float16", "-o", tmp_path / "out.tflite"]
    env = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "sdk", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env
    )
    assert process.stderr is not None
    with process.stderr:
        next(line for line in process.stderr if line.startswith("lower the model"))
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "interrupted\n"
    assert process.wait(30) == 130
    assert list(tmp_path.iterdir()) == []


# Environments


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment of one package of one line, which needs no network."""
    monkeypatch.setenv("MICROLITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    wheel = tmp_path / "tiny_microlith_part-1.0-py3-none-any.whl"
    about = "tiny_microlith_part-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_microlith_part.py", "VALUE = 7\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-microlith-part\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return Environment("quantizer", "Tiny", (str(wheel),), ("tiny_microlith_part",), 30, "1")


def test_an_environment_is_made_once(tiny: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    made: list[Path] = []
    (environments.cache_dir("convert") / "quantizer-old.part").mkdir()  # of a process that was killed
    threads = [threading.Thread(target=lambda: made.append(python_of(tiny, note=said.append))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    python = made[0]
    assert made[1] == python
    assert "about 30 MB" in said[0]
    assert "minutes" in said[0]
    assert subprocess.run([python, "-c", "import tiny_microlith_part"], check=False).returncode == 0
    assert list(python.parents[2].glob("*.part")) == []
    start = time.monotonic()
    assert python_of(tiny, note=said.append) == python
    assert time.monotonic() - start < 0.5
    assert len(said) == 2
    python.unlink()  # somebody removed it, and was interrupted
    assert python_of(tiny) == python
    assert subprocess.run([python, "-c", "import tiny_microlith_part"], check=False).returncode == 0
    # A Python that has the packages is used as it is, one that has not is refused.
    monkeypatch.setenv(VARIABLE, f"{sys.executable}{os.pathsep}{python}")
    assert python_of(tiny) == python
    monkeypatch.setenv(VARIABLE, sys.executable)
    with pytest.raises(ToolError, match=r"no Python of .* has tiny_microlith_part"):
        python_of(tiny)
    monkeypatch.setenv(VARIABLE, "/no/python")
    with pytest.raises(ToolError, match="cannot be run"):
        python_of(tiny)


@pytest.mark.parametrize(
    ("requirement", "megabytes", "message"),
    [
        ("no-such-package-of-microlith==9", 1, "pip has no no-such-package|no network"),
        ("x", 10**9, "takes 1,000,000,000 MB; .* has .* MB left"),
    ],
)
def test_an_environment_that_cannot_be_made_leaves_nothing(
    requirement: str, megabytes: int, message: str, tiny: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ToolError, match=message):
        python_of(replace(tiny, requirements=(requirement,), megabytes=megabytes))
    assert [path.name for path in environments.cache_dir("convert").iterdir()] == ["lock"]


def test_without_a_network_it_is_said(tiny: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    with pytest.raises(ToolError, match="there is no network"):
        python_of(replace(tiny, requirements=("tiny-microlith-part",)))


def test_ctrl_c_leaves_nothing(tiny: Environment) -> None:
    script = (
        "import sys; from sdk.convert.environment import *; "
        f"python_of(Environment('tiny', 'Tiny', {tiny.requirements!r}, ('none_such',), 1, '1'), print)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL)
    parts = environments.cache_dir("convert")
    while not list(parts.glob("*.part")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert list(parts.glob("tiny-*")) == []


def test_a_converter_that_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    here = Environment("quantizer", "Tiny", (), ("numpy",), 1, "1")
    with Worker(here) as worker, pytest.raises(ToolError, match="Tiny failed: ModuleNotFoundError"):
        worker.call("convert")  # it has not the packages that the session imports
    with Worker(here) as worker:
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(ToolError, match="ended by SIGKILL") as caught:
            worker.call("convert")
    assert "memory" in caught.value.remedy


def test_pins_agree_with_the_extra() -> None:
    """`pip install microlith[convert]` brings what the environment would."""
    from importlib.metadata import requires

    extra = [line for line in requires("microlith") or [] if 'extra == "convert"' in line.replace("'", '"')]
    names = {line.split(">=")[0].split("<")[0].strip() for line in extra}
    assert names == {each.partition("==")[0] for each in environments.TENSORFLOW.requirements}


def test_the_core_imports_no_converter() -> None:
    words = "import sys, sdk.convert.conversion, sdk.cli; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"tensorflow", "torch", "keras", "tf_keras", "onnx", "litert_quantizer"} & set(modules.split())


def test_a_python_without_the_converter_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    with pytest.raises(ToolError, match="no Python of"):
        convert(folder / "net.keras", quantize="float32")
