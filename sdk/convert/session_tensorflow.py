"""A source of TensorFlow as a .tflite model: runs in `sdk.convert.worker`, or in the caller's own process for objects.

Every source becomes one concrete function whose inputs have fixed shapes (a microcontroller takes one sample at a time,
and open shapes would leave chains of SHAPE, STRIDED_SLICE and PACK in the model), and is converted as that.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
import tensorflow as tf

from sdk.convert.arrays import check_names, read_arrays, say_shape, write_arrays
from sdk.convert.tensorflow_files import (
    binary_graph,
    chosen_signature,
    frozen,
    graph_file,
    graph_of_text,
    is_of_tensorflow_1,
    load_keras,
    restore,
    tags_of,
    told,
)
from sdk.convert.tensorflow_graph import check_node, pruned_to, settle
from sdk.convert.tensorflow_objects import Made, by_name, of_object, of_saved_model
from sdk.convert.tensorflow_order import in_order
from sdk.convert.tensorflow_recurrent import loops

PLACEHOLDERS = "Placeholder", "PlaceholderV2", "PlaceholderWithDefault"
INSTEAD = {
    "Erf": "tf.nn.gelu(x, approximate=True), or a product of tanh",
    "Erfc": "tf.nn.gelu(x, approximate=True), or a product of tanh",
    "MatrixInverse": "the inverse as a constant",
    "Roll": "tf.concat of two slices",
    "Cross": "products and differences of slices",
    "Qr": "the factors as constants",
    "Svd": "the factors as constants",
    "Unique": "a fixed number of classes",
    "StringSplit": "numbers in place of text",
}


class Session:
    """One source. `open` first; then `convert` as often as wanted, and `run`."""

    def open(self, kind: str, path: str, **options: Any) -> dict[str, Any]:
        """Loads a source of one of the kinds of `sdk.foreign.Kind`. The result says what it takes."""
        load = getattr(self, f"_{kind}")
        self.shapes: dict[str, list[int]] = options.pop("shapes", {})
        self._take(load(path, **options))
        return self._about()

    def open_object(self, source: Any, shapes: dict[str, list[int]], **options: Any) -> dict[str, Any]:
        """As `open`, for an object of this process: a model, module, function, or session with tensors."""
        self.shapes = shapes
        self._take(self._session(source, **options) if options else of_object(source))
        return self._about()

    def _take(self, made: Made) -> None:
        """`made`: a callable, the specs of its inputs, and what owns its variables."""
        call, specs, owner = made
        fixed = [self._fixed(spec, f"input {i}") for i, spec in enumerate(specs)]
        check_names(self.shapes, [spec.name for spec in (*fixed, *specs)])

        def named(*values: Any) -> dict[str, Any]:
            made = by_name(call(*values))
            self.outputs = list(made)
            return made

        self.function = tf.function(named).get_concrete_function(*fixed)
        self.owner = tf.Module() if owner is None else owner
        if owner is None:  # a function alone does not keep its variables
            self.owner.variables_of_function = list(self.function.variables)
        self.specs = fixed

    def _fixed(self, spec: Any, fallback: str) -> Any:
        name = re.sub(r"[^A-Za-z0-9_.\\-]", "_", (spec.name or fallback).partition(":")[0])
        given = self.shapes.get(name, self.shapes.get(spec.name or ""))
        if given is None and spec.shape.rank is None:
            raise ValueError(f"the input '{name}' has no shape", f"Say it: --shape {name}=1,28,28,1")
        own: list[Any] = [] if given is not None else spec.shape.as_list()
        shape: list[Any] = given or [1 if i == 0 and size is None else size for i, size in enumerate(own)]
        if None in shape:
            sizes = ",".join("?" if size is None else str(size) for size in shape)
            raise ValueError(f"the input '{name}' is [{sizes}]", say_shape(name, shape))
        if not tf.TensorShape(shape).is_compatible_with(spec.shape):
            raise ValueError(f"the input '{name}' is {spec.shape}, not {shape}", "Give another --shape.")
        return tf.TensorSpec(shape, spec.dtype, name)

    def _about(self) -> dict[str, Any]:
        inputs = [{"name": s.name, "shape": s.shape.as_list(), "dtype": s.dtype.name} for s in self.specs]
        return {"inputs": inputs, "fake_quant": any(op.startswith("FakeQuant") for op in self._operators())}

    def _operators(self) -> set[str]:
        graph = self.function.graph.as_graph_def()
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        return {node.op for node in nodes}

    # Sources

    def _saved_model(self, path: str, signature: str = "") -> Made:
        return self._saved_graph(path, signature) if is_of_tensorflow_1(path) else of_saved_model(path, signature)

    def _saved_graph(self, path: str, wanted: str) -> Made:
        """A SavedModel of TensorFlow 1, whose variables cannot be taken over into a function: frozen."""
        v1 = tf.compat.v1
        with v1.Graph().as_default(), v1.Session() as session:
            meta = told(lambda: v1.saved_model.load(session, tags_of(path), path), path)
            name = chosen_signature([n for n in meta.signature_def if not n.startswith("__")], wanted, path)
            ends = meta.signature_def[name]
            inputs, outputs = ([info.name for info in infos.values()] for infos in (ends.inputs, ends.outputs))
            graph_def = frozen(session, outputs)
        return self._graph(graph_def, inputs, outputs)

    def _keras(self, path: str) -> Made:
        return of_object(load_keras(path))

    _h5 = _keras

    def _frozen_graph(self, path: str, inputs: list[str], outputs: list[str]) -> Made:
        return self._graph(binary_graph(path), inputs, outputs)

    def _graph_text(self, path: str, inputs: list[str], outputs: list[str]) -> Made:
        return self._graph(graph_of_text(path), inputs, outputs)

    def _checkpoint(self, path: str, inputs: list[str], outputs: list[str], graph: str = "") -> Made:
        """Freezes: `path` is the prefix of a checkpoint, `graph` a graph file if it is not the .meta beside it."""
        v1 = tf.compat.v1
        with v1.Graph().as_default(), v1.Session() as session:
            if graph:
                v1.import_graph_def(graph_file(graph), name="")
                restore(session, path)
            else:
                saver = told(lambda: v1.train.import_meta_graph(f"{path}.meta", clear_devices=True), f"{path}.meta")
                told(lambda: saver.restore(session, path), path)
            graph_def = frozen(session, outputs)
        return self._graph(graph_def, inputs, outputs)

    def _session(self, session: Any, inputs: list[Any], outputs: list[Any]) -> Made:
        """A session of TensorFlow 1 with tensors."""
        names = [[getattr(tensor, "name", tensor) for tensor in tensors] for tensors in (inputs, outputs)]
        for name in (*names[0], *names[1]):
            check_node(session.graph, name)
        with session.graph.as_default():
            graph_def = frozen(session, names[1])
        return self._graph(graph_def, *names)

    def _graph(self, graph: Any, inputs: list[str], outputs: list[str]) -> Made:
        """A graph without variables."""
        heads, tails = ([n if ":" in n else f"{n}:0" for n in names] for names in (inputs, outputs))
        named = [head.partition(":")[0] for head in heads]
        self._fix_placeholders(graph, named)
        settle(graph, named)
        wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
        tensors = [wrapped.graph.as_graph_element(name) for name in (*heads, *tails)]
        pruned = pruned_to(wrapped, tensors[: len(heads)], tensors[len(heads) :])
        specs = [
            tf.TensorSpec(tensor.shape, tensor.dtype, head.partition(":")[0])
            for tensor, head in zip(pruned.inputs, heads, strict=True)
        ]
        return lambda *values: dict(zip(tails, pruned(*values), strict=True)), specs, wrapped

    def _fix_placeholders(self, graph: Any, names: list[str]) -> None:
        """Their shapes, before anything is computed from open ones."""
        for node in graph.node:
            node.attr.pop("_output_shapes", None)
            if node.name in names and node.op in PLACEHOLDERS:
                shape = tf.TensorShape(node.attr["shape"].shape)
                # Graphs from before 2017 write an empty shape where it is unknown.
                spec = tf.TensorSpec(None if shape.rank == 0 else shape, node.attr["dtype"].type, node.name)
                node.attr["shape"].shape.CopyFrom(self._fixed(spec, node.name).shape.as_proto())

    # Results

    def convert(
        self,
        output: str,
        quantize: str = "float32",
        interface: str = "float32",
        samples: str = "",
        input_stats: list[list[float]] | None = None,
    ) -> None:
        """Writes the model. `samples`: an .npz of calibration data."""
        looping = loops(self.function.graph.as_graph_def()) if quantize in ("int8", "int16x8") else []
        if looping:
            raise NotImplementedError(
                f"TensorFlow cannot quantize loops: {', '.join(looping[:3])}",
                "Unroll it (unroll=True of the layer), shorten its sequences, or use --quantize float32 or dynamic.",
            )
        if input_stats:
            converter = self._legacy(input_stats)
        else:
            converter = tf.lite.TFLiteConverter.from_concrete_functions([self.function], self.owner)
            _set(converter, quantize, interface, self._batches(samples))
        try:
            model = converter.convert()
        except Exception as error:
            raise _refused(error, loops(self.function.graph.as_graph_def())) from error
        made = self.outputs if input_stats else sorted(self.outputs)
        Path(output).write_bytes(in_order(model, [spec.name for spec in self.specs], self.outputs, made))

    def _batches(self, samples: str) -> list[Any]:
        """Calibration data: by name where TensorFlow's converter makes a signature, and inputs another order with it;
        it makes none of what is owned by a function."""
        every = read_arrays(samples) if samples else []
        if hasattr(self.owner, "structured_input_signature"):
            return every
        return [dict(zip([spec.name for spec in self.specs], values, strict=True)) for values in every]

    def _legacy(self, input_stats: list[list[float]]) -> Any:
        """The way of TensorFlow 1 to uint8: ranges come from the graph's fake_quant nodes."""
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        frozen = convert_variables_to_constants_v2(self.function)
        names = [tensor.name.partition(":")[0] for tensor in frozen.inputs]
        v1 = tf.compat.v1
        graph = frozen.graph.as_graph_def()
        with v1.Graph().as_default() as fresh:
            v1.import_graph_def(graph, name="")
            ends = dict(zip(sorted(self.outputs), frozen.outputs, strict=True))  # so TensorFlow has them
            ordered = frozen.inputs, [ends[name] for name in self.outputs]
            tensors = [[fresh.get_tensor_by_name(t.name) for t in ts] for ts in ordered]
            converter = v1.lite.TFLiteConverter(graph, *tensors)
        converter.inference_type = tf.uint8
        stats = input_stats * len(names) if len(input_stats) == 1 else input_stats
        converter.quantized_input_stats = {name: tuple(each) for name, each in zip(names, stats, strict=True)}
        return converter

    def run(self, samples: str, output: str) -> None:
        """What the source itself makes of calibration samples: an .npz of its outputs, one after the other."""
        found, states = [], [(variable, variable.numpy()) for variable in self.function.variables]
        for values in read_arrays(samples):
            inputs = [tf.constant(value, spec.dtype) for value, spec in zip(values, self.specs, strict=True)]
            made = self.function(*inputs)
            found.append([made[name] for name in self.outputs])
            for variable, first in states:  # the model is run from its first state, too
                variable.assign(first)
        write_arrays(output, found)


def _set(converter: Any, quantize: str, interface: str, batches: list[Any]) -> None:
    if quantize == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "dynamic":  # a scale a channel there is read by newer runtimes alone
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    if quantize not in ("int8", "int16x8"):
        return
    if batches:
        converter.representative_dataset = lambda: iter(batches)
        sets = tf.lite.OpsSet
        full = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [full if quantize == "int16x8" else sets.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, interface)


def _refused(error: Exception, looping: list[str]) -> Exception:
    """What a failure of the converter says to the user."""
    text = str(error)
    if wide := re.search(r"16x8-bit not yet supported for op: '(\w+)'", text):
        unroll = "Give the layer unroll=True, or use" if "SEQUENCE" in wide[1] else "Use"
        return NotImplementedError(
            f"TensorFlow Lite's converter has no int16x8 form of {wide[1]}", f"{unroll} --quantize int8."
        )
    if "TensorListReserve" in text:
        return NotImplementedError(
            f"the loop of a recurrent layer was saved with an open batch size: {', '.join(looping[:3])}",
            "Convert the .keras or .h5 file that it was exported from, or export it with a batch size of 1.",
        )
    missing = sorted(set(re.findall(r"\btf\.(\w+)\(tensor|\btf\.(\w+) \{|'tf\.(\w+)' op is neither", text)))
    names = sorted({name for group in missing for name in group if name})
    if not names:
        first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
        return ValueError(
            f"TensorFlow cannot convert this model: {first[:400]}",
            "Change what it names in the source, or give another form of the model.",
        )
    where = re.findall(r'loc\(.*?"([^"]+)"', text) or re.findall(r'"([\w/.-]+)@', text)
    near = f" (at {', '.join(dict.fromkeys(where))})"[:200] if where else ""
    hints = [f"in place of {name}: {INSTEAD[name]}" for name in names if name in INSTEAD]
    return NotImplementedError(
        f"TensorFlow Lite has no operator for {', '.join(names)}{near}",
        f"{'; '.join(hints) or 'Express it by others'}; or end the model before it, and compute the rest outside.",
    )
