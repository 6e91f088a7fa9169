"""Recurrent layers of Keras, so that TensorFlow's converter makes of them what microcontrollers run.

It fuses an LSTM of Keras 2 into one operator, and leaves any other recurrent layer a loop, whose quantization crashes
it: LSTMs of Keras 3 compute as those of Keras 2, and what is not fused is unrolled.
"""

from __future__ import annotations

from typing import Any

MOST_STEPS = 128  # longer sequences stay loops: each step becomes some ten operators


def prepare_recurrent(model: Any) -> None:
    """Changes how the layers of a model compute, not what."""
    layers = list(model._flatten_layers())
    is_masked = any(type(each).__name__ == "Masking" or getattr(each, "mask_zero", False) for each in layers)
    for layer in layers:
        if not any(each.__name__ == "RNN" for each in type(layer).__mro__) or getattr(layer, "stateful", False):
            continue
        if not is_masked and _is_plain_lstm(layer):
            if type(layer).__module__.startswith("keras."):
                _as_keras_2(layer)
        else:
            layer._could_use_gpu_kernel = layer.use_cudnn = False
            layer.unroll = layer.unroll or 0 < _steps(layer) <= MOST_STEPS


def loops(graph: Any) -> list[str]:
    """The names of the loops of a graph, without those that are fused."""
    functions = [each for each in graph.library.function if not each.attr["api_implements"].s.startswith(b"lstm")]
    nodes = [*graph.node, *(node for function in functions for node in function.node_def)]
    return [node.name for node in nodes if node.op in ("While", "StatelessWhile")]


def _is_plain_lstm(layer: Any) -> bool:
    """As Keras' condition for its fused kernel, and TensorFlow Lite's: no state is given or taken."""
    calls = [getattr(each, "keras_inputs", None) or each.input_tensors for each in layer._inbound_nodes]
    return (
        type(layer).__name__ == "LSTM"
        and getattr(layer.activation, "__name__", "") == "tanh"
        and getattr(layer.recurrent_activation, "__name__", "") == "sigmoid"
        and layer.use_bias
        and not layer.unroll
        and not layer.recurrent_dropout
        and not layer.return_state
        and all(len(inputs) == 1 for inputs in calls)
    )


def _steps(layer: Any) -> int:
    """How long its sequences are; 0 if that is open."""
    spec = getattr(layer, "_build_shapes_dict", None) or {}
    shape = next(iter(spec.values()), None) or getattr(layer, "_build_input_shape", None)
    return (shape[1] or 0) if shape is not None else 0


def _as_keras_2(layer: Any) -> None:
    """An LSTM of Keras 3, computed by one of Keras 2 with its weights."""
    import tf_keras

    twin = tf_keras.layers.LSTM(layer.units, return_sequences=True, go_backwards=layer.go_backwards, name=layer.name)
    weights = layer.get_weights()
    twin.build((1, None, weights[0].shape[0]))
    twin.set_weights(weights)

    def inner_loop(sequences: Any, initial_state: Any, *_: Any, **__: Any) -> Any:
        every = twin(sequences)
        return every[:, -1], every, initial_state  # nobody asks for the last state

    layer.inner_loop = inner_loop
