"""A worker process in a converter's environment, as an object with a method `call`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from sdk.cache import Progress, silent
from sdk.closing import Closing
from sdk.convert import worker
from sdk.convert.environment import FULL, Environment, python_of
from sdk.errors import ToolError, UnsupportedError, UsageError

NOISE_CHARS = 1200  # how much of a converter's last words an error repeats
SETTINGS = {
    "TF_USE_LEGACY_KERAS": "1",  # Keras 3 fails on old files and leaves variables in concrete functions
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # the same results on every machine
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
}


class Here:
    """A session in this process, for objects that live in it."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def call(self, method: str, **arguments: Any) -> Any:
        """The result of `method`. Errors as of `Worker`."""
        try:
            return (worker.generate if method == "generate" else getattr(self.session, method))(**arguments)
        except Exception as error:
            if not isinstance(error, ValueError | NotImplementedError) or len(error.args) != worker.TOLD:
                if method != "open_object":
                    raise
                what = type(arguments["source"]).__name__
                raise UsageError(f"the {what} failed{worker.where(error)}", "Run it by itself first.") from error
            kind = UsageError if isinstance(error, ValueError) else UnsupportedError
            raise kind(*error.args) from error


class Worker(Closing):
    """`call` runs a method of the session in the environment's process. UsageError for what the user can mend,
    UnsupportedError for what TensorFlow Lite cannot do, ToolError if the process crashes or is killed."""

    def __init__(
        self, environment: Environment, progress: Progress = silent, note: Progress = silent, session: str = ""
    ) -> None:
        """`session`: which module's, if not that of the environment's name."""
        python = python_of(environment, progress, note)
        self.name = environment.title
        progress(f"start {self.name} (some 20 s)" if environment.name == "tensorflow" else f"start {self.name}")
        inherited = {key: value for key, value in os.environ.items() if key != "PYTHONHOME"}
        # What it leaves behind when it is killed goes with this.
        self._folder = tempfile.TemporaryDirectory(prefix="microlith-")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [python, Path(worker.__file__).resolve(), session or environment.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # Ctrl-C on the terminal is for this process, which then ends the worker
            env=inherited | SETTINGS | {"TMPDIR": self._folder.name},
        )

    def close(self) -> None:
        """Ends the process and all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was still to be sent has no reader
                    stream.close()
        self._folder.cleanup()

    def call(self, method: str, **arguments: Any) -> Any:
        """The result of `method`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"call": method, **arguments}) + "\n")
            self._process.stdin.flush()
            reply = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            raise self._ended() from None
        if "refused" in reply:
            raise UsageError(reply["refused"], reply["remedy"])
        if "unsupported" in reply:
            raise UnsupportedError(reply["unsupported"], reply["remedy"])
        return reply["result"]

    def _ended(self) -> ToolError:
        """Why there is no answer."""
        code = self._process.wait()
        self._log.seek(0)
        words = self._log.read().decode("utf-8", "replace").strip()
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
            full = "The machine may be out of memory: close other programs, or give fewer representative samples."
            crash = "It cannot do this, and crashes: try another --quantize, or another form of the model."
            return ToolError(f"{self.name}'s process {how}", full if code == -signal.SIGKILL else crash)
        if any(sign in words[-NOISE_CHARS:].lower() for sign in FULL):
            return ToolError(
                f"the disk is full: {self.name} has no room for its files in {self._folder.name}",
                "Free some space, or set TMPDIR to a folder on another disk.",
            )
        last = words.splitlines()[-1] if words else "without a word"
        return ToolError(
            f"{self.name} failed: {last[:NOISE_CHARS]}",
            f"Its last words:\n{words[-NOISE_CHARS:]}" if words else "Run the command with -v.",
        )
