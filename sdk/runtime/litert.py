"""The engines LiteRT (ai-edge-litert) and tflite-runtime: the same Interpreter under two names."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sdk.errors import MissingToolError, ModelError, ToolError, UnsupportedError, UsageError
from sdk.runtime.tensors import Array, Tensor

MODULES = {"litert": "ai_edge_litert.interpreter", "tflite": "tflite_runtime.interpreter"}
PACKAGES = {"litert": "ai-edge-litert", "tflite": "tflite-runtime"}


def installed(engine: str) -> bool:
    """Whether the package of `engine` is there."""
    try:
        return importlib.util.find_spec(MODULES[engine]) is not None
    except ModuleNotFoundError:
        return False


_Named = tuple[str, Any]  # a name, and what the Interpreter says of its tensor


class LiteRtEngine:
    """A model in an Interpreter. `signature`: of a model that has several, None for its main graph."""

    def __init__(
        self,
        engine: str,
        model: Path,
        *,
        signature: str | None,
        threads: int,
        delegates: Sequence[str | tuple[str, Mapping[str, str]]],
        reference: bool,
    ) -> None:
        module = _module(engine)
        resolver = module.OpResolverType.BUILTIN_REF if reference else module.OpResolverType.AUTO
        try:
            self._interpreter = module.Interpreter(
                model_path=str(model),
                num_threads=threads,
                experimental_op_resolver_type=resolver,
                experimental_delegates=[_delegate(module, each) for each in delegates] or None,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _refusal(engine, model, error) from error
        self.name = f"{PACKAGES[engine]}{' with reference kernels' if reference else ''}"
        self._signature = signature
        self._inputs, self._outputs = self._details()
        self.inputs = [_tensor(name, details) for name, details in self._inputs]
        self.outputs = [_tensor(name, details) for name, details in self._outputs]

    def _details(self) -> tuple[list[_Named], list[_Named]]:
        """The names and details of inputs and outputs: by the names of the signature that was asked for, or of the only
        one; else by those of the tensors."""
        known = list(self._interpreter.get_signature_list())
        if self._signature is not None and self._signature not in known:
            raise UsageError(
                f"the model has no signature '{self._signature}'", f"It has {', '.join(known) or 'none at all'}."
            )
        name = self._signature or (known[0] if len(known) == 1 else None)
        runner = self._interpreter.get_signature_runner(name) if name is not None else None
        sides = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        named = (runner.get_input_details(), runner.get_output_details()) if runner is not None else ({}, {})
        self._runner = None
        if self._signature is not None:
            self._runner = runner
            return list(named[0].items()), list(named[1].items())
        inputs, outputs = (_named(side, names) for side, names in zip(sides, named, strict=True))
        return inputs, outputs

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        """One inference on stored values."""
        try:
            if self._runner is not None:
                named = dict(zip((tensor.name for tensor in self.inputs), inputs, strict=True))
                results = self._runner(**named)
                return [np.array(results[tensor.name]) for tensor in self.outputs]
            for (_, details), array in zip(self._inputs, inputs, strict=True):
                self._interpreter.set_tensor(details["index"], array)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(details["index"]) for _, details in self._outputs]
        except (ValueError, RuntimeError) as error:
            raise ToolError(
                f"{self.name} failed: {_first_line(error)}", "Try another engine of the runtime."
            ) from error

    def reset(self) -> None:
        """Puts variables back to their initial values."""
        self._interpreter.reset_all_variables()

    def close(self) -> None:
        """Lets the model go."""
        self._runner = None
        with contextlib.suppress(AttributeError):
            del self._interpreter


def _module(engine: str) -> ModuleType:
    try:
        return importlib.import_module(MODULES[engine])
    except ImportError as error:
        raise MissingToolError(
            f"{PACKAGES[engine]} is missing or does not start here ({_first_line(error)})",
            f"Run: pip install {PACKAGES[engine]}. Without a wheel for this board: engine='microlith'.",
        ) from error


def _delegate(module: ModuleType, given: str | tuple[str, Mapping[str, str]]) -> Any:
    path, options = (given, {}) if isinstance(given, str) else given
    try:
        return module.load_delegate(path, dict(options))
    except (ValueError, OSError, AttributeError) as error:  # the last: a library that is no delegate
        raise ToolError(
            f"the delegate {path} cannot be loaded: {_first_line(error)}", "Check its path and its architecture."
        ) from error


def _named(details: Sequence[Any], signature: Mapping[str, Any]) -> list[_Named]:
    """Details in the model's order, by the names that a signature has for them."""
    names = {each["index"]: name for name, each in signature.items()}
    return [(str(names.get(each["index"], each["name"])), each) for each in details]


def _refusal(engine: str, model: Path, error: Exception) -> ModelError | UnsupportedError:
    """The engines say by their text only what it was."""
    text = _first_line(error)
    if "flatbuffer" in text.lower() or "Could not open" in text or "identifier" in text:
        return ModelError(f"{model} is no sound .tflite file: {text}", "Convert or copy it again.")
    return UnsupportedError(f"{PACKAGES[engine]} refuses {model}: {text}", "Try another engine of the runtime.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _tensor(name: str, details: Any) -> Tensor:
    """Only one scale for all of it makes an input or output quantized."""
    scale, zero_point = details["quantization"]
    shape = tuple(int(size) for size in details["shape"])
    return Tensor(name, shape, np.dtype(details["dtype"]), float(scale), int(zero_point))
