"""Of which model a .mlith file was made: noted behind the program, where what reads programs does not look."""

from __future__ import annotations

import hashlib
import struct

MARK = b"MLORIGIN"
LENGTH_AT = 8  # where a program says how long it is; the rest of its header is the C library's to check


def with_origin(program: bytes, model: bytes) -> bytes:
    """A .mlith file: the program, and the SHA-256 of the .tflite file that it was lowered from."""
    return program + MARK + hashlib.sha256(model).digest()


def made_of(file: bytes, model: bytes) -> bool:
    """Whether a .mlith file says that it was made of `model`."""
    if len(file) < LENGTH_AT + 4:
        return False
    (length,) = struct.unpack_from("<I", file, LENGTH_AT)
    return file[length:] == with_origin(b"", model)
