"""From sound that comes in pieces to what a model stores in its input, as its file declares it.

    with Runtime("model.tflite") as model, Listener(model) as listener:
        for piece in pieces:                # int16, of any length
            for window in listener.hear(piece):
                scores = model.run(window, raw=True)

A window follows the one before after a stride of features, or a quarter of a window of raw sound. The features are
computed by the same program as on a microcontroller. `sdk flash` sends it to a board beside the model; a computer with
the whole SDK makes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sdk.closing import Closing
from sdk.errors import InputError, MissingToolError, UsageError
from sdk.preprocess import declaration
from sdk.runtime.interpreter import MicrolithEngine
from sdk.runtime.runtime import Runtime
from sdk.runtime.tensors import Array, Tensor
from sdk.sound import Features, Sound

FRONT_END = ".features.mlith"  # what the front end's file beside a model ends with
STRIDES = 4  # of a window of raw sound


class FeatureStream(Closing):
    """Rows of features of sound that comes in pieces; `program` is the front end's."""

    def __init__(self, features: Features, rate_hz: int, program: bytes | Path) -> None:
        self.window, self.stride = features.samples(rate_hz)
        self._engine = MicrolithEngine(program)
        self._held = np.zeros(0, np.int16)

    def feed(self, samples: Array) -> Array:
        """[rows, width]: those that are complete with these samples."""
        held = np.concatenate([self._held, samples])
        count = max(0, (len(held) - self.window) // self.stride + 1)
        starts = range(0, count * self.stride, self.stride)
        rows = [self._engine.invoke([held[at : at + self.window]])[0].copy() for at in starts]
        self._held = held[count * self.stride :]
        output = self._engine.outputs[0]
        return np.concatenate(rows) if rows else np.zeros((0, *output.shape[1:]), output.dtype)

    def close(self) -> None:
        """Lets the program go."""
        self._engine.close()


class Listener(Closing):
    """Windows of the sound that the one input of `model` takes. UsageError where the model declares no sound."""

    def __init__(self, model: Runtime) -> None:
        declared = declaration(model.model)
        if declared.sound is None or len(model.inputs) != 1:
            raise UsageError(
                f"{model.model} does not declare that it takes sound",
                "Convert it with `sdk convert --rate 16000`, or --features; see docs/convert.md.",
            )
        self.sound, self.labels = declared.sound, declared.labels
        (self._tensor,) = model.inputs.values()
        if self.sound.elements != int(np.prod(self._tensor.shape)):
            raise UsageError(
                f"the model declares {self.sound.elements:,} numbers of sound, and its input is "
                f"{list(self._tensor.shape)}",
                "Declare its preprocessing again.",
            )
        features = self.sound.features
        self._rows: deque[Array] | None = None
        self.stride = max(1, self.sound.samples // STRIDES)  # samples
        if features is not None:
            program = _program(model.model, self.sound, self._tensor)
            self._features = FeatureStream(features, self.sound.rate_hz, program)
            self._rows, self.stride = deque(maxlen=self.sound.rows), self._features.stride
        self._held = np.zeros(0, np.int16)

    def hear(self, samples: Array) -> list[Array]:
        """The input's stored values for each window that is complete with these samples, int16 at the declared rate."""
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise InputError(f"sound is int16 [samples], not {samples.dtype}{list(samples.shape)}")
        if self._rows is None:
            return list(self._raw(samples))
        heard = []
        for row in self._features.feed(samples):
            self._rows.append(row)
            if len(self._rows) == self._rows.maxlen:
                heard.append(np.stack(self._rows).reshape(self._tensor.shape))
        return heard

    def _raw(self, samples: Array) -> Iterator[Array]:
        self._held = np.concatenate([self._held, samples])
        while len(self._held) >= self.sound.samples:
            real = (self._held[: self.sound.samples] / self.sound.scale).astype(np.float32)
            yield self._tensor.stored(real.reshape(self._tensor.shape))
            self._held = self._held[self.stride :]

    def close(self) -> None:
        """Lets the front end go."""
        if self._rows is not None:
            self._features.close()


def _program(model: Path, sound: Sound, tensor: Tensor) -> bytes | Path:
    try:
        from sdk.front_end import program_for
    except ImportError:  # a board: neither these modules nor what they need
        beside = model.with_suffix(FRONT_END)
        if beside.is_file():
            return beside
        raise MissingToolError(
            f"the features of {model.name} need their front end, and there is no {beside}",
            "`sdk flash`, on a computer with the whole SDK, sends it along with the model.",
        ) from None
    return program_for(sound, tensor)
