"""What a program is fed with: random values, or files turned into exactly the arrays that its inputs take.

A sample is one array for each input, in the program's order. Nothing is converted behind the user's back: an array must
have the input's type and shape already; only pictures and sound, whose stored form is never a tensor, are mapped, and
the mapping is said.

| file | what it gives |
|---|---|
| .npy | values of one input, or of many samples of it along a leading dimension |
| .npz | the same for all inputs, by their names or in their order |
| .png .jpg .jpeg .bmp | one sample of one input: resized to its height and width, gray or RGB by its channels |
| .wav | 16-bit mono samples of one input, or features of them that the model declares, as many windows as it holds |
| anything else | the raw bytes of one sample: all inputs one after the other |

Where a model declares its preprocessing (`sdk.preprocess`), pictures and sound are prepared by that.

Where a program has several inputs, the files that hold one input come in turn: first input, second input, first, ...
"""

from __future__ import annotations

import contextlib
import warnings
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdk.cache import Progress, silent
from sdk.errors import InputError, UsageError
from sdk.front_end import stored_windows
from sdk.graph import Array, DType
from sdk.ops.base import Range
from sdk.preprocess import Picture, Preprocessing
from sdk.program import TensorSpec
from sdk.sound import Sound

PICTURES = {".png", ".jpg", ".jpeg", ".bmp"}
# Of types whose values are counts and indices rather than measurements; the whole range would only ever overflow.
WIDE_RANGE = 1000
INT16_FULL_SCALE = 32768.0


@dataclass(frozen=True)
class Sample:
    """The arrays of one inference, and where they come from."""

    name: str
    arrays: tuple[Array, ...]


def describe(spec: TensorSpec) -> str:
    """What an input takes, as messages say it: 'input' int8[1, 96, 96, 1]."""
    return f"'{spec.name}' {spec.dtype.numpy_name}{list(spec.shape)}"


def random_samples(
    specs: Sequence[TensorSpec], count: int, seed: int, ranges: Mapping[int, Range] | None = None
) -> list[Sample]:
    """`count` samples that are the same for the same seed: 8- and 16-bit integers over their whole range, wider ones
    within +-1000 (0 to 1000 unsigned), float32 from the normal distribution with mean 0 and deviation 1. `ranges`:
    whole numbers between these for the inputs at these positions (`sdk.ranges`)."""
    rng = np.random.default_rng(seed)
    limits = [(ranges or {}).get(position) for position in range(len(specs))]
    return [
        Sample(f"random {i}", tuple(_random(rng, spec, limit) for spec, limit in zip(specs, limits, strict=True)))
        for i in range(count)
    ]


def _random(rng: np.random.Generator, spec: TensorSpec, limit: Range | None) -> Array:
    dtype = spec.dtype.numpy
    if limit is not None:
        return rng.integers(np.asarray(limit[0]), np.asarray(limit[1]), spec.shape, endpoint=True).astype(dtype)
    return random_values(rng, dtype, spec.shape)


def random_values(rng: np.random.Generator, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """Values as of `random_samples`."""
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    low, high = usual_range(dtype)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


def usual_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the largest of the values that an integer type is tried with."""
    limits = np.iinfo(dtype)
    low, high = int(limits.min), int(limits.max)
    return (low, high) if dtype.itemsize <= 2 else (max(low, -WIDE_RANGE), WIDE_RANGE)


def read_samples(
    paths: Sequence[Path],
    specs: Sequence[TensorSpec],
    pixel_range: tuple[float, float] | None = None,
    note: Progress = silent,
    declared: Preprocessing | None = None,
) -> list[Sample]:
    """The samples in `paths`, for inputs `specs`.

    `pixel_range`: the real values of black and white; without it pixels are prepared as the model has `declared`, or
    cover the whole range of a quantized input, and 0 to 1 of a float one. `note` is told what was chosen. InputError,
    saying what was expected, for what does not fit; UsageError for a `pixel_range` where nothing has pixels.
    """
    if not specs:
        raise InputError("the model has no inputs", "Run it without --inputs.")
    reader = _Reader(specs, pixel_range, note, None if pixel_range else declared)
    samples = list(reader.samples(paths))
    if pixel_range and not any(path.suffix.lower() in PICTURES for path in paths):
        raise no_pixels()
    return samples


def no_pixels() -> UsageError:
    """What is said of a range for pixels that are not there."""
    return UsageError("--pixel-range is for pictures, and none was given", "Leave it out, or give .png, .jpg or .bmp.")


class _Reader:
    def __init__(
        self,
        specs: Sequence[TensorSpec],
        pixel_range: tuple[float, float] | None,
        note: Progress,
        declared: Preprocessing | None,
    ) -> None:
        self.specs = specs
        self.declared = declared or Preprocessing()
        self.pixel_range = pixel_range
        self.note = note
        self.said: set[str] = set()

    def _say(self, text: str) -> None:
        """Notes once what is true of many files."""
        if text not in self.said:
            self.said.add(text)
            self.note(text)

    def samples(self, paths: Sequence[Path]) -> Iterator[Sample]:
        waiting: list[tuple[Path, list[Array]]] = []
        for path in paths:
            whole = self._whole(path)
            if whole is not None:
                yield from _join(path.name, whole)
                continue
            waiting.append((path, self._single(path, self.specs[len(waiting)])))
            if len(waiting) == len(self.specs):
                yield from _join(", ".join(p.name for p, _ in waiting), [values for _, values in waiting])
                waiting = []
        if waiting:
            raise InputError(
                f"the model has {len(self.specs)} inputs, and {len(waiting)} of their files came last without the rest",
                f"Give one file for each of {_list(self.specs)} in turn, or one .npz with all of them.",
            )

    def _whole(self, path: Path) -> list[list[Array]] | None:
        """The values of all inputs, from a file that holds all of them; None if it holds one."""
        suffix = path.suffix.lower()
        if suffix == ".npz":
            return [split(array, spec, path) for array, spec in zip(self._archive(path), self.specs, strict=True)]
        if suffix in {".npy", ".wav"} or suffix in PICTURES:
            return None
        return [[array] for array in self._raw(path)]

    def _single(self, path: Path, spec: TensorSpec) -> list[Array]:
        suffix = path.suffix.lower()
        if suffix == ".npy":
            return split(load_arrays(path)[""], spec, path)
        if suffix == ".wav":
            return self._declared_sound(path, spec) or _sound(path, spec)
        return [self._picture(path, spec)]

    def _archive(self, path: Path) -> list[Array]:
        arrays = load_arrays(path)
        names = [spec.name for spec in self.specs]
        if set(arrays) == set(names):
            return [arrays[name] for name in names]
        in_order = [f"arr_{i}" for i in range(len(names))]
        if set(arrays) == set(in_order):
            return [arrays[name] for name in in_order]
        named = ", ".join(f"{name!r}: ..." for name in names)
        raise InputError(
            f"{path} holds {', '.join(arrays) or 'nothing'}; the model's inputs are {', '.join(names)}",
            f"Save it with numpy.savez(file, **{{{named}}}), or with the arrays in the inputs' order and no names.",
        )

    def _raw(self, path: Path) -> list[Array]:
        data = _bytes(path)
        sizes = [spec.operand.bytes for spec in self.specs]
        if len(data) != sum(sizes):
            raise InputError(
                f"{path} is {len(data):,} bytes; one sample of {_list(self.specs)} is {sum(sizes):,}",
                "A raw file holds the values of one sample as the model stores them; many samples fit into an .npy.",
            )
        arrays = []
        for spec, size in zip(self.specs, sizes, strict=True):
            little = spec.dtype.numpy.newbyteorder("<")
            arrays.append(np.frombuffer(data[:size], little).astype(spec.dtype.numpy).reshape(spec.shape))
            data = data[size:]
        return arrays

    def _declared_sound(self, path: Path, spec: TensorSpec) -> list[Array]:
        """Windows of sound of any rate and number of channels, prepared as the model declares; none if it does not."""
        sound = self.declared.sound
        if sound is None or sound.elements != _elements(spec):
            return []
        samples, rate_hz = read_wave(path, None)
        self._say(f"sound becomes {_described(sound)}, as the model declares")
        try:
            if sound.features is not None:
                windows = stored_windows(sound, sound.mono(samples, rate_hz), spec)
            else:
                windows = stored(sound.apply(samples, rate_hz), spec)
        except InputError as error:
            raise InputError(f"{path}: {error.message}", error.remedy) from error
        return [window.reshape(spec.shape) for window in windows]

    def _picture(self, path: Path, spec: TensorSpec) -> Array:
        height, width, channels = _picture_shape(spec, path)
        picture = self.declared.picture
        if picture is not None and (picture.height, picture.width, picture.channels) == (height, width, channels):
            self._say(f"pictures become {width}x{height} {_MODES[channels]}, as the model declares")
            return stored(picture.normalized(read_picture(path, picture)), spec).reshape(spec.shape)
        pixels = read_picture(path, Picture(height, width, channels))
        low, high = self.pixel_range or whole_range(spec)
        self._say(f"pictures become {width}x{height} {_MODES[channels]}; black is {low:g}, white is {high:g}")
        real = low + pixels.astype(np.float64) * ((high - low) / 255.0)
        return stored(real, spec).reshape(spec.shape)


def _described(sound: Sound) -> str:
    if sound.features is None:
        return f"{sound.samples:,} samples at {sound.rate_hz:,} Hz"
    return f"{sound.rows} rows of {sound.features.width} {sound.features.kind} features at {sound.rate_hz:,} Hz"


def _list(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(describe(spec) for spec in specs)


def _join(name: str, values: Sequence[list[Array]]) -> Iterator[Sample]:
    """Samples from one list of values for each input."""
    counts = {len(each) for each in values}
    if len(counts) > 1:
        each = ", ".join(str(len(v)) for v in values)
        raise InputError(f"{name}: the inputs have different numbers of samples ({each})", "Give as many of each.")
    many = counts != {1}
    for index, arrays in enumerate(zip(*values, strict=True)):
        yield Sample(f"{name}[{index}]" if many else name, arrays)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the input {path}: {error.strerror}", "Check the path.") from error


def load_arrays(path: Path) -> Mapping[str, Array]:
    """The arrays of an .npy (under the name '') or .npz file."""
    try:
        with path.open("rb") as file:  # numpy leaves a damaged .npz open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        if error.strerror:
            raise InputError(f"cannot read the input {path}: {error.strerror}", "Check the path.") from error
        raise _damaged(path, error) from error
    except Exception as error:  # of damaged files numpy raises anything, the tokenizer's errors included
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        f"{path} is damaged, or not a {path.suffix} file of plain numbers: {reason}", "Write it anew with numpy."
    )


def split(array: Array, spec: TensorSpec, path: Path) -> list[Array]:
    """The samples of one input in `array`: it has the input's shape, one dimension more, or another batch size."""
    if array.dtype.newbyteorder("=") != spec.dtype.numpy:
        raise InputError(
            f"{path} holds {array.dtype}; the input {describe(spec)} takes {spec.dtype.numpy_name}", _cast(array, spec)
        )
    shape = spec.shape
    array = np.ascontiguousarray(array, spec.dtype.numpy)
    if array.shape == shape:
        return [array]
    if array.shape[1:] == shape and array.ndim == len(shape) + 1:
        samples = list(array)
    elif shape[:1] == (1,) and array.ndim == len(shape) and array.shape[1:] == shape[1:]:
        samples = list(array.reshape(-1, *shape))
    else:
        raise InputError(
            f"{path} has the shape {list(array.shape)}; the input is {describe(spec)}",
            _shaped(array, shape),
        )
    if not samples:
        raise InputError(f"{path} holds no sample: its shape is {list(array.shape)}", "Give at least one.")
    return samples


def _shaped(array: Array, shape: tuple[int, ...]) -> str:
    """How to give `array` this shape."""
    if array.ndim == len(shape) == 4 and array.shape[1:] == (shape[3], *shape[1:3]):
        return "It has channels first, the model channels last: x.transpose(0, 2, 3, 1)."
    return f"Reshape it to {list(shape)}, or to {['n', *shape]} for n samples.".replace("'n'", "n")


def _cast(array: Array, spec: TensorSpec) -> str:
    """How to turn `array` into what `spec` takes, as one or two lines of numpy."""
    name = spec.dtype.numpy_name
    if spec.dtype is DType.FLOAT32:
        return f"Give real values, scaled as in training: x.astype('{name}') changes the type alone."
    if spec.dtype is DType.BOOL:
        return "Convert it: x != 0."
    limits = np.iinfo(spec.dtype.numpy)
    fits = array.dtype.kind in "iub" and bool(np.all((array >= limits.min) & (array <= limits.max)))
    if not spec.scale:
        convert = f"Its values fit: x.astype('{name}')." if fits else "Scale them as in training."
        return f"The input takes whole numbers from {limits.min} to {limits.max}. {convert}"
    low, high = whole_range(spec)
    quantized = f"np.clip(np.rint(x / {spec.scale:.9g}) + {spec.zero_point}, {limits.min}, {limits.max})"
    text = f"Quantize real values ({low:g} to {high:g}): {quantized}.astype('{name}')."
    if array.dtype.itemsize == spec.dtype.bytes == 1:  # of the other sign
        shift = "- 128" if spec.dtype is DType.INT8 else "+ 128"
        return f"{text}\nPixels over that whole range: (x.astype('int16') {shift}).astype('{name}')."
    return f"{text}\nValues that are quantized already: x.astype('{name}')." if fits else text


_MODES = {1: "gray", 3: "RGB", 4: "RGBA"}


def _picture_shape(spec: TensorSpec, path: Path) -> tuple[int, int, int]:
    """(height, width, channels) of an input that takes a picture."""
    shape = spec.shape[1:] if len(spec.shape) in (3, 4) and spec.shape[0] == 1 else spec.shape
    if len(shape) == 2 and 1 not in shape:
        shape = (*shape, 1)
    if len(shape) != 3 or shape[2] not in _MODES or 0 in shape or spec.dtype is DType.BOOL:
        raise InputError(
            f"{path} is a picture, but the input {describe(spec)} is not [1, height, width, 1, 3 or 4]",
            "Bring it into the model's form yourself and give it as .npy.",
        )
    height, width, channels = shape
    return height, width, channels


def read_picture(path: Path, wanted: Picture) -> Array:
    """uint8 [height, width, channels], upright. InputError if it is no picture."""
    with _opened(path) as picture:
        return wanted.of_image(picture)


def load_picture(path: Path) -> Array:
    """The pixels of a picture, perhaps made smaller. InputError as of `read_picture`, and much faster."""
    with _opened(path, smaller=True) as picture:
        return np.asarray(picture)


@contextlib.contextmanager
def _opened(path: Path, *, smaller: bool = False) -> Iterator[Any]:
    from PIL import Image, ImageOps

    _bytes(path)  # says what is wrong with the path as for every other file
    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(path) as picture,
        ):
            if smaller:
                picture.draft(None, (1, 1))  # a JPEG's file is read whole, of its pixels an eighth are made
            yield ImageOps.exif_transpose(picture)
    except Exception as error:  # of damaged files Pillow raises anything
        raise InputError(f"{path} is not a picture that can be read: {error}", "Save it anew as PNG.") from error


def whole_range(spec: TensorSpec) -> tuple[float, float]:
    """The real values of the smallest and the largest number that an input stores; 0 to 1 for float."""
    if spec.dtype is DType.FLOAT32:
        return 0.0, 1.0
    limits = np.iinfo(spec.dtype.numpy)
    scale = spec.scale or 1.0
    # Pixels have 8 bits: wider integers that carry no scale hold them as they are.
    if not spec.scale and spec.dtype.bytes > 1:
        return 0.0, 255.0
    return scale * (int(limits.min) - spec.zero_point), scale * (int(limits.max) - spec.zero_point)


def stored(real: Array, spec: TensorSpec) -> Array:
    """Real values as the input stores them: quantized by its scale, rounded to nearest, clipped to its type."""
    if spec.dtype is DType.FLOAT32:
        return real.astype(np.float32)
    limits = np.iinfo(spec.dtype.numpy)
    values = np.rint(real / (spec.scale or 1.0)) + spec.zero_point
    result: Array = values.clip(int(limits.min), int(limits.max)).astype(spec.dtype.numpy)
    return result


def _sound(path: Path, spec: TensorSpec) -> list[Array]:
    """Windows of raw samples: int16 as they are, float32 in -1..1."""
    if spec.dtype not in (DType.INT16, DType.FLOAT32) or max(spec.shape, default=0) != _elements(spec):
        raise InputError(
            f"{path} is sound, but the input {describe(spec)} takes no raw samples; it looks like features",
            "Declare them (sdk convert --features), or compute them as in training and give them as .npy.",
        )
    wanted = _elements(spec)
    samples = read_wave(path, 1)[0]
    if len(samples) < wanted:
        raise InputError(
            f"{path} holds {len(samples):,} samples; the input {describe(spec)} takes {wanted:,}",
            "Record longer, or pad the sound with silence.",
        )
    count = len(samples) // wanted
    windows = samples[: count * wanted].reshape(count, *spec.shape)
    if spec.dtype is DType.FLOAT32:
        return list((windows / INT16_FULL_SCALE).astype(np.float32))
    return list(windows)


def _elements(spec: TensorSpec) -> int:
    return spec.operand.bytes // spec.dtype.bytes


def read_wave(path: Path, channels: int | None) -> tuple[Array, int]:
    """int16 [samples, channels] of a 16-bit sound, and its rate; `channels`: how many it must have."""
    _bytes(path)
    try:
        with wave.open(str(path), "rb") as sound:
            form, rate_hz = (sound.getnchannels(), 8 * sound.getsampwidth()), sound.getframerate()
            data = sound.readframes(sound.getnframes())
    except Exception as error:  # the module raises more than its own errors
        raise InputError(
            f"{path} is not a PCM .wav file: {str(error) or 'it is cut short'}", "Save it anew as 16-bit mono PCM."
        ) from error
    if form[1] != 16 or channels not in (None, form[0]):
        raise InputError(
            f"{path} has {form[0]} channels of {form[1]} bits; 16-bit mono is needed",
            f"Convert it: ffmpeg -i {path.name} -ac 1 -c:a pcm_s16le mono.wav",
        )
    samples = np.frombuffer(data[: len(data) // 2 // form[0] * 2 * form[0]], "<i2").astype(np.int16)
    return (samples if form[0] == 1 else samples.reshape(-1, form[0])), rate_hz
