"""A process of a converter's environment: answers requests of `sdk.convert.process`.

Started as a script with the name of a session module beside it, by a Python that need not have the SDK nor what that
needs: of the package it imports what lies beside it, and the session module imports its converter. Requests and answers
are JSON, one a line: {"call": method, arguments...} gets {"result": ...} or {"refused" | "unsupported": message,
"remedy": ...}. Everything that the converter prints goes to stderr.

A session says what is wrong with the user's model by ValueError(message, remedy), and what TensorFlow Lite cannot do by
NotImplementedError(message, remedy). Any other exception is a fault and ends the process with its traceback.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import json
import os
import signal
import sys
import sysconfig
import traceback
from itertools import islice
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
WORDS_CHARS = 400  # of an exception of the user's code
TOLD = 2  # the arguments of an exception that is for the user: message and remedy


def answer(session: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What is answered to one request."""
    call = request.pop("call")
    try:
        if call == "generate":
            generate(**request)
            return {"result": None}
        if call == "open_module":
            return {"result": open_module(session, **request)}
        return {"result": getattr(session, call)(**request)}
    except (ValueError, NotImplementedError) as error:
        if len(error.args) != TOLD:
            raise
        key = "refused" if isinstance(error, ValueError) else "unsupported"
        return {key: error.args[0], "remedy": error.args[1]}


def open_module(session: Any, path: str, **options: Any) -> Any:
    """Opens what `path`, a module:attribute, names. What the user's code raises on the way is said with its place."""
    if options.get("sample"):
        options["sample"] = imported(options["sample"])
    source = imported(path)
    try:
        return session.open_object(source, **options)
    except Exception as error:
        if isinstance(error, ValueError | NotImplementedError) and len(error.args) == TOLD:
            raise
        raise ValueError(f"{path} failed{where(error)}", "Run it by itself first.") from error


def where(error: Exception) -> str:
    """What an error of the user's code says, after its place: the last line that is of no package or converter."""
    folders = (str(Path(__file__).parent), *(str(Path(path).resolve()) for path in sysconfig.get_paths().values()))
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(("<", *folders)) and "__autograph" not in f.filename]
    place = f" at {os.path.relpath(own[-1].filename)}, line {own[-1].lineno}" if own else ""
    said = str(error).partition("Call arguments received")[0]  # Keras repeats what the layer was given
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if any(line.endswith("in user code:") for line in lines[:2]):  # TensorFlow's own traceback
        return f"{place}: {lines[-1][:WORDS_CHARS]}"
    return f"{place}: {type(error).__name__}: {' '.join(lines)[:WORDS_CHARS]}"


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
            f"cannot import {path}{where(error)}",
            "It is imported in the converter's own environment: what it needs beside that has to be there "
            "($MICROLITH_CONVERT_PYTHON names another Python).",
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    return found


def generate(path: str, output: str, most: int) -> None:
    """Writes what a generator `module:attribute` yields."""
    from sdk.convert.arrays import write_arrays

    source = imported(path)
    try:
        yielded = list(islice(source() if callable(source) else source, most))
    except Exception as error:
        raise ValueError(f"{path} failed{where(error)}", "Run it by itself first.") from error
    values = [list(value.values()) if isinstance(value, dict) else value for value in yielded]
    try:
        write_arrays(output, [value if isinstance(value, list | tuple) else [value] for value in values])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} yields what is no array{where(error)}", "Yield arrays of numpy.") from error


def known_as_sdk(folder: Path) -> None:
    """Makes modules of the SDK in `folder` importable, and nothing else: what lies beside it in a site-packages is for
    another Python."""
    spec = importlib.util.spec_from_file_location(
        "sdk", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["sdk"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["sdk"])


def main() -> None:
    """Serves requests until stdin ends."""
    with contextlib.suppress(OSError, AttributeError):  # nobody would read what is computed after the parent's death
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        known_as_sdk(Path(__file__).parents[1])
        session = importlib.import_module(f"sdk.convert.session_{sys.argv[1]}").Session()
        for line in sys.stdin:
            print(json.dumps(answer(session, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
