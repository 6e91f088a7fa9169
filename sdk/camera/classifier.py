"""A model that says what a whole frame is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sdk.camera.sources import Source
from sdk.camera.watcher import Box, Ranking, Watcher
from sdk.errors import UsageError
from sdk.runtime import Runtime
from sdk.runtime.tensors import Array


class Classifier(Watcher):
    """See Watcher. A class is held to be seen when it has led for `debounce` frames. `smoothing`, from 0 to below 1, is
    the share of the frames before in a score."""

    def __init__(self, model: str | Path | Runtime, source: Source, *, smoothing: float = 0.0, **options: Any) -> None:
        if not 0 <= smoothing < 1:
            raise UsageError(f"smoothing is {smoothing}", "Give a share from 0 to below 1.")
        super().__init__(model, source, **options)
        self._output = next(iter(self.runtime.outputs.values()))
        classes = int(np.prod(self._output.shape))
        if self._labels and len(self._labels) != classes:
            raise UsageError(
                f"there are {len(self._labels)} labels, and the model has {classes} classes",
                "Give one name for each class, one a line; some lists have a name for the background, others not.",
            )
        self._smoothing = smoothing
        self._scores: Array | None = None
        self._logits = False
        self._leader, self._led = "", 0

    def _look(self, pixels: Array) -> tuple[Ranking, tuple[Box, ...] | None]:
        scores = self._smoothed(self._probabilities(self.infer(pixels)))
        order = np.argsort(-scores, kind="stable")[: self._top]
        return tuple((self.label(int(i)), float(scores[i])) for i in order), None

    def infer(self, pixels: Array) -> Array:
        """The real values of the model's first output, flat, for a picture of any size."""
        stored = self.runtime.invoke([self.preparation.stored(pixels)])[0]
        values: Array = self._output.real(stored).reshape(-1).astype(np.float32)
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

    def _hold(self, top: Ranking) -> tuple[str, ...]:
        """Takes over the leading class once it has led often enough; none once none has for as long."""
        leader, score = top[0]
        name = leader if score >= self._threshold else ""
        self._led = self._led + 1 if name == self._leader else 1
        self._leader = name
        if self._led < self._debounce:
            return self._held
        return (name,) if name else ()
