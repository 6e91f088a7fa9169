"""A model that looks through a camera, on a Linux board or a computer.

    from sdk.camera import Classifier, open_source

    with open_source("picamera2") as source, Classifier("model.tflite", source) as results:
        for result in results:
            print(result.label, result.score)

numpy, Pillow and an engine of `sdk.runtime` are enough; video files and V4L2 cameras need OpenCV, and a Raspberry Pi's
own cameras picamera2 (sudo apt-get install python3-opencv python3-picamera2).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdk.camera.classifier import Classifier, Result
    from sdk.camera.sources import Frame, Source, open_source

__all__ = ["Classifier", "Frame", "Result", "Source", "open_source"]


def __getattr__(name: str) -> Any:
    """Looks names up when they are used: the command line asks for no more than its arguments."""
    if name not in __all__:
        raise AttributeError(f"module 'sdk.camera' has no attribute '{name}'")
    home = "classifier" if name in ("Classifier", "Result") else "sources"
    return getattr(importlib.import_module(f"sdk.camera.{home}"), name)
