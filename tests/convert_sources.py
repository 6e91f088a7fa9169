"""Builds, by TensorFlow, a source for every route of its converter: `python convert_sources.py FOLDER`.

Run by tests/test_convert_routes.py in the environment that `sdk convert` makes. The task is a small one that trains in
seconds: which quarter of a 12x12 picture is bright.
"""

from __future__ import annotations

import os
import shutil
import sys
import wave
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
SIZE, CLASSES = 12, 4
LABELS = "upper left", "upper right", "lower left", "lower right"
RATE_HZ = 16000


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [count, 12, 12, 1] from -1 to 1, and classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    x = rng.normal(-0.4, 0.25, (count, SIZE, SIZE, 1))
    half = SIZE // 2
    for picture, label in zip(x, y, strict=True):
        row, column = half * (label // 2), half * (label % 2)
        picture[row : row + half, column : column + half] += 0.5
    return x.clip(-1, 1).astype(np.float32), y


def network() -> tf.keras.Model:
    """A small convolutional network, trained."""
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input((SIZE, SIZE, 1)),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*pictures(1000, 1), epochs=4, verbose=0)
    return model


class Scaled(tf.Module):
    """A module with a variable and one function."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(3).normal(size=(SIZE * SIZE, CLASSES)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 1], tf.float32, name="picture")])
    def __call__(self, picture: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(tf.reshape(picture, [-1, SIZE * SIZE]) @ self.weights / SIZE)


def old_graph(fake_quant: bool = False) -> tuple[v1.Session, v1.Tensor, v1.Tensor]:
    """A TensorFlow 1 session with trained variables of the old kind."""

    def ranged(value: v1.Tensor, low: float, high: float) -> v1.Tensor:
        return tf.quantization.fake_quant_with_min_max_args(value, low, high) if fake_quant else value

    v1.disable_resource_variables()
    rng = np.random.default_rng(5)
    with v1.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, SIZE, SIZE, 1], "image")
        kernel = v1.get_variable("kernel", initializer=rng.normal(0, 0.3, (3, 3, 1, 8)).astype(np.float32))
        weights = v1.get_variable("weights", initializer=rng.normal(0, 0.1, (288, CLASSES)).astype(np.float32))
        h = v1.nn.conv2d(ranged(x, -1, 0.9921875), ranged(kernel, -1.0, 1.0), [1, 2, 2, 1], "SAME")
        h = ranged(v1.nn.relu6(h), 0.0, 6.0)
        h = v1.matmul(v1.reshape(h, [-1, 288]), ranged(weights, -0.5, 0.5))
        y = v1.identity(ranged(h, -4.0, 4.0), "scores")
        session = v1.Session()
        session.run(v1.global_variables_initializer())
    return session, x, y


def frozen(session: v1.Session, output: str) -> v1.GraphDef:
    return v1.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), [output])


def recurrent(keras: Any, layer: str) -> Any:
    """A picture's rows, one after the other, by a recurrent layer of either Keras."""
    keras.utils.set_random_seed(4)
    layers = keras.layers
    rows, last = layers.Reshape((SIZE, SIZE)), layers.Dense(CLASSES, activation="softmax")
    return keras.Sequential([layers.Input((SIZE, SIZE, 1)), rows, getattr(layers, layer)(6), last])


def two_ends() -> Any:
    """Two inputs and two outputs, whose names come in another order than they, and outputs of the same size."""
    keras.utils.set_random_seed(5)
    layers = keras.layers
    picture, note = layers.Input((SIZE, SIZE, 1), name="picture"), layers.Input((3,), name="note")
    both = layers.Concatenate()([layers.Flatten()(picture), note])
    first = layers.Dense(CLASSES, activation="softmax", name="quarter")(both)
    return keras.Model([picture, note], [first, layers.Dense(CLASSES, name="amount")(both)])


def both_directions() -> Any:
    """LSTMs in both directions, whose values have ranges far apart."""
    tf.keras.utils.set_random_seed(6)
    layers = tf.keras.layers
    rows, each = layers.Reshape((SIZE, SIZE)), layers.Bidirectional(layers.LSTM(6))
    model = tf.keras.Sequential([layers.Input((SIZE, SIZE, 1)), rows, each])
    model.set_weights([w * (2.0 if i < 3 else 0.2) for i, w in enumerate(model.get_weights())])
    return model


def training_graph() -> tuple[v1.Session, v1.Tensor, v1.Tensor]:
    """A session whose graph trains: labels, dropout, a loss, an optimizer, summaries."""
    rng = np.random.default_rng(6)
    with v1.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, SIZE, SIZE, 1], "image")
        labels = v1.placeholder(tf.int64, [None], "label")
        keep = v1.placeholder_with_default(1.0, [], "keep_prob")
        weights = v1.get_variable("weights", initializer=rng.normal(0, 0.1, (144, CLASSES)).astype(np.float32))
        h = v1.nn.dropout(v1.reshape(x, [-1, 144]), keep_prob=keep)
        logits = v1.matmul(h, weights, name="logits")
        y = v1.nn.softmax(logits, name="scores")
        loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
        v1.summary.scalar("loss", loss)
        v1.train.AdamOptimizer(1e-2).minimize(loss)
        session = v1.Session()
        session.run(v1.global_variables_initializer())
    return session, x, y


def switched_graph() -> v1.GraphDef:
    """A frozen graph that normalizes otherwise while it trains, and then assigns."""
    v1.disable_control_flow_v2()
    v1.disable_resource_variables()
    with v1.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, SIZE, SIZE, 1], "image")
        is_training = v1.placeholder(tf.bool, [], "is_training")
        mean = v1.get_variable("mean", initializer=np.float32(-0.2))

        def trained() -> v1.Tensor:
            with v1.control_dependencies([v1.assign(mean, v1.reduce_mean(x))]):
                return x - v1.reduce_mean(x)

        h = v1.cond(is_training, trained, lambda: x - mean)
        weights = np.random.default_rng(7).normal(0, 0.1, (144, CLASSES)).astype(np.float32)
        v1.nn.softmax(v1.matmul(v1.reshape(h, [-1, 144]), weights), name="scores")
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            return frozen(session, "scores")


def unsupported() -> tf.Module:
    """A module with an operator that TensorFlow Lite has not."""

    class Inverse(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 3, 3], tf.float32, name="matrix")])
        def __call__(self, matrix: tf.Tensor) -> tf.Tensor:
            return tf.linalg.inv(matrix, name="turned")

    return Inverse()


class Many(tf.Module):
    """A module with two functions."""

    @tf.function(input_signature=[tf.TensorSpec([1, 4])])
    def one(self, values: tf.Tensor) -> tf.Tensor:
        return values + 1.0

    @tf.function(input_signature=[tf.TensorSpec([1, 4])])
    def two(self, values: tf.Tensor) -> tf.Tensor:
        return values * 3.0

    @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.complex64)])
    def three(self, values: tf.Tensor) -> tf.Tensor:
        return tf.math.real(values)


MODULE = """
import numpy as np
import tensorflow as tf

from convert_sources import Many, Scaled, pictures

many = Many()
scaled = Scaled()
concrete = scaled.__call__.get_concrete_function()


def samples():
    for picture in pictures(40, 2)[0]:
        yield [picture[None]]


def broken():
    return {}["weights"]


def stopping():
    yield from samples()
    raise OSError("the recordings end")
"""


def keywords(folder: Path) -> None:
    """A network for rows of features, not trained, and sounds of as many classes as labels.txt names."""
    layers = tf.keras.layers
    tf.keras.Sequential([layers.Input((49, 40)), layers.Flatten(), layers.Dense(CLASSES, "softmax")]).save(
        folder / "kws.keras"
    )
    rng = np.random.default_rng(3)
    for name in LABELS:
        (folder / "words" / name).mkdir(parents=True)
        for i in range(2):
            with wave.open(str(folder / "words" / name / f"{i}.wav"), "wb") as sound:
                sound.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
                sound.writeframes(rng.normal(0, 3000, RATE_HZ).astype("<i2").tobytes())


def older(folder: Path) -> None:
    """Recurrent layers, and graphs that were saved with what trains them."""
    for layer in ("LSTM", "GRU"):
        recurrent(tf.keras, layer).save(folder / f"{layer}.h5")
        recurrent(keras, layer).save(folder / f"{layer}.keras")
    both_directions().save(folder / "both.h5")
    layers = tf.keras.layers
    each = [
        layers.Input((SIZE, SIZE, 1), batch_size=1),
        layers.Reshape((SIZE, SIZE)),
        layers.LSTM(CLASSES, stateful=True),
    ]
    tf.keras.Sequential(each).save(folder / "stateful.h5")
    tf.saved_model.save(Many(), str(folder / "many"))
    network().save_weights(folder / "weights.h5")
    keras.Sequential([keras.layers.Input((4,)), keras.layers.Lambda(lambda values: 2 * values)]).save(
        folder / "code.keras"
    )
    two_ends().save(folder / "two_ends.keras")
    two_ends().export(folder / "two_ends")
    x = pictures(30, 3)[0]
    np.savez(folder / "two_ends.npz", picture=x, note=np.random.default_rng(4).normal(size=(30, 3)).astype(np.float32))
    session, x, y = training_graph()
    with session.graph.as_default():
        (folder / "one_file").mkdir()
        v1.train.Saver(write_version=v1.train.SaverDef.V1).save(session, str(folder / "one_file/model.ckpt"))
        v1.train.Saver().save(session, str(folder / "training/model.ckpt"))
        builder, info = v1.saved_model.Builder(str(folder / "tagged_train")), v1.saved_model.build_tensor_info
        signature = v1.saved_model.build_signature_def({"image": info(x)}, {"scores": info(y)}, "predict")
        builder.add_meta_graph_and_variables(session, ["train"], {"serving_default": signature})
        builder.save()
    (folder / "switched.pb").write_bytes(switched_graph().SerializeToString())
    (folder / "dropout.pb").write_bytes(frozen(session, "scores").SerializeToString())


def main(folder: Path) -> None:
    """Writes everything."""
    model = network()
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save(folder / "saved_model")
    tf.saved_model.save(unsupported(), str(folder / "unsupported"))
    (folder / "my_module.py").write_text(MODULE)
    shutil.copy(__file__, folder)

    session, x, y = old_graph()
    with session.graph.as_default():
        v1.train.Saver().save(session, str(folder / "checkpoint/model.ckpt"))
        v1.saved_model.simple_save(session, str(folder / "saved_model_v1"), {"image": x}, {"scores": y})
    graph = frozen(session, "scores")
    (folder / "frozen.pb").write_bytes(graph.SerializeToString())
    (folder / "frozen.pbtxt").write_text(str(graph))
    (folder / "graph.pbtxt").write_text(str(session.graph.as_graph_def(add_shapes=True)))
    (folder / "fake_quant.pb").write_bytes(frozen(old_graph(fake_quant=True)[0], "scores").SerializeToString())

    older(folder)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in LABELS))
    keywords(folder)
    np.save(folder / "train.npy", pictures(60, 2)[0])
    np.savez(folder / "test.npz", x=pictures(200, 9)[0], y=pictures(200, 9)[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
