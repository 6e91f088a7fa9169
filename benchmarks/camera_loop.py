"""What the camera loop costs over a bare LiteRT loop on the same frames, in turns: CPU time of the thread, medians.

python -m benchmarks.camera_loop MODEL PICTURE      a classifier, and any picture
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from sdk.camera import Classifier, Frame
from sdk.runtime.tensors import Array

SIZES = ((320, 240), (640, 480), (1280, 720))
TURNS, WARM = 400, 20


class Frames:
    """A source of pictures that are in memory already."""

    live = False

    def __init__(self, pictures: list[Array]) -> None:
        self._pictures = itertools.cycle(pictures)

    def read(self) -> Frame:
        return Frame(next(self._pictures), time.monotonic(), "memory")

    def close(self) -> None:
        """Nothing is open."""


def bare_loop(model: str) -> Callable[[Array], list[tuple[int, float]]]:
    """What one writes by hand: the middle of the picture, the model, the three best classes."""
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    _, height, width, _ = taken["shape"]
    scale, zero_point = given["quantization"]

    def look(picture: Array) -> list[tuple[int, float]]:
        rows, columns = picture.shape[:2]
        side = min(rows, columns)
        left, top = (columns - side) / 2, (rows - side) / 2
        box = (left, top, left + side, top + side)
        pixels: Any = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box))
        if taken["dtype"] == np.int8:
            pixels = (pixels.astype(np.int16) - 128).astype(np.int8)
        elif taken["dtype"] == np.float32:
            pixels = pixels.astype(np.float32) / 255
        interpreter.set_tensor(taken["index"], pixels[None])
        interpreter.invoke()
        scores = interpreter.get_tensor(given["index"])[0]
        real = (scores.astype(np.float32) - zero_point) * scale if scale else scores
        return [(int(i), float(real[i])) for i in np.argsort(-real)[:3]]

    return look


def measure(model: str, picture: Image.Image, size: tuple[int, int]) -> None:
    """Prints a line for frames of `size`."""
    base = np.asarray(picture.convert("RGB").resize(size))
    pictures = [np.roll(base, 7 * i, axis=1) for i in range(16)]
    look, times = bare_loop(model), np.zeros((TURNS, 2))
    with Classifier(model, Frames(pictures), engine="litert") as results:
        loop = iter(results)
        for frame, row in zip(itertools.cycle(pictures), times, strict=False):
            start = time.thread_time()
            look(frame)
            between = time.thread_time()
            next(loop)
            row[:] = between - start, time.thread_time() - between
    bare, ours = 1000 * np.median(times[WARM:], axis=0)
    print(f"{size[0]}x{size[1]}: bare {bare:.2f} ms, the loop {ours:.2f} ms, {100 * (ours / bare - 1):+.1f} %")


def main() -> None:
    """See the module's text."""
    model, picture = sys.argv[1:]
    for size in SIZES:
        measure(model, Image.open(picture), size)


if __name__ == "__main__":
    main()
