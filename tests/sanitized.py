"""The interpreter with all kernels, built for this machine with AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from sdk.ops import registry
from sdk.paths import FIRMWARE

FLAGS = [
    *("-std=c11", "-O1", "-g", "-fwrapv", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-unused-parameter"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
]


def build_driver(folder: Path, name: str = "hostile") -> Path | None:
    """c/`name`.c with the kernels of all profiles, in plain C; None where there is no gcc."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    kernels = sorted(registry().kernels.values(), key=lambda kernel: kernel.number)
    (folder / "kernels.def").write_text("".join(f"ML_USE({kernel.name})\n" for kernel in kernels))
    sources = [Path(__file__).parent / "c" / f"{name}.c", *sorted((FIRMWARE / "src" / "kernels").rglob("*.c"))]
    sources += [FIRMWARE / "src" / name for name in ("interpreter.c", "crc32.c", "kernel_table.c")]
    includes = [folder, FIRMWARE / "include", FIRMWARE / "src", FIRMWARE / "gen"]
    program = folder / name
    command = [compiler, *FLAGS, *(f"-I{path}" for path in includes), *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


class Runner:
    """A process that runs one program after the other. AssertionError with the sanitizer's report if one ends it."""

    def __init__(self, driver: Path) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        command = [str(driver), "-"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        self.errors.close()

    def run(self, block: bytes) -> None:
        """Runs a program once; it must be accepted, or need more memory than the driver has."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(struct.pack("<I", len(block)) + block)
        self.process.stdin.flush()
        answer = self.process.stdout.read(1)
        assert answer != b"\0", "the interpreter refuses a program that lowering has made"
        if not answer:
            self.process.wait()
            self.errors.seek(0)
            report = self.errors.read()[-3000:]
            raise AssertionError(report)
