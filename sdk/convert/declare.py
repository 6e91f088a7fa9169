"""What the user says of a model's input, completed by the input's shape and by the samples that are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdk.convert.options import Options, read_labels
from sdk.errors import UsageError
from sdk.inputs import PICTURES, describe
from sdk.preprocess import Picture, Preprocessing, made
from sdk.program import TensorSpec
from sdk.sound import FFT_LENGTHS, Features, Sound

OF_SOUND = ("rate_hz", "features")


def declare(asked: Options, specs: Sequence[TensorSpec]) -> Preprocessing | None:
    """The declaration that goes into the model; None if there is nothing to declare. UsageError for what does not fit
    the inputs `specs`."""
    given, labels = dict(asked.preprocess), read_labels(asked.labels)
    kinds = _kinds(asked.representative) | _kinds(asked.dataset)
    spec = specs[0] if len(specs) == 1 else None
    if spec is not None and "features" in given:
        return Preprocessing(sound=_sound(spec, **given), labels=labels)
    if spec is not None and len(spec.shape) == 4 and spec.shape[3] in (1, 3, 4) and "rate_hz" not in given:
        if given or kinds & PICTURES:
            height, width, channels = spec.shape[1:]
            return Preprocessing(Picture(height, width, channels, **given), labels=labels)
    elif spec is not None and (given or ".wav" in kinds) and max(spec.shape, default=0) == int(np.prod(spec.shape)):
        return Preprocessing(sound=Sound(max(spec.shape), **given), labels=labels)
    if given:
        raise UsageError(
            f"--{next(iter(given)).replace('_hz', '')} is for a model with one input, a picture or raw sound",
            "Prepare the samples yourself, and give them as .npy. Features of sound are declared by --features.",
        )
    return Preprocessing(labels=labels) if labels else None


def check_labels(labels: Sequence[str], outputs: Sequence[TensorSpec]) -> None:
    """UsageError where the first output is one value for each of another number of classes."""
    sizes = [size for size in outputs[0].shape if size != 1] if outputs else []
    classes = {1, 2} if not sizes else {sizes[0]}
    if labels and len(sizes) <= 1 and len(labels) not in classes:
        raise UsageError(
            f"there are {len(labels)} labels; the model's output {describe(outputs[0])} has {max(classes)} classes",
            "Give one name for each, in the order of the output; a background class counts too.",
        )


def _sound(spec: TensorSpec, features: Any, rate_hz: int = Sound.rate_hz, **others: Any) -> Sound:
    if others:
        raise UsageError(f"--{next(iter(others))} is for pictures, --features for sound", "Leave one of them out.")
    features = features if isinstance(features, Features) else _features(features, rate_hz)
    sizes = [size for size in spec.shape if size != 1]
    rows, rest = divmod(int(np.prod(spec.shape)), features.width)
    if rest or rows == 0 or (len(sizes) > 1 and sizes[-1] != features.width and features.width > 1):
        width = (
            sizes[-1] if len(sizes) > 1 else next(n for n in (40, 32, 20, 16, 10, 1) if max(sizes, default=1) % n == 0)
        )
        what = "coefficients" if features.kind == "mfcc" else "bands"
        raise UsageError(
            f"the input {describe(spec)} does not take rows of {features.width} features",
            f"{what}={width} would match: {int(np.prod(spec.shape)) // width} rows, one after the other.",
        )
    return Sound(features.span(rows, rate_hz), rate_hz, features=features)


def _features(given: Mapping[str, Any], rate_hz: int) -> Features:
    """With the shortest Fourier transform that a window fits into, if none is given."""
    window, _ = made(Features, {k: v for k, v in given.items() if k == "window_ms"}).samples(rate_hz)
    length = next((length for length in FFT_LENGTHS if length >= window), FFT_LENGTHS[-1])
    return made(Features, {"fft_length": length, **given})


def _kinds(given: Any) -> set[str]:
    """The endings of the files that are given."""
    if not isinstance(given, str | Path):
        return set()
    path = Path(given)
    if path.is_dir():
        return {file.suffix.lower() for file in path.rglob("*")}
    if path.suffix.lower() == ".csv" and path.is_file():
        return {Path(line.partition(",")[0]).suffix.lower() for line in path.read_text("utf-8", "replace").splitlines()}
    return {path.suffix.lower()}
