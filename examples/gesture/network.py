"""The network and its training, for `sdk convert network:trained`, which calls it in TensorFlow's own environment.

Reads train.npz, which data.py writes. Seeds are fixed; TensorFlow's arithmetic is not the same on every processor, so
that a retrained model may differ in single bits, and by a window or two in accuracy, from the committed one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

SEED = 1
EPOCHS = int(os.environ.get("GESTURE_EPOCHS", "40"))
BATCH = 64
LEARNING_RATE = 3e-3
CALIBRATION = 200  # windows that ranges are measured with
STEEPEST = 0.5  # how far, in radians, a watch is turned on the arm in training

layers = tf.keras.layers


def windows() -> tuple[Any, Any]:
    """float32 [n, 100, 6] and labels [n]."""
    with np.load(Path(__file__).parent / "train.npz") as found:
        return found["x"], found["y"]


def samples() -> Iterator[list[Any]]:
    """Windows from all recordings, to calibrate with."""
    x, _ = windows()
    yield from ([each[np.newaxis]] for each in x[:: len(x) // CALIBRATION])


def step(x: Any, channels: int) -> Any:
    """A convolution over time that halves it; the converter folds the normalization into it."""
    x = layers.Conv2D(channels, (5, 1), strides=(2, 1), padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def network() -> Any:
    """Float32 [n, 100, 6] to seven probabilities."""
    movement = layers.Input((100, 6), name="movement")
    x = layers.Reshape((100, 1, 6))(movement)
    for channels in (16, 24, 32, 48):
        x = step(x, channels)
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return tf.keras.Model(movement, layers.Dense(7, activation="softmax", name="exercise")(x))


def turned(x: Any, rng: np.random.Generator) -> Any:
    """Windows as of watches that sit a little askew on the arm: acceleration and rotation, each turned alike."""
    angles = rng.uniform(-STEEPEST, STEEPEST, (len(x), 3))
    turns = np.tile(np.eye(3), (len(x), 1, 1))
    for axis in range(3):
        i, k = (axis + 1) % 3, (axis + 2) % 3
        turn = np.tile(np.eye(3), (len(x), 1, 1))
        turn[:, i, i] = turn[:, k, k] = np.cos(angles[:, axis])
        turn[:, i, k], turn[:, k, i] = -np.sin(angles[:, axis]), np.sin(angles[:, axis])
        turns = turns @ turn
    return np.concatenate([x[..., :3] @ turns, x[..., 3:] @ turns], axis=-1).astype(np.float32)


def trained() -> Any:
    """The network, trained on all of train.npz."""
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    rng = np.random.default_rng(SEED)
    x, y = windows()
    model = network()
    rate = tf.keras.optimizers.schedules.CosineDecay(LEARNING_RATE, EPOCHS * -(-len(x) // BATCH))
    model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    for _ in range(EPOCHS):
        model.fit(turned(x, rng), y, batch_size=BATCH, verbose=2)
    return model
