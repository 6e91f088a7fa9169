"""What `sdk train` makes of files of others, in TensorFlow's environment: `python convert_trunks.py FOLDER`.

Run by tests/test_convert_train.py. Leaves bare.h5, the weights of a MobileNet, in FOLDER.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from sdk.convert.trunks import trunk_of

SHAPE = [32, 32, 1]
OWN: dict[str, Any] = {"backbone": "mobilenet_v1", "alpha": 0.25}
PICTURES = np.random.default_rng(0).uniform(-1, 1, (4, *SHAPE)).astype(np.float32)


def network() -> tf.keras.Model:
    """A MobileNet with random weights, normalized so that each layer passes something on."""
    tf.keras.utils.set_random_seed(1)
    whole = tf.keras.applications.MobileNet(SHAPE, alpha=0.25, weights=None, classes=7)
    for layer in whole.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for _ in range(10):
        whole(PICTURES, training=True)
    return whole


def averaged(whole: tf.keras.Model, layer: str) -> np.ndarray:
    """What a layer makes of the pictures, averaged over each."""
    made = tf.keras.Model(whole.input, whole.get_layer(layer).output)(PICTURES, training=False)
    return made.numpy().mean(axis=(1, 2))


@contextlib.contextmanager
def refused(words: str) -> Iterator[None]:
    """Expects an error for the user, with a remedy."""
    try:
        yield
    except ValueError as error:
        message, remedy = error.args
        assert words in message, message
        assert remedy
    else:
        raise AssertionError(f"nothing was refused: {words}")


def main(folder: Path) -> None:
    """Checks everything."""
    whole = network()
    whole.save_weights(folder / "headed.h5")
    bare = tf.keras.applications.MobileNet(SHAPE, alpha=0.25, weights=None, include_top=False)
    bare.set_weights(whole.get_weights()[: len(bare.get_weights())])
    bare.save_weights(folder / "bare.h5")
    for name in ("whole.h5", "whole.keras"):
        whole.save(folder / name)
    (folder / "torn.h5").write_bytes((folder / "bare.h5").read_bytes()[:1000])

    want = averaged(whole, "conv_pw_13_relu")
    assert want.std() > 0.01
    for name in ("bare.h5", "headed.h5", "whole.h5", "whole.keras"):
        trunk = trunk_of(str(folder / name), SHAPE, **OWN)
        np.testing.assert_allclose(trunk(PICTURES, training=False), want, rtol=1e-4, atol=1e-5)
    for name, changed in (("bare.h5", {"alpha": 0.5}), ("headed.h5", {"backbone": "mobilenet_v2"})):
        with refused("holds weights of another network"):
            trunk_of(str(folder / name), SHAPE, **{**OWN, **changed})
    with refused("takes [32, 32, 1], pictures here are [48, 48, 1]"):
        trunk_of(str(folder / "whole.h5"), [48, 48, 1], **OWN)
    with refused("is no file of Keras"):
        trunk_of(str(folder / "torn.h5"), SHAPE, **OWN)
    with refused("Keras has no mobilenet_v1"):
        trunk_of("none", [16, 16, 1], **OWN)
    with refused("no weights of ImageNet for mobilenet_v1"):  # whoever runs this has made the network unreachable
        trunk_of("imagenet", [96, 96, 3], **OWN)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
