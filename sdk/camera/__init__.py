"""A model that looks through a camera, on a Linux board or a computer.

    from sdk.camera import open_source, watch

    with open_source("picamera2") as source, watch("model.tflite", source) as results:
        for result in results:
            print(result.label, result.score, result.boxes)

`watch` makes a `Classifier` or a `Detector`, as the model's outputs are.

numpy, Pillow and an engine of `sdk.runtime` are enough; video files and V4L2 cameras need OpenCV, and a Raspberry Pi's
own cameras picamera2 (sudo apt-get install python3-opencv python3-picamera2).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdk.camera.classifier import Classifier
    from sdk.camera.detector import Detector, watch
    from sdk.camera.sources import Frame, Source, open_source
    from sdk.camera.watcher import Box, Result, Watcher

HOMES = {
    "classifier": ("Classifier",),
    "detector": ("Detector", "watch"),
    "sources": ("Frame", "Source", "open_source"),
    "watcher": ("Box", "Result", "Watcher"),
}

__all__ = ["Box", "Classifier", "Detector", "Frame", "Result", "Source", "Watcher", "open_source", "watch"]


def __getattr__(name: str) -> Any:
    """Looks names up when they are used: the command line asks for no more than its arguments."""
    for home, names in HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"sdk.camera.{home}"), name)
    raise AttributeError(f"module 'sdk.camera' has no attribute '{name}'")
