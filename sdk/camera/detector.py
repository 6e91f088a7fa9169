"""A model that says what is where: a single-shot detector, whose last operator is TFLite_Detection_PostProcess."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from sdk.camera.classifier import Classifier
from sdk.camera.prepare import detection_order
from sdk.camera.sources import Source
from sdk.camera.watcher import Box, Ranking, Watcher
from sdk.errors import UnsupportedError, UsageError
from sdk.runtime import Runtime
from sdk.runtime.tensors import Array

BACKGROUND = "???"  # the first line of many lists of COCO's labels, which detectors do not count


class Detector(Watcher):
    """See Watcher. Each class is held to be seen, or no more, after `debounce` frames with or without it. A frame is
    stretched to the model's input, where the model does not declare anything else."""

    def __init__(self, model: str | Path | Runtime, source: Source, **options: Any) -> None:
        if options.pop("smoothing", 0):
            raise UsageError("smoothing is for classifiers, and this model is a detector", "Use debounce.")
        super().__init__(model, source, **options)
        order = detection_order(self.runtime.outputs.values())
        if order is None:
            raise UnsupportedError("the model has not the outputs of a detector", "Use sdk.camera.Classifier.")
        self._order = order
        if self._labels[:1] == (BACKGROUND,):
            self._labels = self._labels[1:]
        self._turning: Counter[str] = Counter()

    def _look(self, pixels: Array) -> tuple[Ranking, tuple[Box, ...] | None]:
        boxes = self.detect(pixels)
        best: dict[str, float] = {}
        for box in boxes:
            best.setdefault(box.label, box.score)
        return tuple(best.items()), boxes

    def detect(self, pixels: Array) -> tuple[Box, ...]:
        """What is in a picture of any size, with a score from the threshold on; the best first."""
        outputs = self.runtime.invoke([self.preparation.stored(pixels)])
        real = [tensor.real(array) for tensor, array in zip(self.runtime.outputs.values(), outputs, strict=True)]
        values = dict(zip(self._order, (array.reshape(-1) for array in real), strict=True))
        places = values["boxes"].reshape(-1, 4)
        count = int(np.clip(np.nan_to_num(values["count"][0]), 0, len(places)))
        table = np.column_stack([values["classes"], values["scores"], places])[:count]
        table = table[np.isfinite(table).all(axis=1) & (table[:, 1] >= self._threshold)]
        height, width = pixels.shape[:2]
        return tuple(
            Box(self.label(int(number)), score, self.preparation.in_frame((y0, x0, y1, x1), height, width))
            for number, score, y0, x0, y1, x1 in table[np.argsort(-table[:, 1], kind="stable")].tolist()
        )

    def _hold(self, top: Ranking) -> tuple[str, ...]:
        scores = dict(top)
        differs = scores.keys() ^ set(self._held)  # seen and not held, or held and not seen
        self._turning = Counter({name: self._turning[name] + 1 for name in differs})
        turned = {name for name, frames in self._turning.items() if frames >= self._debounce}
        for name in turned:
            del self._turning[name]
        return tuple(sorted(set(self._held) ^ turned, key=lambda name: (-scores.get(name, 0.0), name)))


def watch(model: str | Path, source: Source, **options: Any) -> Watcher:
    """A Detector or a Classifier of `model`, as its outputs are; `options` are those of either, and of Runtime."""
    own = {name: options.pop(name) for name in Runtime.__init__.__kwdefaults__ or {} if name in options}
    runtime = Runtime(model, **own)
    kind = Classifier if detection_order(runtime.outputs.values()) is None else Detector
    return kind(runtime, source, **options)
