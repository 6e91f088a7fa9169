"""What a conversion is told, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from sdk.convert import calibration
from sdk.convert.evaluate import Accuracy, LayerError
from sdk.errors import UsageError
from sdk.foreign import Kind
from sdk.preprocess import Preprocessing
from sdk.report import Report


class Quantize(StrEnum):
    """What becomes of a model's float32 values."""

    int8 = "int8"
    int16x8 = "int16x8"
    float16 = "float16"
    dynamic = "dynamic"
    float32 = "float32"


INTERFACES = {Quantize.int8: ("int8", "uint8", "float32"), Quantize.int16x8: ("int16", "float32")}


@dataclass(frozen=True)
class Converted:
    """A model and what is known of it. `source_error`: the largest difference of the float32 model's outputs from those
    of its source, None where they could not be compared. `layers` and `accuracy` compare the model with the float32
    one. `samples`: how many it was calibrated with."""

    kind: Kind
    model: bytes
    float_model: bytes
    report: Report
    declared: Preprocessing | None
    quantize: Quantize
    samples: int = 0
    source_error: float | None = None
    layers: Sequence[LayerError] = ()
    accuracy: Accuracy | None = None

    @property
    def worst(self) -> list[LayerError]:
        """The layers that add most to the error, the worst first: those that staying in float32 would help."""
        return sorted(self.layers, key=lambda layer: -layer.added)


@dataclass(frozen=True)
class Options:
    """What `convert` takes beside the source; see there."""

    quantize: Quantize | None = None
    interface: str | None = None
    representative: Any = None
    samples: int = calibration.MOST
    dataset: Path | None = None
    count: int | None = None
    max_drop: float | None = None
    input_stats: Sequence[Sequence[float]] = ()
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()

    def checked(self) -> Options:
        """These options, if they go together. UsageError otherwise."""
        quantize = self.quantize or Quantize.int8
        allowed = INTERFACES.get(quantize, ("float32",))
        if self.interface not in (None, *allowed):
            raise UsageError(
                f"a model quantized to {quantize} has no {self.interface} interface", f"Give {' or '.join(allowed)}."
            )
        if self.input_stats and (self.quantize not in (None, Quantize.int8) or self.representative is not None):
            raise UsageError(
                "--input-stats is the old way to uint8, for graphs with fake_quant nodes",
                "Leave out --quantize and --representative, or --input-stats.",
            )
        if self.max_drop is not None and self.dataset is None:
            raise UsageError("--max-drop needs labelled samples", "Give them: --dataset PATH.")
        return replace(self, quantize=quantize, interface=self.interface or allowed[0])
