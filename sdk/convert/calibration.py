"""Representative samples: what a quantizer measures the ranges of values with.

| given | what it gives |
|---|---|
| a folder | its pictures, .wav, .npy, .npz, those of its subfolders too |
| .npy .npz | values as the model takes them; float64 becomes float32 |
| .csv | a line of numbers a sample; or lines of file or file,label, relative to the .csv |
| pictures, .wav | prepared as the model declares (`sdk.preprocess`) |
| arrays | in Python: each an array, or a list of one a model input |
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sdk.cache import Progress, silent
from sdk.errors import InputError
from sdk.graph import Array, DType
from sdk.inputs import PICTURES, Sample, describe, load_arrays, read_samples, split
from sdk.preprocess import Preprocessing
from sdk.program import TensorSpec

SUFFIXES = PICTURES | {".wav", ".npy", ".npz"}
MOST = 500  # ranges settle long before
REMEDY = "Give samples as the model will meet them: some dozens, from every class."


def read_calibration(
    path: Path, specs: Sequence[TensorSpec], declared: Preprocessing | None, most: int = MOST, note: Progress = silent
) -> list[Sample]:
    """The samples in `path` for the inputs `specs` of the model before it is quantized. InputError if they do not fit,
    or tell nothing: no values, all the same, or not a number."""
    files, note = files_of(path), functools.cache(note)  # what is true of many files is said once
    if files is None:
        samples = _rows(path, specs)
    else:
        samples = [sample for file in files[:most] for sample in _samples(file, specs, declared, note)]
    return checked(samples[:most], specs, str(path))


def of_arrays(given: Iterable[Any], specs: Sequence[TensorSpec], most: int = MOST) -> list[Sample]:
    """Samples from arrays in memory. Errors as of `read_calibration`."""
    samples = []
    for i, value in enumerate(islice(iter(given), most)):
        values = list(value.values()) if isinstance(value, dict) else value
        values = values if isinstance(values, list | tuple) else [values]
        if len(values) != len(specs):
            raise InputError(
                f"sample {i} has {len(values)} arrays; the model has {len(specs)} inputs: "
                f"{', '.join(map(describe, specs))}",
                "Yield one array for each input.",
            )
        arrays = [_fitting(np.asarray(v), spec, f"sample {i}") for v, spec in zip(values, specs, strict=True)]
        samples.append(Sample(f"sample {i}", tuple(arrays)))
    return checked(samples, specs, "the representative data")


def _fitting(array: Array, spec: TensorSpec, name: str) -> Array:
    if array.dtype.kind in "fiu" and spec.dtype is DType.FLOAT32:
        array = array.astype(np.float32)
    rows = split(array, spec, Path(name))
    if len(rows) != 1:
        raise InputError(
            f"{name} has the shape {list(array.shape)}; the input is {describe(spec)}",
            "Yield one sample after another.",
        )
    return rows[0]


def checked(samples: Sequence[Sample], specs: Sequence[TensorSpec], name: str) -> list[Sample]:
    """InputError for samples that would give useless ranges."""
    if not samples:
        raise InputError(f"{name} holds no sample", REMEDY)
    for i, spec in enumerate(specs):
        values = [sample.arrays[i] for sample in samples]
        if spec.dtype is not DType.FLOAT32:
            continue
        if not all(np.isfinite(value).all() for value in values):
            raise InputError(f"{name}: values of {describe(spec)} are infinite or not a number", "Leave them out.")
        low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
        if low == high:
            raise InputError(f"{name}: all values of {describe(spec)} are {low:g}, in every sample", REMEDY)
    return list(samples)


def files_of(path: Path) -> list[Path] | None:
    """The files to read; None for a .csv of numbers."""
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        empty = sorted(p.name for p in path.iterdir() if p.is_dir() and not any(p.iterdir()))
        if not found or empty:
            what = f"has empty folders: {', '.join(empty[:3])}" if empty else "holds no pictures, .wav, .npy or .npz"
            raise InputError(f"{path} {what}", REMEDY)
        return _spread(found)
    if not path.is_file():
        raise InputError(f"there is no {path}", "Give a folder, a file, or a generator as module:attribute.")
    if path.suffix.lower() != ".csv":
        return [path]
    first = next(iter(_table(path)), [])
    return None if first and all(map(_number, first)) else [path.parent / row[0].strip() for row in _listed(path)]


def _spread(files: list[Path]) -> list[Path]:
    """So ordered that the first few come from every folder."""
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    return [file for _, _, file in sorted((i, folder, f) for folder, fs in folders.items() for i, f in enumerate(fs))]


def _table(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file) if row]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a .csv file that can be read: {error}", "Write it in UTF-8.") from error


def _listed(path: Path) -> list[list[str]]:
    rows = _table(path)
    heading = rows and rows[0][0].strip().lower() == "file"
    return rows[1:] if heading else rows


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def numbers_of(path: Path) -> list[list[float]]:
    """The lines of a .csv of numbers. InputError if they are not as long as each other, or no numbers."""
    rows = _table(path)
    for i, row in enumerate(rows, 1):
        if not all(map(_number, row)) or len(row) != len(rows[0]):
            what = f"{len(row)} cells, the first has {len(rows[0])}" if len(row) != len(rows[0]) else "text in it"
            raise InputError(
                f"line {i} of {path} has {what}", "Write one sample a line, without labels and without a heading."
            )
    return [[float(cell) for cell in row] for row in rows]


def _rows(path: Path, specs: Sequence[TensorSpec]) -> list[Sample]:
    """A .csv of numbers: the values of all inputs, one sample a line."""
    sizes = [spec.operand.bytes // spec.dtype.bytes for spec in specs]
    samples = []
    for i, row in enumerate(numbers_of(path), 1):
        if len(row) != sum(sizes):
            raise InputError(
                f"line {i} of {path} has {len(row)} cells; a sample of {', '.join(map(describe, specs))} is "
                f"{sum(sizes)} numbers",
                "Write one sample a line, without labels and without a heading.",
            )
        parts = np.split(np.array(row, np.float64), np.cumsum(sizes)[:-1])
        arrays = [p.astype(s.dtype.numpy).reshape(s.shape) for p, s in zip(parts, specs, strict=True)]
        samples.append(Sample(f"line {i}", tuple(arrays)))
    return samples


def _samples(file: Path, specs: Sequence[TensorSpec], declared: Preprocessing | None, note: Progress) -> list[Sample]:
    if file.suffix.lower() in (".npy", ".npz"):
        arrays = load_arrays(file)
        if len(specs) == 1 and len(arrays) >= 1:
            name = next((n for n in ("", specs[0].name, "x", "images", "inputs", "arr_0") if n in arrays), None)
            if name is not None:
                values = arrays[name]
                if values.dtype == np.uint8 and declared is not None and declared.picture is not None:
                    values = declared.picture.normalized(values)
                values = _real(values, specs[0], file)
                rows = split(values, specs[0], file)
                return [Sample(f"{file.name}[{i}]", (row,)) for i, row in enumerate(rows)]
    return read_samples([file], specs, None, note, declared)


def _real(values: Array, spec: TensorSpec, file: Path) -> Array:
    """Real numbers of any width as float32. InputError for pixels of which nobody says what they mean."""
    is_picture = values.ndim >= 3 and len(spec.shape) == 4 and spec.shape[3] in (1, 3, 4)
    if values.dtype == np.uint8 and spec.dtype is DType.FLOAT32 and is_picture:
        raise InputError(
            f"{file} holds uint8, and the input is {describe(spec)}",
            "Say what the model makes of pixels: --mean 0 --std 255 if 0 to 255 became 0 to 1, 127.5 and 127.5 if it "
            "became -1 to 1.",
        )
    return values.astype(np.float32) if values.dtype.kind == "f" and spec.dtype is DType.FLOAT32 else values


def real(spec: TensorSpec) -> TensorSpec:
    """The spec of an input before it was quantized."""
    return replace(spec, dtype=DType.FLOAT32, scale=0.0, zero_point=0)
