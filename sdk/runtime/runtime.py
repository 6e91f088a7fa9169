"""One class over the engines that a Linux board may have."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from sdk.closing import Closing
from sdk.errors import InputError, MissingToolError, UsageError
from sdk.runtime import interpreter, litert
from sdk.runtime.tensors import Array, Tensor

ENGINES = ("litert", "tflite", "microlith")  # in the order they are tried
Delegate = str | tuple[str, Mapping[str, str]]
MEASURE_S = 0.3  # for each number of threads that is tried
MAX_THREADS = 1024
WORTH = 0.9  # more threads must take at most this share of the time: they cost power, and other programs their cores


class Engine(Protocol):
    """What runs a model on stored values."""

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]

    def invoke(self, inputs: Sequence[Array]) -> list[Array]: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


class Runtime(Closing):
    """A loaded model. Not for several threads at once.

    `engine`: one of ENGINES, None for the first that is installed. `threads`: a number, or "measure" to try powers of
    two up to the number of cores and keep the fastest. `delegates`: paths of shared libraries, or pairs of path and
    options. `reference`: the reference kernels, which are exact and slow. `signature`: of a model that has several.
    MissingToolError, ModelError, UnsupportedError, UsageError.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        engine: str | None = None,
        signature: str | None = None,
        threads: int | Literal["measure"] = 1,
        delegates: Sequence[Delegate] = (),
        reference: bool = False,
    ) -> None:
        self.model = Path(model)
        if not self.model.is_file():
            raise UsageError(f"cannot read {model}", "Check the path.")
        self._kind = _choose(engine, self.model)
        self._options: dict[str, Any] = {"signature": signature, "delegates": delegates, "reference": reference}
        if self._kind == "microlith" and delegates:
            raise UsageError("the engine microlith takes no delegates", "Leave them out, or use LiteRT.")
        self.threads = 1 if threads == "measure" else threads
        if self.threads not in range(1, MAX_THREADS + 1):
            raise UsageError(f"{threads} threads cannot run a model", f"Use 1 to {MAX_THREADS}, or 'measure'.")
        self._engine, self._closed = self._load(self.threads), False
        self.inputs = {tensor.name: tensor for tensor in self._engine.inputs}
        self.outputs = {tensor.name: tensor for tensor in self._engine.outputs}
        if threads == "measure":
            self._measure_threads()

    def _load(self, threads: int) -> Engine:
        if self._kind == "microlith":
            return interpreter.MicrolithEngine(self.model, signature=self._options["signature"])
        return litert.LiteRtEngine(self._kind, self.model, threads=threads, **self._options)

    @property
    def engine(self) -> str:
        """What runs the model, for people."""
        return self._engine.name

    def close(self) -> None:
        """Lets the model and its memory go."""
        self._closed = True
        self._engine.close()

    def _opened(self) -> Engine:
        if self._closed:
            raise UsageError(f"the runtime of {self.model} is closed", "Make a new Runtime.")
        return self._engine

    def run(self, inputs: Any, *, raw: bool = False) -> dict[str, Array]:
        """The outputs, by name, of one inference. `inputs`: arrays by name, or the array of the only input. Values are
        real numbers on both sides; with `raw` they are as the model stores them. InputError if they do not fit."""
        stored = [tensor.stored(array, raw) for tensor, array in self._in_order(inputs)]
        outputs = zip(self.outputs.values(), self._opened().invoke(stored), strict=True)
        return {tensor.name: array if raw else tensor.real(array) for tensor, array in outputs}

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        """The same on stored values in the model's order, of the model's shapes and types."""
        if len(inputs) != len(self.inputs):
            raise InputError(
                f"the model has {len(self.inputs)} inputs, {len(inputs)} arrays were given",
                "Give one for each, in the order of `inputs`.",
            )
        return self._opened().invoke(inputs)

    def reset(self) -> None:
        """Puts a model's variables back to their initial values."""
        self._opened().reset()

    def measure_ms(self, seconds: float = MEASURE_S) -> float:
        """Milliseconds of one inference on zeros: the median of as many as fit into `seconds`, at least three."""
        return _measure_ms(self._opened(), seconds)

    def _in_order(self, inputs: Any) -> list[tuple[Tensor, Any]]:
        tensors = self._engine.inputs
        if not isinstance(inputs, Mapping):
            if len(tensors) != 1:
                raise InputError(
                    f"the model has {len(tensors)} inputs, one array was given",
                    f"Give them by name: {_names(tensors)}.",
                )
            return [(tensors[0], inputs)]
        unknown = sorted(set(inputs) - set(self.inputs))
        missing = sorted(set(self.inputs) - set(inputs))
        if unknown or missing:
            what = f"has no input '{unknown[0]}'" if unknown else f"needs the input '{missing[0]}'"
            raise InputError(f"the model {what}", f"Its inputs: {_names(tensors)}.")
        return [(tensor, inputs[tensor.name]) for tensor in tensors]

    def _measure_threads(self) -> None:
        """Keeps the engine with the number of threads that is fastest here and now."""
        if self._kind == "microlith":
            return  # it has one thread
        best_ms, threads = self.measure_ms(), 2
        while threads <= _cores():
            other = self._load(threads)
            ms = _measure_ms(other, MEASURE_S)
            if ms < WORTH * best_ms:
                self._engine, other, self.threads, best_ms = other, self._engine, threads, ms
            other.close()
            threads *= 2


def _choose(engine: str | None, model: Path) -> str:
    if engine is not None:
        if engine not in ENGINES:
            raise UsageError(f"there is no engine '{engine}'", f"There are {', '.join(ENGINES)}.")
        return engine
    if model.suffix == ".mlith":
        return "microlith"
    for name in litert.MODULES:
        if litert.installed(name):
            return name
    if model.with_suffix(".mlith").is_file():
        return "microlith"
    raise MissingToolError(
        "neither LiteRT nor tflite-runtime is installed here",
        f"Run: pip install ai-edge-litert; without a wheel for this board copy {model.stem}.mlith beside the model.",
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _measure_ms(engine: Engine, seconds: float) -> float:
    inputs = [np.zeros(tensor.shape, tensor.dtype) for tensor in engine.inputs]
    engine.invoke(inputs)  # the first one allocates
    end, times = time.perf_counter() + seconds, list[float]()
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        engine.invoke(inputs)
        times.append(time.perf_counter() - start)
    engine.reset()
    return 1000 * float(np.median(times))


def _names(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"'{tensor.name}'" for tensor in tensors)
