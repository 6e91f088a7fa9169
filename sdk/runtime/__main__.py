"""The runtime as a program: `python -m sdk.runtime MODEL` tries a model; with --serve it answers a host.

A host sends arrays by name as an .npz file after its length in 4 bytes, least first, and gets the outputs likewise;
nothing (a length of 0) puts variables back. stdout carries nothing else.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal

import numpy as np

from sdk.errors import LinkError
from sdk.runtime.program import call, own_output
from sdk.runtime.runtime import ENGINES, Runtime
from sdk.runtime.tensors import Array

LENGTH = struct.Struct("<I")


def send(stream: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """Writes one message."""
    data = io.BytesIO()
    if arrays:
        np.savez(data, **arrays)
    stream.write(LENGTH.pack(data.tell()) + data.getvalue())
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, Array] | None:
    """Reads one message; None at the end of the stream."""
    head = stream.read(LENGTH.size)
    if not head:
        return None
    (count,) = LENGTH.unpack(head)
    data = stream.read(count)
    if len(data) < count:
        raise LinkError("the other side has ended within a message")
    return dict(np.load(io.BytesIO(data))) if count else {}


def serve(runtime: Runtime, stdin: IO[bytes], stdout: IO[bytes]) -> None:
    """Answers until the host leaves."""
    while (inputs := receive(stdin)) is not None:
        if inputs:
            outputs = runtime.run({name: inputs[f"input_{i}"] for i, name in enumerate(runtime.inputs)}, raw=True)
            send(stdout, {f"output_{i}": array for i, array in enumerate(outputs.values())})
        else:
            runtime.reset()
            send(stdout, {})


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m sdk.runtime", description="Tries a model on this board.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--reference", action="store_true", help="the reference kernels")
    parser.add_argument("--threads", type=int, help="default: measured")
    parser.add_argument("--serve", action="store_true", help="answer a host on stdin and stdout")
    args = parser.parse_args()
    return call(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    with own_output() as out:
        threads: int | Literal["measure"] = args.threads or (1 if args.serve else "measure")
        with Runtime(args.model, engine=args.engine, threads=threads, reference=args.reference) as runtime:
            if args.serve:
                serve(runtime, sys.stdin.buffer, out)
            else:
                about = {"engine": runtime.engine, "threads": runtime.threads, "ms": round(runtime.measure_ms(), 3)}
                out.write(json.dumps(about).encode() + b"\n")
                out.flush()


if __name__ == "__main__":
    sys.exit(main())
