"""`convert`: recognises the source, converts it to float32, quantizes that, says what it cost, and lowers it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sdk.cache import Progress, silent
from sdk.convert.options import Converted, Options, Quantize
from sdk.convert.sources import Wanted, find_source
from sdk.convert.work import Work
from sdk.errors import UsageError, VerifyError
from sdk.files import check_place, deliver


def convert(
    source: Any,
    output: str | Path | None = None,
    *,
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    signature: str = "",
    graph: str | Path = "",
    sample: Any = "",
    progress: Progress = silent,
    note: Progress = silent,
    **options: Any,
) -> Converted:
    """A .tflite model of `source`, also written to `output` if that is given.

    `source`: a path (SavedModel, .keras, .h5, frozen .pb or .pbtxt, checkpoint, .onnx, .pt2, .tflite), a text
    "module:attribute", or an object: a Keras model, concrete function, tf.function, tf.Module, tf.compat.v1 session
    (with `inputs` and `outputs`, its tensors) or torch module (with a `sample` of its input).
    `options` are those of `Options`: `quantize` (default int8), `interface`, `representative` (a path,
    "module:generator", or in Python arrays), `dataset` and `max_drop` (of 1), `input_stats` [(mean, std)], `shapes`,
    `preprocess` (fields of `sdk.preprocess.Picture` or `Sound`), `labels` (names, or a file of them).

    Nothing is written unless all of it works. UsageError, ModelError, InputError, UnsupportedError; ToolError for an
    environment that cannot be made or a converter that crashes; VerifyError where `max_drop` is exceeded. A model that
    lowering refuses is none: TensorFlow Lite runs it, but no microcontroller; `report.problems` says why.
    """
    unknown = options.keys() - {each.name for each in fields(Options)}
    if unknown:
        raise UsageError(
            f"converting has no {', '.join(sorted(unknown))}",
            f"It takes {', '.join(each.name for each in fields(Options))}.",
        )
    asked = Options(**options).checked()
    if output is not None:
        check_place(Path(output))
    wanted = Wanted(inputs, outputs, signature, str(graph), sample if isinstance(sample, str) else "")
    with tempfile.TemporaryDirectory(prefix="microlith-") as folder:
        work = Work(Path(folder), asked, progress, note)
        if isinstance(source, str | Path):
            made = work.of_path(find_source(source, wanted))
        else:
            made = work.of_object(source, inputs, outputs, sample)
    scored = made.accuracy
    if asked.max_drop is not None and scored is not None and scored.exceeds(asked.max_drop):
        raise VerifyError(
            f"accuracy drops by {scored.drop:.2%}, from {scored.before:.2%} to {scored.after:.2%}:"
            f" more than {asked.max_drop:.2%}",
            _help(made),
        )
    if output is not None:
        deliver({Path(output): made.model})
    return made


CLIPPED = 0.01  # of all values: more are another range than that of the samples
SMALL = 0.0005  # an error that is said to be 0.1%
INSTEAD = {
    Quantize.int8: "Give more representative samples, --quantize int16x8, or train with fake_quant.",
    Quantize.uint8: "Train on with fake_quant, or give samples: --quantize int16x8 --representative PATH.",
    Quantize.int16x8: "Give more representative samples, or --quantize float16.",
    Quantize.dynamic: "Give --quantize float16.",
}


def _help(made: Converted) -> str:
    if made.accuracy is not None and made.accuracy.clipped > CLIPPED:
        return (
            f"{made.accuracy.clipped:.0%} of the labelled samples' values are outside of the range that was measured: "
            "give representative samples of every class, prepared as these are."
        )
    worst = ", ".join(f"{layer.node} ({layer.added:.1%})" for layer in made.worst[:3] if layer.added >= SMALL)
    instead = INSTEAD.get(made.quantize, "Give --quantize float32.")
    return f"Most of the error is added by {worst}. {instead}" if worst else instead
