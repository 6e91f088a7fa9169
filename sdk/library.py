"""A model as a library of a PlatformIO project: the program, the interpreter and the kernels that it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sdk import __version__
from sdk.build import ARITHMETIC_FLAGS, FAST, kernel_sources, listed
from sdk.emit import Emitted
from sdk.paths import FIRMWARE
from sdk.program import Profile

INTERPRETER = ("interpreter.c", "crc32.c", "kernel_table.c")
NOT_THEIRS = ("port.h", "server.h", "frame.h", "ml_messages.h")  # headers of the firmware alone


def library_files(emitted: Emitted, name: str, profile: Profile) -> Mapping[Path, bytes]:
    """The library's files by their paths in its folder. `src` is the one folder that users include from."""
    source, files = FIRMWARE / "src", {Path("src") / key: text.encode() for key, text in emitted.files.items()}
    kernels = [each.path for each in kernel_sources(profile, listed(emitted))]
    interpreter = [*INTERPRETER, *(["listener.c"] if "ml_listener.h" in emitted.files.get("declared.h", "") else [])]
    for path in (*(source / each for each in interpreter), *kernels, *source.rglob("*.h")):
        files[Path("src") / path.relative_to(source)] = path.read_bytes()
    for path in (*(FIRMWARE / "include").glob("*.h"), *(FIRMWARE / "gen").glob("*.h")):
        files[Path("src") / path.name] = path.read_bytes()
    for path in emitted.custom_sources:
        files[Path("src") / path.name] = path.read_bytes()
    files[Path("library.json")] = json.dumps(_manifest(name), indent=2).encode() + b"\n"
    return {path: data for path, data in files.items() if path.name not in NOT_THEIRS}


def _manifest(name: str) -> dict[str, object]:
    """The flags keep the compiler to the arithmetic of the source; projects compile with others."""
    return {
        "name": name,
        "version": __version__,
        "description": f"The model {name}, lowered by Microlith",
        "license": "Apache-2.0",
        "headers": ["microlith.h", "model.h"],
        "frameworks": "*",
        "platforms": "*",
        "build": {"flags": [FAST, *ARITHMETIC_FLAGS.split()], "libArchive": False},
    }
