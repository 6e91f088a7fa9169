"""The digits and how they are split: the one home of both, for training, evaluation and the demo.

scikit-learn ships 1797 handwritten digits of 8 x 8 pixels, each pixel an integer from 0 (paper) to 16 (ink): the
test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI Machine Learning Repository,
1998). 400 of them, drawn once by a fixed seed and balanced over the ten classes, are held out: neither training nor
calibration ever sees them.

    python examples/digits/data.py --npz FILE

writes the held-out digits, for `sdk verify --dataset FILE`: float32 images in 0..1, which fit both models, and labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HELD_OUT_COUNT = 400
SPLIT_SEED = 2024

# How the model reads a pixel: value = SCALE * (int8 + 128), in 0..1. train.py refuses to write a model that differs.
SCALE = 1.0 / 255.0
ZERO_POINT = -128
INK = 16.0  # the darkest pixel of the data set


def split() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Training images and labels, then held-out ones.

    Images are float32 [n, 8, 8, 1] in 0..1, labels int64 [n] in 0..9; n is 1397 and HELD_OUT_COUNT.
    """
    digits: Any = load_digits()
    images = (digits.images / INK).astype(np.float32)[..., np.newaxis]
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=HELD_OUT_COUNT, random_state=SPLIT_SEED, stratify=digits.target
    )
    return train_x, train_y, test_x, test_y


def quantize(images: NDArray[np.float32]) -> NDArray[np.int8]:
    """Float32 pixels in 0..1 as the int8 values that the model takes; same shape."""
    values: NDArray[np.float32] = np.rint(images / SCALE) + ZERO_POINT
    return values.clip(-128, 127).astype(np.int8)


def held_out(count: int = HELD_OUT_COUNT) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """The first `count` held-out digits, always in the same order: images int8 [count, 8, 8, 1], labels [count].

    Raises ValueError where `count` is not in 1..HELD_OUT_COUNT.
    """
    if not 1 <= count <= HELD_OUT_COUNT:
        raise ValueError(f"{count} held-out digits were asked for; there are 1 to {HELD_OUT_COUNT}.")
    _, _, images, labels = split()
    return quantize(images[:count]), labels[:count]


def main() -> None:
    """Writes the held-out digits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", type=Path, required=True, metavar="FILE", help="where to write")
    path: Path = parser.parse_args().npz
    _, _, images, labels = split()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, images=images, labels=labels)
    print(f"wrote {path}: {len(labels)} digits")


if __name__ == "__main__":
    main()
