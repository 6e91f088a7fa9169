"""Networks of Keras without their last layers, with or without what they have learnt."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import h5py
import tensorflow as tf

from sdk.convert.tensorflow_files import load_keras

PATIENCE_S = 20  # without an answer from the network
BACKBONES = {"mobilenet_v1": "MobileNet", "mobilenet_v2": "MobileNetV2"}
PICTURE_RANK = 4
ZIP = b"PK"


def trunk_of(weights: str, shape: list[int], backbone: str, alpha: float) -> Any:
    """A Keras model that makes one vector of a picture. `weights`: 'none', 'imagenet' or a file: a whole model of
    Keras, whose last layers are cut off, or the weights of such a backbone."""
    if weights in ("none", "imagenet"):
        return _backbone(backbone, alpha, shape, None if weights == "none" else weights)
    if not _holds_model(weights):
        return _loaded(_backbone(backbone, alpha, shape, None), weights)
    trunk = _cut(load_keras(weights), weights)
    takes = list(trunk.input_shape[1:])
    if takes != shape:
        gray = " --gray" if takes[-1] == 1 else ""
        raise ValueError(
            f"the model in {weights} takes {takes}, pictures here are {shape}", f"Give --size {takes[0]}{gray}."
        )
    return trunk


def _backbone(name: str, alpha: float, shape: list[int], weights: str | None) -> Any:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_S)  # Keras sets none, and a network that answers nothing would be waited for
    try:
        make = getattr(tf.keras.applications, BACKBONES[name])
        return make(input_shape=shape, alpha=alpha, include_top=False, weights=weights, pooling="avg")
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        what = f"{name} with alpha {alpha:g} for pictures of {shape}"
        if weights is None:
            raise ValueError(f"Keras has no {what}: {first}", "Give another --size or --alpha.") from error
        raise ValueError(
            f"no weights of ImageNet for {what}: {first}",
            "They are fetched once, into ~/.keras/models. Without a network give them, or a model of your own, by "
            "--weights FILE.h5; or train from scratch: --weights none.",
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _holds_model(path: str) -> bool:
    """Whether a file is a whole model, rather than weights alone."""
    if Path(path).read_bytes()[: len(ZIP)] == ZIP:
        return True
    try:
        with h5py.File(path) as file:
            return "model_config" in file.attrs
    except OSError as error:
        raise ValueError(f"{path} is no file of Keras: {error}", "Give a .keras or .h5 file.") from error


def _cut(model: Any, path: str) -> Any:
    """A model up to where a picture becomes a vector, averaged."""
    if not isinstance(model, tf.keras.Model):
        raise ValueError(f"{path} is of Keras 3", "Save it as .h5 by tf_keras, or give a model of Keras 2.")
    layers = tf.keras.layers
    ends = layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.Flatten
    last = next((each for each in reversed(model.layers) if isinstance(each, ends)), None)
    if last is None or len(model.inputs) != 1 or {len(model.input_shape), len(last.input_shape)} != {PICTURE_RANK}:
        raise ValueError(f"{path} is no convolutional network for pictures", "Give one, or weights of a MobileNet.")
    return tf.keras.Model(model.input, layers.GlobalAveragePooling2D(name="average")(last.input))


def _loaded(trunk: Any, path: str) -> Any:
    """A backbone with the weights of a file, which may have a head too."""
    try:
        trunk.load_weights(path)
    except Exception:  # noqa: BLE001 - Keras raises anything for weights of a network with more layers
        _load_by_name(trunk, path)
    return trunk


def _load_by_name(trunk: Any, path: str) -> None:
    with h5py.File(path) as file:
        names = {name.decode() if isinstance(name, bytes) else name for name in file.attrs.get("layer_names", ())}
    missing = [each.name for each in trunk.layers if each.weights and each.name not in names]
    try:
        if missing:
            raise KeyError(f"they have no {missing[0]}")
        trunk.load_weights(path, by_name=True)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ValueError(
            f"{path} holds weights of another network: {first}",
            "Give the --backbone and --alpha that they belong to; or a whole model, as model.save writes it.",
        ) from error
