"""What lies in files of TensorFlow and Keras, loaded; what cannot be is said in words for the user."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import tensorflow as tf


def told(load: Any, path: str) -> Any:
    """The result of `load`; what it raises, in words."""
    try:
        return load()
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"TensorFlow cannot load {path}: {first[:400]}", "Is it complete, and from TensorFlow?"
        ) from error


def is_of_tensorflow_1(path: str) -> bool:
    """Whether a SavedModel has no objects, but a graph with variables."""
    from tensorflow.python.saved_model import loader_impl

    found = told(lambda: loader_impl.parse_saved_model(path), path)
    return not found.meta_graphs[0].HasField("object_graph_def")


def tags_of(path: str) -> list[str]:
    """The tags of the graph of a SavedModel that serves; of its first, if none does."""
    from tensorflow.python.saved_model import loader_impl

    every = [list(graph.meta_info_def.tags) for graph in loader_impl.parse_saved_model(path).meta_graphs]
    return next((tags for tags in every if tags == ["serve"]), next((t for t in every if "serve" in t), every[0]))


def chosen_signature(names: list[str], wanted: str, path: str) -> str:
    """The one that is wanted, or the only one, or the one that serves."""
    name = wanted or ("serving_default" if "serving_default" in names else names[0])
    if name not in names:
        raise ValueError(f"{path} has no signature '{name}'", f"It has {', '.join(names)}.")
    if len(names) > 1 and not wanted and name != "serving_default":
        raise ValueError(f"{path} has the signatures {', '.join(names)}", "Choose one: --signature NAME.")
    return name


def load_keras(path: str) -> Any:
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
            if "No model config found" in str(old):
                raise ValueError(
                    f"{path} holds the weights of a model, and not the model",
                    "Save all of it (model.save), or give module:attribute, a function that builds it and loads them.",
                ) from new
            if "safe_mode" in f"{old} {new}":
                raise ValueError(
                    f"{path} has a layer of code (Lambda), which would be run",
                    "If you trust it, give module:attribute, a function that loads it with safe_mode=False.",
                ) from new
            told_by = new if zipfile.is_zipfile(path) else old
            first = next((line for line in str(told_by).splitlines() if line.strip()), type(told_by).__name__)
            raise ValueError(
                f"Keras cannot load {path}: {first[:400]}", "Is it a whole model, not its weights?"
            ) from new


def graph_file(path: str) -> Any:
    """A graph in text or binary, by its name's ending."""
    return graph_of_text(path) if path.endswith((".pbtxt", ".txt")) else binary_graph(path)


def binary_graph(path: str) -> Any:
    """A GraphDef."""
    graph = tf.compat.v1.GraphDef()
    told(lambda: graph.ParseFromString(Path(path).read_bytes()), path)
    return graph


def graph_of_text(path: str) -> Any:
    """A GraphDef in text."""
    from google.protobuf import text_format

    graph = tf.compat.v1.GraphDef()
    return told(lambda: text_format.Parse(Path(path).read_text(), graph), path)


def restore(session: Any, prefix: str) -> None:
    """Gives the variables of a bare graph their values of a checkpoint, by their names."""
    reader = told(lambda: tf.train.load_checkpoint(prefix), prefix)
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


def frozen(session: Any, outputs: list[str]) -> Any:
    """The graph of a session as far as `outputs` (nodes or tensors) need it, its variables constants."""
    v1 = tf.compat.v1
    names = [name.partition(":")[0] for name in outputs]
    return told(
        lambda: v1.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), names),
        "the variables of the graph",
    )
