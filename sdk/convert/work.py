"""One conversion, from its source to what is known of the result.

Always by way of the float32 model: it is what the quantized one is compared with.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sdk.cache import Progress
from sdk.convert import beforehand, calibration
from sdk.convert.arrays import read_arrays, write_arrays
from sdk.convert.declare import check_labels, declare
from sdk.convert.environment import QUANTIZER, TENSORFLOW, TORCH
from sdk.convert.evaluate import (
    LayerError,
    accuracy,
    check_all_quantized,
    labelled_samples,
    layer_errors,
    specs_of,
)
from sdk.convert.interface import signed, with_float16, with_interface, with_own_scales
from sdk.convert.options import INTERFACES, Converted, Options, Quantize
from sdk.convert.process import Here, Worker
from sdk.convert.sources import ATTRIBUTE, Source
from sdk.convert.worker import where
from sdk.dataset import Labelled
from sdk.errors import InputError, ModelError, SdkError, UnsupportedError, UsageError
from sdk.foreign import Kind
from sdk.graph import Array, DType, Graph
from sdk.inputs import Sample, random_samples
from sdk.load import load_bytes
from sdk.oracle import Oracle
from sdk.preprocess import Preprocessing, attach
from sdk.program import Operand, Region, TensorSpec
from sdk.report import inspect
from sdk.write import write

OUTSIDE = {"uint8": DType.UINT8, "float32": DType.FLOAT32}  # interfaces that are nodes at a model's ends
FORMS = {DType.INT16: Quantize.int16x8, DType.INT8: Quantize.int8, DType.UINT8: Quantize.uint8}  # by their activations
DTYPES = {dtype.numpy_name: dtype for dtype in DType if dtype.on_device}
NARROW = DType.INT8, DType.UINT8, DType.INT16  # what values are quantized to
RANDOM = 3  # samples that a model without calibration data is compared with its source on


class Work:
    """One conversion, in a temporary folder."""

    def __init__(self, folder: Path, asked: Options, progress: Progress, note: Progress) -> None:
        self.folder, self.asked, self.progress, self.note = folder, asked, progress, functools.cache(note)
        self.read: tuple[Any, list[Sample]] | None = None
        self.shapes = {name: list(shape) for name, shape in asked.shapes.items()}

    def of_path(self, source: Source) -> Converted:
        beforehand.check(self.asked, source, self.progress)
        if source.environment is None:
            return self._of_tflite(source)
        with Worker(source.environment, self.progress, self.note) as session:
            self.progress(f"load {source.path}")
            if source.guessed:
                self.note(f"{source.path} does not say what it takes and gives; taken for granted: {source.guessed}")
            if source.kind is Kind.module:
                about = session.call("open_module", path=source.path, shapes=self.shapes, **source.options)
            else:
                name = source.kind.name
                about = session.call("open", kind=name, path=source.path, shapes=self.shapes, **source.options)
            return self.of_session(source.kind, session, about, source.environment is TENSORFLOW)

    def _of_tflite(self, source: Source) -> Converted:
        """What is quantized already can only be declared."""
        model = Path(source.path).read_bytes()
        graph = load_bytes(model, source.path)
        narrow = [t for t in graph.tensors.values() if t.quantization and t.dtype in NARROW]
        tensor = next(iter(narrow), None)
        if tensor is None:
            return self._of_float(source.kind, model, None)
        asked = self.asked
        if asked.representative is None and asked.quantize is Quantize.int8 and (asked.preprocess or asked.labels):
            computed = {t.dtype for t in narrow if t.data is None}
            form = next((form for dtype, form in FORMS.items() if dtype in computed), Quantize.dynamic)
            self.asked = replace(asked, quantize=form)
            return self._judged(source.kind, model, model, [], *self._declared(graph), None)
        raise ModelError(
            f"{source.path} is quantized already: '{tensor.name}' is {tensor.dtype.numpy_name}",
            "Use it as it is (sdk verify), or convert the float32 model that it was made of. Labels and preprocessing "
            "alone can be added to it.",
        )

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
        return self.of_session(Kind.module, session, about, is_tensorflow=True)

    def _of_torch(self, source: Any, sample: Any) -> Converted:
        torch = sys.modules["torch"]
        if isinstance(sample, str) or sample is None:
            raise UsageError("a torch module needs a sample of its input", "Give it: sample=torch.zeros(1, 3, 96, 96).")
        samples = tuple(sample) if isinstance(sample, list | tuple) else (sample,)
        path = self.folder / "module.pt2"
        try:
            torch.export.save(torch.export.export(source.eval(), samples), path)
        except Exception as error:  # what the module raises, or what cannot be exported in it
            raise UsageError(
                f"the torch module cannot be exported{where(error)}",
                "Run it on this sample first. What it does must not depend on values: torch.where in place of if.",
            ) from error
        return self.of_path(Source(Kind.pt2, str(path), TORCH))

    def of_session(
        self, kind: Kind, session: Here | Worker, about: Mapping[str, Any], is_tensorflow: bool
    ) -> Converted:
        beforehand.check_samples_given(self.asked, about.get("fake_quant", False))
        stats, inputs = len(self.asked.input_stats), about["inputs"]
        if stats > 1 and stats != len(inputs):
            raise UsageError(
                f"--input-stats is given {stats} times; the model has {len(inputs)} "
                f"input{'s' if len(inputs) > 1 else ''}: {', '.join(each['name'] for each in inputs)}",
                "Give it once for all inputs, or once for each, in this order.",
            )
        self._draw(session)
        if is_tensorflow and len(inputs) == 1:
            self._try_samples(inputs[0])
        self.progress("convert to float32")
        path = self.folder / "float32.tflite"
        session.call("convert", output=str(path))
        return self._of_float(kind, path.read_bytes(), session, is_tensorflow)

    def _draw(self, session: Here | Worker | None) -> None:
        """Puts the samples of a generator in its place."""
        given, most = self.asked.representative, self.asked.samples
        if isinstance(given, str) and ATTRIBUTE.match(given) and not Path(given).exists():
            self.progress(f"draw samples from {given}")
            path = self.folder / "drawn.npz"
            with contextlib.nullcontext(session) if session else Worker(QUANTIZER, self.progress, self.note) as drawer:
                drawer.call("generate", path=given, output=str(path), most=most)
            given = read_arrays(path)
        elif given is not None and not isinstance(given, str | Path):
            given = given() if callable(given) else given
            if not isinstance(given, Iterable):
                raise UsageError("the representative data are no samples", "Give a path, or arrays, or a generator.")
            given = list(islice(given, most))
        self.asked = replace(self.asked, representative=given)

    def _try_samples(self, about: Mapping[str, Any]) -> None:
        """Whether samples fit the input, before hours go into the model."""
        shape, dtype = tuple(about["shape"]), DTYPES.get(about["dtype"])
        if dtype is None:
            return
        size = int(np.prod(shape)) * dtype.bytes
        specs = [TensorSpec(about["name"], shape, dtype, 0.0, 0, Operand(Region.ARENA, 0, size))]
        self._samples(specs, declare(self.asked, specs))

    def _of_float(
        self,
        kind: Kind,
        model: bytes,
        session: Here | Worker | None,
        is_tensorflow: bool = False,
    ) -> Converted:
        graph = load_bytes(model, "float32")
        if session is None:
            self._draw(None)
            beforehand.check_samples_given(self.asked, has_ranges=False)
            if self.asked.quantize is Quantize.float32:
                raise UsageError("a .tflite model stays as it is with --quantize float32", "Choose another --quantize.")
        beforehand.check_stats(self.asked.input_stats, graph)
        declared, labelled = self._declared(graph)
        specs = specs_of(graph, graph.inputs, graph.input_names)
        samples = self._samples(specs, declared)
        some: Sequence[Sample] = samples
        if not some and all(spec.dtype.on_device for spec in specs):
            some = random_samples(specs, RANDOM, 0)
        error = None if session is None or not some else self._source_error(session, model, some)
        self.progress(f"quantize to {self.asked.quantize}")
        if is_tensorflow and session is not None:
            result = self._by_tensorflow(session, model, samples)
        else:
            result = self._by_quantizer(model, samples)
        return self._judged(kind, model, result, samples, declared, labelled, error)

    def _declared(self, graph: Graph) -> tuple[Preprocessing | None, list[Labelled]]:
        """What is said of the model's ends, and the labelled samples, for the model before it is quantized."""
        declared = declare(self.asked, specs_of(graph, graph.inputs, graph.input_names))
        if declared is not None:
            check_labels(declared.labels, specs_of(graph, graph.outputs, graph.output_names))
        if self.asked.dataset is None:
            return declared, []
        self.progress("read the labelled samples")
        return declared, labelled_samples(graph, Path(self.asked.dataset), declared, self.asked.count, self.note)

    def _judged(
        self,
        kind: Kind,
        model: bytes,
        result: bytes,
        samples: Sequence[Sample],
        declared: Preprocessing | None,
        labelled: Sequence[Labelled],
        error: float | None,
    ) -> Converted:
        before, after = (load_bytes(model), model), (load_bytes(result), result)
        layers: list[LayerError] = []
        if not samples and self.asked.quantize in INTERFACES and result != model:
            check_all_quantized(after[0])
        # Calibration samples lie within the ranges that they were measured by: others say more.
        some = [each.sample for each in labelled] or samples
        if some and result != model:
            self.progress("compare the layers")
            layers = self._compared(before, after, some)
        found = accuracy(model, after, labelled, self.progress) if labelled else None
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

    def _samples(self, specs: Sequence[TensorSpec], declared: Preprocessing | None) -> list[Sample]:
        """Those for these inputs: read once, if they are the same."""
        form = [(spec.name, spec.shape, spec.dtype) for spec in specs], declared
        if self.read is None or self.read[0] != form:
            self.progress("read the representative samples")
            self.read = form, self._read(specs, declared)
        return self.read[1]

    def _read(self, specs: Sequence[TensorSpec], declared: Preprocessing | None) -> list[Sample]:
        given = self.asked.representative
        if given is None:
            return []
        if not isinstance(given, str | Path):
            return calibration.of_arrays(given, specs, self.asked.samples)
        return calibration.read_calibration(Path(given), specs, declared, self.asked.samples, self.note)

    def _source_error(self, session: Here | Worker, model: bytes, samples: Sequence[Sample]) -> float | None:
        """The largest difference of any output from that of the source."""
        some, path = samples[:RANDOM], self.folder / "source.npz"
        session.call("run", samples=self._write("compared.npz", some), output=str(path))
        wanted = read_arrays(path)
        try:
            worst = 0.0
            with Oracle(model) as oracle:
                for sample, outputs in zip(some, wanted, strict=True):
                    oracle.reset()
                    worst = max(worst, _difference(oracle.run(list(sample.arrays)).outputs, outputs))
            return worst
        except SdkError as error:
            self.note(f"the float32 model could not be compared with its source: {error.message}")
            return None

    def _write(self, name: str, samples: Sequence[Sample]) -> str:
        path = self.folder / name
        write_arrays(path, [sample.arrays for sample in samples])
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
        return with_own_scales(path.read_bytes())

    def _by_quantizer(self, model: bytes, samples: Sequence[Sample]) -> bytes:
        if self.asked.quantize is Quantize.float32:
            return model
        if self.asked.quantize is Quantize.float16:
            return with_float16(model)
        source, path = self.folder / "unquantized.tflite", self.folder / "quantized.tflite"
        graph = signed(load_bytes(model))
        loop = next((node for node in graph.nodes if node.op == "WHILE"), None)
        if loop is not None and self.asked.quantize in INTERFACES:
            raise UnsupportedError(
                f"nothing quantizes loops: {loop.label}, which makes '{graph.tensor(loop.outputs[0]).name[:60]}'",
                "Unroll it, shorten its sequences, or use --quantize float32 or dynamic.",
            )
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
