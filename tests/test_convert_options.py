"""Options and samples of `sdk convert`, and what is said of them before a converter is started."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from convert_files import graph_def, node, spec
from PIL import Image

from sdk.cli import main
from sdk.convert.arrays import say_shape
from sdk.convert.calibration import of_arrays, read_calibration
from sdk.convert.conversion import convert
from sdk.convert.environment import VARIABLE
from sdk.errors import InputError, OutputError, SdkError, ToolError, UsageError
from sdk.preprocess import Picture, Preprocessing

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"
FLOAT = DIGITS / "digits_float32.tflite"


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


def test_pixels_need_a_declaration(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1)
    np.save(tmp_path / "x.npy", pixels)
    with pytest.raises(InputError, match=r"x\.npy holds uint8, and the input is 'x' float32") as caught:
        read_calibration(tmp_path / "x.npy", [spec(1, 4, 4, 1)], None)
    assert "--mean 0 --std 255" in caught.value.remedy
    np.save(tmp_path / "x.npy", (pixels / 255).astype(np.float16))
    assert read_calibration(tmp_path / "x.npy", [spec(1, 4, 4, 1)], None)[0].arrays[0].dtype == np.float32


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


# Before a converter is started


@pytest.fixture
def sources(source_files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources and samples; whoever asks for a converter gets a MissingToolError."""
    monkeypatch.setenv(VARIABLE, "/no/python")
    rng = np.random.default_rng(0)
    np.save(source_files / "good.npy", rng.normal(size=(4, 3)).astype(np.float32))
    np.save(source_files / "flat.npy", np.ones((4, 3), np.float32))
    np.save(source_files / "nan.npy", np.full((4, 3), np.nan, np.float32))
    np.save(source_files / "none.npy", np.ones((0, 3), np.float32))
    (source_files / "short.csv").write_text("1,2,3\n4,5\n")
    (source_files / "lost.csv").write_text("gone.png,0\n")
    (source_files / "names.txt").write_text("\n \n")
    for kind in ("a", "b", "broken/a", "half/a", "half/b"):
        (source_files / "pictures" / kind).mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(source_files / "pictures/half/a/0.jpg")
    data = (source_files / "pictures/half/a/0.jpg").read_bytes()
    (source_files / "pictures/broken/a/0.jpg").write_bytes(data[: len(data) - 60])
    (source_files / "sound.wav").write_bytes(b"RIFF")
    (source_files / "quantized.pb").write_bytes(graph_def(node("range", "FakeQuantWithMinMaxArgs", "image")))
    return source_files


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
