"""Trains the digit classifier and writes digits_int8.tflite and digits_float32.tflite beside this file.

Needs TensorFlow, which the SDK itself never imports:

    pip install -e '.[convert,dev]'
    python examples/digits/train.py

Seeds, data and split are fixed; TensorFlow's arithmetic is not the same on every processor, so that a retrained model
may differ in single bits, and by a digit or two in accuracy, from the committed one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # Keras 3 converts to needless shape arithmetic
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import data
import evaluate
import tensorflow as tf

from sdk.load import load_bytes

SEED = 1
EPOCHS = 60
BATCH = 32
LEARNING_RATE = 4e-3
HERE = Path(__file__).resolve().parent

layers = tf.keras.layers


def normalized(x: Any) -> Any:
    """Batch normalization, which the converter folds into the convolution before it."""
    return layers.BatchNormalization(momentum=0.9)(x)


def residual(x: Any) -> Any:
    """x plus a depthwise-separable convolution of x; same shape."""
    y = layers.ReLU()(normalized(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    y = normalized(layers.Conv2D(x.shape[-1], 1, use_bias=False)(y))
    return layers.ReLU()(layers.Add()([x, y]))


def network(batch: int | None) -> Any:
    """The classifier: float32 [batch, 8, 8, 1] in 0..1 to ten class probabilities. 11,170 parameters."""
    image = layers.Input((8, 8, 1), batch_size=batch, name="image")
    x = layers.ReLU()(normalized(layers.Conv2D(12, 3, padding="same", use_bias=False)(image)))  # 8 x 8 x 12
    x = residual(x)
    x = layers.ReLU()(normalized(layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x)))  # 4 x 4 x 32
    x = residual(x)
    x = layers.ReLU()(normalized(layers.Conv2D(32, 2, padding="valid", use_bias=False)(x)))  # 3 x 3 x 32
    x = layers.Flatten()(layers.AveragePooling2D(2, strides=1)(x))  # 128
    x = layers.Dense(10)(layers.Dropout(0.2)(x))
    return tf.keras.Model(image, layers.Softmax(name="digit")(x))


def train(images: NDArray[np.float32], labels: NDArray[np.int64]) -> Any:
    """A network trained on these digits, as one that takes a single image."""
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    model = network(batch=None)
    steps = -(-len(images) // BATCH) * EPOCHS
    rate = tf.keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    weights = model.get_weights()
    tf.keras.backend.clear_session()  # layer names, which the .tflite shows, count from one again
    single = network(batch=1)
    single.set_weights(weights)
    return single


def convert_float32(model: Any) -> bytes:
    """The model as a float32 .tflite."""
    return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def convert_int8(model: Any, images: NDArray[np.float32]) -> bytes:
    """The model as an int8 .tflite with int8 input and output, calibrated on `images`."""

    def calibration() -> Iterator[list[NDArray[np.float32]]]:
        yield from ([image[np.newaxis]] for image in images)

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = calibration
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def check_input(model: bytes) -> None:
    """Exits where the model's input is not quantized as data.quantize() does it."""
    graph = load_bytes(model)
    quantization = graph.tensors[graph.inputs[0]].quantization
    assert quantization is not None
    (scale,), (zero_point,) = quantization.scale, quantization.zero_point
    if not np.isclose(scale, data.SCALE, rtol=1e-6) or zero_point != data.ZERO_POINT:
        sys.exit(f"The model's input has scale {scale} and zero point {zero_point}: write them to data.py, then retry.")


def main() -> None:
    """Trains, and writes both models or, where their input is not as expected, none."""
    images, labels, _, _ = data.split()
    model = train(images, labels)
    int8 = convert_int8(model, images)
    check_input(int8)
    (HERE / "digits_float32.tflite").write_bytes(convert_float32(model))
    (HERE / "digits_int8.tflite").write_bytes(int8)
    evaluate.main()


if __name__ == "__main__":
    main()
