"""`sdk verify --dataset`: labelled samples of every form, both accuracies, and who disagrees about which sample."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.corpus import corpus_folder
from sdk.cli import main
from sdk.dataset import Disagreement, Labelled, Scores, read_dataset
from sdk.errors import InputError
from sdk.graph import Array, DType, Graph
from sdk.inputs import Sample
from sdk.ops.base import CaseGraph
from sdk.oracle import Oracle
from sdk.program import Operand, Region, TensorSpec
from sdk.write import write

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits" / "digits_int8.tflite"
needs_arm = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="arm-none-eabi-gcc and qemu-system-arm are not on this machine",
)
EMULATED = pytest.param("mps2-an386", marks=needs_arm)


def spec(name: str, shape: tuple[int, ...], dtype: DType, scale: float = 0.0, zero_point: int = 0) -> TensorSpec:
    count = int(np.prod(shape)) * dtype.bytes
    return TensorSpec(name, shape, dtype, scale, zero_point, Operand(Region.ARENA, 0, count))


IMAGE = spec("image", (1, 2, 3, 1), DType.INT8, 1 / 255, -128)
SOUND = spec("sound", (1, 100), DType.INT16, 1 / 32768)
OUTPUT = spec("scores", (1, 4), DType.INT8, 0.1, 0)
STORED = np.arange(-60, 60, 6, dtype=np.int8)[:18].reshape(3, 1, 2, 3, 1)
LABELS = np.array([2, 0, 3])
REAL = ((STORED + 128.0) / 255).astype(np.float32)


def flat(labelled: Sequence[Labelled]) -> list[tuple[list[int], int]]:
    return [(each.sample.arrays[0].reshape(-1).tolist(), each.label) for each in labelled]


EXPECTED = [(row.reshape(-1).tolist(), int(label)) for row, label in zip(STORED, LABELS, strict=True)]


# Data sets to samples


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": STORED, "y": LABELS},
        {"images": STORED[:, 0], "labels": LABELS[:, np.newaxis]},
        {"inputs": STORED[:, 0, ..., 0], "labels": LABELS.astype(np.uint8)},
        {"x_train": STORED[:1], "y_train": LABELS[:1], "x_test": STORED, "y_test": LABELS},
        {"image": STORED, "labels": LABELS},
        {"x": REAL, "y": LABELS},
        {"x": REAL[:, 0].astype(np.float64), "y": LABELS},
        {"x": (STORED[:, 0] + 128).astype(np.uint8), "y": LABELS},
    ],
)
def test_archives_of_inputs_and_labels(tmp_path: Path, arrays: dict[str, Array]) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    labelled = read_dataset(tmp_path / "set.npz", [IMAGE], OUTPUT)
    assert flat(labelled) == EXPECTED
    assert [each.sample.name for each in labelled] == ["set.npz[0]", "set.npz[1]", "set.npz[2]"]
    assert {(a.shape, a.dtype) for each in labelled for a in each.sample.arrays} == {(IMAGE.shape, np.dtype(np.int8))}
    assert flat(read_dataset(tmp_path / "set.npz", [IMAGE], OUTPUT, count=2)) == EXPECTED[:2]


def test_what_is_converted_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", x=REAL, y=LABELS)
    np.savez(tmp_path / "pixels.npz", x=(STORED + 128).astype(np.uint8), y=LABELS)
    np.savez(tmp_path / "unscaled.npz", x=REAL * 255, y=LABELS)
    said: list[str] = []
    read_dataset(tmp_path / "real.npz", [IMAGE], OUTPUT, note=said.append)
    assert said == ["float32 values are quantized: scale 0.00392157, zero point -128"]
    read_dataset(tmp_path / "pixels.npz", [IMAGE], OUTPUT, note=said.append)
    assert said[1:] == ["uint8 values are taken for pixels; 0 is 0, 255 is 1"]
    read_dataset(tmp_path / "unscaled.npz", [IMAGE], OUTPUT, note=said.append)
    assert re.search(r"warning: \d+% of the values are clipped to the 0 to 1 that 'image'", said[-1])


def test_pixels_of_a_float_input_and_other_ranges(tmp_path: Path) -> None:
    pixels = np.arange(0, 180, 10, dtype=np.uint8).reshape(3, 2, 3)
    np.savez(tmp_path / "set.npz", x=pixels, y=LABELS)
    floats = spec("image", (1, 2, 3, 1), DType.FLOAT32)
    arrays = [each.sample.arrays[0] for each in read_dataset(tmp_path / "set.npz", [floats], OUTPUT, (-1.0, 1.0))]
    np.testing.assert_allclose(np.stack(arrays).reshape(3, 2, 3), pixels / 127.5 - 1, atol=1e-6)
    unsigned = spec("image", (1, 2, 3, 1), DType.UINT8, 1 / 128, 128)
    arrays = [each.sample.arrays[0] for each in read_dataset(tmp_path / "set.npz", [unsigned], OUTPUT)]
    np.testing.assert_array_equal(np.stack(arrays).reshape(3, 2, 3), pixels)


def test_several_inputs_go_by_name(tmp_path: Path) -> None:
    both = [IMAGE, spec("gain", (1, 1), DType.FLOAT32)]
    gains = np.array([0.5, 1.5, 2.5])
    np.savez(tmp_path / "set.npz", gain=gains, image=STORED, y=LABELS)
    labelled = read_dataset(tmp_path / "set.npz", both, OUTPUT)
    assert flat(labelled) == EXPECTED
    assert [each.sample.arrays[1].tolist() for each in labelled] == [[[0.5]], [[1.5]], [[2.5]]]


@pytest.mark.parametrize(
    ("names", "labels"), [(("0", "2", "03"), (0, 2, 3)), (("ash", "birch", "cedar"), (0, 1, 2)), (("10", "9"), (10, 9))]
)
def test_folders_of_images_and_arrays(tmp_path: Path, names: tuple[str, ...], labels: tuple[int, ...]) -> None:
    """Numbers name their classes, words are counted; and the first sample of every class comes first."""
    for name, label in zip(names, labels, strict=True):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((2, 3), label, np.uint8)).save(tmp_path / name / "a.png")
        np.save(tmp_path / name / "b.npy", np.full((2, 2, 3), (label + 1) / 255, np.float32))
        (tmp_path / name / "notes.txt").write_text("nothing")
    (tmp_path / ".cache").mkdir()
    said: list[str] = []
    wide = spec("scores", (1, 11), DType.INT8, 0.1, 0)
    labelled = read_dataset(tmp_path, [IMAGE], wide, note=said.append)
    order = sorted(zip(names, labels, strict=True))
    assert [(each.sample.name, each.label) for each in labelled] == [
        *((f"{name}/a.png", label) for name, label in order),
        *((f"{name}/b.npy[{i}]", label) for name, label in order for i in range(2)),
    ]
    assert flat(labelled)[: len(names)] == [([label - 128] * 6, label) for _, label in order]
    assert flat(labelled)[-1][0] == [order[-1][1] - 127] * 6
    assert ("classes: 0 ash, 1 birch, 2 cedar" in said) == (names[0] == "ash")
    assert sum("1 files that are no pictures" in text for text in said) == len(names)
    assert sum("pictures become" in text for text in said) == 1


def test_each_window_of_a_sound_is_a_sample(tmp_path: Path) -> None:
    values = np.arange(250, dtype="<i2")
    (tmp_path / "1").mkdir()
    with wave.open(str(tmp_path / "1" / "a.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(values.tobytes())
    expected = [(values[:100].tolist(), 1), (values[100:200].tolist(), 1)]
    assert flat(read_dataset(tmp_path, [SOUND], OUTPUT)) == expected
    (tmp_path / "set.csv").write_text("\ufefffile,label\n1/a.wav,3\n\n")
    labelled = read_dataset(tmp_path / "set.csv", [SOUND], OUTPUT)
    assert flat(labelled) == [(row, 3) for row, _ in expected]
    assert [each.sample.name for each in labelled] == ["1/a.wav[0]", "1/a.wav[1]"]


def test_scores_count_who_is_right_and_list_who_disagrees() -> None:
    labelled = [Labelled(Sample(f"s{i}", ()), label) for i, label in enumerate((0, 1, 2))]
    scores = Scores(labelled)
    for device, oracle in zip(([3, 1, 1], [0, 5, 5], [9, 0, 0]), ([3, 1, 1], [0, 5, 5.5], [0, 0, 1]), strict=True):
        scores.add([np.array([device]), np.array([7])], [np.array([oracle]), np.array([8])])
    assert (scores.device, scores.oracle) == ([0, 1, 0], [0, 2, 2])
    assert (scores.device_right, scores.oracle_right) == (2, 2)
    assert scores.disagreements == [Disagreement("s1", 1, 1, 2), Disagreement("s2", 2, 0, 2)]


# Bad data sets


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Data sets that are none."""
    for name, arrays in {
        "unlabelled": {"x": STORED},
        "unnamed": {"data": STORED, "target": LABELS},
        "short": {"x": STORED, "y": LABELS[:2]},
        "classes": {"x": STORED, "y": LABELS + 1},
        "negative": {"x": STORED, "y": LABELS - 1},
        "empty": {"x": STORED[:0], "y": LABELS[:0]},
        "one_hot": {"x": STORED, "y": np.eye(3, 4, dtype=np.int64)},
        "float": {"x": STORED, "y": LABELS + 0.5},
        "shape": {"x": STORED.reshape(3, 3, 2), "y": LABELS},
        "wide": {"x": STORED.astype(np.int64), "y": LABELS},
        "nan": {"x": REAL * np.nan, "y": LABELS},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 and nothing more")
    for folder in ("none", "mixed/0", "mixed/cat", "hollow/a", "hollow/b"):
        (tmp_path / folder).mkdir(parents=True)
    for name, text in {
        "empty": "file,label\n",
        "half": "file,label\na.png,1\nb.png\n",
        "words": "a.png,cat\n",
        "missing": "a.png,1\n",
        "many": "a.png,1\na.png,12\n",
    }.items():
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "set.txt").write_text("")
    return tmp_path


REFUSED = {
    "unlabelled.npz": "holds x, but no labels\nSave them as 'y'",
    "unnamed.npz": "holds data, target, where inputs and labels are needed\nName the arrays x and y, images and labels",
    "short.npz": "3 samples in 'x' and 2 labels in 'y'",
    "classes.npz": r"has the label 4; the first output 'scores' int8\[1, 4\] has 4 classes, 0 to 3",
    "negative.npz": "has the label -1",
    "empty.npz": "holds no sample",
    "one_hot.npz": r"shape \[3, 4\].*\n.*argmax\(axis=1\)",
    "float.npz": "are float64, not integers",
    "shape.npz": r"has the shape \[3, 3, 2\]; the input is 'image' int8\[1, 2, 3, 1\]",
    "wide.npz": r"holds int64; .* takes int8\nQuantize",
    "nan.npz": "infinite or not a number",
    "damaged.npz": "damaged, or not a .npz",
    "absent.npz": "cannot read",
    "absent": "there is no data set",
    "set.txt": "is no data set\nGive an .npz, a folder",
    "none": "no subfolders",
    "mixed": r"named by numbers \(0\) and by words \(cat\)",
    "hollow": "holds no sample",
    "empty.csv": "holds no sample",
    "half.csv": "line 3 of .*half.csv has no label",
    "words.csv": "line 1 of .*words.csv is 'a.png,cat', not file,label with the label a number",
    "missing.csv": "cannot read the input .*a.png",
    "many.csv": "has the label 12",
    "absent.csv": "cannot read the data set",
    "binary.csv": "is not a .csv file",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_data_set_is_refused_in_words(bad: Path, name: str) -> None:
    with pytest.raises(InputError, match=REFUSED[name]) as caught:
        read_dataset(bad / name, [IMAGE], OUTPUT)
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("shape", [(1, 5, 5, 10), (4, 10), (1, 1), ()])
def test_an_output_without_classes_is_refused(bad: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="not one value for each of several classes"):
        read_dataset(bad / "short.npz", [IMAGE], spec("map", shape, DType.INT8))


# The command


@pytest.fixture
def run_json(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Runs `sdk verify ... --json`: its exit code and the object on stdout."""

    def call(*words: str | Path) -> tuple[int, Any]:
        code = main(["verify", *map(str, words), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own held-out digits."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    command = [sys.executable, str(ROOT / "examples" / "digits" / "data.py"), "--npz", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return path


@pytest.mark.parametrize("target", ["native", EMULATED])
def test_own_digits(digits: Path, target: str, run_json: Callable[..., tuple[int, Any]]) -> None:
    count, right = (400, 398) if target == "native" else (40, 40)
    code, report = run_json(DIGITS, "--board", target, "--dataset", digits, "--count", str(count))
    assert code == 0
    assert (report["ok"], report["samples"], report["inputs"], report["compared"]) == (True, count, count, 10 * count)
    assert report["device_accuracy"] == report["oracle_accuracy"] == right / count
    assert report["disagreements"] == []


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 records of 784 float32 pixels from 0 to 255 and a one-hot label of 10, where they are on this machine."""
    models = corpus_folder()
    data = None if models is None else models.parent / "data" / "mnist1000" / "mnist.data"
    if data is None or not data.is_file():
        pytest.skip("the digits are not on this machine: data/mnist1000 beside the folder of $MICROLITH_CORPUS")
    records = np.fromfile(data, "<f4").reshape(1000, 794)
    path = tmp_path_factory.mktemp("mnist") / "mnist.npz"
    np.savez(path, x=records[:, :784].reshape(-1, 28, 28) / 255, y=records[:, 784:].argmax(1))
    return path


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("tinymaix-mnist_valid_q.tflite", "native"),
        pytest.param("tinymaix-mnist_valid_q.tflite", "mps2-an386", marks=needs_arm),
        ("tinymaix-mnist_valid_f.tflite", "native"),
    ],
)
def test_a_thousand_digits(mnist: Path, model: str, target: str, run_json: Callable[..., tuple[int, Any]]) -> None:
    folder = corpus_folder()
    assert folder is not None
    code, report = run_json(folder / "mcu" / model, "--board", target, "--dataset", mnist)
    assert code == 0
    assert (report["samples"], report["compared"], report["disagreements"]) == (1000, 10_000, [])
    assert report["device_accuracy"] == report["oracle_accuracy"] > 0.95


def dense(reverse: bool = False) -> Graph:
    """One FULLY_CONNECTED 16 -> 4; `reverse` gives the outputs the weights of one another."""
    weights = np.random.default_rng(16).integers(-127, 128, (4, 16))
    g = CaseGraph()
    x = g.input((1, 16), DType.INT8, 0.05, 3)
    w = g.constant(weights[::-1] if reverse else weights, DType.INT8, 0.01)
    y = g.output((1, 4), DType.INT8, 0.2, -5)
    options = {"fused_activation_function": 0, "weights_format": 0, "keep_num_dims": False}
    return g.case("dense", "FULLY_CONNECTED", [x, w], [y], options).graph


def test_disagreements_are_listed(
    tmp_path: Path,
    run_json: Callable[..., tuple[int, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The oracle is given another model: where the device says 0 it says 3, and so on."""
    inputs = np.random.default_rng(0).integers(-128, 128, (20, 16)).astype(np.int8)
    with Oracle(write(dense())) as oracle:
        classes = [int(oracle.run([row[np.newaxis]]).outputs[0].argmax()) for row in inputs]
    (tmp_path / "dense.tflite").write_bytes(write(dense()))
    np.savez(tmp_path / "set.npz", x=inputs, y=classes)
    words = (tmp_path / "dense.tflite", "--board", "native", "--dataset", tmp_path / "set.npz")
    code, report = run_json(*words)
    assert (code, report["device_accuracy"], report["oracle_accuracy"]) == (0, 1.0, 1.0)
    other = write(dense(reverse=True))
    monkeypatch.setattr("sdk.piecewise.Oracle", lambda _model, which: Oracle(other, which))
    code, report = run_json(*words, "--count", "15")
    assert code == 11
    assert (report["ok"], report["samples"]) == (False, 15)
    assert (report["device_accuracy"], report["oracle_accuracy"]) == (1.0, 0.0)
    assert report["disagreements"] == [
        {"sample": f"set.npz[{i}]", "label": c, "device": c, "oracle": 3 - c} for i, c in enumerate(classes[:15])
    ]
    assert main(["verify", *map(str, words)]) == 11
    text = capsys.readouterr().out
    assert text.startswith("DIFFERENT: dense.tflite")
    assert "device  20 of 20 right, 100.00%\noracle  0 of 20 right, 0.00%\n20 of 20 classes differ" in text
    assert re.search(rf"set\.npz\[19\] +{classes[19]} +{classes[19]} +{3 - classes[19]}$", text, re.MULTILINE)


def test_what_does_not_go_together_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dense.tflite").write_bytes(write(dense()))
    words = ["verify", str(tmp_path / "dense.tflite"), "--board", "native", "--dataset", "set.npz"]
    assert main([*words, "--inputs", "a.npy"]) == 2
    assert "--inputs and --dataset" in capsys.readouterr().err
    assert main(words) == 6
    assert "cannot read the input set.npz" in capsys.readouterr().err
