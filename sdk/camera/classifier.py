"""Frames in, classes out: preprocessing, inference, the best classes, and a label that does not flicker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from sdk.camera.sources import Frame, Latest, Source
from sdk.errors import UnsupportedError, UsageError
from sdk.preprocess import Picture, Preprocessing, attached, from_json
from sdk.runtime import Runtime, Tensor
from sdk.runtime.tensors import Array


@dataclass(frozen=True)
class Result:
    """What one frame is. `label`: what has been seen in enough frames in a row, None if nothing was; `changed`: since
    the last frame. `top`: the best classes of this frame, with smoothed scores. `latency_ms`: from capture to here."""

    frame: Frame
    number: int
    label: str | None
    score: float
    changed: bool
    top: tuple[tuple[str, float], ...]
    latency_ms: float
    dropped: int  # frames that came while others were computed, from the start on

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the picture."""
        return {
            "number": self.number,
            "name": self.frame.name,
            "label": self.label,
            "score": round(self.score, 4),
            "changed": self.changed,
            "top": [[label, round(score, 4)] for label, score in self.top],
            "latency_ms": round(self.latency_ms, 2),
            "dropped": self.dropped,
        }


class Classifier:
    """The results of a model on the frames of a source, in a `for` loop.

    A class counts from `threshold` on, and when it has led for `debounce` frames. `smoothing`, from 0 to below 1: how
    much of a score is that of the frames before. `labels`: names of the classes, instead of those in the model. Further
    arguments are those of `sdk.runtime.Runtime`.
    """

    def __init__(
        self,
        model: str | Path,
        source: Source,
        *,
        labels: Sequence[str] = (),
        top: int = 3,
        threshold: float = 0.5,
        smoothing: float = 0.0,
        debounce: int = 1,
        **options: Any,
    ) -> None:
        if not (top >= 1 and 0 <= threshold <= 1 and 0 <= smoothing < 1 and debounce >= 1):
            raise UsageError(
                "top, threshold, smoothing or debounce is out of range",
                "top and debounce from 1, threshold from 0 to 1, smoothing from 0 to below 1.",
            )
        self.runtime = Runtime(model, **options)
        declared = declaration(Path(model))
        self._input = _picture_input(self.runtime)
        self.picture = declared.picture or default_picture(self._input)
        self._check_shape()
        # What the model stores for each value of a pixel, by channel: a look-up instead of arithmetic on every frame.
        levels = np.repeat(np.arange(256)[:, None], self.picture.channels, 1)
        self._stored = replace(self._input, shape=levels.shape).stored(self.picture.normalized(levels))
        if (self._stored == self._stored[:, :1]).all():
            self._stored = self._stored[:, 0].copy()
        self._output = next(iter(self.runtime.outputs.values()))
        self._labels = tuple(labels) or declared.labels
        self._source, self._top = source, top
        self._threshold, self._smoothing, self._debounce = threshold, smoothing, debounce
        self._scores: Array | None = None
        self._logits = False
        self._label: str | None = None
        self._leader, self._led = "", 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runtime.close()

    def __iter__(self) -> Iterator[Result]:
        if not self._source.live:
            yield from self._results(self._source, None)
            return
        with Latest(self._source) as latest:
            yield from self._results(latest, latest)

    def _results(self, frames: Source | Latest, latest: Latest | None) -> Iterator[Result]:
        number = 0
        while (frame := frames.read()) is not None:
            yield self._result(frame, number, latest.dropped if latest else 0)
            number += 1

    def _result(self, frame: Frame, number: int, dropped: int) -> Result:
        scores = self._smoothed(self._probabilities(self.infer(frame.pixels)))
        order = np.argsort(-scores, kind="stable")[: self._top]
        top = tuple((self.label(int(i)), float(scores[i])) for i in order)
        before = self._label
        self._follow(*top[0])
        latency_ms = 1000 * (time.monotonic() - frame.taken_s)
        return Result(frame, number, self._label, top[0][1], self._label != before, top, latency_ms, dropped)

    def infer(self, pixels: Array) -> Array:
        """The real values of the model's first output, flat, for a picture of any size."""
        sized = self.picture.sized(pixels)
        stored = (
            self._stored[sized, np.arange(self.picture.channels)]
            if self._stored.ndim > 1
            else np.take(self._stored, sized)
        )
        values: Array = self._output.real(self.runtime.invoke([stored[None]])[0]).reshape(-1).astype(np.float32)
        return values

    def _probabilities(self, values: Array) -> Array:
        """Scores from 0 to 1. A model that has once given anything else gives logits."""
        self._logits = self._logits or bool(values.min() < 0 or values.max() > 1.001)
        if not self._logits:
            return values
        powers = np.exp(values - values.max())
        result: Array = powers / powers.sum()
        return result

    def _smoothed(self, scores: Array) -> Array:
        if self._scores is not None:
            scores = self._smoothing * self._scores + (1 - self._smoothing) * scores
        self._scores = scores
        return scores

    def _follow(self, leader: str, score: float) -> None:
        """Takes over the leading class once it has led often enough; none once none has for as long."""
        name = leader if score >= self._threshold else ""
        self._led = self._led + 1 if name == self._leader else 1
        self._leader = name
        if self._led >= self._debounce:
            self._label = name or None

    def label(self, index: int) -> str:
        """What a class is called."""
        return self._labels[index] if index < len(self._labels) else str(index)

    def _check_shape(self) -> None:
        wanted = (1, self.picture.height, self.picture.width, self.picture.channels)
        if wanted != self._input.shape:
            raise UsageError(
                f"the model declares pictures of {list(wanted)}, and its input is {list(self._input.shape)}",
                "Declare its preprocessing again.",
            )


def declaration(model: Path) -> Preprocessing:
    """What a model says of its input: in a .json file beside it (`sdk flash` writes one), or in the model itself."""
    beside = model.with_suffix(".json")
    if beside.is_file():
        return from_json(beside.read_bytes())
    try:
        return (attached(model.read_bytes()) if model.suffix == ".tflite" else None) or Preprocessing()
    except ImportError:
        return Preprocessing()  # a board, to which the file was copied by hand


def _picture_input(runtime: Runtime) -> Tensor:
    if len(runtime.inputs) == 1:
        tensor = next(iter(runtime.inputs.values()))
        if len(tensor.shape) == 4 and tensor.shape[0] == 1 and tensor.shape[3] in (1, 3, 4):
            return tensor
    raise UnsupportedError("the model does not take one picture [1, height, width, channels]", "Use sdk.runtime.")


def default_picture(tensor: Tensor) -> Picture:
    """For a model that declares nothing: black and white are the ends of a quantized input's range, else 0 and 1."""
    low, high = 0.0, 1.0
    if tensor.scale:
        limits = np.iinfo(tensor.dtype)
        low, high = (tensor.scale * (int(end) - tensor.zero_point) for end in (limits.min, limits.max))
    std = 255 / (high - low)
    _, height, width, channels = tensor.shape
    return Picture(height, width, channels, fit="crop", mean=(-low * std,), std=(std,))
