"""Prints how many held-out digits the committed models get right, by both reference implementations.

    python examples/digits/evaluate.py

Runs on the host, and needs no TensorFlow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import data
import numpy as np
from numpy.typing import NDArray

from sdk.oracle import IMPLEMENTATIONS, Oracle

HERE = Path(__file__).resolve().parent
MODELS = ("digits_int8.tflite", "digits_float32.tflite")


def outputs(model: bytes, images: NDArray[np.float32], implementation: str) -> NDArray[Any]:
    """The ten outputs for each image, [n, 10] in the model's type."""
    with Oracle(model, implementation) as oracle:
        (_, dtype) = oracle.inputs[0]
        inputs = data.quantize(images) if dtype == "int8" else images
        return np.concatenate([oracle.run([image[np.newaxis]]).outputs[0] for image in inputs])


def report(path: Path) -> str:
    """Two lines: size and accuracy over all held-out digits; agreement of the implementations."""
    _, _, images, labels = data.split()
    first, second = (outputs(path.read_bytes(), images, implementation) for implementation in IMPLEMENTATIONS)
    right = int((first.argmax(axis=1) == labels).sum())
    same = int((first == second).all(axis=1).sum())
    return (
        f"{path.name}: {path.stat().st_size:,} bytes, {right} of {len(labels)} held-out digits right "
        f"({100 * right / len(labels):.2f} %)\n"
        f"    {' and '.join(IMPLEMENTATIONS)} give the same bytes on {same} of {len(labels)}"
    )


def main() -> None:
    """Prints the report of both models."""
    for name in MODELS:
        print(report(HERE / name))


if __name__ == "__main__":
    main()
