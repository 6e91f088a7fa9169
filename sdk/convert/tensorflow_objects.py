"""Objects of TensorFlow and Keras as what a session converts: a callable, the specs of its inputs, and what owns its
variables."""

from __future__ import annotations

import re
from typing import Any

import tensorflow as tf

from sdk.convert.tensorflow_files import chosen_signature, told
from sdk.convert.tensorflow_recurrent import prepare_recurrent

Made = tuple[Any, list[Any], Any]  # the last may be None: what the callable uses then


def of_object(source: Any) -> Made:
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
    if isinstance(source, tf.compat.v1.Session | tf.compat.v1.InteractiveSession):
        raise ValueError("a session does not say what to convert", "Give inputs=[...] and outputs=[...], its tensors.")
    if isinstance(source, tf.Module) or hasattr(source, "_trackable_children"):
        return _of_module(source)
    if callable(source):
        return of_object(source())
    raise ValueError(
        f"{type(source).__name__} is nothing that TensorFlow converts",
        "Give a Keras model, a concrete function or a tf.Module with one tf.function.",
    )


def _of_module(source: Any, wanted: str = "") -> Made:
    functions = {
        name: value
        for name in dir(source)
        if not name.startswith("_") or name == "__call__"
        if hasattr(value := getattr(source, name, None), "get_concrete_function")
    }
    name = wanted or ("__call__" if "__call__" in functions else next(iter(functions), ""))
    if name not in functions or (len(functions) > 1 and not wanted and name != "__call__"):
        raise ValueError(
            f"the module has {len(functions) or 'no'} functions of TensorFlow{': ' if functions else ''}"
            f"{', '.join(functions)}",
            "Give one of them: module.function.get_concrete_function(), of a SavedModel --signature NAME.",
        )
    call, specs, _ = of_object(functions[name])
    return call, specs, source


def by_name(outputs: Any) -> dict[str, Any]:
    """What a callable gives, by names that a signature may have: its own if it is a dict."""
    flat = tf.nest.flatten(outputs)
    own = list(outputs) if isinstance(outputs, dict) else []
    names = [re.sub(r"[^A-Za-z0-9_.\\-]", "_", str(name).removesuffix(":0")) for name in own]
    if isinstance(outputs, dict) and len(set(names)) == len(flat) == len(own):
        return dict(zip(names, outputs.values(), strict=True))
    return {f"output_{i}": tensor for i, tensor in enumerate(flat)}


def of_saved_model(path: str, wanted: str = "") -> Made:
    """A SavedModel of TensorFlow 2. `wanted`: one of its signatures."""
    found = told(lambda: tf.saved_model.load(path), path)
    if not found.signatures:
        return _of_module(found, wanted)
    function = found.signatures[chosen_signature(list(found.signatures), wanted, path)]
    specs = function.structured_input_signature[1]
    keys = sorted(specs, key=_counted)  # they have no order, in the file nor in what is loaded of it
    named = [tf.TensorSpec(specs[key].shape, specs[key].dtype, key) for key in keys]

    def call(*values: Any) -> Any:
        made = function(**dict(zip(keys, values, strict=True)))
        return {name: made[name] for name in sorted(made, key=_counted)}

    return call, named, found


def _counted(name: str) -> list[Any]:
    """Names with numbers by these: output_2 before output_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _is_keras(source: Any) -> bool:
    return any(
        c.__module__.split(".")[0] in ("keras", "tf_keras") and c.__name__ == "Model" for c in type(source).__mro__
    )


def _inputs_of(model: Any) -> list[Any]:
    """The specs of its inputs; those of a model of its own class are what it was called with."""
    if getattr(model, "inputs", None):
        return [tf.TensorSpec(each.shape, each.dtype, each.name) for each in model.inputs]
    saved = model.save_spec() if hasattr(model, "save_spec") else None
    if saved is not None:
        return list(tf.nest.flatten(saved[0]))
    shapes = list((getattr(model, "_build_shapes_dict", None) or {}).values())
    plain = all(isinstance(shape, tuple) for shape in shapes)
    return [tf.TensorSpec([None, *shape[1:]], tf.float32) for shape in shapes] if plain else []


def _of_keras(model: Any) -> Made:
    specs = _inputs_of(model)
    if not specs:
        raise ValueError("the Keras model has no inputs yet", "Call it once, or build it with an Input layer.")
    prepare_recurrent(model)
    structure = getattr(model, "_inputs_struct", None)  # of Keras 3, whose functional models insist on it
    keys = sorted(structure) if isinstance(structure, dict) and len(structure) == len(specs) else []

    def call(*values: Any) -> Any:
        given = dict(zip(keys, values, strict=True)) if keys else values[0] if len(values) == 1 else list(values)
        made = model(given, training=False)
        flat, names = tf.nest.flatten(made), list(getattr(model, "output_names", None) or [])
        known = not isinstance(made, dict) and len(flat) == len(names)
        return dict(zip(names, flat, strict=True)) if known else made

    # Models of Keras 3 do not show their variables to what saves them.
    is_new = any(each.__module__.startswith("keras.") for each in type(model).__mro__)
    return call, specs, None if is_new else model


def _of_concrete(function: Any) -> Made:
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
