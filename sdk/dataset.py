"""Labelled samples, and what device and oracle make of them.

Of a model that tells classes apart, the class is the index of the largest value of the first output (the first of equal
ones). A labelled set is one of these:

| path | what it gives |
|---|---|
| .npz | inputs and labels, under the names of one of PAIRS; for several inputs one array each, by its name |
| folder | a subfolder a class, with pictures, .npy or .wav files; see `_folders` |
| .csv | lines of file,label; the label is a number, the file is relative to the .csv and anything that --inputs takes |

Unlike `sdk.inputs`, which takes arrays as the model stores them, this converts: a data set serves a model and its
quantized form. Floats are real values and are quantized by the input's scale, uint8 are pixels and are mapped as those
of pictures are, and dimensions of 1 may be left out. What was done is said.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np

from sdk.cache import Progress, silent
from sdk.errors import InputError
from sdk.graph import Array, DType
from sdk.inputs import PICTURES, Sample, describe, load_arrays, no_pixels, read_samples, split, stored, whole_range
from sdk.preprocess import Preprocessing
from sdk.program import TensorSpec

PAIRS = (("x", "y"), ("images", "labels"), ("inputs", "labels"), ("x_test", "y_test"))
_NAMES = ", ".join(f"{inputs} and {labels}" for inputs, labels in PAIRS)
_SUFFIXES = PICTURES | {".npy", ".wav"}
# More than this share of clipped values is a scaling other than the model's rather than a few outliers.
CLIPPED_SHARE = 0.01


@dataclass(frozen=True)
class Labelled:
    """A sample and its class."""

    sample: Sample
    label: int


@dataclass(frozen=True)
class Disagreement:
    """A sample that device and oracle put into different classes."""

    sample: str
    label: int
    device: int
    oracle: int


@dataclass
class Scores:
    """The classes that device and oracle gave to `labelled`, as far as `add` was told of them."""

    labelled: Sequence[Labelled]
    device: list[int] = field(default_factory=list)
    oracle: list[int] = field(default_factory=list)

    def add(self, device: Sequence[Array], oracle: Sequence[Array]) -> None:
        """All outputs of both for the next sample."""
        self.device.append(int(np.argmax(device[0])))
        self.oracle.append(int(np.argmax(oracle[0])))

    @property
    def device_right(self) -> int:
        """How many of the samples the device puts into their class."""
        return self._right(self.device)

    @property
    def oracle_right(self) -> int:
        """How many of the samples the oracle puts into their class."""
        return self._right(self.oracle)

    def _right(self, classes: Sequence[int]) -> int:
        return sum(each.label == given for each, given in zip(self.labelled, classes, strict=True))

    @property
    def disagreements(self) -> list[Disagreement]:
        """Every sample whose class depends on who is asked."""
        each = zip(self.labelled, self.device, self.oracle, strict=True)
        return [Disagreement(one.sample.name, one.label, ours, theirs) for one, ours, theirs in each if ours != theirs]


def read_dataset(
    path: Path,
    inputs: Sequence[TensorSpec],
    output: TensorSpec,
    pixel_range: tuple[float, float] | None = None,
    count: int | None = None,
    note: Progress = silent,
    declared: Preprocessing | None = None,
) -> list[Labelled]:
    """The labelled samples of `path`, at most `count` of them, for a program with `inputs` whose first output is
    `output`. `pixel_range`, `note` and `declared` as of `sdk.inputs.read_samples`. InputError for what does not fit."""
    if not inputs:
        raise InputError("the model has no inputs", "A labelled set is for models that have some.")
    reader = _Reader(inputs, _classes(output), output, pixel_range, note, declared)
    labelled = list(islice(reader.read(path), count))
    if pixel_range and not reader.has_pixels:
        raise no_pixels()
    if not labelled:
        raise InputError(f"{path} holds no sample", "Give at least one with its label.")
    return labelled


def _classes(output: TensorSpec) -> int:
    """How many classes the first output tells apart."""
    sizes = [size for size in output.shape if size != 1]
    if len(sizes) != 1 or output.dtype is DType.BOOL:
        raise InputError(
            f"the first output of the model is {describe(output)}, not one value for each of several classes",
            "Verify such a model with --inputs: there is no class to compare with a label.",
        )
    return sizes[0]


def labelled_files(path: Path, labels: Sequence[str] = ()) -> list[Path]:
    """The files that the labelled set `path` consists of, in the order in which they are read. InputError if it is
    none, or a class of it is empty."""
    if path.is_dir():
        return [file for file, _ in _folders(path, labels, silent)]
    if path.suffix.lower() == ".csv":
        return [file for file, _ in _table(path)]
    if not path.is_file() or path.suffix.lower() != ".npz":
        raise _none(path)
    return [path]


def _none(path: Path) -> InputError:
    if not path.exists():
        return InputError(f"there is no data set {path}", "Check the path.")
    return InputError(
        f"{path} is no data set", "Give an .npz, a folder with a subfolder for each class, or a .csv of file,label."
    )


class _Reader:
    def __init__(
        self,
        specs: Sequence[TensorSpec],
        classes: int,
        output: TensorSpec,
        pixel_range: tuple[float, float] | None,
        note: Progress,
        declared: Preprocessing | None,
    ) -> None:
        self.specs = specs
        self.declared = declared
        self.classes = classes
        self.output = output
        self.pixel_range = pixel_range
        self._note = note
        self.said: set[str] = set()
        self.has_pixels = False  # whether any were read

    def say(self, text: str) -> None:
        """Notes once what is true of many files."""
        if text not in self.said:
            self.said.add(text)
            self._note(text)

    def read(self, path: Path) -> Iterator[Labelled]:
        if path.is_dir():
            return self._files(path, _folders(path, self.declared.labels if self.declared else (), self.say))
        if path.suffix.lower() == ".npz":
            return self._archive(path)
        if path.suffix.lower() == ".csv":
            return self._files(path, _table(path))
        raise _none(path)

    def _archive(self, path: Path) -> Iterator[Labelled]:
        arrays = load_arrays(path)
        labels_name, names = self._names(arrays, path)
        labels = _integers(arrays[labels_name], f"'{labels_name}' in {path}")
        inputs = [self._rows(arrays[name], spec, path) for name, spec in zip(names, self.specs, strict=True)]
        for name, rows in zip(names, inputs, strict=True):
            if len(rows) != len(labels):
                raise InputError(
                    f"{path} holds {len(rows):,} samples in '{name}' and {len(labels):,} labels in '{labels_name}'",
                    "Save one label for each sample.",
                )
        self._check(labels, path)
        for index, (label, *sample) in enumerate(zip(labels, *inputs, strict=True)):
            yield Labelled(Sample(f"{path.name}[{index}]", tuple(sample)), label)

    def _names(self, arrays: Mapping[str, Array], path: Path) -> tuple[str, list[str]]:
        """The name of the labels, and those of the inputs in the program's order."""
        pairs: list[tuple[list[str], str]] = [([one], labels) for one, labels in PAIRS] if len(self.specs) == 1 else []
        own = [spec.name for spec in self.specs]
        pairs += [(own, labels) for labels in dict.fromkeys(labels for _, labels in PAIRS)]
        for names, labels in pairs:
            if labels in arrays and labels not in names and set(names) <= set(arrays):
                return labels, names
        holds = f"{path} holds {', '.join(arrays) or 'nothing'}"
        for names, labels in pairs:
            if set(names) <= set(arrays):
                raise InputError(
                    f"{holds}, but no labels", f"Save them as '{labels}': np.savez(file, {names[0]}=..., {labels}=...)."
                )
        wanted = _NAMES if len(self.specs) == 1 else f"{', '.join(own)} (the model's inputs) and labels"
        raise InputError(f"{holds}, where inputs and labels are needed", f"Name the arrays {wanted}.")

    def _files(self, path: Path, files: Sequence[tuple[Path, int]]) -> Iterator[Labelled]:
        """The samples of each file, all of them with the file's label."""
        base = path if path.is_dir() else path.parent
        self._check([label for _, label in files], path)
        for file, label in files:
            parent = file.relative_to(base).parent if file.is_relative_to(base) else file.parent
            for sample in self._samples(file):
                yield Labelled(Sample(str(parent / sample.name), sample.arrays), label)

    def _samples(self, file: Path) -> list[Sample]:
        if file.suffix.lower() != ".npy" or len(self.specs) > 1:
            pixels = file.suffix.lower() in PICTURES
            self.has_pixels |= pixels
            return read_samples([file], self.specs, self.pixel_range if pixels else None, self.say, self.declared)
        rows = self._rows(load_arrays(file)[""], self.specs[0], file)
        names = [file.name] if len(rows) == 1 else [f"{file.name}[{i}]" for i in range(len(rows))]
        return [Sample(name, (row,)) for name, row in zip(names, rows, strict=True)]

    def _check(self, labels: Sequence[int], path: Path) -> None:
        wrong = next((label for label in labels if not 0 <= label < self.classes), None)
        if wrong is not None:
            raise InputError(
                f"{path} has the label {wrong}; the first output {describe(self.output)} has "
                f"{self.classes} classes, 0 to {self.classes - 1}",
                "Number the labels as in training; background classes count too.",
            )

    def _rows(self, array: Array, spec: TensorSpec, path: Path) -> list[Array]:
        """The samples of one input in `array`, as the program takes them."""
        return split(_reshaped(self._converted(array, spec, path), spec), spec, path)

    def _converted(self, array: Array, spec: TensorSpec, path: Path) -> Array:
        """Real values and pixels as the input stores them; all else as it is, for `split` to judge."""
        quantized = spec.scale != 0.0
        if array.dtype == np.uint8 and (spec.dtype is not DType.UINT8 or self.pixel_range):
            if not quantized and spec.dtype is not DType.FLOAT32:
                return array
            self.has_pixels = True
            picture = None if self.pixel_range or self.declared is None else self.declared.picture
            if picture is not None:
                self.say("uint8 values are taken for pixels, which become real as the model declares")
                return stored(picture.normalized(array), spec)
            low, high = self.pixel_range or whole_range(spec)
            self.say(f"uint8 values are taken for pixels; 0 is {low:g}, 255 is {high:g}")
            return stored(low + array * ((high - low) / 255.0), spec)
        if array.dtype.kind != "f" or not (quantized or spec.dtype is DType.FLOAT32):
            return array
        if not np.isfinite(array).all():
            raise InputError(f"{path} holds values that are infinite or not a number", "Leave such samples out.")
        if quantized:
            self.say(f"{array.dtype} values are quantized: scale {spec.scale:.6g}, zero point {spec.zero_point}")
            self._warn_clipped(array, spec)
        return stored(array, spec)

    def _warn_clipped(self, array: Array, spec: TensorSpec) -> None:
        low, high = whole_range(spec)
        share = float(np.mean((array < low - spec.scale) | (array > high + spec.scale))) if array.size else 0.0
        if share > CLIPPED_SHARE:
            self.say(
                f"warning: {share:.0%} of the values are clipped to the {low:.6g} to {high:.6g} that {describe(spec)} "
                "holds; scale them as in training"
            )


def _reshaped(array: Array, spec: TensorSpec) -> Array:
    """[n, *spec.shape] where the array's shape differs from that by dimensions of 1 alone; else `array` as it is."""
    wanted = _without_ones(spec.shape)
    if _without_ones(array.shape) == wanted:
        return array.reshape(1, *spec.shape)
    if _without_ones(array.shape[1:]) == wanted:
        return array.reshape(len(array), *spec.shape)
    return array


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _integers(labels: Array, what: str) -> list[int]:
    """Labels of the shape [n] or [n, 1]."""
    if labels.dtype.kind not in "iub":
        raise InputError(f"the labels {what} are {labels.dtype}, not integers", "Convert them: y.astype('int64').")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InputError(
            f"the labels {what} have the shape {list(labels.shape)}; one number for each sample is needed",
            "Turn one-hot labels into numbers: y.argmax(axis=1).",
        )
    return [int(label) for label in labels]


def _folders(path: Path, labels: Sequence[str], note: Progress) -> list[tuple[Path, int]]:
    """Files and their classes: those of the model's `labels` that the subfolders are named by, or the numbers that they
    are named by, or else their places in sorted order.

    The first file of every class comes first, then the second of every class: so a few stand for all.
    """
    folders = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not folders:
        raise InputError(f"{path} has no subfolders", "Put the files of each class into a folder of their own.")
    numbers = _numbers(path, [folder.name for folder in folders], labels, note)
    classes = []
    for folder, label in zip(folders, numbers, strict=True):
        files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
        known = [file for file in files if file.suffix.lower() in _SUFFIXES]
        if len(known) < len(files):
            note(f"{folder}: {len(files) - len(known)} files that are no pictures, .npy or .wav are passed over")
        if not known:
            raise InputError(f"the class folder {folder} holds no sample", "Fill it, or remove it.")
        classes.append([(file, label) for file in known])
    return [file for file in chain.from_iterable(zip_longest(*classes)) if file is not None]


def _numbers(path: Path, names: Sequence[str], labels: Sequence[str], note: Progress) -> list[int]:
    """The classes of folders, as of `_folders`."""
    if set(names) <= set(labels):
        return [labels.index(name) for name in names]
    numbered = [name for name in names if name.isdecimal()]
    if numbered and len(numbered) < len(names):
        other = next(name for name in names if name not in numbered)
        raise InputError(
            f"{path} has folders named by numbers ({min(numbered)}) and by words ({other})",
            "Name all classes by their numbers, or all by words, which are numbered in sorted order.",
        )
    if numbered:
        return [int(name) for name in names]
    note("classes: " + ", ".join(f"{index} {name}" for index, name in enumerate(names)))
    return list(range(len(names)))


def _table(path: Path) -> list[tuple[Path, int]]:
    """The lines of a .csv. The first may be a heading."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    except OSError as error:
        raise InputError(f"cannot read the data set {path}: {error.strerror}", "Check the path.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a .csv file: {error}", "Write lines of file,label in UTF-8.") from error
    if rows and [cell.strip().lower() for cell in rows[0][1]] == ["file", "label"]:
        rows = rows[1:]
    return [_line(row, number, path) for number, row in rows]


def _line(row: Sequence[str], number: int, path: Path) -> tuple[Path, int]:
    if len(row) < 2:
        raise InputError(f"line {number} of {path} has no label", "Each line is file,label.")
    try:
        if len(row) == 2:
            return path.parent / row[0].strip(), int(row[1])
    except ValueError:
        pass
    raise InputError(
        f"line {number} of {path} is '{','.join(row)[:60]}', not file,label with the label a number",
        "The number of a class is its place in the model's first output.",
    )
