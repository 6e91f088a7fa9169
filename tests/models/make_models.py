"""Writes the small models of this folder, each as TensorFlow's own converter makes it.

    pip install -e '.[convert,dev]'
    python tests/models/make_models.py [NAME ...]

A model is the function of its name. Weights are random with a fixed seed: these models are for arithmetic and for the
shapes that files take, not for sense. Prints the rows of README.md's table.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # Keras 3 leaves variables in concrete functions
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from sdk.load import load

SEED = 7
CALIBRATION_STEPS = 20
HERE = Path(__file__).resolve().parent
MODELS: dict[str, Callable[[], bytes]] = {}

layers = tf.keras.layers


def model(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """Registers a function that returns the bytes of the .tflite file of its name."""
    MODELS[make.__name__] = make
    return make


# Conversion


def of_keras(network: Any) -> Any:
    """A converter for a Keras model."""
    return tf.lite.TFLiteConverter.from_keras_model(network)


def of_function(function: Any, owner: Any = None) -> Any:
    """A converter for a tf.function with an input signature; `owner` holds its variables, if it has any."""
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], owner or tf.Module())


def calibration(*shapes: Sequence[int]) -> Callable[[], Iterator[list[Any]]]:
    """A representative data set of random inputs of these shapes."""

    def inputs() -> Iterator[list[Any]]:
        random = np.random.default_rng(SEED)
        for _ in range(CALIBRATION_STEPS):
            yield [random.standard_normal(shape).astype(np.float32) for shape in shapes]

    return inputs


def integer(converter: Any, *shapes: Sequence[int], interface: Any = tf.int8) -> bytes:
    """Converts with int8 weights and activations; `interface` is the type of inputs and outputs."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = calibration(*shapes)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = interface
    return bytes(converter.convert())


def int16x8(converter: Any, *shapes: Sequence[int]) -> bytes:
    """Converts with int8 weights and int16 activations, inputs and outputs."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = calibration(*shapes)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int16
    return bytes(converter.convert())


# Networks that several models share


def randomized(network: Any) -> Any:
    """The Keras model with random weights, scaled by fan-in, and biases that are not zero."""
    random = np.random.default_rng(SEED)
    network.set_weights(
        [
            random.standard_normal(weight.shape) * (0.2 if weight.ndim == 1 else 2 * weight[..., 0].size ** -0.5)
            for weight in network.get_weights()
        ]
    )
    return network


SMALL = (1, 8, 8, 2)
VARIED = (1, 12, 10, 4)
SERIES = (1, 6, 5)


def small() -> Any:
    """A strided convolution and a classifier: SMALL to [1, 5]."""
    image = layers.Input(SMALL[1:], batch_size=1, name="image")
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Dense(5)(layers.Flatten()(x))
    return randomized(tf.keras.Model(image, layers.Softmax(name="class")(x)))


def varied() -> Any:
    """Dilation, depth multiplier, strides, both paddings and pools, ADD of two scales, MEAN: VARIED to [1, 5]."""
    image = layers.Input(VARIED[1:], batch_size=1, name="image")
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same", activation="relu6")(image)
    x = layers.DepthwiseConv2D(3, dilation_rate=2, padding="valid", activation="relu")(x)  # [1, 8, 6, 8]
    x = layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same")(x)  # [1, 4, 3, 16]
    largest = layers.MaxPooling2D((2, 3), strides=(1, 2), padding="same")(x)  # [1, 4, 2, 16]
    average = layers.AveragePooling2D(3, strides=(1, 2), padding="same")(x)
    x = layers.Add()([largest, layers.Conv2D(16, 1)(average)])
    x = layers.Conv2D(12, (3, 1), padding="valid", activation="relu")(layers.ReLU()(x))  # [1, 2, 2, 12]
    x = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
    return randomized(tf.keras.Model(image, layers.Softmax(name="class")(x)))


def dense_wide() -> Any:
    """Weights large enough (1024 numbers) that the converter compresses them: SMALL to [1, 10]."""
    image = layers.Input(SMALL[1:], batch_size=1, name="image")
    x = layers.Conv2D(32, 4, padding="valid", activation="relu")(image)
    x = layers.AveragePooling2D(2)(x)  # [1, 2, 2, 32]
    return randomized(tf.keras.Model(image, layers.Dense(10, name="score")(layers.Flatten()(x))))


def recurrent() -> Any:
    """An LSTM and a classifier: SERIES (steps of 5 features) to [1, 3]."""
    series = layers.Input(SERIES[1:], batch_size=1, name="series")
    return randomized(tf.keras.Model(series, layers.Dense(3, name="score")(layers.LSTM(8)(series))))


def reshaped() -> Any:
    """A tf.function whose batch is not known and whose reshape asks for it at run time: [n, 8, 8, 2] to [n, 5]."""
    random = np.random.default_rng(SEED)
    kernel = tf.constant(random.standard_normal((3, 3, 2, 4)) / 4, tf.float32)
    weights = tf.constant(random.standard_normal((36, 5)) / 6, tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, *SMALL[1:]), tf.float32, name="image")])
    def classify(image: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(image, kernel, 2, "VALID"))  # [n, 3, 3, 4]
        return tf.reshape(x, [tf.shape(x)[0], 36]) @ weights

    return classify


class Window(tf.Module):
    """Keeps the last three frames across calls and scores four."""

    FRAME = (1, 1, 4)

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(SEED)
        self.past = tf.Variable(tf.zeros((1, 3, 4)), name="past")
        self.weights = tf.constant(random.standard_normal((16, 2)) / 4, tf.float32)

    @tf.function(input_signature=[tf.TensorSpec(FRAME, tf.float32, name="frame")])
    def score(self, frame: Any) -> Any:
        """Scores [1, 2] of the last four frames."""
        window = tf.concat([self.past, frame], axis=1)
        self.past.assign(window[:, 1:])
        return tf.reshape(window, (1, 16)) @ self.weights


class Pair(tf.Module):
    """Two inputs and two outputs, named by a signature."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(SEED)
        self.weights = tf.Variable(tf.constant(random.standard_normal((6, 3)) / 2, tf.float32))

    @tf.function(
        input_signature=[
            tf.TensorSpec((1, 6), tf.float32, name="left"),
            tf.TensorSpec((1, 6), tf.float32, name="right"),
        ]
    )
    def compare(self, left: Any, right: Any) -> dict[str, Any]:
        """The sum [1, 6] and a score [1, 3] of it."""
        total = left + right
        return {"total": total, "score": tf.nn.softmax(total @ self.weights)}


# The models


@model
def int8_uint8_io() -> bytes:
    return integer(of_keras(small()), SMALL, interface=tf.uint8)


@model
def int8_float_io() -> bytes:
    return integer(of_keras(small()), SMALL, interface=tf.float32)


@model
def varied_int8() -> bytes:
    return integer(of_keras(varied()), VARIED)


@model
def varied_float32() -> bytes:
    return bytes(of_keras(varied()).convert())


@model
def varied_int16x8() -> bytes:
    return int16x8(of_keras(varied()), VARIED)


@model
def hybrid() -> bytes:
    converter = of_keras(dense_wide())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


@model
def hybrid_dense_per_tensor() -> bytes:
    """As `hybrid`, but FULLY_CONNECTED has one scale, so that tflite-runtime 2.14 can run it."""
    converter = of_keras(dense_wide())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return bytes(converter.convert())


@model
def float16_weights() -> bytes:
    converter = of_keras(dense_wide())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


@model
def lstm_int8() -> bytes:
    return integer(of_keras(recurrent()), SERIES)


@model
def lstm_float32() -> bytes:
    return bytes(of_keras(recurrent()).convert())


@model
def two_in_two_out_int8() -> bytes:
    pair = Pair()
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(pair, folder, signatures={"compare": pair.compare})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["compare"])
        return integer(converter, (1, 6), (1, 6))


@model
def dynamic_batch_int8() -> bytes:
    return integer(of_function(reshaped()), SMALL)


@model
def dynamic_batch_float32() -> bytes:
    return bytes(of_function(reshaped()).convert())


@model
def stateful_int8() -> bytes:
    window = Window()
    converter = of_function(window.score, window)
    converter.experimental_enable_resource_variables = True
    converter._experimental_variable_quantization = True  # else the state stays float32
    return integer(converter, Window.FRAME)


@model
def stateful_float32() -> bytes:
    window = Window()
    converter = of_function(window.score, window)
    converter.experimental_enable_resource_variables = True
    return bytes(converter.convert())


@model
def while_float32() -> bytes:
    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])
    def double_until_large(x: Any) -> Any:
        return tf.while_loop(lambda y: tf.reduce_sum(tf.abs(y)) < 100.0, lambda y: (y + y,), (tf.abs(x) + 0.25,))[0]

    return bytes(of_function(double_until_large).convert())


@model
def while_gru_float32() -> bytes:
    series = layers.Input(SERIES[1:], batch_size=1, name="series")
    return bytes(of_keras(randomized(tf.keras.Model(series, layers.GRU(4)(series)))).convert())


@model
def if_float32() -> bytes:
    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])
    def negate_or_double(x: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) < 0.0, lambda: -x, lambda: x + x)

    return bytes(of_function(negate_or_double).convert())


@model
def legacy_uint8() -> bytes:
    """As TensorFlow 1 made them: fake quantization in training, one scale a tensor, weights with a zero point."""
    v1 = tf.compat.v1
    random = np.random.default_rng(SEED)

    def weights(*shape: int, low: float, high: float) -> Any:
        values = random.uniform(low, high, shape).astype(np.float32)
        return tf.quantization.fake_quant_with_min_max_args(tf.constant(values), low, high)

    def biases(count: int) -> Any:
        return tf.constant(random.standard_normal(count) / 4, tf.float32)

    def activated(x: Any, high: float) -> Any:
        return tf.quantization.fake_quant_with_min_max_args(tf.nn.relu6(x), 0.0, high)

    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, SMALL, "image")
        x = tf.nn.conv2d(image, weights(3, 3, 2, 6, low=-0.4, high=0.7), 2, "SAME")
        x = activated(x + biases(6), 6.0)
        x = tf.nn.depthwise_conv2d(x, weights(3, 3, 6, 1, low=-0.9, high=0.5), (1, 1, 1, 1), "VALID")
        x = activated(x + biases(6), 3.0)
        x = tf.reshape(tf.nn.avg_pool2d(x, 2, 1, "VALID"), (1, 6))
        x = tf.matmul(x, weights(6, 5, low=-1.2, high=1.6)) + biases(5)
        x = tf.nn.softmax(tf.quantization.fake_quant_with_min_max_args(x, -8.0, 8.0))
        converter = v1.lite.TFLiteConverter.from_session(session, [image], [tf.identity(x, "class")])
        converter.inference_type = tf.uint8
        converter.quantized_input_stats = {"image": (128.0, 64.0)}  # mean, and 1 / scale
        return bytes(converter.convert())


def row(path: Path) -> str:
    """The model's row of the table in README.md."""
    graph = load(path)
    nodes = [node for part in (graph, *graph.subgraphs.values()) for node in part.nodes]
    operators = ", ".join(dict.fromkeys(node.op for node in nodes))
    return f"| {path.stem} | {path.stat().st_size:,} | {operators} |"


def main(names: Sequence[str]) -> None:
    for name in names or MODELS:
        tf.keras.backend.clear_session()
        path = HERE / f"{name}.tflite"
        path.write_bytes(MODELS[name]())
        print(row(path), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
