"""The reference results that a device is compared with.

Two libraries implement the same reference arithmetic: tflite-runtime 2.14 with its reference kernels, and tflite-micro.
They run in child processes (`sdk.oracle_worker`): a model that makes a library crash, abort or hang costs an error
message and not this process. A library is imported once.

    with Oracle(model) as oracle:
        result = oracle.run([pixels])
        result.outputs[0], result.tensors[17]
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdk import oracle_worker
from sdk.closing import Closing
from sdk.errors import InputError, MissingToolError, SdkError, ToolError, UnsupportedError, UsageError
from sdk.graph import Array

IMPLEMENTATIONS = tuple(oracle_worker.IMPLEMENTATIONS)  # in the order they are tried
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class OracleResult:
    """Outputs in the model's order; `tensors` has every value that an operator of the main subgraph made, by the
    tensor's index in it."""

    outputs: list[Array]
    tensors: dict[int, Array]


class Oracle(Closing):
    """A model in the reference implementation. State lives across runs until `reset`.

    `which`: one of IMPLEMENTATIONS; else the first that takes the model. UnsupportedError, with every one's reason, if
    none does. `timeout_s` bounds each call.
    """

    def __init__(self, model: bytes, which: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._model = model
        self._key = next(_keys)
        self._untried = [which] if which is not None else list(IMPLEMENTATIONS)
        self._refusals: list[SdkError] = []
        self._load()

    def _load(self) -> None:
        """Loads the model into the next implementation that takes it."""
        while self._untried:
            self.name = self._untried.pop(0)
            try:
                self._worker = _worker(self.name)
                self.inputs: list[tuple[tuple[int, ...], str]] = self._call("load", self._model)
            except (UnsupportedError, ToolError) as error:
                self._refusals.append(error)
            else:
                self._fresh = True
                return
        reasons = "; ".join(error.message for error in self._refusals)
        if all(isinstance(error, MissingToolError) for error in self._refusals):
            raise MissingToolError(reasons, self._refusals[0].remedy)
        raise UnsupportedError(
            reasons,
            "Verify it as converted to float32, or to int8 throughout; `sdk run` runs the model as it is.",
        )

    def _call(self, command: str, *arguments: Any) -> Any:
        return self._worker.call(self._key, self._timeout_s, command, *arguments)

    def run(self, inputs: Sequence[Array]) -> OracleResult:
        """One inference. InputError if an input has another shape or type than the model says."""
        if len(inputs) != len(self.inputs):
            raise InputError(f"the model takes {len(self.inputs)} inputs, {len(inputs)} were given")
        for index, (array, (shape, dtype)) in enumerate(zip(inputs, self.inputs, strict=True)):
            if tuple(array.shape) != shape or array.dtype != np.dtype(dtype):
                given = f"{array.dtype}{list(array.shape)}"
                raise InputError(f"input {index} of the model is {dtype}{list(shape)}; {given} was given")
        try:
            outputs, tensors = self._call("run", list(inputs))
        except (UnsupportedError, ToolError) as error:
            if not self._fresh or not self._untried:
                raise
            self._refusals.append(error)
            self._load()
            return self.run(inputs)
        self._fresh = False
        return OracleResult(outputs, tensors)

    def reset(self) -> None:
        """Puts all state back to its initial values."""
        self._call("reset")

    def close(self) -> None:
        """Lets the library free the model."""
        if self._worker.alive:
            with contextlib.suppress(ToolError):  # a process that has ended holds nothing
                self._call("drop")


class _Worker:
    """The child process of one library. It outlives whatever its models do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-P", oracle_worker.__file__, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C on the terminal is for this process, which ends the child by closing the pipe
            # It forks: threads that numpy starts for linear algebra would be missing in the forked processes.
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def call(self, key: int, timeout_s: float, command: str, *arguments: Any) -> Any:
        """The result of `command` for a model. UnsupportedError if the library refuses the model; ToolError if it is
        missing, crashes or takes longer than `timeout_s`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            oracle_worker.write_message(self._process.stdin, (key, timeout_s, command, *arguments))
            kind, value = oracle_worker.read_message(self._process.stdout)
        except (EOFError, OSError, ValueError) as error:
            self.stop()
            raise ToolError(f"the process of the oracle {self.name} has ended", "Load the model again.") from error
        except BaseException:
            self.stop()  # Ctrl-C: the answer would be taken for that of the next request
            raise
        if kind is None:
            return value
        if kind == "refused":
            raise UnsupportedError(f"the oracle {self.name} {value}")
        if kind == "missing":
            raise MissingToolError(f"the oracle {self.name} is missing ({value})", f"Run: pip install {self.name}")
        other = next(name for name in IMPLEMENTATIONS if name != self.name)
        raise ToolError(f"the oracle {self.name} {value}", f"Try the other one: {other}.")

    def stop(self) -> None:
        """Ends the process now. Twice is once."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was still to be sent has no reader
                    stream.close()


_keys = itertools.count()
_workers: dict[str, _Worker] = {}


def _worker(name: str) -> _Worker:
    """The one child process for a library; a new one if the last has ended."""
    if name not in IMPLEMENTATIONS:
        raise UsageError(f"there is no oracle '{name}'", f"There are {' and '.join(IMPLEMENTATIONS)}.")
    if name not in _workers or not _workers[name].alive:
        _workers[name] = _Worker(name)
    return _workers[name]


@atexit.register
def _stop_all() -> None:
    for worker in _workers.values():
        worker.stop()
