"""The environments that converters live in: made on first use, kept in the cache, used again.

An environment is a virtual environment with pinned packages. It is built beside its place and moved there whole, so
that one that is there is complete; a lock keeps two processes from building the same one. Nothing of it is ever
imported here.

$MICROLITH_CONVERT_PYTHON may name a Python that has the packages already (or several, separated by colons); so may the
Python that runs the SDK (`pip install microlith[convert]`). Then nothing is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdk.cache import Progress, cache_dir, locked, silent, unwritable
from sdk.errors import MissingToolError, ToolError

VARIABLE = "MICROLITH_CONVERT_PYTHON"
NOISE_LINES = 6  # how much of pip's last words an error repeats
MB = 1_000_000
FULL = "no space left on device", "errno 28", "disk quota exceeded"
OFFLINE = (
    "failed to establish a new connection",
    "name resolution",
    "name or service not known",
    "timed out",
    "network is unreachable",
)
NO_WHEEL = "no matching distribution", "could not find a version"


@dataclass(frozen=True)
class Environment:
    """What an environment holds: pip's requirements, and the modules that prove that another Python has them.
    `megabytes` and `minutes` were measured; they are said before it is made."""

    name: str
    title: str
    requirements: tuple[str, ...]
    modules: tuple[str, ...]
    megabytes: int
    minutes: str

    @property
    def key(self) -> str:
        """The name of its folder: another one when anything it depends on changes."""
        about = "\n".join((*self.requirements, sys.version, os.path.realpath(sys.executable)))
        return f"{self.name}-{hashlib.sha256(about.encode()).hexdigest()[:12]}"


TENSORFLOW = Environment(
    "tensorflow", "TensorFlow", ("tensorflow==2.21.0", "tf-keras==2.21.0"), ("tensorflow", "tf_keras"), 2200, "1 to 5"
)
TORCH = Environment(
    "torch", "litert-torch", ("torch==2.13.0", "litert-torch==0.10.0"), ("torch", "litert_torch"), 2100, "1 to 10"
)
ONNX = Environment("onnx", "onnx2tf", ("onnx2tf==1.29.24",), ("onnx2tf",), 2700, "2 to 10")
QUANTIZER = Environment("quantizer", "litert-quantizer", ("litert-quantizer==0.11.0",), ("litert_quantizer",), 320, "1")


def python_of(environment: Environment, progress: Progress = silent, note: Progress = silent) -> Path:
    """The Python of an environment, which is made if nobody has it. ToolError, with the cause and a remedy, if it
    cannot be made: then nothing of it stays."""
    if named := [Path(each) for each in os.environ.get(VARIABLE, "").split(os.pathsep) if each]:
        return _named(environment, named)
    if all(importlib.util.find_spec(module) for module in environment.modules):
        return Path(sys.executable)
    root = cache_dir("convert")
    place = root / environment.key
    if not _python(place).exists():
        with locked(root, progress, f"waiting for another process that makes {environment.title}'s environment"):
            if not _python(place).exists():
                _make(environment, place, progress, note)
    return _python(place)


def _named(environment: Environment, pythons: Sequence[Path]) -> Path:
    """The first that has all modules, looked up without importing them."""
    probe = f"import importlib.util as u, sys; sys.exit(not all(u.find_spec(m) for m in {environment.modules!r}))"
    for python in pythons:
        try:
            if subprocess.run([python, "-I", "-c", probe], capture_output=True, check=False).returncode == 0:
                return python
        except OSError as error:
            raise MissingToolError(
                f"${VARIABLE} names {python}, which cannot be run: {error.strerror}", "Name a Python, or unset it."
            ) from error
    raise MissingToolError(
        f"no Python of ${VARIABLE} has {' and '.join(environment.modules)}",
        f"Run: {pythons[0]} -m pip install {' '.join(environment.requirements)}; or unset ${VARIABLE}.",
    )


def _python(place: Path) -> Path:
    return place / "bin" / "python"


def _make(environment: Environment, place: Path, progress: Progress, note: Progress) -> None:
    for leftover in place.parent.glob("*.part"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    free = shutil.disk_usage(place.parent).free
    if free < environment.megabytes * MB:
        raise ToolError(
            f"{environment.title}'s environment takes {environment.megabytes:,} MB; {place.parent} has "
            f"{free // MB:,} MB left",
            f"Free some space, set MICROLITH_CACHE to another disk, or name a Python that has it in ${VARIABLE}.",
        )
    note(
        f"{environment.title} is made ready, this once: about {environment.megabytes:,} MB in {place.parent}, "
        f"{environment.minutes} minutes"
    )
    part, start = place.with_suffix(".part"), time.monotonic()
    try:
        _run([sys.executable, "-m", "venv", part], environment, progress)
        pip = [_python(part), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--retries", "2"]
        _run([*map(str, pip), "--progress-bar", "off", *environment.requirements], environment, progress)
        shutil.rmtree(place, ignore_errors=True)  # one whose Python is gone, or that was half removed
        part.rename(place)
    except OSError as error:
        raise unwritable(part, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    note(f"{environment.title} is ready: {time.monotonic() - start:.0f} s")


def _run(command: Sequence[str | Path], environment: Environment, progress: Progress) -> None:
    """Runs a command and shows its latest line."""
    lines: list[str] = []
    with _ended_with_us(command) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.strip())
            progress(f"{environment.title}: {lines[-1][:100]}")
    if process.returncode:
        raise _why("\n".join(lines), environment)


@contextlib.contextmanager
def _ended_with_us(command: Sequence[str | Path]) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    )
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _why(words: str, environment: Environment) -> ToolError:
    """What stopped pip or venv, by its words."""
    low, title = words.lower(), environment.title
    if any(sign in low for sign in FULL):
        return ToolError(
            f"the disk is full: {title}'s environment takes {environment.megabytes:,} MB",
            "Free some space, or set MICROLITH_CACHE to another disk.",
        )
    if any(sign in low for sign in OFFLINE):
        return ToolError(
            f"{title} cannot be fetched: there is no network to PyPI",
            f"Connect, set pip's index by PIP_INDEX_URL, or name a Python that has it in ${VARIABLE}.",
        )
    if any(sign in low for sign in NO_WHEEL):
        version = ".".join(map(str, sys.version_info[:2]))
        return ToolError(
            f"pip has no {' '.join(environment.requirements)} for Python {version} on this machine",
            f"Use Python 3.11 on x86-64 or aarch64 Linux, or name a Python that has it in ${VARIABLE}.",
        )
    if "ensurepip" in low:
        return ToolError("this Python cannot make virtual environments", "Install it: apt-get install python3-venv.")
    last = "\n".join(words.splitlines()[-NOISE_LINES:])
    return ToolError(f"{title}'s environment could not be made", f"pip's last words:\n{last}")
