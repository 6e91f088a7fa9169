"""`convert`: recognises the source, converts it to float32, quantizes that, says what it cost, and lowers it.

Always by way of the float32 model: it is what the quantized one is compared with.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from sdk.cache import Progress, silent
from sdk.convert import calibration
from sdk.convert.environment import QUANTIZER, TENSORFLOW, TORCH
from sdk.convert.evaluate import Accuracy, LayerError, accuracy, layer_errors, specs_of
from sdk.convert.interface import signed, with_float16, with_interface
from sdk.convert.process import Here, Worker
from sdk.convert.sources import ATTRIBUTE, Source, Wanted, find_source
from sdk.errors import InputError, SdkError, UsageError, VerifyError
from sdk.files import deliver
from sdk.foreign import Kind
from sdk.graph import Array, DType, Graph
from sdk.inputs import PICTURES, Sample, random_samples
from sdk.load import load_bytes
from sdk.oracle import Oracle
from sdk.preprocess import Picture, Preprocessing, Sound, attach
from sdk.program import TensorSpec
from sdk.report import Report, inspect
from sdk.write import write

OUTSIDE = {"uint8": DType.UINT8, "float32": DType.FLOAT32}  # interfaces that are nodes at a model's ends
RANDOM = 3  # samples that a model without calibration data is compared with its source on


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
        work = _Work(Path(folder), asked, progress, note)
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


class _Work:
    """One conversion, in a temporary folder."""

    def __init__(self, folder: Path, asked: Options, progress: Progress, note: Progress) -> None:
        self.folder, self.asked, self.progress, self.note = folder, asked, progress, note
        self.shapes = {name: list(shape) for name, shape in asked.shapes.items()}

    def of_path(self, source: Source) -> Converted:
        if source.environment is None:
            return self._of_float(source.kind, Path(source.path).read_bytes(), None)
        with Worker(source.environment, self.progress, self.note) as session:
            self.progress(f"load {source.path}")
            if source.kind is Kind.module:
                about = session.call("open_module", path=source.path, shapes=self.shapes, **source.options)
            else:
                name = source.kind.name
                about = session.call("open", kind=name, path=source.path, shapes=self.shapes, **source.options)
            return self._of_session(source.kind, session, about, source.environment is TENSORFLOW)

    def of_object(self, source: Any, inputs: Sequence[Any], outputs: Sequence[Any], sample: Any) -> Converted:
        if "torch" in sys.modules and isinstance(source, sys.modules["torch"].nn.Module):
            return self._of_torch(source, sample)
        if "tensorflow" not in sys.modules:
            raise UsageError(
                f"{type(source).__name__} is nothing that can be converted",
                "Give a path, module:attribute, or an object of TensorFlow or PyTorch.",
            )
        from sdk.convert.session_tensorflow import Session

        session = Here(Session())
        options = {"inputs": list(inputs), "outputs": list(outputs)} if inputs or outputs else {}
        about = session.call("open_object", source=source, shapes=self.shapes, **options)
        return self._of_session(Kind.module, session, about, is_tensorflow=True)

    def _of_torch(self, source: Any, sample: Any) -> Converted:
        torch = sys.modules["torch"]
        if isinstance(sample, str) or sample is None:
            raise UsageError("a torch module needs a sample of its input", "Give it: sample=torch.zeros(1, 3, 96, 96).")
        samples = tuple(sample) if isinstance(sample, list | tuple) else (sample,)
        path = self.folder / "module.pt2"
        torch.export.save(torch.export.export(source.eval(), samples), path)
        return self.of_path(Source(Kind.pt2, str(path), TORCH))

    def _of_session(
        self, kind: Kind, session: Here | Worker, about: Mapping[str, Any], is_tensorflow: bool
    ) -> Converted:
        self.progress("convert to float32")
        path = self.folder / "float32.tflite"
        session.call("convert", output=str(path))
        model = path.read_bytes()
        generator = self.asked.representative
        if isinstance(generator, str) and ATTRIBUTE.match(generator) and not Path(generator).exists():
            drawn = self.folder / "drawn.npz"
            session.call("generate", path=generator, output=str(drawn), most=self.asked.samples)
            self.asked = replace(self.asked, representative=calibration.read_arrays(drawn))
        return self._of_float(kind, model, session, is_tensorflow, about.get("fake_quant", False))

    def _of_float(
        self,
        kind: Kind,
        model: bytes,
        session: Here | Worker | None,
        is_tensorflow: bool = False,
        fake_quant: bool = False,
    ) -> Converted:
        graph = load_bytes(model, "float32")
        specs = specs_of(graph, graph.inputs, graph.input_names)
        declared = self._declared(specs)
        samples = self._samples(specs, declared, fake_quant, kind)
        error = (
            None if session is None else self._source_error(session, model, samples or random_samples(specs, RANDOM, 0))
        )
        self.progress(f"quantize to {self.asked.quantize}")
        if is_tensorflow and session is not None:
            result = self._by_tensorflow(session, model, samples)
        else:
            result = self._by_quantizer(model, samples)
        return self._judged(kind, model, result, samples, declared, error)

    def _judged(
        self,
        kind: Kind,
        model: bytes,
        result: bytes,
        samples: Sequence[Sample],
        declared: Preprocessing | None,
        error: float | None,
    ) -> Converted:
        before, after = (load_bytes(model), model), (load_bytes(result), result)
        layers: list[LayerError] = []
        if samples and result != model:
            self.progress("compare the layers")
            layers = self._compared(before, after, samples)
        found = None
        if self.asked.dataset is not None:
            self.progress("run the labelled samples")
            found = accuracy(before, after, self.asked.dataset, declared, self.asked.count, self.note)
        assert self.asked.quantize is not None
        noted = attach(result, declared) if declared is not None else result
        self.progress("lower the model")
        report = inspect(load_bytes(noted))
        return Converted(kind, noted, model, report, declared, self.asked.quantize, len(samples), error, layers, found)

    def _compared(
        self, before: tuple[Graph, bytes], after: tuple[Graph, bytes], samples: Sequence[Sample]
    ) -> list[LayerError]:
        try:
            return layer_errors(before, after, samples)
        except SdkError as error:
            self.note(f"the layers could not be compared: {error.message}")
            return []

    # Samples

    def _declared(self, specs: Sequence[TensorSpec]) -> Preprocessing | None:
        """What the user says of the input, completed by the input's shape."""
        given, labels = dict(self.asked.preprocess), tuple(self.asked.labels)
        kinds = _kinds(self.asked.representative) | _kinds(self.asked.dataset)
        spec = specs[0] if len(specs) == 1 else None
        if spec is not None and len(spec.shape) == 4 and spec.shape[3] in (1, 3, 4) and "rate_hz" not in given:
            if given or kinds & PICTURES:
                height, width, channels = spec.shape[1:]
                return Preprocessing(Picture(height, width, channels, **given), labels=labels)
        elif spec is not None and (given or ".wav" in kinds) and max(spec.shape, default=0) == int(np.prod(spec.shape)):
            return Preprocessing(sound=Sound(max(spec.shape), **given), labels=labels)
        if given:
            raise UsageError(
                f"--{next(iter(given)).replace('_hz', '')} is for a model with one input, a picture or raw sound",
                "Prepare the samples yourself, and give them as .npy.",
            )
        return Preprocessing(labels=labels) if labels else None

    def _samples(
        self, specs: Sequence[TensorSpec], declared: Preprocessing | None, fake_quant: bool, kind: Kind
    ) -> list[Sample]:
        given = self.asked.representative
        if given is not None and not isinstance(given, str | Path):
            given = given() if callable(given) else given
            if not isinstance(given, Iterable):
                raise UsageError("the representative data are no samples", "Give a path, or arrays, or a generator.")
            return calibration.of_arrays(given, specs, self.asked.samples)
        if given is not None:
            return calibration.read_calibration(Path(given), specs, declared, self.asked.samples, self.note)
        needed = self.asked.quantize in INTERFACES and not fake_quant and not self.asked.input_stats
        if needed and any(spec.dtype is DType.FLOAT32 for spec in specs):
            raise UsageError(
                f"{self.asked.quantize} needs representative samples to measure ranges with",
                "Give them: --representative FOLDER (pictures, .wav, .npy, .csv, or module:generator); or leave the "
                "values in float: --quantize float32, float16 or dynamic.",
            )
        if kind is Kind.tflite and self.asked.quantize is Quantize.float32:
            raise UsageError("a .tflite model stays as it is with --quantize float32", "Choose another --quantize.")
        return []

    def _source_error(self, session: Here | Worker, model: bytes, samples: Sequence[Sample]) -> float | None:
        """The largest difference of any output from that of the source."""
        some, path = samples[:RANDOM], self.folder / "source.npz"
        self._write("compared.npz", some)
        session.call("run", samples=str(self.folder / "compared.npz"), output=str(path))
        wanted = calibration.read_arrays(path)
        try:
            with Oracle(model) as oracle:
                return max(
                    _difference(oracle.run(list(s.arrays)).outputs, w) for s, w in zip(some, wanted, strict=True)
                )
        except SdkError as error:
            self.note(f"the float32 model could not be compared with its source: {error.message}")
            return None

    def _write(self, name: str, samples: Sequence[Sample]) -> str:
        path = self.folder / name
        path.write_bytes(calibration.write_samples(samples))
        return str(path)

    # Quantizers

    def _by_tensorflow(self, session: Here | Worker, model: bytes, samples: Sequence[Sample]) -> bytes:
        if self.asked.quantize is Quantize.float32:
            return model
        path = self.folder / "quantized.tflite"
        session.call(
            "convert",
            output=str(path),
            quantize=str(self.asked.quantize),
            interface=self.asked.interface,
            samples=self._write("calibration.npz", samples) if samples else "",
            input_stats=[list(pair) for pair in self.asked.input_stats],
        )
        return path.read_bytes()

    def _by_quantizer(self, model: bytes, samples: Sequence[Sample]) -> bytes:
        if self.asked.quantize is Quantize.float32:
            return model
        if self.asked.input_stats:
            raise UsageError("--input-stats is for graphs of TensorFlow", "Give --representative samples instead.")
        if self.asked.quantize is Quantize.float16:
            return with_float16(model)
        source, path = self.folder / "unquantized.tflite", self.folder / "quantized.tflite"
        graph = signed(load_bytes(model))
        assert graph.signature is not None
        source.write_bytes(model if graph.signature == load_bytes(model).signature else write(graph))
        with Worker(QUANTIZER, self.progress, self.note) as session:
            session.call(
                "convert",
                source=str(source),
                output=str(path),
                signature=graph.signature.name,
                inputs=list(graph.signature.inputs),
                quantize=str(self.asked.quantize),
                samples=self._write("calibration.npz", samples) if samples else "",
            )
        outside = OUTSIDE.get(self.asked.interface or "")
        return with_interface(path.read_bytes(), outside) if outside else path.read_bytes()


def _kinds(given: Any) -> set[str]:
    """The endings of the files that are given."""
    if not isinstance(given, str | Path):
        return set()
    path = Path(given)
    if path.is_dir():
        return {file.suffix.lower() for file in path.rglob("*")}
    if path.suffix.lower() == ".csv" and path.is_file():
        return {Path(line.partition(",")[0]).suffix.lower() for line in path.read_text("utf-8", "replace").splitlines()}
    return {path.suffix.lower()}


def _difference(got: Sequence[Array], want: Sequence[Array]) -> float:
    """Outputs are matched by their shapes: converters may order them by their names."""
    left = list(want)
    worst = 0.0
    for array in got:
        index = next((i for i, other in enumerate(left) if other.size == array.size), None)
        if index is None:
            raise InputError("the float32 model has other outputs than its source")
        other = left.pop(index).reshape(array.shape)
        worst = max(worst, float(np.max(np.abs(array.astype(np.float64) - other.astype(np.float64)), initial=0.0)))
    return worst
