"""Runs models on a Linux board, without the host half of the SDK: numpy and one engine are enough.

    from sdk.runtime import Runtime

    with Runtime("model.tflite") as runtime:
        scores = runtime.run(image)["scores"]  # real numbers in, real numbers out; raw=True for stored values

An engine is LiteRT (ai-edge-litert), tflite-runtime, or Microlith's own C interpreter, which is exact. `Listener` makes
the inputs of models that take sound.
"""

from __future__ import annotations

from sdk.runtime.listener import Listener
from sdk.runtime.runtime import ENGINES, Runtime
from sdk.runtime.tensors import Tensor

__all__ = ["ENGINES", "Listener", "Runtime", "Tensor"]
