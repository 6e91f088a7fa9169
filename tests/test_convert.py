"""What `sdk convert` does without a converter of its own: judges and changes models. What it reads:
tests/test_convert_sources.py, tests/test_convert_options.py. Converters themselves: tests/test_convert_routes.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from convert_files import spec

from sdk.cli import main
from sdk.convert.calibration import read_calibration
from sdk.convert.conversion import convert
from sdk.convert.environment import VARIABLE
from sdk.convert.evaluate import (
    Accuracy,
    accuracy,
    check_all_quantized,
    labelled_samples,
    layer_errors,
    specs_of,
    spread,
)
from sdk.convert.interface import with_float16, with_interface
from sdk.convert.options import Quantize
from sdk.errors import ModelError, UnsupportedError, UsageError
from sdk.graph import DType
from sdk.inputs import Sample, random_samples
from sdk.load import load_bytes
from sdk.oracle import Oracle
from sdk.preprocess import Picture, Preprocessing
from sdk.write import write

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"
FLOAT = DIGITS / "digits_float32.tflite"
INT8 = DIGITS / "digits_int8.tflite"


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
