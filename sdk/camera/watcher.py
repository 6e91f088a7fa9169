"""The loop that classifiers and detectors share: a frame in, what is seen in it out, and labels that do not flicker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdk.camera.prepare import Corners, Preparation
from sdk.camera.sources import Frame, Latest, Source
from sdk.closing import Closing
from sdk.errors import UsageError
from sdk.preprocess import declaration
from sdk.runtime import Runtime
from sdk.runtime.tensors import Array

Ranking = tuple[tuple[str, float], ...]  # names and scores, the best first


@dataclass(frozen=True)
class Box:
    """Something that a detector has found, and where in the frame."""

    label: str
    score: float
    corners: Corners

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        place = [round(each, 4) for each in self.corners]
        return {"label": self.label, "score": round(self.score, 4), "box": place}


@dataclass(frozen=True)
class Result:
    """What one frame is. `labels`: what has been seen in enough frames in a row, the best first; `changed`: since the
    last frame. `top`: the best classes of this frame, with smoothed scores. `latency_ms`: from capture to here.
    `boxes`: None from a classifier."""

    frame: Frame
    number: int
    labels: tuple[str, ...]
    changed: bool
    top: Ranking
    latency_ms: float
    dropped: int  # frames that came while others were computed, from the start on
    boxes: tuple[Box, ...] | None = None

    @property
    def label(self) -> str | None:
        """The best of `labels`."""
        return self.labels[0] if self.labels else None

    @property
    def score(self) -> float:
        """That of the best class of this frame."""
        return self.top[0][1] if self.top else 0.0

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
        } | ({} if self.boxes is None else {"labels": self.labels, "boxes": [box.as_dict() for box in self.boxes]})


class Watcher(Closing):
    """The results of a model on the frames of a source, in a `for` loop; base of `Classifier` and `Detector`.

    `model`: a file, or what has loaded it. What counts has a score from `threshold` on, for `debounce` frames.
    `labels`: names of the classes, instead of those in the model. Further arguments are those of `sdk.runtime.Runtime`.
    """

    def __init__(
        self,
        model: str | Path | Runtime,
        source: Source,
        *,
        labels: Sequence[str] = (),
        top: int = 3,
        threshold: float = 0.5,
        debounce: int = 1,
        **options: Any,
    ) -> None:
        if not (top >= 1 and 0 <= threshold <= 1 and debounce >= 1):
            raise UsageError(
                "top, threshold or debounce is out of range", "top and debounce from 1, threshold from 0 to 1."
            )
        self.runtime = model if isinstance(model, Runtime) else Runtime(model, **options)
        declared = declaration(self.runtime.model)
        self.preparation = Preparation(declared.picture, self.runtime.inputs.values(), self.runtime.outputs.values())
        self._labels = tuple(labels) or declared.labels
        self._source, self._top = source, top
        self._threshold, self._debounce = threshold, debounce
        self._held: tuple[str, ...] = ()

    def close(self) -> None:
        """Lets the model go; the source stays its owner's."""
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
        top, boxes = self._look(frame.pixels)
        before, self._held = self._held, self._hold(top)
        latency_ms = 1000 * (time.monotonic() - frame.taken_s)
        changed = set(before) != set(self._held)
        return Result(frame, number, self._held, changed, top[: self._top], latency_ms, dropped, boxes)

    def _look(self, pixels: Array) -> tuple[Ranking, tuple[Box, ...] | None]:
        """The classes of a frame, and where they are."""
        raise NotImplementedError

    def _hold(self, top: Ranking) -> tuple[str, ...]:
        """The labels that hold after this frame."""
        raise NotImplementedError

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of classes that are known."""
        return self._labels

    def label(self, index: int) -> str:
        """What a class is called."""
        return self._labels[index] if 0 <= index < len(self._labels) else str(index)
