"""A source of TensorFlow as a .tflite model: runs in `sdk.convert.worker`, or in the caller's own process for objects.

Every source becomes one concrete function whose inputs have fixed shapes (a microcontroller takes one sample at a time,
and open shapes would leave chains of SHAPE, STRIDED_SLICE and PACK in the model), and is converted as that.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
import tensorflow as tf

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
        self._take(self._session(source, **options) if options else self._object(source))
        return self._about()

    def _take(self, made: tuple[Any, list[Any], Any]) -> None:
        """`made`: a callable, the specs of its inputs, and what owns its variables."""
        call, specs, self.owner = made
        fixed = [self._fixed(spec, f"input {i}") for i, spec in enumerate(specs)]
        self.function = tf.function(lambda *values: call(*values)).get_concrete_function(*fixed)
        self.specs = fixed

    def _fixed(self, spec: Any, fallback: str) -> Any:
        name = re.sub(r"[^A-Za-z0-9_.\\-]", "_", (spec.name or fallback).partition(":")[0])
        given = self.shapes.get(name, self.shapes.get(spec.name or ""))
        if given is None and spec.shape.rank is None:
            raise ValueError(f"the input '{name}' has no shape", f"Say it: --shape {name}=1,28,28,1.")
        own: list[Any] = [] if given is not None else spec.shape.as_list()
        shape: list[Any] = given or [1 if i == 0 and size is None else size for i, size in enumerate(own)]
        if None in shape:
            sizes = ",".join("?" if size is None else str(size) for size in shape)
            raise ValueError(f"the input '{name}' is [{sizes}]", f"Say what is open: --shape {name}={sizes}.")
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

    def _saved_model(self, path: str, signature: str = "") -> tuple[Any, list[Any], Any]:
        if _is_of_tensorflow_1(path):
            return self._saved_graph(path, signature)
        found = _told(lambda: tf.saved_model.load(path), path)
        if not found.signatures:
            return self._object(found)
        function = found.signatures[_signature(list(found.signatures), signature, path)]
        specs = function.structured_input_signature[1]
        named = [tf.TensorSpec(spec.shape, spec.dtype, key) for key, spec in specs.items()]
        return (lambda *values: function(**dict(zip(specs, values, strict=True)))), named, found

    def _saved_graph(self, path: str, signature: str) -> tuple[Any, list[Any], Any]:
        """A SavedModel of TensorFlow 1, whose variables cannot be taken over into a function: frozen."""
        v1 = tf.compat.v1
        with v1.Graph().as_default(), v1.Session() as session:
            meta = _told(lambda: v1.saved_model.load(session, ["serve"], path), path)
            name = _signature([n for n in meta.signature_def if not n.startswith("__")], signature, path)
            ends = meta.signature_def[name]
            inputs, outputs = ([info.name for info in infos.values()] for infos in (ends.inputs, ends.outputs))
            frozen = _frozen(session, outputs)
        return self._graph(frozen, inputs, outputs)

    def _keras(self, path: str) -> tuple[Any, list[Any], Any]:
        return self._object(_load_keras(path))

    _h5 = _keras

    def _frozen_graph(self, path: str, inputs: list[str], outputs: list[str]) -> tuple[Any, list[Any], Any]:
        graph = tf.compat.v1.GraphDef()
        _told(lambda: graph.ParseFromString(Path(path).read_bytes()), path)
        return self._graph(graph, inputs, outputs)

    def _graph_text(self, path: str, inputs: list[str], outputs: list[str]) -> tuple[Any, list[Any], Any]:
        return self._graph(_graph_of_text(path), inputs, outputs)

    def _checkpoint(
        self, path: str, inputs: list[str], outputs: list[str], graph: str = ""
    ) -> tuple[Any, list[Any], Any]:
        """Freezes: `path` is the prefix of a checkpoint, `graph` a graph file if it is not the .meta beside it."""
        v1 = tf.compat.v1
        with v1.Graph().as_default(), v1.Session() as session:
            if graph:
                v1.import_graph_def(_graph_file(graph), name="")
                _restore(session, path)
            else:
                saver = _told(lambda: v1.train.import_meta_graph(f"{path}.meta", clear_devices=True), f"{path}.meta")
                _told(lambda: saver.restore(session, path), path)
            frozen = _frozen(session, outputs)
        return self._graph(frozen, inputs, outputs)

    def _session(self, session: Any, inputs: list[Any], outputs: list[Any]) -> tuple[Any, list[Any], Any]:
        """A session of TensorFlow 1 with tensors."""
        names = [[getattr(tensor, "name", tensor) for tensor in tensors] for tensors in (inputs, outputs)]
        with session.graph.as_default():
            frozen = _frozen(session, [name.partition(":")[0] for name in names[1]])
        return self._graph(frozen, *names)

    def _graph(self, graph: Any, inputs: list[str], outputs: list[str]) -> tuple[Any, list[Any], Any]:
        """A graph without variables."""
        heads, tails = ([n if ":" in n else f"{n}:0" for n in names] for names in (inputs, outputs))
        self._fix_placeholders(graph, [head.partition(":")[0] for head in heads])
        wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
        tensors = [wrapped.graph.as_graph_element(name) for name in (*heads, *tails)]
        pruned = wrapped.prune(tensors[: len(heads)], tensors[len(heads) :])
        specs = [
            tf.TensorSpec(tensor.shape, tensor.dtype, head.partition(":")[0])
            for tensor, head in zip(pruned.inputs, heads, strict=True)
        ]
        return pruned, specs, wrapped

    def _fix_placeholders(self, graph: Any, names: list[str]) -> None:
        """Their shapes, before anything is computed from open ones."""
        for node in graph.node:
            node.attr.pop("_output_shapes", None)
            if node.name in names and node.op.startswith("Placeholder"):
                shape = tf.TensorShape(node.attr["shape"].shape)
                # Graphs from before 2017 write an empty shape where it is unknown.
                spec = tf.TensorSpec(None if shape.rank == 0 else shape, node.attr["dtype"].type, node.name)
                node.attr["shape"].shape.CopyFrom(self._fixed(spec, node.name).shape.as_proto())

    def _object(self, source: Any) -> tuple[Any, list[Any], Any]:
        """A Keras model, concrete function, tf.function with an input signature, tf.Module with one such function, or
        what a function without arguments gives of these."""
        if hasattr(source, "structured_input_signature"):
            return _of_concrete(source)
        if _is_keras(source):
            return _of_keras(source)
        if hasattr(source, "get_concrete_function") and getattr(source, "function_spec", source) is not None:
            signature = getattr(source, "input_signature", None)
            if signature is None:
                raise ValueError(
                    "the tf.function has no input signature",
                    "Declare it: @tf.function(input_signature=[tf.TensorSpec([1, 28, 28, 1])]), or a concrete one.",
                )
            return _of_concrete(source.get_concrete_function())
        if isinstance(source, tf.Module) or hasattr(source, "_trackable_children"):
            return self._of_module(source)
        if callable(source):
            return self._object(source())
        raise ValueError(
            f"{type(source).__name__} is nothing that TensorFlow converts",
            "Give a Keras model, a concrete function or a tf.Module with one tf.function.",
        )

    def _of_module(self, source: Any) -> tuple[Any, list[Any], Any]:
        functions = {
            name: value
            for name in dir(source)
            if not name.startswith("_") or name == "__call__"
            if hasattr(value := getattr(source, name, None), "get_concrete_function")
        }
        name = "__call__" if "__call__" in functions else next(iter(functions), None)
        if name is None or (len(functions) > 1 and name != "__call__"):
            raise ValueError(
                f"the module has {len(functions)} functions of TensorFlow: {', '.join(functions)}",
                "Give one of them: module.function.get_concrete_function().",
            )
        call, specs, _ = self._object(functions[name])
        return call, specs, source

    # Results

    def convert(
        self,
        output: str,
        quantize: str = "float32",
        interface: str = "float32",
        samples: str = "",
        input_stats: list[list[float]] | None = None,
    ) -> None:
        """Writes the model. `samples`: an .npz of calibration data as `sdk.convert.calibration` writes it."""
        if input_stats:
            converter = self._legacy(input_stats)
        else:
            converter = tf.lite.TFLiteConverter.from_concrete_functions([self.function], self.owner)
            _set(converter, quantize, interface, _batches(samples))
        try:
            model = converter.convert()
        except Exception as error:
            raise _refused(error) from error
        Path(output).write_bytes(model)

    def _legacy(self, input_stats: list[list[float]]) -> Any:
        """The way of TensorFlow 1 to uint8: ranges come from the graph's fake_quant nodes."""
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        frozen = convert_variables_to_constants_v2(self.function)
        names = [tensor.name.partition(":")[0] for tensor in frozen.inputs]
        v1 = tf.compat.v1
        graph = frozen.graph.as_graph_def()
        with v1.Graph().as_default() as fresh:
            v1.import_graph_def(graph, name="")
            tensors = [[fresh.get_tensor_by_name(t.name) for t in ts] for ts in (frozen.inputs, frozen.outputs)]
            converter = v1.lite.TFLiteConverter(graph, *tensors)
        converter.inference_type = tf.uint8
        stats = input_stats * len(names) if len(input_stats) == 1 else input_stats
        converter.quantized_input_stats = {name: tuple(each) for name, each in zip(names, stats, strict=True)}
        return converter

    def run(self, samples: str, output: str) -> None:
        """What the source itself makes of calibration samples: an .npz of its outputs, one after the other."""
        found = []
        for values in _batches(samples) or []:
            inputs = [tf.constant(value, spec.dtype) for value, spec in zip(values, self.specs, strict=True)]
            found.append([np.asarray(each) for each in tf.nest.flatten(self.function(*inputs))])
        np.savez(output, **{f"s{i}_{k}": value for i, values in enumerate(found) for k, value in enumerate(values)})


def _set(converter: Any, quantize: str, interface: str, batches: list[list[Any]] | None) -> None:
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


def _batches(samples: str) -> list[list[Any]] | None:
    """The arrays s0_0, s0_1, s1_0, ... of a file: of each sample those of each input."""
    if not samples:
        return None
    with np.load(samples) as found:
        inputs = sum(name.startswith("s0_") for name in found.files)
        return [[found[f"s{i}_{k}"] for k in range(inputs)] for i in range(len(found.files) // inputs)]


def _refused(error: Exception) -> Exception:
    """What a failure of the converter says to the user."""
    text = str(error)
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


def _told(load: Any, path: str) -> Any:
    """The result of `load`; what it raises, in words."""
    try:
        return load()
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"TensorFlow cannot load {path}: {first[:400]}", "Is it complete, and from TensorFlow?"
        ) from error


def _is_of_tensorflow_1(path: str) -> bool:
    from tensorflow.python.saved_model import loader_impl

    found = _told(lambda: loader_impl.parse_saved_model(path), path)
    return not found.meta_graphs[0].HasField("object_graph_def")


def _signature(names: list[str], wanted: str, path: str) -> str:
    """The one that is wanted, or the only one, or the one that serves."""
    name = wanted or ("serving_default" if "serving_default" in names else names[0])
    if name not in names:
        raise ValueError(f"{path} has no signature '{name}'", f"It has {', '.join(names)}.")
    if len(names) > 1 and not wanted and name != "serving_default":
        raise ValueError(f"{path} has the signatures {', '.join(names)}", "Choose one: --signature NAME.")
    return name


def _is_keras(source: Any) -> bool:
    return any(
        c.__module__.split(".")[0] in ("keras", "tf_keras") and c.__name__ == "Model" for c in type(source).__mro__
    )


def _of_keras(model: Any) -> tuple[Any, list[Any], Any]:
    if not getattr(model, "inputs", None):
        raise ValueError("the Keras model has no inputs yet", "Call it once, or build it with an Input layer.")
    if type(model).__mro__[-2].__module__.startswith("keras") or any(
        c.__module__.startswith("keras.") for c in type(model).__mro__
    ):  # Keras 3 leaves variables in functions, but not in what it exports
        with tempfile.TemporaryDirectory() as folder:
            model.export(folder, verbose=False)
            return Session()._saved_model(folder)
    specs = [tf.TensorSpec(each.shape, each.dtype, each.name) for each in model.inputs]

    def call(*values: Any) -> Any:
        return model(values[0] if len(values) == 1 else list(values), training=False)

    return call, specs, model


def _of_concrete(function: Any) -> tuple[Any, list[Any], Any]:
    captured = {id(placeholder) for _, placeholder in function.graph.captures}
    inputs = [tensor for tensor in function.inputs if id(tensor) not in captured and tensor.dtype != tf.resource]
    specs = [tf.TensorSpec(each.shape, each.dtype, each.name.partition(":")[0]) for each in inputs]
    positional, named = function.structured_input_signature
    if named and not positional:
        keys = list(named)
        return (
            (lambda *values: function(**dict(zip(keys, values, strict=True)))),
            [tf.TensorSpec(named[key].shape, named[key].dtype, key) for key in keys],
            function,
        )
    return function, specs, function


def _load_keras(path: str) -> Any:
    """By the Keras of TensorFlow 2 first, which reads the oldest files too; files of Keras 3 by that."""
    import keras
    import tf_keras

    try:
        return tf_keras.models.load_model(path, compile=False)
    except Exception as old:  # noqa: BLE001 - each version fails in its own way
        try:
            return keras.models.load_model(path, compile=False)
        except Exception as new:
            missing = re.search(r"Unknown layer:? '?(\w+)|Could not locate class '(\w+)'", f"{old} {new}")
            if missing:
                name = missing[1] or missing[2]
                raise ValueError(
                    f"{path} uses {name}, a class of its author",
                    "Give it as module:attribute, a function that loads it with custom_objects.",
                ) from new
            first = next((line for line in str(old).splitlines() if line.strip()), type(old).__name__)
            raise ValueError(
                f"Keras cannot load {path}: {first[:400]}", "Is it a whole model, not its weights?"
            ) from new


def _graph_file(path: str) -> Any:
    if path.endswith((".pbtxt", ".txt")):
        return _graph_of_text(path)
    graph = tf.compat.v1.GraphDef()
    _told(lambda: graph.ParseFromString(Path(path).read_bytes()), path)
    return graph


def _graph_of_text(path: str) -> Any:
    from google.protobuf import text_format

    graph = tf.compat.v1.GraphDef()
    return _told(lambda: text_format.Parse(Path(path).read_text(), graph), path)


def _restore(session: Any, prefix: str) -> None:
    """Gives the variables of a bare graph their values of a checkpoint, by their names."""
    reader = _told(lambda: tf.train.load_checkpoint(prefix), prefix)
    graph = session.graph
    operations = {operation.name: operation for operation in graph.get_operations()}
    wanted = [o for o in operations.values() if o.type in ("VariableV2", "Variable", "VarHandleOp")]
    stored = reader.get_variable_to_shape_map()
    missing = [o.name for o in wanted if o.name not in stored]
    if missing:
        raise ValueError(f"the checkpoint {prefix} has no {missing[0]}", "Give the checkpoint of this graph.")
    for operation in wanted:
        target, value = operation.outputs[0], reader.get_tensor(operation.name)
        is_handle = operation.type == "VarHandleOp"
        assign = tf.raw_ops.AssignVariableOp if is_handle else tf.raw_ops.Assign
        constant = tf.constant(value)
        made = assign(resource=target, value=constant) if is_handle else assign(ref=target, value=constant)
        session.run(made)


def _frozen(session: Any, outputs: list[str]) -> Any:
    v1 = tf.compat.v1
    names = [name.partition(":")[0] for name in outputs]
    return _told(
        lambda: v1.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), names),
        "the variables of the graph",
    )
