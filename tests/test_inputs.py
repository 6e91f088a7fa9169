"""Files to samples: the right values from sound files, an InputError in words from all others."""

from __future__ import annotations

import contextlib
import random
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdk.errors import InputError
from sdk.graph import Array, DType
from sdk.inputs import Sample, random_samples, read_samples
from sdk.program import Operand, Region, TensorSpec


def spec(name: str, shape: tuple[int, ...], dtype: DType, scale: float = 0.0, zero_point: int = 0) -> TensorSpec:
    count = int(np.prod(shape)) * dtype.bytes
    return TensorSpec(name, shape, dtype, scale, zero_point, Operand(Region.ARENA, 0, count))


VECTOR = spec("x", (1, 4), DType.INT8, 0.5, 3)
IMAGE = spec("image", (1, 2, 3, 1), DType.INT8, 1 / 255, -128)
SOUND = spec("sound", (1, 100), DType.INT16, 1 / 32768)


def values(samples: list[Sample]) -> list[list[object]]:
    return [[array.tolist() for array in sample.arrays] for sample in samples]


def save_sound(path: Path, samples: Array, channels: int = 1, bits: int = 16) -> Path:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(bits // 8)
        sound.setframerate(16000)
        sound.writeframes(samples.tobytes())
    return path


def test_random_values_repeat_and_cover_their_type() -> None:
    specs = [
        spec("a", (40, 50), DType.INT8),
        spec("b", (40, 50), DType.UINT8),
        spec("c", (500, 400), DType.INT16),
        spec("d", (40, 50), DType.INT32),
        spec("e", (40, 50), DType.FLOAT32),
        spec("f", (40, 50), DType.BOOL),
        spec("g", (40, 50), DType.UINT32),
    ]
    first, again, other = random_samples(specs, 2, 7), random_samples(specs, 2, 7), random_samples(specs, 2, 8)
    assert values(first) == values(again) != values(other)
    ranges = [(array.min(), array.max()) for array in first[0].arrays]
    assert ranges[0] == (-128, 127)
    assert ranges[1] == (0, 255)
    assert ranges[2][0] < -32700
    assert ranges[2][1] > 32700
    assert -1000 <= ranges[3][0] < -900
    assert first[0].arrays[4].std() == pytest.approx(1, abs=0.05)
    assert ranges[5] == (False, True)
    assert ranges[6][0] >= 0
    for array, each in zip(first[0].arrays, specs, strict=True):
        assert (array.shape, array.dtype) == (each.shape, each.dtype.numpy)


@pytest.mark.parametrize(("shape", "count"), [((1, 4), 1), ((3, 4), 3), ((2, 1, 4), 2)])
def test_an_array_holds_one_sample_or_many(tmp_path: Path, shape: tuple[int, ...], count: int) -> None:
    data = np.arange(np.prod(shape)).astype(np.int8)
    np.save(tmp_path / "x.npy", data.reshape(shape))
    samples = read_samples([tmp_path / "x.npy"], [VECTOR])
    assert values(samples) == [[[row.tolist()]] for row in data.reshape(count, 4)]


def test_big_endian_arrays_are_the_same_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(100, dtype=">i2").reshape(1, 100))
    [sample] = read_samples([tmp_path / "x.npy"], [SOUND])
    assert sample.arrays[0].dtype == np.dtype(np.int16)
    assert sample.arrays[0].reshape(-1).tolist() == list(range(100))


def test_archives_go_by_name_or_by_order(tmp_path: Path) -> None:
    both = [VECTOR, spec("y", (2,), DType.FLOAT32)]
    x, y = np.array([[1, 2, 3, 4]], np.int8), np.array([0.5, 1.5], np.float32)
    np.savez(tmp_path / "named.npz", y=y, x=x)
    np.savez(tmp_path / "ordered.npz", x, y)
    expected = [[x.tolist(), y.tolist()]]
    assert values(read_samples([tmp_path / "named.npz"], both)) == expected
    assert values(read_samples([tmp_path / "ordered.npz"], both)) == expected
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    assert values(read_samples([tmp_path / "x.npy", tmp_path / "y.npy"], both)) == expected
    (tmp_path / "raw.bin").write_bytes(x.tobytes() + y.astype("<f4").tobytes())
    assert values(read_samples([tmp_path / "raw.bin"], both)) == expected


def test_pixels_cover_the_range_of_a_quantized_input(tmp_path: Path) -> None:
    pixels = np.array([[0, 1, 128], [254, 255, 100]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    said: list[str] = []
    sample, _ = read_samples([tmp_path / "a.png", tmp_path / "a.png"], [IMAGE], note=said.append)
    np.testing.assert_array_equal(sample.arrays[0].reshape(2, 3), pixels.astype(np.int16) - 128)
    assert said == ["pictures become 3x2 gray; black is 0, white is 1"]
    unsigned = spec("image", (1, 2, 3, 1), DType.UINT8, 0.0078125, 128)
    [sample] = read_samples([tmp_path / "a.png"], [unsigned])
    np.testing.assert_array_equal(sample.arrays[0].reshape(2, 3), pixels)


def test_pixels_of_a_float_input_and_other_ranges(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    colour = spec("image", (1, 2, 3, 3), DType.FLOAT32)
    [sample] = read_samples([tmp_path / "a.png"], [colour])
    np.testing.assert_allclose(sample.arrays[0][0], pixels / 255, rtol=1e-6)
    [sample] = read_samples([tmp_path / "a.png"], [colour], (-1.0, 1.0))
    np.testing.assert_allclose(sample.arrays[0][0], pixels / 127.5 - 1, atol=1e-6)
    quantized = spec("image", (1, 2, 3, 3), DType.INT8, 1 / 127, 0)
    [sample] = read_samples([tmp_path / "a.png"], [quantized], (-1.0, 1.0))
    np.testing.assert_array_equal(sample.arrays[0][0], np.rint((pixels / 127.5 - 1) * 127).astype(np.int8))


def test_images_are_resized_and_turned_upright(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 20), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: width and height change places
    picture.paste((0, 0, 255), (0, 0, 8, 8))
    picture.save(tmp_path / "a.jpg", exif=exif)
    [sample] = read_samples([tmp_path / "a.jpg"], [spec("image", (1, 40, 20, 3), DType.UINT8)])
    assert sample.arrays[0].shape == (1, 40, 20, 3)
    assert sample.arrays[0][0, 20, 10].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert sample.arrays[0][0, 0, 19, 2] > sample.arrays[0][0, 39, 0, 2]


def test_sound_is_cut_into_windows(tmp_path: Path) -> None:
    samples = np.arange(-125, 125).astype("<i2") * 100
    path = save_sound(tmp_path / "a.wav", samples)
    windows = read_samples([path], [SOUND])
    assert [window.name for window in windows] == ["a.wav[0]", "a.wav[1]"]
    np.testing.assert_array_equal(np.concatenate([w.arrays[0][0] for w in windows]), samples[:200])
    floats = read_samples([path], [spec("sound", (100,), DType.FLOAT32)])
    np.testing.assert_allclose(floats[1].arrays[0], samples[100:200] / 32768, rtol=1e-6)


REFUSED: dict[str, tuple[TensorSpec, str]] = {
    "missing.npy": (VECTOR, "cannot read the input"),
    "float.npy": (
        VECTOR,
        r"takes int8\nQuantize real values \(-65.5 to 62\): np.clip\(np.rint\(x / 0.5\) \+ 3, -128, 127\)",
    ),
    "wide.npy": (VECTOR, r"\nQuantize .*\nValues that are quantized already: x.astype\('int8'\)"),
    "beyond.npy": (VECTOR, r"takes int8\nQuantize [^\n]*$"),
    "unsigned.npy": (VECTOR, r"\nPixels over that whole range: \(x.astype\('int16'\) - 128\).astype\('int8'\)"),
    "signed.npy": (spec("x", (1, 4), DType.UINT8, 0.5, 128), r"\(x.astype\('int16'\) \+ 128\).astype\('uint8'\)"),
    "double.npy": (spec("x", (1, 4), DType.FLOAT32), r"as in training: x.astype\('float32'\)"),
    "index.npy": (spec("x", (1, 4), DType.INT32), r"Its values fit: x.astype\('int32'\)"),
    "large.npy": (spec("x", (1, 4), DType.INT32), r"takes whole numbers from -2147483648 to 2147483647. Scale"),
    "mask.npy": (spec("x", (1, 4), DType.BOOL), "Convert it: x != 0"),
    "name.npz": (VECTOR, r"holds p; the model's inputs are x\nSave it with numpy.savez\(file, \*\*{'x': ...}\)"),
    "shape.npy": (VECTOR, r"\[4, 1\]; the input is 'x' int8\[1, 4\]\nReshape it to \[1, 4\], or to \[n, 1, 4\]"),
    "first.npy": (spec("x", (1, 4, 5, 3), DType.FLOAT32), r"channels last: x.transpose\(0, 2, 3, 1\)"),
    "none.npy": (VECTOR, "holds no sample"),
    "objects.npy": (VECTOR, "damaged, or not a .npy"),
    "names.npz": (VECTOR, "holds p, q; the model's inputs are x"),
    "text.npz": (VECTOR, "damaged, or not a .npz"),
    "long.bin": (VECTOR, r"is 5 bytes; one sample of 'x' int8\[1, 4\] is 4"),
    "text.png": (IMAGE, "not a picture that can be read"),
    "image.png": (VECTOR, "is not .1, height, width"),
    "text.wav": (SOUND, "not a PCM .wav"),
    "short.wav": (SOUND, r"holds 50 samples; the input 'sound' int16\[1, 100\] takes 100"),
    "stereo.wav": (SOUND, "2 channels of 16 bits.*\nConvert it: ffmpeg"),
    "bytes.wav": (SOUND, "1 channels of 8 bits"),
    "sound.wav": (IMAGE, "looks like features"),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """One of each sort of file."""
    np.save(tmp_path / "float.npy", np.zeros((1, 4), np.float32))
    np.save(tmp_path / "first.npy", np.zeros((7, 3, 4, 5), np.float32))
    np.save(tmp_path / "wide.npy", np.zeros((1, 4), np.int64))
    np.save(tmp_path / "beyond.npy", np.array([[0, 0, 0, 128]], np.int64))
    np.save(tmp_path / "unsigned.npy", np.zeros((1, 4), np.uint8))
    np.save(tmp_path / "signed.npy", np.zeros((1, 4), np.int8))
    np.save(tmp_path / "double.npy", np.zeros((1, 4)))
    np.save(tmp_path / "index.npy", np.zeros((1, 4), np.int64))
    np.save(tmp_path / "large.npy", np.full((1, 4), 1 << 40))
    np.save(tmp_path / "mask.npy", np.zeros((1, 4), np.uint8))
    np.savez(tmp_path / "name.npz", p=np.zeros((1, 4), np.int8))
    np.save(tmp_path / "shape.npy", np.zeros((4, 1), np.int8))
    np.save(tmp_path / "none.npy", np.zeros((0, 4), np.int8))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "sound.npy", np.zeros((3, 4), np.int8))
    np.savez_compressed(tmp_path / "names.npz", p=np.zeros(4, np.int8), q=np.zeros(4, np.int8))
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1, 4), np.int8))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "image.bmp")
    save_sound(tmp_path / "short.wav", np.zeros(50, "<i2"))
    save_sound(tmp_path / "stereo.wav", np.zeros(500, "<i2"), channels=2)
    save_sound(tmp_path / "bytes.wav", np.zeros(500, np.uint8), bits=8)
    save_sound(tmp_path / "sound.wav", np.zeros(500, "<i2"))
    for name in ("text.npz", "text.png", "text.wav"):
        (tmp_path / name).write_text("this is text")
    (tmp_path / "long.bin").write_bytes(bytes(5))
    return tmp_path


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_words(files: Path, name: str) -> None:
    wanted, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as caught:
        read_samples([files / name], [wanted])
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) <= 3


def test_inputs_come_in_whole_sets(files: Path) -> None:
    np.save(files / "two.npy", np.zeros((2, 4), np.int8))
    both = [VECTOR, spec("y", (1, 4), DType.INT8)]
    with pytest.raises(InputError, match="2 inputs, and 1 of their files"):
        read_samples([files / "sound.npy"], both)
    with pytest.raises(InputError, match="different numbers of samples"):
        read_samples([files / "sound.npy", files / "two.npy"], both)


def test_damaged_files_never_crash(files: Path) -> None:
    """Bits flipped and bytes cut: samples of the right form, or an InputError."""
    rng = random.Random(0)
    for name, wanted in (
        ("sound.npy", VECTOR),
        ("x.npz", VECTOR),
        ("image.png", IMAGE),
        ("image.bmp", IMAGE),
        ("sound.wav", SOUND),
    ):
        sound = (files / name).read_bytes()
        for _ in range(100):
            damaged = bytearray(sound)
            for _ in range(rng.randint(1, 3)):
                damaged[rng.randrange(min(len(damaged), 200))] ^= 1 << rng.randrange(8)
            path = files / f"damaged{Path(name).suffix}"
            path.write_bytes(damaged[: rng.randrange(len(damaged))] if rng.random() < 0.3 else damaged)
            with contextlib.suppress(InputError):
                for sample in read_samples([path], [wanted]):
                    assert [(a.shape, a.dtype) for a in sample.arrays] == [(wanted.shape, wanted.dtype.numpy)]
