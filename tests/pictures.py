"""Real pictures for tests: the handwritten digits of scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def write_digits(folder: Path, each: int) -> Path:
    """`each` digits of every class as .png, a folder a class."""
    found = load_digits()
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
        for i, pixels in enumerate(found.images[found.target == label][:each]):
            Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(folder / str(label) / f"{i}.png")
    return folder
