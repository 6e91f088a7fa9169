"""The child process of `sdk.oracle`: runs models in one of the reference implementations.

Started as a script with the implementation's name, alone: it imports nothing of the SDK. It imports the libraries once,
then forks a process for each model, so that a model that corrupts the library's memory, or makes it crash or hang, ends
its own process and no other.

Both ways a message is its length (8 bytes, little-endian) and a pickle. The parent sends (key of the model, timeout_s,
command, arguments) and gets (None, result) or (kind of the error, its text). A forked process is sent (command,
arguments). What the libraries print goes into the error's text.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import os
import pickle
import re
import select
import signal
import struct
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, Any, Protocol

import numpy as np

LENGTH = struct.Struct("<Q")
# Bytes an element at most: enough for any type, to size the arena by.
ELEMENT_BYTES = 8
OUTPUTS_SLOT = 8  # of the field `outputs` in the vtable of a SubGraph (schema.fbs): its third
BUILTIN_CODE_SLOT = 10  # of the field `builtin_code` in that of an OperatorCode: its fourth
SVDF_STATE_INPUT = 4
ARENA_LIMIT_BYTES = 1 << 30
MESSAGE_LIMIT_BYTES = 1 << 32  # a longer one comes from a process that has overwritten its memory
NOISE_CHARS = 300  # how much of a library's own messages an error repeats
PR_SET_PDEATHSIG = 1  # linux/prctl.h
M_PERTURB = -6  # malloc.h of glibc: memory that is allocated gets the complement of this byte


def read_message(stream: IO[bytes]) -> Any:
    """The next message; EOFError at the end of the stream, or where it is cut."""
    data = stream.read(LENGTH.size)
    if len(data) == LENGTH.size:
        size = LENGTH.unpack(data)[0]
        data = stream.read(size) if size <= MESSAGE_LIMIT_BYTES else b""
        if len(data) == size:
            return pickle.loads(data)
    raise EOFError


def write_message(stream: IO[bytes], message: Any) -> None:
    """Sends one message."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def made_tensors(graph: Any) -> list[int]:
    """Indices of the tensors that the operators of a subgraph write, in order, without handles of resources: asking a
    library for the value of one is fatal."""
    import tflite

    made: dict[int, None] = {}
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        made.update(dict.fromkeys(operator.Outputs(j) for j in range(operator.OutputsLength())))
    handles = (tflite.TensorType.RESOURCE, tflite.TensorType.VARIANT)
    return [index for index in made if index >= 0 and graph.Tensors(index).Type() not in handles]


def with_outputs(model: bytes, indices: Sequence[int]) -> bytes:
    """`model` with these tensors of its main subgraph as its outputs. A new vector of them goes to the end of the file,
    and the field that refers to the old one is turned to it."""
    import tflite

    table = tflite.Model.GetRootAs(model, 0).Subgraphs(0)._tab
    field = table.Pos + table.Offset(OUTPUTS_SLOT)
    patched = bytearray(model)
    patched += bytes(-len(patched) % 4)
    struct.pack_into("<I", patched, field, len(patched) - field)
    return bytes(patched + struct.pack(f"<I{len(indices)}i", len(indices), *indices))


def why_not_tflite_runtime(model: bytes) -> str | None:
    """What tflite-runtime computes otherwise than microcontrollers do, without a word; None for most models."""
    import tflite
    from flatbuffers.number_types import Int32Flags

    root = tflite.Model.GetRootAs(model, 0)
    graph = root.Subgraphs(0)
    op, int8, int16 = tflite.BuiltinOperator, tflite.TensorType.INT8, tflite.TensorType.INT16
    # By operator, input and its type.
    reasons = {
        (op.SVDF, SVDF_STATE_INPUT, int8): "it takes SVDF's int8 state for int16 and writes behind it",
        (op.UNIDIRECTIONAL_SEQUENCE_LSTM, 0, int8): "its int8 LSTM rounds otherwise than tflite-micro's",
        (op.LOGISTIC, 0, int8): "its int8 LOGISTIC is a table of float32 results, tflite-micro's is fixed-point",
        (op.SUM, 0, int8): "it forgets to compute the multiplier of an int8 SUM",
        (op.SOFTMAX, 0, int16): "the tables of its int16 SOFTMAX are made in float64, tflite-micro's in float32",
    }
    multiplied = "it multiplies scales in float32 where tflite-micro does in float64"
    reasons |= {(each, 0, int16): multiplied for each in (op.MUL, op.RELU, op.LEAKY_RELU, op.ABS)}
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = root.OperatorCodes(operator.OpcodeIndex())
        slot = code._tab.Offset(BUILTIN_CODE_SLOT)
        number = max(code.BuiltinCode(), code._tab.Get(Int32Flags, code._tab.Pos + slot) if slot else 0)
        for (builtin, position, dtype), reason in reasons.items():
            if number == builtin and graph.Tensors(operator.Inputs(position)).Type() == dtype:
                return reason
        if number == op.FULLY_CONNECTED and _forgets_rows(graph, operator):
            return (
                "of a FULLY_CONNECTED with a scale a channel it computes as many rows as the output's first size says"
            )
    return None


def _forgets_rows(graph: Any, operator: Any) -> bool:
    scales = graph.Tensors(operator.Inputs(1)).Quantization()
    made = graph.Tensors(operator.Outputs(0))
    between = [made.Shape(i) for i in range(1, made.ShapeLength() - 1)]
    return scales is not None and scales.ScaleLength() > 1 and any(size != 1 for size in between)


def arena_bytes(model: bytes) -> int:
    """A size that holds all tensors of a model at once, and what tflite-micro keeps beside them."""
    import tflite

    root = tflite.Model.GetRootAs(model, 0)
    total = (1 << 20) + 2 * len(model)
    for i in range(root.SubgraphsLength()):
        graph = root.Subgraphs(i)
        for j in range(graph.TensorsLength()):
            tensor = graph.Tensors(j)
            if root.Buffers(tensor.Buffer()).DataLength() == 0:
                elements = math.prod(abs(tensor.Shape(k)) for k in range(tensor.ShapeLength()))
                total += 2 * (elements * ELEMENT_BYTES + 64)
    if total > ARENA_LIMIT_BYTES:
        raise ValueError(f"its tensors take up to {total:,} bytes")
    return total


class Implementation(Protocol):
    """A model loaded in one of the libraries."""

    inputs: list[tuple[tuple[int, ...], str]]
    """(shape, numpy dtype) by input."""

    def run(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The outputs for one set of inputs."""


class TfliteRuntime:
    """tflite-runtime with its reference kernels: no delegate, no single rounding."""

    MODULE = "tflite_runtime.interpreter"

    def __init__(self, model: bytes) -> None:
        from tflite_runtime.interpreter import Interpreter, OpResolverType

        reason = why_not_tflite_runtime(model)
        if reason is not None:
            raise ValueError(reason)
        self._interpreter = Interpreter(
            model_content=model,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            num_threads=1,
        )
        self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()
        self._inputs = [detail["index"] for detail in details]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]
        self.inputs = [(tuple(detail["shape"].tolist()), np.dtype(detail["dtype"]).name) for detail in details]

    def run(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        for index, array in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


class TfliteMicro:
    """tflite-micro with its reference kernels."""

    MODULE = "tflite_micro.python.tflite_micro.runtime"

    def __init__(self, model: bytes) -> None:
        import tflite
        from tflite_micro.python.tflite_micro import runtime

        graph = tflite.Model.GetRootAs(model, 0).Subgraphs(0)
        self._interpreter = runtime.Interpreter.from_bytes(
            model, arena_size=arena_bytes(model), intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors
        )
        details = [self._interpreter.get_input_details(i) for i in range(graph.InputsLength())]
        self._output_count = graph.OutputsLength()
        self.inputs = [(tuple(detail["shape"].tolist()), np.dtype(detail["dtype"]).name) for detail in details]

    def run(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        for index, array in enumerate(inputs):
            self._interpreter.set_input(array, index)
        self._interpreter.invoke()
        return [self._interpreter.get_output(index) for index in range(self._output_count)]


IMPLEMENTATIONS: dict[str, type[TfliteRuntime] | type[TfliteMicro]] = {
    "tflite-runtime": TfliteRuntime,
    "tflite-micro": TfliteMicro,
}


class Model:
    """The model of a forked process."""

    def __init__(self, which: str) -> None:
        self._which = which
        self._model = b""
        self._outputs = 0
        self._made: list[int] = []
        self._loaded: Implementation | None = None

    def load(self, model: bytes) -> list[tuple[tuple[int, ...], str]]:
        """Shape and type of the inputs. What operators make are outputs too: a library's way of keeping all tensors
        would still let an operator work in place."""
        import tflite

        graph = tflite.Model.GetRootAs(model, 0).Subgraphs(0)
        outputs = [graph.Outputs(i) for i in range(graph.OutputsLength())]
        self._made = made_tensors(graph)
        self._outputs = len(outputs)
        self._model = with_outputs(model, outputs + self._made)
        self._loaded = IMPLEMENTATIONS[self._which](self._model)
        return self._loaded.inputs

    def reset(self) -> None:
        """Puts variables and resources back. A new interpreter does: not every library's reset reaches all of them."""
        self._loaded = IMPLEMENTATIONS[self._which](self._model)

    def run(self, inputs: Sequence[np.ndarray[Any, Any]]) -> tuple[list[Any], dict[int, Any]]:
        """The outputs, and every tensor that an operator wrote by its index."""
        assert self._loaded is not None
        values = self._loaded.run(inputs)
        return values[: self._outputs], dict(zip(self._made, values[self._outputs :], strict=True))


class Child:
    """A forked process with one model, as its parent sees it."""

    def __init__(self, which: str, others: Sequence[Child]) -> None:
        request_end, self._to = _pipe()
        self._from, reply_end = _pipe()
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self.pid = os.fork()
        if self.pid == 0:
            for stream in (self._to, self._from, *(end for other in others for end in (other._to, other._from))):
                stream.close()
            _serve(which, request_end, reply_end, self._noise)
        request_end.close()
        reply_end.close()

    def ask(self, timeout_s: float, request: Any) -> tuple[str | None, Any]:
        """The answer to a request, or how the process failed to give one; SystemExit if meanwhile the parent left."""
        try:
            write_message(self._to, request)
            parent, reply = sys.stdin.fileno(), self._from.fileno()
            ready = select.select([parent, reply], [], [], timeout_s)[0]
            if parent in ready:  # the parent sends nothing while it waits: it has closed its end
                sys.exit()
            if not ready:
                self.end()
                return "slow", f"takes longer than {timeout_s:g} s{_said(self._noise)}"
            kind, value = read_message(self._from)
        except Exception:  # noqa: BLE001 - a library that has overwritten its memory may answer with anything
            return "crashed", f"crashes with {self.end()}{_said(self._noise)}"
        return kind, value

    def end(self) -> str:
        """Kills the process if it still runs, and says how it ended."""
        os.kill(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    read_end, write_end = os.pipe()
    return os.fdopen(read_end, "rb"), os.fdopen(write_end, "wb")


def _said(noise: IO[bytes]) -> str:
    """What the library has printed, for a message: its last words."""
    text = os.pread(noise.fileno(), 1 << 20, 0).decode("utf-8", "replace")
    words = " ".join(re.sub(r"tensorflow/\S+\.(cc|h)(:\d+)?", "", text).split())
    return f" ({words[-NOISE_CHARS:]})" if words else ""


def _first_sentence(error: Exception) -> str:
    """What a library's exception says, in one line without advice for developers of TensorFlow."""
    return (" ".join(str(error).split()) or type(error).__name__).split(". ")[0].rstrip(".")[:NOISE_CHARS]


def _serve(which: str, requests: IO[bytes], replies: IO[bytes], noise: IO[bytes]) -> None:
    """The life of a forked process: answers until its parent closes the pipe or dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    ctypes.CDLL(None).mallopt(M_PERTURB, 0xFF)  # what an operator leaves unwritten in its arena is 0, always
    os.dup2(noise.fileno(), 1)
    os.dup2(noise.fileno(), 2)
    model = Model(which)
    try:
        while True:
            command, *arguments = read_message(requests)
            noise.truncate(0)
            noise.seek(0)  # the offset is shared with 1 and 2
            answer: tuple[str | None, Any]
            try:
                answer = (None, getattr(model, command)(*arguments))
            except Exception as error:  # noqa: BLE001 - whatever a library raises belongs to the other side
                answer = ("refused", f"refuses it: {_first_sentence(error)}{_said(noise)}")
            write_message(replies, answer)
    except (EOFError, BrokenPipeError):
        pass
    finally:
        os._exit(0)


def main(which: str) -> None:
    """Answers requests until the other side closes its end."""
    requests, replies = os.fdopen(0, "rb", closefd=False), os.fdopen(1, "wb", closefd=False)
    children: dict[int, Child] = {}
    missing = ""
    try:
        for module in (IMPLEMENTATIONS[which].MODULE, "tflite"):  # here, so that no forked process imports them
            importlib.import_module(module)
    except ImportError as error:
        missing = str(error)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            request = read_message(requests)
            write_message(replies, ("missing", missing) if missing else _dispatch(which, children, *request))


def _dispatch(
    which: str, children: dict[int, Child], key: int, timeout_s: float, command: str, *arguments: Any
) -> tuple[str | None, Any]:
    """Passes a request on to the process of its model, which "load" begins and "drop" ends."""
    if command == "load":
        children[key] = Child(which, list(children.values()))
    if key not in children:
        return (None, None) if command == "drop" else ("crashed", "ended after an earlier fault")
    if command == "drop":
        children.pop(key).end()
        return None, None
    answer = children[key].ask(timeout_s, (command, *arguments))
    if answer[0] in ("slow", "crashed"):
        children.pop(key)
    elif answer[0] is not None and command == "load":  # nobody will ask it again
        children.pop(key).end()
    return answer


if __name__ == "__main__":
    main(sys.argv[1])
