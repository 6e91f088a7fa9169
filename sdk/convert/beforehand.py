"""What is wrong with what the user gives, as far as that shows before a converter is started: which takes long."""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sdk.cache import Progress, silent
from sdk.convert import calibration
from sdk.convert.environment import TENSORFLOW
from sdk.convert.options import INTERFACES, Options, read_labels
from sdk.convert.sources import ATTRIBUTE, Source
from sdk.dataset import labelled_files
from sdk.errors import InputError, UsageError
from sdk.graph import Graph
from sdk.inputs import PICTURES, load_arrays, load_picture, read_wave

Extrema = tuple[float, float]
LEVELS = 0, 255  # of uint8
FAR = 0.1  # of a range: 127.5,127.5 and 128,128 are the same to most
SAID = 100  # files between two words about them
TENSORFLOW_1 = b"FakeQuant"
KERAS = b"uant", b"Lambda"  # of tfmot's wrappers, and of what may be anything


def check(asked: Options, source: Source, progress: Progress = silent) -> None:
    """UsageError for samples that are missing, InputError for samples and labelled sets that are of no use."""
    if source.environment is not None:  # else the model is at hand, and may be quantized already
        check_samples_given(asked, may_have_ranges(source))
    given = asked.representative
    read = functools.cache(_extrema)  # a set may be given for both
    if isinstance(given, str | Path) and (Path(given).exists() or not ATTRIBUTE.match(str(given))):
        _check_values(Path(given), _values(Path(given), asked.samples, read, progress))
    if asked.dataset is not None:
        files = labelled_files(Path(asked.dataset), read_labels(asked.labels))[: asked.count]
        for _ in _each(files, Path(asked.dataset), read, progress):
            pass  # what cannot be read is said


def check_samples_given(asked: Options, has_ranges: bool) -> None:
    """UsageError where ranges are needed, and neither samples nor the source (`has_ranges`) have them."""
    if has_ranges:
        return
    if asked.input_stats:
        raise UsageError(
            "--input-stats is for graphs with fake_quant nodes, which say the ranges of all values; this one has none",
            "Train it with fake_quant; or give samples to measure ranges with: --representative PATH, with "
            "--interface uint8 if the model is to take uint8.",
        )
    if asked.representative is None and asked.quantize in INTERFACES:
        raise UsageError(
            f"{asked.quantize} needs representative samples to measure ranges with",
            "Give them: --representative FOLDER (pictures, .wav, .npy, .csv, or module:generator); or leave the "
            "values in float: --quantize float32, float16 or dynamic.",
        )


def check_stats(stats: Sequence[Sequence[float]], graph: Graph) -> None:
    """UsageError for --input-stats that say another range of an input than the fake_quant after it does, which the
    float32 model holds as QUANTIZE."""
    pairs = [*stats] * len(graph.inputs) if len(stats) == 1 else list(stats)
    if not pairs:
        return
    for i, (mean, std) in zip(graph.inputs, pairs, strict=True):
        noted = [node.outputs[0] for node in graph.nodes if node.op == "QUANTIZE" and node.inputs == (i,)]
        q = graph.tensor(noted[0]).quantization if noted else None
        if q is None:
            continue
        own = [q.scale[0] * (level - q.zero_point[0]) for level in LEVELS]
        said = [(level - mean) / std for level in LEVELS]
        if max(abs(a - b) for a, b in zip(own, said, strict=True)) > FAR * (own[1] - own[0]):
            raise UsageError(
                f"--input-stats {mean:g},{std:g} makes the input '{graph.tensor(i).name}' go from {said[0]:.4g} to "
                f"{said[1]:.4g}; the graph's fake_quant has {own[0]:.4g} to {own[1]:.4g}",
                f"Give what it was trained with, perhaps --input-stats {q.zero_point[0]},{1 / q.scale[0]:.5g}.",
            )


def may_have_ranges(source: Source) -> bool:
    """Whether the source may have fake_quant nodes: its files are searched for the word."""
    if source.environment is not TENSORFLOW:
        return False
    path = Path(source.path)
    files = [path / "saved_model.pb", path / "saved_model.pbtxt"] if path.is_dir() else [path]
    if source.kind.name == "checkpoint":
        files = [Path(source.options.get("graph") or f"{path}.meta")]
    found = [_content(file) for file in files if file.is_file()]
    words = KERAS if source.kind.name in ("keras", "h5") else (TENSORFLOW_1,)
    return not found or any(word in content for content in found for word in words)


def _content(file: Path) -> bytes:
    if not zipfile.is_zipfile(file):
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        return archive.read("config.json") if "config.json" in archive.namelist() else b""


def _values(path: Path, most: int, read: Callable[[Path], list[Extrema]], progress: Progress) -> list[Extrema]:
    """The least and the greatest of each sample's values, or each file's."""
    files = calibration.files_of(path)
    if files is None:
        return [(min(row), max(row)) for row in calibration.numbers_of(path)[:most]]
    return [pair for each in _each(files[:most], path, read, progress) for pair in each]


def _each(
    files: Sequence[Path], path: Path, read: Callable[[Path], list[Extrema]], progress: Progress
) -> Iterator[list[Extrema]]:
    for i, file in enumerate(files):
        if i % SAID == 0 and len(files) > 1:
            progress(f"check {len(files):,} files of {path}: {i:,}")
        yield read(file)


def _check_values(path: Path, extrema: Sequence[Extrema]) -> None:
    if not np.isfinite(np.array(extrema)).all():
        raise InputError(f"{path}: values are infinite or not a number", "Leave them out.")
    if extrema and min(low for low, _ in extrema) == max(high for _, high in extrema):
        raise InputError(f"{path}: all values are {extrema[0][0]:g}, in every sample", calibration.REMEDY)


def _extrema(file: Path) -> list[Extrema]:
    """The least and the greatest of the real values in a file; none of one that has none, or perhaps has whole numbers
    for a reason. InputError if it cannot be read."""
    suffix = file.suffix.lower()
    if suffix in PICTURES:
        arrays = [load_picture(file)]
    elif suffix == ".wav":
        arrays = [read_wave(file, None)[0]]
    elif suffix in (".npy", ".npz"):
        arrays = list(load_arrays(file).values())
        if not any(array.size for array in arrays):
            raise InputError(f"{file} holds no sample", calibration.REMEDY)
        arrays = [array for array in arrays if array.dtype.kind == "f"]
    else:
        return []
    return [(float(array.min()), float(array.max())) for array in arrays if array.size]
