"""The engine `microlith`: the C interpreter as a shared library, bit for bit what a microcontroller computes.

The library comes with the wheel `microlith-runtime`; a computer with the whole SDK builds it. It runs programs
(`.mlith`), which `sdk lower` makes; with the whole SDK a `.tflite` is lowered on the way.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sdk.errors import InputError, MissingToolError, ModelError, UnsupportedError, UsageError
from sdk.runtime.origin import made_of
from sdk.runtime.tensors import Array, Tensor

ALIGNMENT = 16
DTYPES = ("int8", "uint8", "int16", "int32", "int64", "float32", "bool", "uint16", "uint32", "uint64")  # by ml_dtype
LIBRARIES = Path(__file__).parent / "lib"
ML_ERR_KERNEL = -7


class _Session(ctypes.Structure):
    """ml_session"""

    _fields_ = (("region", ctypes.c_void_p * 5), ("failed_step", ctypes.c_uint32), ("flags", ctypes.c_uint32))


class _Memory(ctypes.Structure):
    """ml_memory"""

    _fields_ = tuple(
        field
        for name in ("arena", "fast", "state")
        for field in ((name, ctypes.c_void_p), (f"{name}_bytes", ctypes.c_uint32))
    )


class _Info(ctypes.Structure):
    """ml_tensor"""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dims", ctypes.POINTER(ctypes.c_uint32)),
        ("bytes", ctypes.c_uint32),
        ("scale", ctypes.c_float),
        ("zero_point", ctypes.c_int32),
        ("dtype", ctypes.c_uint8),
        ("rank", ctypes.c_uint8),
    )


class MicrolithEngine:
    """A program in the C interpreter: the bytes of one, or that of the file `model`."""

    def __init__(self, model: Path | bytes, *, signature: str | None = None) -> None:
        self.name = "microlith"
        self._library = load_library()
        self._session = _Session()
        self._program = _aligned(model if isinstance(model, bytes) else _program(model, signature))
        status = self._library.ml_open(ctypes.byref(self._session), self._program.ctypes.data, self._program.size)
        self._check(status, model if isinstance(model, Path) else "the program")
        self._start()
        self.inputs = self._describe("input")
        self.outputs = self._describe("output")

    def _start(self) -> None:
        memory, self._blocks = _Memory(), []
        for name in ("arena", "fast", "state"):
            count = getattr(self._library, f"ml_{name}_bytes")(ctypes.byref(self._session))
            block = _aligned(bytes(count))
            self._blocks.append(block)
            setattr(memory, name, block.ctypes.data)
            setattr(memory, f"{name}_bytes", count)
        self._check(self._library.ml_start(ctypes.byref(self._session), ctypes.byref(memory)), "the program")

    def _describe(self, side: str) -> list[Tensor]:
        tensors = []
        for index in range(getattr(self._library, f"ml_{side}_count")(ctypes.byref(self._session))):
            info = _Info()
            getattr(self._library, f"ml_{side}_info")(ctypes.byref(self._session), index, ctypes.byref(info))
            shape = tuple(info.dims[i] for i in range(info.rank))
            name, dtype = info.name.decode(errors="replace"), np.dtype(DTYPES[info.dtype])
            tensors.append(Tensor(name, shape, dtype, info.scale, info.zero_point))
        return tensors

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        """One inference on stored values."""
        for index, (tensor, array) in enumerate(zip(self.inputs, inputs, strict=True)):
            data = np.ascontiguousarray(tensor.stored(array, raw=True))
            ctypes.memmove(self._library.ml_input(ctypes.byref(self._session), index), data.ctypes.data, data.nbytes)
        self._check(self._library.ml_invoke(ctypes.byref(self._session)), "the inference")
        results = []
        for index, tensor in enumerate(self.outputs):
            result: Array = np.empty(tensor.shape, tensor.dtype)
            ctypes.memmove(
                result.ctypes.data, self._library.ml_output(ctypes.byref(self._session), index), result.nbytes
            )
            results.append(result)
        return results

    def reset(self) -> None:
        """Puts variables back to their initial values."""
        self._check(self._library.ml_reset(ctypes.byref(self._session)), "the program")

    def close(self) -> None:
        """Lets the program and its memory go."""
        self._session = _Session()
        self._blocks.clear()

    def _check(self, status: int, what: Path | str) -> None:
        if status == 0:
            return
        text = self._library.ml_status_text(status).decode()
        if status == ML_ERR_KERNEL:
            raise UnsupportedError(f"{what}: {text}", "Lower the model and build the runtime with the same SDK.")
        if isinstance(what, Path):
            raise ModelError(f"{what}: {text}", "Lower the model again and copy it again.")
        raise InputError(f"{what} failed at step {self._session.failed_step}: {text}", "Check the inputs' values.")


def _aligned(data: bytes) -> Array:
    """A copy of `data` that begins at a multiple of 16."""
    block = np.empty(len(data) + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    view: Array = block[start : start + len(data)]
    view[:] = np.frombuffer(data, np.uint8)
    return view


def _program(model: Path, signature: str | None) -> bytes:
    """The program in `model`, or the one that it is lowered to where the whole SDK is installed; elsewhere that beside
    it."""
    if model.suffix == ".mlith":
        if signature is not None:
            raise UsageError("a program has no signatures", "Give its name to `sdk lower --signature` instead.")
        try:
            return model.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {model}", "Check the path.") from error
    try:
        from sdk.load import load
        from sdk.lower import lower
        from sdk.target import Target
    except ImportError:  # a board: neither these modules nor what they need
        return _beside(model, signature)
    return lower(load(str(model), signature), Target()).block


def _beside(model: Path, signature: str | None) -> bytes:
    """The program that lies beside `model`, if it was made of it."""
    program = model.with_suffix(".mlith")
    remedy = f"On a computer with the whole SDK: sdk lower {model.name}; then copy {program.name} beside the model."
    if signature is not None or not program.is_file():
        raise MissingToolError(f"the engine microlith runs programs, and there is no {program}", remedy)
    file = program.read_bytes()
    if not made_of(file, model.read_bytes()):
        raise ModelError(f"{program} was not made of {model}, or not of this version of it", remedy)
    return file


def abi() -> str:
    """What a shared library for this Python is called after: machine, and pointers of the running Python."""
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64") or machine.startswith("arm"):
        return "aarch64" if ctypes.sizeof(ctypes.c_void_p) == 8 else "armhf"
    return machine


def library_path() -> Path:
    """The C library for this computer: $MICROLITH_LIBRARY, that of the wheel, or one built now. MissingToolError."""
    given = os.environ.get("MICROLITH_LIBRARY")
    if given:
        return Path(given)
    shipped = LIBRARIES / f"libmicrolith-{abi()}.so"
    if shipped.is_file():
        return shipped
    try:
        library = importlib.import_module("sdk.shared_library")
    except ImportError:
        raise MissingToolError(
            f"this installation has no C library for {abi()}",
            "Make its wheel for this board on a computer with the whole SDK: python -m sdk.shared_library --help",
        ) from None
    built: Path = library.build_library()
    return built


def load_library() -> ctypes.CDLL:
    """The C library with the types of its functions; see firmware/include/microlith.h."""
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise MissingToolError(f"cannot load {path}: {error}", f"It must be built for {abi()}.") from error
    session, words = ctypes.POINTER(_Session), ctypes.c_uint32
    for name in ("arena_bytes", "fast_bytes", "state_bytes", "input_count", "output_count"):
        function = getattr(library, f"ml_{name}")
        function.restype, function.argtypes = words, (session,)
    for name in ("input", "output"):
        function = getattr(library, f"ml_{name}")
        function.restype, function.argtypes = ctypes.c_void_p, (session, words)
        getattr(library, f"ml_{name}_info").argtypes = (session, words, ctypes.POINTER(_Info))
    library.ml_open.argtypes = (session, ctypes.c_void_p, words)
    library.ml_start.argtypes = (session, ctypes.POINTER(_Memory))
    library.ml_invoke.argtypes = library.ml_reset.argtypes = (session,)
    library.ml_status_text.restype = ctypes.c_char_p
    return library
