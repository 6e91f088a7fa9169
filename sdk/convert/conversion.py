"""`convert`: recognises the source, converts it to float32, quantizes that, says what it cost, and lowers it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdk.cache import Progress, silent
from sdk.convert.options import Converted, Options, Quantize
from sdk.convert.sources import Wanted, find_source
from sdk.convert.work import Work
from sdk.errors import VerifyError
from sdk.files import deliver


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
    `preprocess` (fields of `sdk.preprocess.Picture` or `Sound`), `labels`.

    Nothing is written unless all of it works. UsageError, ModelError, InputError, UnsupportedError; ToolError for an
    environment that cannot be made or a converter that crashes; VerifyError where `max_drop` is exceeded. A model that
    lowering refuses is not an error: `report.problems` says why.
    """
    if options.get("quantize"):
        options["quantize"] = Quantize(options["quantize"])
    asked = Options(**options).checked()
    wanted = Wanted(inputs, outputs, signature, str(graph), sample if isinstance(sample, str) else "")
    with tempfile.TemporaryDirectory(prefix="microlith-") as folder:
        work = Work(Path(folder), asked, progress, note)
        if isinstance(source, str | Path):
            made = work.of_path(find_source(source, wanted))
        else:
            made = work.of_object(source, inputs, outputs, sample)
    scored = made.accuracy
    if asked.max_drop is not None and scored is not None and scored.drop > asked.max_drop:
        raise VerifyError(
            f"accuracy drops by {scored.drop:.2%}, from {scored.before:.2%} to {scored.after:.2%}:"
            f" more than {asked.max_drop:.2%}",
            _help(made),
        )
    if output is not None:
        deliver({Path(output): made.model})
    return made


def _help(made: Converted) -> str:
    worst = ", ".join(f"{layer.node} ({layer.added:.1%})" for layer in made.worst[:3])
    return (
        f"Most of the error is added by {worst}. Give more representative samples, --quantize int16x8, or train with \
fake_quant."
    )
