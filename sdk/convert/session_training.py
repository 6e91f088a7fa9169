"""A network trained on pictures of classes: runs in `sdk.convert.worker`, and is then converted as any other source.

The trunk makes numbers of a picture, the head makes classes of these. A pretrained trunk stays as it is while the head
is trained, so that each picture goes through it once; without pretrained weights both are trained from the start.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from sdk.convert import session_tensorflow
from sdk.convert.tensorflow_objects import of_object
from sdk.convert.trunks import trunk_of

BATCH = 32
DROPOUT = 0.2
RATE = {"head": 5e-3, "whole": 3e-3, "fine": 2e-4}  # of learning at the start of each phase, falling to nothing
SHIFT = 12  # a picture trained on is moved by up to a twelfth of its size, and its light changes by up to 15 %
LIGHT = 0.15
LEAST = 1.0  # of the mean deviation: what a feature counts as at least
WEIGHT_DECAY = 1e-3
EPSILON = 1e-6
MOMENTUM = 0.9  # of the batches' averages: Keras' 0.999 is for a hundred times as many steps


class Session(session_tensorflow.Session):
    """`open_network`, `load`, then phases of `begin` and `epoch`; `finish` makes of it the source that is converted."""

    def open_network(self, weights: str, seed: int, shape: list[int], classes: int, **named: Any) -> dict[str, Any]:
        """`named`: backbone and alpha, of a trunk that is not a whole model in the file `weights`."""
        tf.keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        self.rng = np.random.default_rng(seed)
        self.trunk = trunk_of(weights, shape, **named)
        layers = tf.keras.layers
        decay = tf.keras.regularizers.L2(WEIGHT_DECAY)
        scores = layers.Dense(classes, activation="softmax", kernel_regularizer=decay, name="scores")
        self.head = tf.keras.Sequential([layers.Input(self.trunk.output_shape[1:]), layers.Dropout(DROPOUT), scores])
        return {"parameters": self.trunk.count_params() + self.head.count_params()}

    def load(self, pixels: str, labels: list[int], trained: int, mean: list[float], std: list[float]) -> None:
        """`pixels`: an .npy of uint8 [n, height, width, channels]; the first `trained` are learnt from."""
        self.pixels, self.labels, self.trained = np.load(pixels, mmap_mode="r"), np.array(labels), trained
        self.features: Any = None
        self.mean, self.std = np.array(mean, np.float32), np.array(std, np.float32)

    def begin(self, phase: str, epochs: int) -> None:
        """`phase`: 'head', 'whole' (from the start) or 'fine' (from what is there already)."""
        self._fold()
        if phase == "head":
            self._standardize()
        for layer in self.trunk.layers:
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                layer.trainable, layer.momentum = phase == "whole", MOMENTUM
        self.model = self.head if phase == "head" else self._whole()
        steps = epochs * math.ceil(self.trained / BATCH)
        rate = tf.keras.optimizers.schedules.CosineDecay(RATE[phase], steps)
        self.model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])

    def epoch(self) -> dict[str, float]:
        """Shows every picture once. Loss and accuracy of it, and the accuracy on what is held out."""
        order = self.rng.permutation(self.trained)
        self.model.reset_metrics()
        found: dict[str, float] = {}
        for part in np.split(order, range(BATCH, len(order), BATCH)):
            found = self.model.train_on_batch(
                self._values(part, moved=True), self.labels[part], reset_metrics=False, return_dict=True
            )
        rest = np.arange(self.trained, len(self.labels))
        parts = np.array_split(rest, math.ceil(len(rest) / BATCH))
        right = sum(self._right(part) for part in parts)
        return {"loss": float(found["loss"]), "accuracy": float(found["accuracy"]), "held_out": right / len(rest)}

    def _standardize(self) -> None:
        """What the trunk makes of all pictures, each feature in units of its deviation: heads learn that much faster.
        Features that hardly change are not blown up, for their weights would be too large for 8 bits."""
        parts = np.array_split(np.arange(len(self.labels)), math.ceil(len(self.labels) / BATCH))
        features = np.concatenate([self.trunk.predict_on_batch(self._real(part)) for part in parts])
        seen = features[: self.trained]
        deviation = seen.std(axis=0)
        self.units = seen.mean(axis=0), np.maximum(deviation, LEAST * deviation.mean() + EPSILON)
        self.features = (features - self.units[0]) / self.units[1]

    def _fold(self) -> None:
        """The head for features as they come."""
        if self.features is not None:
            self.features, (mean, deviation) = None, self.units
            kernel, bias = self.head.get_weights()
            kernel = kernel / deviation[:, None]
            self.head.set_weights([kernel, bias - mean @ kernel])

    def finish(self) -> dict[str, Any]:
        """What is converted: as of `open`."""
        self._fold()
        self.shapes = {}
        self._take(of_object(self._whole()))
        return self._about()

    def _whole(self) -> Any:
        return tf.keras.Model(self.trunk.input, self.head(self.trunk.output))

    def _right(self, part: Any) -> int:
        scores = self.model.predict_on_batch(self._values(part, moved=False))
        return int(np.sum(scores.argmax(axis=1) == self.labels[part]))

    def _values(self, part: Any, moved: bool) -> Any:
        """What the model takes for these pictures."""
        if self.features is not None:
            return self.features[part]
        return np.stack([self._moved(x) for x in self._real(part)]) if moved else self._real(part)

    def _real(self, part: Any) -> Any:
        return (self.pixels[part].astype(np.float32) - self.mean) / self.std

    def _moved(self, picture: Any) -> Any:
        """A picture a little aside, in another light."""
        height, width = picture.shape[:2]
        y, x = height // SHIFT, width // SHIFT
        top, left = self.rng.integers(0, 2 * y, endpoint=True), self.rng.integers(0, 2 * x, endpoint=True)
        padded = np.pad(picture, ((y, y), (x, x), (0, 0)), mode="edge")
        light = np.float32(1 + self.rng.uniform(-LIGHT, LIGHT))
        return padded[top : top + height, left : left + width] * light
