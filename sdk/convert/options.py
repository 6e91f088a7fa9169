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
    uint8 = "uint8"  # as of TensorFlow 1, by `input_stats`
    int16x8 = "int16x8"
    float16 = "float16"
    dynamic = "dynamic"
    float32 = "float32"


INTERFACES = {
    Quantize.int8: ("int8", "uint8", "float32"),
    Quantize.uint8: ("uint8",),
    Quantize.int16x8: ("int16", "float32"),
}


@dataclass(frozen=True)
class Converted:
    """A model and what is known of it. `source_error`: the largest difference of the float32 model's outputs from those
    of its source, None where they could not be compared. `layers` and `accuracy` compare the model with the float32
    one, on the labelled samples; without any, the layers on representative ones. `samples`: how many it was calibrated
    with."""

    kind: Kind
    model: bytes
    float_model: bytes
    report: Report  # `report.problems`: why no microcontroller can run the model; empty if one can
    declared: Preprocessing | None
    quantize: Quantize
    samples: int = 0
    source_error: float | None = None
    layers: Sequence[LayerError] = ()
    accuracy: Accuracy | None = None

    @property
    def interface(self) -> str:
        """The type of what the model takes, by its first input."""
        graph = self.report.graph
        return next((graph.tensor(i).dtype.numpy_name for i in graph.inputs), "")

    @property
    def form(self) -> str:
        """How its values are stored, in words."""
        own = {Quantize.int16x8: "int16"}.get(self.quantize, str(self.quantize))
        plain = self.quantize not in INTERFACES or self.interface == own
        return (
            str(self.quantize)
            if plain
            else f"{self.quantize} with {'an' if self.interface.startswith('i') else 'a'} {self.interface} interface"
        )

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
    dataset: str | Path | None = None
    count: int | None = None
    max_drop: float | None = None
    input_stats: Sequence[Sequence[float]] = ()
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] | str | Path = ()

    def checked(self) -> Options:
        """These options, if they go together. UsageError otherwise."""
        quantize = self._quantize()
        allowed = INTERFACES.get(quantize, ("float32",))
        if self.interface not in (None, *allowed):
            raise UsageError(
                f"a model quantized to {quantize} has no {self.interface} interface", f"Give {' or '.join(allowed)}."
            )
        if self.max_drop is not None and self.dataset is None:
            raise UsageError("--max-drop needs labelled samples", "Give them: --dataset PATH.")
        if self.max_drop is not None and not 0 <= self.max_drop <= 1:
            raise UsageError(f"--max-drop {self.max_drop:g} is no share", "Give 1%, in Python 0.01.")
        dataset = None if self.dataset is None else Path(self.dataset)
        labels = read_labels(self.labels)
        return replace(self, quantize=quantize, interface=self.interface or allowed[0], dataset=dataset, labels=labels)

    def _quantize(self) -> Quantize:
        """What is meant, checked against --input-stats."""
        if self.quantize is not None and self.quantize not in list(Quantize):
            raise UsageError(f"there is no --quantize {self.quantize}", f"Choose one: {', '.join(Quantize)}.")
        if not self.input_stats:
            if self.quantize == Quantize.uint8:
                raise UsageError(
                    "--quantize uint8 is TensorFlow 1's way, which needs --input-stats and a graph with fake_quant",
                    "Give --input-stats MEAN,STD; or --interface uint8, for a model that takes and gives uint8.",
                )
            return Quantize(self.quantize or Quantize.int8)
        if self.quantize not in (None, Quantize.int8, Quantize.uint8) or self.representative is not None:
            raise UsageError(
                "--input-stats is the old way to uint8, for graphs with fake_quant nodes",
                "Leave out --quantize and --representative, or --input-stats.",
            )
        if not all(len(each) == 2 and each[1] > 0 for each in self.input_stats):
            raise UsageError(
                f"--input-stats {self.input_stats} are no pairs of MEAN and STD, with STD above 0",
                "Pixels that the model knows as -1 to 1 are --input-stats 128,128; in Python input_stats=[(128, 128)].",
            )
        return Quantize.uint8


def read_labels(given: Sequence[str] | str | Path) -> tuple[str, ...]:
    """Names of classes: as they are, or the lines of a text file."""
    if not isinstance(given, str | Path):
        return tuple(given)
    try:
        lines = Path(given).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the labels {given}: {error}", "Give a text file in UTF-8 with one name a line."
        ) from error
    if not any(line.strip() for line in lines):
        raise UsageError(f"{given} holds no labels", "Write one name a line, in the order of the model's outputs.")
    return tuple(line.strip() for line in lines if line.strip())
