"""What is declared of a model's input stays in its file, and pictures and sound are prepared by it."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tflite
from PIL import Image

from sdk import metadata
from sdk.cli import main
from sdk.errors import InputError, ModelError, UsageError
from sdk.graph import DType
from sdk.inputs import read_samples
from sdk.load import load_bytes
from sdk.oracle import Oracle
from sdk.preprocess import Picture, Preprocessing, attach, attached, from_json
from sdk.program import Operand, Region, TensorSpec
from sdk.sound import Sound
from sdk.write import write

MODELS = sorted((Path(__file__).parent / "models").glob("*.tflite"))
WHOLE = Preprocessing(
    Picture(8, 6, 3, "crop", mean=(123.5, 116.0, 104.0), std=(58.0, 57.0, 57.5), order="BGR"), labels=("Katze", "čaj")
)


def spec(shape: tuple[int, ...], dtype: DType = DType.FLOAT32, scale: float = 0.0, zero: int = 0) -> TensorSpec:
    size = dtype.bytes * int(np.prod(shape))
    return TensorSpec("x", shape, dtype, scale, zero, Operand(Region.ARENA, 0, size))


@pytest.mark.parametrize("declared", [Preprocessing(), WHOLE, Preprocessing(sound=Sound(16000, 8000, 1.0))])
def test_json_gives_the_declaration_again(declared: Preprocessing) -> None:
    assert from_json(declared.to_json()) == declared


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_keeps_its_declaration_and_all_else(path: Path) -> None:
    model = path.read_bytes()
    assert attached(model) is None
    noted = attach(attach(model, WHOLE), Preprocessing(labels=("a",)))
    assert attached(noted) == Preprocessing(labels=("a",))
    assert write(load_bytes(noted)) == write(load_bytes(model))
    assert metadata.read(noted, "min_runtime_version") == metadata.read(model, "min_runtime_version")


def test_the_oracle_takes_a_model_with_a_declaration() -> None:
    model = next(path for path in MODELS if path.stem == "varied_int8").read_bytes()
    with Oracle(model) as plain, Oracle(attach(model, WHOLE)) as noted:
        rng = np.random.default_rng(0)
        x = [rng.integers(-128, 128, shape).astype(dtype) for shape, dtype in plain.inputs]
        for one, other in zip(plain.run(x).outputs, noted.run(x).outputs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_damaged_metadata_are_refused() -> None:
    model = MODELS[0].read_bytes()
    with pytest.raises(ModelError, match="wrong: labels"):
        attached(metadata.add(model, "microlith", b'{"labels": 3}'))
    rng, noted = np.random.default_rng(0), attach(model, WHOLE)
    for _ in range(300):
        broken = bytearray(noted)
        for at in rng.integers(0, 400, 4):
            broken[at] = rng.integers(256)
        try:
            attached(bytes(broken))
            attach(bytes(broken), WHOLE)
        except ModelError:
            pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "version 1"),
        ("[" * 100_000, "no JSON"),
        ('{"picture": {"height": 0, "width": 1, "channels": 1}}', "height and width must be"),
        ('{"picture": {"height": 4, "width": 1, "channels": 2}}', "channels must be 1, 3 or 4"),
        ('{"picture": {"height": 4, "width": 1, "channels": 3, "std": 0}}', "std must be"),
        ('{"picture": {"height": 4, "width": 1, "channels": 3, "mean": [1, 2]}}', "mean must be"),
        (f'{{"sound": {{"samples": 1, "scale": 1{"0" * 400}}}}}', "scale must be of the type float"),
        ('{"sound": {"samples": 1e400}}', "samples must be of the type int"),
        ('{"picture": {"height": "4", "width": 1, "channels": 3}}', "height must be of the type int"),
        ('{"picture": {"height": 4}}', "picture must be an object of height"),
        ('{"picture": {"size": 4}}', "size must be one of"),
        ('{"labels": [1]}', "labels must be"),
        (r'{"labels": ["\ud800"]}', "labels must be"),
        ('{"colour": 1}', "colour must be"),
        ('{"sound": {"samples": 1}, "picture": {"height": 4, "width": 1, "channels": 3}}', "not both"),
    ],
)
def test_wrong_declarations_say_what_they_must_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_json(text)


def test_pictures_are_cut_padded_or_stretched() -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = (200, 100, 50)  # the middle third
    crop = Picture(4, 4, 3, "crop").sized(wide)
    assert (crop == (200, 100, 50)).all()
    pad = Picture(12, 12, 1, "pad").sized(wide)
    assert not pad[:4].any()
    assert not pad[8:].any()
    assert (pad[4:8, 5:7] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()
    assert Picture(4, 12, 3).sized(wide).tolist() == wide.tolist()
    assert Picture(4, 4, 3, "crop", order="BGR").sized(wide)[0, 0].tolist() == [50, 100, 200]
    real = Picture(4, 4, 3, "crop", mean=(100.0, 0.0, 0.0), std=(50.0, 100.0, 1.0)).apply(wide)
    assert real.dtype == np.float32
    assert real[0, 0].tolist() == [2.0, 1.0, 50.0]


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.float32), np.zeros((4, 0, 3), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_picture_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="a picture is uint8"):
        Picture(4, 4, 3).apply(bad)


def tone(rate_hz: int, frequency_hz: float, seconds: float) -> np.ndarray:
    return (10000 * np.sin(2 * np.pi * frequency_hz * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(np.int16)


def test_sound_is_resampled_mixed_and_cut_into_windows() -> None:
    stereo = np.stack([tone(48000, 440, 2.5), np.zeros(120000, np.int16)], axis=1)
    windows = Sound(16000).apply(stereo, 48000)
    assert windows.shape == (2, 16000)
    want = tone(16000, 440, 2.5)[:32000].reshape(2, 16000) / 2 / 32768
    np.testing.assert_allclose(windows[:, 200:-200], want[:, 200:-200], atol=1e-3)
    # What the lower rate cannot carry is gone, not folded to another pitch.
    assert abs(Sound(16000).apply(tone(48000, 15000, 1), 48000)).max() < 0.01
    short = Sound(16000).apply(tone(16000, 440, 0.5), 16000)
    assert short.shape == (1, 16000)
    assert not short[0, 8000:].any()


@pytest.mark.parametrize("rate_hz", [0, 999, 192001])
def test_sound_of_an_impossible_rate_is_refused(rate_hz: int, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(100))
    data = bytearray((tmp_path / "a.wav").read_bytes())
    struct.pack_into("<I", data, 24, rate_hz)
    (tmp_path / "a.wav").write_bytes(data)
    declared = Preprocessing(sound=Sound(50))
    with pytest.raises(InputError, match=f"a.wav: the sound has a rate of {rate_hz:,} Hz"):
        read_samples([tmp_path / "a.wav"], [spec((1, 50))], None, lambda _: None, declared)


def test_files_are_read_as_the_model_declares(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = Picture(8, 8, 3, "crop", mean=(127.5,), std=(127.5,))
    quantized = spec((1, 8, 8, 3), DType.INT8, 2 / 255, 0)
    said: list[str] = []
    sample = read_samples([tmp_path / "a.png"], [quantized], None, said.append, Preprocessing(picture))[0].arrays[0]
    want = np.clip(np.rint(picture.apply(pixels) / (2 / 255)), -128, 127).astype(np.int8)
    np.testing.assert_array_equal(sample[0], want)
    assert said == ["pictures become 8x8 RGB, as the model declares"]
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(32000)
        file.writeframes(np.repeat(tone(32000, 300, 1), 2).tobytes())
    declared = Preprocessing(sound=Sound(16000))
    sample = read_samples([tmp_path / "a.wav"], [spec((1, 16000))], None, said.append, declared)[0].arrays[0]
    np.testing.assert_allclose(sample[0], tone(16000, 300, 1) / 32768, atol=2e-3)


def test_run_names_the_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = Path(__file__).parents[1] / "examples" / "digits" / "digits_int8.tflite"
    names = tuple(f"the digit {i}" for i in range(10))
    (tmp_path / "named.tflite").write_bytes(attach(digits.read_bytes(), Preprocessing(labels=names)))
    assert main(["run", str(tmp_path / "named.tflite"), "--board", "native"]) == 0
    assert capsys.readouterr().out.count("the digit") == 5


def test_constants_behind_the_flatbuffer_move_along() -> None:
    """As large models keep them: named by their place in the file."""
    model = flatbuffers_with_far_buffer()
    before, after = load_bytes(model), load_bytes(attach(attach(model, WHOLE), WHOLE))
    assert before.tensors[0].data is not None
    np.testing.assert_array_equal(before.tensors[0].data, [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(after.tensors[0].data, before.tensors[0].data)


def flatbuffers_with_far_buffer() -> bytes:
    """A model of one constant, whose data come after everything else."""
    b = flatbuffers.Builder(256)
    shape = b.CreateNumpyVector(np.array([4], np.int32))
    name = b.CreateString("x")
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, shape)
    tflite.TensorAddName(b, name)
    tflite.TensorAddBuffer(b, 0)
    tensor = tflite.TensorEnd(b)
    tensors = vector(b, tensor)
    outputs = b.CreateNumpyVector(np.array([0], np.int32))
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, tensors)
    tflite.SubGraphAddOutputs(b, outputs)
    graphs = vector(b, tflite.SubGraphEnd(b))
    tflite.BufferStart(b)
    tflite.BufferAddOffset(b, 0x1122334455667788)
    tflite.BufferAddSize(b, 16)
    buffers = vector(b, tflite.BufferEnd(b))
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddBuffers(b, buffers)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    model = bytes(b.Output()).replace(struct.pack("<Q", 0x1122334455667788), struct.pack("<Q", len(b.Output())))
    return model + np.array([1, 2, 3, 4], "<f4").tobytes()


def vector(b: flatbuffers.Builder, table: int) -> int:
    b.StartVector(4, 1, 4)
    b.PrependUOffsetTRelative(table)
    return int(b.EndVector())
