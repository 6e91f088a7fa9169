"""What this computer has of what the SDK calls: compilers, emulators, Python packages, serial ports, the cache.

for check in examine():
    if not check.ok: print(check.name, check.remedy)
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdk.boards import Board, all_boards
from sdk.cache import cache_dir
from sdk.errors import BoardError, LinkError, SdkError
from sdk.tools import APT_PACKAGES, locate, programs

VERSION_TIMEOUT_S = 10.0
MEND = "Mend the file, or delete it."
PACKAGES = {
    "numpy": "arrays",
    "ninja": "builds",
    "pyserial": "serial ports",
    "tflite-micro": "the oracle",
    "tflite-runtime": "the oracle's second half",
    "Pillow": "images as inputs",
    "esptool": "ESP32 boards",
    "pyocd": "boards with a debug probe",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `apt` and `pip` are the packages that bring it where it is missing."""

    name: str
    purpose: str
    ok: bool
    found: str  # version or state, for people
    remedy: str = ""
    apt: str = ""
    pip: str = ""


def examine() -> list[Check]:
    """All checks, each quick; nothing is changed but for an empty folder of the cache."""
    faults: list[BoardError] = []
    boards = all_boards(faults.append)
    files = [Check("boards", "the board files", False, each.message, each.remedy or MEND) for each in faults]
    return [_python(), *files, *_tools(boards), *_packages(), *_packs(boards), _cache(), *_ports(boards)]


def install_commands(checks: list[Check]) -> list[str]:
    """The commands that bring everything that is missing: one for apt, one for pip."""
    apt = sorted({check.apt for check in checks if not check.ok and check.apt})
    pip = sorted({check.pip for check in checks if not check.ok and check.pip})
    commands = []
    if apt:
        commands.append(f"sudo apt-get install --no-install-recommends {' '.join(apt)}")
    if pip:
        commands.append(f"{Path(sys.executable)} -m pip install {' '.join(pip)}")
    return commands


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check("python", "the SDK", ok, platform.python_version(), "" if ok else "Install Python 3.11 or newer.")


def _tools(boards: Sequence[Board]) -> Iterator[Check]:
    """The compilers and emulators that board files name."""
    for name, users in sorted(_users(boards).items()):
        path = locate(name)
        found = f"{_version(path)} ({path})" if path else "missing"
        package = APT_PACKAGES.get(name, "")
        remedy = "" if path or package else f"Install {name} and put it on PATH."
        yield Check(name, ", ".join(users), path is not None, found, remedy, apt=package)


def _users(boards: Sequence[Board]) -> dict[str, list[str]]:
    """Ids of the boards that call each program."""
    users: dict[str, list[str]] = {}
    for board in boards:
        for name in (*programs(board.compiler), *([board.emulator.command] if board.emulator is not None else [])):
            users.setdefault(name, []).append(board.id)
    return users


def _version(program: str) -> str:
    """The first line of what `program --version` prints."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=VERSION_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    lines = (done.stdout or done.stderr).decode("utf-8", "replace").splitlines()
    return lines[0].strip() if lines else "says no version"


def _packages() -> Iterator[Check]:
    for name, purpose in PACKAGES.items():
        try:
            yield Check(name, purpose, True, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, purpose, False, "missing", pip=name)


def _packs(boards: Sequence[Board]) -> Iterator[Check]:
    """Chips that pyOCD knows by packs of their makers, which it fetches when it is told to; none is no fault."""
    if importlib.util.find_spec("pyocd") is None:
        return
    from sdk.flash.pyocd import pack_command

    for board in boards:
        if "pyocd" in board.flashers and (command := pack_command(board)):
            yield Check("pyocd pack", board.id, True, f"none for its chip; to flash it, once: {command}")


def _cache() -> Check:
    try:
        folder = cache_dir()
    except SdkError as error:
        return Check("cache", "builds and emulated flash", False, error.message, error.remedy)
    free_mib = shutil.disk_usage(folder).free >> 20
    ok = os.access(folder, os.W_OK)
    remedy = "" if ok else "Set MICROLITH_CACHE to a folder that can be written."
    return Check("cache", "builds and emulated flash", ok, f"{folder}, {free_mib:,} MiB free", remedy)


def _ports(boards: Sequence[Board]) -> Iterator[Check]:
    """Serial ports, what may be on them, and whether this user may open them; none is no fault."""
    from sdk.link.ports import check_usable, connected, present

    ports = present()
    if not ports:
        yield Check("serial ports", "real boards", True, "none present")
    for port in ports:
        ids = ", ".join(board.id for board in boards if connected(board, [port]))
        try:
            check_usable(port.device)
        except LinkError as error:
            yield Check(port.device, ids or "a serial port", False, error.message, error.remedy)
        else:
            yield Check(port.device, ids or "a serial port", True, str(port))
