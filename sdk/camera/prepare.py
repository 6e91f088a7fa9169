"""From a camera's pixels to what a model stores in its input, and from places in the input to places in the frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from sdk.errors import UnsupportedError, UsageError
from sdk.preprocess import Picture
from sdk.runtime.tensors import Array, Tensor

Corners = tuple[float, float, float, float]  # top, left, bottom, right; as shares of the height and the width


# The orders in which converters leave the four outputs: that of the operator, and that of TensorFlow 2's detectors.
ORDERS = (("boxes", "classes", "scores", "count"), ("scores", "boxes", "count", "classes"))


class Preparation:
    """How frames of any size become the one input of a model: as `picture` declares it. Where that is None, classifiers
    get the middle of the frame, detectors all of it, with black and white at the ends of the input's range. UsageError
    if the declaration is of another size, UnsupportedError if the model does not take one picture."""

    def __init__(self, picture: Picture | None, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
        tensor = _picture_input(list(inputs))
        fit = "crop" if detection_order(outputs) is None else "stretch"
        self.picture = picture or default_picture(tensor, fit)
        wanted = (1, self.picture.height, self.picture.width, self.picture.channels)
        if wanted != tensor.shape:
            raise UsageError(
                f"the model declares pictures of {list(wanted)}, and its input is {list(tensor.shape)}",
                "Declare its preprocessing again.",
            )
        # What the model stores for each value of a pixel, by channel: a look-up instead of arithmetic on every frame.
        levels = np.repeat(np.arange(256)[:, None], self.picture.channels, 1)
        self._stored = replace(tensor, shape=levels.shape).stored(self.picture.normalized(levels))
        if (self._stored == self._stored[:, :1]).all():
            self._stored = self._stored[:, 0].copy()
        self._as_they_are = self._stored.dtype == np.uint8 and np.array_equal(self._stored, levels[:, 0])

    def stored(self, pixels: Array) -> Array:
        """The stored input of one inference, for a picture of any size."""
        sized = self.picture.sized(pixels)
        if self._as_they_are:
            return sized[None]
        by_channel = self._stored.ndim > 1
        stored: Array = (
            self._stored[sized, np.arange(self.picture.channels)] if by_channel else np.take(self._stored, sized)
        )
        return stored[None]

    def in_frame(self, corners: Corners, height: int, width: int) -> Corners:
        """A place in the model's input as one in the frame of `height` and `width`, cut off at its edges."""
        aspect = self.picture.width / self.picture.height
        low, high = sorted((1.0, height * aspect / width)), sorted((1.0, width / aspect / height))
        # How much of the frame the input shows: less than all of one side, or more.
        x_share, y_share = {"crop": (low[0], high[0]), "pad": (low[1], high[1])}.get(self.picture.fit, (1.0, 1.0))
        top, left, bottom, right = corners
        y0, y1 = (min(max(0.5 + (y - 0.5) * y_share, 0.0), 1.0) for y in (top, bottom))
        x0, x1 = (min(max(0.5 + (x - 0.5) * x_share, 0.0), 1.0) for x in (left, right))
        return y0, x0, y1, x1


def _picture_input(tensors: Sequence[Tensor]) -> Tensor:
    if len(tensors) == 1:
        tensor = tensors[0]
        if len(tensor.shape) == 4 and tensor.shape[0] == 1 and tensor.shape[3] in (1, 3, 4):
            return tensor
    raise UnsupportedError("the model does not take one picture [1, height, width, channels]", "Use sdk.runtime.")


def default_picture(tensor: Tensor, fit: str = "crop") -> Picture:
    """For a model that declares nothing: black and white are the ends of a quantized input's range, else 0 and 1."""
    low, high = 0.0, 1.0
    if tensor.scale:
        limits = np.iinfo(tensor.dtype)
        low, high = (tensor.scale * (int(end) - tensor.zero_point) for end in (limits.min, limits.max))
    std = 255 / (high - low)
    _, height, width, channels = tensor.shape
    return Picture(height, width, channels, fit=fit, mean=(-low * std,), std=(std,))


def detection_order(outputs: Iterable[Tensor]) -> tuple[str, ...] | None:
    """What the outputs of a detector are, in the model's order; None if they are not those of one."""
    shapes = [tensor.shape for tensor in outputs]
    for order in ORDERS:
        if len(shapes) == len(order):
            found = dict(zip(order, shapes, strict=True))
            count = found["boxes"][1] if len(found["boxes"]) == 3 else 0
            if found == {"boxes": (1, count, 4), "classes": (1, count), "scores": (1, count), "count": (1,)}:
                return order
    return None
