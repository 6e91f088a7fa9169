"""Inputs and outputs of a model: names, shapes and types; the way from real numbers to stored ones and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sdk.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Tensor:
    """One input or output: real = scale * (stored - zero_point); `scale` is 0 where the values are not quantized."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0

    def stored(self, values: Any, raw: bool = False) -> Array:
        """`values` as the model stores them, in its shape. They are real numbers, rounded as TensorFlow Lite does; with
        `raw`, or where the tensor is not quantized, they are stored values already. InputError if they do not fit."""
        try:
            array: Array = np.asarray(values)
        except ValueError as error:  # rows of several lengths
            raise InputError(f"input '{self.name}' is no array: {error}", "Give it as a numpy array.") from error
        if array.shape != self.shape:
            if self.shape[:1] != (1,) or array.shape != self.shape[1:]:
                raise self._refused(array)
            array = array[None]  # a batch of one
        if raw or not self.scale:
            return self._unchanged(array)
        if array.dtype.kind not in "fiub":
            raise self._refused(array)
        steps = array.astype(np.float32) / np.float32(self.scale)
        if not np.isfinite(steps).all():
            raise InputError(f"input '{self.name}' holds values that are no numbers", "Replace NaN and infinities.")
        # Half away from zero, in float32: what QUANTIZE computes.
        rounded = np.sign(steps) * np.floor(np.abs(steps) + np.float32(0.5))
        limits = np.iinfo(self.dtype)
        stored: Array = np.clip(rounded.astype(np.float64) + self.zero_point, limits.min, limits.max).astype(self.dtype)
        return stored

    def real(self, stored: Array) -> Array:
        """Stored values as real numbers in float32; as they are where the tensor is not quantized."""
        if not self.scale:
            return stored
        result: Array = (np.float32(self.scale) * (stored.astype(np.float32) - np.float32(self.zero_point))).astype(
            np.float32
        )
        return result

    def _unchanged(self, array: Array) -> Array:
        """`array` in the tensor's type. Values that the type cannot hold are refused, not wrapped."""
        if array.dtype == self.dtype:
            return np.ascontiguousarray(array)
        if self.dtype.kind == "f" and array.dtype.kind in "fiu":
            return array.astype(self.dtype)
        if self.dtype.kind in "iu" and array.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            if array.size == 0 or (int(array.min()) >= limits.min and int(array.max()) <= limits.max):
                return array.astype(self.dtype)
        raise self._refused(array)

    def _refused(self, array: Array) -> InputError:
        return InputError(
            f"input '{self.name}' is {self.dtype}{list(self.shape)}; {array.dtype}{list(array.shape)} was given",
            "Give an array of that shape; without raw=True its values are real numbers.",
        )
