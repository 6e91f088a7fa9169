"""A process of a converter's environment: answers requests of `sdk.convert.process`.

Started as a script with the name of a session module beside it, by a Python that need not have the SDK: it imports the
standard library, and that module imports its converter. Requests and answers are JSON, one a line: {"call": method,
arguments...} gets {"result": ...} or {"refused" | "unsupported": message, "remedy": ...}. Everything that the converter
prints goes to stderr.

A session says what is wrong with the user's model by ValueError(message, remedy), and what TensorFlow Lite cannot do by
NotImplementedError(message, remedy). Any other exception is a fault and ends the process with its traceback.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
TOLD = 2  # the arguments of an exception that is for the user: message and remedy


def answer(session: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What is answered to one request."""
    call = request.pop("call")
    try:
        if call == "generate":
            generate(**request)
            return {"result": None}
        if call == "open_module":
            if request.get("sample"):
                request["sample"] = imported(request["sample"])
            return {"result": session.open_object(imported(request.pop("path")), **request)}
        return {"result": getattr(session, call)(**request)}
    except (ValueError, NotImplementedError) as error:
        if len(error.args) != TOLD:
            raise
        key = "refused" if isinstance(error, ValueError) else "unsupported"
        return {key: error.args[0], "remedy": error.args[1]}


def imported(path: str) -> Any:
    """What `module:attribute` names; modules of the current folder are found."""
    module, _, attribute = path.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ValueError(
            f"cannot import {path}: {type(error).__name__}: {error}",
            "It is imported in the converter's own environment: what it needs beside that has to be there "
            "($MICROLITH_CONVERT_PYTHON names another Python).",
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    return found


def generate(path: str, output: str, most: int) -> None:
    """Writes what a generator `module:attribute` yields, as `sdk.convert.calibration.write_samples` does."""
    import numpy as np

    source = imported(path)
    named = {}
    try:
        for i, value in enumerate(source() if callable(source) else source):
            if i == most:
                break
            values = list(value.values()) if isinstance(value, dict) else value
            for k, array in enumerate(values if isinstance(values, list | tuple) else [values]):
                named[f"s{i}_{k}"] = np.asarray(array)
    except Exception as error:
        raise ValueError(f"{path} failed: {type(error).__name__}: {error}", "Run it by itself first.") from error
    np.savez(output, **named)


def main() -> None:
    """Serves requests until stdin ends."""
    with contextlib.suppress(OSError, AttributeError):  # nobody would read what is computed after the parent's death
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        sys.path.insert(0, str(Path(__file__).parent))
        session = importlib.import_module(f"session_{sys.argv[1]}").Session()
        del sys.path[0]
        for line in sys.stdin:
            print(json.dumps(answer(session, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
